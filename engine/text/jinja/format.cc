// Python's two ways of formatting text: `format % values` and str.format, with its format specifications.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

constexpr int64_t kMaxPrecision = 1000;

// What a conversion asks for, in either notation.
struct Spec {
  std::string fill = " ";
  char align = '\0';  // '<' '>' '^' '=' or none
  char sign = '-';    // '+', ' ' or '-'
  bool is_alternate = false;
  bool is_zero_padded = false;
  int64_t width = 0;
  char separator = '\0';  // of thousands: ',' or '_'
  int64_t precision = -1;
  char type = '\0';
};

absl::StatusOr<std::string> Pad(Runtime& runtime, std::string text, size_t sign_bytes, const Spec& spec,
                                char default_align) {
  const int64_t missing = spec.width - CountCodePoints(text);
  if (missing <= 0) return text;
  RETURN_IF_ERROR(runtime.CanAllocate(missing));
  RETURN_IF_ERROR(
      runtime.CanAllocate(missing * static_cast<int64_t>(spec.fill.size()) + static_cast<int64_t>(text.size())));
  const auto fill = [&spec](int64_t count) {
    std::string result;
    for (int64_t i = 0; i < count; ++i) result += spec.fill;
    return result;
  };
  switch (spec.align == '\0' ? default_align : spec.align) {
    case '<': return text + fill(missing);
    case '^': return fill(missing / 2) + text + fill(missing - missing / 2);
    case '=': return text.substr(0, sign_bytes) + fill(missing) + text.substr(sign_bytes);
    default: return fill(missing) + text;
  }
}

// Digits with a separator between groups; `num_digits` is how many lead the text.
std::string Grouped(const std::string& text, size_t num_digits, char separator, size_t group) {
  std::string result;
  for (size_t i = 0; i < num_digits; ++i) {
    if (i > 0 && (num_digits - i) % group == 0) result += separator;
    result += text[i];
  }
  return result + text.substr(num_digits);
}

// Puts sign, prefix and padding round the digits of a number.
absl::StatusOr<std::string> FinishNumber(Runtime& runtime, bool is_negative, std::string prefix, std::string digits,
                                         Spec spec, size_t group) {
  std::string sign = is_negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  if (spec.separator != '\0') {
    const size_t num_digits = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
    digits = Grouped(digits, num_digits, spec.separator, group);
  }
  if (spec.is_zero_padded && spec.align == '\0') {
    spec.align = '=';
    spec.fill = "0";
    // Zeros that pad a grouped number are grouped as well.
    if (spec.separator != '\0') {
      while (static_cast<int64_t>(sign.size() + prefix.size() + digits.size()) < spec.width && digits.size() < 512) {
        std::string plain = digits;
        std::erase(plain, spec.separator);
        const size_t num_digits = std::min(plain.find_first_not_of("0123456789abcdefABCDEF"), plain.size()) + 1;
        digits = Grouped("0" + plain, num_digits, spec.separator, group);
      }
    }
  }
  const size_t sign_bytes = sign.size() + prefix.size();
  return Pad(runtime, sign + prefix + digits, sign_bytes, spec, '>');
}

std::string DigitsOf(Int value, int base) {
  if (value == 0) return "0";
  std::string digits;
  for (; value != 0; value /= base) {
    const int digit = std::abs(static_cast<int>(value % base));
    digits += "0123456789abcdef"[digit];
  }
  std::reverse(digits.begin(), digits.end());
  return digits;
}

absl::StatusOr<std::string> FormatInt(Runtime& runtime, Int value, const Spec& spec) {
  const int base = spec.type == 'b' ? 2 : spec.type == 'o' ? 8 : spec.type == 'x' || spec.type == 'X' ? 16 : 10;
  std::string digits = DigitsOf(value, base);
  if (static_cast<int64_t>(digits.size()) < spec.precision) {
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  }
  std::string prefix;
  if (spec.is_alternate && base != 10) prefix = StrCat("0", std::string(1, spec.type));
  if (spec.type == 'X') {
    for (char& c : digits) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return FinishNumber(runtime, value < 0, std::move(prefix), std::move(digits), spec, base == 10 ? 3 : 4);
}

std::string Printf(char type, bool is_alternate, int64_t precision, double value) {
  const std::string format = StrCat("%", is_alternate ? "#" : "", ".*", std::string(1, type));
  const int size = std::snprintf(nullptr, 0, format.c_str(), static_cast<int>(precision), value);
  std::string text(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(text.data(), text.size(), format.c_str(), static_cast<int>(precision), value);
  text.pop_back();
  return text;
}

absl::StatusOr<std::string> FormatFloat(Runtime& runtime, double value, Spec spec) {
  if (spec.precision > kMaxPrecision) return ValueError("precision too big");
  const bool is_negative = std::signbit(value) && !std::isnan(value);
  const double magnitude = std::abs(value);
  const char type = spec.type == '\0' || spec.type == 'n' ? 'g' : spec.type;
  const bool is_upper = type == 'F' || type == 'E' || type == 'G';
  std::string digits;
  if (!std::isfinite(value)) {
    digits = std::isnan(value) ? (is_upper ? "NAN" : "nan") : (is_upper ? "INF" : "inf");
    if (type == '%') digits += '%';
  } else if (spec.type == '\0' && spec.precision < 0) {
    digits = ReprOfFloat(magnitude);
  } else if (type == '%') {
    digits = Printf('f', spec.is_alternate, spec.precision < 0 ? 6 : spec.precision, magnitude * 100) + "%";
  } else {
    const bool is_general = type == 'g' || type == 'G';
    const int64_t precision = spec.precision < 0 ? 6
                              : is_general       ? std::max<int64_t>(spec.precision, 1)
                                                 : spec.precision;
    digits = Printf(type, spec.is_alternate, precision, magnitude);
    // A specification without a type always shows a point or an exponent.
    if (spec.type == '\0' && digits.find_first_of(".e") == digits.npos) digits += ".0";
  }
  return FinishNumber(runtime, is_negative, "", std::move(digits), spec, 3);
}

absl::StatusOr<std::string> FormatText(Runtime& runtime, std::string_view text, const Spec& spec) {
  if (spec.precision >= 0) text = text.substr(0, OffsetOfCodePoint(text, spec.precision));
  return Pad(runtime, std::string(text), 0, spec, '<');
}

// Reads a run of digits as a number, at most a billion.
int64_t ReadNumber(std::string_view text, size_t* position) {
  int64_t number = 0;
  while (*position < text.size() && text[*position] >= '0' && text[*position] <= '9') {
    number = std::min<int64_t>(number * 10 + (text[(*position)++] - '0'), 1'000'000'000);
  }
  return number;
}

// ---- format % values

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, std::string_view format, const Value& values)
      : runtime_(runtime), format_(format), values_(values) {}

  absl::StatusOr<std::string> Run() {
    while (position_ < format_.size()) {
      const size_t percent = std::min(format_.find('%', position_), format_.size());
      text_.append(format_.substr(position_, percent - position_));
      position_ = percent;
      if (position_ == format_.size()) break;
      ++position_;
      RETURN_IF_ERROR(Conversion());
      RETURN_IF_ERROR(runtime_.Spend(2));
      RETURN_IF_ERROR(runtime_.CanAllocate(static_cast<int64_t>(text_.size())));
    }
    const bool all_used =
        values_.is_tuple() ? num_used_ == values_.items().size() : num_used_ == 1 || values_.is_dict();
    // What has a subscript passes for a mapping, whose values need not all be used.
    const bool is_mapping = values_.is_dict() || values_.is_list() || values_.is_undefined() ||
                            (values_.is_object() && values_.object().HasSubscript());
    if (!all_used && !is_mapping) return TypeError("not all arguments converted during string formatting");
    return std::move(text_);
  }

 private:
  char Peek() const { return position_ < format_.size() ? format_[position_] : '\0'; }

  absl::StatusOr<Value> NextValue() {
    if (!key_.has_value()) {
      const size_t index = num_used_++;
      if (values_.is_tuple() && index < values_.items().size()) return values_.items()[index];
      if (!values_.is_tuple() && index == 0) return values_;
      return TypeError("not enough arguments for format string");
    }
    if (!values_.is_dict()) return TypeError("format requires a mapping");
    const Value* value = DictFind(values_.dict(), *key_);
    if (value == nullptr) return absl::InvalidArgumentError(ReprOfString(*key_));
    return *value;
  }

  absl::Status ReadKey() {
    key_ = std::nullopt;
    if (Peek() != '(') return absl::OkStatus();
    const size_t start = ++position_;
    for (int depth = 1; depth > 0; ++position_) {
      if (position_ >= format_.size()) return ValueError("incomplete format key");
      if (format_[position_] == '(') ++depth;
      if (format_[position_] == ')') --depth;
    }
    key_ = std::string(format_.substr(start, position_ - 1 - start));
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> ReadStarOrNumber() {
    if (Peek() != '*') return ReadNumber(format_, &position_);
    ++position_;
    ASSIGN_OR_RETURN(const Value value, NextValue());
    return ToInt64(value, "* wants int");
  }

  static bool ApplyFlag(char flag, Spec& spec) {
    switch (flag) {
      case '-': spec.align = '<'; return true;
      case '+': spec.sign = '+'; return true;
      case ' ': spec.sign = spec.sign == '+' ? '+' : ' '; return true;
      case '#': spec.is_alternate = true; return true;
      case '0': spec.is_zero_padded = true; return true;
      default: return false;
    }
  }

  absl::Status Conversion() {
    RETURN_IF_ERROR(ReadKey());
    Spec spec;
    while (ApplyFlag(Peek(), spec)) ++position_;
    ASSIGN_OR_RETURN(spec.width, ReadStarOrNumber());
    if (spec.width < 0) {
      spec.align = '<';
      spec.width = -spec.width;
    }
    if (Peek() == '.') {
      ++position_;
      ASSIGN_OR_RETURN(spec.precision, ReadStarOrNumber());
      spec.precision = std::max<int64_t>(spec.precision, 0);
    }
    if (Peek() == 'h' || Peek() == 'l' || Peek() == 'L') ++position_;
    if (position_ >= format_.size()) return ValueError("incomplete format");
    spec.type = format_[position_++];
    if (spec.type == '%') {
      text_ += '%';
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const Value value, NextValue());
    ASSIGN_OR_RETURN(const std::string text, Convert(value, spec));
    text_ += text;
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Convert(const Value& value, Spec spec) {
    switch (spec.type) {
      case 's': {
        ASSIGN_OR_RETURN(const std::string text, Str(runtime_, value));
        return PadText(text, spec);
      }
      case 'r':
      case 'a': {
        ASSIGN_OR_RETURN(const std::string text, Repr(runtime_, value));
        return PadText(text, spec);
      }
      case 'c': return ConvertCharacter(value, spec);
      case 'd':
      case 'i':
      case 'u':
      case 'o':
      case 'x':
      case 'X': return ConvertInt(value, spec);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        if (value.is_undefined()) return absl::InvalidArgumentError(value.undefined().message);
        if (!value.is_number()) return TypeError(StrCat("must be real number, not ", TypeName(value)));
        return FormatFloat(runtime_, value.number(), spec);
      }
      default: return ValueError(StrCat("unsupported format character '", std::string(1, spec.type), "'"));
    }
  }

  absl::StatusOr<std::string> PadText(std::string_view text, Spec spec) {
    if (spec.align == '\0') spec.align = '>';
    return FormatText(runtime_, text, spec);
  }

  absl::StatusOr<std::string> ConvertCharacter(const Value& value, Spec spec) {
    spec.precision = -1;
    if (value.is_string() && value.string().num_code_points == 1) return PadText(value.text(), spec);
    if (!value.is_integral()) return TypeError("%c requires int or char");
    const Int c = value.integer();
    if (c < 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return ValueError("%c arg not in range(0x110000)");
    std::string text;
    AppendUtf8(static_cast<uint32_t>(c), &text);
    return PadText(text, spec);
  }

  absl::StatusOr<std::string> ConvertInt(const Value& value, Spec spec) {
    if (value.is_undefined()) return absl::InvalidArgumentError(value.undefined().message);
    const bool is_decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
    if (spec.precision > kMaxPrecision) return ValueError("precision too big");
    if (value.is_integral()) return FormatInt(runtime_, value.integer(), spec);
    if (!value.is_float() || !is_decimal) {
      return TypeError(StrCat("%", std::string(1, spec.type), " format: ", is_decimal ? "a real number" : "an integer",
                              " is required, not ", TypeName(value)));
    }
    if (!(std::abs(value.number()) < 1e38)) return ValueError("cannot convert the float to an integer");
    return FormatInt(runtime_, static_cast<Int>(value.number()), spec);
  }

  Runtime& runtime_;
  const std::string_view format_;
  const Value& values_;
  size_t position_ = 0;
  size_t num_used_ = 0;
  std::optional<std::string> key_;
  std::string text_;
};

// ---- str.format

absl::StatusOr<Spec> ParseSpec(std::string_view text) {
  Spec spec;
  size_t position = 0;
  const auto peek = [&]() { return position < text.size() ? text[position] : '\0'; };
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  size_t after_fill = 0;
  if (!text.empty()) NextCodePoint(text, &after_fill);
  if (after_fill > 0 && after_fill < text.size() && is_align(text[after_fill])) {
    spec.fill = std::string(text.substr(0, after_fill));
    spec.align = text[after_fill];
    position = after_fill + 1;
  } else if (is_align(peek())) {
    spec.align = text[position++];
  }
  if (peek() == '+' || peek() == '-' || peek() == ' ') spec.sign = text[position++];
  if (peek() == '#') {
    spec.is_alternate = true;
    ++position;
  }
  if (peek() == '0') {
    spec.is_zero_padded = true;
    ++position;
  }
  spec.width = ReadNumber(text, &position);
  if (peek() == ',' || peek() == '_') spec.separator = text[position++];
  if (peek() == '.') {
    const size_t start = ++position;
    spec.precision = ReadNumber(text, &position);
    if (position == start) return ValueError("Format specifier missing precision");
  }
  if (position < text.size()) spec.type = text[position++];
  if (position < text.size()) return ValueError("Invalid format specifier");
  return spec;
}

absl::Status UnknownCode(const Spec& spec, const Value& value) {
  return ValueError(
      StrCat("Unknown format code '", std::string(1, spec.type), "' for object of type '", TypeName(value), "'"));
}

// format(value, text)
absl::StatusOr<std::string> FormatValue(Runtime& runtime, const Value& value, std::string_view text) {
  if (text.empty()) return Str(runtime, value);
  if (!value.is_number() && !value.is_string()) {
    return TypeError(StrCat("unsupported format string passed to ", TypeName(value), ".__format__"));
  }
  ASSIGN_OR_RETURN(Spec spec, ParseSpec(text));
  if (value.is_string()) {
    if (spec.type != '\0' && spec.type != 's') return UnknownCode(spec, value);
    if (spec.sign != '-') return ValueError("Sign not allowed in string format specifier");
    if (spec.align == '=') return ValueError("'=' alignment not allowed in string format specifier");
    if (spec.is_alternate) return ValueError("Alternate form (#) not allowed in string format specifier");
    if (spec.separator != '\0') return ValueError("Cannot specify ',' with 's'.");
    if (spec.is_zero_padded && spec.align == '\0') {
      spec.fill = "0";
      spec.align = '<';
    }
    return FormatText(runtime, value.text(), spec);
  }
  constexpr std::string_view kFloatTypes = "eEfFgG%";
  const bool is_float_type = spec.type != '\0' && kFloatTypes.find(spec.type) != kFloatTypes.npos;
  if (value.is_float() || is_float_type) {
    if (!is_float_type && spec.type != '\0' && spec.type != 'n') return UnknownCode(spec, value);
    return FormatFloat(runtime, value.number(), spec);
  }
  if (spec.type == 'c') {
    std::string character;
    const Int c = value.integer();
    if (c < 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return ValueError("%c arg not in range(0x110000)");
    AppendUtf8(static_cast<uint32_t>(c), &character);
    if (spec.align == '\0') spec.align = '>';
    return FormatText(runtime, character, spec);
  }
  if (spec.precision >= 0) return ValueError("Precision not allowed in integer format specifier");
  constexpr std::string_view kIntTypes = "bdoxXn";
  if (spec.type != '\0' && kIntTypes.find(spec.type) == kIntTypes.npos) return UnknownCode(spec, value);
  return FormatInt(runtime, value.integer(), spec);
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const CallArguments& arguments) : runtime_(runtime), arguments_(arguments) {}

  // `depth` counts fields inside the specifications of fields; Python allows two levels of specifications.
  absl::StatusOr<std::string> Run(std::string_view format, int depth) {
    if (depth > 3) return ValueError("Max string recursion exceeded");
    std::string text;
    for (size_t i = 0; i < format.size();) {
      const char c = format[i];
      if (c != '{' && c != '}') {
        text += c;
        ++i;
        continue;
      }
      if (i + 1 < format.size() && format[i + 1] == c) {
        text += c;
        i += 2;
        continue;
      }
      if (c == '}') return ValueError("Single '}' encountered in format string");
      ASSIGN_OR_RETURN(const size_t end, FieldEnd(format, i + 1));
      ASSIGN_OR_RETURN(const std::string part, Field(format.substr(i + 1, end - i - 1), depth));
      RETURN_IF_ERROR(runtime_.CanAllocate(static_cast<int64_t>(text.size() + part.size())));
      RETURN_IF_ERROR(runtime_.Spend(4));
      text += part;
      i = end + 1;
    }
    return text;
  }

 private:
  static absl::StatusOr<size_t> FieldEnd(std::string_view format, size_t start) {
    int open = 1;
    bool in_brackets = false;
    for (size_t i = start; i < format.size(); ++i) {
      if (format[i] == '[') in_brackets = true;
      if (format[i] == ']') in_brackets = false;
      if (in_brackets) continue;
      if (format[i] == '{') ++open;
      if (format[i] == '}' && --open == 0) return i;
    }
    return ValueError(start >= format.size() ? "Single '{' encountered in format string"
                                             : "expected '}' before end of string");
  }

  absl::StatusOr<std::string> Field(std::string_view field, int depth) {
    // name ! conversion : specification; the name may hold anything between brackets.
    size_t name_end = 0;
    for (bool in_brackets = false; name_end < field.size(); ++name_end) {
      const char c = field[name_end];
      if (c == '[') in_brackets = true;
      if (c == ']') in_brackets = false;
      if (!in_brackets && (c == '!' || c == ':')) break;
    }
    ASSIGN_OR_RETURN(Value value, Resolve(field.substr(0, name_end)));
    std::string_view rest = field.substr(name_end);
    if (rest.starts_with('!')) {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':')) {
        return ValueError("expected ':' after conversion specifier");
      }
      ASSIGN_OR_RETURN(value, Converted(value, rest[1]));
      rest.remove_prefix(2);
    }
    if (rest.starts_with(':')) rest.remove_prefix(1);
    ASSIGN_OR_RETURN(const std::string specification, Run(rest, depth + 1));
    return FormatValue(runtime_, value, specification);
  }

  absl::StatusOr<Value> Converted(const Value& value, char conversion) {
    if (conversion != 's' && conversion != 'r' && conversion != 'a') return ValueError("Unknown conversion specifier");
    ASSIGN_OR_RETURN(std::string text, conversion == 's' ? Str(runtime_, value) : Repr(runtime_, value));
    return runtime_.NewString(std::move(text));
  }

  absl::StatusOr<Value> First(std::string_view name) {
    const bool is_number = !name.empty() && name.find_first_not_of("0123456789") == name.npos;
    if (name.empty() || is_number) {
      if (uses_numbers_.has_value() && *uses_numbers_ != is_number) {
        return ValueError("cannot switch between manual field specification and automatic field numbering");
      }
      uses_numbers_ = is_number;
      size_t position = 0;
      const auto index = static_cast<size_t>(is_number ? ReadNumber(name, &position) : next_++);
      if (index < arguments_.positional.size()) return arguments_.positional[index];
      return absl::InvalidArgumentError("Replacement index out of range for positional args tuple");
    }
    RETURN_IF_ERROR(runtime_.Spend(static_cast<int64_t>(arguments_.keywords.size()) / 4));
    for (const auto& [other, value] : arguments_.keywords) {
      if (other == name) return value;
    }
    return absl::InvalidArgumentError(ReprOfString(name));
  }

  // first(.attribute | [index])*
  absl::StatusOr<Value> Resolve(std::string_view name) {
    const size_t first_end = std::min(name.find_first_of(".["), name.size());
    ASSIGN_OR_RETURN(Value value, First(name.substr(0, first_end)));
    for (size_t i = first_end; i < name.size();) {
      if (name[i] == '.') {
        const size_t end = std::min(name.find_first_of(".[", i + 1), name.size());
        if (end == i + 1) return ValueError("Empty attribute in format string");
        ASSIGN_OR_RETURN(value, GetAttribute(runtime_, value, name.substr(i + 1, end - i - 1)));
        i = end;
        continue;
      }
      if (name[i] != '[') return ValueError("Only '.' or '[' may follow ']' in format field specifier");
      const size_t end = name.find(']', i);
      if (end == name.npos) return ValueError("Missing ']' in format string");
      const std::string_view key = name.substr(i + 1, end - i - 1);
      if (key.empty()) return ValueError("Empty attribute in format string");
      size_t position = 0;
      const bool is_number = key.find_first_not_of("0123456789") == key.npos;
      const Value index = is_number ? Value::Integer(ReadNumber(key, &position)) : Value::Constant(std::string(key));
      ASSIGN_OR_RETURN(value, GetItem(runtime_, value, index));
      i = end + 1;
    }
    return value;
  }

  Runtime& runtime_;
  const CallArguments& arguments_;
  std::optional<bool> uses_numbers_;
  int64_t next_ = 0;
};

}  // namespace

absl::StatusOr<std::string> PercentFormat(Runtime& runtime, std::string_view format, const Value& values) {
  RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(format.size())));
  return PercentFormatter(runtime, format, values).Run();
}

absl::StatusOr<std::string> BraceFormat(Runtime& runtime, std::string_view format, const CallArguments& arguments) {
  RETURN_IF_ERROR(runtime.Spend(1 + static_cast<int64_t>(format.size()) / 8));
  return BraceFormatter(runtime, arguments).Run(format, 1);
}

}  // namespace expertd::jinja
