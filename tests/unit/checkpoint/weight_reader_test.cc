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
  const auto reader = MakeSourceReader(*source_, WeightFormat::kF32);

  const auto matrix =
      reader->Matrix({.name = "qk", .cols = 2, .parts = {TensorRows::All("q", 2, 2), TensorRows::All("k", 1, 2)}});

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->rows(), 3);
  EXPECT_THAT(Row(*matrix, 1), ElementsAre(3, 4));
  EXPECT_THAT(Row(*matrix, 2), ElementsAre(5, 6));
  EXPECT_EQ(reader->bytes_read(), 24);
}

TEST_F(WeightReaderTest, TakesSomeRowsAndFillsThemUpWithZeros) {
  const auto reader = MakeSourceReader(*source_, WeightFormat::kF32);

  const auto matrix = reader->Matrix({.name = "second", .cols = 2, .parts = {{"stack", {2, 1, 2}, 1, 1, 2}}});

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->rows(), 3);
  EXPECT_THAT(Row(*matrix, 0), ElementsAre(9, 10));
  EXPECT_THAT(Row(*matrix, 2), ElementsAre(0, 0));
}

TEST_F(WeightReaderTest, LeavesThePaddingOfATensorOutWhereThereMayBeSome) {
  const auto reader = MakeSourceReader(*source_, WeightFormat::kF32);
  MatrixSpec spec = {.name = "first", .cols = 2, .parts = {TensorRows::All("q", 1, 2)}};

  EXPECT_EQ(reader->Matrix(spec).status().code(), absl::StatusCode::kInvalidArgument);
  spec.parts[0].may_be_padded = true;
  const auto first = reader->Matrix(spec);
  spec.parts[0] = TensorRows::All("q", 3, 2);
  spec.parts[0].may_be_padded = true;
  const auto third = reader->Matrix(spec);

  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->rows(), 1);
  EXPECT_THAT(Row(*first, 0), ElementsAre(1, 2));
  EXPECT_EQ(third.status().code(), absl::StatusCode::kInvalidArgument);  // fewer rows than wanted
}

TEST_F(WeightReaderTest, HoldsMatricesInTheChosenFormat) {
  const auto reader = MakeSourceReader(*source_, WeightFormat::kBF16);
  MatrixSpec spec = {.name = "q", .cols = 2, .parts = {TensorRows::All("q", 2, 2)}};

  EXPECT_EQ(reader->Matrix(spec)->format(), WeightFormat::kBF16);
  spec.format = WeightFormat::kF32;
  EXPECT_EQ(reader->Matrix(spec)->format(), WeightFormat::kF32);
}

TEST_F(WeightReaderTest, NamesTensorAndShapesThatDiffer) {
  const auto reader = MakeSourceReader(*source_, WeightFormat::kF32);

  EXPECT_EQ(ToStdView(reader->Matrix({.name = "q", .cols = 2, .parts = {TensorRows::All("q", 4, 2)}})
                          .status().message()),
            "tensor q has shape [2, 2]; config.json calls for [4, 2]");
  EXPECT_EQ(ToStdView(reader->Vector("norm", 3).status().message()),
            "tensor norm has shape [2]; config.json calls for [3]");
  EXPECT_EQ(ToStdView(reader->Table("q", 2, 3, DType::kF32).status().message()),
            "tensor q has shape [2, 2]; config.json calls for [2, 3]");
}

TEST(DummyReaderTest, MakesWeightsOfTheWantedShapeWithMeanZero) {
  const auto reader = MakeDummyReader(WeightFormat::kBF16);
  for (const WeightFormat format :
       {WeightFormat::kF32, WeightFormat::kBF16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    const auto matrix = reader->Matrix(
        {.name = "any", .cols = 400, .parts = {TensorRows::All("any", 100, 400)}, .format = format});

    ASSERT_TRUE(matrix.ok()) << matrix.status();
    double sum = 0.0, squares = 0.0;
    std::vector<float> row(400);
    for (int i = 0; i < 100; ++i) {
      matrix->CopyRow(i, row.data());
      for (const float value : row) sum += value, squares += value * value;
    }
    // 40,000 values of standard deviation 1 / 20: their mean is within 5 of its own deviations.
    EXPECT_NEAR(sum / 40000, 0.0, 5 * 0.05 / 200) << WeightFormatName(format);
    EXPECT_NEAR(squares / 40000, 1.0 / 400, 0.1 / 400) << WeightFormatName(format);
  }
}

TEST(DummyReaderTest, MakesTheSameWeightsForTheSameName) {
  const auto make = [](const char* name) {
    std::vector<float> row(40);
    MakeDummyReader(WeightFormat::kInt4)
        ->Matrix({.name = name, .cols = 40, .parts = {TensorRows::All("x", 33, 40)}})
        ->CopyRow(32, row.data());
    return row;
  };

  EXPECT_EQ(make("a"), make("a"));
  EXPECT_NE(make("a"), make("b"));
}

}  // namespace
}  // namespace expertd
