// Storing a token's K and V in the paged cache, in each format.

constexpr int kMaxHeadDim = 4096;  // as KvCache::Create allows

// Where a token's elements lie in the tile of one kv head.
struct KvSlot {
  std::byte* tile;
  int64_t first;   // element 0
  int64_t stride;  // from element to element
  float* scale;    // int8 only
};

EXPERTD_INLINE void StoreElement(float value, float* to) { *to = value; }
EXPERTD_INLINE void StoreElement(float value, BFloat16* to) {  // as ToBFloat16
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to->bits = static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40u : rounded);
}

template <typename Element>
void StoreHead(const float* head, int head_dim, const KvSlot& slot) {
  Element* const to = reinterpret_cast<Element*>(slot.tile) + slot.first;
  for (int d = 0; d < head_dim; ++d) StoreElement(head[d], to + d * slot.stride);
}

template <>
void StoreHead<int8_t>(const float* head, int head_dim, const KvSlot& slot) {
  int8_t codes[kMaxHeadDim];
  int32_t sums[1 + kMaxHeadDim / kGroupInputs];
  Quantize(head, head_dim, codes, slot.scale, sums);
  auto* const to = reinterpret_cast<int8_t*>(slot.tile) + slot.first;
  for (int d = 0; d < head_dim; ++d) to[d * slot.stride] = codes[d];
}

template <typename Element>
void StoreHeads(const float* key, const float* value, int64_t slot, const PagedKvLayer& kv) {
  const int64_t block = slot / kv.block_size;
  const int64_t offset = slot % kv.block_size;
  const int padded_dim = RoundUp(kv.head_dim, kKvDimUnit);
  const int64_t tile_elements = int64_t{padded_dim} * kv.block_size;
  const int64_t tile_bytes = TileBytes<Element>(padded_dim, kv.block_size);
  for (int head = 0; head < kv.num_kv_heads; ++head) {
    const int64_t tile = (block * kv.num_kv_heads + head) * tile_bytes;
    std::byte* const keys = static_cast<std::byte*>(kv.key_base) + tile;
    std::byte* const values = static_cast<std::byte*>(kv.value_base) + tile;
    const auto scale_in = [&](std::byte* of) {
      return reinterpret_cast<float*>(of + tile_elements * sizeof(Element)) + offset;
    };
    StoreHead<Element>(key + head * kv.head_dim, kv.head_dim, {keys, offset, kv.block_size, scale_in(keys)});
    StoreHead<Element>(value + head * kv.head_dim, kv.head_dim, {values, offset * padded_dim, 1, scale_in(values)});
  }
}

void StoreKv(const float* key, const float* value, int64_t slot, const PagedKvLayer& kv) {
  switch (kv.format) {
    case KvFormat::kF32:
      return StoreHeads<float>(key, value, slot, kv);
    case KvFormat::kBF16:
      return StoreHeads<BFloat16>(key, value, slot, kv);
    case KvFormat::kInt8:
      return StoreHeads<int8_t>(key, value, slot, kv);
  }
}
