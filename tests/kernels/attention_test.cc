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
};

class AttentionTest : public KernelsTest {
 protected:
  float Tolerance(const Shape& shape) const { return Rounds(kernels(), shape.format) ? kRoundedTolerance : kTolerance; }
};
EXPERTD_FOR_EVERY_ISA(AttentionTest);

// A cache that holds one sequence of `num_tokens` in shuffled blocks, and a query for each token. What no token wrote
// is NaN, so that any use of it shows.
class Sequence {
 public:
  Sequence(const Kernels& kernels, const Shape& shape, int num_tokens) : shape_(shape), num_tokens_(num_tokens) {
    const int num_blocks = (num_tokens + shape.block_size - 1) / shape.block_size;
    const int64_t num_tiles = int64_t{num_blocks} * shape.num_kv_heads;
    keys_.assign(num_tiles * KvTileBytes(shape.format, shape.head_dim, shape.block_size), 0xff);
    values_ = keys_;
    block_table_.resize(num_blocks);
    std::iota(block_table_.begin(), block_table_.end(), 0);
    std::shuffle(block_table_.begin(), block_table_.end(), std::mt19937(5));
    const int kv_width = shape.num_kv_heads * shape.head_dim;
    const std::vector<float> k = RandomFloats(int64_t{num_tokens} * kv_width, 11);
    const std::vector<float> v = RandomFloats(int64_t{num_tokens} * kv_width, 12);
    for (int token = 0; token < num_tokens; ++token) {
      const int64_t slot =
          int64_t{block_table_[token / shape.block_size]} * shape.block_size + token % shape.block_size;
      kernels.store_kv(k.data() + int64_t{token} * kv_width, v.data() + int64_t{token} * kv_width, slot, Layer());
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

  // The same for all heads, with the parts of the keys given to `num_calls` calls, the last of them first.
  void AttendByParts(const Kernels& kernels, int begin, int end, int num_calls, std::vector<float>* output) {
    AttentionArgs args = Args(begin, end, output);
    const int num_parts = NumAttentionParts(end);
    std::vector<float> partials =
        Unset(num_parts * (end - begin) * shape_.num_heads * AttentionPartialFloats(shape_.head_dim));
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

  // Stores `head` as key and value of every kv head.
  void StoreKey(const Kernels& kernels, int token, const std::vector<float>& head) {
    std::vector<float> heads;
    for (int i = 0; i < shape_.num_kv_heads; ++i) heads.insert(heads.end(), head.begin(), head.end());
    const int64_t block = block_table_[token / shape_.block_size];
    kernels.store_kv(heads.data(), heads.data(), block * shape_.block_size + token % shape_.block_size, Layer());
  }

  const std::vector<uint8_t>& keys() const { return keys_; }
  const std::vector<uint8_t>& values() const { return values_; }
  int64_t query_stride() const { return shape_.num_heads * shape_.head_dim + 3; }
  int64_t output_stride() const { return shape_.num_heads * shape_.head_dim + 2; }

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
    return {keys_.data(), values_.data(), shape_.format, shape_.num_kv_heads, shape_.head_dim, shape_.block_size};
  }

  Shape shape_;
  int num_tokens_;
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
  return shapes;
}

std::string Describe(const Shape& shape) {
  return testing::PrintToString(std::vector<int>{shape.num_heads, shape.num_kv_heads, shape.head_dim,
                                                 shape.block_size}) +
         std::string(KvFormatName(shape.format));
}

TEST_P(AttentionTest, StoresTheBitsOfTheReference) {
  for (const Shape& shape : Shapes()) {
    const Sequence expected(Reference(), shape, 50);

    const Sequence actual(kernels(), shape, 50);

    ASSERT_EQ(actual.keys(), expected.keys()) << Describe(shape);
    ASSERT_EQ(actual.values(), expected.values()) << Describe(shape);
  }
}

TEST_P(AttentionTest, StoresNanAsNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), huge = std::numeric_limits<float>::max();
  BFloat16 keys[16 * kKvDimUnit] = {}, values[16 * kKvDimUnit] = {};
  const PagedKvLayer layer = {keys, values, KvFormat::kBF16, 1, 1, 16};

  kernels().store_kv(&nan, &huge, 3, layer);

  EXPECT_TRUE(std::isnan(ToFloat(keys[3 * 2])));
  EXPECT_TRUE(std::isinf(ToFloat(values[kKvDimUnit * 2 + 1])));
}

TEST_P(AttentionTest, StoresCodesAndOneScaleForEachTokenAndHead) {
  std::vector<int8_t> keys(KvTileBytes(KvFormat::kInt8, 3, 16)), values = keys;
  const PagedKvLayer layer = {keys.data(), values.data(), KvFormat::kInt8, 1, 3, 16};
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
                             Shape{7, 1, 80, 128, KvFormat::kInt8}}) {
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
                             Shape{4, 1, 80, 64, KvFormat::kInt8}}) {
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
                             Shape{5, 5, 80, 64, KvFormat::kInt8}}) {
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
  std::vector<float> first;
  for (int block_size : {16, 32, 64, 128}) {
    Sequence sequence(kernels(), {4, 2, 40, block_size, KvFormat::kF32}, 600);

    const std::vector<float> output = sequence.AttendAll(kernels());

    if (first.empty()) first = output;
    EXPECT_EQ(FirstDifference(output, first), -1) << block_size;
  }
}

TEST_P(AttentionTest, OfASingleKeyIsItsValue) {
  float keys[16 * kKvDimUnit] = {}, values[16 * kKvDimUnit] = {};
  const float key = 0.5f, value = 3.25f, query = 2.0f;
  AttentionArgs args;
  args.kv = {keys, values, KvFormat::kF32, 1, 1, 16};
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
