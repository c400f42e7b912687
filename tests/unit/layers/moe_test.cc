// Router, grouping and experts against a plain loop over tokens.
#include "engine/layers/moe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <string>

#include "engine/layers/mlp.h"
#include "engine/platform/cpu.h"
#include "engine/platform/thread_pool.h"
#include "tests/unit/layers/support/memory_source.h"
#include "tests/unit/layers/support/random.h"

namespace expertd {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::Ge;
using testing::Lt;

const Kernels& Scalar() { return SelectKernels(DetectCpu(), Isa::kScalar); }

// ---- router ----

struct Routed {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

Routed RouteLogits(std::vector<float> logits, int per_token, const RouterSpec& rule,
                   std::vector<float> per_expert = {}) {
  const MoeSpec spec = {
      .num_experts = static_cast<int>(logits.size()), .experts_per_token = per_token, .router = rule};
  const auto router = MakeRouter(spec, std::move(per_expert));
  Routed routed = {std::vector<int32_t>(per_token), std::vector<float>(per_token)};
  router->Route(logits.data(), 1, routed.experts.data(), routed.weights.data(), Scalar());
  return routed;
}

Routed RouteLogits(std::vector<float> logits, int per_token, bool normalizes) {
  return RouteLogits(std::move(logits), per_token, SoftmaxTopKRouter{.normalizes_top_k = normalizes});
}

TEST(SoftmaxTopKTest, TakesTheBestInDescendingOrder) {
  const Routed routed = RouteLogits({0.0f, std::log(4.0f), std::log(2.0f), std::log(3.0f)}, 2, /*normalizes=*/false);

  EXPECT_THAT(routed.experts, ElementsAre(1, 3));
  EXPECT_NEAR(routed.weights[0], 0.4f, 1e-6f);
  EXPECT_NEAR(routed.weights[1], 0.3f, 1e-6f);
}

TEST(SoftmaxTopKTest, DividesByTheSumOfTheChosen) {
  const Routed routed = RouteLogits({0.0f, std::log(4.0f), std::log(2.0f), std::log(3.0f)}, 2, /*normalizes=*/true);

  EXPECT_NEAR(routed.weights[0], 4.0f / 7.0f, 1e-6f);
  EXPECT_NEAR(routed.weights[1], 3.0f / 7.0f, 1e-6f);
}

TEST(SoftmaxTopKTest, TakesTheLowerIndexOfATie) {
  EXPECT_THAT(RouteLogits({1, 5, 5, 1, 5}, 2, true).experts, ElementsAre(1, 2));
  EXPECT_THAT(RouteLogits({1, 1, 1, 1}, 3, true).experts, ElementsAre(0, 1, 2));
}

TEST(SoftmaxTopKTest, StaysWithinTheExpertsWhateverComes) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

  EXPECT_THAT(RouteLogits({nan, nan, nan, nan}, 3, true).experts, Each(AllOf(Ge(0), Lt(4))));
  EXPECT_THAT(RouteLogits({infinity, -infinity, nan, 1}, 4, true).experts, Each(AllOf(Ge(0), Lt(4))));
}

TEST(SoftmaxTopKTest, ChoosesOnlyFromTheGroupsWithTheBestExperts) {
  const SoftmaxTopKRouter rule = {
      .normalizes_top_k = false, .num_groups = 3, .num_chosen_groups = 2, .scaling_factor = 16.0};
  // Groups of two. The second has the best sum, but not the best experts.
  const std::vector<float> probabilities = {0.3f, 0.02f, 0.22f, 0.21f, 0.23f, 0.02f};
  std::vector<float> logits;
  for (const float p : probabilities) logits.push_back(std::log(p));

  const Routed routed = RouteLogits(logits, 3, rule);

  EXPECT_THAT(routed.experts, ElementsAre(0, 4, 1));
  EXPECT_NEAR(routed.weights[0], 16.0f * 0.3f, 1e-5f);
  EXPECT_NEAR(routed.weights[1], 16.0f * 0.23f, 1e-5f);
}

float Logit(float probability) { return std::log(probability / (1.0f - probability)); }

TEST(SigmoidTopKTest, ChoosesByBiasedScoresAndWeighsByScores) {
  const SigmoidTopKRouter rule = {.normalizes_top_k = true, .scaling_factor = 2.5};

  const Routed routed =
      RouteLogits({Logit(0.9f), Logit(0.5f), Logit(0.25f), Logit(0.6f)}, 2, rule, {-0.8f, 0.0f, 0.5f, 0.0f});

  EXPECT_THAT(routed.experts, ElementsAre(2, 3));  // by 0.75 and 0.6
  EXPECT_NEAR(routed.weights[0], 2.5f * 0.25f / 0.85f, 1e-5f);
  EXPECT_NEAR(routed.weights[1], 2.5f * 0.6f / 0.85f, 1e-5f);
}

TEST(SigmoidTopKTest, RatesAGroupByItsBestTwoAndExcludesTheOthersWhateverTheirSign) {
  const SigmoidTopKRouter rule = {.normalizes_top_k = false, .num_groups = 2, .num_chosen_groups = 1};

  // Biased scores: 0.9, -0.8, -0.8 in the first group, 0.1, 0.1, -0.9 in the second, whose best two sum to more.
  const Routed routed =
      RouteLogits(std::vector<float>(6, Logit(0.5f)), 3, rule, {0.4f, -1.3f, -1.3f, -0.4f, -0.4f, -1.4f});

  EXPECT_THAT(routed.experts, ElementsAre(3, 4, 5));
  EXPECT_NEAR(routed.weights[2], 0.5f, 1e-6f);
}

TEST(SigmoidTopKTest, StaysWithinTheExpertsWhateverComes) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const SigmoidTopKRouter rule = {.num_groups = 2, .num_chosen_groups = 1};

  EXPECT_THAT(RouteLogits({nan, nan, nan, nan}, 2, rule, {0, nan, 0, 0}).experts, Each(AllOf(Ge(0), Lt(4))));
  EXPECT_THAT(RouteLogits({infinity, -infinity, nan, 1}, 2, rule, {0, 0, 0, 0}).experts, Each(AllOf(Ge(0), Lt(4))));
}

TEST(GroupedTest, TakesTheBestOfEachGroupAndScalesItsProbability) {
  // Softmax over all: 0.1, 0.2, 0.3, 0.4; the scale does not take part in the choice.
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(3.0f), std::log(4.0f)};

  const Routed routed = RouteLogits(logits, 2, GroupedRouter{}, {100.0f, 3.0f, 100.0f, 0.5f});

  EXPECT_THAT(routed.experts, ElementsAre(1, 3));
  EXPECT_NEAR(routed.weights[0], 0.6f, 1e-6f);
  EXPECT_NEAR(routed.weights[1], 0.2f, 1e-6f);
}

TEST(GroupedTest, TakesTheLowerIndexOfATieAndScalesOfOneByDefault) {
  const Routed routed = RouteLogits({1, 1, 1, 1, 1, 1}, 3, GroupedRouter{});

  EXPECT_THAT(routed.experts, ElementsAre(0, 2, 4));
  EXPECT_NEAR(routed.weights[0], 1.0f / 6.0f, 1e-6f);
}

// ---- experts ----

constexpr int kHidden = 40, kWidth = 36, kExperts = 5, kPerToken = 2;
constexpr MoeSpec kSpec = {
    .num_experts = kExperts, .experts_per_token = kPerToken, .expert_intermediate_size = kWidth};

std::vector<float> Random(int64_t size, unsigned seed) { return RandomNormal(size, seed, 0.3f); }

// Named weights of one sparse layer, experts one by one.
MemorySource SeparateExperts() {
  MemorySource source;
  source.Add("router", {kExperts, kHidden}, Random(kExperts * kHidden, 1));
  for (unsigned e = 0; e < kExperts; ++e) {
    const std::string prefix = "experts." + std::to_string(e);
    source.Add(prefix + ".gate_proj.weight", {kWidth, kHidden}, Random(kWidth * kHidden, 10 + e));
    source.Add(prefix + ".up_proj.weight", {kWidth, kHidden}, Random(kWidth * kHidden, 20 + e));
    source.Add(prefix + ".down_proj.weight", {kHidden, kWidth}, Random(kHidden * kWidth, 30 + e));
  }
  return source;
}

// The same weights, stacked.
MemorySource StackedExperts() {
  std::vector<float> gate_up, down;
  for (unsigned e = 0; e < kExperts; ++e) {
    for (const unsigned seed : {10 + e, 20 + e}) {
      const std::vector<float> part = Random(kWidth * kHidden, seed);
      gate_up.insert(gate_up.end(), part.begin(), part.end());
    }
    const std::vector<float> part = Random(kHidden * kWidth, 30 + e);
    down.insert(down.end(), part.begin(), part.end());
  }
  MemorySource source;
  source.Add("router", {kExperts, kHidden}, Random(kExperts * kHidden, 1));
  source.Add("experts.gate_up_proj", {kExperts, 2 * kWidth, kHidden}, gate_up);
  source.Add("experts.down_proj", {kExperts, kHidden, kWidth}, down);
  return source;
}

float Dot(const float* a, const float* b, int size) { return std::inner_product(a, a + size, b, 0.0f); }

struct ExpertBiases {
  std::vector<float> gate = std::vector<float>(kWidth), up = gate, down = std::vector<float>(kHidden);
};

// y = down(silu(gate x) * up x), in the most literal way.
std::vector<float> ExpertOutput(unsigned expert, const float* x, const ExpertBiases& bias = {}) {
  const std::vector<float> gate = Random(kWidth * kHidden, 10 + expert), up = Random(kWidth * kHidden, 20 + expert);
  const std::vector<float> down = Random(kHidden * kWidth, 30 + expert);
  std::vector<float> activated(kWidth), y(kHidden);
  for (int i = 0; i < kWidth; ++i) {
    const float g = Dot(&gate[i * kHidden], x, kHidden) + bias.gate[i];
    activated[i] = g / (1.0f + std::exp(-g)) * (Dot(&up[i * kHidden], x, kHidden) + bias.up[i]);
  }
  for (int i = 0; i < kHidden; ++i) y[i] = Dot(&down[i * kWidth], activated.data(), kWidth) + bias.down[i];
  return y;
}

std::vector<float> ReferenceMoe(const std::vector<float>& x, int num_rows, std::vector<float> residual) {
  const std::vector<float> router = Random(kExperts * kHidden, 1);
  for (int row = 0; row < num_rows; ++row) {
    const float* const input = &x[row * kHidden];
    std::vector<float> logits(kExperts);
    for (int e = 0; e < kExperts; ++e) logits[e] = Dot(&router[e * kHidden], input, kHidden);
    const Routed routed = RouteLogits(logits, kPerToken, true);
    for (int i = 0; i < kPerToken; ++i) {
      const std::vector<float> y = ExpertOutput(static_cast<unsigned>(routed.experts[i]), input);
      for (int c = 0; c < kHidden; ++c) {
        residual[row * kHidden + c] += routed.weights[i] * y[c];
      }
    }
  }
  return residual;
}

std::vector<float> RunLayer(const FeedForward& layer, const std::vector<float>& x, int num_rows,
                            std::vector<float> residual, int num_threads, Isa isa = Isa::kAvx512) {
  ThreadPool pool(num_threads);
  ScratchArena scratch;
  ForwardContext context = {SelectKernels(DetectCpu(), isa), pool, scratch};
  layer.AddTo({InputRows::Floats(x.data(), kHidden), x.data()}, num_rows, residual.data(), context);
  return residual;
}

std::unique_ptr<FeedForward> Load(const WeightSource& source) {
  return *LoadMoe(kSpec, kHidden, {.router = "router", .experts = "experts"},
                  *MakeSourceReader(source, WeightFormat::kF32));
}

TEST(MoeTest, AddsTheWeightedOutputsOfTheChosenExperts) {
  const MemorySource source = SeparateExperts();
  const auto layer = Load(source);

  for (const int num_rows : {1, 2, 17, 300}) {
    const std::vector<float> x = Random(num_rows * kHidden, 7), residual = Random(x.size(), 8);
    const std::vector<float> expected = ReferenceMoe(x, num_rows, residual);
    const std::vector<float> actual = RunLayer(*layer, x, num_rows, residual, 2);
    for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 1e-5f) << num_rows << " " << i;
  }
}

TEST(MoeTest, ReadsStackedExpertsAsTheSameLayer) {
  const MemorySource separate = SeparateExperts(), stacked = StackedExperts();
  const std::vector<float> x = Random(9 * kHidden, 3), residual(9 * kHidden, 0.0f);

  EXPECT_EQ(RunLayer(*Load(separate), x, 9, residual, 1), RunLayer(*Load(stacked), x, 9, residual, 1));
}

TEST(MoeTest, GivesARowTheSameBitsAloneAndInACrowd) {
  const MemorySource source = SeparateExperts();
  const auto layer = Load(source);
  const int num_rows = 700;  // several tiles of rows per expert
  const std::vector<float> x = Random(num_rows * kHidden, 5), residual = Random(x.size(), 6);

  const std::vector<float> crowd = RunLayer(*layer, x, num_rows, residual, 3);

  for (const int row : {0, 123, 699}) {
    const auto begin = static_cast<int64_t>(row) * kHidden;
    const std::vector<float> alone = RunLayer(*layer, {x.begin() + begin, x.begin() + begin + kHidden}, 1,
                                              {residual.begin() + begin, residual.begin() + begin + kHidden}, 1);
    EXPECT_EQ(std::memcmp(alone.data(), crowd.data() + begin, sizeof(float) * kHidden), 0) << row;
  }
}

TEST(MoeTest, SurvivesInputsThatAreNotNumbers) {
  const MemorySource source = SeparateExperts();
  const std::vector<float> x(3 * kHidden, std::numeric_limits<float>::quiet_NaN());

  const std::vector<float> out = RunLayer(*Load(source), x, 3, std::vector<float>(x.size(), 0.0f), 2);

  EXPECT_TRUE(std::isnan(out[0]));
}

TEST(MlpTest, IsOneExpertForAllRows) {
  const MemorySource source = SeparateExperts();
  const auto layer =
      *LoadMlp({kWidth}, kHidden,
               {"experts.2.gate_proj.weight", "experts.2.up_proj.weight", "experts.2.down_proj.weight"},
               *MakeSourceReader(source, WeightFormat::kF32));
  const int num_rows = 530;
  const std::vector<float> x = Random(num_rows * kHidden, 4);

  const std::vector<float> out = RunLayer(*layer, x, num_rows, std::vector<float>(x.size(), 1.0f), 2);

  for (const int row : {0, 300, 529}) {
    const std::vector<float> expected = ExpertOutput(2, &x[row * kHidden]);
    for (int c = 0; c < kHidden; ++c) {
      ASSERT_NEAR(out[row * kHidden + c], 1.0f + expected[c], 1e-5f);
    }
  }
}

TEST(MlpTest, AddsTheBiasesThatTheCheckpointHas) {
  MemorySource source = SeparateExperts();
  const ExpertBiases biases = {.up = Random(kWidth, 40), .down = Random(kHidden, 41)};
  source.Add("experts.2.up_proj.bias", {kWidth}, biases.up);
  source.Add("experts.2.down_proj.bias", {kHidden}, biases.down);
  const auto layer =
      *LoadMlp({kWidth}, kHidden,
               {"experts.2.gate_proj.weight", "experts.2.up_proj.weight", "experts.2.down_proj.weight"},
               *MakeSourceReader(source, WeightFormat::kF32));
  const std::vector<float> x = Random(kHidden, 4);

  const std::vector<float> out = RunLayer(*layer, x, 1, std::vector<float>(x.size(), 1.0f), 2);

  const std::vector<float> expected = ExpertOutput(2, x.data(), biases);
  for (int c = 0; c < kHidden; ++c) ASSERT_NEAR(out[c], 1.0f + expected[c], 1e-5f);
}

}  // namespace
}  // namespace expertd
