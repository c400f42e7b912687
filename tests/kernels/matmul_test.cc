// Matrix products: the bits of the reference, for every shape, type, split and company.
#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "tests/kernels/support/cases.h"

namespace expertd {
namespace {

constexpr int kRowCounts[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 15, 17, 31, 33, 64, 530};
constexpr int kSizes[] = {1, 7, 31, 33, 80, 100, 192, 513};
constexpr float kUntouched = 12345.0f;

using MatmulTest = KernelsTest;
EXPERTD_FOR_EVERY_ISA(MatmulTest);

struct Product {
  std::vector<float> x, bias;
  WeightMatrix weights;
  int num_rows, rows, cols;
  int64_t x_stride, y_stride;
};

constexpr WeightFormat kFormats[] = {WeightFormat::kF32, WeightFormat::kBF16, WeightFormat::kInt8, WeightFormat::kInt4};

enum class ZeroPoints { kNone, kRandom };  // of int4 weights

Product MakeProduct(int num_rows, int rows, int cols, WeightFormat format, ZeroPoints zero_points = ZeroPoints::kNone) {
  Product product;
  product.num_rows = num_rows;
  product.rows = rows;
  product.cols = cols;
  product.x_stride = cols + 3;
  product.y_stride = rows + 5;
  product.x = RandomFloats(num_rows * product.x_stride, 1);
  product.bias = RandomFloats(rows, 2);
  product.weights = zero_points == ZeroPoints::kRandom
                        ? MakeWeightsWithZeroPoints(rows, cols, 3)
                        : MakeWeights(RandomFloats(int64_t{rows} * cols, 3), rows, cols, format);
  return product;
}

// Rows [row_begin, row_begin + num_rows) and columns [column_begin, column_end) of the product, into `y`.
void MultiplyPart(const Kernels& kernels, const Product& p, const float* bias, int row_begin, int num_rows,
                  int column_begin, int column_end, std::vector<float>* y) {
  const Input input(kernels, p.weights.format(), p.x.data() + row_begin * p.x_stride, p.x_stride, num_rows, p.cols);
  kernels.matmul(input.rows(), num_rows, p.weights.packed(), bias, column_begin, column_end,
                 y->data() + row_begin * p.y_stride, p.y_stride);
}

std::vector<float> Multiply(const Kernels& kernels, const Product& p, const float* bias) {
  std::vector<float> y(p.num_rows * p.y_stride, kUntouched);
  MultiplyPart(kernels, p, bias, 0, p.num_rows, 0, p.rows, &y);
  return y;
}

struct Shape {
  int rows, cols;
};

// Shapes to try with `num_rows` rows: all sizes with all for a few counts, some odd ones for every count. The longest
// takes several blocks of inputs, as 530 rows take several groups of rows.
std::vector<Shape> ShapesFor(int num_rows) {
  if (num_rows != 1 && num_rows != 4 && num_rows != 17) return {{33, 31}, {100, 192}, {31, 513}, {7, 1100}};
  std::vector<Shape> shapes;
  for (int rows : kSizes) {
    for (int cols : kSizes) shapes.push_back({rows, cols});
  }
  return shapes;
}

void ExpectReferenceBits(const Kernels& kernels, WeightFormat format, ZeroPoints zero_points = ZeroPoints::kNone) {
  for (int num_rows : kRowCounts) {
    for (const auto [rows, cols] : ShapesFor(num_rows)) {
      const Product p = MakeProduct(num_rows, rows, cols, format, zero_points);
      const float* bias = (rows + cols) % 2 == 0 ? p.bias.data() : nullptr;
      const std::vector<float> expected = Multiply(Reference(), p, bias);

      const std::vector<float> actual = Multiply(kernels, p, bias);

      ASSERT_EQ(FirstDifference(actual, expected), -1)
          << num_rows << " rows, weight " << rows << " x " << cols << " " << WeightFormatName(format);
    }
  }
}

TEST_P(MatmulTest, HasTheBitsOfTheReferenceWithF32Weights) {
  if (GetParam() == Isa::kScalar) GTEST_SKIP() << "this is the reference";
  ExpectReferenceBits(kernels(), WeightFormat::kF32);
}

TEST_P(MatmulTest, HasTheBitsOfTheReferenceWithBf16WeightsAndFloatRows) {
  if (GetParam() == Isa::kScalar) GTEST_SKIP() << "this is the reference";
  if (kernels().bf16_input != InputForm::kF32) GTEST_SKIP() << "this table takes x in bf16";
  ExpectReferenceBits(kernels(), WeightFormat::kBF16);
}

TEST_P(MatmulTest, HasTheBitsOfTheReferenceWithInt8Weights) {
  if (GetParam() == Isa::kScalar) GTEST_SKIP() << "this is the reference";
  ExpectReferenceBits(kernels(), WeightFormat::kInt8);
}

TEST_P(MatmulTest, HasTheBitsOfTheReferenceWithInt4Weights) {
  if (GetParam() == Isa::kScalar) GTEST_SKIP() << "this is the reference";
  ExpectReferenceBits(kernels(), WeightFormat::kInt4);
}

TEST_P(MatmulTest, HasTheBitsOfTheReferenceWithInt4WeightsAndZeroPoints) {
  if (GetParam() == Isa::kScalar) GTEST_SKIP() << "this is the reference";
  ExpectReferenceBits(kernels(), WeightFormat::kInt4, ZeroPoints::kRandom);
}

// A row that is zero but for one input picks that input's weights; all products and sums are exact in fp32.
TEST_P(MatmulTest, TakesInt4WeightsAsCodesLessTheirZeroPoints) {
  constexpr int kRows = 40, kCols = 300;
  const WeightMatrix weights = MakeWeightsWithZeroPoints(kRows, kCols, 5);
  std::vector<float> row_of_weights(kCols);
  for (const int k : {0, 1, 126, 128, 131, 299}) {
    std::vector<float> x(kCols, 0.0f), y(kRows);
    x[k] = 127.0f;

    const Input input(kernels(), WeightFormat::kInt4, x.data(), kCols, 1, kCols);
    kernels().matmul(input.rows(), 1, weights.packed(), nullptr, 0, kRows, y.data(), kRows);

    for (int row = 0; row < kRows; ++row) {
      weights.CopyRow(row, row_of_weights.data());
      EXPECT_EQ(y[row], 127.0f * row_of_weights[k]) << "input " << k << ", output " << row;
    }
  }
}

// Sums of up to 1100 products of size one, in fp32 in any order: each rounding adds at most 2^-24 of the largest sum on
// the way, about 100, and they add up like a random walk.
constexpr float kBf16Tolerance = 1e-4f;

TEST_P(MatmulTest, IsNearTheReferenceWithBf16Rows) {
  if (kernels().bf16_input != InputForm::kBF16) GTEST_SKIP() << "this table takes x in f32";
  for (int num_rows : kRowCounts) {
    for (const auto [rows, cols] : ShapesFor(num_rows)) {
      Product p = MakeProduct(num_rows, rows, cols, WeightFormat::kBF16);
      for (float& value : p.x) value = ToFloat(ToBFloat16(value));
      const std::vector<float> expected = Multiply(Reference(), p, p.bias.data());

      const std::vector<float> actual = Multiply(kernels(), p, p.bias.data());

      for (size_t i = 0; i < actual.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], kBf16Tolerance) << num_rows << " rows, " << rows << " x " << cols;
      }
    }
  }
}

// What the integer formats cost: the error of codes against the same product in floats, relative to the size of y.
// Rounding x and w to 8 bits each leaves about 0.3 % of their largest, int4 weights about 6 % of theirs.
TEST_P(MatmulTest, OfIntegersIsNearTheProductOfTheFloats) {
  const Product exact = MakeProduct(5, 64, 512, WeightFormat::kF32);
  const std::vector<float> expected = Multiply(kernels(), exact, exact.bias.data());
  for (const auto& [format, tolerance] : {std::pair(WeightFormat::kInt8, 0.02), std::pair(WeightFormat::kInt4, 0.13)}) {
    const Product p = MakeProduct(5, 64, 512, format);

    const std::vector<float> actual = Multiply(kernels(), p, p.bias.data());

    double error = 0.0, size = 0.0;
    for (size_t i = 0; i < actual.size(); ++i) {
      if (expected[i] == kUntouched) continue;
      error += std::pow(actual[i] - expected[i], 2);
      size += std::pow(expected[i], 2);
    }
    EXPECT_LT(std::sqrt(error / size), tolerance) << WeightFormatName(format);
    EXPECT_GT(std::sqrt(error / size), tolerance / 10) << WeightFormatName(format);
  }
}

TEST_P(MatmulTest, OfIntegersKeepsNanAndZeroRowsApart) {
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    Product p = MakeProduct(3, 40, 200, format);
    std::fill_n(p.x.begin(), p.x_stride, 0.0f);
    p.x[p.x_stride + 150] = std::numeric_limits<float>::infinity();

    const std::vector<float> y = Multiply(kernels(), p, p.bias.data());

    for (int column = 0; column < p.rows; ++column) {
      EXPECT_EQ(y[column], p.bias[column]);
      EXPECT_TRUE(std::isnan(y[p.y_stride + column]));
      EXPECT_TRUE(std::isfinite(y[2 * p.y_stride + column]));
    }
  }
}

TEST_P(MatmulTest, ComputesASmallProductByHand) {
  const float x[] = {1.0f, 2.0f, 3.0f};
  const WeightMatrix weights = MakeWeights({1.0f, 0.0f, -1.0f, 0.5f, 0.5f, 0.5f}, 2, 3, WeightFormat::kBF16);
  const float bias[] = {10.0f, 20.0f};
  float y[2] = {};

  kernels().matmul(Input(kernels(), WeightFormat::kBF16, x, 3, 1, 3).rows(), 1, weights.packed(), bias, 0, 2, y, 2);

  EXPECT_EQ(y[0], 8.0f);
  EXPECT_EQ(y[1], 23.0f);
}

TEST_P(MatmulTest, GivesARowTheSameBitsAloneAndInAnyBatch) {
  for (const WeightFormat format : kFormats) {
    const Product p = MakeProduct(120, 100, 900, format);
    const std::vector<float> whole = Multiply(kernels(), p, p.bias.data());

    for (int batch : {1, 2, 3, 4, 5, 7, 11, 13, 16, 23, 30, 64, 97}) {
      std::vector<float> y(p.num_rows * p.y_stride, kUntouched);
      for (int row = 0; row < p.num_rows; row += batch) {
        MultiplyPart(kernels(), p, p.bias.data(), row, std::min(batch, p.num_rows - row), 0, p.rows, &y);
      }

      ASSERT_EQ(FirstDifference(y, whole), -1) << "batches of " << batch << " " << WeightFormatName(format);
    }
  }
}

TEST_P(MatmulTest, GivesTheSameBitsForAnySplitOfColumns) {
  for (const WeightFormat format : kFormats) {
    for (int num_rows : {1, 2, 3, 4, 7, 40}) {
      const Product p = MakeProduct(num_rows, 333, 500, format);
      const std::vector<float> whole = Multiply(kernels(), p, p.bias.data());

      for (int split = kPanelColumns; split < p.rows; split += kPanelColumns) {
        std::vector<float> y(p.num_rows * p.y_stride, kUntouched);
        for (int column = 0; column < p.rows; column += split) {
          MultiplyPart(kernels(), p, p.bias.data(), 0, num_rows, column, std::min(column + split, p.rows), &y);
        }

        ASSERT_EQ(FirstDifference(y, whole), -1)
            << num_rows << " rows split at " << split << " " << WeightFormatName(format);
      }
    }
  }
}

TEST_P(MatmulTest, GivesTheSameBitsFromSeveralThreads) {
  const Product p = MakeProduct(20, 256, 300, WeightFormat::kBF16);
  const std::vector<float> whole = Multiply(kernels(), p, nullptr);
  std::vector<float> y(p.num_rows * p.y_stride, kUntouched);

  std::vector<std::thread> threads;
  for (int column = 0; column < p.rows; column += 64) {
    threads.emplace_back([&, column] {
      MultiplyPart(kernels(), p, nullptr, 0, p.num_rows, column, column + 64, &y);
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(FirstDifference(y, whole), -1);
}

// Every input of a lone last pair in bf16 is paired with nothing: an infinity in x must not meet a padding zero.
TEST_P(MatmulTest, ReadsNothingBesideItsInputs) {
  for (int num_rows : {1, 4, 9}) {
    const WeightMatrix weights = MakeWeights(std::vector<float>(40 * 5, 1.0f), 40, 5, WeightFormat::kBF16);
    std::vector<float> x(num_rows * 6, 1.0f);
    for (int row = 0; row < num_rows; ++row) x[row * 6 + 5] = std::numeric_limits<float>::infinity();
    std::vector<float> y(num_rows * 40);

    const Input input(kernels(), WeightFormat::kBF16, x.data(), 6, num_rows, 5);
    kernels().matmul(input.rows(), num_rows, weights.packed(), nullptr, 0, 40, y.data(), 40);

    EXPECT_EQ(y, std::vector<float>(num_rows * 40, 5.0f));
  }
}

TEST_P(MatmulTest, DoesNothingForNoRows) {
  const WeightMatrix weights = MakeWeights({1.0f}, 1, 1, WeightFormat::kF32);
  float y = kUntouched;

  kernels().matmul(InputRows(), 0, weights.packed(), nullptr, 0, 1, &y, 1);

  EXPECT_EQ(y, kUntouched);
}

}  // namespace
}  // namespace expertd
