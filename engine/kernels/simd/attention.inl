// Paged causal attention for any vector width and every format of the cache. Where keys have no values of their own,
// latent_attention.inl does it, with the same parts and partial results.
//
// The queries that share a kv head (all rows, times the heads of a group) are taken in tiles of up to kTileQueries, so
// that each load of K or V serves several. Keys go in parts of kAttentionPartKeys. In a part, for each query by itself:
// scores (a chain over head_dim, lanes are keys), their maximum, exponentials and sum, then the weighted values (a
// chain over keys, lanes are head_dim). The scales of an int8 cache multiply whole scores, and the exponentials once
// they are summed, so that chains are of codes. A bf16 cache is gone through by pairs of dims and of keys: where there
// are instructions that multiply pairs, queries and exponentials are rounded to bf16 for them. Parts are merged in
// ascending order by the usual rescaling to a common maximum (Milakov and Gimelshein 2018; Dao et al. 2022). Keys that
// a query may not see never enter its chains, so the shape of a tile has no influence on any bit.
//
// Loops from the outside: supertiles of kSuperQueries queries, parts, tiles. So a part of K and V comes from memory
// once for a supertile and from the second-level cache for its other tiles. Where the parts are shared among calls, the
// same loops leave their results unmerged.

#if defined(__AVX512F__)
constexpr int kTileQueries = 8;
#else
constexpr int kTileQueries = 6;
#endif
constexpr int kSuperQueries = 8 * kTileQueries;
constexpr int kMaxHeadDim = 4096;  // as KvCache::Create allows
constexpr int kScoreStride = kAttentionPartKeys + kLanes;  // not a power of two: rows fall into different cache sets

// Vectors of keys in a tile of scores (they divide a part): more for few queries, whose chains would otherwise wait for
// the latency of each addition.
constexpr int ScoreVecs(int num_queries) { return num_queries <= kTileQueries / 4 ? 4 : 2; }

// Scratch, all in floats. A partial result is laid out as AttentionPartialFloats says.
struct AttentionScratch {
  float* queries;  // tile by tile [words][kTileQueries], at most head_dim words and one
  float* scores;   // [kTileQueries][kScoreStride]: scores, then weights as words
  float* part;     // [kTileQueries] partial results of a part
  float* merged;   // [kSuperQueries] partial results of the parts so far
};

int64_t QueriesPerKvHead(const AttentionArgs& args) {
  return int64_t{args.num_rows} * (args.num_heads / args.kv.num_kv_heads);
}

int PaddedValueDim(const PagedKvLayer& kv) { return RoundUp(kv.value_dim, kKvDimUnit); }

constexpr int PartialStride(int padded_value_dim) { return padded_value_dim + 16; }

int SuperQueries(const AttentionArgs& args) {
  const int64_t all = QueriesPerKvHead(args);
  return all < kSuperQueries ? RoundUp(static_cast<int>(all), kTileQueries) : kSuperQueries;
}

int64_t LatentScratchFloats(const AttentionArgs& args);
void LatentAttention(const AttentionArgs& args, int kv_head_begin, int kv_head_end, float* scratch);

int64_t AttentionScratchFloats(const AttentionArgs& args) {
  if (args.kv.value_base == nullptr) return LatentScratchFloats(args);
  const int64_t queries = SuperQueries(args);
  const int64_t partial = PartialStride(PaddedValueDim(args.kv));
  return queries * (args.kv.head_dim + 1 + partial) + kTileQueries * (kScoreStride + partial);
}

AttentionScratch SplitScratch(const AttentionArgs& args, float* scratch) {
  const int64_t queries = SuperQueries(args);
  AttentionScratch split;
  split.queries = scratch;
  split.scores = split.queries + queries * (args.kv.head_dim + 1);
  split.part = split.scores + kTileQueries * kScoreStride;
  split.merged = split.part + kTileQueries * PartialStride(PaddedValueDim(args.kv));
  return split;
}

// Elements that lie together along a chain.
template <typename Element>
constexpr int kStep = sizeof(Element) == sizeof(BFloat16) ? 2 : 1;

// The scales that follow a tile's codes, one a token.
template <typename Element>
constexpr bool kHasScales = sizeof(Element) == sizeof(int8_t);

template <typename Element>
constexpr int64_t TileBytes(int padded_dim, int block_size) {
  return block_size * (padded_dim * int64_t{sizeof(Element)} + (kHasScales<Element> ? 4 : 0));
}

// The keys, or the values, of one head.
struct PagedTiles {
  const std::byte* first;  // of block 0
  int64_t block_bytes;     // from block to block
  int padded_dim;
};

// The keys and values of one head, tile by tile.
template <typename Element>
struct PagedHead {
  PagedTiles keys;
  PagedTiles values;  // none in a latent cache
  const int32_t* block_table;
  int block_size;
  int head_dim;

  EXPERTD_INLINE const std::byte* TileAt(const PagedTiles& tiles, int position) const {
    return tiles.first + block_table[position / block_size] * tiles.block_bytes;
  }
  // The scales of the block of the position.
  EXPERTD_INLINE const float* ScalesAt(const PagedTiles& tiles, int position) const {
    return reinterpret_cast<const float*>(TileAt(tiles, position) + int64_t{tiles.padded_dim} * block_size);
  }
  // The first step of the key.
  EXPERTD_INLINE const Element* KeyAt(int position) const {
    return reinterpret_cast<const Element*>(TileAt(keys, position)) + position % block_size * kStep<Element>;
  }
  // The step of values that begins at `position`, a multiple of kStep.
  EXPERTD_INLINE const Element* ValueAt(int position) const {
    const auto* const tile = reinterpret_cast<const Element*>(TileAt(values, position));
    return tile + int64_t{position % block_size} * values.padded_dim;
  }
  int num_key_steps() const { return (head_dim + kStep<Element> - 1) / kStep<Element>; }
};

template <typename Element>
PagedHead<Element> HeadOf(const AttentionArgs& args, int kv_head) {
  const PagedKvLayer& kv = args.kv;
  const auto tiles_of = [&](const void* base, int dim) -> PagedTiles {
    const int padded_dim = RoundUp(dim, kKvDimUnit);
    const int64_t tile_bytes = TileBytes<Element>(padded_dim, kv.block_size);
    return {static_cast<const std::byte*>(base) + kv_head * tile_bytes, kv.num_kv_heads * tile_bytes, padded_dim};
  };
  return {.keys = tiles_of(kv.key_base, kv.head_dim),
          .values = kv.value_base == nullptr ? PagedTiles{} : tiles_of(kv.value_base, kv.value_dim),
          .block_table = args.block_table,
          .block_size = kv.block_size,
          .head_dim = kv.head_dim};
}

// x[i] *= the scale of position begin + i in `tiles`, the head's keys or values; `begin` is the first of a block.
template <typename Element>
void MultiplyByScales(const PagedHead<Element>& head, const PagedTiles& tiles, int begin, int size, float* x) {
  for (int first = 0; first < size; first += head.block_size) {
    const float* const scales = head.ScalesAt(tiles, begin + first);
    ForEachVector(Smaller(head.block_size, size - first), [&](int64_t i, int count) {
      float* const values = x + first + i;
      StoreUpTo(Mul(LoadUpTo(values, count), LoadUpTo(scales + i, count)), count, values);
    });
  }
}

template <typename Element>
EXPERTD_INLINE Vec LoadOf(const Element* from) {
  return Load(from);
}

// One step of a chain. A vector of the cache is multiplied with one word of a query, or with two that lie `next` apart.
//
// Single elements.
template <typename Element>
struct ChainStep {
  static constexpr int kWords = 1;
  Vec value;

  static EXPERTD_INLINE ChainStep Load(const Element* from) { return {LoadOf(from)}; }
  static EXPERTD_INLINE Vec Add(Vec sum, const ChainStep& step, const float* word, int) {
    return MulAdd(Broadcast(*word), step.value, sum);
  }
};

#if defined(__AVX512BF16__)
// Pairs by one instruction, with a word that is a pair itself.
template <>
struct ChainStep<BFloat16> {
  static constexpr int kWords = 1;
  BitVec pairs;

  static EXPERTD_INLINE ChainStep Load(const BFloat16* from) { return {LoadBits(from)}; }
  static EXPERTD_INLINE ChainStep LoadEven(const BFloat16* from) {
    return {And(LoadBits(from), BroadcastInt(0xffff))};
  }
  static EXPERTD_INLINE Vec Add(Vec sum, const ChainStep& step, const float* word, int) {
    int32_t pair;
    __builtin_memcpy(&pair, word, 4);
    return DotPairs(sum, step.pairs, BroadcastInt(pair));
  }
};
#else
// Pairs one after the other.
template <>
struct ChainStep<BFloat16> {
  static constexpr int kWords = 2;
  Vec even, odd;

  static EXPERTD_INLINE ChainStep Load(const BFloat16* from) {
    const BitVec pairs = LoadBits(from);
    return {EvenOfPairs(pairs), OddOfPairs(pairs)};
  }
  static EXPERTD_INLINE ChainStep LoadEven(const BFloat16* from) { return {EvenOfPairs(LoadBits(from)), Zero()}; }
  static EXPERTD_INLINE Vec Add(Vec sum, const ChainStep& step, const float* word, int next) {
    return MulAdd(Broadcast(word[next]), step.odd, MulAdd(Broadcast(*word), step.even, sum));
  }
};
#endif

// Words of a query, or of a row of weights, for `size` elements of a chain.
template <typename Element>
constexpr int NumWords(int size) {
  return (size + kStep<Element> - 1) / kStep<Element> * ChainStep<Element>::kWords;
}

// Scores of kQueries queries and kVecs vectors of keys, which begin at keys[v]. `queries` is [words][kTileQueries].
// Fetches `next` on the way, laid out alike.
template <typename Element, int kQueries, int kVecs>
void ScoreTile(const PagedHead<Element>& head, const float* queries, const Element* const* keys,
               const Element* const* next, float* scores) {
  using Step = ChainStep<Element>;
  const int step_stride = head.block_size * kStep<Element>;
  Vec sum[kQueries][kVecs];
  const Element *key_step[kVecs], *next_step[kVecs];
#pragma GCC unroll 16
  for (int v = 0; v < kVecs; ++v) {
    key_step[v] = keys[v];
    next_step[v] = next[v];
#pragma GCC unroll 16
    for (int q = 0; q < kQueries; ++q) sum[q][v] = Zero();
  }
  for (int i = head.num_key_steps(); i > 0; --i) {
    Step step[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      step[v] = Step::Load(key_step[v]);
      key_step[v] += step_stride;
      if constexpr (kVecs > 2) {  // with more queries there is time to wait
        __builtin_prefetch(next_step[v]);
        next_step[v] += step_stride;
      }
    }
#pragma GCC unroll 16
    for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[q][v] = Step::Add(sum[q][v], step[v], queries + q, kTileQueries);
    }
    queries += Step::kWords * kTileQueries;
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
      keys[v] = head.KeyAt(Smaller(position + v * kLanes, (part_end - 1) / kLanes * kLanes));
    }
  };
  const Element *keys[kVecs], *next[kVecs];
  find(part_begin, keys);
  for (int position = part_begin; position < part_end; position += kVecs * kLanes) {
    find(position + kVecs * kLanes, next);
    ScoreTile<Element, kQueries, kVecs>(head, queries, keys, next, scores + position - part_begin);
    for (int v = 0; v < kVecs; ++v) keys[v] = next[v];
  }
}

// part[q][dims] += sum of weights[q][key] * V[key][dims] over the part's keys [key_begin, key_end), for kVecs vectors
// of dims from `dim` on; key_begin is a multiple of kStep. `part` are partial results; `weights` are words.
template <typename Element, int kQueries, int kVecs>
void WeighTile(const PagedHead<Element>& head, const float* weights, int part_begin, int key_begin, int key_end,
               int dim, float* part) {
  using Step = ChainStep<Element>;
  const int stride = PartialStride(head.values.padded_dim);
  Vec sum[kQueries][kVecs];
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) sum[q][v] = Load(part + q * stride + dim + v * kLanes);
  }
  const auto advance = [&](int key, const Step* step) EXPERTD_INLINE_LAMBDA {
    const float* const word = weights + NumWords<Element>(key);
#pragma GCC unroll 16
    for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[q][v] = Step::Add(sum[q][v], step[v], word + q * kScoreStride, 1);
    }
  };
  const int whole_end = key_end / kStep<Element> * kStep<Element>;
  for (int key = key_begin; key < whole_end;) {
    const int position = part_begin + key;
    const int run_end = Smaller(whole_end, key + head.block_size - position % head.block_size);
    const Element* values = head.ValueAt(position) + dim * kStep<Element>;
    for (; key < run_end; key += kStep<Element>) {
      Step step[kVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) step[v] = Step::Load(values + v * kLanes * kStep<Element>);
      advance(key, step);
      values += head.values.padded_dim * kStep<Element>;
    }
  }
  if constexpr (kStep<Element> > 1) {
    if (whole_end < key_end) {  // the value after the last may be anything
      const Element* const values = head.ValueAt(part_begin + whole_end) + dim * kStep<Element>;
      Step step[kVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) step[v] = Step::LoadEven(values + v * kLanes * kStep<Element>);
      advance(whole_end, step);
    }
  }
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) Store(sum[q][v], part + q * stride + dim + v * kLanes);
  }
}

// The vectors of dims that a tile takes at most: sums for 8 chains or more, and registers left for values and weights,
// of which pairs that are multiplied as they are take the fewest.
template <typename Element>
constexpr int WeighVecs(int num_queries) {
  if (num_queries == 1) return 8;
  if (num_queries <= kTileQueries / 2) return 4;
  return kStep<Element> == 2 && ChainStep<Element>::kWords == 1 ? 3 : 2;
}

// The same for all dims, from the widest tiles to the narrowest.
template <typename Element, int kQueries, int kVecs>
void WeighDims(const PagedHead<Element>& head, const float* weights, int part_begin, int key_begin, int key_end,
               int dim, float* part) {
  for (; dim + kVecs * kLanes <= head.values.padded_dim; dim += kVecs * kLanes) {
    WeighTile<Element, kQueries, kVecs>(head, weights, part_begin, key_begin, key_end, dim, part);
  }
  if constexpr (kVecs > 1) {
    WeighDims<Element, kQueries, kVecs - 1>(head, weights, part_begin, key_begin, key_end, dim, part);
  }
}

template <typename Element, int kQueries>
void WeighPart(const PagedHead<Element>& head, const float* weights, int part_begin, int key_begin, int key_end,
               float* part) {
  WeighDims<Element, kQueries, WeighVecs<Element>(kQueries)>(head, weights, part_begin, key_begin, key_end, 0, part);
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

// Merges the partial result of a part of the keys into that of the parts before it.
void MergePart(const float* part, int padded_dim, float* merged) {
  const float maximum = merged[padded_dim], part_maximum = part[padded_dim];
  const float common = maximum > part_maximum ? maximum : part_maximum;
  float factors[kLanes];
  Store(Exp(Sub(KeepFirst(Broadcast(maximum), 1, Broadcast(part_maximum)), Broadcast(common))), factors);
  const Vec old_factor = Broadcast(factors[0]);
  const Vec new_factor = Broadcast(factors[1]);
  for (int d = 0; d < padded_dim; d += kLanes) {
    Store(MulAdd(Load(part + d), new_factor, Mul(Load(merged + d), old_factor)), merged + d);
  }
  merged[padded_dim] = common;
  merged[padded_dim + 1] = merged[padded_dim + 1] * factors[0] + part[padded_dim + 1] * factors[1];
}

// The weights of a query, in place: exponentials, less the maximum, and the words that values are multiplied with.
// Returns the sum of the exponentials.
template <typename Element>
float MakeWeights(const PagedHead<Element>& head, int part_begin, float maximum, int size, float* row) {
  const float sum = ExpAndSum(maximum, size, row);
  if constexpr (kHasScales<Element>) MultiplyByScales(head, head.values, part_begin, size, row);
  if constexpr (kStep<Element> > 1) row[size] = 0.0f;  // may make a pair with the last
  if constexpr (NumWords<Element>(2) == 1) RoundToBf16(row, size, reinterpret_cast<BFloat16*>(row));
  return sum;
}

// Queries of a tile against one part: the partial result of query q goes to `partials`, q strides on. `visible[q]` is
// the number of keys of the part that query q sees: ascending, at most kAttentionPartKeys, the last greater than 0; a
// query that sees none has no result.
template <typename Element>
void AttendPart(const PagedHead<Element>& head, int part_begin, const int* visible, int count, float scale,
                const float* queries, float* scores, float* partials) {
  const int padded_dim = head.values.padded_dim, stride = PartialStride(padded_dim);
  kScore<Element>[count - 1](head, queries, part_begin, part_begin + visible[count - 1], scores);
  for (int q = 0; q < count; ++q) {
    float* const row = scores + q * kScoreStride;
    float* const partial = partials + q * stride;
    ScaleInPlace(scale, visible[q], row);
    if constexpr (kHasScales<Element>) MultiplyByScales(head, head.keys, part_begin, visible[q], row);
    partial[padded_dim] = Maximum(row, visible[q]);
    partial[padded_dim + 1] = MakeWeights(head, part_begin, partial[padded_dim], visible[q], row);
    for (int d = 0; d < padded_dim; d += kLanes) Store(Zero(), partial + d);
  }
  // First the keys that all see, together, then those that only later queries see, one query at a time.
  const bool are_equal = visible[0] == visible[count - 1];
  const int common = are_equal ? visible[0] : visible[0] / kStep<Element> * kStep<Element>;
  if (common > 0) kWeigh<Element>[count - 1](head, scores, part_begin, 0, common, partials);
  for (int q = 0; q < count; ++q) {
    if (visible[q] == common) continue;
    kWeigh<Element>[0](head, scores + q * kScoreStride, part_begin, common, visible[q], partials + q * stride);
  }
}

// The query with number `index` among those of a kv head: its row, and its element in a matrix of rows.
struct QueryPlace {
  int row;
  int64_t head;
  int64_t Element(int64_t stride, int dim) const { return row * stride + head * dim; }
};

QueryPlace PlaceOf(const AttentionArgs& args, int kv_head, int64_t index) {
  const int group = args.num_heads / args.kv.num_kv_heads;
  const int64_t head = int64_t{kv_head} * group + index % group;
  return {.row = static_cast<int>(index / group), .head = head};
}

// Copies a query as words, `stride` apart.
template <typename Element>
void CopyQuery(const float* from, int head_dim, int stride, float* to) {
  BFloat16 rounded[kMaxHeadDim];
  if constexpr (NumWords<Element>(2) == 1) RoundToBf16(from, head_dim, rounded);
  for (int i = 0; i < NumWords<Element>(head_dim); ++i) {
    if constexpr (NumWords<Element>(2) == 1) {
      __builtin_memcpy(to + i * stride, rounded + 2 * i, sizeof(float));
    } else {
      to[i * stride] = i < head_dim ? from[i] : 0.0f;
    }
  }
}

// Copies the queries of a supertile to scratch as words, tile by tile, transposed.
template <typename Element>
void CopyQueries(const AttentionArgs& args, int kv_head, int64_t begin, int count, float* to) {
  const int head_dim = args.kv.head_dim, num_words = NumWords<Element>(head_dim);
  for (int q = 0; q < count; ++q) {
    const float* from = args.queries + PlaceOf(args, kv_head, begin + q).Element(args.query_stride, head_dim);
    float* const column = to + q / kTileQueries * kTileQueries * num_words + q % kTileQueries;
    CopyQuery<Element>(from, head_dim, kTileQueries, column);
  }
}

void WriteOutput(const AttentionArgs& args, int kv_head, int64_t index, const float* merged) {
  float* const to = args.output + PlaceOf(args, kv_head, index).Element(args.output_stride, args.kv.value_dim);
  const Vec factor = Broadcast(1.0f / merged[PaddedValueDim(args.kv) + 1]);
  ForEachVector(args.kv.value_dim, [&](int64_t d, int lanes) {
    StoreUpTo(Mul(Load(merged + d), factor), lanes, to + d);
  });
}

// Of the query with number `index` of a kv head.
float* PartialAt(const AttentionArgs& args, int part, int kv_head, int64_t index) {
  const int64_t queries = QueriesPerKvHead(args);
  return args.partials +
         ((int64_t{part} * args.kv.num_kv_heads + kv_head) * queries + index) * PartialStride(PaddedValueDim(args.kv));
}

// Queries [begin, begin + count) of a kv head: a supertile.
template <typename Element>
void AttendSupertile(const AttentionArgs& args, int kv_head, int64_t begin, int count,
                     const AttentionScratch& scratch) {
  const PagedHead<Element> head = HeadOf<Element>(args, kv_head);
  const int stride = PartialStride(head.values.padded_dim);
  const bool is_shared = args.partials != nullptr;
  CopyQueries<Element>(args, kv_head, begin, count, scratch.queries);
  const int last_part = (args.first_position + PlaceOf(args, kv_head, begin + count - 1).row) / kAttentionPartKeys;
  const int part_end = is_shared ? Smaller(args.part_end, last_part + 1) : last_part + 1;
  for (int part = is_shared ? args.part_begin : 0; part < part_end; ++part) {
    for (int tile = 0; tile < count; tile += kTileQueries) {
      const int tile_count = Smaller(kTileQueries, count - tile);
      int visible[kTileQueries];
      for (int q = 0; q < tile_count; ++q) {
        const int position = args.first_position + PlaceOf(args, kv_head, begin + tile + q).row;
        visible[q] = Larger(0, Smaller(position + 1 - part * kAttentionPartKeys, kAttentionPartKeys));
      }
      if (visible[tile_count - 1] == 0) continue;
      float* const merged = scratch.merged + tile * stride;
      float* const partials = is_shared   ? PartialAt(args, part, kv_head, begin + tile)
                              : part == 0 ? merged
                                          : scratch.part;
      AttendPart(head, part * kAttentionPartKeys, visible, tile_count, args.scale,
                 scratch.queries + tile * NumWords<Element>(head.head_dim), scratch.scores, partials);
      if (is_shared || part == 0) continue;
      for (int q = 0; q < tile_count; ++q) {
        if (visible[q] > 0) MergePart(partials + q * stride, head.values.padded_dim, merged + q * stride);
      }
    }
  }
  if (is_shared) return;
  for (int q = 0; q < count; ++q) WriteOutput(args, kv_head, begin + q, scratch.merged + q * stride);
}

void Attention(const AttentionArgs& args, int kv_head_begin, int kv_head_end, float* scratch) {
  if (args.kv.value_base == nullptr) return LatentAttention(args, kv_head_begin, kv_head_end, scratch);
  const AttentionScratch split = SplitScratch(args, scratch);
  const auto attend = args.kv.format == KvFormat::kF32    ? AttendSupertile<float>
                      : args.kv.format == KvFormat::kBF16 ? AttendSupertile<BFloat16>
                                                          : AttendSupertile<int8_t>;
  const int64_t num_queries = QueriesPerKvHead(args);
  for (int kv_head = kv_head_begin; kv_head < kv_head_end; ++kv_head) {
    for (int64_t begin = 0; begin < num_queries; begin += kSuperQueries) {
      const int64_t rest = num_queries - begin;
      attend(args, kv_head, begin, rest < kSuperQueries ? static_cast<int>(rest) : kSuperQueries, split);
    }
  }
}

void MergeAttention(const AttentionArgs& args, int kv_head_begin, int kv_head_end) {
  for (int kv_head = kv_head_begin; kv_head < kv_head_end; ++kv_head) {
    for (int64_t index = 0; index < QueriesPerKvHead(args); ++index) {
      const int last_part = (args.first_position + PlaceOf(args, kv_head, index).row) / kAttentionPartKeys;
      float* const merged = PartialAt(args, 0, kv_head, index);
      for (int part = 1; part <= last_part; ++part) {
        MergePart(PartialAt(args, part, kv_head, index), PaddedValueDim(args.kv), merged);
      }
      WriteOutput(args, kv_head, index, merged);
    }
  }
}
