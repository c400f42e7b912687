#include "engine/text/jinja/lexer.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Line breaks of all kinds become \n, and one at the very end is dropped.
std::string NormalizeNewlines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
      continue;
    }
    text += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// Value of one or more digits of `base`; nothing when they leave 128 bits.
std::optional<Int> ParseDigits(std::string_view digits, int base) {
  Int value = 0;
  for (char c : digits) {
    if (c == '_') continue;
    const int digit = IsDigit(c) ? c - '0' : std::tolower(static_cast<unsigned char>(c)) - 'a' + 10;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value)) return std::nullopt;
    if (__builtin_add_overflow(value, static_cast<Int>(digit), &value)) return std::nullopt;
  }
  return value;
}

// Reads the escapes of a string literal (what Python's unicode-escape codec does with the text between the quotes).
class Unescaper {
 public:
  Unescaper(std::string_view literal, int line) : literal_(literal), line_(line) {}

  absl::StatusOr<std::string> Run() {
    while (position_ < literal_.size()) {
      const char c = literal_[position_];
      if (c != '\\') {
        result_ += c;
        ++position_;
        continue;
      }
      ++position_;
      RETURN_IF_ERROR(Escape());
    }
    return std::move(result_);
  }

 private:
  absl::Status Escape() {
    const char c = literal_[position_++];
    constexpr std::string_view kPlain = "\\'\"abfnrtv";
    constexpr std::string_view kMeaning = "\\'\"\a\b\f\n\r\t\v";
    if (c == '\n') return absl::OkStatus();
    if (const size_t i = kPlain.find(c); i != kPlain.npos) {
      result_ += kMeaning[i];
      return absl::OkStatus();
    }
    if (c >= '0' && c <= '7') return Octal();
    if (c == 'x') return Hexadecimal(2, "\\xXX");
    if (c == 'u') return Hexadecimal(4, "\\uXXXX");
    if (c == 'U') return Hexadecimal(8, "\\UXXXXXXXX");
    if (c == 'N') return SyntaxError(line_, "\\N escapes are not supported");
    result_ += '\\';
    if (static_cast<unsigned char>(c) < 0x80) {
      result_ += c;
    } else {
      SpellOut();
    }
    return absl::OkStatus();
  }

  // jinja2 turns the literal into ASCII first, so that a backslash before another character shows that form.
  void SpellOut() {
    --position_;
    const uint32_t c = NextCodePoint(literal_, &position_);
    char digits[16];
    const auto end = std::to_chars(digits, digits + sizeof(digits), c, 16).ptr;
    const std::string hex(digits, end);
    const size_t width = c <= 0xff ? 2 : c <= 0xffff ? 4 : 8;
    result_ += c <= 0xff ? 'x' : c <= 0xffff ? 'u' : 'U';
    result_ += std::string(width - hex.size(), '0') + hex;
  }

  absl::Status Octal() {
    --position_;
    uint32_t value = 0;
    for (int i = 0; i < 3 && position_ < literal_.size() && literal_[position_] >= '0' && literal_[position_] <= '7';
         ++i) {
      value = value * 8 + static_cast<uint32_t>(literal_[position_++] - '0');
    }
    AppendUtf8(value, &result_);
    return absl::OkStatus();
  }

  absl::Status Hexadecimal(size_t num_digits, std::string_view form) {
    const std::string_view digits = literal_.substr(position_, num_digits);
    const bool all_hex = std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isxdigit(c); });
    if (digits.size() < num_digits || !all_hex) return SyntaxError(line_, StrCat("truncated ", form, " escape"));
    position_ += num_digits;
    const auto value = static_cast<uint64_t>(*ParseDigits(digits, 16));
    if (value > 0x10ffff) return SyntaxError(line_, "illegal Unicode character");
    if (value >= 0xd800 && value <= 0xdfff) return SyntaxError(line_, "surrogate escapes are not supported");
    AppendUtf8(static_cast<uint32_t>(value), &result_);
    return absl::OkStatus();
  }

  const std::string_view literal_;
  const int line_;
  size_t position_ = 0;
  std::string result_;
};

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (position_ < source_.size()) RETURN_IF_ERROR(Root());
    Emit(TokenType::kEnd);
    return std::move(tokens_);
  }

 private:
  enum class Tag { kBlock, kVariable, kComment };

  std::string_view Rest() const { return std::string_view(source_).substr(position_); }
  bool Looking(std::string_view text) const { return Rest().substr(0, text.size()) == text; }

  // Tokens come in order, so that line numbers are counted as the position moves.
  int LineAt(size_t position) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(counted_),
                                         source_.begin() + static_cast<ptrdiff_t>(position), '\n'));
    counted_ = position;
    return line_;
  }

  Token& Emit(TokenType type, std::string text = "") {
    tokens_.push_back(Token{type, LineAt(std::max(counted_, position_)), std::move(text)});
    return tokens_.back();
  }

  void SkipSpace() {
    while (position_ < source_.size()) {
      size_t next = position_;
      if (!IsSpace(NextCodePoint(source_, &next))) return;
      position_ = next;
    }
  }

  // Template text up to the next tag, and the tag.
  absl::Status Root() {
    const size_t start = position_;
    size_t tag = start;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == source_.npos) break;
      const char kind = tag + 1 < source_.size() ? source_[tag + 1] : '\0';
      if (kind == '%' || kind == '{' || kind == '#') break;
      ++tag;
    }
    if (tag == source_.npos) {
      Emit(TokenType::kData, source_.substr(start));
      position_ = source_.size();
      return absl::OkStatus();
    }
    const std::string_view text = std::string_view(source_).substr(start, tag - start);
    const char kind = source_[tag + 1];
    const char sign =
        tag + 2 < source_.size() && (source_[tag + 2] == '-' || source_[tag + 2] == '+') ? source_[tag + 2] : '\0';
    EmitData(TrimBeforeTag(text, sign, /*may_strip_line=*/kind != '{'));
    position_ = tag;
    if (kind == '%') {
      if (const std::optional<size_t> end = MatchRawBegin(tag)) return Raw(*end);
    }
    LineAt(tag);
    position_ = tag + 2 + (sign != '\0' ? 1 : 0);
    line_starting_ = false;
    if (kind == '#') return Comment();
    Emit(kind == '%' ? TokenType::kBlockBegin : TokenType::kVariableBegin);
    return InTag(kind == '%' ? Tag::kBlock : Tag::kVariable);
  }

  void EmitData(std::string_view text) {
    if (!text.empty()) Emit(TokenType::kData, std::string(text));
  }

  // What stays of the text before a tag: '-' takes all white space, lstrip_blocks the indentation of the tag's line.
  std::string_view TrimBeforeTag(std::string_view text, char sign, bool may_strip_line) const {
    if (sign == '-') return StripSpace(text, StripSides::kRight);
    if (sign == '+' || !may_strip_line) return text;
    const size_t newline = text.rfind('\n');
    if (newline == text.npos && !line_starting_) return text;
    const size_t line_start = newline == text.npos ? 0 : newline + 1;
    const bool is_blank = StripSpace(text.substr(line_start), StripSides::kLeft).empty();
    return is_blank ? text.substr(0, line_start) : text;
  }

  // The position after `{% raw %}` at `tag`, if that is what stands there.
  std::optional<size_t> MatchRawBegin(size_t tag) {
    const size_t saved = position_;
    position_ = tag + 2;
    if (Looking("-") || Looking("+")) ++position_;
    std::optional<size_t> end;
    SkipSpace();
    if (Looking("raw")) {
      position_ += 3;
      SkipSpace();
      if (Looking("-%}")) {
        position_ += 3;
        SkipSpace();
        end = position_;
      } else if (Looking("%}")) {
        end = position_ + 2;
      }
    }
    position_ = saved;
    return end;
  }

  // Text up to `{% endraw %}`.
  absl::Status Raw(size_t begin) {
    line_starting_ = source_[begin - 1] == '\n';
    for (size_t tag = source_.find("{%", begin); tag != source_.npos; tag = source_.find("{%", tag + 1)) {
      position_ = tag + 2;
      const char sign = Looking("-") ? '-' : Looking("+") ? '+' : '\0';
      if (sign != '\0') ++position_;
      SkipSpace();
      if (!Looking("endraw")) continue;
      position_ += 6;
      SkipSpace();
      if (!BlockEnd()) continue;
      const size_t end = position_;
      const std::string_view text = std::string_view(source_).substr(begin, tag - begin);
      position_ = begin;
      EmitData(TrimBeforeTag(text, sign, /*may_strip_line=*/true));
      position_ = end;
      line_starting_ = source_[end - 1] == '\n';
      return absl::OkStatus();
    }
    return SyntaxError(LineAt(std::max(counted_, begin)), "missing end of raw directive");
  }

  // Takes `+%}`, `-%}` with the white space after it, or `%}` with a line break after it.
  bool BlockEnd() { return TagEnd("%}", /*takes_plus=*/true, /*takes_newline=*/true); }

  bool TagEnd(std::string_view end, bool takes_plus, bool takes_newline) {
    if (Looking(end)) {
      position_ += end.size();
      if (takes_newline && Looking("\n")) ++position_;
      return true;
    }
    const bool is_minus = Looking("-");
    if (!is_minus && !(takes_plus && Looking("+"))) return false;
    if (Rest().substr(1, end.size()) != end) return false;
    position_ += 1 + end.size();
    if (is_minus) SkipSpace();
    return true;
  }

  absl::Status Comment() {
    const size_t end = source_.find("#}", position_);
    if (end == source_.npos) return SyntaxError(LineAt(position_), "missing end of comment tag");
    const bool has_sign = end > position_ && (source_[end - 1] == '-' || source_[end - 1] == '+');
    position_ = has_sign ? end - 1 : end;
    TagEnd("#}", /*takes_plus=*/true, /*takes_newline=*/true);
    line_starting_ = source_[position_ - 1] == '\n';
    return absl::OkStatus();
  }

  absl::Status InTag(Tag tag) {
    while (position_ < source_.size()) {
      const size_t start = position_;
      if (open_brackets_.empty()) {
        LineAt(position_);
        const bool is_end =
            tag == Tag::kBlock ? BlockEnd() : TagEnd("}}", /*takes_plus=*/false, /*takes_newline=*/false);
        if (is_end) {
          const size_t end = position_;
          position_ = start;
          Emit(tag == Tag::kBlock ? TokenType::kBlockEnd : TokenType::kVariableEnd);
          position_ = end;
          line_starting_ = source_[end - 1] == '\n';
          return absl::OkStatus();
        }
      }
      RETURN_IF_ERROR(ExpressionToken());
    }
    return absl::OkStatus();  // the parser reports the missing end
  }

  absl::Status ExpressionToken() {
    size_t next = position_;
    const uint32_t c = NextCodePoint(source_, &next);
    if (IsSpace(c)) {
      SkipSpace();
      return absl::OkStatus();
    }
    if (c < 0x80 && IsDigit(static_cast<char>(c))) return Number();
    if (c == '_' || (c < 0x80 ? std::isalpha(static_cast<int>(c)) != 0 : HasClass(c, CharClass::kIdentifierContinue))) {
      return Name();
    }
    if (c == '\'' || c == '"') return String(static_cast<char>(c));
    return Operator();
  }

  absl::Status Name() {
    size_t end = position_;
    while (end < source_.size()) {
      size_t next = end;
      if (!HasClass(NextCodePoint(source_, &next), CharClass::kIdentifierContinue)) break;
      end = next;
    }
    size_t first = position_;
    if (!HasClass(NextCodePoint(source_, &first), CharClass::kIdentifierStart)) {
      return SyntaxError(LineAt(position_), "invalid character in identifier");
    }
    Emit(TokenType::kName, source_.substr(position_, end - position_));
    position_ = end;
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return SyntaxError(LineAt(position_), "unterminated string literal");
    const std::string_view literal = std::string_view(source_).substr(position_ + 1, end - position_ - 1);
    ASSIGN_OR_RETURN(std::string text, Unescaper(literal, LineAt(position_)).Run());
    Emit(TokenType::kString, std::move(text));
    position_ = end + 1;
    return absl::OkStatus();
  }

  // The end of a run of digits in which single underscores may separate digits.
  size_t DigitsEnd(size_t position, bool (*is_digit)(unsigned char)) const {
    while (position < source_.size()) {
      if (is_digit(static_cast<unsigned char>(source_[position]))) {
        ++position;
      } else if (source_[position] == '_' && position + 1 < source_.size() &&
                 is_digit(static_cast<unsigned char>(source_[position + 1]))) {
        position += 2;
      } else {
        break;
      }
    }
    return position;
  }

  char CharAt(size_t position) const { return position < source_.size() ? source_[position] : '\0'; }

  absl::Status Number() {
    const auto is_decimal = [](unsigned char c) { return c >= '0' && c <= '9'; };
    const size_t whole_end = DigitsEnd(position_, is_decimal);
    size_t end = whole_end;
    if (position_ == 0 || source_[position_ - 1] != '.') {
      if (CharAt(end) == '.' && IsDigit(CharAt(end + 1))) end = DigitsEnd(end + 1, is_decimal);
      if (CharAt(end) == 'e' || CharAt(end) == 'E') {
        const size_t sign = CharAt(end + 1) == '+' || CharAt(end + 1) == '-' ? 1 : 0;
        if (IsDigit(CharAt(end + 1 + sign))) end = DigitsEnd(end + 1 + sign, is_decimal);
      }
    }
    if (end != whole_end) return Float(end);
    return Integer(whole_end);
  }

  absl::Status Float(size_t end) {
    std::string digits = source_.substr(position_, end - position_);
    std::erase(digits, '_');
    Token& token = Emit(TokenType::kFloat);
    token.number = std::strtod(digits.c_str(), nullptr);
    position_ = end;
    return absl::OkStatus();
  }

  absl::Status Integer(size_t end) {
    size_t start = position_;
    int base = 10;
    const char prefix = static_cast<char>(std::tolower(static_cast<unsigned char>(CharAt(position_ + 1))));
    if (CharAt(position_) == '0') {
      bool (*is_digit)(unsigned char) = nullptr;
      if (prefix == 'x') is_digit = [](unsigned char c) { return std::isxdigit(c) != 0; };
      if (prefix == 'o') is_digit = [](unsigned char c) { return c >= '0' && c <= '7'; };
      if (prefix == 'b') is_digit = [](unsigned char c) { return c == '0' || c == '1'; };
      const size_t digits_end = is_digit == nullptr ? 0 : DigitsEnd(position_ + 2, is_digit);
      if (digits_end > position_ + 2) {
        base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : 2;
        start = position_ + 2;
        end = digits_end;
      } else {  // a decimal zero: further zeros belong to it, other digits do not
        end = DigitsEnd(position_, [](unsigned char c) { return c == '0'; });
      }
    }
    const std::optional<Int> value = ParseDigits(std::string_view(source_).substr(start, end - start), base);
    if (!value.has_value()) return SyntaxError(LineAt(position_), "the integer does not fit into 128 bits");
    Emit(TokenType::kInteger).integer = *value;
    position_ = end;
    return absl::OkStatus();
  }

  absl::Status Operator() {
    constexpr std::string_view kDouble[] = {"//", "**", "==", "!=", ">=", "<="};
    constexpr std::string_view kSingle = "+-/*%~[](){}><=.:|,;";
    std::string text;
    for (std::string_view candidate : kDouble) {
      if (Looking(candidate)) text = candidate;
    }
    if (text.empty() && kSingle.find(source_[position_]) != kSingle.npos) text = source_.substr(position_, 1);
    if (text.empty()) {
      size_t end = position_;
      NextCodePoint(source_, &end);
      return SyntaxError(LineAt(position_),
                         StrCat("unexpected char ", ReprOfString(source_.substr(position_, end - position_))));
    }
    RETURN_IF_ERROR(Balance(text[0]));
    const size_t size = text.size();
    Emit(TokenType::kOperator, std::move(text));
    position_ += size;
    return absl::OkStatus();
  }

  // An end of tag counts only outside brackets.
  absl::Status Balance(char c) {
    if (c == '(') open_brackets_ += ')';
    if (c == '[') open_brackets_ += ']';
    if (c == '{') open_brackets_ += '}';
    if (c != ')' && c != ']' && c != '}') return absl::OkStatus();
    if (open_brackets_.empty()) return SyntaxError(LineAt(position_), StrCat("unexpected '", std::string(1, c), "'"));
    const char expected = open_brackets_.back();
    open_brackets_.pop_back();
    if (expected == c) return absl::OkStatus();
    return SyntaxError(LineAt(position_),
                       StrCat("unexpected '", std::string(1, c), "', expected '", std::string(1, expected), "'"));
  }

  const std::string source_;
  size_t position_ = 0;
  size_t counted_ = 0;  // up to where line breaks are counted
  int line_ = 1;
  bool line_starting_ = true;  // whether the last thing taken ended a line
  std::string open_brackets_;  // the closing brackets that are due
  std::vector<Token> tokens_;
};

}  // namespace

absl::Status SyntaxError(int line, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("line ", line, ": ", what));
}

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) { return Lexer(NormalizeNewlines(source)).Run(); }

}  // namespace expertd::jinja
