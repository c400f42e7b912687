// Attention over a latent cache of bf16 by AMX tiles: the two products of latent_attention.inl for a vector of 16
// queries. Each is of one tile with four others, whose sums don't wait for each other:
//
//     scores:           C [queries][16 keys]  +=  A [queries][32 dims] * B [16 pairs of dims][16 keys], four of B
//     weighted values:  C [16 dims][queries]  +=  A [16 dims][32 keys] * B [16 pairs of keys][queries], four of A
//
// The cache holds the B of scores as it is. Steps begin at multiples of 32, dims of the head and keys of the part, so
// the sum of a query depends on itself alone; keys that it may not see enter the last step as zeros.

constexpr int kTilePairs = 16;                       // rows of B
constexpr int kTileElements = 2 * kTilePairs;        // of a row of A
constexpr int kLatentTiles = 4;                      // beside the one that they share
constexpr int kTileChunkKeys = 256;                  // values in the first-level cache: 32 KiB
constexpr int kTileChunkDims = kLatentTiles * 16;
constexpr int kTileChunkStride = kTileChunkKeys + kTileElements;  // elements; equal keys in different cache sets
constexpr int kTileChunkFloats = kTileChunkDims * kTileChunkStride / 2;

EXPERTD_INLINE void ConfigureLatentTiles() { ConfigureTiles({{16, 16, 16, 16, 16, 16, 16, 16}}); }

// Of one step: the shared tile is 7; tile `i` of the four, which has the sums in tile i, comes from others[i].
EXPERTD_INLINE void AddScoreTiles(const float* query, int64_t query_bytes, const float* const (&others)[kLatentTiles],
                                  int64_t other_bytes) {
  LoadTile<7>(query, query_bytes);
  LoadTile<4>(others[0], other_bytes);
  DotBf16<0, 7, 4>();
  LoadTile<5>(others[1], other_bytes);
  DotBf16<1, 7, 5>();
  LoadTile<6>(others[2], other_bytes);
  DotBf16<2, 7, 6>();
  LoadTile<4>(others[3], other_bytes);
  DotBf16<3, 7, 4>();
}
EXPERTD_INLINE void AddValueTiles(const float* weights, const BFloat16* values, int64_t dim_bytes) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(values);
  LoadTile<7>(weights, 64);
  LoadTile<4>(bytes, dim_bytes);
  DotBf16<0, 4, 7>();
  LoadTile<5>(bytes + 16 * dim_bytes, dim_bytes);
  DotBf16<1, 5, 7>();
  LoadTile<6>(bytes + 32 * dim_bytes, dim_bytes);
  DotBf16<2, 6, 7>();
  LoadTile<4>(bytes + 48 * dim_bytes, dim_bytes);
  DotBf16<3, 4, 7>();
}

// Scores of 16 queries for four groups of 16 keys, to scores[group][key][16]. queries: pairs of dims as words
// [16][query_words], query_words a multiple of kTilePairs, zero from num_words on. groups: the first word of each in
// its tile of the cache, pairs of dims `stride` words apart. scores: null where nothing is wanted. next: groups to be
// fetched on the way, laid out alike, or null.
void ScoreByTiles(const float* queries, int query_words, const float* const (&groups)[kLatentTiles],
                  const float* const* next, int64_t stride, int num_words, float* const (&scores)[kLatentTiles]) {
  const int whole = num_words / kTilePairs * kTilePairs;
  const float* words[kLatentTiles] = {groups[0], groups[1], groups[2], groups[3]};
  ZeroTile<0>();
  ZeroTile<1>();
  ZeroTile<2>();
  ZeroTile<3>();
  for (int i = 0; i < whole; i += kTilePairs) {
    AddScoreTiles(queries + i, query_words * 4, words, stride * 4);
    for (int group = 0; group < kLatentTiles; ++group) {
      words[group] += kTilePairs * stride;
      if (next == nullptr) continue;
      for (int row = i; row < i + kTilePairs; ++row) __builtin_prefetch(next[group] + row * stride, 0, /*locality=*/2);
    }
  }
  if (whole < num_words) {
    float rest[kLatentTiles][kTilePairs][16] = {};  // what lies behind the last pair may be anything
    for (int group = 0; group < kLatentTiles; ++group) {
      for (int i = 0; i < num_words - whole; ++i) Store(Load(words[group] + i * stride), rest[group][i]);
    }
    AddScoreTiles(queries + whole, query_words * 4, {rest[0][0], rest[1][0], rest[2][0], rest[3][0]}, 64);
  }
  float sums[kLatentTiles][16][16];
  StoreTile<0>(sums[0], 64);
  StoreTile<1>(sums[1], 64);
  StoreTile<2>(sums[2], 64);
  StoreTile<3>(sums[3], 64);
  for (int group = 0; group < kLatentTiles; ++group) {
    if (scores[group] != nullptr) TransposeLanes(sums[group][0], 16, scores[group], 16);
  }
}

// Values of two groups of 16 keys side by side, `second` null for zeros: from pairs of dims, block_size words apart, to
// num_dims (even) rows of 32 keys.
void CopyValues(const BFloat16* first, const BFloat16* second, int block_size, int num_dims, BFloat16* to) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  for (int d = 0; d < num_dims; d += 2) {
    const BitVec a = TransposePairs(LoadBits(first + d * block_size));
    const BitVec b = second == nullptr ? _mm512_setzero_si512() : TransposePairs(LoadBits(second + d * block_size));
    StoreBits(_mm512_permutex2var_epi32(a, even, b), to + d * kTileChunkStride);
    StoreBits(_mm512_permutex2var_epi32(a, odd, b), to + (d + 1) * kTileChunkStride);
  }
}

// Loads the sums of kTileChunkDims dims, adds the weighted values of num_keys keys, and stores those of the first
// num_dims (a multiple of 16). values: [kTileChunkDims][kTileChunkStride]; weights: pairs of keys as words [pair][16],
// zero from num_keys to a multiple of 32; sums: [dim][16], room for kTileChunkDims.
void WeighByTiles(const BFloat16* values, const float* weights, int num_keys, int num_dims, float* sums) {
  constexpr int64_t kDimBytes = kTileChunkStride * 2;
  const int whole = num_keys / kTileElements * kTileElements;
  LoadTile<0>(sums, 64);
  LoadTile<1>(sums + 16 * 16, 64);
  LoadTile<2>(sums + 32 * 16, 64);
  LoadTile<3>(sums + 48 * 16, 64);
  for (int key = 0; key < whole; key += kTileElements) AddValueTiles(weights + key / 2 * 16, values + key, kDimBytes);
  if (whole < num_keys) {
    BFloat16 rest[kTileChunkDims][kTileElements];
    const auto seen = static_cast<__mmask32>((uint64_t{1} << (num_keys - whole)) - 1);
    for (int d = 0; d < kTileChunkDims; ++d) {
      StoreBits(_mm512_maskz_loadu_epi16(seen, values + d * kTileChunkStride + whole), rest[d]);
    }
    AddValueTiles(weights + whole / 2 * 16, rest[0], kTileElements * 2);
  }
  StoreTile<0>(sums, 64);
  if (num_dims > 16) StoreTile<1>(sums + 16 * 16, 64);
  if (num_dims > 32) StoreTile<2>(sums + 32 * 16, 64);
  if (num_dims > 48) StoreTile<3>(sums + 48 * 16, 64);
}
