#include "engine/structured/utf8_ranges.h"

namespace expertd {
namespace {

constexpr uint32_t kLastOfSize[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};

int SizeOf(uint32_t code_point) {
  int size = 1;
  while (code_point > kLastOfSize[size - 1]) ++size;
  return size;
}

void Encode(uint32_t code_point, int size, uint8_t* bytes) {
  constexpr uint8_t kLead[] = {0x00, 0xC0, 0xE0, 0xF0};
  for (int i = size - 1; i > 0; --i) {
    bytes[i] = static_cast<uint8_t>(0x80 | (code_point & 0x3F));
    code_point >>= 6;
  }
  bytes[0] = static_cast<uint8_t>(kLead[size - 1] | code_point);
}

}  // namespace

std::vector<Utf8Range> SplitUtf8(const CodePointRange& range) {
  std::vector<Utf8Range> result;
  std::vector<CodePointRange> open = {range};
  while (!open.empty()) {
    CodePointRange part = open.back();
    open.pop_back();
    const int size = SizeOf(part.first);
    const auto cut_behind = [&](uint32_t last) {
      open.push_back({last + 1, part.last});
      part.last = last;
    };
    if (part.last > kLastOfSize[size - 1]) cut_behind(kLastOfSize[size - 1]);
    // Trailing bytes behind one that varies must have their whole range.
    for (int i = 1; i < size; ++i) {
      const uint32_t low_bits = (uint32_t{1} << (6 * i)) - 1;
      if ((part.first & ~low_bits) == (part.last & ~low_bits)) continue;
      if ((part.first & low_bits) != 0) cut_behind(part.first | low_bits);
      else if ((part.last & low_bits) != low_bits) cut_behind((part.last & ~low_bits) - 1);
    }
    Utf8Range bytes{.size = size, .bytes = {}};
    uint8_t first[4], last[4];
    Encode(part.first, size, first);
    Encode(part.last, size, last);
    for (int i = 0; i < size; ++i) bytes.bytes[static_cast<size_t>(i)] = {first[i], last[i]};
    result.push_back(bytes);
  }
  return result;
}

}  // namespace expertd
