#include "engine/text/aligned_text.h"

#include <utility>

#include "absl/status/status.h"
#include "engine/base/strings.h"

namespace expertd {

ByteRange AlignedText::OriginalRange(size_t begin, size_t end) const {
  if (!is_rewritten_ || !keep_offsets_) return {origin_ + begin, origin_ + end};
  if (begin < end) return {begins_[begin], ends_[end - 1]};
  const size_t position = begin < begins_.size() ? begins_[begin] : origin_ + original_.size();
  return {position, position};
}

// Whether `num_bytes` more are still within the bound.
bool AlignedText::Rewriter::Grow(size_t num_bytes) {
  size_ += num_bytes;
  return size_ <= source_.max_bytes();
}

void AlignedText::Rewriter::Keep(size_t begin, size_t end) {
  if (!Grow(end - begin)) return;
  text_.append(source_.text().substr(begin, end - begin));
  if (!source_.keep_offsets_) return;
  for (size_t i = begin; i < end; ++i) {
    const ByteRange range = source_.OriginalRange(i, i + 1);
    begins_.push_back(static_cast<uint32_t>(range.begin));
    ends_.push_back(static_cast<uint32_t>(range.end));
  }
}

void AlignedText::Rewriter::Replace(size_t begin, size_t end, std::string_view replacement) {
  if (!Grow(replacement.size())) return;
  text_.append(replacement);
  if (!source_.keep_offsets_) return;
  const ByteRange range = source_.OriginalRange(begin, end);
  begins_.insert(begins_.end(), replacement.size(), static_cast<uint32_t>(range.begin));
  ends_.insert(ends_.end(), replacement.size(), static_cast<uint32_t>(range.end));
}

absl::StatusOr<AlignedText> AlignedText::Rewriter::Finish() && {
  if (size_ > source_.max_bytes()) {
    return absl::InvalidArgumentError(StrCat("the tokenizer's rules make a text of ", size_, " bytes out of ",
                                             source_.original_.size(), "; at most ", source_.max_bytes()));
  }
  AlignedText result(source_.original_, source_.origin_, source_.keep_offsets_);
  result.is_rewritten_ = true;
  result.rewritten_ = std::move(text_);
  result.begins_ = std::move(begins_);
  result.ends_ = std::move(ends_);
  return result;
}

}  // namespace expertd
