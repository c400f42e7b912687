// Linear, norms, embeddings, the plain feed-forward and the split of work.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "engine/checkpoint/weight_reader.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/embedding.h"
#include "engine/layers/input_rows.h"
#include "engine/layers/linear.h"
#include "engine/layers/norm.h"
#include "engine/layers/plain_mlp.h"
#include "engine/layers/work_split.h"
#include "engine/platform/cpu.h"
#include "tests/unit/layers/support/memory_source.h"
#include "tests/unit/layers/support/random.h"

namespace expertd {
namespace {

using testing::ElementsAre;

class PartsTest : public testing::Test {
 protected:
  ThreadPool pool_{3};
  ScratchArena scratch_;
  ForwardContext context_{SelectKernels(DetectCpu()), pool_, scratch_};
};

std::vector<float> Random(int64_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = uniform(random);
  return values;
}

Linear MakeLinear(int num_outputs, int num_inputs, std::vector<float> bias) {
  const std::vector<float> weight = Random(int64_t{num_outputs} * num_inputs, 1);
  return Linear(*WeightMatrix::Pack(weight.data(), DType::kF32, num_outputs, num_inputs, WeightFormat::kF32),
                std::move(bias));
}

double Expected(const std::vector<float>& x, int row, int column, int num_inputs, int num_outputs) {
  const std::vector<float> weight = Random(int64_t{num_outputs} * num_inputs, 1);
  return std::inner_product(x.begin() + int64_t{row} * num_inputs, x.begin() + int64_t{row + 1} * num_inputs,
                            weight.begin() + int64_t{column} * num_inputs, 0.0);
}

TEST_F(PartsTest, LinearIsTheProductPlusTheBias) {
  const int num_inputs = 300, num_outputs = 135, num_rows = 600;
  const std::vector<float> bias = Random(num_outputs, 2), x = Random(int64_t{num_rows} * num_inputs, 3);
  const Linear linear = MakeLinear(num_outputs, num_inputs, bias);
  std::vector<float> y(static_cast<size_t>(num_rows) * num_outputs);

  linear.Forward(InputRows::Floats(x.data(), num_inputs), num_rows, y.data(), num_outputs, context_);

  for (const int row : {0, 255, 599}) {
    for (const int column : {0, 32, 134}) {
      EXPECT_NEAR(y[static_cast<size_t>(row * num_outputs + column)],
                  Expected(x, row, column, num_inputs, num_outputs) + bias[static_cast<size_t>(column)], 1e-4);
    }
  }
}

TEST_F(PartsTest, LinearAddsToAResidual) {
  const int num_inputs = 64, num_outputs = 70, num_rows = 3;
  const std::vector<float> x = Random(num_rows * num_inputs, 3);
  const Linear linear = MakeLinear(num_outputs, num_inputs, {});
  std::vector<float> residual(num_rows * num_outputs, 10.0f);

  linear.AddTo(x.data(), num_inputs, num_rows, residual.data(), context_);

  EXPECT_NEAR(residual[2 * 70 + 69], 10.0 + Expected(x, 2, 69, num_inputs, num_outputs), 1e-5);
}

TEST_F(PartsTest, RmsNormScalesEachRowByItself) {
  const RmsNorm norm({1.0f, 2.0f}, 0.0);
  const std::vector<float> x = {3.0f, 4.0f, 30.0f, 40.0f};

  ScratchArena::Scope scope(scratch_);
  const float* const y = norm.Forward(x.data(), 2, {.form = InputForm::kF32}, context_).floats;

  const float root = std::sqrt(12.5f);
  EXPECT_NEAR(y[0], 3.0f / root, 1e-6f);
  EXPECT_NEAR(y[1], 8.0f / root, 1e-6f);
  EXPECT_NEAR(y[2], 3.0f / root, 1e-6f);
}

TEST_F(PartsTest, RmsNormAddsTheBiasThatTheCheckpointHas) {
  MemorySource source;
  source.Add("norm.weight", {2}, {1.0f, 2.0f});
  source.Add("norm.bias", {2}, {10.0f, -1.0f});
  const RmsNorm norm = *LoadRmsNorm("norm", 2, 0.0, *MakeSourceReader(source, WeightFormat::kF32));
  std::vector<float> x = {3.0f, 4.0f};

  norm.Apply(x.data(), x.data(), context_.kernels);

  const float root = std::sqrt(12.5f);
  EXPECT_NEAR(x[0], 10.0f + 3.0f / root, 1e-6f);
  EXPECT_NEAR(x[1], 8.0f / root - 1.0f, 1e-6f);
}

TEST_F(PartsTest, ALinearOfSeveralTensorsTakesTheBiasesThatThereAre) {
  MemorySource source;
  for (const std::string name : {"q", "k", "v"}) source.Add(name + ".weight", {2, 1}, {1.0f, 2.0f});
  source.Add("k.bias", {2}, {10.0f, 20.0f});
  source.Add("v.bias", {2}, {0.0f, 0.0f});
  const Projection projections[] = {{"q", 2}, {"k", 2}, {"v", 2}};
  const float x = 1.0f;
  std::vector<float> y(6);

  const Linear linear = *LoadLinear(projections, {.name = "qkv", .cols = 1},
                                    *MakeSourceReader(source, WeightFormat::kF32));
  linear.ForwardHere(&x, 1, y.data(), context_.kernels);

  EXPECT_THAT(y, ElementsAre(1, 2, 11, 22, 1, 2));
}

TEST_F(PartsTest, ABiasOfZerosIsNotKept) {
  MemorySource source;
  source.Add("q.weight", {2, 1}, {1.0f, 2.0f});
  source.Add("q.bias", {2}, {0.0f, 0.0f});

  const Linear linear = *LoadLinear({"q", 2}, 1, *MakeSourceReader(source, WeightFormat::kF32));

  EXPECT_EQ(linear.bias(), nullptr);
}

TEST_F(PartsTest, LayerNormTakesTheMeanOfEachRowAway) {
  const LayerNorm norm({1.0f, 2.0f}, {0.0f, 10.0f}, 0.0);
  std::vector<float> x = {3.0f, 5.0f, 80.0f, 20.0f};

  ScratchArena::Scope scope(scratch_);
  const float* const y = norm.Forward(x.data(), 2, {.form = InputForm::kF32}, context_).floats;
  norm.ApplyInPlace(2, x.data(), context_);

  EXPECT_NEAR(y[0], -1.0f, 1e-6f);
  EXPECT_NEAR(y[1], 12.0f, 1e-6f);
  EXPECT_NEAR(y[2], 1.0f, 1e-6f);
  EXPECT_NEAR(y[3], 8.0f, 1e-6f);
  EXPECT_EQ(std::memcmp(x.data(), y, 4 * sizeof(float)), 0);
}

// The fused pass gives what norm and conversion give one after the other.
TEST_F(PartsTest, RmsNormGivesRowsInTheFormThatProductsTake) {
  const int size = 300, num_rows = 41;
  const RmsNorm norm(Random(size, 4), 1e-6);
  const std::vector<float> x = Random(int64_t{num_rows} * size, 5);
  for (const InputForm form : {InputForm::kBF16, InputForm::kInt8}) {
    ScratchArena::Scope scope(scratch_);
    const float* const normed = norm.Forward(x.data(), num_rows, {}, context_).floats;
    const InputRows expected = ToInputRows(normed, size, num_rows, size, form, context_);

    const LayerInput alone = norm.Forward(x.data(), num_rows, {.form = form}, context_);
    const LayerInput both = norm.Forward(x.data(), num_rows, {.form = form, .floats = true}, context_);

    EXPECT_EQ(alone.floats, nullptr);
    EXPECT_EQ(std::memcmp(both.floats, normed, sizeof(float) * size * num_rows), 0);
    for (const InputRows& rows : {alone.rows, both.rows}) {
      ASSERT_EQ(rows.stride, expected.stride);
      for (int64_t row = 0; row < num_rows; ++row) {
        const InputRows given = RowsFrom(rows, row), wanted = RowsFrom(expected, row);
        ASSERT_EQ(std::memcmp(given.data, wanted.data, static_cast<size_t>(InputRowBytes(form, size))), 0);
        if (form != InputForm::kInt8) continue;
        EXPECT_EQ(*given.scales, *wanted.scales);
        EXPECT_EQ(given.sums[0], wanted.sums[0]);
      }
    }
  }
}

TEST_F(PartsTest, PositionsAreAddedByTheirRow) {
  MemorySource source;
  source.Add("table", {3, 2}, {1, 2, 3, 4, 5, 6});
  auto table = MakeSourceReader(source, WeightFormat::kF32)->Table("table", 3, 2, DType::kF32);
  const PositionEmbedding positions(*std::move(table), 2);
  std::vector<float> residual = {10, 10, 20, 20};

  positions.AddTo(std::vector<int32_t>{2, 0}, residual.data(), context_);

  EXPECT_EQ(residual, (std::vector<float>{15, 16, 21, 22}));
}

// down(gelu(up(x) + b)) + b, in doubles. Both sides sum hundreds of products of size 1 in fp32.
TEST_F(PartsTest, PlainMlpIsTwoProductsAroundAGelu) {
  const int hidden = 40, width = 1100, num_rows = 3;
  const std::vector<float> up = RandomNormal(int64_t{width} * hidden, 1, 0.2f), up_bias = RandomNormal(width, 2, 0.5f);
  const std::vector<float> down = RandomNormal(int64_t{hidden} * width, 3, 0.1f);
  const std::vector<float> down_bias = RandomNormal(hidden, 4, 1.0f);
  const std::vector<float> x = RandomNormal(num_rows * hidden, 5, 1.0f);
  MemorySource source;
  source.Add("up.weight", {width, hidden}, up);
  source.Add("up.bias", {width}, up_bias);
  source.Add("down.weight", {hidden, width}, down);
  source.Add("down.bias", {hidden}, down_bias);
  for (const Gelu gelu : {Gelu::kErf, Gelu::kTanh}) {
    const auto mlp = LoadPlainMlp({width, gelu}, hidden, {.up = "up", .down = "down"},
                                  *MakeSourceReader(source, WeightFormat::kF32));
    ASSERT_TRUE(mlp.ok()) << mlp.status();
    std::vector<float> residual(num_rows * hidden, 1.0f);

    (*mlp)->AddTo({.rows = InputRows::Floats(x.data(), hidden), .floats = x.data()}, num_rows, residual.data(),
                  context_);

    for (int row = 0; row < num_rows; ++row) {
      std::vector<double> activated;
      for (int w = 0; w < width; ++w) {
        double v = up_bias[w];
        for (int i = 0; i < hidden; ++i) v += double{up[w * hidden + i]} * x[row * hidden + i];
        activated.push_back(gelu == Gelu::kErf
                                ? 0.5 * v * (1.0 + std::erf(v * std::sqrt(0.5)))
                                : 0.5 * v * (1.0 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))));
      }
      double expected = 1.0 + down_bias[7];
      for (int w = 0; w < width; ++w) expected += double{down[7 * width + w]} * activated[w];
      EXPECT_NEAR(residual[row * hidden + 7], expected, 2e-5);
    }
  }
}

TEST_F(PartsTest, EmbeddingReadsItsTableOrTheHeadItIsTiedTo) {
  const std::vector<float> table = {1, 2, 3, 4, 5, 6};
  const Linear head(*WeightMatrix::Pack(table.data(), DType::kF32, 3, 2, WeightFormat::kBF16));
  const std::vector<int32_t> tokens = {2, 0};
  std::vector<float> out(4);

  MemorySource source;
  source.Add("table", {3, 2}, table);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    auto rows = MakeSourceReader(source, WeightFormat::kF32)->Table("table", 3, 2, dtype);
    ASSERT_TRUE(rows.ok()) << rows.status();
    Embedding(*std::move(rows), 2, dtype).Forward(tokens, out.data(), context_);
    EXPECT_THAT(out, ElementsAre(5, 6, 1, 2));
  }
  Embedding::TiedTo(head).Forward(tokens, out.data(), context_);
  EXPECT_THAT(out, ElementsAre(5, 6, 1, 2));
}

TEST(WorkSplitTest, KeepsSmallWorkTogether) {
  EXPECT_EQ(NumParts(1000, 100, 8), 1);
  EXPECT_EQ(NumParts(int64_t{1} << 40, 100, 1), 1);
  EXPECT_EQ(NumParts(int64_t{1} << 40, 100, 8), 32);
  EXPECT_EQ(NumParts(int64_t{1} << 40, 5, 8), 5);
}

TEST(WorkSplitTest, TilesCoverEveryRowAndColumnOnce) {
  for (const int num_rows : {1, 31, 257, 2048}) {
    for (const int num_units : {1, 3, 64}) {
      const TileGrid grid = MakeTileGrid(num_rows, 4 * 4096, num_units, 4096 * 32, 4);
      std::vector<int> covered(static_cast<size_t>(num_rows) * num_units, 0);
      for (int i = 0; i < grid.num_tiles(); ++i) {
        const Tile tile = TileAt(grid, i);
        ASSERT_LE(tile.num_rows, kMaxTileRows);
        for (int row = tile.row_begin; row < tile.row_begin + tile.num_rows; ++row) {
          for (int unit = tile.unit_begin; unit < tile.unit_end; ++unit)
            ++covered[static_cast<size_t>(row * num_units + unit)];
        }
      }
      EXPECT_THAT(covered, testing::Each(1)) << num_rows << "x" << num_units;
    }
  }
}

}  // namespace
}  // namespace expertd
