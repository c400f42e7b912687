// Paged attention: near the reference, and the same bits however rows, heads and blocks come together.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "tests/kernels/support/cases.h"

namespace expertd {
namespace {

// Outputs are means of values of size one: the error is that of the weights (exponentials and their sums), plus one
// rounding per key, which add up like a random walk.
constexpr float kTolerance = 5e-6f;

// Where weights are rounded to bf16, each is off by at most 2^-9 of itself, and so is their mean of values below 4.
constexpr float kRoundedTolerance = 4 * 0x1p-9f;

bool Rounds(const Kernels& kernels, KvFormat format) {
  return format == KvFormat::kBF16 && kernels.bf16_input == InputForm::kBF16;
}

struct Shape {
  int num_heads = 4;
  int num_kv_heads = 2;
  int head_dim = 32;
  int block_size = 16;
  KvFormat format = KvFormat::kF32;
  int value_dim = 0;  // 0: as head_dim
  bool is_latent = false;

  int ValueDim() const { return value_dim == 0 ? head_dim : value_dim; }
};

class AttentionTest : public KernelsTest {
 protected:
  float Tolerance(const Shape& shape) const { return Rounds(kernels(), shape.format) ? kRoundedTolerance : kTolerance; }
};
EXPERTD_FOR_EVERY_ISA(AttentionTest);

// The numbers that a cache gives back for a head.
std::vector<double> Stored(const float* head, int dim, KvFormat format) {
  std::vector<double> stored(head, head + dim);
  float largest = 0.0f;
  for (int d = 0; d < dim; ++d) largest = std::max(largest, std::abs(head[d]));
  for (int d = 0; d < dim; ++d) {
    if (format == KvFormat::kBF16) stored[d] = ToFloat(ToBFloat16(head[d]));
    if (format == KvFormat::kInt8) stored[d] = std::nearbyint(head[d] * (127.0f / largest)) * double{largest / 127.0f};
  }
  return stored;
}

// A cache that holds one sequence of `num_tokens` in shuffled blocks, and a query for each token. What no token wrote
// is NaN, so that any use of it shows.
class Sequence {
 public:
  Sequence(const Kernels& kernels, const Shape& shape, int num_tokens) : shape_(shape), num_tokens_(num_tokens) {
    const int num_blocks = (num_tokens + shape.block_size - 1) / shape.block_size;
    const int64_t num_tiles = int64_t{num_blocks} * shape.num_kv_heads;
    keys_.assign(num_tiles * KvTileBytes(shape.format, shape.head_dim, shape.block_size), 0xff);
    if (!shape.is_latent) {
      values_.assign(num_tiles * KvTileBytes(shape.format, shape.ValueDim(), shape.block_size), 0xff);
    }
    block_table_.resize(num_blocks);
    std::iota(block_table_.begin(), block_table_.end(), 0);
    std::shuffle(block_table_.begin(), block_table_.end(), std::mt19937(5));
    const int key_width = shape.num_kv_heads * shape.head_dim, value_width = shape.num_kv_heads * shape.ValueDim();
    const std::vector<float>& k = k_ = RandomFloats(int64_t{num_tokens} * key_width, 11);
    const std::vector<float>& v = v_ = RandomFloats(int64_t{num_tokens} * value_width, 12);
    for (int token = 0; token < num_tokens; ++token) {
      const int64_t slot =
          int64_t{block_table_[token / shape.block_size]} * shape.block_size + token % shape.block_size;
      kernels.store_kv(k.data() + int64_t{token} * key_width,
                       shape.is_latent ? nullptr : v.data() + int64_t{token} * value_width, slot, Layer());
    }
    queries_ = RandomFloats(num_tokens * query_stride(), 13);
    // Queries that rounding leaves as they are: only that of weights is left to differ.
    for (float& query : queries_) query = ToFloat(ToBFloat16(query));
  }

  // Attention of the rows [begin, end) for some kv heads, as rows of an output for all tokens.
  void Attend(const Kernels& kernels, int begin, int end, int kv_head_begin, int kv_head_end,
              std::vector<float>* output) {
    const AttentionArgs args = Args(begin, end, output);
    std::vector<float> scratch = Unset(kernels.attention_scratch_floats(args));
    kernels.attention(args, kv_head_begin, kv_head_end, scratch.data());
  }

  // The same for query heads [head_begin, head_end) of the only kv head.
  void AttendHeads(const Kernels& kernels, int begin, int end, int head_begin, int head_end,
                   std::vector<float>* output) {
    AttentionArgs args = Args(begin, end, output);
    args.queries += head_begin * shape_.head_dim;
    args.output += head_begin * shape_.ValueDim();
    args.num_heads = head_end - head_begin;
    std::vector<float> scratch = Unset(kernels.attention_scratch_floats(args));
    kernels.attention(args, 0, 1, scratch.data());
  }

  // What a head of a row is by definition: softmax(scale q . k) v over the keys up to the row, in doubles.
  std::vector<double> Definition(int row, int head) const {
    const int dim = shape_.head_dim, kv_head = head / (shape_.num_heads / shape_.num_kv_heads);
    std::vector<double> sums(shape_.ValueDim());
    double total = 0.0;
    for (int token = 0; token <= row; ++token) {
      const int64_t place = token * int64_t{shape_.num_kv_heads} + kv_head;
      const std::vector<double> key = Stored(&k_[place * dim], dim, shape_.format);
      const std::vector<double> value =
          shape_.is_latent ? key : Stored(&v_[place * shape_.ValueDim()], shape_.ValueDim(), shape_.format);
      const float* const query = &queries_[row * query_stride() + head * dim];
      const double weight = std::exp(std::inner_product(key.begin(), key.end(), query, 0.0) / std::sqrt(dim));
      total += weight;
      for (size_t d = 0; d < sums.size(); ++d) sums[d] += weight * value[d];
    }
    for (double& sum : sums) sum /= total;
    return sums;
  }

  // The same for all heads, with the parts of the keys given to `num_calls` calls, the last of them first.
  void AttendByParts(const Kernels& kernels, int begin, int end, int num_calls, std::vector<float>* output) {
    AttentionArgs args = Args(begin, end, output);
    const int num_parts = NumAttentionParts(end);
    std::vector<float> partials =
        Unset(num_parts * (end - begin) * shape_.num_heads * AttentionPartialFloats(shape_.ValueDim()));
    args.partials = partials.data();
    for (int call = num_calls - 1; call >= 0; --call) {
      args.part_begin = num_parts * call / num_calls;
      args.part_end = num_parts * (call + 1) / num_calls;
      std::vector<float> scratch = Unset(kernels.attention_scratch_floats(args));
      kernels.attention(args, 0, shape_.num_kv_heads, scratch.data());
    }
    kernels.merge_attention(args, 0, shape_.num_kv_heads);
  }

  std::vector<float> AttendAll(const Kernels& kernels) {
    std::vector<float> output;
    Attend(kernels, 0, num_tokens_, 0, shape_.num_kv_heads, &output);
    return output;
  }

  void SetQuery(int token, const std::vector<float>& query) {
    std::copy(query.begin(), query.end(), queries_.begin() + token * query_stride());
  }

  // Stores `head` as key and value of every kv head; these have the same size.
  void StoreKey(const Kernels& kernels, int token, const std::vector<float>& head) {
    std::vector<float> heads;
    for (int i = 0; i < shape_.num_kv_heads; ++i) heads.insert(heads.end(), head.begin(), head.end());
    const int64_t block = block_table_[token / shape_.block_size];
    const float* const values = shape_.is_latent ? nullptr : heads.data();
    kernels.store_kv(heads.data(), values, block * shape_.block_size + token % shape_.block_size, Layer());
  }

  const std::vector<uint8_t>& keys() const { return keys_; }
  const std::vector<uint8_t>& values() const { return values_; }
  int64_t query_stride() const { return shape_.num_heads * shape_.head_dim + 3; }
  int64_t output_stride() const { return shape_.num_heads * shape_.ValueDim() + 2; }

 private:
  static std::vector<float> Unset(int64_t size) {
    return std::vector<float>(size, std::numeric_limits<float>::quiet_NaN());
  }

  AttentionArgs Args(int begin, int end, std::vector<float>* output) {
    output->resize(num_tokens_ * output_stride(), -7.0f);
    AttentionArgs args;
    args.queries = queries_.data() + begin * query_stride();
    args.query_stride = query_stride();
    args.output = output->data() + begin * output_stride();
    args.output_stride = output_stride();
    args.num_rows = end - begin;
    args.first_position = begin;
    args.num_heads = shape_.num_heads;
    args.scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
    args.kv = Layer();
    args.block_table = block_table_.data();
    return args;
  }

  PagedKvLayer Layer() {
    return {.key_base = keys_.data(),
            .value_base = shape_.is_latent ? nullptr : values_.data(),
            .format = shape_.format,
            .num_kv_heads = shape_.num_kv_heads,
            .head_dim = shape_.head_dim,
            .value_dim = shape_.ValueDim(),
            .block_size = shape_.block_size};
  }

  Shape shape_;
  int num_tokens_;
  std::vector<float> k_, v_;  // as they were stored: [tokens][kv heads][dim]
  std::vector<uint8_t> keys_, values_;
  std::vector<int32_t> block_table_;
  std::vector<float> queries_;
};

std::vector<Shape> Shapes() {
  std::vector<Shape> shapes;
  for (int head_dim : {1, 20, 32, 80, 128}) {
    for (int block_size : {16, 32, 64, 128}) {
      for (KvFormat format : kKvFormats) {
        for (auto [heads, kv_heads] : {std::pair(2, 2), std::pair(6, 2), std::pair(5, 1)}) {
          shapes.push_back({heads, kv_heads, head_dim, block_size, format});
        }
      }
    }
  }
  for (KvFormat format : kKvFormats) {
    shapes.push_back({6, 2, 40, 16, format, 33});
    shapes.push_back({3, 3, 96, 64, format, 32});
    shapes.push_back({5, 1, 24, 32, format, 16});
  }
  return shapes;
}

// Latent caches: few dims, dims that fill no vector, and those of DeepSeek.
std::vector<Shape> LatentShapes() {
  std::vector<Shape> shapes;
  int block_size = 16;
  for (auto [head_dim, value_dim] : {std::pair(24, 16), std::pair(40, 33), std::pair(80, 64), std::pair(576, 512)}) {
    for (int num_heads : {1, 3, 16, 17}) {
      for (KvFormat format : kKvFormats) {
        shapes.push_back({num_heads, 1, head_dim, block_size, format, value_dim, true});
        block_size = block_size == 128 ? 16 : 2 * block_size;
      }
    }
  }
  shapes.push_back({6, 2, 40, 32, KvFormat::kBF16, 24, true});
  return shapes;
}

std::string Describe(const Shape& shape) {
  return testing::PrintToString(std::vector<int>{shape.num_heads, shape.num_kv_heads, shape.head_dim,
                                                 shape.block_size, shape.ValueDim()}) +
         std::string(KvFormatName(shape.format)) + (shape.is_latent ? " latent" : "");
}

TEST_P(AttentionTest, StoresTheBitsOfTheReference) {
  for (const Shape& shape : Shapes()) {
    const Sequence expected(Reference(), shape, 50);

    const Sequence actual(kernels(), shape, 50);

    ASSERT_EQ(actual.keys(), expected.keys()) << Describe(shape);
    ASSERT_EQ(actual.values(), expected.values()) << Describe(shape);
  }
  for (const Shape& shape : LatentShapes()) {
    ASSERT_EQ(Sequence(kernels(), shape, 20).keys(), Sequence(Reference(), shape, 20).keys()) << Describe(shape);
  }
}

TEST_P(AttentionTest, StoresNanAsNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), huge = std::numeric_limits<float>::max();
  BFloat16 keys[16 * kKvDimUnit] = {}, values[16 * kKvDimUnit] = {};
  const PagedKvLayer layer = {keys, values, KvFormat::kBF16, 1, 1, 1, 16};

  kernels().store_kv(&nan, &huge, 3, layer);

  EXPECT_TRUE(std::isnan(ToFloat(keys[3 * 2])));
  EXPECT_TRUE(std::isinf(ToFloat(values[kKvDimUnit * 2 + 1])));
}

TEST_P(AttentionTest, StoresCodesAndOneScaleForEachTokenAndHead) {
  std::vector<int8_t> keys(KvTileBytes(KvFormat::kInt8, 3, 16)), values = keys;
  const PagedKvLayer layer = {keys.data(), values.data(), KvFormat::kInt8, 1, 3, 3, 16};
  const float key[] = {1.27f, -0.635f, 0.0f}, value[] = {0.5f, 254.0f, 3.0f};

  kernels().store_kv(key, value, 5, layer);

  const auto scale_of = [](const std::vector<int8_t>& tile) {
    return reinterpret_cast<const float*>(tile.data() + 16 * kKvDimUnit)[5];
  };
  EXPECT_FLOAT_EQ(scale_of(keys), 0.01f);
  EXPECT_FLOAT_EQ(scale_of(values), 2.0f);
  EXPECT_EQ((std::vector{keys[5], keys[16 + 5], keys[32 + 5]}), (std::vector<int8_t>{127, -64, 0}));
  const int row = 5 * kKvDimUnit;
  EXPECT_EQ((std::vector{values[row], values[row + 1], values[row + 2]}), (std::vector<int8_t>{0, 127, 2}));
}

TEST_P(AttentionTest, LetsNoInfiniteKeyPassForANumber) {
  Sequence sequence(kernels(), {1, 1, 20, 16, KvFormat::kInt8}, 20);
  sequence.StoreKey(kernels(), 3, std::vector<float>(20, std::numeric_limits<float>::infinity()));

  const std::vector<float> output = sequence.AttendAll(kernels());

  EXPECT_TRUE(std::isfinite(output[2 * sequence.output_stride()]));
  EXPECT_TRUE(std::isnan(output[3 * sequence.output_stride()]));
}

TEST_P(AttentionTest, LetsNoInfiniteLatentPassForANumber) {
  for (KvFormat format : kKvFormats) {
    Sequence sequence(kernels(), {3, 1, 24, 16, format, 16, true}, 20);
    sequence.StoreKey(kernels(), 3, std::vector<float>(24, std::numeric_limits<float>::infinity()));

    const std::vector<float> output = sequence.AttendAll(kernels());

    EXPECT_TRUE(std::isfinite(output[2 * sequence.output_stride()])) << KvFormatName(format);
    EXPECT_FALSE(std::isfinite(output[3 * sequence.output_stride()])) << KvFormatName(format);
  }
}

TEST_P(AttentionTest, IsNearItsDefinition) {
  const int num_tokens = kAttentionPartKeys + 20;
  for (KvFormat format : kKvFormats) {
    for (const Shape& shape : {Shape{4, 2, 40, 32, format}, Shape{6, 2, 40, 16, format, 33},
                               Shape{3, 1, 40, 32, format, 33, true}, Shape{17, 1, 80, 64, format, 64, true}}) {
      Sequence sequence(kernels(), shape, num_tokens);
      const std::vector<float> output = sequence.AttendAll(kernels());

      for (int row : {0, 1, 30, 511, 512, 531}) {
        const std::vector<double> expected = sequence.Definition(row, shape.num_heads - 1);
        const float* const actual =
            &output[row * sequence.output_stride() + (shape.num_heads - 1) * shape.ValueDim()];

        for (size_t d = 0; d < expected.size(); ++d) {
          ASSERT_NEAR(actual[d], expected[d], Tolerance(shape)) << row << " " << d << Describe(shape);
        }
      }
    }
  }
}

TEST_P(AttentionTest, IsNearTheReferenceForEveryLatentShape) {
  const int num_tokens = 70;
  for (const Shape& shape : LatentShapes()) {
    const int begin = shape.head_dim > 100 ? num_tokens - 3 : 0;
    Sequence sequence(kernels(), shape, num_tokens);
    std::vector<float> expected, actual;
    sequence.Attend(Reference(), begin, num_tokens, 0, shape.num_kv_heads, &expected);

    sequence.Attend(kernels(), begin, num_tokens, 0, shape.num_kv_heads, &actual);

    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_NEAR(actual[i], expected[i], Tolerance(shape)) << i << Describe(shape);
    }
  }
}

TEST_P(AttentionTest, IsNearTheReferenceForManyHeadsOfALatent) {
  const Shape shape = {128, 1, 576, 32, KvFormat::kBF16, 512, true};
  Sequence sequence(kernels(), shape, kAttentionPartKeys + 1);
  std::vector<float> expected, actual;
  sequence.Attend(Reference(), kAttentionPartKeys, kAttentionPartKeys + 1, 0, 1, &expected);

  sequence.Attend(kernels(), kAttentionPartKeys, kAttentionPartKeys + 1, 0, 1, &actual);

  for (size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], Tolerance(shape)) << i;
}

TEST_P(AttentionTest, GivesALatentHeadTheSameBitsInAnyCall) {
  for (KvFormat format : kKvFormats) {
    const Shape shape = {40, 1, 40, 32, format, 33, true};
    const int num_tokens = kAttentionPartKeys + 9;
    Sequence sequence(kernels(), shape, num_tokens);
    const std::vector<float> whole = sequence.AttendAll(kernels());

    for (const std::vector<int>& cuts : {std::vector{0, 1, 40}, {0, 5, 21, 40}, {0, 16, 32, 40}}) {
      std::vector<float> output;
      for (size_t i = 0; i + 1 < cuts.size(); ++i) {
        sequence.AttendHeads(kernels(), 0, num_tokens, cuts[i], cuts[i + 1], &output);
      }

      ASSERT_EQ(FirstDifference(output, whole), -1) << testing::PrintToString(cuts) << Describe(shape);
    }
  }
}

TEST_P(AttentionTest, IsNearTheReference) {
  for (const Shape& shape : Shapes()) {
    Sequence sequence(kernels(), shape, 70);
    const std::vector<float> expected = sequence.AttendAll(Reference());

    const std::vector<float> actual = sequence.AttendAll(kernels());

    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_NEAR(actual[i], expected[i], Tolerance(shape)) << i << Describe(shape);
    }
  }
}

TEST_P(AttentionTest, RoundsQueriesToPairsOfBf16) {
  // Of 1 + 2^-8 + 2^-12 bf16 keeps 1 + 2^-7: the score 256 * (q - 1) of key 0 tells. Key 1 scores 0.
  Sequence sequence(kernels(), {1, 1, 2, 16, KvFormat::kBF16}, 2);
  sequence.StoreKey(kernels(), 0, {256.0f, -256.0f});
  sequence.StoreKey(kernels(), 1, {0.0f, 0.0f});
  sequence.SetQuery(1, {1.0f + 0x1p-8f + 0x1p-12f, 1.0f});
  const float score = 256.0f * (Rounds(kernels(), KvFormat::kBF16) ? 0x1p-7f : 0x1p-8f + 0x1p-12f) / std::sqrt(2.0f);

  const std::vector<float> output = sequence.AttendAll(kernels());

  // Values are those of the keys.
  const float weight = std::exp(score) / (std::exp(score) + 1.0f);
  EXPECT_NEAR(output[sequence.output_stride()], 256.0f * weight, 256.0f * 0x1p-8f * (1.0f - weight));
}

TEST_P(AttentionTest, IsNearTheReferenceForEverySizeOfGroup) {
  for (int group = 1; group <= 8; ++group) {
    for (KvFormat format : kKvFormats) {
      const Shape shape = {2 * group, 2, 80, 16 << group % 4, format};
      Sequence sequence(kernels(), shape, 33);
      const std::vector<float> expected = sequence.AttendAll(Reference());

      const std::vector<float> actual = sequence.AttendAll(kernels());

      for (size_t i = 0; i < actual.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], Tolerance(shape)) << i << Describe(shape);
      }
    }
  }
}

TEST_P(AttentionTest, IsNearTheReferenceAcrossParts) {
  for (const Shape& shape : {Shape{6, 2, 20, 16, KvFormat::kF32}, Shape{6, 2, 64, 32, KvFormat::kBF16},
                             Shape{7, 1, 80, 128, KvFormat::kInt8}, Shape{3, 1, 40, 128, KvFormat::kBF16, 33, true},
                             Shape{17, 1, 24, 16, KvFormat::kInt8, 16, true}}) {
    const int num_tokens = 2 * kAttentionPartKeys + 40;
    Sequence sequence(kernels(), shape, num_tokens);
    for (int begin : {0, 500, 511, 512, 1020, 1024}) {
      std::vector<float> expected, actual;
      const int end = std::min(begin + 30, num_tokens);
      sequence.Attend(Reference(), begin, end, 0, shape.num_kv_heads, &expected);

      sequence.Attend(kernels(), begin, end, 0, shape.num_kv_heads, &actual);

      for (size_t i = 0; i < actual.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], Tolerance(shape)) << begin << " " << i;
      }
    }
  }
}

TEST_P(AttentionTest, GivesARowTheSameBitsInAnyChunk) {
  for (const Shape& shape : {Shape{6, 2, 20, 16, KvFormat::kF32}, Shape{2, 2, 80, 32, KvFormat::kBF16},
                             Shape{8, 1, 128, 32, KvFormat::kF32}, Shape{3, 3, 32, 64, KvFormat::kBF16},
                             Shape{4, 1, 80, 64, KvFormat::kInt8}, Shape{6, 2, 40, 32, KvFormat::kBF16, 33},
                             Shape{3, 1, 40, 16, KvFormat::kBF16, 33, true},
                             Shape{17, 1, 24, 32, KvFormat::kInt8, 16, true},
                             Shape{16, 1, 80, 128, KvFormat::kBF16, 64, true},
                             Shape{33, 1, 24, 64, KvFormat::kF32, 24, true}}) {
    const int num_tokens = kAttentionPartKeys + 70;
    Sequence sequence(kernels(), shape, num_tokens);
    const std::vector<float> whole = sequence.AttendAll(kernels());

    for (int chunk : {1, 3, 16, 33, 100, 512}) {
      std::vector<float> output;
      for (int begin = 0; begin < num_tokens; begin += chunk) {
        sequence.Attend(kernels(), begin, std::min(begin + chunk, num_tokens), 0, shape.num_kv_heads, &output);
      }

      ASSERT_EQ(FirstDifference(output, whole), -1) << "chunks of " << chunk << " " << Describe(shape);
    }
  }
}

TEST_P(AttentionTest, GivesAHeadTheSameBitsWhicheverHeadsComeAlong) {
  const Shape shape = {8, 4, 48, 16, KvFormat::kBF16};
  Sequence sequence(kernels(), shape, 90);
  const std::vector<float> whole = sequence.AttendAll(kernels());
  std::vector<float> output;

  sequence.Attend(kernels(), 0, 90, 1, 4, &output);
  sequence.Attend(kernels(), 0, 90, 0, 1, &output);

  EXPECT_EQ(FirstDifference(output, whole), -1);
}

TEST_P(AttentionTest, GivesTheSameBitsHoweverCallsShareTheKeys) {
  const int num_tokens = 3 * kAttentionPartKeys + 5;
  for (const Shape& shape : {Shape{6, 2, 20, 16, KvFormat::kF32}, Shape{8, 1, 128, 32, KvFormat::kBF16},
                             Shape{5, 5, 80, 64, KvFormat::kInt8}, Shape{6, 2, 40, 32, KvFormat::kInt8, 33},
                             Shape{3, 1, 40, 32, KvFormat::kBF16, 33, true},
                             Shape{18, 1, 24, 16, KvFormat::kF32, 16, true}}) {
    Sequence sequence(kernels(), shape, num_tokens);
    for (auto [begin, end] : {std::pair(num_tokens - 1, num_tokens), std::pair(kAttentionPartKeys - 2, num_tokens / 2),
                              std::pair(2 * kAttentionPartKeys - 3, 2 * kAttentionPartKeys + 9)}) {
      std::vector<float> whole;
      sequence.Attend(kernels(), begin, end, 0, shape.num_kv_heads, &whole);
      for (int num_calls : {1, 2, 3, 4}) {
        std::vector<float> output;

        sequence.AttendByParts(kernels(), begin, end, num_calls, &output);

        ASSERT_EQ(FirstDifference(output, whole), -1) << begin << " by " << num_calls << " " << Describe(shape);
      }
    }
  }
}

TEST_P(AttentionTest, DoesNotDependOnTheBlockSize) {
  for (Shape shape : {Shape{4, 2, 40, 16, KvFormat::kF32}, Shape{3, 1, 40, 16, KvFormat::kBF16, 33, true}}) {
    std::vector<float> first;
    for (int block_size : {16, 32, 64, 128}) {
      shape.block_size = block_size;
      Sequence sequence(kernels(), shape, 600);

      const std::vector<float> output = sequence.AttendAll(kernels());

      if (first.empty()) first = output;
      EXPECT_EQ(FirstDifference(output, first), -1) << Describe(shape);
    }
  }
}

TEST_P(AttentionTest, OfASingleKeyIsItsValue) {
  float keys[16 * kKvDimUnit] = {}, values[16 * kKvDimUnit] = {};
  const float key = 0.5f, value = 3.25f, query = 2.0f;
  AttentionArgs args;
  args.kv = {keys, values, KvFormat::kF32, 1, 1, 1, 16};
  kernels().store_kv(&key, &value, 0, args.kv);
  const int32_t block_table[] = {0};
  float output = 0.0f;
  args.queries = &query;
  args.query_stride = args.output_stride = 1;
  args.output = &output;
  args.num_rows = args.num_heads = 1;
  args.block_table = block_table;
  std::vector<float> scratch(kernels().attention_scratch_floats(args));

  kernels().attention(args, 0, 1, scratch.data());

  EXPECT_EQ(output, 3.25f);
}

}  // namespace
}  // namespace expertd
