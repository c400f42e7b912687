// Numbers written as text, as Python's int() and float() read them. Used by the filters of those names and the lexer.
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

// The digits of a number of `base` (2..36) without sign and prefix; nothing when they are malformed or too many.
std::optional<Int> ParseDigits(std::string_view digits, int base, bool is_negative) {
  Int value = 0;
  bool after_digit = false;
  for (const char c : digits) {
    if (c == '_' && after_digit) {
      after_digit = false;
      continue;
    }
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 10
                      : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                             : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value)) return std::nullopt;
    if (__builtin_add_overflow(value, static_cast<Int>(is_negative ? -digit : digit), &value)) return std::nullopt;
    after_digit = true;
  }
  return after_digit ? std::optional(value) : std::nullopt;
}

}  // namespace

std::optional<Int> ParseInt(std::string_view text, int base) {
  text = StripSpace(text, StripSides::kBoth);
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char letter = static_cast<char>(text[1] | 0x20);
    const int prefix_base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (prefix_base != 0 && (base == 0 || base == prefix_base)) {
      base = prefix_base;
      text.remove_prefix(text[2] == '_' ? 3 : 2);
    }
  }
  if (base == 0) {
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != text.npos) return std::nullopt;
    base = 10;
  }
  return ParseDigits(text, base, is_negative);
}

std::optional<double> ParseFloat(std::string_view text) {
  text = StripSpace(text, StripSides::kBoth);
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto is_digit = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
    if (c == '_') {
      if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
      continue;
    }
    digits += static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
  }
  std::string_view unsigned_digits = digits;
  if (unsigned_digits.starts_with('-') || unsigned_digits.starts_with('+')) unsigned_digits.remove_prefix(1);
  const bool is_word = unsigned_digits == "inf" || unsigned_digits == "infinity" || unsigned_digits == "nan";
  if (!is_word &&
      (unsigned_digits.empty() || unsigned_digits.find_first_not_of("0123456789.e+-") != unsigned_digits.npos)) {
    return std::nullopt;
  }
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  if (end != digits.c_str() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace expertd::jinja
