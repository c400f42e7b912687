// Attention over a latent cache, for any vector width and every format: many query heads share each key, and its
// beginning is its value (multi-head latent attention in its absorbed form, arXiv 2405.04434, section 2.1).
//
// Lanes are query heads of one row. So keys need no transposition to become values: each word of the cache is
// broadcast, for scores and for weighted values alike; maxima, exponentials and sums go from key to key, each lane by
// itself; and all queries of a vector see the same keys. Fewer heads than lanes leave lanes unused.
//
// Loops from the outside: supertiles of kSuperVectors vectors of queries, and parts of the keys. Scores of a part come
// first (chains over head_dim), by kLanes keys, then its weights, then the weighted values (chains over keys), by
// kChunkKeys keys and kKvDimUnit dims: few enough that their words stay in the first-level cache for all vectors.
// Where there is AMX, it computes both products of a bf16 cache (latent_tiles.inl), with the same loops of other sizes.
//
// Partial results are those of attention.inl: the same merge makes the output of them. A chain depends on its query
// alone, so neither heads nor rows nor chunks have an influence on any bit.

constexpr int kChunkKeys = 128;  // whole blocks of every size
constexpr int kSuperVectors = 64 / kLanes;

// Sums that a loop keeps in registers, enough to hide the latency of an addition: for one vector of queries and so
// many words, or for two and half as many. Both numbers divide kKvDimUnit.
constexpr int kLatentSums = kLanes;

// The scores of a vector of queries lie [keys of a part][kLanes]; so much further apart that equal keys of two vectors
// fall into different cache sets.
constexpr int kLatentScoreFloats = (kAttentionPartKeys + 1) * kLanes;

// Whether words are pairs: of dims in the tiles, as scores need them.
template <typename Element>
constexpr bool kIsPaired = kStep<Element> == 2 && ChainStep<Element>::kWords == 1;

// Elements of a chain in a word.
template <typename Element>
constexpr int kWordElements = kIsPaired<Element> ? 2 : 1;

// Whether the words of keys are those of the tile. Others are made of it as floats.
template <typename Element>
constexpr bool kIsInPlace = kIsPaired<Element> || sizeof(Element) == sizeof(float);

// sum + the products of the elements of two words, in each lane.
template <typename Element>
EXPERTD_INLINE Vec AddProduct(Vec sum, Vec words, Vec by) {
#if defined(__AVX512BF16__)
  if constexpr (kIsPaired<Element>) return DotPairs(sum, BitsOf(words), BitsOf(by));
#endif
  return MulAdd(words, by, sum);
}

// A word in all lanes; of a pair the first element alone, where the second may be anything.
template <typename Element, bool kIsHalf>
EXPERTD_INLINE Vec BroadcastWord(const float* word) {
#if defined(__AVX512BF16__)
  if constexpr (kIsHalf) return _mm512_castsi512_ps(And(BitsOf(Broadcast(*word)), BroadcastInt(0xffff)));
#endif
  return Broadcast(*word);
}

// Whether AMX computes the products, for all queries or for none, as its sums have other bits. latent_tiles.inl
#if defined(EXPERTD_TILES)
template <typename Element>
constexpr bool kUsesTiles = kIsPaired<Element>;
#else
template <typename Element>
constexpr bool kUsesTiles = false;
constexpr int kTilePairs = 1, kTileChunkFloats = 0;
#endif

// Words of keys, of kLanes keys side by side: row i at first + i * stride. `next`, laid out alike, is what will be
// needed after them.
struct KeyWords {
  const float* first;
  const float* next;
  int64_t stride;
};

// Scores of kVectors vectors of queries for kLatentSums / kVectors of the keys. queries: [num_words][kLanes],
// query_stride from vector to vector. Fetches `next` on the way to the second-level cache, as the first has no room.
template <typename Element, int kVectors>
void ScoreWords(KeyWords keys, const float* queries, int64_t query_stride, int num_words, float* scores) {
  constexpr int kKeys = kLatentSums / kVectors;
  Vec sum[kKeys][kVectors];
#pragma GCC unroll 16
  for (int key = 0; key < kKeys; ++key) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[key][v] = Zero();
  }
  for (int i = 0; i < num_words; ++i) {
    Vec query[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) query[v] = Load(queries + v * query_stride);
#pragma GCC unroll 16
    for (int key = 0; key < kKeys; ++key) {
      const Vec word = Broadcast(keys.first[key]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[key][v] = AddProduct<Element>(sum[key][v], word, query[v]);
    }
    __builtin_prefetch(keys.next, /*rw=*/0, /*locality=*/2);
    keys.first += keys.stride;
    keys.next += keys.stride;
    queries += kLanes;
  }
#pragma GCC unroll 16
  for (int key = 0; key < kKeys; ++key) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Store(sum[key][v], scores + v * kLatentScoreFloats + key * kLanes);
  }
}

// Words of a block that ScoreTwoGroups goes through for all queries: so few that they stay in the first-level cache.
constexpr int kScoreBlockWords = 48;

// The same for one vector of queries and the kLanes keys of each of two groups. On the way lanes are keys: then a
// broadcast word of a query serves both groups, half the loads of above, where it serves but one vector.
template <typename Element>
void ScoreTwoGroups(const KeyWords (&groups)[2], const float* queries, int num_words, float* scores) {
  constexpr int kQueries = kLatentSums / 2;
  const int64_t stride = groups[0].stride;
  float sums[kLanes][2 * kLanes] = {};  // [query][key]
  for (int begin = 0; begin < num_words; begin += kScoreBlockWords) {
    const int end = Smaller(begin + kScoreBlockWords, num_words);
    for (int half = 0; half < 2; ++half) {
      float(*const half_sums)[2 * kLanes] = sums + half * kQueries;
      const float* const query = queries + half * kQueries;
      const float* const soon = groups[half].first + kScoreBlockWords * stride;
      Vec sum[kQueries][2];
#pragma GCC unroll 16
      for (int q = 0; q < kQueries; ++q) {
        sum[q][0] = Load(half_sums[q]);
        sum[q][1] = Load(half_sums[q] + kLanes);
      }
      for (int i = begin; i < end; ++i) {
        const Vec first = Load(groups[0].first + i * stride), second = Load(groups[1].first + i * stride);
#pragma GCC unroll 16
        for (int q = 0; q < kQueries; ++q) {
          const Vec word = Broadcast(query[i * kLanes + q]);
          sum[q][0] = AddProduct<Element>(sum[q][0], word, first);
          sum[q][1] = AddProduct<Element>(sum[q][1], word, second);
        }
        __builtin_prefetch(soon + i * stride, /*rw=*/0, /*locality=*/3);
        __builtin_prefetch(groups[half].next + i * stride, /*rw=*/0, /*locality=*/2);
      }
#pragma GCC unroll 16
      for (int q = 0; q < kQueries; ++q) {
        Store(sum[q][0], half_sums[q]);
        Store(sum[q][1], half_sums[q] + kLanes);
      }
    }
  }
  TransposeLanes(sums[0], 2 * kLanes, scores, kLanes);
  TransposeLanes(sums[0] + kLanes, 2 * kLanes, scores + kLanes * kLanes, kLanes);
}

// The word of `dim` and of the first keys in a chunk of values: rows are of one dim, or of two by turns, a pair of keys
// each.
template <typename Element>
constexpr int64_t ValueWord(int dim) {
  return dim / kWordElements<Element> * int64_t{kChunkKeys} + dim % kWordElements<Element>;
}

// sums[v][d] += the sum over num_words words of weights[v][word] * values[d][word], for kLatentSums / kVectors dims.
// sums: [dims][kLanes], sum_stride from vector to vector; weights: [words][kLanes] a vector. kIsHalf: the second
// element of a word counts for nothing.
template <typename Element, int kVectors, bool kIsHalf>
void WeighWords(const float* values, const float* weights, int num_words, int64_t sum_stride, float* sums) {
  constexpr int kDims = kLatentSums / kVectors;
  Vec sum[kDims][kVectors];
#pragma GCC unroll 16
  for (int d = 0; d < kDims; ++d) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[d][v] = Load(sums + v * sum_stride + d * kLanes);
  }
  for (int i = 0; i < num_words; ++i) {
    Vec weight[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) weight[v] = Load(weights + v * kLatentScoreFloats);
#pragma GCC unroll 16
    for (int d = 0; d < kDims; ++d) {
      const Vec word = BroadcastWord<Element, kIsHalf>(values + ValueWord<Element>(d));
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[d][v] = AddProduct<Element>(sum[d][v], word, weight[v]);
    }
    values += kWordElements<Element>;
    weights += kLanes;
  }
#pragma GCC unroll 16
  for (int d = 0; d < kDims; ++d) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Store(sum[d][v], sums + v * sum_stride + d * kLanes);
  }
}

// Floats of two dims, of kLanes keys each, from the tile's rows of these dims.
template <typename Element>
EXPERTD_INLINE void CopyTwoDims(const Element* from, int block_size, float* even, float* odd) {
  Store(LoadOf(from), even);
  Store(LoadOf(from + block_size), odd);
}
template <>
EXPERTD_INLINE void CopyTwoDims<BFloat16>(const BFloat16* from, int, float* even, float* odd) {
  const BitVec pairs = LoadBits(from);
  Store(EvenOfPairs(pairs), even);
  Store(OddOfPairs(pairs), odd);
}

// Words of num_dims dims, rounded up to two, of kLanes keys, as sums over keys need them: floats [dim][to_stride], or
// pairs of keys [dim / 2][to_stride], in a row those of the two dims by turns. from: those of the tile.
template <typename Element>
EXPERTD_INLINE void CopyWords(const Element* from, int block_size, int num_dims, int64_t to_stride, float* to) {
  for (int d = 0; d < num_dims; d += 2) {
    __builtin_prefetch(from + num_dims * block_size, /*rw=*/0, /*locality=*/3);
#if defined(__AVX512BF16__)
    if constexpr (kIsPaired<Element>) StoreBits(TransposePairs(LoadBits(from)), to);
#endif
    if constexpr (!kIsPaired<Element>) CopyTwoDims(from, block_size, to, to + to_stride);
    from += 2 * block_size;
    to += 2 / kWordElements<Element> * to_stride;
  }
}

// Scores of one vector of queries to the words of weights, in place. Returns the sum of the weights, in four chains
// over the keys. scales: of the keys, for int8 only, here and below.
template <typename Element>
Vec MakeLatentWeights(const float* scales, int size, Vec maximum, float* scores) {
  Vec sums[4] = {Zero(), Zero(), Zero(), Zero()};
  const auto advance = [&](int key, Vec* sum) EXPERTD_INLINE_LAMBDA {
    const Vec weight = Exp(Sub(Load(scores + key * kLanes), maximum));
    *sum = Add(*sum, weight);
    Store(kHasScales<Element> ? Mul(weight, Broadcast(scales[key])) : weight, scores + key * kLanes);
  };
  int key = 0;
  for (; key + 4 <= size; key += 4) {
#pragma GCC unroll 4
    for (int chain = 0; chain < 4; ++chain) advance(key + chain, &sums[chain]);
  }
  for (; key < size; ++key) advance(key, &sums[0]);
#if defined(__AVX512BF16__)
  if constexpr (kIsPaired<Element>) {
    for (int i = 0; i < size; i += 2) {
      const Vec odd = i + 1 < size ? Load(scores + (i + 1) * kLanes) : Zero();
      StoreBits(MakePairs(Load(scores + i * kLanes), odd), scores + i / 2 * kLanes);
    }
  }
#endif
  return Add(Add(sums[0], sums[1]), Add(sums[2], sums[3]));
}

// Scales the scores of one vector of queries, in place, and returns their maxima.
template <typename Element>
Vec ScaleLatentScores(const float* scales, int size, float scale, float* scores) {
  Vec maximum = Broadcast(-__builtin_inff());
  for (int key = 0; key < size; ++key) {
    Vec score = Mul(Load(scores + key * kLanes), Broadcast(scale));
    if constexpr (kHasScales<Element>) score = Mul(score, Broadcast(scales[key]));
    Store(score, scores + key * kLanes);
    maximum = Max(score, maximum);
  }
  return maximum;
}

// Up to kLanes query heads of one row and kv head.
struct LatentQueries {
  int64_t first;  // number among the queries of the kv head
  int row;
  int count;
};

int LatentVectorsPerRow(const AttentionArgs& args) {
  return RoundUp(args.num_heads / args.kv.num_kv_heads, kLanes) / kLanes;
}

LatentQueries LatentQueriesOf(const AttentionArgs& args, int64_t vector) {
  const int group = args.num_heads / args.kv.num_kv_heads, vectors_per_row = LatentVectorsPerRow(args);
  const int row = static_cast<int>(vector / vectors_per_row);
  const int head = static_cast<int>(vector % vectors_per_row) * kLanes;
  return {.first = int64_t{row} * group + head, .row = row, .count = Smaller(kLanes, group - head)};
}

// Where things begin in the scratch of a supertile, in floats.
struct LatentScratch {
  int64_t queries = 0;  // [vectors][words][kLanes]; for tiles [vectors][kLanes][words]
  int64_t scores;       // [vectors][kLatentScoreFloats]: scores, then weights as words
  int64_t scales;       // [kAttentionPartKeys]
  int64_t sums;         // [vectors][padded value_dim][kLanes]: weighted values
  int64_t chunk;        // words of kLanes keys, or of kKvDimUnit dims of kChunkKeys values; or values for tiles
  int64_t part;         // [kLanes] partial results of a part
  int64_t merged;       // [vectors][kLanes] partial results of the parts so far
  int64_t size;
};

LatentScratch LatentScratchOf(const AttentionArgs& args) {
  const int64_t all = int64_t{args.num_rows} * LatentVectorsPerRow(args);
  const int64_t vectors = all < kSuperVectors ? all : kSuperVectors;
  const int padded_dim = RoundUp(args.kv.head_dim, kKvDimUnit), value_dim = PaddedValueDim(args.kv);
  const int64_t partials = kLanes * PartialStride(value_dim);
  LatentScratch scratch;
  scratch.scores = scratch.queries + vectors * padded_dim * kLanes;
  scratch.scales = scratch.scores + vectors * kLatentScoreFloats;
  scratch.sums = scratch.scales + kAttentionPartKeys;
  scratch.chunk = scratch.sums + vectors * value_dim * kLanes;
  scratch.part = scratch.chunk + Larger(kTileChunkFloats, Larger(padded_dim * kLanes, kKvDimUnit * kChunkKeys));
  scratch.merged = scratch.part + partials;
  scratch.size = scratch.merged + vectors * partials;
  return scratch;
}

int64_t LatentScratchFloats(const AttentionArgs& args) { return LatentScratchOf(args).size; }

// Vectors [begin, begin + count) of the queries of a kv head.
template <typename Element>
class LatentSupertile {
 public:
  LatentSupertile(const AttentionArgs& args, int kv_head, int64_t begin, int count, float* scratch)
      : args_(args),
        kv_head_(kv_head),
        count_(count),
        head_(HeadOf<Element>(args, kv_head)),
        num_words_(NumWords<Element>(args.kv.head_dim)),
        query_words_(kUsesTiles<Element> ? RoundUp(num_words_, kTilePairs) : num_words_),
        value_dim_(PaddedValueDim(args.kv)),
        scratch_(LatentScratchOf(args)),
        base_(scratch) {
    for (int v = 0; v < count; ++v) queries_[v] = LatentQueriesOf(args, begin + v);
  }

  void Attend() {
    CopyQueryWords();
    const int last_part = (args_.first_position + queries_[count_ - 1].row) / kAttentionPartKeys;
    const bool is_shared = args_.partials != nullptr;
    const int part_end = is_shared ? Smaller(args_.part_end, last_part + 1) : last_part + 1;
    for (int part = is_shared ? args_.part_begin : 0; part < part_end; ++part) AttendPart(part);
    if (is_shared) return;
    for (int v = 0; v < count_; ++v) {
      for (int q = 0; q < queries_[v].count; ++q) WriteOutput(args_, kv_head_, queries_[v].first + q, Merged(v, q));
    }
  }

 private:
  int partial_stride() const { return PartialStride(value_dim_); }
  int64_t query_stride() const { return int64_t{query_words_} * kLanes; }
  int64_t sum_stride() const { return int64_t{value_dim_} * kLanes; }
  float* Queries(int v) const { return base_ + scratch_.queries + v * query_stride(); }
  float* Scores(int v) const { return base_ + scratch_.scores + v * kLatentScoreFloats; }
  float* Sums(int v) const { return base_ + scratch_.sums + v * sum_stride(); }
  float* Chunk() const { return base_ + scratch_.chunk; }
  float* Merged(int v, int q) const { return base_ + scratch_.merged + (v * kLanes + q) * partial_stride(); }

  // Of queries that don't exist, and behind the last word of the others, zeros.
  void CopyQueryWords() {
    const int query_step = kUsesTiles<Element> ? query_words_ : 1, word_step = kUsesTiles<Element> ? 1 : kLanes;
    for (int v = 0; v < count_; ++v) {
      for (int64_t i = 0; i < query_stride(); i += kLanes) Store(Zero(), Queries(v) + i);
      for (int q = 0; q < queries_[v].count; ++q) {
        const QueryPlace place = PlaceOf(args_, kv_head_, queries_[v].first + q);
        const float* const from = args_.queries + place.Element(args_.query_stride, args_.kv.head_dim);
        CopyQuery<Element>(from, args_.kv.head_dim, word_step, Queries(v) + q * query_step);
      }
    }
  }

  void AttendPart(int part) {
    const int part_begin = part * kAttentionPartKeys;
    for (int v = 0; v < count_; ++v) {
      const int position = args_.first_position + queries_[v].row;
      visible_[v] = Larger(0, Smaller(position + 1 - part_begin, kAttentionPartKeys));
    }
    first_ = 0;  // rows ascend: the first may see nothing of the part
    while (first_ < count_ && visible_[first_] == 0) ++first_;
    if (first_ == count_) return;
    ScorePart(part_begin);
    const float* const scales = CopyScales(part_begin);
    Vec maxima[kSuperVectors], totals[kSuperVectors];
    for (int v = first_; v < count_; ++v) {
      maxima[v] = ScaleLatentScores<Element>(scales, visible_[v], args_.scale, Scores(v));
      totals[v] = MakeLatentWeights<Element>(scales, visible_[v], maxima[v], Scores(v));
      for (int64_t i = 0; i < sum_stride(); i += kLanes) Store(Zero(), Sums(v) + i);
    }
    WeighPart(part_begin);
    for (int v = first_; v < count_; ++v) Finish(part, v, maxima[v], totals[v]);
  }

  // Those of the keys of a part, side by side.
  const float* CopyScales(int part_begin) {
    float* const scales = base_ + scratch_.scales;
    if constexpr (kHasScales<Element>) {
      for (int key = 0; key < visible_[count_ - 1]; key += kLanes) {
        const int position = part_begin + key;
        Store(Load(head_.ScalesAt(head_.keys, position) + position % head_.block_size), scales + key);
      }
    }
    return scales;
  }

  void ScorePart(int part_begin) {
    int key = 0;
    if constexpr (kUsesTiles<Element>) return this->ScoreByTilesFrom(part_begin);
    if constexpr (kIsInPlace<Element>) {
      if (count_ - first_ == 1) {
        for (; key + 2 * kLanes <= visible_[first_]; key += 2 * kLanes) {
          const KeyWords groups[2] = {WordsAt(part_begin + key), WordsAt(part_begin + key + kLanes)};
          ScoreTwoGroups<Element>(groups, Queries(first_), num_words_, Scores(first_) + key * kLanes);
        }
      }
    }
    for (; key < visible_[count_ - 1]; key += kLanes) ScoreKeys(part_begin, key);
  }

  void WeighPart(int part_begin) {
    if constexpr (kUsesTiles<Element>) return this->WeighByTilesFrom(part_begin);
    for (int begin = 0; begin < visible_[count_ - 1]; begin += kChunkKeys) WeighChunk(part_begin, begin);
  }

#if defined(EXPERTD_TILES)
  void ScoreByTilesFrom(int part_begin) {
    constexpr int kKeys = kLatentTiles * kLanes;
    for (int key = 0; key < visible_[count_ - 1]; key += kKeys) {
      const float *groups[kLatentTiles], *next[kLatentTiles];
      float* scores[kLatentTiles];
      for (int i = 0; i < kLatentTiles; ++i) {
        groups[i] = WordsAt(part_begin + key + i * kLanes).first;
        next[i] = WordsAt(part_begin + key + i * kLanes + kKeys).first;
      }
      for (int v = first_; v < count_; ++v) {
        for (int i = 0; i < kLatentTiles; ++i) {
          const int first = key + i * kLanes;
          scores[i] = first < visible_[v] ? Scores(v) + first * kLanes : nullptr;
        }
        ScoreByTiles(Queries(v), query_words_, groups, v == first_ ? next : nullptr, head_.block_size, num_words_,
                     scores);
      }
    }
  }

  void WeighByTilesFrom(int part_begin) {
    for (int v = first_; v < count_; ++v) {
      const int end = RoundUp(visible_[v], kTileElements) / 2;
      for (int i = RoundUp(visible_[v], 2) / 2; i < end; ++i) Store(Zero(), Scores(v) + i * kLanes);
    }
    auto* const values = reinterpret_cast<BFloat16*>(Chunk());
    for (int begin = 0; begin < visible_[count_ - 1]; begin += kTileChunkKeys) {
      const int end = Smaller(begin + kTileChunkKeys, visible_[count_ - 1]);
      for (int dim = 0; dim < value_dim_; dim += kTileChunkDims) {
        const int num_dims = Smaller(kTileChunkDims, value_dim_ - dim);
        const auto group_at = [&](int key) { return head_.KeyAt(part_begin + key) + dim * head_.block_size; };
        for (int key = begin; key < end; key += kTileElements) {
          const BFloat16* const second = key + kLanes < end ? group_at(key + kLanes) : nullptr;
          CopyValues(group_at(key), second, head_.block_size, num_dims, values + key - begin);
        }
        for (int v = first_; v < count_; ++v) {
          const int num_keys = Smaller(visible_[v], end) - begin;
          if (num_keys <= 0) continue;
          WeighByTiles(values, Scores(v) + begin / 2 * kLanes, num_keys, num_dims, Sums(v) + dim * kLanes);
        }
      }
    }
  }
#endif

  // Of kLanes keys from the position on, in place, and of those twice kLanes further on. At the last, where there are
  // no more.
  KeyWords WordsAt(int position) const {
    const int last = (args_.first_position + queries_[count_ - 1].row) / kLanes * kLanes;
    return {.first = reinterpret_cast<const float*>(head_.KeyAt(Smaller(position, last))),
            .next = reinterpret_cast<const float*>(head_.KeyAt(Smaller(position + 2 * kLanes, last))),
            .stride = head_.block_size};
  }

  // Of kLanes keys of a part, from `key` on.
  void ScoreKeys(int part_begin, int key) {
    const int position = part_begin + key;
    KeyWords keys = {.first = Chunk(), .next = Chunk(), .stride = kLanes};
    if constexpr (kIsInPlace<Element>) {
      keys = WordsAt(position);
    } else {
      CopyWords(head_.KeyAt(position), head_.block_size, head_.head_dim, kLanes, Chunk());
    }
    int v = first_;
    for (; v + 2 <= count_; v += 2) ScoreVectors<2>(v, key, keys);
    if (v < count_) ScoreVectors<1>(v, key, keys);
  }

  template <int kVectors>
  void ScoreVectors(int v, int key, KeyWords keys) {
    for (int i = 0; i < kLanes; i += kLatentSums / kVectors) {
      ScoreWords<Element, kVectors>(keys, Queries(v), query_stride(), num_words_, Scores(v) + (key + i) * kLanes);
      keys.first += kLatentSums / kVectors;
    }
  }

  // Of the keys of a part from `begin` on, dims by dims. Two vectors go together as far as both see; where one sees
  // more, up to whole words.
  void WeighChunk(int part_begin, int begin) {
    const int end = Smaller(begin + kChunkKeys, visible_[count_ - 1]);
    const int num_groups = RoundUp(end - begin, kLanes) / kLanes;
    const Element* keys[kChunkKeys / kLanes];
    for (int i = 0; i < num_groups; ++i) keys[i] = head_.KeyAt(part_begin + begin + i * kLanes);
    for (int dim = 0; dim < value_dim_; dim += kKvDimUnit) {
      for (int i = 0; i < num_groups; ++i) {
        CopyWords(keys[i], head_.block_size, kKvDimUnit, kChunkKeys, Chunk() + i * kLanes);
        keys[i] += kKvDimUnit * head_.block_size;
      }
      for (int v = first_; v < count_; v += 2) {
        int common = begin;
        if (v + 1 < count_) {
          const bool are_equal = visible_[v] == visible_[v + 1];
          const int seen = are_equal ? visible_[v] : visible_[v] / kWordElements<Element> * kWordElements<Element>;
          common = Larger(begin, Smaller(seen, end));
          WeighVectors<2>(v, dim, begin, begin, common);
          WeighVectors<1>(v + 1, dim, begin, common, Smaller(visible_[v + 1], end));
        }
        WeighVectors<1>(v, dim, begin, common, Smaller(visible_[v], end));
      }
    }
  }

  // Of kKvDimUnit dims from `dim` on and the keys [begin, end) of the chunk, the first a multiple of kWordElements.
  template <int kVectors>
  void WeighVectors(int v, int dim, int chunk_begin, int begin, int end) {
    if (begin >= end) return;
    const int num_words = (end - begin) / kWordElements<Element>;
    const float* const weights = Scores(v) + begin / kWordElements<Element> * kLanes;
    for (int d = 0; d < kKvDimUnit; d += kLatentSums / kVectors) {
      const float* const values = Chunk() + ValueWord<Element>(d) + begin - chunk_begin;
      float* const sums = Sums(v) + (dim + d) * kLanes;
      WeighWords<Element, kVectors, false>(values, weights, num_words, sum_stride(), sums);
      if constexpr (kIsPaired<Element>) {
        if ((end - begin) % 2 == 0) continue;
        WeighWords<Element, kVectors, true>(values + 2 * num_words, weights + num_words * kLanes, /*num_words=*/1,
                                            sum_stride(), sums);
      }
    }
  }

  // Writes the partial results of a vector of queries, or merges them into those of the parts before.
  void Finish(int part, int v, Vec maxima, Vec totals) {
    const LatentQueries& queries = queries_[v];
    float* const partials = args_.partials != nullptr ? PartialAt(args_, part, kv_head_, queries.first)
                            : part == 0               ? Merged(v, 0)
                                                      : base_ + scratch_.part;
    float maximum[kLanes], total[kLanes];
    Store(maxima, maximum);
    Store(totals, total);
    for (int d = 0; d < value_dim_; d += kLanes) {
      const float* const from = Sums(v) + d * kLanes;
      if (queries.count == kLanes) {
        TransposeLanes(from, kLanes, partials + d, partial_stride());
        continue;
      }
      for (int q = 0; q < queries.count; ++q) {
        for (int i = 0; i < kLanes; ++i) partials[q * partial_stride() + d + i] = from[i * kLanes + q];
      }
    }
    for (int q = 0; q < queries.count; ++q) {
      float* const partial = partials + q * partial_stride();
      partial[value_dim_] = maximum[q];
      partial[value_dim_ + 1] = total[q];
      if (args_.partials == nullptr && part > 0) MergePart(partial, value_dim_, Merged(v, q));
    }
  }

  const AttentionArgs& args_;
  const int kv_head_;
  const int count_;
  const PagedHead<Element> head_;
  const int num_words_;
  const int query_words_;
  const int value_dim_;  // padded
  const LatentScratch scratch_;
  float* const base_;
  LatentQueries queries_[kSuperVectors];
  int visible_[kSuperVectors];  // keys of the part
  int first_;                   // the first vector that sees any of them
};

template <typename Element>
void AttendLatentHead(const AttentionArgs& args, int kv_head, float* scratch) {
#if defined(EXPERTD_TILES)
  if constexpr (kUsesTiles<Element>) ConfigureLatentTiles();
#endif
  const int64_t num_vectors = int64_t{args.num_rows} * LatentVectorsPerRow(args);
  for (int64_t begin = 0; begin < num_vectors; begin += kSuperVectors) {
    const int64_t rest = num_vectors - begin;
    const int count = rest < kSuperVectors ? static_cast<int>(rest) : kSuperVectors;
    LatentSupertile<Element>(args, kv_head, begin, count, scratch).Attend();
  }
#if defined(EXPERTD_TILES)
  if constexpr (kUsesTiles<Element>) ReleaseTiles();
#endif
}

void LatentAttention(const AttentionArgs& args, int kv_head_begin, int kv_head_end, float* scratch) {
  const auto attend = args.kv.format == KvFormat::kF32    ? AttendLatentHead<float>
                      : args.kv.format == KvFormat::kBF16 ? AttendLatentHead<BFloat16>
                                                          : AttendLatentHead<int8_t>;
  for (int kv_head = kv_head_begin; kv_head < kv_head_end; ++kv_head) attend(args, kv_head, scratch);
}
