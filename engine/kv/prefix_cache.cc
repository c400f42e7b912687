#include "engine/kv/prefix_cache.h"

#include <algorithm>
#include <cstring>
#include <random>

#include <xxhash.h>

#include "engine/base/log.h"

namespace expertd {
namespace {

PrefixCache::Secret RandomSecret() {
  PrefixCache::Secret secret;
  std::random_device random;
  for (size_t i = 0; i < secret.size(); i += sizeof(uint32_t)) {
    const uint32_t word = random();
    std::memcpy(secret.data() + i, &word, sizeof(word));
  }
  return secret;
}

BlockKey Hash(const void* data, size_t size, const PrefixCache::Secret& secret) {
  const XXH128_hash_t hash = XXH3_128bits_withSecret(data, size, secret.data(), secret.size());
  return {hash.low64, hash.high64};
}

}  // namespace

PrefixCache::PrefixCache(BlockPool* pool, int32_t block_size) : PrefixCache(pool, block_size, RandomSecret()) {}

PrefixCache::PrefixCache(BlockPool* pool, int32_t block_size, const Secret& secret)
    : pool_(pool), block_size_(block_size), secret_(secret), entries_(static_cast<size_t>(pool->num_blocks())) {
  EXPERTD_CHECK(block_size > 0, "block_size is ", block_size);
  pool_->SetEvictionCallback([this](int32_t id) { Forget(id); });
}

PrefixCache::Hit PrefixCache::Find(const PrefixView& view) const {
  Hit hit;
  if (view.tokens.empty()) return hit;
  const int32_t max_blocks = static_cast<int32_t>((view.tokens.size() - 1) / block_size_);
  uint64_t parent_serial = 0;
  for (; hit.num_blocks < max_blocks; ++hit.num_blocks) {
    const int32_t id = Lookup(view, hit.num_blocks, parent_serial);
    if (id < 0) break;
    parent_serial = entries_[id].serial;
    if (pool_->num_refs(id) == 0) ++hit.num_free_blocks;
  }
  return hit;
}

std::vector<BlockRef> PrefixCache::Match(const PrefixView& view) {
  std::vector<BlockRef> blocks;
  if (view.tokens.empty()) return blocks;
  const int32_t max_blocks = static_cast<int32_t>((view.tokens.size() - 1) / block_size_);
  uint64_t parent_serial = 0;
  for (int32_t index = 0; index < max_blocks; ++index) {
    const int32_t id = Lookup(view, index, parent_serial);
    if (id < 0) break;
    parent_serial = entries_[id].serial;
    blocks.push_back(pool_->Claim(id));
  }
  return blocks;
}

void PrefixCache::Publish(const PrefixView& view, int32_t index, std::span<BlockRef> blocks) {
  EXPERTD_CHECK(index >= 0 && static_cast<size_t>(index) < blocks.size(), "block index ", index);
  EXPERTD_CHECK((static_cast<size_t>(index) + 1) * block_size_ <= view.tokens.size(), "block ", index, " isn't full");
  const uint64_t parent_serial = index == 0 ? 0 : entries_[blocks[index - 1].id()].serial;
  const int32_t id = blocks[index].id();
  // Neither happens but after a collision of keys, whose loser is no longer findable.
  if (index > 0 && parent_serial == 0) return;
  const int32_t known = Lookup(view, index, parent_serial);
  if (known == id || entries_[id].serial != 0) return;
  if (known >= 0) {
    blocks[index] = pool_->Claim(known);
    return;
  }
  const BlockKey key = (*view.keys)[index];
  // The key may be that of a block whose parent was evicted and came back as another publication, which can never be
  // found again (or of a collision): the newer one takes its place.
  if (const auto stale = by_key_.find(key); stale != by_key_.end()) {
    const int32_t stale_id = stale->second;
    pool_->SetFindable(stale_id, false);
    Forget(stale_id);
  }
  const std::span<const int32_t> tokens = TokensOf(view, index);
  Entry& entry = entries_[id];
  entry.key = key;
  entry.serial = ++last_serial_;
  entry.parent_serial = parent_serial;
  if (index == 0) entry.salt.assign(view.salt);
  entry.tokens.assign(tokens.begin(), tokens.end());
  by_key_[key] = id;
  pool_->SetFindable(id, true);
}

void PrefixCache::ExtendKeys(const PrefixView& view, int32_t num_blocks) const {
  std::vector<BlockKey>& keys = *view.keys;
  while (static_cast<int32_t>(keys.size()) < num_blocks) {
    const BlockKey parent = keys.empty() ? Hash(view.salt.data(), view.salt.size(), secret_) : keys.back();
    const std::span<const uint8_t> tokens{
        reinterpret_cast<const uint8_t*>(view.tokens.data() + keys.size() * block_size_),
        block_size_ * sizeof(int32_t)};
    hash_input_.resize(sizeof(parent) + tokens.size());
    std::memcpy(hash_input_.data(), &parent, sizeof(parent));
    std::memcpy(hash_input_.data() + sizeof(parent), tokens.data(), tokens.size());
    keys.push_back(Hash(hash_input_.data(), hash_input_.size(), secret_));
  }
}

std::span<const int32_t> PrefixCache::TokensOf(const PrefixView& view, int32_t index) const {
  return view.tokens.subspan(static_cast<size_t>(index) * block_size_, block_size_);
}

int32_t PrefixCache::Lookup(const PrefixView& view, int32_t index, uint64_t parent_serial) const {
  ExtendKeys(view, index + 1);
  const auto found = by_key_.find((*view.keys)[index]);
  if (found == by_key_.end()) return -1;
  const Entry& entry = entries_[found->second];
  const bool is_equal = entry.parent_serial == parent_serial && (index > 0 || entry.salt == view.salt) &&
                        std::ranges::equal(entry.tokens, TokensOf(view, index));
  return is_equal ? found->second : -1;
}

void PrefixCache::Forget(int32_t id) {
  Entry& entry = entries_[id];
  by_key_.erase(entry.key);
  entry.serial = 0;
  entry.salt.clear();
}

}  // namespace expertd
