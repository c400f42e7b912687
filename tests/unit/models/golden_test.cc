// Recorded checkpoints against what transformers computed with them (tests/golden/models/record.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "tests/unit/models/support/model_harness.h"

namespace expertd {
namespace {

// Both sides compute in fp32 but sum in other orders; logits are of the order of 1 to 10.
constexpr float kLogitTolerance = 2e-4f;

struct Golden {
  struct Prompt {
    std::vector<int32_t> tokens;
    std::vector<int32_t> greedy;
  };
  std::vector<Prompt> prompts;
  std::vector<float> logits;  // all positions of all prompts
};

Golden ReadGolden(const std::string& dir) {
  Golden golden;
  const Json json = *ReadJsonFile(dir + "/golden.json");
  for (const Json& prompt : json["prompts"]) {
    golden.prompts.push_back(
        {prompt["prompt"].get<std::vector<int32_t>>(), prompt["greedy"].get<std::vector<int32_t>>()});
  }
  std::ifstream file(dir + "/logits.f32", std::ios::binary | std::ios::ate);
  golden.logits.resize(static_cast<size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(golden.logits.data()),
            static_cast<std::streamsize>(golden.logits.size() * sizeof(float)));
  return golden;
}

float LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0.0f;
  for (size_t i = 0; i < a.size(); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // NaN counts as a difference
  }
  return largest;
}

class GoldenTest : public testing::TestWithParam<std::tuple<std::string, Isa>> {
 protected:
  std::string folder() const { return GoldenFolder(std::get<0>(GetParam())); }
  ModelHarness::Options options() const { return {.num_threads = 2, .isa_limit = std::get<1>(GetParam())}; }
};

TEST_P(GoldenTest, LogitsAgreeWithTransformers) {
  const std::unique_ptr<Model> model = LoadForTest(folder(), WeightFormat::kF32);
  const Golden golden = ReadGolden(folder());
  ModelHarness harness(*model, options());

  std::vector<float> logits;
  for (const Golden::Prompt& prompt : golden.prompts) {
    const std::vector<float> part = harness.Run(prompt.tokens, 1000);
    logits.insert(logits.end(), part.begin(), part.end());
  }

  ASSERT_EQ(logits.size(), golden.logits.size());
  const float largest = LargestDifference(logits, golden.logits);
  RecordProperty("largest_difference", std::to_string(largest));
  std::printf("[   diff   ] %s: %.2e\n", std::get<0>(GetParam()).c_str(), largest);
  EXPECT_LE(largest, kLogitTolerance);
}

TEST_P(GoldenTest, GreedyTokensEqualTransformers) {
  const std::unique_ptr<Model> model = LoadForTest(folder(), WeightFormat::kF32);
  ModelHarness harness(*model, options());

  for (const Golden::Prompt& prompt : ReadGolden(folder()).prompts) {
    EXPECT_EQ(harness.Greedy(prompt.tokens, 64), prompt.greedy);
  }
}

std::string ParamName(const testing::TestParamInfo<GoldenTest::ParamType>& info) {
  return std::get<0>(info.param) + (std::get<1>(info.param) == Isa::kScalar ? "_scalar" : "_best");
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest,
                         testing::Combine(testing::ValuesIn(GoldenNames()),
                                          testing::Values(Isa::kScalar, Isa::kAmx)),
                         ParamName);

// Smaller formats are roundings of the same model: far from exact, but not lost. The bounds are about twice what is
// observed, with experts that random routers choose by a hair; the logits themselves spread by several units.
TEST(RoundedWeightsTest, LogitsStayNearThoseOfFp32) {
  for (const auto& [format, tolerance] : {std::pair(WeightFormat::kBF16, 0.2), std::pair(WeightFormat::kInt8, 0.2),
                                          std::pair(WeightFormat::kInt4, 0.6)}) {
    for (const std::string& name : GoldenNames()) {
      const std::unique_ptr<Model> model = LoadForTest(GoldenFolder(name), format);
      const Golden golden = ReadGolden(GoldenFolder(name));
      ModelHarness harness(*model, {.kv_format = KvFormat::kBF16, .num_threads = 2});

      std::vector<float> logits = harness.Run(golden.prompts[1].tokens, 1000);

      const size_t first = golden.prompts[0].tokens.size() * static_cast<size_t>(model->config().vocab_size);
      const std::vector<float> expected(golden.logits.begin() + first, golden.logits.begin() + first + logits.size());
      double error = 0.0, size = 0.0;
      for (size_t i = 0; i < logits.size(); ++i) {
        error += (logits[i] - expected[i]) * (logits[i] - expected[i]);
        size += expected[i] * expected[i];
      }
      EXPECT_LT(std::sqrt(error / size), tolerance) << name << " " << WeightFormatName(format);
    }
  }
}

}  // namespace
}  // namespace expertd
