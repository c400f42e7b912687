#include "engine/structured/pattern_reader.h"

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/base/utf8.h"

namespace expertd {
namespace {

const std::vector<CodePointRange> kDigits = {{'0', '9'}};
const std::vector<CodePointRange> kWordCharacters = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
// What everybody takes for a space, and what some do: Unicode's are \s to ECMAScript and Python, and each has its own.
const std::vector<CodePointRange> kSpaces = {{'\t', '\r'}, {' ', ' '}};
const std::vector<CodePointRange> kAllSpaces = {
    {'\t', '\r'},     {0x1C, ' '},      {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
    {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};

CharacterClass One(uint32_t character) { return {.ranges = {{character, character}}}; }

bool IsLetterOrDigit(uint32_t c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'); }

std::optional<uint32_t> HexDigit(char c) {
  if (c >= '0' && c <= '9') return static_cast<uint32_t>(c - '0');
  const char lower = static_cast<char>(c | 0x20);
  if (lower >= 'a' && lower <= 'f') return static_cast<uint32_t>(lower - 'a' + 10);
  return std::nullopt;
}

}  // namespace

absl::Status PatternReader::ErrorAt(size_t offset, std::string_view message) {
  return absl::InvalidArgumentError(StrCat("at byte ", offset, ": ", message));
}

bool PatternReader::Take(std::string_view text) {
  if (!LooksAt(text)) return false;
  offset_ += text.size();
  return true;
}

uint32_t PatternReader::TakeCharacter() {
  const int size = ScanUtf8(rest()).num_bytes;
  uint32_t character = static_cast<uint8_t>(text_[offset_]);
  if (size > 1) character &= 0xFFu >> (size + 1);
  for (int i = 1; i < size; ++i) {
    character = (character << 6) | (static_cast<uint8_t>(text_[offset_ + static_cast<size_t>(i)]) & 0x3F);
  }
  offset_ += static_cast<size_t>(size);
  return character;
}

absl::StatusOr<uint32_t> PatternReader::ReadHex(size_t num_digits) {
  uint32_t value = 0;
  for (size_t i = 0; i < num_digits; ++i) {
    const std::optional<uint32_t> digit = at_end() ? std::nullopt : HexDigit(text_[offset_]);
    if (!digit.has_value()) return Error(StrCat("an escape needs ", num_digits, " hexadecimal digits"));
    value = value * 16 + *digit;
    ++offset_;
  }
  if (value > Grammar::kMaxCodePoint) return Error("an escape is beyond U+10FFFF");
  return value;
}

absl::StatusOr<CharacterClass> PatternReader::ReadEscape(bool is_negated) {
  if (at_end()) return Error("a backslash stands at the end");
  const size_t begin = offset_;
  const uint32_t c = TakeCharacter();
  switch (c) {
    case 'n': return One('\n');
    case 'r': return One('\r');
    case 't': return One('\t');
    case 'f': return One('\f');
    case 'v': return One('\v');
    case 'd': return CharacterClass{.ranges = kDigits};
    case 'D': return CharacterClass{.ranges = kDigits, .is_negated = true};
    case 'w': return CharacterClass{.ranges = kWordCharacters};
    case 'W': return CharacterClass{.ranges = kWordCharacters, .is_negated = true};
    case 's': return CharacterClass{.ranges = is_negated ? kAllSpaces : kSpaces};
    case 'S': return CharacterClass{.ranges = is_negated ? kSpaces : kAllSpaces, .is_negated = true};
    case '0':
      if (!at_end() && text_[offset_] >= '0' && text_[offset_] <= '9') break;
      return One(0);
    case 'x': {
      ASSIGN_OR_RETURN(const uint32_t character, ReadHex(2));
      return One(character);
    }
    case 'U': {
      ASSIGN_OR_RETURN(const uint32_t character, ReadHex(8));
      return One(character);
    }
    case 'u': {
      if (!Take("{")) {
        ASSIGN_OR_RETURN(const uint32_t character, ReadHex(4));
        return One(character);
      }
      const size_t end = rest().find('}');
      if (end == std::string_view::npos || end < 1 || end > 6) return Error("\\u{ needs 1 to 6 digits and a }");
      ASSIGN_OR_RETURN(const uint32_t character, ReadHex(end));
      Skip(1);
      return One(character);
    }
    default:
      if (!IsLetterOrDigit(c)) return One(c);
  }
  if (c >= '1' && c <= '9') return ErrorAt(begin, "back references are not supported");
  return ErrorAt(begin, StrCat("the escape \\", text_.substr(begin, offset_ - begin), " is not supported"));
}

absl::StatusOr<CharacterClass> PatternReader::ReadClass() {
  const size_t begin = offset_;
  CharacterClass result{.is_negated = Take("^")};
  // Adds what a class within the class has.
  const auto add = [&](const CharacterClass& part) {
    if (!part.is_negated) return result.ranges.insert(result.ranges.end(), part.ranges.begin(), part.ranges.end());
    uint32_t next = 0;
    for (const CodePointRange& range : part.ranges) {  // these are sorted
      result.ranges.push_back({next, range.first - 1});
      next = range.last + 1;
    }
    return result.ranges.insert(result.ranges.end(), {next, Grammar::kMaxCodePoint});
  };
  const auto read_member = [&]() -> absl::StatusOr<CharacterClass> {
    if (Take("\\")) {
      if (Take("b")) return One('\b');
      return ReadEscape(result.is_negated);
    }
    return One(TakeCharacter());
  };
  if (LooksAt("]")) return ErrorAt(begin, "a class is empty; write \\] for a bracket");
  while (!Take("]")) {
    if (at_end()) return ErrorAt(begin, "a class has no closing ]");
    if (LooksAt("[:")) return Error("named classes such as [:alpha:] are not supported");
    ASSIGN_OR_RETURN(CharacterClass member, read_member());
    const bool is_range = LooksAt("-") && !rest().substr(1).starts_with("]") && rest().size() > 1;
    if (!is_range) {
      add(member);
      continue;
    }
    const size_t dash = offset_;
    Skip(1);
    ASSIGN_OR_RETURN(const CharacterClass last, read_member());
    const auto is_one = [](const CharacterClass& part) {
      return !part.is_negated && part.ranges.size() == 1 && part.ranges[0].first == part.ranges[0].last;
    };
    if (!is_one(member) || !is_one(last)) return ErrorAt(dash, "a range needs one character on each side");
    if (last.ranges[0].first < member.ranges[0].first) return ErrorAt(dash, "a range ends before it begins");
    add({.ranges = {{member.ranges[0].first, last.ranges[0].first}}});
  }
  return result;
}

absl::StatusOr<int> PatternReader::ReadCount() {
  const size_t begin = offset_;
  int64_t count = 0;
  while (!at_end() && text_[offset_] >= '0' && text_[offset_] <= '9') {
    count = count * 10 + (text_[offset_++] - '0');
    if (count > kMaxCount) return ErrorAt(begin, StrCat("a count is above ", kMaxCount));
  }
  if (offset_ == begin) return Error("a count is missing");
  return static_cast<int>(count);
}

absl::StatusOr<std::optional<Repetition>> PatternReader::ReadRepetition() {
  if (Take("*")) return Repetition{0, Grammar::kUnbounded};
  if (Take("+")) return Repetition{1, Grammar::kUnbounded};
  if (Take("?")) return Repetition{0, 1};
  const size_t begin = offset_;
  if (!Take("{")) return std::nullopt;
  Repetition repetition{0, 0};
  if (!LooksAt(",")) {
    ASSIGN_OR_RETURN(repetition.minimum, ReadCount());
  }
  repetition.maximum = repetition.minimum;
  if (Take(",")) {
    repetition.maximum = Grammar::kUnbounded;
    if (!LooksAt("}")) {
      ASSIGN_OR_RETURN(repetition.maximum, ReadCount());
      if (repetition.maximum < repetition.minimum) return ErrorAt(begin, "a repetition's counts are out of order");
    }
  }
  if (!Take("}")) return Error("a repetition has no closing }");
  return repetition;
}

}  // namespace expertd
