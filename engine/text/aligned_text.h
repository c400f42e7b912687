// Text under rewriting (normalization, dummy spaces) that remembers which bytes of the original text each of its bytes
// stands for. The memory costs 8 bytes a byte, so it is kept only when offsets are asked for and something changed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"

namespace expertd {

// Not thread-safe. Texts are shorter than 4 GiB.
class AlignedText {
 public:
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
    explicit Rewriter(const AlignedText& source) : source_(source) {}

    void Keep(size_t begin, size_t end);
    // All of `replacement` stands for the source's [begin, end); begin == end inserts.
    void Replace(size_t begin, size_t end, std::string_view replacement);
    size_t size() const { return text_.size(); }
    AlignedText Finish() &&;

   private:
    const AlignedText& source_;
    std::string text_;
    std::vector<uint32_t> begins_, ends_;
  };

 private:
  std::string_view original_;
  size_t origin_;
  bool keep_offsets_;
  bool is_rewritten_ = false;
  std::string rewritten_;
  std::vector<uint32_t> begins_, ends_;  // per byte of rewritten_, its range in the whole text
};

}  // namespace expertd
