#include "engine/checkpoint/weight_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "engine/base/strings.h"
#include "tests/unit/checkpoint/support/safetensors_file.h"

namespace expertd {
namespace {

using testing::ElementsAre;

class WeightReaderTest : public testing::Test {
 protected:
  WeightReaderTest() {
    WriteFile(folder_ / "model.safetensors", SafetensorsBytes({{"q", {2, 2}, {1, 2, 3, 4}},
                                                               {"k", {1, 2}, {5, 6}},
                                                               {"stack", {2, 1, 2}, {7, 8, 9, 10}},
                                                               {"norm", {2}, {0.5, 1.5}}}));
    source_ = *OpenSafetensors(folder_.path());
  }

  static std::vector<float> Row(const WeightMatrix& matrix, int row) {
    std::vector<float> values(static_cast<size_t>(matrix.cols()));
    matrix.CopyRow(row, values.data());
    return values;
  }

  const TempFolder folder_;
  std::unique_ptr<WeightSource> source_;
};

TEST_F(WeightReaderTest, PacksTensorsOneUnderTheOther) {
  WeightReader reader(*source_, DType::kF32);
  const std::vector<SourceRows> parts = {*reader.Rows("q", 2, 2), *reader.Rows("k", 1, 2)};

  const auto matrix = reader.Pack(parts, 2);

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->rows(), 3);
  EXPECT_THAT(Row(*matrix, 1), ElementsAre(3, 4));
  EXPECT_THAT(Row(*matrix, 2), ElementsAre(5, 6));
  EXPECT_EQ(reader.bytes_read(), 24);
}

TEST_F(WeightReaderTest, CutsAStackIntoMatrices) {
  WeightReader reader(*source_, DType::kF32);

  const auto stack = reader.StackedRows("stack", 2, 1, 2);

  ASSERT_TRUE(stack.ok()) << stack.status();
  EXPECT_THAT(Row(*reader.Pack({&stack->at(1), 1}, 2), 0), ElementsAre(9, 10));
}

TEST_F(WeightReaderTest, HoldsMatricesInTheChosenType) {
  WeightReader reader(*source_, DType::kBF16);

  EXPECT_EQ(reader.Matrix("q", 2, 2)->dtype(), DType::kBF16);
  EXPECT_EQ(reader.Matrix("q", 2, 2, DType::kF32)->dtype(), DType::kF32);
}

TEST_F(WeightReaderTest, NamesTensorAndShapesThatDiffer) {
  WeightReader reader(*source_, DType::kF32);

  EXPECT_EQ(ToStdView(reader.Matrix("q", 4, 2).status().message()),
            "tensor q has shape [2, 2]; config.json calls for [4, 2]");
  EXPECT_EQ(ToStdView(reader.Vector("norm", 3).status().message()),
            "tensor norm has shape [2]; config.json calls for [3]");
  EXPECT_EQ(ToStdView(reader.StackedRows("stack", 2, 2, 2).status().message()),
            "tensor stack has shape [2, 1, 2]; config.json calls for [2, 2, 2]");
}

}  // namespace
}  // namespace expertd
