#include "engine/kv/kv_cache.h"

#include <cstdint>

#include "absl/status/status.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

absl::Status CheckSetting(std::string_view name, int64_t value, int64_t minimum, int64_t maximum) {
  if (value >= minimum && value <= maximum) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(name, " is ", value, "; must be ", minimum, "..", maximum));
}

absl::Status CheckSpec(const KvCacheSpec& spec) {
  RETURN_IF_ERROR(CheckSetting("num_layers", spec.num_layers, 1, 4096));
  RETURN_IF_ERROR(CheckSetting("num_kv_heads", spec.num_kv_heads, 1, 4096));
  RETURN_IF_ERROR(CheckSetting("head_dim", spec.head_dim, 1, 4096));
  RETURN_IF_ERROR(CheckSetting("value_dim", spec.value_dim, 1, spec.head_dim));
  RETURN_IF_ERROR(CheckSetting("num_blocks", spec.num_blocks, 1, INT32_MAX));
  const int block_size = spec.block_size;
  if (block_size != 16 && block_size != 32 && block_size != 64 && block_size != 128) {
    return absl::InvalidArgumentError(StrCat("block_size is ", block_size, "; must be 16, 32, 64 or 128"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const KvCacheSpec& spec) {
  RETURN_IF_ERROR(CheckSpec(spec));
  int64_t size_bytes = 0;
  if (__builtin_mul_overflow(spec.BlockBytes(), spec.num_blocks, &size_bytes)) {
    return absl::ResourceExhaustedError(
        StrCat("KV cache of ", spec.num_blocks, " blocks of ", spec.BlockBytes(), " bytes is beyond any memory"));
  }
  ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::Allocate(size_bytes));
  return std::unique_ptr<KvCache>(new KvCache(spec, std::move(buffer)));
}

void* KvCache::keys(int layer) {
  EXPERTD_CHECK(layer >= 0 && layer < spec_.num_layers, layer);
  return buffer_.data() + layer * spec_.num_blocks * spec_.BlockBytesPerLayer();
}

void* KvCache::values(int layer) {
  if (!spec_.has_values) return nullptr;
  return static_cast<std::byte*>(keys(layer)) + spec_.num_blocks * spec_.BlockKeyBytesPerLayer();
}

}  // namespace expertd
