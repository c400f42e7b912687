#include "engine/text/jinja/unicode.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <span>

#include "engine/text/jinja/unicode_tables.h"

namespace expertd::jinja {
namespace {

bool IsContinuation(unsigned char byte) { return (byte & 0xc0) == 0x80; }

// Length of the well-formed sequence at the front of `text`, or 0.
size_t SequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (!IsContinuation(byte(i))) return 0;
  }
  if (lead == 0xe0 && byte(1) < 0xa0) return 0;
  if (lead == 0xed && byte(1) > 0x9f) return 0;
  if (lead == 0xf0 && byte(1) < 0x90) return 0;
  if (lead == 0xf4 && byte(1) > 0x8f) return 0;
  return length;
}

bool InRuns(std::span<const UnicodeRun> runs, uint32_t c) {
  const auto after = std::upper_bound(runs.begin(), runs.end(), c,
                                      [](uint32_t value, const UnicodeRun& run) { return value < run.first; });
  if (after == runs.begin()) return false;
  const UnicodeRun& run = *std::prev(after);
  return c <= run.last && (c - run.first) % run.stride == 0;
}

std::span<const UnicodeRun> RunsOf(CharClass char_class) {
  switch (char_class) {
    case CharClass::kAlpha: return kAlpha;
    case CharClass::kDecimal: return kDecimal;
    case CharClass::kDigit: return kDigit;
    case CharClass::kNumeric: return kNumeric;
    case CharClass::kSpace: return kSpace;
    case CharClass::kUnprintable: return kUnprintable;
    case CharClass::kLower: return kLower;
    case CharClass::kUpper: return kUpper;
    case CharClass::kTitle: return kTitle;
    case CharClass::kIdentifierStart: return kIdentifierStart;
    case CharClass::kIdentifierContinue: return kIdentifierContinue;
  }
  return {};
}

struct CaseTable {
  std::span<const UnicodeCaseRun> runs;
  std::span<const UnicodeCaseSpecial> special;
};

CaseTable TableOf(CaseMapping mapping) {
  switch (mapping) {
    case CaseMapping::kLower: return {kToLower, kToLowerSpecial};
    case CaseMapping::kUpper: return {kToUpper, kToUpperSpecial};
    case CaseMapping::kTitle: return {kToTitle, kToTitleSpecial};
    case CaseMapping::kFolded: return {kToFolded, kToFoldedSpecial};
  }
  return {};
}

constexpr uint32_t kCapitalSigma = 0x3a3;
constexpr uint32_t kFinalSigma = 0x3c2;

// The rows of a case table may interleave (stride 2), so the few rows that start at or before `c` are tried backwards.
bool AppendSimple(std::span<const UnicodeCaseRun> runs, uint32_t c, std::string* text) {
  auto row = std::upper_bound(runs.begin(), runs.end(), c,
                              [](uint32_t value, const UnicodeCaseRun& run) { return value < run.first; });
  for (int tries = 0; row != runs.begin() && tries < 4; ++tries) {
    --row;
    if (c <= row->last && (c - row->first) % row->stride == 0) {
      AppendUtf8(static_cast<uint32_t>(static_cast<int64_t>(c) + row->delta), text);
      return true;
    }
  }
  return false;
}

// A capital sigma is final when a cased letter precedes it and none follows.
bool IsFinalSigma(std::string_view text, size_t start, size_t end) {
  if (end < text.size()) {
    size_t next = end;
    if (IsCased(NextCodePoint(text, &next))) return false;
  }
  if (start == 0) return false;
  size_t before = start - 1;
  while (before > 0 && IsContinuation(static_cast<unsigned char>(text[before]))) --before;
  return IsCased(NextCodePoint(text, &before));
}

void AppendLowerInContext(std::string_view text, size_t start, size_t end, uint32_t c, std::string* mapped) {
  if (c == kCapitalSigma && IsFinalSigma(text, start, end)) {
    AppendUtf8(kFinalSigma, mapped);
  } else {
    AppendMapped(c, CaseMapping::kLower, mapped);
  }
}

template <typename Drop>
std::string_view StripWhere(std::string_view text, StripSides sides, Drop drop) {
  if (sides != StripSides::kRight) {
    while (!text.empty()) {
      size_t offset = 0;
      if (!drop(NextCodePoint(text, &offset))) break;
      text.remove_prefix(offset);
    }
  }
  if (sides != StripSides::kLeft) {
    while (!text.empty()) {
      size_t start = text.size() - 1;
      while (start > 0 && IsContinuation(static_cast<unsigned char>(text[start]))) --start;
      size_t offset = start;
      if (!drop(NextCodePoint(text, &offset))) break;
      text = text.substr(0, start);
    }
  }
  return text;
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

int64_t CountCodePoints(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return !IsContinuation(static_cast<unsigned char>(c)); });
}

uint32_t NextCodePoint(std::string_view text, size_t* offset) {
  const auto byte = [&](size_t i) -> uint32_t { return static_cast<unsigned char>(text[*offset + i]); };
  const uint32_t lead = byte(0);
  uint32_t c = lead;
  size_t length = 1;
  if (lead >= 0xf0) {
    length = 4;
    c = (lead & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f);
  } else if (lead >= 0xe0) {
    length = 3;
    c = (lead & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
  } else if (lead >= 0xc0) {
    length = 2;
    c = (lead & 0x1f) << 6 | (byte(1) & 0x3f);
  }
  *offset += length;
  return c;
}

size_t OffsetOfCodePoint(std::string_view text, int64_t index) {
  size_t offset = 0;
  while (index > 0 && offset < text.size()) {
    ++offset;
    while (offset < text.size() && IsContinuation(static_cast<unsigned char>(text[offset]))) ++offset;
    --index;
  }
  return offset;
}

size_t FindText(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return text.npos;
  // The C library's search is the two-way algorithm.
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return found == nullptr ? text.npos : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t FindLastText(std::string_view text, std::string_view needle) {
  constexpr size_t kShortNeedleBytes = 16;
  if (needle.size() <= kShortNeedleBytes) return text.rfind(needle);
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const size_t found = FindText(reversed_text, reversed_needle);
  return found == text.npos ? text.npos : text.size() - found - needle.size();
}

void AppendUtf8(uint32_t c, std::string* text) {
  if (c < 0x80) {
    text->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    text->push_back(static_cast<char>(0xc0 | c >> 6));
    text->push_back(static_cast<char>(0x80 | (c & 0x3f)));
  } else if (c < 0x10000) {
    text->push_back(static_cast<char>(0xe0 | c >> 12));
    text->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3f)));
    text->push_back(static_cast<char>(0x80 | (c & 0x3f)));
  } else {
    text->push_back(static_cast<char>(0xf0 | c >> 18));
    text->push_back(static_cast<char>(0x80 | (c >> 12 & 0x3f)));
    text->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3f)));
    text->push_back(static_cast<char>(0x80 | (c & 0x3f)));
  }
}

bool HasClass(uint32_t code_point, CharClass char_class) { return InRuns(RunsOf(char_class), code_point); }

void AppendMapped(uint32_t c, CaseMapping mapping, std::string* text) {
  const CaseTable table = TableOf(mapping);
  const auto special = std::lower_bound(table.special.begin(), table.special.end(), c,
                                        [](const UnicodeCaseSpecial& row, uint32_t v) { return row.code_point < v; });
  if (special != table.special.end() && special->code_point == c) {
    for (uint32_t mapped : special->mapped) {
      if (mapped != 0) AppendUtf8(mapped, text);
    }
    return;
  }
  if (!AppendSimple(table.runs, c, text)) AppendUtf8(c, text);
}

std::string MapCase(std::string_view text, CaseMapping mapping) {
  std::string mapped;
  mapped.reserve(text.size());
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    const uint32_t c = NextCodePoint(text, &offset);
    if (mapping == CaseMapping::kLower) {
      AppendLowerInContext(text, start, offset, c, &mapped);
    } else {
      AppendMapped(c, mapping, &mapped);
    }
  }
  return mapped;
}

std::string TitleCase(std::string_view text) {
  std::string mapped;
  bool previous_is_cased = false;
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    const uint32_t c = NextCodePoint(text, &offset);
    if (previous_is_cased) {
      AppendLowerInContext(text, start, offset, c, &mapped);
    } else {
      AppendMapped(c, CaseMapping::kTitle, &mapped);
    }
    previous_is_cased = IsCased(c);
  }
  return mapped;
}

std::string Capitalize(std::string_view text) {
  std::string mapped;
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    const uint32_t c = NextCodePoint(text, &offset);
    if (start == 0) {
      AppendMapped(c, CaseMapping::kTitle, &mapped);
    } else {
      AppendLowerInContext(text, start, offset, c, &mapped);
    }
  }
  return mapped;
}

std::string SwapCase(std::string_view text) {
  std::string mapped;
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    const uint32_t c = NextCodePoint(text, &offset);
    if (HasClass(c, CharClass::kUpper)) {
      AppendLowerInContext(text, start, offset, c, &mapped);
    } else if (HasClass(c, CharClass::kLower)) {
      AppendMapped(c, CaseMapping::kUpper, &mapped);
    } else {
      AppendUtf8(c, &mapped);
    }
  }
  return mapped;
}

std::string_view StripSpace(std::string_view text, StripSides sides) {
  return StripWhere(text, sides, [](uint32_t c) { return IsSpace(c); });
}

std::string_view StripChars(std::string_view text, std::string_view chars, StripSides sides) {
  return StripWhere(text, sides, [chars](uint32_t c) {
    for (size_t offset = 0; offset < chars.size();) {
      if (NextCodePoint(chars, &offset) == c) return true;
    }
    return false;
  });
}

}  // namespace expertd::jinja
