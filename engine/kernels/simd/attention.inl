// Paged causal attention for any vector width and both element types of the cache.
//
// The queries that share a kv head (all rows, times the heads of a group) are taken in tiles of up to kTileQueries, so
// that each load of K or V serves several. Keys go in parts of kAttentionPartKeys. In a part, for each query by itself:
// scores (a chain over head_dim, lanes are keys), their maximum, exponentials and sum, then the weighted values (a
// chain over keys, lanes are head_dim). Parts are merged in ascending order by the usual rescaling to a common maximum
// (Milakov and Gimelshein 2018; Dao et al. 2022). Keys that a query may not see never enter its chains, so the shape of
// a tile has no influence on any bit.
//
// Loops from the outside: supertiles of kSuperQueries queries, parts, tiles. So a part of K and V comes from memory
// once for a supertile and from the second-level cache for its other tiles.

#if defined(__AVX512F__)
constexpr int kTileQueries = 8;
#else
constexpr int kTileQueries = 6;
#endif
constexpr int kSuperQueries = 8 * kTileQueries;
constexpr int kScoreStride = kAttentionPartKeys + kLanes;  // not a power of two: rows fall into different cache sets

// Vectors of keys in a tile of scores (they divide a part): more for few queries, whose chains would otherwise wait for
// the latency of each addition.
constexpr int ScoreVecs(int num_queries) { return num_queries <= kTileQueries / 4 ? 4 : 2; }

// Scratch, all in floats; sums and outputs have rows of `padded_dim`.
struct AttentionScratch {
  float* queries;    // tile by tile [head_dim][kTileQueries]
  float* scores;     // [kTileQueries][kScoreStride]
  float* part;       // [kTileQueries][padded_dim]: weighted values of a part
  float* output;     // [kSuperQueries][padded_dim]: the same over the parts so far
  float* maximum;    // [kSuperQueries]
  float* sum;        // [kSuperQueries]
};

int64_t QueriesPerKvHead(const AttentionArgs& args) {
  return int64_t{args.num_rows} * (args.num_heads / args.kv.num_kv_heads);
}

int PaddedDim(const PagedKvLayer& kv) { return RoundUp(kv.head_dim, kLanes); }

int SuperQueries(const AttentionArgs& args) {
  const int64_t all = QueriesPerKvHead(args);
  return all < kSuperQueries ? RoundUp(static_cast<int>(all), kTileQueries) : kSuperQueries;
}

int64_t AttentionScratchFloats(const AttentionArgs& args) {
  const int64_t queries = SuperQueries(args);
  const int64_t padded_dim = PaddedDim(args.kv);
  return queries * (args.kv.head_dim + padded_dim + 2) + kTileQueries * (kScoreStride + padded_dim);
}

AttentionScratch SplitScratch(const AttentionArgs& args, float* scratch) {
  const int64_t queries = SuperQueries(args);
  const int64_t padded_dim = PaddedDim(args.kv);
  AttentionScratch split;
  split.queries = scratch;
  split.scores = split.queries + queries * args.kv.head_dim;
  split.part = split.scores + kTileQueries * kScoreStride;
  split.output = split.part + kTileQueries * padded_dim;
  split.maximum = split.output + queries * padded_dim;
  split.sum = split.maximum + queries;
  return split;
}

// The keys and values of one head, block by block.
template <typename Element>
struct PagedHead {
  const Element* keys;    // of block 0
  const Element* values;  // of block 0
  int64_t block_elements;
  const int32_t* block_table;
  int block_size;
  int head_dim;

  EXPERTD_INLINE const Element* KeysAt(int position) const {
    return keys + block_table[position / block_size] * block_elements + position % block_size;
  }
};

template <typename Element>
PagedHead<Element> HeadOf(const AttentionArgs& args, int kv_head) {
  const PagedKvLayer& kv = args.kv;
  const int64_t head_elements = int64_t{kv.head_dim} * kv.block_size;
  return {.keys = static_cast<const Element*>(kv.key_base) + kv_head * head_elements,
          .values = static_cast<const Element*>(kv.value_base) + kv_head * head_elements,
          .block_elements = kv.num_kv_heads * head_elements,
          .block_table = args.block_table,
          .block_size = kv.block_size,
          .head_dim = kv.head_dim};
}

// Scores of kQueries queries and kVecs vectors of keys, which begin at keys[v]; rows of keys (one per element of the
// head) are `key_stride` apart. `queries` is [head_dim][kTileQueries]. Fetches `next` on the way, laid out alike.
template <typename Element, int kQueries, int kVecs>
void ScoreTile(const float* queries, const Element* const* keys, const Element* const* next, int key_stride,
               int head_dim, float* scores) {
  Vec sum[kQueries][kVecs];
  const Element *key_row[kVecs], *next_row[kVecs];
#pragma GCC unroll 16
  for (int v = 0; v < kVecs; ++v) {
    key_row[v] = keys[v];
    next_row[v] = next[v];
#pragma GCC unroll 16
    for (int q = 0; q < kQueries; ++q) sum[q][v] = Zero();
  }
  for (int d = 0; d < head_dim; ++d) {
    Vec key[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      key[v] = Load(key_row[v]);
      key_row[v] += key_stride;
      if constexpr (kVecs > 2) {  // with more queries there is time to wait
        __builtin_prefetch(next_row[v]);
        next_row[v] += key_stride;
      }
    }
#pragma GCC unroll 16
    for (int q = 0; q < kQueries; ++q) {
      const Vec value = Broadcast(queries[q]);
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[q][v] = MulAdd(value, key[v], sum[q][v]);
    }
    queries += kTileQueries;
  }
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) Store(sum[q][v], scores + q * kScoreStride + v * kLanes);
  }
}

// Scores of the queries of a tile and keys [part_begin, part_end). Vectors beyond the end yield numbers that nobody
// uses; where they would leave the blocks of the sequence they read its last block instead.
template <typename Element, int kQueries>
void ScorePart(const PagedHead<Element>& head, const float* queries, int part_begin, int part_end, float* scores) {
  constexpr int kVecs = ScoreVecs(kQueries);
  const auto find = [&](int position, const Element** keys) {
    for (int v = 0; v < kVecs; ++v) {
      keys[v] = head.KeysAt(Smaller(position + v * kLanes, (part_end - 1) / kLanes * kLanes));
    }
  };
  const Element *keys[kVecs], *next[kVecs];
  find(part_begin, keys);
  for (int position = part_begin; position < part_end; position += kVecs * kLanes) {
    find(position + kVecs * kLanes, next);
    ScoreTile<Element, kQueries, kVecs>(queries, keys, next, head.block_size, head.head_dim,
                                        scores + position - part_begin);
    for (int v = 0; v < kVecs; ++v) keys[v] = next[v];
  }
}

// part[q][dims] += sum of scores[q][key] * V[key][dims] over the part's keys [key_begin, key_end), for kVecs vectors of
// dims from `dim` on; the last vector has `last_count` lanes in memory.
template <typename Element, int kQueries, int kVecs, bool kFullLast>
void WeighTile(const PagedHead<Element>& head, const float* scores, int part_begin, int key_begin, int key_end, int dim,
               int last_count, int padded_dim, float* part) {
  Vec sum[kQueries][kVecs];
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) sum[q][v] = Load(part + q * padded_dim + dim + v * kLanes);
  }
  for (int key = key_begin; key < key_end;) {
    const int position = part_begin + key;
    const int offset = position % head.block_size;
    const int run_end = Smaller(key_end, key + head.block_size - offset);
    const Element* values = head.values + head.block_table[position / head.block_size] * head.block_elements +
                            int64_t{offset} * head.head_dim + dim;
    for (; key < run_end; ++key) {
      Vec value[kVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        value[v] = kFullLast || v + 1 < kVecs ? Load(values + v * kLanes) : LoadFirst(values + v * kLanes, last_count);
      }
#pragma GCC unroll 16
      for (int q = 0; q < kQueries; ++q) {
        const Vec weight = Broadcast(scores[q * kScoreStride + key]);
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) sum[q][v] = MulAdd(weight, value[v], sum[q][v]);
      }
      values += head.head_dim;
    }
  }
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) Store(sum[q][v], part + q * padded_dim + dim + v * kLanes);
  }
}

// The vectors of dims that a tile takes at most: sums for 8 chains or more, and registers left for values and weights.
constexpr int WeighVecs(int num_queries) { return num_queries == 1 ? 8 : num_queries <= kTileQueries / 2 ? 4 : 2; }

// The same for all dims, from the widest tiles to the narrowest.
template <typename Element, int kQueries, int kVecs>
void WeighDims(const PagedHead<Element>& head, const float* scores, int part_begin, int key_begin, int key_end, int dim,
               float* part) {
  const int padded_dim = RoundUp(head.head_dim, kLanes);
  for (; dim + kVecs * kLanes <= head.head_dim; dim += kVecs * kLanes) {
    WeighTile<Element, kQueries, kVecs, true>(head, scores, part_begin, key_begin, key_end, dim, kLanes, padded_dim,
                                              part);
  }
  if constexpr (kVecs > 1) {
    WeighDims<Element, kQueries, kVecs - 1>(head, scores, part_begin, key_begin, key_end, dim, part);
  } else if (dim < head.head_dim) {
    WeighTile<Element, kQueries, 1, false>(head, scores, part_begin, key_begin, key_end, dim, head.head_dim - dim,
                                           padded_dim, part);
  }
}

template <typename Element, int kQueries>
void WeighPart(const PagedHead<Element>& head, const float* scores, int part_begin, int key_begin, int key_end,
               float* part) {
  WeighDims<Element, kQueries, WeighVecs(kQueries)>(head, scores, part_begin, key_begin, key_end, 0, part);
}

template <typename Element>
using ScoreFunction = void (*)(const PagedHead<Element>&, const float*, int, int, float*);
template <typename Element>
using WeighFunction = void (*)(const PagedHead<Element>&, const float*, int, int, int, float*);

// [queries - 1]
template <typename Element>
constexpr ScoreFunction<Element> kScore[kTileQueries] = {
    ScorePart<Element, 1>, ScorePart<Element, 2>, ScorePart<Element, 3>, ScorePart<Element, 4>,
    ScorePart<Element, 5>, ScorePart<Element, 6>,
#if defined(__AVX512F__)
    ScorePart<Element, 7>, ScorePart<Element, 8>,
#endif
};
template <typename Element>
constexpr WeighFunction<Element> kWeigh[kTileQueries] = {
    WeighPart<Element, 1>, WeighPart<Element, 2>, WeighPart<Element, 3>, WeighPart<Element, 4>,
    WeighPart<Element, 5>, WeighPart<Element, 6>,
#if defined(__AVX512F__)
    WeighPart<Element, 7>, WeighPart<Element, 8>,
#endif
};

// Merges a part's result of one query into that of the parts before it. `num_keys` > 0.
void MergePart(bool is_first, float part_maximum, float part_sum, const float* part, int padded_dim, float* maximum,
               float* sum, float* output) {
  if (is_first) {
    *maximum = part_maximum;
    *sum = part_sum;
    for (int d = 0; d < padded_dim; d += kLanes) Store(Load(part + d), output + d);
    return;
  }
  const float common = *maximum > part_maximum ? *maximum : part_maximum;
  float factors[kLanes];
  Store(Exp(Sub(KeepFirst(Broadcast(*maximum), 1, Broadcast(part_maximum)), Broadcast(common))), factors);
  const Vec old_factor = Broadcast(factors[0]);
  const Vec new_factor = Broadcast(factors[1]);
  *maximum = common;
  *sum = *sum * factors[0] + part_sum * factors[1];
  for (int d = 0; d < padded_dim; d += kLanes) {
    Store(MulAdd(Load(part + d), new_factor, Mul(Load(output + d), old_factor)), output + d);
  }
}

// Queries [first, first + count) of a kv head against one part. `visible[q]` is the number of keys of the part that
// query q sees: ascending, at most kAttentionPartKeys, the last greater than 0.
template <typename Element>
void AttendPart(const PagedHead<Element>& head, int part_begin, const int* visible, int count, float scale,
                const float* queries, const AttentionScratch& scratch, int first) {
  const int padded_dim = RoundUp(head.head_dim, kLanes);
  kScore<Element>[count - 1](head, queries, part_begin, part_begin + visible[count - 1], scratch.scores);
  float maximum[kTileQueries], sum[kTileQueries];
  for (int q = 0; q < count; ++q) {
    float* scores = scratch.scores + q * kScoreStride;
    ScaleInPlace(scale, visible[q], scores);
    maximum[q] = Maximum(scores, visible[q]);
    sum[q] = ExpAndSum(maximum[q], visible[q], scores);
  }
  for (int i = 0; i < count * padded_dim; i += kLanes) Store(Zero(), scratch.part + i);
  // First the keys that all see, together, then those that only later queries see, one query at a time.
  const int common = visible[0];
  if (common > 0) kWeigh<Element>[count - 1](head, scratch.scores, part_begin, 0, common, scratch.part);
  for (int q = 0; q < count; ++q) {
    float* part = scratch.part + q * padded_dim;
    if (visible[q] == 0) continue;
    if (visible[q] > common) {
      kWeigh<Element>[0](head, scratch.scores + q * kScoreStride, part_begin, common, visible[q], part);
    }
    MergePart(part_begin == 0, maximum[q], sum[q], part, padded_dim, &scratch.maximum[first + q],
              &scratch.sum[first + q], scratch.output + (first + q) * padded_dim);
  }
}

// The query with number `index` among those of a kv head: its row, and its element in a matrix of rows.
struct QueryPlace {
  int row;
  int64_t Element(int64_t stride) const { return row * stride + head_begin; }
  int64_t head_begin;
};

QueryPlace PlaceOf(const AttentionArgs& args, int kv_head, int64_t index) {
  const int group = args.num_heads / args.kv.num_kv_heads;
  const int64_t head = int64_t{kv_head} * group + index % group;
  return {.row = static_cast<int>(index / group), .head_begin = head * args.kv.head_dim};
}

// Copies the queries of a supertile to scratch, tile by tile, transposed.
void CopyQueries(const AttentionArgs& args, int kv_head, int64_t begin, int count, float* to) {
  const int head_dim = args.kv.head_dim;
  for (int q = 0; q < count; ++q) {
    const float* from = args.queries + PlaceOf(args, kv_head, begin + q).Element(args.query_stride);
    float* column = to + q / kTileQueries * kTileQueries * head_dim + q % kTileQueries;
    for (int d = 0; d < head_dim; ++d) column[d * kTileQueries] = from[d];
  }
}

void WriteOutputs(const AttentionArgs& args, int kv_head, int64_t begin, int count, const AttentionScratch& scratch) {
  const int head_dim = args.kv.head_dim;
  for (int q = 0; q < count; ++q) {
    float* to = args.output + PlaceOf(args, kv_head, begin + q).Element(args.output_stride);
    const float* from = scratch.output + q * PaddedDim(args.kv);
    const Vec factor = Broadcast(1.0f / scratch.sum[q]);
    ForEachVector(head_dim, [&](int64_t d, int lanes) {
      StoreUpTo(Mul(LoadUpTo(from + d, lanes), factor), lanes, to + d);
    });
  }
}

template <typename Element>
void AttendSupertile(const AttentionArgs& args, int kv_head, int64_t begin, int count,
                     const AttentionScratch& scratch) {
  const PagedHead<Element> head = HeadOf<Element>(args, kv_head);
  CopyQueries(args, kv_head, begin, count, scratch.queries);
  const int last_position = args.first_position + PlaceOf(args, kv_head, begin + count - 1).row;
  for (int part = 0; part <= last_position; part += kAttentionPartKeys) {
    for (int tile = 0; tile < count; tile += kTileQueries) {
      const int tile_count = Smaller(kTileQueries, count - tile);
      int visible[kTileQueries];
      for (int q = 0; q < tile_count; ++q) {
        const int position = args.first_position + PlaceOf(args, kv_head, begin + tile + q).row;
        visible[q] = Larger(0, Smaller(position + 1 - part, kAttentionPartKeys));
      }
      if (visible[tile_count - 1] == 0) continue;
      AttendPart(head, part, visible, tile_count, args.scale, scratch.queries + int64_t{tile} * head.head_dim, scratch,
                 tile);
    }
  }
  WriteOutputs(args, kv_head, begin, count, scratch);
}

void Attention(const AttentionArgs& args, int kv_head_begin, int kv_head_end, float* scratch) {
  const AttentionScratch split = SplitScratch(args, scratch);
  const auto attend = args.kv.dtype == DType::kF32 ? AttendSupertile<float> : AttendSupertile<BFloat16>;
  const int64_t num_queries = QueriesPerKvHead(args);
  for (int kv_head = kv_head_begin; kv_head < kv_head_end; ++kv_head) {
    for (int64_t begin = 0; begin < num_queries; begin += kSuperQueries) {
      const int64_t rest = num_queries - begin;
      attend(args, kv_head, begin, rest < kSuperQueries ? static_cast<int>(rest) : kSuperQueries, split);
    }
  }
}

// ---- storing ----

EXPERTD_INLINE void StoreElement(float value, float* to) { *to = value; }
EXPERTD_INLINE void StoreElement(float value, BFloat16* to) {  // as ToBFloat16
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to->bits = static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40u : rounded);
}

template <typename Element>
void StoreHeads(const float* key, const float* value, int64_t slot, const PagedKvLayer& kv) {
  const int64_t block = slot / kv.block_size;
  const int64_t offset = slot % kv.block_size;
  for (int head = 0; head < kv.num_kv_heads; ++head) {
    const int64_t begin = (block * kv.num_kv_heads + head) * kv.head_dim * kv.block_size;
    Element* keys = static_cast<Element*>(kv.key_base) + begin + offset;
    Element* values = static_cast<Element*>(kv.value_base) + begin + offset * kv.head_dim;
    for (int d = 0; d < kv.head_dim; ++d) StoreElement(key[head * kv.head_dim + d], keys + d * kv.block_size);
    for (int d = 0; d < kv.head_dim; ++d) StoreElement(value[head * kv.head_dim + d], values + d);
  }
}

void StoreKv(const float* key, const float* value, int64_t slot, const PagedKvLayer& kv) {
  const auto store = kv.dtype == DType::kF32 ? StoreHeads<float> : StoreHeads<BFloat16>;
  store(key, value, slot, kv);
}
