#include "engine/text/text_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/unicode.h"

namespace expertd {
namespace {

// Far above what one token-sized match of an ordinary pattern needs, and under a second of work.
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr uint32_t kHeapLimitKib = 256 * 1024;

// White_Space and its complement as the inside of a class. PCRE2's own \s also takes U+180E, which left Unicode's
// White_Space in version 6.3.
constexpr std::string_view kSpaces =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpaces =
    R"(\x{0}-\x{8}\x{E}-\x{1F}!-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027}\x{202A}-\x{202E})"
    R"(\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
constexpr std::string_view kWordCharacters = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// Outside a class, Oniguruma's \w also takes the superscripts and fractions of Latin-1.
constexpr std::string_view kBareWordCharacters = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
constexpr std::string_view kHexDigits = "0-9A-Fa-f";

// A property name as PCRE2 spells it. Scripts are the plain property, not PCRE2's default, the script extensions.
std::string PropertyName(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kLongNames = {
      {{"Letter", "L"},
       {"Mark", "M"},
       {"Number", "N"},
       {"Punctuation", "P"},
       {"Symbol", "S"},
       {"Separator", "Z"},
       {"Other", "C"},
       {"Alphabetic", "Alphabetic"},
       {"White_Space", "White_Space"}}};
  for (const auto& [long_name, short_name] : kLongNames) {
    if (name == long_name) return std::string(short_name);
  }
  return name.size() <= 2 || name == "Any" ? std::string(name) : StrCat("sc:", name);
}

class PatternTranslator {
 public:
  explicit PatternTranslator(std::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Translate() {
    while (i_ < pattern_.size()) {
      RETURN_IF_ERROR(pattern_[i_] == '\\' ? Escape() : in_class_ ? ClassCharacter() : Character());
    }
    return std::move(out_);
  }

 private:
  bool At(std::string_view text) const { return pattern_.substr(i_, text.size()) == text; }
  void Copy(size_t n) {
    out_.append(pattern_.substr(i_, n));
    i_ = std::min(i_ + n, pattern_.size());
  }
  absl::Status Refuse(std::string_view what) const {
    return absl::UnimplementedError(StrCat("regular expression uses ", what, " at byte ", i_, ": ", pattern_));
  }

  absl::Status Escape() {
    const char c = i_ + 1 < pattern_.size() ? pattern_[i_ + 1] : '\0';
    switch (c) {
      case 's':
        return Class(kSpaces, /*negated=*/false);
      case 'S':
        if (in_class_) return Class(kNotSpaces, /*negated=*/false);
        return Class(kSpaces, /*negated=*/true);
      case 'w':
        return Class(in_class_ ? kWordCharacters : kBareWordCharacters, /*negated=*/false);
      case 'h':
        return Class(kHexDigits, /*negated=*/false);
      case 'W':
      case 'H':
        if (in_class_) return Refuse("a negated class inside a class");
        return Class(c == 'W' ? kBareWordCharacters : kHexDigits, /*negated=*/true);
      case 'p':
      case 'P':
        return Property();
      case 'u':
        return CodePoint();
      case 'x':
        if (pattern_.substr(i_ + 2, 1) == "{") {
          const size_t end = pattern_.find('}', i_);
          if (end == std::string_view::npos) return Refuse("an unfinished \\x{");
          Copy(end + 1 - i_);
          return absl::OkStatus();
        }
        break;
    }
    Copy(1);
    if (i_ < pattern_.size()) Copy(1);
    return absl::OkStatus();
  }

  // \uHHHH
  absl::Status CodePoint() {
    const std::string_view digits = pattern_.substr(i_ + 2, 4);
    const auto is_hex = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
    if (digits.size() != 4 || !std::all_of(digits.begin(), digits.end(), is_hex)) return Refuse("an unfinished \\u");
    StrAppend(&out_, "\\x{", digits, "}");
    i_ += 6;
    return absl::OkStatus();
  }

  absl::Status Class(std::string_view inside, bool negated) {
    StrAppend(&out_, in_class_ ? "" : negated ? "[^" : "[", inside, in_class_ ? "" : "]");
    i_ += 2;
    return absl::OkStatus();
  }

  absl::Status Property() {
    Copy(2);
    if (!At("{")) return absl::OkStatus();  // \pL
    const size_t end = pattern_.find('}', i_);
    if (end == std::string_view::npos) return Refuse("an unfinished \\p{");
    std::string_view name = pattern_.substr(i_ + 1, end - i_ - 1);
    const bool negated = !name.empty() && name[0] == '^';
    if (negated) name.remove_prefix(1);
    StrAppend(&out_, negated ? "{^" : "{", PropertyName(name), "}");
    i_ = end + 1;
    return absl::OkStatus();
  }

  absl::Status ClassCharacter() {
    if (At("&&")) return Refuse("an intersection of classes");
    if (At("[:")) {
      const size_t end = pattern_.find(":]", i_);
      if (end == std::string_view::npos) return Refuse("an unfinished [:");
      Copy(end + 2 - i_);
      return absl::OkStatus();
    }
    if (At("[")) return Refuse("a class inside a class");
    if (At("]")) in_class_ = false;
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Character() {
    if (At("[")) {
      in_class_ = true;
      Copy(At("[^") ? 2 : 1);
      if (At("]")) Copy(1);
      return absl::OkStatus();
    }
    if (At("(?")) {
      size_t end = i_ + 2;
      while (end < pattern_.size() &&
             (std::isalpha(static_cast<unsigned char>(pattern_[end])) || pattern_[end] == '-')) {
        if (pattern_[end] != 'i' && pattern_[end] != 'x' && pattern_[end] != '-')
          return Refuse("an option other than i, x");
        ++end;
      }
      Copy(end - i_);
      return absl::OkStatus();
    }
    if (At("{,")) return Refuse("a quantifier {,n}");
    if (At("}+")) return Refuse("a quantifier {n,m}+");
    Copy(1);
    return absl::OkStatus();
  }

  std::string_view pattern_;
  size_t i_ = 0;
  bool in_class_ = false;
  std::string out_;
};

std::string ErrorText(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

// `\s+$` tries every start in a run of blanks, quadratic in the run. The same answer in one pass: a run of blanks up to
// the end of the text, or else up to its last line feed that has a blank in front.
std::optional<ByteRange> FindTrailingSpaces(std::string_view text, size_t from) {
  for (size_t i = from; i < text.size();) {
    const size_t begin = i;
    std::optional<size_t> last_line_feed;
    size_t end = i;
    while (end < text.size()) {
      size_t next = end;
      const char32_t c = DecodeUtf8(text, &next);
      if (!IsWhitespace(c)) {
        i = next;
        break;
      }
      if (c == '\n' && end > begin) last_line_feed = end;
      end = next;
    }
    if (end > begin && end == text.size()) return ByteRange{begin, end};
    if (last_line_feed) return ByteRange{begin, *last_line_feed};
    if (end == text.size()) break;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::string> TranslateOnigurumaPattern(std::string_view pattern) {
  return PatternTranslator(pattern).Translate();
}

struct TextRegex::Code {
  ~Code() { pcre2_code_free(code); }
  pcre2_code* code = nullptr;
  bool has_jit = false;
  bool is_trailing_spaces = false;
  std::string pattern;
};

struct TextRegex::Searcher::State {
  ~State() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
};

TextRegex::TextRegex(std::unique_ptr<const Code> code) : code_(std::move(code)) {}
TextRegex::~TextRegex() = default;
TextRegex::TextRegex(TextRegex&&) noexcept = default;
TextRegex& TextRegex::operator=(TextRegex&&) noexcept = default;

absl::StatusOr<TextRegex> TextRegex::Compile(std::string_view pattern) {
  ASSIGN_OR_RETURN(const std::string translated, TranslateOnigurumaPattern(pattern));
  auto code = std::make_unique<Code>();
  code->pattern = pattern;
  code->is_trailing_spaces = pattern == R"(\s+$)";
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &error_offset,
                             context);
  pcre2_compile_context_free(context);
  if (code->code == nullptr) {
    return absl::UnimplementedError(StrCat("regular expression is not understood (", ErrorText(error), "): ", pattern));
  }
  code->has_jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
  return TextRegex(std::move(code));
}

TextRegex::Searcher::Searcher(const TextRegex& regex) : regex_(regex), state_(std::make_unique<State>()) {
  state_->data = pcre2_match_data_create_from_pattern(regex.code_->code, nullptr);
  state_->context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(state_->context, kMatchLimit);
  pcre2_set_heap_limit(state_->context, kHeapLimitKib);
}

TextRegex::Searcher::~Searcher() = default;

absl::StatusOr<std::optional<ByteRange>> TextRegex::Searcher::Find(std::string_view text, size_t from) {
  const Code& code = *regex_.code_;
  if (code.is_trailing_spaces) return FindTrailingSpaces(text, from);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int result = PCRE2_ERROR_JIT_STACKLIMIT;
  if (code.has_jit) {
    result = pcre2_jit_match(code.code, subject, text.size(), from, 0, state_->data, state_->context);
  }
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
    result = pcre2_match(code.code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state_->data,
                         state_->context);
  }
  if (result == PCRE2_ERROR_NOMATCH) return std::optional<ByteRange>();
  if (result < 0) {
    return absl::ResourceExhaustedError(
        StrCat("text is too hard for the tokenizer's regular expression (", ErrorText(result), "): ", code.pattern));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state_->data);
  return ByteRange{bounds[0], bounds[1]};
}

absl::Status TextRegex::Searcher::FindAll(std::string_view text, std::vector<ByteRange>* matches) {
  matches->clear();
  for (size_t from = 0; from <= text.size();) {
    ASSIGN_OR_RETURN(const std::optional<ByteRange> match, Find(text, from));
    if (!match) break;
    const bool is_empty = match->begin >= match->end;
    if (is_empty && !matches->empty() && matches->back().end == match->end) {
      if (from == text.size()) break;
      DecodeUtf8(text, &from);
      continue;
    }
    matches->push_back({match->begin, match->end});
    from = match->end;
  }
  return absl::OkStatus();
}

}  // namespace expertd
