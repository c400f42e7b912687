// The free list is a doubly linked ring through the blocks themselves, so that any free block can be claimed in O(1).

#include "engine/kv/block_pool.h"

#include <utility>

#include "engine/base/log.h"

namespace expertd {

BlockRef::BlockRef(BlockRef&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), id_(std::exchange(other.id_, -1)) {}

BlockRef& BlockRef::operator=(BlockRef&& other) noexcept {
  if (this != &other) {
    Reset();
    pool_ = std::exchange(other.pool_, nullptr);
    id_ = std::exchange(other.id_, -1);
  }
  return *this;
}

BlockRef BlockRef::Share() const {
  if (pool_ == nullptr) return BlockRef();
  ++pool_->blocks_[id_].num_refs;
  return BlockRef(pool_, id_);
}

void BlockRef::Reset() {
  if (pool_ == nullptr) return;
  std::exchange(pool_, nullptr)->Release(std::exchange(id_, -1));
}

BlockPool::BlockPool(int32_t num_blocks) {
  EXPERTD_CHECK(num_blocks >= 0, "num_blocks is ", num_blocks);
  blocks_.resize(static_cast<size_t>(num_blocks) + 1);
  const int32_t head = num_blocks;
  blocks_[head].previous = blocks_[head].next = head;
  for (int32_t id = 0; id < num_blocks; ++id) LinkBefore(id, head);
  num_free_ = num_blocks;
}

BlockPool::~BlockPool() { EXPERTD_CHECK(num_used() == 0, num_used(), " blocks are still held"); }

BlockRef BlockPool::Take() {
  if (num_free_ == 0) return BlockRef();
  const int32_t id = blocks_[num_blocks()].next;
  if (blocks_[id].is_findable) {
    SetFindable(id, false);
    if (on_evict_) on_evict_(id);
  }
  Unlink(id);
  blocks_[id].num_refs = 1;
  return BlockRef(this, id);
}

BlockRef BlockPool::Claim(int32_t id) {
  EXPERTD_CHECK(id >= 0 && id < num_blocks(), "block ", id);
  Block& block = blocks_[id];
  EXPERTD_CHECK(block.is_findable, "block ", id);
  if (block.num_refs == 0) {
    --num_free_findable_;
    Unlink(id);
  }
  ++block.num_refs;
  return BlockRef(this, id);
}

void BlockPool::SetFindable(int32_t id, bool is_findable) {
  EXPERTD_CHECK(id >= 0 && id < num_blocks(), "block ", id);
  Block& block = blocks_[id];
  if (block.is_findable == is_findable) return;
  if (block.num_refs == 0) {
    EXPERTD_CHECK(!is_findable, "block ", id, " is free");
    --num_free_findable_;
  }
  block.is_findable = is_findable;
}

void BlockPool::Release(int32_t id) {
  Block& block = blocks_[id];
  if (--block.num_refs > 0) return;
  // What nobody can find again is taken first; what can be found waits its turn behind what was freed before.
  const int32_t head = num_blocks();
  LinkBefore(id, block.is_findable ? head : blocks_[head].next);
  ++num_free_;
  if (block.is_findable) ++num_free_findable_;
}

void BlockPool::Unlink(int32_t id) {
  Block& block = blocks_[id];
  blocks_[block.previous].next = block.next;
  blocks_[block.next].previous = block.previous;
  block.previous = block.next = -1;
  --num_free_;
}

void BlockPool::LinkBefore(int32_t id, int32_t next) {
  const int32_t previous = blocks_[next].previous;
  blocks_[id].previous = previous;
  blocks_[id].next = next;
  blocks_[previous].next = id;
  blocks_[next].previous = id;
}

}  // namespace expertd
