// Weights of quantized checkpoints as they come out of the reader: bit for bit where their codes are kept.
#include "engine/checkpoint/stored_weights.h"

#include <cstring>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/strings.h"
#include "engine/checkpoint/weight_reader.h"
#include "tests/unit/checkpoint/support/safetensors_file.h"

namespace expertd {
namespace {

using testing::Each;
using testing::EndsWith;
using testing::HasSubstr;

// A folder of tensors of any type, and the reader over it.
class StoredWeightsTest : public testing::Test {
 protected:
  template <typename Element>
  void Add(const std::string& name, const std::string& dtype, std::vector<int64_t> shape,
           const std::vector<Element>& values) {
    const size_t begin = data_.size();
    data_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Element));
    header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  }

  // GPTQ of 8 outputs: every code is `code`, every stored zero point `zero`, every scale 2^-7.
  void AddGptq(const std::string& module, int cols, int num_groups, uint32_t code = 3, uint32_t zero = 7) {
    Add(module + ".qweight", "I32", {cols / 8, 8}, std::vector<uint32_t>(static_cast<size_t>(cols), code * 0x11111111));
    Add(module + ".qzeros", "I32", {num_groups, 1},
        std::vector<uint32_t>(static_cast<size_t>(num_groups), zero * 0x11111111));
    Add(module + ".scales", "F16", {num_groups, 8},
        std::vector<uint16_t>(static_cast<size_t>(num_groups) * 8, FloatToHalf(0x1p-7f)));
  }
  // compressed-tensors int8 of 2 outputs, 4 inputs.
  void AddInt8(const std::string& module) {
    Add(module + ".weight", "I8", {2, 4}, std::vector<int8_t>{100, -50, 3, 0, -128, 127, 1, 2});
    Add(module + ".weight_scale", "F32", {2, 1}, std::vector<float>{0.1f, 0.3f});
  }

  void Write(const Json& quantization) {
    WriteFile(folder_ / "model.safetensors", SafetensorsBytes(header_.dump(), data_));
    WriteFile(folder_ / "config.json", Json{{"quantization_config", quantization}}.dump());
    source_ = *OpenSafetensors(folder_.path());
  }
  // Of opening it.
  absl::Status ErrorOf(const Json& quantization) {
    Write(quantization);
    return OpenStoredWeights(folder_.path(), *source_).status();
  }
  std::unique_ptr<WeightReader> Open(const Json& quantization, QuantizedWeights quantized = QuantizedWeights::kKeep,
                                     WeightFormat format = WeightFormat::kBF16) {
    Write(quantization);
    return MakeSourceReader(*OpenStoredWeights(folder_.path(), *source_), format, quantized);
  }
  std::unique_ptr<WeightReader> OpenGptq(QuantizedWeights quantized = QuantizedWeights::kKeep) {
    return Open({{"quant_method", "gptq"}, {"bits", 4}}, quantized);
  }
  std::unique_ptr<WeightReader> OpenCompressed(QuantizedWeights quantized = QuantizedWeights::kKeep,
                                               WeightFormat format = WeightFormat::kBF16) {
    return Open({{"quant_method", "compressed-tensors"}}, quantized, format);
  }

  static MatrixSpec Of(std::vector<std::string> modules, int rows, int cols) {
    MatrixSpec spec = {.name = modules[0], .cols = cols};
    for (const std::string& module : modules) spec.parts.push_back(TensorRows::All(module + ".weight", rows, cols));
    return spec;
  }
  static std::vector<float> Row(const WeightMatrix& matrix, int row) {
    std::vector<float> values(static_cast<size_t>(matrix.cols()));
    matrix.CopyRow(row, values.data());
    return values;
  }

  const TempFolder folder_;
  Json header_ = Json::object();
  std::string data_;
  std::unique_ptr<WeightSource> source_;
};

TEST_F(StoredWeightsTest, KeepsInt4CodesScalesAndZeroPoints) {
  AddGptq("x", 256, 2, /*code=*/13, /*zero=*/15);  // which stands for 16

  const auto matrix = OpenGptq()->Matrix(Of({"x"}, 8, 256));

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->format(), WeightFormat::kInt4);
  EXPECT_TRUE(matrix->packed().has_zero_points);
  EXPECT_THAT(Row(*matrix, 7), Each(-3 * 0x1p-7f));
}

TEST_F(StoredWeightsTest, StoresNoZeroPointsWhereAllAreInTheMiddle) {
  AddGptq("x", 128, 1, /*code=*/13, /*zero=*/7);

  const auto matrix = OpenGptq()->Matrix(Of({"x"}, 8, 128));

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_FALSE(matrix->packed().has_zero_points);
  EXPECT_THAT(Row(*matrix, 0), Each(5 * 0x1p-7f));
}

TEST_F(StoredWeightsTest, KeepsInt8CodesAndScales) {
  AddInt8("x");

  const auto matrix = OpenCompressed()->Matrix(Of({"x"}, 2, 4));

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->format(), WeightFormat::kInt8);
  EXPECT_EQ(Row(*matrix, 0), (std::vector<float>{0.1f * 100, 0.1f * -50, 0.1f * 3, 0.0f}));
  EXPECT_EQ(Row(*matrix, 1), (std::vector<float>{0.3f * -128, 0.3f * 127, 0.3f, 0.3f * 2}));
}

TEST_F(StoredWeightsTest, NeverRoundsCodesThatHaveTheWantedFormatAlready) {
  AddInt8("x");

  const auto matrix = OpenCompressed(QuantizedWeights::kConvert, WeightFormat::kInt8)->Matrix(Of({"x"}, 2, 4));

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  // The largest code of row 0 is 100: quantizing anew would make it 127 of a smaller scale.
  EXPECT_EQ(Row(*matrix, 0), (std::vector<float>{0.1f * 100, 0.1f * -50, 0.1f * 3, 0.0f}));
}

TEST_F(StoredWeightsTest, MakesFloatsOfCodesWhenAskedTo) {
  AddInt8("x");

  const auto matrix = OpenCompressed(QuantizedWeights::kConvert, WeightFormat::kF32)->Matrix(Of({"x"}, 2, 4));

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->format(), WeightFormat::kF32);
  EXPECT_EQ(Row(*matrix, 1)[1], 0.3f * 127);
}

TEST_F(StoredWeightsTest, GivesTheFormatThatTheSpecSays) {
  AddInt8("x");
  MatrixSpec spec = Of({"x"}, 2, 4);
  spec.format = WeightFormat::kBF16;

  EXPECT_EQ(OpenCompressed()->Matrix(spec)->format(), WeightFormat::kBF16);
}

TEST_F(StoredWeightsTest, MakesFloatsOfAMatrixWhosePartsDiffer) {
  AddInt8("q");
  Add("k.weight", "F32", {2, 4}, std::vector<float>(8, 0.5f));

  const auto matrix = OpenCompressed()->Matrix(Of({"q", "k"}, 2, 4));

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->format(), WeightFormat::kBF16);
  EXPECT_EQ(Row(*matrix, 0)[0], 10.0f);
  EXPECT_EQ(Row(*matrix, 2)[0], 0.5f);
}

TEST_F(StoredWeightsTest, HoldsAllExpertsOfALayerAlike) {
  AddGptq("mlp.experts.0.up", 128, 1);
  AddGptq("mlp.experts.1.up", 128, 2);  // groups of 64, which int4 does not have
  const auto reader = OpenGptq();

  EXPECT_EQ(reader->Matrix(Of({"mlp.experts.0.up"}, 8, 128))->format(), WeightFormat::kBF16);
  EXPECT_EQ(reader->Matrix(Of({"mlp.experts.1.up"}, 8, 128))->format(), WeightFormat::kBF16);
}

TEST_F(StoredWeightsTest, TurnsCodesIntoFloatsWhereTheirColumnsAreRows) {
  AddInt8("x");
  MatrixSpec spec = {.name = "x", .cols = 2, .parts = {TensorRows::All("x.weight", 2, 4)}};
  spec.parts[0].is_transposed = true;

  const auto matrix = OpenCompressed(QuantizedWeights::kKeep, WeightFormat::kF32)->Matrix(spec);

  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->format(), WeightFormat::kF32);
  EXPECT_EQ(Row(*matrix, 1), (std::vector<float>{0.1f * -50, 0.3f * 127}));
}

TEST_F(StoredWeightsTest, ReadsTablesOfCodes) {
  AddInt8("x");

  const auto table = OpenCompressed()->Table("x.weight", 2, 4, DType::kF32);

  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(reinterpret_cast<const float*>(table->data)[5], 0.3f * 127);
}

TEST_F(StoredWeightsTest, RefusesToLoseABias) {
  AddInt8("x");
  Add("x.bias", "F32", {2}, std::vector<float>{0.0f, 1.0f});
  const auto reader = OpenCompressed();
  ASSERT_TRUE(reader->Matrix(Of({"x"}, 2, 4)).ok());

  const absl::Status lost = reader->Finish();
  ASSERT_TRUE(reader->Vector("x.bias", 2).ok());
  const absl::Status asked = reader->Finish();

  EXPECT_EQ(lost.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(ToStdView(lost.message())), HasSubstr("the tensor x.bias"));
  EXPECT_TRUE(asked.ok()) << asked;
}

TEST_F(StoredWeightsTest, LeavesABiasOfZerosAside) {
  AddInt8("x");
  Add("x.bias", "F32", {2}, std::vector<float>{0.0f, 0.0f});
  const auto reader = OpenCompressed();
  ASSERT_TRUE(reader->Matrix(Of({"x"}, 2, 4)).ok());

  EXPECT_TRUE(reader->Finish().ok()) << reader->Finish();
}

TEST_F(StoredWeightsTest, NamesACodeTensorOfAnotherShape) {
  AddInt8("x");

  EXPECT_THAT(std::string(ToStdView(OpenCompressed()->Matrix(Of({"x"}, 4, 4)).status().message())),
              EndsWith("tensor x.weight has shape [2, 4]; must be [4, 4]"));
}

TEST_F(StoredWeightsTest, NamesABlockSizeThatIsNone) {
  AddInt8("x");
  for (const char* const sizes : {"[0, 128]", "[128, -1]", "[128]", "[128, 128, 128]", "[\"128\", \"128\"]", "128",
                                  "[1.5, 2]", "[18446744073709551615, 1]", "{}"}) {
    const Json value = *ParseJson(sizes);

    const absl::Status status = ErrorOf({{"quant_method", "fp8"}, {"weight_block_size", value}});

    EXPECT_THAT(std::string(ToStdView(status.message())), HasSubstr("weight_block_size of quantization_config is "));
    EXPECT_THAT(std::string(ToStdView(status.message())), EndsWith("; must be a list of two integers in 1..1048576"));
  }
  EXPECT_THAT(std::string(ToStdView(ErrorOf({{"quant_method", "fp8"}, {"weight_block_size", {0, 128}}}).message())),
              HasSubstr(" is [0,128];"));
}

TEST_F(StoredWeightsTest, NamesCodesThatNothingDescribes) {
  AddInt8("x");

  const std::string message(ToStdView(ErrorOf(Json()).message()));

  EXPECT_THAT(message, HasSubstr("tensor x.weight has dtype I8 and a weight_scale"));
  EXPECT_THAT(message, HasSubstr("the folder has no quant_model_description*.json"));
}

// Two codes of 4 bits take a byte in memory, whether the file has them so or not.
TEST_F(StoredWeightsTest, EstimatesTwoCodesToAByte) {
  Add("c.weight", "I8", {4, 256}, std::vector<int8_t>(1024));
  Add("c.weight_scale", "F32", {4, 1}, std::vector<float>(4, 1.0f));
  Add("a.weight", "I8", {2, 256}, std::vector<int8_t>(512));
  Add("a.weight_scale", "F32", {4, 1}, std::vector<float>(4, 1.0f));
  Add("w.weight", "I8", {4, 256}, std::vector<int8_t>(1024));
  Add("w.weight_scale", "F32", {4, 1}, std::vector<float>(4, 1.0f));
  Write(Json());
  const auto estimate = [&](Json description) {
    description["c.weight"] = description["a.weight"] = "W4A8_DYNAMIC";
    WriteFile(folder_ / "quant_model_description.json", description.dump());
    return EstimateQuantizedBytes(folder_.path(), WeightFormat::kF32)->value();
  };
  constexpr int64_t kScales = 3 * 4 * 4;

  EXPECT_EQ(estimate({{"w.weight", "W8A8_DYNAMIC"}}), kScales + 512 + 512 + 1024);
  EXPECT_EQ(estimate({{"w.weight", "W4A16"}}), kScales + 512 + 512 + 512);
  EXPECT_EQ(estimate({{"w.weight", "W4A16"}, {"version", "1.0.0"}}), kScales + 512 + 512 + 1024);
}

}  // namespace
}  // namespace expertd
