#include "engine/tensor/weight_matrix.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/tensor/quantize.h"

namespace expertd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> Row(const WeightMatrix& matrix, int row) {
  std::vector<float> values(matrix.cols());
  matrix.CopyRow(row, values.data());
  return values;
}

// Element (row, k) is 1000 * row + k; exact in every type up to 2048.
std::vector<float> Numbered(int rows, int cols, int first_row = 0) {
  std::vector<float> values;
  for (int row = 0; row < rows; ++row) {
    for (int k = 0; k < cols; ++k) values.push_back(static_cast<float>(1000 * (first_row + row) + k));
  }
  return values;
}

TEST(WeightMatrixTest, GivesBackTheRowsThatWerePacked) {
  const std::vector<float> source = Numbered(70, 37);

  const auto matrix = WeightMatrix::Pack(source.data(), DType::kF32, 70, 37, WeightFormat::kF32);

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->rows(), 70);
  EXPECT_EQ(matrix->cols(), 37);
  EXPECT_EQ(matrix->format(), WeightFormat::kF32);
  EXPECT_EQ(matrix->num_panels(), 3);
  EXPECT_EQ(matrix->size_bytes(), 3 * 37 * 32 * 4);
  for (int row = 0; row < 70; ++row) {
    EXPECT_EQ(Row(*matrix, row), std::vector<float>(source.begin() + row * 37, source.begin() + (row + 1) * 37));
  }
}

TEST(WeightMatrixTest, StoresBf16RoundedToNearestEven) {
  const float source[] = {1.0f, 1.00390625f, 1.01171875f, -2.5f, 3.4e38f};

  const auto matrix = WeightMatrix::Pack(source, DType::kF32, 1, 5, WeightFormat::kBF16);

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->size_bytes(), 32 * 32 * 2);  // filled up to the depth of a tile
  // 1 + 1/256 and 1 + 3/256 lie between multiples of 1/128: each goes to the even one. 3.4e38 is beyond the largest.
  EXPECT_THAT(Row(*matrix, 0), ElementsAre(1.0f, 1.0f, 1.015625f, -2.5f, std::numeric_limits<float>::infinity()));
}

TEST(WeightMatrixTest, TakesHalfPrecisionSources) {
  const uint16_t source[] = {0x3c00, 0xc000, 0x7bff, 0x0001, 0x8000, 0x7c00};

  const auto matrix = WeightMatrix::Pack(source, DType::kF16, 2, 3, WeightFormat::kF32);

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_THAT(Row(*matrix, 0), ElementsAre(1.0f, -2.0f, 65504.0f));
  EXPECT_THAT(Row(*matrix, 1), ElementsAre(0x1p-24f, -0.0f, std::numeric_limits<float>::infinity()));
}

TEST(WeightMatrixTest, KeepsTheBitsOfBf16Sources) {
  const uint16_t source[] = {0x3f80, 0x4049, 0xff80, 0x7fc1};

  const auto matrix = WeightMatrix::Pack(source, DType::kBF16, 1, 4, WeightFormat::kBF16);

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  const std::vector<float> row = Row(*matrix, 0);
  for (int k = 0; k < 4; ++k) EXPECT_EQ(ToBFloat16(row[k]).bits, source[k]) << k;
}

TEST(WeightMatrixTest, LaysOutPanelsAsItsHeaderSays) {
  const std::vector<float> source = Numbered(40, 3);
  const auto f32 = WeightMatrix::Pack(source.data(), DType::kF32, 40, 3, WeightFormat::kF32);
  const auto bf16 = WeightMatrix::Pack(source.data(), DType::kF32, 2, 3, WeightFormat::kBF16);
  ASSERT_TRUE(f32.ok() && bf16.ok());

  const PackedWeights wide = f32->packed();
  const PackedWeights pairs = bf16->packed();

  const auto* second_panel = reinterpret_cast<const float*>(wide.panels + wide.panel_bytes);
  EXPECT_EQ(second_panel[2 * 32 + 5], 37002.0f);
  EXPECT_EQ(second_panel[2 * 32 + 8], 0.0f);  // beyond row 39
  const auto* elements = reinterpret_cast<const BFloat16*>(pairs.panels);
  EXPECT_EQ(ToFloat(elements[2 * 1 + 0]), 1000.0f);       // (k 0, row 1)
  EXPECT_EQ(ToFloat(elements[2 * 0 + 1]), 1.0f);          // (k 1, row 0)
  EXPECT_EQ(ToFloat(elements[64 + 2 * 0 + 0]), 2.0f);     // (k 2, row 0)
  EXPECT_EQ(ToFloat(elements[64 + 2 * 1 + 1]), 0.0f);     // no k 3
}

// Rows of whole multiples of 1/127 of their largest are exact in int8.
TEST(WeightMatrixTest, KeepsWholeStepsOfInt8Exactly) {
  std::vector<float> source;
  for (int row = 0; row < 40; ++row) {
    for (int k = 0; k < 70; ++k) source.push_back(static_cast<float>((k * 37 + row) % 255 - 127) * 0.5f);
    source[row * 70] = 63.5f;
  }

  const auto matrix = WeightMatrix::Pack(source.data(), DType::kF32, 40, 70, WeightFormat::kInt8);

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->size_bytes(), 2 * (128 + 128 * 32));
  EXPECT_EQ(matrix->size_bytes(), PackedBytes(WeightFormat::kInt8, 40, 70));
  for (int row = 0; row < 40; ++row) {
    EXPECT_EQ(Row(*matrix, row), std::vector<float>(source.begin() + row * 70, source.begin() + (row + 1) * 70));
  }
}

TEST(WeightMatrixTest, LaysOutInt8AsItsLayoutSays) {
  const std::vector<float> source = {127.0f, 1.0f, -2.0f, 3.0f, -127.0f};

  const auto matrix = WeightMatrix::Pack(source.data(), DType::kF32, 1, 5, WeightFormat::kInt8);

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  const std::byte* panel = matrix->packed().panels;
  EXPECT_EQ(reinterpret_cast<const float*>(panel)[0], 1.0f);
  EXPECT_EQ(reinterpret_cast<const float*>(panel)[1], 0.0f);  // an output that is not there
  const auto* codes = reinterpret_cast<const uint8_t*>(panel + 128);
  EXPECT_THAT(std::vector<int>(codes, codes + 4), ElementsAre(255, 129, 126, 131));
  EXPECT_THAT(std::vector<int>(codes + 128, codes + 132), ElementsAre(1, 128, 128, 128));
}

TEST(WeightMatrixTest, LaysOutInt4AsItsLayoutSays) {
  // Outputs 0 and 20 share the bytes of outputs 4 * c: 20 is 4 of the upper half.
  std::vector<float> source(21 * 130, 0.0f);
  for (const int row : {4, 20}) {
    source[row * 130 + 0] = -8.0f;
    source[row * 130 + 1] = row == 4 ? 7.0f : 3.0f;
    source[row * 130 + 129] = -16.0f;
  }

  const auto matrix = WeightMatrix::Pack(source.data(), DType::kF32, 21, 130, WeightFormat::kInt4);

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->packed().panel_bytes, 128 + 2 * (2048 + 64));
  const std::byte* panel = matrix->packed().panels;
  const auto* group = reinterpret_cast<const uint8_t*>(panel + 128);
  EXPECT_EQ(group[4 * 4 + 0], 0x00);               // -8 and -8
  EXPECT_EQ(group[4 * 4 + 1], (11 << 4) | 15);     // 3 and 7
  EXPECT_EQ(group[4 * 4 + 2], 0x88);               // zeros
  const uint8_t* second = group + 2048 + 64;
  EXPECT_EQ(second[4 * 4 + 1], 0x00);              // -16 is -8 of twice the scale
  const float scale = reinterpret_cast<const float*>(panel)[4];
  EXPECT_EQ(scale * HalfToFloat(reinterpret_cast<const uint16_t*>(group + 2048)[4]), 1.0f);
  EXPECT_EQ(scale * HalfToFloat(reinterpret_cast<const uint16_t*>(second + 2048)[4]), 2.0f);
}

TEST(WeightMatrixTest, ReadsInt4WithZeroPointsAsItsLayoutSays) {
  PackedWeights packed = {.panel_bytes = PanelBytes(WeightFormat::kInt4, 130, /*has_zero_points=*/true),
                          .rows = 21,
                          .cols = 130,
                          .padded_cols = 256,
                          .format = WeightFormat::kInt4,
                          .has_zero_points = true};
  ASSERT_EQ(packed.panel_bytes, 128 + 2 * (2048 + 64 + 64));
  AlignedBuffer buffer = *AlignedBuffer::Allocate(packed.panel_bytes);
  auto* const scales = reinterpret_cast<float*>(buffer.data());
  auto* const group = reinterpret_cast<uint8_t*>(buffer.data() + 128);
  uint8_t* const second = group + 2048 + 64 + 64;
  scales[4] = 0.5f;
  scales[20] = 2.0f;
  reinterpret_cast<uint16_t*>(group + 2048)[4] = FloatToHalf(3.0f);
  reinterpret_cast<uint16_t*>(group + 2048)[20] = FloatToHalf(1.0f);
  reinterpret_cast<uint16_t*>(second + 2048)[4] = FloatToHalf(1.0f);
  group[2048 + 64 + 4] = 15;
  group[2048 + 64 + 20] = 0;
  second[2048 + 64 + 4] = 1;
  group[4 * 4 + 1] = (11 << 4) | 2;  // input 1: code 11 of output 20, code 2 of output 4
  second[4 * 4 + 1] = 9;             // input 129

  const WeightMatrix matrix = WeightMatrix::Over(packed, SharedBytes::Of(std::move(buffer)));

  const std::vector<float> fourth = Row(matrix, 4), twentieth = Row(matrix, 20);
  EXPECT_EQ(fourth[0], 0.5f * 3.0f * (0 - 15));
  EXPECT_EQ(fourth[1], 0.5f * 3.0f * (2 - 15));
  EXPECT_EQ(fourth[129], 0.5f * (9 - 1));
  EXPECT_EQ(twentieth[0], 0.0f);
  EXPECT_EQ(twentieth[1], 2.0f * 11);
}

TEST(WeightMatrixTest, QuantizesNormalWeightsWithinTheStepOfTheirGroup) {
  std::vector<float> source(33 * 300);
  std::mt19937 bits(7);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  for (float& value : source) value = normal(bits);

  for (const auto& [format, bound] : {std::pair(WeightFormat::kInt8, 0.008), std::pair(WeightFormat::kInt4, 0.11)}) {
    const auto matrix = WeightMatrix::Pack(source.data(), DType::kF32, 33, 300, format);

    ASSERT_TRUE(matrix.ok()) << matrix.status();
    double error = 0.0, size = 0.0;
    for (int row = 0; row < 33; ++row) {
      const std::vector<float> values = Row(*matrix, row);
      for (int k = 0; k < 300; ++k) {
        error += std::pow(values[k] - source[row * 300 + k], 2);
        size += std::pow(source[row * 300 + k], 2);
      }
    }
    EXPECT_LT(std::sqrt(error / size), bound) << WeightFormatName(format);
  }
}

TEST(WeightMatrixTest, MarksQuantizedRowsThatAreNotFinite) {
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    const float source[] = {1.0f, std::numeric_limits<float>::infinity(), 1.0f, 2.0f, 0.0f, 0.0f};

    const auto matrix = WeightMatrix::Pack(source, DType::kF32, 3, 2, format);

    ASSERT_TRUE(matrix.ok()) << matrix.status();
    EXPECT_TRUE(std::isnan(Row(*matrix, 0)[0]));
    EXPECT_NEAR(Row(*matrix, 1)[1], 2.0f, 0.1f);
    EXPECT_THAT(Row(*matrix, 2), ElementsAre(0.0f, 0.0f));
  }
}

TEST(WeightMatrixBuilderTest, StacksSourcesOfDifferentTypesAndStrides) {
  const std::vector<float> wide = Numbered(33, 10);  // of which 4 columns are taken
  const uint16_t ones[] = {0x3f80, 0x3f80, 0x3f80, 0x3f80};
  auto builder = WeightMatrixBuilder::Create(34, 4, WeightFormat::kF32);
  ASSERT_TRUE(builder.ok()) << builder.status();

  ASSERT_TRUE(builder->AddRows(1, wide.data() + 2, DType::kF32, 33, /*source_row_stride=*/10).ok());
  ASSERT_TRUE(builder->AddRows(0, ones, DType::kBF16, 1).ok());
  const auto matrix = builder->Finish();

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_THAT(Row(*matrix, 0), ElementsAre(1.0f, 1.0f, 1.0f, 1.0f));
  EXPECT_THAT(Row(*matrix, 1), ElementsAre(2.0f, 3.0f, 4.0f, 5.0f));
  EXPECT_THAT(Row(*matrix, 33), ElementsAre(32002.0f, 32003.0f, 32004.0f, 32005.0f));
}

TEST(WeightMatrixBuilderTest, ReadsSourcesAtAnyAddress) {
  const float values[] = {1.5f, 2.5f, 3.5f};
  std::vector<char> bytes(1 + sizeof(values));
  std::memcpy(bytes.data() + 1, values, sizeof(values));

  const auto matrix = WeightMatrix::Pack(bytes.data() + 1, DType::kF32, 1, 3, WeightFormat::kF32);

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_THAT(Row(*matrix, 0), ElementsAre(1.5f, 2.5f, 3.5f));
}

TEST(WeightMatrixBuilderTest, TakesCodesBitForBit) {
  auto int8 = WeightMatrixBuilder::Create(2, 3, WeightFormat::kInt8);
  auto int4 = WeightMatrixBuilder::Create(18, 130, WeightFormat::kInt4, /*has_zero_points=*/true);
  ASSERT_TRUE(int8.ok() && int4.ok());
  QuantizedRow row = {.scale = 0.25f, .codes = {0, 255, 130}};
  QuantizedRow pointed = {.scale = 0.5f,
                          .codes = std::vector<uint8_t>(130, 15),
                          .group_scales = {FloatToHalf(3.0f), FloatToHalf(-1.0f)},
                          .zero_points = {16, 2}};
  pointed.codes[129] = 4;

  ASSERT_TRUE(int8->AddZeroRows(0, 1).ok());
  ASSERT_TRUE(int8->AddQuantizedRow(1, row).ok());
  ASSERT_TRUE(int4->AddZeroRows(0, 16).ok());
  ASSERT_TRUE(int4->AddQuantizedRow(16, pointed).ok());
  pointed.zero_points.clear();  // in the middle
  ASSERT_TRUE(int4->AddQuantizedRow(17, pointed).ok());
  const auto eight = int8->Finish(), four = int4->Finish();

  ASSERT_TRUE(eight.ok() && four.ok());
  EXPECT_THAT(Row(*eight, 1), ElementsAre(-32.0f, 31.75f, 0.5f));
  EXPECT_EQ(Row(*four, 16)[0], 0.5f * 3.0f * -1);
  EXPECT_EQ(Row(*four, 16)[128], -0.5f * 13);
  EXPECT_EQ(Row(*four, 16)[129], -0.5f * 2);
  EXPECT_EQ(Row(*four, 17)[0], 0.5f * 3.0f * 7);
}

TEST(WeightMatrixBuilderTest, RefusesCodesOfAnotherSize) {
  auto builder = WeightMatrixBuilder::Create(1, 130, WeightFormat::kInt4);
  ASSERT_TRUE(builder.ok());
  const QuantizedRow good = {.codes = std::vector<uint8_t>(130), .group_scales = {0, 0}};
  QuantizedRow short_row = good, few_groups = good, pointed = good;
  short_row.codes.pop_back();
  few_groups.group_scales.pop_back();
  pointed.zero_points = {1, 2};

  for (const QuantizedRow& row : {short_row, few_groups, pointed}) {
    EXPECT_EQ(builder->AddQuantizedRow(0, row).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(builder->AddQuantizedRow(1, good).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(builder->AddQuantizedRow(0, good).ok());
}

// What a column scale times half-precision group scales stand for.
std::vector<float> Joined(const std::vector<float>& group_scales) {
  QuantizedRow row;
  SplitScales(group_scales, row);
  std::vector<float> joined;
  for (const uint16_t half : row.group_scales) joined.push_back(row.scale * HalfToFloat(half));
  return joined;
}

TEST(SplitScalesTest, IsExactWhereHalfPrecisionHasRoom) {
  for (const std::vector<float>& scales : {
           std::vector<float>{0.1f, 0.1f, 0.1f},                                       // equal
           std::vector<float>{HalfToFloat(0x7bff), HalfToFloat(0x0001), -0.5f},        // halves, largest to smallest
           std::vector<float>{ToFloat(BFloat16{0x2b81}), ToFloat(BFloat16{0x2503})},   // bf16, near 1e-12 and 1e-16
           std::vector<float>{0x1.008p100f, 0x1.fecp72f, 0.0f}}) {                     // 2^28 apart
    EXPECT_EQ(Joined(scales), scales);
  }
}

TEST(SplitScalesTest, RoundsOthersToElevenBits) {
  const std::vector<float> joined = Joined({0.1f, 0.3f});

  EXPECT_NEAR(joined[0], 0.1f, 0.1f * 0x1p-11f);
  EXPECT_NEAR(joined[1], 0.3f, 0.3f * 0x1p-11f);
}

TEST(WeightMatrixBuilderTest, RefusesEmptyShapes) {
  EXPECT_EQ(WeightMatrixBuilder::Create(0, 4, WeightFormat::kF32).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(WeightMatrixBuilder::Create(4, -1, WeightFormat::kF32).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(WeightMatrixBuilderTest, RefusesRowsOutside) {
  const float values[8] = {};
  auto builder = WeightMatrixBuilder::Create(2, 4, WeightFormat::kF32);
  ASSERT_TRUE(builder.ok());

  EXPECT_EQ(builder->AddRows(1, values, DType::kF32, 2).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(builder->AddRows(-1, values, DType::kF32, 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(builder->AddRows(3, values, DType::kF32, 0).code(), absl::StatusCode::kInvalidArgument);
}

TEST(WeightMatrixBuilderTest, RefusesToFinishBeforeAllRowsCame) {
  const float values[4] = {};
  auto builder = WeightMatrixBuilder::Create(2, 4, WeightFormat::kF32);
  ASSERT_TRUE(builder.ok());
  ASSERT_TRUE(builder->AddRows(0, values, DType::kF32, 1).ok());

  const auto matrix = builder->Finish();

  EXPECT_EQ(matrix.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(matrix.status().message()), HasSubstr("1 of 2"));
}

TEST(WeightMatrixBuilderTest, ReportsAMatrixBeyondMemory) {
  const auto builder = WeightMatrixBuilder::Create(2'000'000'000, 2'000'000'000, WeightFormat::kF32);

  EXPECT_EQ(builder.status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace expertd
