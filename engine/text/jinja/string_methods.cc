// The methods of strings, with the semantics of Python's str.
#include <algorithm>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/methods.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

absl::Status SpendText(Runtime& runtime, const Value& self) {
  return runtime.Spend(1 + static_cast<int64_t>(self.text().size()) / 8);
}

absl::StatusOr<Value> SameKind(Runtime& runtime, const Value& self, std::string text) {
  return runtime.NewString(std::move(text), self.string().is_markup);
}

// ---- case

template <std::string (*kMap)(std::string_view)>
absl::StatusOr<Value> Mapped(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  RETURN_IF_ERROR(BindArguments("str method", {}, arguments).status());
  RETURN_IF_ERROR(runtime.Spend(1 + static_cast<int64_t>(self.text().size()) / 2));
  RETURN_IF_ERROR(runtime.CanAllocate(3 * static_cast<int64_t>(self.text().size())));
  return SameKind(runtime, self, kMap(self.text()));
}

std::string Lower(std::string_view text) { return MapCase(text, CaseMapping::kLower); }
std::string Upper(std::string_view text) { return MapCase(text, CaseMapping::kUpper); }
std::string Fold(std::string_view text) { return MapCase(text, CaseMapping::kFolded); }

// ---- questions about all characters

template <bool (*kTest)(std::string_view)>
absl::StatusOr<Value> Asked(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  RETURN_IF_ERROR(BindArguments("str method", {}, arguments).status());
  RETURN_IF_ERROR(runtime.Spend(1 + static_cast<int64_t>(self.text().size()) / 4));
  return Value::Bool(kTest(self.text()));
}

template <typename Test>
bool AllOf(std::string_view text, Test test) {
  for (size_t offset = 0; offset < text.size();) {
    if (!test(NextCodePoint(text, &offset))) return false;
  }
  return true;
}

template <CharClass kClass>
bool AllInClass(std::string_view text) {
  return !text.empty() && AllOf(text, [](uint32_t c) { return HasClass(c, kClass); });
}

bool IsAlnumText(std::string_view text) { return !text.empty() && AllOf(text, IsAlnum); }
bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}
bool IsSpaceText(std::string_view text) { return !text.empty() && AllOf(text, IsSpace); }
bool IsPrintable(std::string_view text) {
  return AllOf(text, [](uint32_t c) { return !HasClass(c, CharClass::kUnprintable); });
}

bool IsIdentifier(std::string_view text) {
  if (text.empty()) return false;
  size_t offset = 0;
  if (!HasClass(NextCodePoint(text, &offset), CharClass::kIdentifierStart)) return false;
  return AllOf(text.substr(offset), [](uint32_t c) { return HasClass(c, CharClass::kIdentifierContinue); });
}

// Cased characters there are, and all are of one case.
template <CharClass kWanted, CharClass kOther>
bool IsOfCase(std::string_view text) {
  bool has_cased = false;
  const bool none_other = AllOf(text, [&has_cased](uint32_t c) {
    has_cased = has_cased || HasClass(c, kWanted);
    return !HasClass(c, kOther) && !HasClass(c, CharClass::kTitle);
  });
  return has_cased && none_other;
}

bool IsTitle(std::string_view text) {
  bool has_cased = false;
  bool previous_is_cased = false;
  return AllOf(text,
               [&](uint32_t c) {
                 const bool is_upper = HasClass(c, CharClass::kUpper) || HasClass(c, CharClass::kTitle);
                 const bool is_lower = HasClass(c, CharClass::kLower);
                 if ((is_upper && previous_is_cased) || (is_lower && !previous_is_cased)) return false;
                 previous_is_cased = is_upper || is_lower;
                 has_cased = has_cased || previous_is_cased;
                 return true;
               }) &&
         has_cased;
}

// ---- strip

absl::StatusOr<Value> StripSide(Runtime& runtime, const Value& self, const CallArguments& arguments, StripSides sides) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("strip", {{"", true}}, arguments));
  if (!bound[0].has_value() || bound[0]->is_none()) {
    return SameKind(runtime, self, std::string(StripSpace(self.text(), sides)));
  }
  ASSIGN_OR_RETURN(const std::string_view chars, ToText(*bound[0], "strip arg"));
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(self.text().size() / 4 * (1 + chars.size() / 4))));
  return SameKind(runtime, self, std::string(StripChars(self.text(), chars, sides)));
}

template <StripSides kSides>
absl::StatusOr<Value> Strip(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  return StripSide(runtime, self, arguments, kSides);
}

template <bool kIsPrefix>
absl::StatusOr<Value> RemoveAffix(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("removeprefix", {{""}}, arguments));
  ASSIGN_OR_RETURN(const std::string_view affix, ToText(*bound[0], "argument"));
  std::string_view text = self.text();
  if (kIsPrefix && text.starts_with(affix)) text.remove_prefix(affix.size());
  if (!kIsPrefix && text.ends_with(affix)) text.remove_suffix(affix.size());
  return SameKind(runtime, self, std::string(text));
}

// ---- search

// The part of a string between two optional code point positions, and where it starts.
struct Window {
  std::string_view text;
  size_t offset = 0;
  int64_t start = 0;
  bool is_valid = true;  // false when the start lies behind the end: then not even "" is found
};

absl::StatusOr<Window> WindowOf(Runtime& runtime, const Value& self, const std::optional<Value>& start_value,
                                const std::optional<Value>& end_value) {
  const StringObject& string = self.string();
  ASSIGN_OR_RETURN(const int64_t start, WindowBound(start_value, 0, string.num_code_points));
  ASSIGN_OR_RETURN(int64_t end, WindowBound(end_value, string.num_code_points, string.num_code_points));
  RETURN_IF_ERROR(SpendText(runtime, self));
  end = std::min(end, string.num_code_points);
  if (start > end) return Window{.is_valid = false};
  const size_t offset = OffsetOfCodePoint(string.text, start);
  const std::string_view rest = std::string_view(string.text).substr(offset);
  return Window{rest.substr(0, OffsetOfCodePoint(rest, end - start)), offset, start, true};
}

// The code point index of a substring, or -1.
absl::StatusOr<int64_t> IndexOf(Runtime& runtime, const Value& self, const CallArguments& arguments, bool from_right) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("find", {{""}, {"", true}, {"", true}}, arguments));
  ASSIGN_OR_RETURN(const std::string_view needle, ToText(*bound[0], "argument"));
  ASSIGN_OR_RETURN(const Window window, WindowOf(runtime, self, bound[1], bound[2]));
  if (!window.is_valid) return -1;
  const size_t found = from_right ? FindLastText(window.text, needle) : FindText(window.text, needle);
  return found == window.text.npos ? -1 : window.start + CountCodePoints(window.text.substr(0, found));
}

template <bool kFromRight>
absl::StatusOr<Value> Find(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const int64_t index, IndexOf(runtime, self, arguments, kFromRight));
  return Value::Integer(index);
}

template <bool kFromRight>
absl::StatusOr<Value> Index(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const int64_t index, IndexOf(runtime, self, arguments, kFromRight));
  if (index < 0) return ValueError("substring not found");
  return Value::Integer(index);
}

absl::StatusOr<Value> CountText(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("count", {{""}, {"", true}, {"", true}}, arguments));
  ASSIGN_OR_RETURN(const std::string_view needle, ToText(*bound[0], "argument"));
  ASSIGN_OR_RETURN(const Window window, WindowOf(runtime, self, bound[1], bound[2]));
  if (!window.is_valid) return Value::Integer(0);
  if (needle.empty()) return Value::Integer(CountCodePoints(window.text) + 1);
  int64_t count = 0;
  for (size_t at = FindText(window.text, needle); at != window.text.npos;
       at = FindText(window.text, needle, at + needle.size())) {
    ++count;
  }
  return Value::Integer(count);
}

template <bool kIsPrefix>
absl::StatusOr<Value> HasAffix(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("startswith", {{""}, {"", true}, {"", true}}, arguments));
  Window window{self.text(), 0, 0, true};
  if (bound[1].has_value() || bound[2].has_value()) {
    ASSIGN_OR_RETURN(window, WindowOf(runtime, self, bound[1], bound[2]));
  }
  const std::vector<Value> single = {*bound[0]};
  for (const Value& affix : bound[0]->is_tuple() ? bound[0]->items() : single) {
    ASSIGN_OR_RETURN(const std::string_view text, ToText(affix, "startswith first arg"));
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(text.size())));
    if (window.is_valid && (kIsPrefix ? window.text.starts_with(text) : window.text.ends_with(text))) {
      return Value::Bool(true);
    }
  }
  return Value::Bool(false);
}

absl::StatusOr<Value> Replace(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("replace", {{""}, {""}, {"", true}}, arguments));
  ASSIGN_OR_RETURN(const std::string_view from, ToText(*bound[0], "replace() argument 1"));
  ASSIGN_OR_RETURN(const std::string_view to, ToText(*bound[1], "replace() argument 2"));
  int64_t count = -1;
  if (bound[2].has_value()) {
    ASSIGN_OR_RETURN(count, ToInt64(*bound[2], "replace() argument 3 must be an integer"));
  }
  ASSIGN_OR_RETURN(std::string text, ReplaceText(runtime, self.text(), from, to, count));
  return SameKind(runtime, self, std::move(text));
}

// ---- split and join

absl::StatusOr<Value> ListOfTexts(Runtime& runtime, const Value& self, const std::vector<std::string_view>& parts) {
  RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(parts.size() * (sizeof(Value) + sizeof(StringObject)))));
  std::vector<Value> items;
  items.reserve(parts.size());
  for (std::string_view part : parts) {
    ASSIGN_OR_RETURN(Value item, SameKind(runtime, self, std::string(part)));
    items.push_back(std::move(item));
  }
  return runtime.NewList(std::move(items));
}

// The bounds of the word at the left or the right end of `text`, which has no white space at that end.
std::pair<size_t, size_t> OuterWord(std::string_view text, bool from_right) {
  if (!from_right) {
    for (size_t offset = 0; offset < text.size();) {
      const size_t start = offset;
      if (IsSpace(NextCodePoint(text, &offset))) return {0, start};
    }
    return {0, text.size()};
  }
  for (size_t end = text.size(); end > 0;) {
    size_t start = end - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xc0) == 0x80) --start;
    size_t offset = start;
    if (IsSpace(NextCodePoint(text, &offset))) return {end, text.size()};
    end = start;
  }
  return {0, text.size()};
}

std::vector<std::string_view> SplitOnSpace(std::string_view text, int64_t max_splits, bool from_right) {
  std::vector<std::string_view> parts;
  const StripSides outer = from_right ? StripSides::kRight : StripSides::kLeft;
  text = StripSpace(text, outer);
  for (; !text.empty() && max_splits != 0; --max_splits) {
    const auto [start, end] = OuterWord(text, from_right);
    parts.push_back(text.substr(start, end - start));
    text = StripSpace(from_right ? text.substr(0, start) : text.substr(end), outer);
  }
  if (!text.empty()) parts.push_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> SplitOnText(std::string_view text, std::string_view separator, int64_t max_splits) {
  std::vector<std::string_view> parts;
  for (; max_splits != 0; --max_splits) {
    const size_t at = FindText(text, separator);
    if (at == text.npos) break;
    parts.push_back(text.substr(0, at));
    text = text.substr(at + separator.size());
  }
  parts.push_back(text);
  return parts;
}

// From the right, which finds other places where separators overlap ("aaa"): the reversed texts are split.
std::vector<std::string_view> SplitOnTextFromRight(std::string_view text, std::string_view separator,
                                                   int64_t max_splits) {
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_separator(separator.rbegin(), separator.rend());
  std::vector<std::string_view> parts;
  size_t end = text.size();
  for (std::string_view part : SplitOnText(reversed_text, reversed_separator, max_splits)) {
    parts.push_back(text.substr(end - part.size(), part.size()));
    end -= std::min(end, part.size() + separator.size());
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

template <bool kFromRight>
absl::StatusOr<Value> Split(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("split", {{"sep", true}, {"maxsplit", true}}, arguments));
  int64_t max_splits = -1;
  if (bound[1].has_value()) {
    ASSIGN_OR_RETURN(max_splits, ToInt64(*bound[1], "maxsplit must be an integer"));
  }
  const auto size = static_cast<int64_t>(self.text().size());
  RETURN_IF_ERROR(SpendText(runtime, self));
  if (!bound[0].has_value() || bound[0]->is_none()) {
    RETURN_IF_ERROR(runtime.CanAllocate(size * 8));
    return ListOfTexts(runtime, self, SplitOnSpace(self.text(), max_splits, kFromRight));
  }
  ASSIGN_OR_RETURN(const std::string_view separator, ToText(*bound[0], "separator"));
  if (separator.empty()) return ValueError("empty separator");
  RETURN_IF_ERROR(runtime.CanAllocate(size / static_cast<int64_t>(separator.size()) * 16));
  return ListOfTexts(runtime, self,
                     kFromRight ? SplitOnTextFromRight(self.text(), separator, max_splits)
                                : SplitOnText(self.text(), separator, max_splits));
}

template <bool kFromRight>
absl::StatusOr<Value> Partition(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("partition", {{""}}, arguments));
  ASSIGN_OR_RETURN(const std::string_view separator, ToText(*bound[0], "separator"));
  if (separator.empty()) return ValueError("empty separator");
  RETURN_IF_ERROR(SpendText(runtime, self));
  const std::string_view text = self.text();
  const size_t at = kFromRight ? FindLastText(text, separator) : FindText(text, separator);
  std::string_view parts[] = {text, "", ""};
  if (at != text.npos) {
    parts[0] = text.substr(0, at);
    parts[1] = separator;
    parts[2] = text.substr(at + separator.size());
  } else if (kFromRight) {
    std::swap(parts[0], parts[2]);
  }
  std::vector<Value> items;
  for (std::string_view part : parts) {
    ASSIGN_OR_RETURN(Value item, SameKind(runtime, self, std::string(part)));
    items.push_back(std::move(item));
  }
  return runtime.NewTuple(std::move(items));
}

absl::StatusOr<Value> SplitLinesMethod(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("splitlines", {{"keepends", true}}, arguments));
  bool keep_ends = false;
  if (bound[0].has_value()) {
    ASSIGN_OR_RETURN(keep_ends, Truth(runtime, *bound[0]));
  }
  RETURN_IF_ERROR(SpendText(runtime, self));
  RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(self.text().size()) * 16));
  return ListOfTexts(runtime, self, SplitLines(self.text(), keep_ends));
}

absl::StatusOr<Value> Join(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("join", {{""}}, arguments));
  if (!IsIterable(*bound[0])) return TypeError("can only join an iterable");
  ASSIGN_OR_RETURN(IteratorPtr items, Iterate(runtime, *bound[0]));
  std::string text;
  for (bool is_first = true;; is_first = false) {
    ASSIGN_OR_RETURN(const std::optional<Value> item, items->Next(runtime));
    if (!item.has_value()) break;
    ASSIGN_OR_RETURN(const std::string_view part, ToText(*item, "sequence item"));
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(text.size() + part.size() + self.text().size())));
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(part.size() + self.text().size())));
    if (!is_first) text += self.text();
    text += part;
  }
  return SameKind(runtime, self, std::move(text));
}

// ---- padding

struct Padding {
  int64_t left = 0;
  int64_t right = 0;
  std::string fill = " ";
};

absl::StatusOr<Padding> PaddingOf(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("just", {{""}, {"", true}}, arguments));
  ASSIGN_OR_RETURN(const int64_t width, ToInt64(*bound[0], "width must be an integer"));
  Padding padding;
  if (bound[1].has_value()) {
    ASSIGN_OR_RETURN(const std::string_view fill, ToText(*bound[1], "the fill character"));
    if (CountCodePoints(fill) != 1) return TypeError("The fill character must be exactly one character long");
    padding.fill = fill;
  }
  padding.right = std::max<int64_t>(width - self.string().num_code_points, 0);
  RETURN_IF_ERROR(runtime.CanAllocate(padding.right));
  RETURN_IF_ERROR(runtime.CanAllocate(padding.right * 4 + static_cast<int64_t>(self.text().size())));
  return padding;
}

absl::StatusOr<Value> Padded(Runtime& runtime, const Value& self, const Padding& padding) {
  std::string text;
  for (int64_t i = 0; i < padding.left; ++i) text += padding.fill;
  text += self.text();
  for (int64_t i = 0; i < padding.right; ++i) text += padding.fill;
  return SameKind(runtime, self, std::move(text));
}

absl::StatusOr<Value> LeftJust(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Padding padding, PaddingOf(runtime, self, arguments));
  return Padded(runtime, self, padding);
}

absl::StatusOr<Value> RightJust(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(Padding padding, PaddingOf(runtime, self, arguments));
  std::swap(padding.left, padding.right);
  return Padded(runtime, self, padding);
}

absl::StatusOr<Value> Center(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(Padding padding, PaddingOf(runtime, self, arguments));
  const int64_t total = padding.right;
  const int64_t width = total + self.string().num_code_points;
  padding.left = total / 2 + (total & width & 1);
  padding.right = total - padding.left;
  return Padded(runtime, self, padding);
}

absl::StatusOr<Value> ZeroFill(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("zfill", {{""}}, arguments));
  ASSIGN_OR_RETURN(const int64_t width, ToInt64(*bound[0], "width must be an integer"));
  const int64_t num_zeros = std::max<int64_t>(width - self.string().num_code_points, 0);
  RETURN_IF_ERROR(runtime.CanAllocate(num_zeros));
  const std::string& text = self.text();
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  return SameKind(runtime, self,
                  StrCat(text.substr(0, sign), std::string(static_cast<size_t>(num_zeros), '0'), text.substr(sign)));
}

absl::StatusOr<Value> ExpandTabs(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("expandtabs", {{"tabsize", true}}, arguments));
  int64_t tab_size = 8;
  if (bound[0].has_value()) {
    ASSIGN_OR_RETURN(tab_size, ToInt64(*bound[0], "tabsize must be an integer"));
  }
  RETURN_IF_ERROR(SpendText(runtime, self));
  std::string text;
  int64_t column = 0;
  for (char c : self.text()) {
    if (c == '\t') {
      const int64_t num_blanks = tab_size > 0 ? tab_size - column % tab_size : 0;
      RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(text.size()) + num_blanks));
      text.append(static_cast<size_t>(num_blanks), ' ');
      column += num_blanks;
      continue;
    }
    text += c;
    if (c == '\n' || c == '\r') {
      column = 0;
    } else if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) {
      ++column;
    }
  }
  return SameKind(runtime, self, std::move(text));
}

// ---- format

absl::StatusOr<Value> Format(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(std::string text, BraceFormat(runtime, self.text(), arguments));
  return SameKind(runtime, self, std::move(text));
}

absl::StatusOr<Value> FormatMap(Runtime& runtime, const Value& self, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("format_map", {{""}}, arguments));
  if (!bound[0]->is_dict()) return TypeError("format_map() argument must be a mapping");
  CallArguments named;
  for (const auto& [key, value] : bound[0]->dict().entries) {
    if (key.is_string()) named.keywords.emplace_back(key.text(), value);
  }
  return Format(runtime, self, named);
}

// Sorted by name.
constexpr NamedMethod kStringMethods[] = {
    {"capitalize", Mapped<Capitalize>},
    {"casefold", Mapped<Fold>},
    {"center", Center},
    {"count", CountText},
    {"endswith", HasAffix<false>},
    {"expandtabs", ExpandTabs},
    {"find", Find<false>},
    {"format", Format},
    {"format_map", FormatMap},
    {"index", Index<false>},
    {"isalnum", Asked<IsAlnumText>},
    {"isalpha", Asked<AllInClass<CharClass::kAlpha>>},
    {"isascii", Asked<IsAscii>},
    {"isdecimal", Asked<AllInClass<CharClass::kDecimal>>},
    {"isdigit", Asked<AllInClass<CharClass::kDigit>>},
    {"isidentifier", Asked<IsIdentifier>},
    {"islower", Asked<IsOfCase<CharClass::kLower, CharClass::kUpper>>},
    {"isnumeric", Asked<AllInClass<CharClass::kNumeric>>},
    {"isprintable", Asked<IsPrintable>},
    {"isspace", Asked<IsSpaceText>},
    {"istitle", Asked<IsTitle>},
    {"isupper", Asked<IsOfCase<CharClass::kUpper, CharClass::kLower>>},
    {"join", Join},
    {"ljust", LeftJust},
    {"lower", Mapped<Lower>},
    {"lstrip", Strip<StripSides::kLeft>},
    {"partition", Partition<false>},
    {"removeprefix", RemoveAffix<true>},
    {"removesuffix", RemoveAffix<false>},
    {"replace", Replace},
    {"rfind", Find<true>},
    {"rindex", Index<true>},
    {"rjust", RightJust},
    {"rpartition", Partition<true>},
    {"rsplit", Split<true>},
    {"rstrip", Strip<StripSides::kRight>},
    {"split", Split<false>},
    {"splitlines", SplitLinesMethod},
    {"startswith", HasAffix<true>},
    {"strip", Strip<StripSides::kBoth>},
    {"swapcase", Mapped<SwapCase>},
    {"title", Mapped<TitleCase>},
    {"upper", Mapped<Upper>},
    {"zfill", ZeroFill},
};

}  // namespace

std::span<const NamedMethod> StringMethods() { return kStringMethods; }

absl::StatusOr<std::string> ReplaceText(Runtime& runtime, std::string_view text, std::string_view from,
                                        std::string_view to, int64_t count) {
  RETURN_IF_ERROR(runtime.Spend(1 + static_cast<int64_t>(text.size()) / 8));
  std::string result;
  size_t position = 0;
  for (; count != 0; --count) {
    const size_t at = from.empty() ? position : FindText(text, from, position);
    if (at == text.npos) break;
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(result.size() + text.size() + to.size())));
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(to.size())));
    result.append(text.substr(position, at - position)).append(to);
    position = at + from.size();
    if (from.empty()) {  // between all characters, and at both ends
      if (position == text.size()) return result;
      NextCodePoint(text, &position);
      result.append(text.substr(at, position - at));
    }
  }
  return result.append(text.substr(position));
}

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t line_start = 0;
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    const uint32_t c = NextCodePoint(text, &offset);
    const bool is_break =
        (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!is_break) continue;
    if (c == '\r' && offset < text.size() && text[offset] == '\n') ++offset;
    lines.push_back(text.substr(line_start, (keep_ends ? offset : start) - line_start));
    line_start = offset;
  }
  if (line_start < text.size()) lines.push_back(text.substr(line_start));
  return lines;
}

}  // namespace expertd::jinja
