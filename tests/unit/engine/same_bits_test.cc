// Same bits, whatever the company: one seeded, sampled request gives identical tokens and identical bits of its
// log-probabilities alone, in a crowd, however its prompt is chunked, on a prefix hit, after preemption, with any
// number of threads, and after a restart.
#include <bit>
#include <random>

#include "engine/base/strings.h"
#include "tests/unit/engine/engine_fixture.h"

namespace expertd::testing {
namespace {

constexpr int kPromptTokens = 150;
constexpr int kOutputTokens = 48;

RequestSpec SeededSpec() {
  RequestSpec spec = TokenSpec(SomeTokens(kPromptTokens, 1), kOutputTokens);
  spec.sampling.temperature = 0.9f;
  spec.sampling.top_p = 0.97f;
  spec.sampling.top_k = 200;
  spec.sampling.seed = 20240607;
  spec.sampling.repetition_penalty = 1.1f;
  spec.sampling.logprobs = LogprobOptions{.top_n = 5};
  return spec;
}

// Tokens and the bits of every log-probability, in one list of numbers.
std::vector<uint32_t> Bits(const Output& output) {
  std::vector<uint32_t> bits;
  for (const TokenLogprob& entry : output.only().logprobs) {
    bits.push_back(static_cast<uint32_t>(entry.token));
    bits.push_back(std::bit_cast<uint32_t>(entry.logprob));
    for (const auto& [token, logprob] : entry.top) {
      bits.push_back(static_cast<uint32_t>(token));
      bits.push_back(std::bit_cast<uint32_t>(logprob));
    }
  }
  for (int32_t token : output.only().token_ids) bits.push_back(static_cast<uint32_t>(token));
  return bits;
}

struct Formats {
  WeightFormat weights;
  KvFormat kv;
};

class SameBitsTest : public ::testing::TestWithParam<Formats> {
 protected:
  EngineConfig Config() const {
    EngineConfig config = BundledConfig();
    const auto [weights, kv] = GetParam();
    config.weights_dtype = weights == WeightFormat::kF32 ? DType::kF32 : DType::kBF16;
    config.kv_cache_dtype = kv;
    if (IsInteger(weights)) config.quantization = weights;
    return config;
  }

  // The request alone in a fresh engine.
  std::vector<uint32_t> Alone(const EngineConfig& config) {
    const Output output = Generate(*MakeEngine(config), SeededSpec());
    EXPECT_TRUE(output.status.ok()) << output.status;
    EXPECT_EQ(output.only().logprobs.size(), kOutputTokens);
    return Bits(output);
  }
};

TEST_P(SameBitsTest, SurvivesARestart) {
  EXPECT_EQ(Alone(Config()), Alone(Config()));
}

TEST_P(SameBitsTest, DoesNotDependOnTheNumberOfThreads) {
  EngineConfig one = Config();
  one.num_threads = 1;
  EngineConfig three = Config();
  three.num_threads = 3;

  const std::vector<uint32_t> expected = Alone(Config());

  EXPECT_EQ(Alone(one), expected);
  EXPECT_EQ(Alone(three), expected);
}

TEST_P(SameBitsTest, DoesNotDependOnPrefillChunks) {
  const std::vector<uint32_t> expected = Alone(Config());

  for (int chunk : {1, 7, 64}) {
    EngineConfig config = Config();
    config.max_prefill_chunk = chunk;
    EXPECT_EQ(Alone(config), expected) << "chunks of " << chunk;
  }
}

TEST_P(SameBitsTest, DoesNotDependOnAPrefixHit) {
  const auto engine = MakeEngine(Config());
  const Output first = Generate(*engine, SeededSpec());

  const Output second = Generate(*engine, SeededSpec());

  EXPECT_EQ(first.prompt.num_cached_tokens, 0);
  EXPECT_GT(second.prompt.num_cached_tokens, 0);
  EXPECT_EQ(Bits(second), Bits(first));
}

TEST_P(SameBitsTest, DoesNotDependOnSixtyThreeOthers) {
  const std::vector<uint32_t> expected = Alone(Config());
  const auto engine = MakeEngine(Config());
  std::mt19937 random(5);
  std::vector<std::shared_ptr<GenerationStream>> others;
  const auto submit_other = [&] {
    const uint32_t salt = 100 + static_cast<uint32_t>(others.size());
    RequestSpec spec =
        TokenSpec(SomeTokens(1 + static_cast<int>(random() % 180), salt), 1 + static_cast<int>(random() % 60));
    spec.sampling.temperature = 1.0f;
    spec.sampling.seed = salt;
    spec.scheduling.priority = static_cast<int32_t>(random() % 5) - 2;
    // Some share the beginning of the request's own prompt.
    if (random() % 4 == 0) std::get<TokenInput>(spec.input).ids = SomeTokens(kPromptTokens / 2, 1);
    absl::StatusOr<std::shared_ptr<GenerationStream>> stream = Submit(*engine, std::move(spec));
    ASSERT_TRUE(stream.ok()) << stream.status();
    others.push_back(*std::move(stream));
  };
  while (others.size() < 20) submit_other();

  // The rest arrive while the request runs, some after each of its deltas.
  absl::StatusOr<std::shared_ptr<GenerationStream>> stream = Submit(*engine, SeededSpec());
  ASSERT_TRUE(stream.ok()) << stream.status();
  Output output;
  while (std::optional<StreamEvent> event = (*stream)->Next()) {
    AddEvent(*std::move(event), &output);
    for (uint32_t i = random() % 3; i > 0 && others.size() < 63; --i) submit_other();
  }
  while (others.size() < 63) submit_other();
  for (const auto& other : others) EXPECT_TRUE(ReadAll(*other).status.ok());

  EXPECT_EQ(Bits(output), expected);
}

TEST_P(SameBitsTest, SurvivesPreemption) {
  const std::vector<uint32_t> expected = Alone(Config());
  // Room for little more than one sequence: those of higher priority push the request out, again and again.
  EngineConfig config = Config();
  config.max_model_len = 256;
  config.num_kv_blocks = 9;
  config.enable_prefix_caching = false;  // each try computes its prompt again
  const auto engine = MakeEngine(config);

  // Where the others arrive too late, because this thread had to wait for a CPU, the scene is played again.
  int num_preemptions = 0;
  for (int attempt = 0; attempt < 50 && num_preemptions == 0; ++attempt) {
    RequestSpec spec = SeededSpec();
    spec.scheduling.priority = -10;
    absl::StatusOr<std::shared_ptr<GenerationStream>> stream = Submit(*engine, std::move(spec));
    ASSERT_TRUE(stream.ok()) << stream.status();
    Output output;
    std::vector<std::shared_ptr<GenerationStream>> others;
    while (std::optional<StreamEvent> event = (*stream)->Next()) {
      AddEvent(*std::move(event), &output);
      if (!others.empty()) continue;
      for (uint32_t i = 0; i < 2; ++i) {  // the request runs: now those come that outrank it
        absl::StatusOr<std::shared_ptr<GenerationStream>> other =
            Submit(*engine, TokenSpec(SomeTokens(60, 50 + i), 100));
        ASSERT_TRUE(other.ok()) << other.status();
        others.push_back(*std::move(other));
      }
    }
    for (const auto& other : others) EXPECT_TRUE(ReadAll(*other).status.ok());
    num_preemptions += output.summary.timing.num_preemptions;
    EXPECT_EQ(Bits(output), expected);
  }

  EXPECT_GT(num_preemptions, 0);
}

TEST_P(SameBitsTest, OfACandidateComeAgainWithItsReturnedSeed) {
  const auto engine = MakeEngine(Config());
  RequestSpec three = SeededSpec();
  three.num_candidates = 3;
  const Output together = Generate(*engine, std::move(three));
  ASSERT_EQ(together.candidates.size(), 3u);

  RequestSpec single = SeededSpec();
  single.sampling.seed = together.candidates[2].finished.seed;
  const Output alone = Generate(*engine, std::move(single));

  Output third;
  third.candidates.push_back(together.candidates[2]);
  EXPECT_NE(together.candidates[0].token_ids, together.candidates[2].token_ids);
  EXPECT_EQ(Bits(third), Bits(alone));
}

INSTANTIATE_TEST_SUITE_P(All, SameBitsTest,
                         ::testing::Values(Formats{WeightFormat::kBF16, KvFormat::kBF16},
                                           Formats{WeightFormat::kF32, KvFormat::kF32},
                                           Formats{WeightFormat::kInt8, KvFormat::kBF16},
                                           Formats{WeightFormat::kInt4, KvFormat::kBF16},
                                           Formats{WeightFormat::kBF16, KvFormat::kInt8}),
                         [](const auto& info) {
                           return StrCat(WeightFormatName(info.param.weights), "_", KvFormatName(info.param.kv));
                         });

}  // namespace
}  // namespace expertd::testing
