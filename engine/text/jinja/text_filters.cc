// The filters that make text: those of jinja2 (filters.py describes them) and transformers' `tojson`.
#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

// Calls a string method on str(value).
absl::StatusOr<Value> CallStringMethod(Runtime& runtime, const Value& value, std::string_view name,
                                       CallArguments arguments) {
  ASSIGN_OR_RETURN(const Value text, SoftStr(runtime, value));
  ASSIGN_OR_RETURN(const Value method, GetAttribute(runtime, text, name));
  return CallValue(runtime, method, std::move(arguments));
}

absl::StatusOr<Value> String(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("string", {{"s"}}, arguments));
  return SoftStr(runtime, *bound[0]);
}

// A filter that is one method of str.
template <char kWhich>
absl::StatusOr<Value> ByMethod(Runtime& runtime, const CallArguments& arguments) {
  constexpr std::string_view kName = kWhich == 'u' ? "upper" : kWhich == 'l' ? "lower" : "capitalize";
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(kName, {{"s"}}, arguments));
  return CallStringMethod(runtime, *bound[0], kName, {});
}

absl::StatusOr<Value> Trim(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("trim", {{"value"}, {"chars", true}}, arguments));
  return CallStringMethod(runtime, *bound[0], "strip", {{bound[1].value_or(Value::None())}, {}});
}

absl::StatusOr<Value> Center(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("center", {{"value"}, {"width", true}}, arguments));
  return CallStringMethod(runtime, *bound[0], "center", {{bound[1].value_or(Value::Integer(80))}, {}});
}

// Words begin after white space, hyphens and opening brackets.
absl::StatusOr<Value> Title(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("title", {{"s"}}, arguments));
  ASSIGN_OR_RETURN(const Value value, SoftStr(runtime, *bound[0]));
  const std::string_view text = value.text();
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(text.size()) / 4));
  constexpr std::string_view kOpeners = "-({[<";
  std::string result;
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    const uint32_t first = NextCodePoint(text, &offset);
    const auto separates = [&](uint32_t c) {
      return IsSpace(c) || (c < 0x80 && kOpeners.find(static_cast<char>(c)) != kOpeners.npos);
    };
    if (separates(first)) {
      result.append(text.substr(start, offset - start));
      continue;
    }
    AppendMapped(first, CaseMapping::kUpper, &result);
    const size_t rest = offset;
    while (offset < text.size()) {
      size_t next = offset;
      if (separates(NextCodePoint(text, &next))) break;
      offset = next;
    }
    result += MapCase(text.substr(rest, offset - rest), CaseMapping::kLower);
  }
  return runtime.NewString(std::move(result));
}

absl::StatusOr<Value> Replace(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("replace", {{"s"}, {"old"}, {"new"}, {"count", true}}, arguments));
  ASSIGN_OR_RETURN(const std::string text, Str(runtime, *bound[0]));
  ASSIGN_OR_RETURN(const std::string from, Str(runtime, *bound[1]));
  ASSIGN_OR_RETURN(const std::string to, Str(runtime, *bound[2]));
  int64_t count = -1;
  if (bound[3].has_value() && !bound[3]->is_none()) {
    ASSIGN_OR_RETURN(count, IntOr(bound[3], -1, "count must be an integer"));
  }
  ASSIGN_OR_RETURN(std::string result, ReplaceText(runtime, text, from, to, count));
  return runtime.NewString(std::move(result));
}

absl::StatusOr<Value> Indent(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("indent", {{"s"}, {"width", true}, {"first", true}, {"blank", true}}, arguments));
  if (bound[0]->is_undefined()) return absl::InvalidArgumentError(bound[0]->undefined().message);
  ASSIGN_OR_RETURN(const std::string_view text, ToText(*bound[0], "indent() argument"));
  ASSIGN_OR_RETURN(const bool indents_first, TruthOr(runtime, bound[2], false));
  ASSIGN_OR_RETURN(const bool indents_blank, TruthOr(runtime, bound[3], false));
  std::string indention;
  if (bound[1].has_value() && bound[1]->is_string()) {
    indention = bound[1]->text();
  } else {
    ASSIGN_OR_RETURN(const int64_t width, IntOr(bound[1], 4, "width must be an integer"));
    RETURN_IF_ERROR(runtime.CanAllocate(std::max<int64_t>(width, 0)));
    indention = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(text.size()) / 8));
  const std::string with_newline = StrCat(text, "\n");
  const std::vector<std::string_view> lines = SplitLines(with_newline, /*keep_ends=*/false);
  std::string result;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) result += '\n';
    const bool indents = i == 0 ? indents_first : indents_blank || !lines[i].empty();
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(result.size() + indention.size() + lines[i].size())));
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(indention.size())));
    if (indents) result += indention;
    result += lines[i];
  }
  return runtime.NewString(std::move(result), bound[0]->string().is_markup);
}

absl::StatusOr<Value> Truncate(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments("truncate", {{"s"}, {"length", true}, {"killwords", true}, {"end", true}, {"leeway", true}},
                    arguments));
  ASSIGN_OR_RETURN(const int64_t length, IntOr(bound[1], 255, "length must be an integer"));
  ASSIGN_OR_RETURN(const bool cuts_words, TruthOr(runtime, bound[2], false));
  const Value ellipsis = bound[3].value_or(Value::Constant("..."));
  ASSIGN_OR_RETURN(const std::string_view end, ToText(ellipsis, "end"));
  const bool has_leeway = bound[4].has_value() && !bound[4]->is_none();
  ASSIGN_OR_RETURN(const int64_t leeway, IntOr(has_leeway ? bound[4] : std::nullopt, 5, "leeway must be an integer"));
  const int64_t num_end = CountCodePoints(end);
  if (length < num_end) return ValueError(StrCat("expected length >= ", num_end, ", got ", length));
  if (leeway < 0) return ValueError(StrCat("expected leeway >= 0, got ", leeway));
  ASSIGN_OR_RETURN(const std::optional<int64_t> size, Length(runtime, *bound[0]));
  if (!size.has_value()) return TypeError(StrCat("object of type '", TypeName(*bound[0]), "' has no len()"));
  if (*size <= length + leeway) return *bound[0];
  ASSIGN_OR_RETURN(const std::string_view text, ToText(*bound[0], "truncate() argument"));
  RETURN_IF_ERROR(runtime.Spend(length / 8));
  std::string_view kept = text.substr(0, OffsetOfCodePoint(text, length - num_end));
  if (!cuts_words) kept = kept.substr(0, std::min(kept.rfind(' '), kept.size()));
  return runtime.NewString(StrCat(kept, end));
}

absl::StatusOr<Value> WordCount(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("wordcount", {{"s"}}, arguments));
  ASSIGN_OR_RETURN(const std::string text, Str(runtime, *bound[0]));
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(text.size()) / 2));
  int64_t count = 0;
  bool in_word = false;
  for (size_t offset = 0; offset < text.size();) {
    const uint32_t c = NextCodePoint(text, &offset);
    const bool is_word = c == '_' || IsAlnum(c);
    count += is_word && !in_word ? 1 : 0;
    in_word = is_word;
  }
  return Value::Integer(count);
}

absl::StatusOr<Value> FormatFilter(Runtime& runtime, const CallArguments& arguments) {
  if (arguments.positional.size() > 1 && !arguments.keywords.empty()) {
    return TypeError("can't handle positional and keyword arguments at the same time");
  }
  ASSIGN_OR_RETURN(const Value format, SoftStr(runtime, arguments.positional[0]));
  Value values;
  if (arguments.keywords.empty()) {
    ASSIGN_OR_RETURN(values, runtime.NewTuple({arguments.positional.begin() + 1, arguments.positional.end()}));
  } else {
    DictBuilder builder(&runtime);
    for (const auto& [name, value] : arguments.keywords) RETURN_IF_ERROR(builder.Set(Value::Constant(name), value));
    ASSIGN_OR_RETURN(values, std::move(builder).Build());
  }
  return ApplyMath(runtime, MathOperator::kModulo, format, values);
}

absl::StatusOr<Value> MakeMarkup(Runtime& runtime, const Value& value, bool escapes) {
  if (value.is_string() && value.string().is_markup) return value;
  ASSIGN_OR_RETURN(std::string text, Str(runtime, value));
  if (escapes) {
    RETURN_IF_ERROR(runtime.CanAllocate(5 * static_cast<int64_t>(text.size())));
    text = EscapeHtml(text);
  }
  return runtime.NewString(std::move(text), /*is_markup=*/true);
}

absl::StatusOr<Value> Escape(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("escape", {{"s"}}, arguments));
  return MakeMarkup(runtime, *bound[0], /*escapes=*/true);
}

absl::StatusOr<Value> ForceEscape(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("forceescape", {{"value"}}, arguments));
  ASSIGN_OR_RETURN(std::string text, Str(runtime, *bound[0]));
  ASSIGN_OR_RETURN(const Value plain, runtime.NewString(std::move(text)));
  return MakeMarkup(runtime, plain, /*escapes=*/true);
}

absl::StatusOr<Value> Safe(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("safe", {{"value"}}, arguments));
  return MakeMarkup(runtime, *bound[0], /*escapes=*/false);
}

std::string PercentEncode(std::string_view text, bool for_query) {
  constexpr std::string_view kUnreserved = "_.-~";
  std::string result;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          kUnreserved.find(c) != kUnreserved.npos || (c == '/' && !for_query);
    if (is_plain) {
      result += c;
    } else if (c == ' ' && for_query) {
      result += '+';
    } else {
      result += absl::StrFormat("%%%02X", static_cast<unsigned char>(c));
    }
  }
  return result;
}

absl::StatusOr<std::string> UrlQuote(Runtime& runtime, const Value& value, bool for_query) {
  ASSIGN_OR_RETURN(const std::string text, Str(runtime, value));
  RETURN_IF_ERROR(runtime.CanAllocate(3 * static_cast<int64_t>(text.size())));
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(text.size())));
  return PercentEncode(text, for_query);
}

absl::StatusOr<Value> UrlEncode(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("urlencode", {{"value"}}, arguments));
  const Value& value = *bound[0];
  if (value.is_string() || !IsIterable(value)) {
    ASSIGN_OR_RETURN(std::string text, UrlQuote(runtime, value, /*for_query=*/false));
    return runtime.NewString(std::move(text));
  }
  Value pairs = value;
  if (value.is_dict()) {
    ASSIGN_OR_RETURN(pairs, NewDictView(runtime, value, DictPart::kItems));
  }
  ASSIGN_OR_RETURN(const std::vector<Value> items, ToVector(runtime, pairs));
  std::string text;
  for (const Value& pair : items) {
    ASSIGN_OR_RETURN(const std::vector<Value> parts, ToVector(runtime, pair));
    if (parts.size() != 2) return ValueError("not enough values to unpack (expected 2)");
    ASSIGN_OR_RETURN(const std::string key, UrlQuote(runtime, parts[0], /*for_query=*/true));
    ASSIGN_OR_RETURN(const std::string encoded, UrlQuote(runtime, parts[1], /*for_query=*/true));
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(text.size() + key.size() + encoded.size())));
    StrAppend(&text, text.empty() ? "" : "&", key, "=", encoded);
  }
  return runtime.NewString(std::move(text));
}

absl::StatusOr<Value> XmlAttr(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("xmlattr", {{"d"}, {"autospace", true}}, arguments));
  ASSIGN_OR_RETURN(const bool adds_space, TruthOr(runtime, bound[1], true));
  if (bound[0]->is_undefined()) return absl::InvalidArgumentError(bound[0]->undefined().message);
  if (!bound[0]->is_dict()) return TypeError(StrCat("'", TypeName(*bound[0]), "' object has no attribute 'items'"));
  std::string text;
  for (const auto& [key, value] : bound[0]->dict().entries) {
    if (value.is_none() || value.is_undefined()) continue;
    ASSIGN_OR_RETURN(const std::string_view name, ToText(key, "attribute name"));
    if (name.find_first_of(" \t\n\r\f\v/>=") != name.npos) {
      return ValueError(StrCat("Invalid character in attribute name: ", ReprOfString(name)));
    }
    ASSIGN_OR_RETURN(const Value escaped_name, MakeMarkup(runtime, key, /*escapes=*/true));
    ASSIGN_OR_RETURN(const Value escaped, MakeMarkup(runtime, value, /*escapes=*/true));
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(text.size() + name.size() + escaped.text().size())));
    StrAppend(&text, text.empty() ? "" : " ", escaped_name.text(), "=\"", escaped.text(), "\"");
  }
  return runtime.NewString(StrCat(adds_space && !text.empty() ? " " : "", text));
}

absl::StatusOr<Value> ToJson(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments("tojson",
                    {{"x"}, {"ensure_ascii", true}, {"indent", true}, {"separators", true}, {"sort_keys", true}},
                    arguments));
  JsonOptions options;
  ASSIGN_OR_RETURN(options.ensure_ascii, TruthOr(runtime, bound[1], false));
  ASSIGN_OR_RETURN(options.sort_keys, TruthOr(runtime, bound[4], false));
  if (bound[2].has_value() && !bound[2]->is_none()) {
    options.item_separator = ",";
    if (bound[2]->is_string()) {
      options.indent = bound[2]->text();
    } else {
      ASSIGN_OR_RETURN(const int64_t width, IntOr(bound[2], 0, "indent must be an integer or a string"));
      RETURN_IF_ERROR(runtime.CanAllocate(std::max<int64_t>(width, 0)));
      options.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
  }
  if (bound[3].has_value() && !bound[3]->is_none()) {
    ASSIGN_OR_RETURN(const std::vector<Value> separators, ToVector(runtime, *bound[3]));
    if (separators.size() != 2) return ValueError("separators must be a pair of strings");
    ASSIGN_OR_RETURN(const std::string_view item, ToText(separators[0], "item separator"));
    ASSIGN_OR_RETURN(const std::string_view key, ToText(separators[1], "key separator"));
    options.item_separator = item;
    options.key_separator = key;
  }
  ASSIGN_OR_RETURN(std::string text, DumpJson(runtime, *bound[0], options));
  return runtime.NewString(std::move(text));
}

// Sorted by name.
constexpr NamedFilter kFilters[] = {
    {"capitalize", ByMethod<'c'>},
    {"center", Center},
    {"e", Escape},
    {"escape", Escape},
    {"forceescape", ForceEscape},
    {"format", FormatFilter},
    {"indent", Indent},
    {"lower", ByMethod<'l'>},
    {"replace", Replace},
    {"safe", Safe},
    {"string", String},
    {"title", Title},
    {"tojson", ToJson},
    {"trim", Trim},
    {"truncate", Truncate},
    {"upper", ByMethod<'u'>},
    {"urlencode", UrlEncode},
    {"wordcount", WordCount},
    {"xmlattr", XmlAttr},
};

}  // namespace

std::span<const NamedFilter> TextFilters() { return kFilters; }

std::string EscapeHtml(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '\'': result += "&#39;"; break;
      case '"': result += "&#34;"; break;
      default: result += c;
    }
  }
  return result;
}

}  // namespace expertd::jinja
