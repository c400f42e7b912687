// Text under rewriting (normalization, dummy spaces) that remembers which bytes of the original text each of its bytes
// stands for. The memory costs 8 bytes a byte, so it is kept only when offsets are asked for and something changed. The
// rules come with the model and may be hostile, so how far a text may grow is bounded. Used by normalizers and
// pre-tokenizers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/tokenizer.h"

namespace expertd {

// Not thread-safe. Texts are at most kMaxBytes long.
class AlignedText {
 public:
  // A rewritten text is at most this many times as long as the original, plus a constant for what rules put round short
  // texts. The longest that honest rules go is 13 times (NFKC of U+FDFA, its blanks as U+2581).
  static constexpr size_t kMaxGrowth = 16;
  static constexpr size_t kMaxExtraBytes = 4096;
  static constexpr size_t kMaxBytes = size_t{1} << 30;  // so that offsets fit 32 bits with room for sums

  // `original`, which must outlive this object, begins at byte `origin` of the whole text. Without `keep_offsets`,
  // OriginalRange is meaningless after a rewrite.
  AlignedText(std::string_view original, size_t origin, bool keep_offsets)
      : original_(original), origin_(origin), keep_offsets_(keep_offsets) {}

  std::string_view text() const { return is_rewritten_ ? std::string_view(rewritten_) : original_; }

  // Bytes of the whole original text that [begin, end) of text() stands for.
  ByteRange OriginalRange(size_t begin, size_t end) const;

  // Makes the next version of a text from left to right: each byte of the source is kept, replaced or left out.
  class Rewriter {
   public:
    explicit Rewriter(const AlignedText& source) : source_(source) {}  // `source` must outlive it

    void Keep(size_t begin, size_t end);
    // All of `replacement` stands for the source's [begin, end); begin == end inserts.
    void Replace(size_t begin, size_t end, std::string_view replacement);
    size_t size() const { return size_; }
    // Error: InvalidArgument when the text has grown beyond what is allowed, of which nothing was kept.
    absl::StatusOr<AlignedText> Finish() &&;

   private:
    bool Grow(size_t num_bytes);

    const AlignedText& source_;
    size_t size_ = 0;  // of what was asked for; text_ stops at the bound
    std::string text_;
    std::vector<uint32_t> begins_, ends_;
  };

 private:
  size_t max_bytes() const { return std::min(original_.size() * kMaxGrowth + kMaxExtraBytes, kMaxBytes); }

  std::string_view original_;
  size_t origin_;
  bool keep_offsets_;
  bool is_rewritten_ = false;
  std::string rewritten_;
  std::vector<uint32_t> begins_, ends_;  // per byte of rewritten_, its range in the whole text
};

}  // namespace expertd
