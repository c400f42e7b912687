// PrefixCache: finds blocks whose keys and values were computed before, by what they hold. A full block is known by its
// tokens, all tokens in front of it and a salt; nothing else decides its content, so a hit gives the same bits as
// computing it again. Used by the scheduler, on the engine thread.
//
// Keys are chained: key(i) = hash(key(i - 1), tokens of block i), with key(-1) = hash(salt). The hash is XXH3 of 128
// bits under a secret drawn per cache, so that callers cannot aim for collisions; and a hit compares salt, tokens and
// the block in front of it too, so that even a collision shares nothing. Compare CVE-2025-25183, where it did.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/kv/block_pool.h"

namespace expertd {

struct BlockKey {
  uint64_t low = 0, high = 0;

  friend bool operator==(const BlockKey&, const BlockKey&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const BlockKey& key) {
    return H::combine(std::move(state), key.low, key.high);
  }
};

// One sequence as the cache sees it. `keys` remembers the keys of its full blocks between calls; it starts empty and is
// valid as long as tokens are only appended and the salt stays.
struct PrefixView {
  std::span<const int32_t> tokens;
  std::string_view salt;
  std::vector<BlockKey>* keys;
};

// Not thread-safe.
class PrefixCache {
 public:
  static constexpr size_t kSecretBytes = 192;
  using Secret = std::array<uint8_t, kSecretBytes>;

  // Registers itself for the pool's evictions; both live equally long.
  PrefixCache(BlockPool* pool, int32_t block_size);
  // With a given secret, for tests that need equal keys.
  PrefixCache(BlockPool* pool, int32_t block_size, const Secret& secret);
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  struct Hit {
    int32_t num_blocks = 0;       // longest run of cached full blocks from the first token on
    int32_t num_free_blocks = 0;  // of them, those that nobody holds: claiming them takes them from the free ones
  };

  // What Match would return; changes nothing but `view.keys`. Never counts the block that holds the last token, since
  // that one must be computed to have logits.
  Hit Find(const PrefixView& view) const;

  // Claims the blocks of that run, in order of position.
  std::vector<BlockRef> Match(const PrefixView& view);

  // Makes block `index` findable: a full block of `view.tokens` that is computed and stands in `blocks[index]`, with
  // blocks[0 .. index - 1] published before. If an equal block is known already (two sequences computed it at the same
  // time), that one stays and takes the place in `blocks`, so that the holder of a block holds all in front of it and
  // blocks are evicted from the end of a chain on.
  void Publish(const PrefixView& view, int32_t index, std::span<BlockRef> blocks);

  int32_t num_findable() const { return static_cast<int32_t>(by_key_.size()); }

 private:
  struct Entry {
    BlockKey key;
    uint64_t serial = 0;         // names this publication; 0 when the block isn't findable
    uint64_t parent_serial = 0;  // of the block in front; 0 for the first
    std::string salt;            // of the first block only: the others have it by their parent
    std::vector<int32_t> tokens;
  };

  void ExtendKeys(const PrefixView& view, int32_t num_blocks) const;
  std::span<const int32_t> TokensOf(const PrefixView& view, int32_t index) const;
  // The findable block equal to block `index` of `view`, whose parent is the publication `parent_serial`; -1 if none.
  int32_t Lookup(const PrefixView& view, int32_t index, uint64_t parent_serial) const;
  void Forget(int32_t id);

  BlockPool* pool_;
  int32_t block_size_;
  Secret secret_;
  uint64_t last_serial_ = 0;
  std::vector<Entry> entries_;                   // one for each block of the pool
  absl::flat_hash_map<BlockKey, int32_t> by_key_;
  mutable std::vector<uint8_t> hash_input_;      // scratch
};

}  // namespace expertd
