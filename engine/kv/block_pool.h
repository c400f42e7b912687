// BlockPool: which block ids of the KV cache are in use, by how many holders, and in which order the free ones are
// handed out again. The free list is the cache: a freed block keeps its content and stays findable (prefix_cache.h)
// until it is taken for something else. Knows no bytes. Used by the scheduler, on the engine thread; the method is that
// of vLLM's block pool (Kwon et al., "Efficient Memory Management for Large Language Model Serving with
// PagedAttention", SOSP 2023).
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace expertd {

class BlockPool;

// One holder's claim on a block. The block becomes free when its last claim dies. Not thread-safe; must not outlive
// the pool.
class BlockRef {
 public:
  BlockRef() = default;  // holds nothing
  BlockRef(BlockRef&& other) noexcept;
  BlockRef& operator=(BlockRef&& other) noexcept;
  BlockRef(const BlockRef&) = delete;
  BlockRef& operator=(const BlockRef&) = delete;
  ~BlockRef() { Reset(); }

  // Another claim on the same block. Empty when this one is.
  BlockRef Share() const;
  // Gives the claim up.
  void Reset();

  // 0 .. num_blocks - 1; -1 when empty.
  int32_t id() const { return id_; }
  bool empty() const { return pool_ == nullptr; }

 private:
  friend class BlockPool;
  BlockRef(BlockPool* pool, int32_t id) : pool_(pool), id_(id) {}

  BlockPool* pool_ = nullptr;
  int32_t id_ = -1;
};

// Every operation is O(1). Not thread-safe.
class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);
  ~BlockPool();  // CHECKs that every claim has died
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // Claims a free block: one without findable content if there is one, else the one that was freed first, whose content
  // is given up (the eviction callback hears of it). Empty when every block is in use.
  BlockRef Take();

  // Claims the block `id` for its content, whether it is in use or free. The block must be findable.
  BlockRef Claim(int32_t id);

  // Says whether the content of a block can be found, so that it is worth keeping once free. A free block may only be
  // turned from findable to not findable.
  void SetFindable(int32_t id, bool is_findable);

  // Called by Take when a findable block changes hands; the block is no longer findable then. Set once.
  void SetEvictionCallback(std::function<void(int32_t id)> on_evict) { on_evict_ = std::move(on_evict); }

  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()) - 1; }
  int32_t num_free() const { return num_free_; }
  int32_t num_used() const { return num_blocks() - num_free_; }
  int32_t num_free_findable() const { return num_free_findable_; }
  // Claims on a block; 0 when it is free.
  int32_t num_refs(int32_t id) const { return blocks_[id].num_refs; }
  bool is_findable(int32_t id) const { return blocks_[id].is_findable; }

 private:
  friend class BlockRef;
  struct Block {
    int32_t num_refs = 0;
    bool is_findable = false;
    int32_t previous = -1, next = -1;  // in the free list, while free
  };

  void Release(int32_t id);
  void Unlink(int32_t id);
  void LinkBefore(int32_t id, int32_t next);

  std::vector<Block> blocks_;  // the last is the free list's head: a ring, so that no end is special
  int32_t num_free_ = 0;
  int32_t num_free_findable_ = 0;
  std::function<void(int32_t)> on_evict_;
};

}  // namespace expertd
