// Storing a token's K and V in the paged cache, in each format.

// Where a token's elements lie in the tile of one kv head.
struct KvSlot {
  std::byte* tile;
  int64_t first;        // element 0
  int64_t stride;       // from an even element to the odd one after it
  int64_t pair_stride;  // from pair to pair
  float* scale;         // int8 only

  EXPERTD_INLINE int64_t At(int d) const { return first + d / 2 * pair_stride + d % 2 * stride; }
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
  auto* const to = reinterpret_cast<Element*>(slot.tile);
  for (int d = 0; d < head_dim; ++d) StoreElement(head[d], to + slot.At(d));
  if (head_dim % 2 != 0) to[slot.At(head_dim)] = Element{};
}

template <>
void StoreHead<int8_t>(const float* head, int head_dim, const KvSlot& slot) {
  int8_t codes[kMaxHeadDim];
  int32_t sums[1 + kMaxHeadDim / kGroupInputs];
  Quantize(head, head_dim, codes, slot.scale, sums);
  auto* const to = reinterpret_cast<int8_t*>(slot.tile);
  for (int d = 0; d < RoundUp(head_dim, 2); ++d) to[slot.At(d)] = codes[d];
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
    const KvSlot key_slot = {.tile = keys,
                             .first = offset * kStep<Element>,
                             .stride = kStep<Element> == 2 ? 1 : kv.block_size,
                             .pair_stride = 2 * kv.block_size,
                             .scale = scale_in(keys)};
    const KvSlot value_slot = {.tile = values,
                               .first = offset / kStep<Element> * padded_dim * kStep<Element> + offset % kStep<Element>,
                               .stride = kStep<Element>,
                               .pair_stride = 2 * kStep<Element>,
                               .scale = scale_in(values)};
    StoreHead<Element>(key + head * kv.head_dim, kv.head_dim, key_slot);
    StoreHead<Element>(value + head * kv.head_dim, kv.head_dim, value_slot);
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
