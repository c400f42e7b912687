// Text in code points: the parts of Python's str that look at characters. Template strings are valid UTF-8 throughout;
// these functions decode, classify and map them as Python 3 does (full case mappings, Unicode white space).
// All functions are pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace expertd::jinja {

// True when `text` is well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF).
bool IsValidUtf8(std::string_view text);

// Number of code points of valid UTF-8.
int64_t CountCodePoints(std::string_view text);

// The code point that starts at byte `*offset` (which must be a boundary inside `text`); advances `*offset` past it.
uint32_t NextCodePoint(std::string_view text, size_t* offset);

// The byte offset of code point number `index` (clamped to the end).
size_t OffsetOfCodePoint(std::string_view text, int64_t index);

// text.find(needle, from) and text.rfind(needle) in time that grows with the sum of the sizes, not with their product.
size_t FindText(std::string_view text, std::string_view needle, size_t from = 0);
size_t FindLastText(std::string_view text, std::string_view needle);

// Appends the UTF-8 form of a code point that is not a surrogate.
void AppendUtf8(uint32_t code_point, std::string* text);

enum class CharClass {
  kAlpha,
  kDecimal,
  kDigit,
  kNumeric,
  kSpace,
  kUnprintable,
  kLower,
  kUpper,
  kTitle,
  kIdentifierStart,
  kIdentifierContinue,
};

bool HasClass(uint32_t code_point, CharClass char_class);

inline bool IsSpace(uint32_t c) {
  return c < 0x80 ? c == ' ' || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f) : HasClass(c, CharClass::kSpace);
}
inline bool IsAlnum(uint32_t c) {
  return HasClass(c, CharClass::kAlpha) || HasClass(c, CharClass::kDecimal) || HasClass(c, CharClass::kDigit) ||
         HasClass(c, CharClass::kNumeric);
}
inline bool IsCased(uint32_t c) {
  return HasClass(c, CharClass::kLower) || HasClass(c, CharClass::kUpper) || HasClass(c, CharClass::kTitle);
}

enum class CaseMapping { kLower, kUpper, kTitle, kFolded };

// Appends the full mapping of one character (ß -> SS), without regard to its neighbours.
void AppendMapped(uint32_t code_point, CaseMapping mapping, std::string* text);

// str.lower(), str.upper(), str.casefold(), str.title(), str.capitalize(), str.swapcase(). A capital sigma that ends a
// word becomes a final sigma.
std::string MapCase(std::string_view text, CaseMapping mapping);
std::string TitleCase(std::string_view text);
std::string Capitalize(std::string_view text);
std::string SwapCase(std::string_view text);

// str.strip() and its one-sided forms: removes white space, or the characters of `chars`.
enum class StripSides { kLeft, kRight, kBoth };
std::string_view StripSpace(std::string_view text, StripSides sides);
std::string_view StripChars(std::string_view text, std::string_view chars, StripSides sides);

}  // namespace expertd::jinja
