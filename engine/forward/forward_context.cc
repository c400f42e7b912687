#include "engine/forward/forward_context.h"

#include <algorithm>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace expertd {
namespace {

constexpr int64_t kFirstChunkBytes = 64 << 10;

int64_t AlignUp(int64_t size_bytes) {
  return (size_bytes + AlignedBuffer::kAlignment - 1) / AlignedBuffer::kAlignment * AlignedBuffer::kAlignment;
}

}  // namespace

ScratchArena::Scope::Scope(ScratchArena& arena) : arena_(arena), chunk_(arena.chunk_), used_(arena.used_) {
  ++arena.depth_;
}

ScratchArena::Scope::~Scope() { arena_.Rewind(chunk_, used_); }

absl::Status ScratchArena::Reserve(int64_t size_bytes) {
  EXPERTD_CHECK(depth_ == 0);
  if (capacity_bytes() >= size_bytes) return absl::OkStatus();
  ASSIGN_OR_RETURN(AlignedBuffer chunk, AlignedBuffer::Allocate(AlignUp(size_bytes)));
  chunks_.clear();
  chunks_.push_back(std::move(chunk));
  return absl::OkStatus();
}

int64_t ScratchArena::capacity_bytes() const {
  int64_t total = 0;
  for (const AlignedBuffer& chunk : chunks_) total += chunk.size_bytes();
  return total;
}

void* ScratchArena::TakeBytes(int64_t size_bytes) {
  EXPERTD_CHECK(depth_ > 0 && size_bytes >= 0, "scopes ", depth_, ", bytes ", size_bytes);
  size_bytes = AlignUp(size_bytes);
  while (chunk_ < chunks_.size() && used_ + size_bytes > chunks_[chunk_].size_bytes()) {
    ++chunk_;
    used_ = 0;
  }
  if (chunk_ == chunks_.size()) {
    absl::StatusOr<AlignedBuffer> chunk =
        AlignedBuffer::Allocate(std::max({size_bytes, capacity_bytes(), kFirstChunkBytes}));
    EXPERTD_CHECK(chunk.ok(), chunk.status().message());
    chunks_.push_back(*std::move(chunk));
  }
  void* const taken = chunks_[chunk_].data() + used_;
  used_ += size_bytes;
  return taken;
}

void ScratchArena::Rewind(size_t chunk, int64_t used) {
  chunk_ = chunk;
  used_ = used;
  if (--depth_ > 0 || chunks_.size() <= 1) return;
  // The step outgrew the arena: one chunk of the same total serves the next step of this size without a seam.
  const int64_t total = capacity_bytes();
  chunks_.clear();
  if (absl::StatusOr<AlignedBuffer> whole = AlignedBuffer::Allocate(total); whole.ok()) {
    chunks_.push_back(*std::move(whole));
  }
}

}  // namespace expertd
