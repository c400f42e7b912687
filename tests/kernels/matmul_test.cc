// Matrix products: the bits of the reference, for every shape, type, split and company.
#include <algorithm>
#include <limits>
#include <thread>
#include <vector>

#include "tests/kernels/support/cases.h"

namespace expertd {
namespace {

constexpr int kRowCounts[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 15, 17, 31, 33, 64};
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

Product MakeProduct(int num_rows, int rows, int cols, DType stored) {
  Product product;
  product.num_rows = num_rows;
  product.rows = rows;
  product.cols = cols;
  product.x_stride = cols + 3;
  product.y_stride = rows + 5;
  product.x = RandomFloats(num_rows * product.x_stride, 1);
  product.bias = RandomFloats(rows, 2);
  product.weights = MakeWeights(RandomFloats(int64_t{rows} * cols, 3), rows, cols, stored);
  return product;
}

std::vector<float> Multiply(const Kernels& kernels, const Product& p, const float* bias) {
  std::vector<float> y(p.num_rows * p.y_stride, kUntouched);
  kernels.matmul(p.x.data(), p.x_stride, p.num_rows, p.weights, bias, 0, p.rows, y.data(), p.y_stride);
  return y;
}

void ExpectReferenceBits(const Kernels& kernels, int num_rows, DType stored) {
  for (int rows : kSizes) {
    for (int cols : kSizes) {
      const Product p = MakeProduct(num_rows, rows, cols, stored);
      const float* bias = (rows + cols) % 2 == 0 ? p.bias.data() : nullptr;
      const std::vector<float> expected = Multiply(Reference(), p, bias);

      const std::vector<float> actual = Multiply(kernels, p, bias);

      ASSERT_EQ(FirstDifference(actual, expected), -1)
          << num_rows << " rows, weight " << rows << " x " << cols << " " << DTypeName(stored);
    }
  }
}

TEST_P(MatmulTest, HasTheBitsOfTheReferenceWithFloatWeights) {
  if (GetParam() == Isa::kScalar) GTEST_SKIP() << "this is the reference";
  for (int num_rows : kRowCounts) ExpectReferenceBits(kernels(), num_rows, DType::kF32);
}

TEST_P(MatmulTest, HasTheBitsOfTheReferenceWithBf16Weights) {
  if (GetParam() == Isa::kScalar) GTEST_SKIP() << "this is the reference";
  for (int num_rows : kRowCounts) ExpectReferenceBits(kernels(), num_rows, DType::kBF16);
}

TEST_P(MatmulTest, ComputesASmallProductByHand) {
  const float x[] = {1.0f, 2.0f, 3.0f};
  const WeightMatrix weights = MakeWeights({1.0f, 0.0f, -1.0f, 0.5f, 0.5f, 0.5f}, 2, 3, DType::kBF16);
  const float bias[] = {10.0f, 20.0f};
  float y[2] = {};

  kernels().matmul(x, 3, 1, weights, bias, 0, 2, y, 2);

  EXPECT_EQ(y[0], 8.0f);
  EXPECT_EQ(y[1], 23.0f);
}

TEST_P(MatmulTest, GivesARowTheSameBitsAloneAndInAnyBatch) {
  for (DType stored : {DType::kF32, DType::kBF16}) {
    const Product p = MakeProduct(120, 100, 900, stored);
    const std::vector<float> whole = Multiply(kernels(), p, p.bias.data());

    for (int batch : {1, 2, 3, 4, 5, 7, 11, 13, 16, 23, 30, 64, 97}) {
      std::vector<float> y(p.num_rows * p.y_stride, kUntouched);
      for (int row = 0; row < p.num_rows; row += batch) {
        kernels().matmul(p.x.data() + row * p.x_stride, p.x_stride, std::min(batch, p.num_rows - row), p.weights,
                         p.bias.data(), 0, p.rows, y.data() + row * p.y_stride, p.y_stride);
      }

      ASSERT_EQ(FirstDifference(y, whole), -1) << "batches of " << batch << " " << DTypeName(stored);
    }
  }
}

TEST_P(MatmulTest, GivesTheSameBitsForAnySplitOfColumns) {
  for (int num_rows : {1, 2, 3, 4, 7, 40}) {
    const Product p = MakeProduct(num_rows, 333, 500, DType::kBF16);
    const std::vector<float> whole = Multiply(kernels(), p, p.bias.data());

    for (int split = kPanelColumns; split < p.rows; split += kPanelColumns) {
      std::vector<float> y(p.num_rows * p.y_stride, kUntouched);
      for (int column = 0; column < p.rows; column += split) {
        kernels().matmul(p.x.data(), p.x_stride, num_rows, p.weights, p.bias.data(), column,
                         std::min(column + split, p.rows), y.data(), p.y_stride);
      }

      ASSERT_EQ(FirstDifference(y, whole), -1) << num_rows << " rows split at " << split;
    }
  }
}

TEST_P(MatmulTest, GivesTheSameBitsFromSeveralThreads) {
  const Product p = MakeProduct(20, 256, 300, DType::kBF16);
  const std::vector<float> whole = Multiply(kernels(), p, nullptr);
  std::vector<float> y(p.num_rows * p.y_stride, kUntouched);

  std::vector<std::thread> threads;
  for (int column = 0; column < p.rows; column += 64) {
    threads.emplace_back([&, column] {
      kernels().matmul(p.x.data(), p.x_stride, p.num_rows, p.weights, nullptr, column, column + 64, y.data(),
                       p.y_stride);
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(FirstDifference(y, whole), -1);
}

// Every input of a lone last pair in bf16 is paired with nothing: an infinity in x must not meet a padding zero.
TEST_P(MatmulTest, ReadsNothingBesideItsInputs) {
  for (int num_rows : {1, 4, 9}) {
    const WeightMatrix weights = MakeWeights(std::vector<float>(40 * 5, 1.0f), 40, 5, DType::kBF16);
    std::vector<float> x(num_rows * 6, 1.0f);
    for (int row = 0; row < num_rows; ++row) x[row * 6 + 5] = std::numeric_limits<float>::infinity();
    std::vector<float> y(num_rows * 40);

    kernels().matmul(x.data(), 6, num_rows, weights, nullptr, 0, 40, y.data(), 40);

    EXPECT_EQ(y, std::vector<float>(num_rows * 40, 5.0f));
  }
}

TEST_P(MatmulTest, DoesNothingForNoRows) {
  const WeightMatrix weights = MakeWeights({1.0f}, 1, 1, DType::kF32);
  float y = kUntouched;

  kernels().matmul(nullptr, 1, 0, weights, nullptr, 0, 1, &y, 1);

  EXPECT_EQ(y, kUntouched);
}

}  // namespace
}  // namespace expertd
