// Storing a token's K and V in the paged cache, in each format.

// Where a token's elements lie in a tile.
struct TokenPlace {
  int64_t first;        // element 0
  int64_t stride;       // from an even element to the odd one after it
  int64_t pair_stride;  // from pair to pair

  EXPERTD_INLINE int64_t At(int d) const { return first + d / 2 * pair_stride + d % 2 * stride; }
};

// In a tile of K.
template <typename Element>
TokenPlace KeyPlace(int64_t token, int block_size) {
  return {.first = token * kStep<Element>,
          .stride = kStep<Element> == 2 ? 1 : block_size,
          .pair_stride = 2 * block_size};
}

// In a tile of V.
template <typename Element>
TokenPlace ValuePlace(int64_t token, int padded_dim) {
  return {.first = token / kStep<Element> * padded_dim * kStep<Element> + token % kStep<Element>,
          .stride = kStep<Element>,
          .pair_stride = 2 * kStep<Element>};
}

EXPERTD_INLINE void StoreElement(float value, float* to) { *to = value; }
EXPERTD_INLINE void StoreElement(float value, BFloat16* to) {  // as ToBFloat16
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to->bits = static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40u : rounded);
}

// `scale`: of int8 only.
template <typename Element>
void StoreHead(const float* head, int dim, const TokenPlace& place, std::byte* tile, float*) {
  auto* const to = reinterpret_cast<Element*>(tile);
  for (int d = 0; d < dim; ++d) StoreElement(head[d], to + place.At(d));
  if (dim % 2 != 0) to[place.At(dim)] = Element{};
}

template <>
void StoreHead<int8_t>(const float* head, int dim, const TokenPlace& place, std::byte* tile, float* scale) {
  int8_t codes[kMaxHeadDim];
  int32_t sums[1 + kMaxHeadDim / kGroupInputs];
  Quantize(head, dim, codes, scale, sums);
  auto* const to = reinterpret_cast<int8_t*>(tile);
  for (int d = 0; d < RoundUp(dim, 2); ++d) to[place.At(d)] = codes[d];
}

// Stores the heads [num_kv_heads, dim] of K, or of V, of the token of `slot` in the tiles behind `base`.
template <typename Element>
void StoreHeads(const float* heads, int dim, const TokenPlace& place, int64_t slot, const PagedKvLayer& kv,
                void* base) {
  const int padded_dim = RoundUp(dim, kKvDimUnit);
  const int64_t tile_bytes = TileBytes<Element>(padded_dim, kv.block_size);
  const int64_t element_bytes = int64_t{padded_dim} * kv.block_size * int64_t{sizeof(Element)};
  std::byte* tile = static_cast<std::byte*>(base) + slot / kv.block_size * kv.num_kv_heads * tile_bytes;
  for (int head = 0; head < kv.num_kv_heads; ++head, tile += tile_bytes) {
    float* const scales = reinterpret_cast<float*>(tile + element_bytes);
    StoreHead<Element>(heads + head * dim, dim, place, tile, scales + slot % kv.block_size);
  }
}

template <typename Element>
void StoreToken(const float* key, const float* value, int64_t slot, const PagedKvLayer& kv) {
  const int64_t token = slot % kv.block_size;
  StoreHeads<Element>(key, kv.head_dim, KeyPlace<Element>(token, kv.block_size), slot, kv, kv.key_base);
  if (value == nullptr) return;
  const TokenPlace value_place = ValuePlace<Element>(token, RoundUp(kv.value_dim, kKvDimUnit));
  StoreHeads<Element>(value, kv.value_dim, value_place, slot, kv, kv.value_base);
}

void StoreKv(const float* key, const float* value, int64_t slot, const PagedKvLayer& kv) {
  switch (kv.format) {
    case KvFormat::kF32:
      return StoreToken<float>(key, value, slot, kv);
    case KvFormat::kBF16:
      return StoreToken<BFloat16>(key, value, slot, kv);
    case KvFormat::kInt8:
      return StoreToken<int8_t>(key, value, slot, kv);
  }
}
