#include "engine/base/utf8.h"

#include <cstdint>
#include <cstring>

namespace expertd {
namespace {

uint8_t Byte(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

// Length of the character that a lead byte announces and the range of its second byte; 0 for bytes that lead nothing.
struct LeadByte {
  int num_bytes;
  uint8_t second_low;
  uint8_t second_high;
};

LeadByte ClassifyLead(uint8_t lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead < 0xF0) {
    if (lead == 0xE0) return {3, 0xA0, 0xBF};
    if (lead == 0xED) return {3, 0x80, 0x9F};  // no surrogates
    return {3, 0x80, 0xBF};
  }
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

size_t SkipAscii(std::string_view text, size_t begin) {
  size_t i = begin;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (i < text.size() && Byte(text, i) < 0x80) ++i;
  return i;
}

Utf8Scan ScanUtf8(std::string_view bytes) {
  const LeadByte lead = ClassifyLead(Byte(bytes, 0));
  if (lead.num_bytes == 1) return {Utf8Scan::Kind::kComplete, 1};
  if (lead.num_bytes == 0) return {Utf8Scan::Kind::kInvalid, 1};
  for (int i = 1; i < lead.num_bytes; ++i) {
    if (static_cast<size_t>(i) == bytes.size()) return {Utf8Scan::Kind::kIncomplete, i};
    const uint8_t low = i == 1 ? lead.second_low : 0x80, high = i == 1 ? lead.second_high : 0xBF;
    if (Byte(bytes, i) < low || Byte(bytes, i) > high) return {Utf8Scan::Kind::kInvalid, i};
  }
  return {Utf8Scan::Kind::kComplete, lead.num_bytes};
}

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  for (size_t i = SkipAscii(text, 0); i < text.size(); i = SkipAscii(text, i)) {
    const Utf8Scan scan = ScanUtf8(text.substr(i, 4));
    if (scan.kind != Utf8Scan::Kind::kComplete) return i;
    i += scan.num_bytes;
  }
  return std::nullopt;
}

}  // namespace expertd
