// KvCache: the bytes of the paged K and V cache, per layer. Which block belongs to whom is block_pool's business; the
// order of elements inside a block is tensor/kv_layout.h.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/platform/memory.h"
#include "engine/tensor/kv_layout.h"

namespace expertd {

struct KvCacheSpec {
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;        // elements of a key
  int value_dim = 0;       // elements of a value: 1 .. head_dim
  bool has_values = true;  // false: a latent cache, where a value is the beginning of its key
  int block_size = 32;     // tokens: 16, 32, 64 or 128
  int64_t num_blocks = 0;  // 1 .. 2^31 - 1
  KvFormat format = KvFormat::kBF16;

  // Bytes of the keys, of the values, and of both, of one block in one layer, with their scales.
  int64_t BlockKeyBytesPerLayer() const { return num_kv_heads * KvTileBytes(format, head_dim, block_size); }
  int64_t BlockValueBytesPerLayer() const {
    return has_values ? num_kv_heads * KvTileBytes(format, value_dim, block_size) : 0;
  }
  int64_t BlockBytesPerLayer() const { return BlockKeyBytesPerLayer() + BlockValueBytesPerLayer(); }
  // Bytes of one block over all layers: what one entry of the pool costs.
  int64_t BlockBytes() const { return num_layers * BlockBytesPerLayer(); }

  bool operator==(const KvCacheSpec&) const = default;
};

// Thread-safety: the accessors change nothing; concurrent writes to different slots are safe.
class KvCache {
 public:
  // Reserves address space for the whole cache; pages become real, zero-filled memory when first written.
  // Errors: InvalidArgument naming the setting, ResourceExhausted naming the bytes.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const KvCacheSpec& spec);

  const KvCacheSpec& spec() const { return spec_; }
  int64_t size_bytes() const { return buffer_.size_bytes(); }

  // Bases of a layer's K and V: [num_blocks, num_kv_heads] tiles each (tensor/kv_layout.h); 64-byte aligned. A cache
  // without values has null.
  void* keys(int layer);
  void* values(int layer);

 private:
  KvCache(const KvCacheSpec& spec, AlignedBuffer buffer) : spec_(spec), buffer_(std::move(buffer)) {}

  const KvCacheSpec spec_;
  AlignedBuffer buffer_;  // layer after layer, each its keys and then its values
};

}  // namespace expertd
