// How values read as text: Python's repr() and str().
#include <algorithm>
#include <charconv>
#include <cmath>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/runtime.h"
#include "engine/text/jinja/unicode.h"
#include "engine/text/jinja/value.h"

namespace expertd::jinja {
namespace {

constexpr size_t kLargeTextBytes = size_t{1} << 20;

class ReprWriter {
 public:
  explicit ReprWriter(Runtime& runtime) : runtime_(runtime) {}

  absl::Status Write(const Value& value) {
    RETURN_IF_ERROR(runtime_.Spend(1));
    RETURN_IF_ERROR(runtime_.CanAllocate(static_cast<int64_t>(text_.size())));
    switch (value.type()) {
      case Value::Type::kMissing:
      case Value::Type::kUndefined: text_ += "Undefined"; return absl::OkStatus();
      case Value::Type::kNone: text_ += "None"; return absl::OkStatus();
      case Value::Type::kBool: text_ += value.boolean() ? "True" : "False"; return absl::OkStatus();
      case Value::Type::kInt: text_ += ReprOfInt(value.integer()); return absl::OkStatus();
      case Value::Type::kFloat: text_ += ReprOfFloat(value.number()); return absl::OkStatus();
      case Value::Type::kString: return WriteString(value.string());
      case Value::Type::kList: return WriteItems(value.items(), '[', ']');
      case Value::Type::kTuple: return WriteItems(value.items(), '(', ')');
      case Value::Type::kDict: return WriteDict(value.dict());
      case Value::Type::kObject: return WriteObject(value.object());
    }
    return absl::OkStatus();
  }

  std::string Take() && { return std::move(text_); }

 private:
  absl::Status WriteString(const StringObject& string) {
    RETURN_IF_ERROR(runtime_.Spend(static_cast<int64_t>(string.text.size()) / 8));
    // A character takes at most four times its bytes.
    if (string.text.size() > kLargeTextBytes) {
      RETURN_IF_ERROR(runtime_.CanAllocate(4 * static_cast<int64_t>(string.text.size())));
    }
    if (string.is_markup) text_ += "Markup(";
    text_ += ReprOfString(string.text);
    if (string.is_markup) text_ += ')';
    return absl::OkStatus();
  }

  absl::Status WriteItems(const std::vector<Value>& items, char open, char close) {
    Level level(runtime_);
    RETURN_IF_ERROR(level.status());
    text_ += open;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text_ += ", ";
      RETURN_IF_ERROR(Write(items[i]));
    }
    if (open == '(' && items.size() == 1) text_ += ',';
    text_ += close;
    return absl::OkStatus();
  }

  absl::Status WriteDict(const DictObject& dict) {
    Level level(runtime_);
    RETURN_IF_ERROR(level.status());
    text_ += '{';
    bool is_first = true;
    for (const auto& [key, value] : dict.entries) {
      if (!is_first) text_ += ", ";
      is_first = false;
      RETURN_IF_ERROR(Write(key));
      text_ += ": ";
      RETURN_IF_ERROR(Write(value));
    }
    text_ += '}';
    return absl::OkStatus();
  }

  absl::Status WriteObject(Object& object) {
    Level level(runtime_);
    RETURN_IF_ERROR(level.status());
    ASSIGN_OR_RETURN(const std::string repr, object.Repr(runtime_));
    text_ += repr;
    return absl::OkStatus();
  }

  Runtime& runtime_;
  std::string text_;
};

}  // namespace

std::string ReprOfInt(Int value) {
  if (value == 0) return "0";
  // Digits are taken from the negative number, because the most negative one has no positive counterpart.
  const bool is_negative = value < 0;
  Int rest = is_negative ? value : -value;
  std::string digits;
  for (; rest != 0; rest /= 10) digits += static_cast<char>('0' - static_cast<int>(rest % 10));
  if (is_negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

// The shortest digits that read back as the same double; an exponent below 1e-4 and from 1e16 on, as Python writes it.
std::string ReprOfFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent < -4 || exponent >= 16) return std::string(text);
  std::string digits;
  for (char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  std::string result = value < 0 || std::signbit(value) ? "-" : "";
  if (exponent < 0) {
    result += "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
    return result;
  }
  const auto num_whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= num_whole) return result + digits + std::string(num_whole - digits.size(), '0') + ".0";
  return result + digits.substr(0, num_whole) + "." + digits.substr(num_whole);
}

std::string ReprOfString(std::string_view text) {
  const bool use_double = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = use_double ? '"' : '\'';
  std::string result(1, quote);
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    const uint32_t c = NextCodePoint(text, &offset);
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      result += '\\';
      result += static_cast<char>(c);
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\r') {
      result += "\\r";
    } else if (c == '\t') {
      result += "\\t";
    } else if (c < 0x20 || c == 0x7f || (c > 0x7f && HasClass(c, CharClass::kUnprintable))) {
      result += c <= 0xff     ? absl::StrFormat("\\x%02x", c)
                : c <= 0xffff ? absl::StrFormat("\\u%04x", c)
                              : absl::StrFormat("\\U%08x", c);
    } else {
      result.append(text.substr(start, offset - start));
    }
  }
  return result += quote;
}

absl::StatusOr<std::string> Repr(Runtime& runtime, const Value& value) {
  ReprWriter writer(runtime);
  RETURN_IF_ERROR(writer.Write(value));
  return std::move(writer).Take();
}

absl::StatusOr<std::string> Str(Runtime& runtime, const Value& value) {
  if (value.is_string()) {
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(value.text().size())));
    return value.text();
  }
  if (value.is_undefined()) return std::string();
  return Repr(runtime, value);
}

}  // namespace expertd::jinja
