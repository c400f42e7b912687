// Tensors of golden-stick as they come out under Hugging Face names.
#include "engine/checkpoint/golden_stick.h"

#include <bit>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/strings.h"
#include "engine/checkpoint/weight_reader.h"
#include "tests/unit/checkpoint/support/safetensors_file.h"

namespace expertd {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

constexpr char kLayer[] = "model.layers.0.";

// A folder of a DeepSeek with 2 experts, whose heads have 1 row that is not rotated and 4 that are.
class GoldenStickTest : public testing::Test {
 protected:
  template <typename Element>
  void Add(const std::string& name, const std::string& dtype, std::vector<int64_t> shape,
           const std::vector<Element>& values) {
    const size_t begin = data_.size();
    data_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Element));
    header_[kLayer + name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  }
  void AddFloats(const std::string& name, const std::vector<float>& values) {
    Add(name, "F32", {static_cast<int64_t>(values.size())}, values);
  }

  // 2 outputs, 3 inputs: codes 1 2 3 and -4 5 -6, weights an eighth and a sixteenth of them over `input_scales`.
  void AddStatic(const std::string& module, const std::vector<float>& input_scales = {0.25f}) {
    Add(module + "._layer.weight", "I8", {2, 3}, std::vector<int8_t>{1, 2, 3, -4, 5, -6});
    AddFloats(module + ".quant_op.input_scale", input_scales);
    Add(module + ".quant_op.input_zp", "I8", {1}, std::vector<int8_t>{-7});
    AddFloats(module + "._layer.matmul.dequant_scale", {0.125f, 0.0625f});
    Add(module + "._layer.matmul.quant_bias", "I32", {2}, std::vector<int32_t>{7 * 6, 7 * -5 + 8});
  }
  // 2 experts of 4 outputs and 2 inputs: code 4 * input + output - 8, of expert 1 its opposite less 1.
  void AddExperts(int64_t num_scales = 4) {
    const std::string module = "feed_forward.routed_experts.ffn.w2";
    Add(module + "._layer.weight", "I8", {2, 2, 2},
        std::vector<uint8_t>{0x98, 0xba, 0xdc, 0xfe, 0x67, 0x45, 0x23, 0x01});
    std::vector<uint64_t> scales;
    for (int64_t i = 0; i < 2 * num_scales; ++i) {
      scales.push_back(0xffffffff00000000u | std::bit_cast<uint32_t>(static_cast<float>(i % num_scales + 1)));
    }
    Add(module + "._layer.matmul.weight_scale", "U64", {2, 1, num_scales}, scales);
  }

  absl::StatusOr<std::unique_ptr<StoredWeights>> OpenWeights() {
    WriteFile(folder_ / "model.safetensors", SafetensorsBytes(header_.dump(), data_));
    WriteFile(folder_ / "config.json", config_.dump());
    source_ = *OpenSafetensors(folder_.path());
    return OpenStoredWeights(folder_.path(), *source_);
  }
  std::unique_ptr<StoredWeights> Open() { return *OpenWeights(); }

  static std::vector<float> Rows(const StoredWeights& weights, const std::string& name, int64_t rows, int64_t cols) {
    const auto weight = weights.Open(kLayer + name, std::vector{rows, cols});
    EXPECT_TRUE(weight.ok()) << weight.status();
    std::vector<float> values(static_cast<size_t>(rows * cols));
    for (int64_t row = 0; weight.ok() && row < rows; ++row) {
      EXPECT_TRUE((*weight)->ReadRow(row, values.data() + row * cols).ok());
    }
    return values;
  }
  static std::vector<float> Vector(const StoredWeights& weights, const std::string& name, int64_t size) {
    const auto values = weights.Vector(kLayer + name, size);
    EXPECT_TRUE(values.ok()) << values.status();
    return values.value_or(std::vector<float>());
  }
  static std::string OpenError(const StoredWeights& weights, const std::string& name, int64_t rows, int64_t cols) {
    const absl::Status status = weights.Open(kLayer + name, std::vector{rows, cols}).status();
    return std::string(ToStdView(status.message()));
  }
  static std::string VectorError(const StoredWeights& weights, const std::string& name, int64_t size) {
    const absl::Status status = weights.Vector(kLayer + name, size).status();
    return std::string(ToStdView(status.message()));
  }

  const TempFolder folder_;
  Json config_ = {{"q_lora_rank", 2},      {"kv_lora_rank", 1}, {"qk_nope_head_dim", 1}, {"qk_rope_head_dim", 4},
                  {"n_routed_experts", 2}, {"v_head_dim", 1}};
  Json header_ = Json::object();
  std::string data_;
  std::unique_ptr<WeightSource> source_;
};

TEST_F(GoldenStickTest, DividesStaticScalesByThoseOfTheInputs) {
  AddStatic("attention.wo");

  const auto weights = Open();

  EXPECT_THAT(Rows(*weights, "self_attn.o_proj.weight", 2, 3), ElementsAre(0.5f, 1, 1.5f, -1, 1.25f, -1.5f));
  EXPECT_EQ((*weights->Open(StrCat(kLayer, "self_attn.o_proj.weight"), std::vector<int64_t>{2, 3}))->native_format(),
            WeightFormat::kInt8);
}

TEST_F(GoldenStickTest, TakesTheOffsetOutOfABias) {
  AddStatic("attention.wo");

  const auto weights = Open();

  EXPECT_TRUE(weights->Has(StrCat(kLayer, "self_attn.o_proj.bias")));
  EXPECT_THAT(Vector(*weights, "self_attn.o_proj.bias", 2), ElementsAre(0.0f, 0.5f));
}

TEST_F(GoldenStickTest, PutsRotatedRowsBackInPairs) {
  Add("attention.kv2l._layer.weight", "F32", {5, 1}, std::vector<float>{9, 0, 2, 1, 3});
  Add("attention.l2q_proj.weight", "F32", {10, 1}, std::vector<float>{8, 0, 2, 1, 3, 9, 10, 12, 11, 13});

  const auto weights = Open();

  EXPECT_THAT(Rows(*weights, "self_attn.kv_a_proj_with_mqa.weight", 5, 1), ElementsAre(9, 0, 1, 2, 3));
  EXPECT_THAT(Rows(*weights, "self_attn.q_b_proj.weight", 10, 1), ElementsAre(8, 0, 1, 2, 3, 9, 10, 11, 12, 13));
}

TEST_F(GoldenStickTest, CutsJointLinearMapsApart) {
  Add("attention.qkv2l.weight", "F32", {7, 1}, std::vector<float>{6, 7, 9, 0, 2, 1, 3});
  Add("attention.qkv2l._layer.bias", "F32", {7}, std::vector<float>{6, 7, 9, 0, 2, 1, 3});

  const auto weights = Open();

  EXPECT_THAT(Rows(*weights, "self_attn.q_a_proj.weight", 2, 1), ElementsAre(6, 7));
  EXPECT_THAT(Rows(*weights, "self_attn.kv_a_proj_with_mqa.weight", 5, 1), ElementsAre(9, 0, 1, 2, 3));
  EXPECT_THAT(Vector(*weights, "self_attn.kv_a_proj_with_mqa.bias", 5), ElementsAre(9, 0, 1, 2, 3));
}

TEST_F(GoldenStickTest, ReadsPairsOfOutputsAndScalesInTheLowerHalfOf64Bits) {
  AddExperts();

  const auto weights = Open();

  EXPECT_THAT(Rows(*weights, "mlp.experts.0.down_proj.weight", 4, 2), ElementsAre(-8, -4, -14, -6, -18, -6, -20, -4));
  EXPECT_THAT(Rows(*weights, "mlp.experts.1.down_proj.weight", 4, 2), ElementsAre(7, 3, 12, 4, 15, 3, 16, 0));
  EXPECT_FALSE(weights->Has(StrCat(kLayer, "mlp.experts.2.down_proj.weight")));
}

TEST_F(GoldenStickTest, DividesByAScaleOfEachInput) {
  AddStatic("attention.wo", {0.25f, 0.5f, 0.125f});

  const auto weights = Open();

  EXPECT_THAT(Rows(*weights, "self_attn.o_proj.weight", 2, 3), ElementsAre(0.5f, 0.5f, 3, -1, 0.625f, -3));
}

TEST_F(GoldenStickTest, NamesWhatIsMissing) {
  AddStatic("attention.wo");
  Add("attention.q2l_proj._layer.weight", "I8", {2, 3}, std::vector<int8_t>(6));

  const auto weights = Open();

  EXPECT_EQ(OpenError(*weights, "self_attn.q_a_proj.weight", 2, 3),
            "tensor model.layers.0.attention.q2l_proj._layer.matmul.weight_scale is missing from the checkpoint");
  EXPECT_EQ(OpenError(*weights, "self_attn.kv_a_proj_with_mqa.weight", 5, 3),
            "tensor model.layers.0.attention.kv2l.weight is missing from the checkpoint");
}

TEST_F(GoldenStickTest, NamesAnotherShape) {
  AddStatic("attention.wo");
  AddExperts();

  const auto weights = Open();

  EXPECT_EQ(OpenError(*weights, "self_attn.o_proj.weight", 3, 2),
            "tensor model.layers.0.attention.wo._layer.weight has dtype I8 and shape [2, 3]; config.json calls for I8 "
            "[3, 2]");
  EXPECT_EQ(OpenError(*weights, "mlp.experts.0.down_proj.weight", 6, 2),
            "tensor model.layers.0.feed_forward.routed_experts.ffn.w2._layer.weight has dtype I8 and shape [2, 2, 2]; "
            "config.json calls for I8 [2, 2, 6]");
}

TEST_F(GoldenStickTest, NamesAnotherNumberOfScales) {
  AddExperts(/*num_scales=*/3);

  EXPECT_EQ(OpenError(*Open(), "mlp.experts.1.down_proj.weight", 4, 2),
            "tensor model.layers.0.feed_forward.routed_experts.ffn.w2._layer.matmul.weight_scale has shape [2, 1, 3]; "
            "must be [2, 1, 4]");
}

TEST_F(GoldenStickTest, GivesTheBetasOfAllReadersOfANormAsItsBias) {
  AddStatic("attention.q2l_proj");
  AddStatic("attention.kv2l");
  AddFloats("attention.q2l_proj.quant_op.beta", {1, -2, 3});
  AddFloats("attention.kv2l.quant_op.beta", {1, -2, 3});

  const auto weights = Open();

  EXPECT_TRUE(weights->Has(StrCat(kLayer, "input_layernorm.bias")));
  EXPECT_FALSE(weights->Has(StrCat(kLayer, "self_attn.q_a_layernorm.bias")));
  EXPECT_THAT(Vector(*weights, "input_layernorm.bias", 3), ElementsAre(1, -2, 3));
}

TEST_F(GoldenStickTest, NamesTwoReadersOfANormThatAddDifferentBetas) {
  AddStatic("attention.q2l_proj");
  AddStatic("attention.kv2l");
  AddFloats("attention.q2l_proj.quant_op.beta", {1, -2, 3});

  EXPECT_EQ(VectorError(*Open(), "input_layernorm.bias", 3),
            "model.layers.0.attention.q2l_proj and model.layers.0.attention.kv2l follow one norm, but add different "
            "biases to it (quant_op.beta)");
}

TEST_F(GoldenStickTest, RefusesABetaThatFollowsNoNorm) {
  AddStatic("attention.wo");
  AddFloats("attention.wo.quant_op.beta", {0, -2, 0});

  EXPECT_THAT(std::string(ToStdView(OpenWeights().status().message())),
              EndsWith("tensor model.layers.0.attention.wo.quant_op.beta has the value -2; must be 0"));
}

TEST_F(GoldenStickTest, RefusesPartsOfOtherForms) {
  AddStatic("attention.wo");
  AddFloats("attention.wo._layer.matmul.weight_zp", {0, 0});

  EXPECT_THAT(std::string(ToStdView(OpenWeights().status().message())),
              HasSubstr("tensor model.layers.0.attention.wo._layer.matmul.weight_zp is of a form of golden-stick that "
                        "is not read"));
}

}  // namespace
}  // namespace expertd
