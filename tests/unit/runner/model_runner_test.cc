#include "engine/runner/model_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "engine/kernels/kernels.h"
#include "engine/kv/block_pool.h"
#include "engine/platform/cpu.h"
#include "engine/sampling/random.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int kVocabSize = 300;
constexpr int kBlockSize = 16;
constexpr int32_t kNanToken = 299;  // the fake model computes a NaN after it

// Logits are random numbers keyed by all tokens up to the row, as found through the block table: wrong tables,
// positions or an order of passes that forgets tokens give other logits.
class FakeModel : public Model {
 public:
  FakeModel() { config_.vocab_size = kVocabSize; }

  const ModelConfig& config() const override { return config_; }
  ModelMemory memory() const override { return {}; }

  void Forward(const ForwardBatch& batch, KvCache&, ForwardContext&, float* logits) const override {
    ++num_passes_;
    max_logits_rows_ = std::max(max_logits_rows_, batch.logits_rows.size());
    std::vector<uint64_t> keys(batch.num_tokens());
    for (const BatchSequence& sequence : batch.sequences) {
      const auto slot = [&](int position) {
        return batch.block_tables[sequence.first_block + position / kBlockSize] * kBlockSize + position % kBlockSize;
      };
      for (int i = 0; i < sequence.num_tokens; ++i) {
        const int position = sequence.num_computed + i;
        EXPECT_EQ(batch.positions[sequence.first_row + i], position);
        token_at_[slot(position)] = batch.tokens[sequence.first_row + i];
        uint64_t key = 1;
        for (int p = 0; p <= position; ++p) key = RandomBits(key, token_at_.at(slot(p)));
        keys[sequence.first_row + i] = key;
      }
    }
    for (const int32_t row : batch.logits_rows) {
      for (int i = 0; i < kVocabSize; ++i) {
        *logits++ = batch.tokens[row] == kNanToken ? std::numeric_limits<float>::quiet_NaN()
                                                   : static_cast<float>(8.0 * RandomUniform(keys[row], i));
      }
    }
  }

  int num_passes() const { return num_passes_; }
  size_t max_logits_rows() const { return max_logits_rows_; }

 private:
  ModelConfig config_;
  mutable std::map<int, int32_t> token_at_;
  mutable int num_passes_ = 0;
  mutable size_t max_logits_rows_ = 0;
};

// A runner over the fake model, with what it needs.
class Bench {
 public:
  explicit Bench(int num_threads, ModelRunnerOptions options = {})
      : threads_(num_threads),
        kv_(KvCache::Create({.num_layers = 1, .num_kv_heads = 1, .head_dim = 1, .value_dim = 1,
                             .block_size = kBlockSize, .num_blocks = 256}).value()),
        runner_(model_, *kv_, SelectKernels(CpuFeatures(), Isa::kScalar), threads_, options) {}

  Sequence& Add(std::vector<int32_t> prompt, SamplingParams sampling = {}) {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = sequences_.size() + 1;
    sequence->num_prompt_tokens = static_cast<int32_t>(prompt.size());
    sequence->tokens = std::move(prompt);
    sequence->needs_prompt_logits = sampling.prompt_logprobs.has_value();
    sequence->sampling = std::move(sampling);
    for (int i = 0; i < 8; ++i) sequence->blocks.push_back(blocks_.Take());
    sequences_.push_back(std::move(sequence));
    return *sequences_.back();
  }

  // Computes up to `max_rows` rows of each sequence and books the results as a scheduler does.
  StepResult Step(const std::vector<Sequence*>& sequences, int max_rows = 1 << 20) {
    StepPlan plan;
    for (Sequence* sequence : sequences) {
      const int rows = std::min(max_rows, sequence->num_tokens() - sequence->num_computed_tokens);
      plan.sequences.push_back({sequence, rows, sequence->num_computed_tokens + rows == sequence->num_tokens()});
      plan.num_tokens += rows;
    }
    StepResult result = runner_.Run(plan).value();
    for (size_t i = 0; i < sequences.size(); ++i) {
      sequences[i]->num_computed_tokens += plan.sequences[i].num_tokens;
      if (result.sequences[i].token >= 0) sequences[i]->tokens.push_back(result.sequences[i].token);
    }
    return result;
  }

  ModelRunner& runner() { return runner_; }
  const FakeModel& model() const { return model_; }

 private:
  FakeModel model_;
  ThreadPool threads_;
  std::unique_ptr<KvCache> kv_;
  BlockPool blocks_{256};
  std::vector<std::unique_ptr<Sequence>> sequences_;
  ModelRunner runner_;
};

std::vector<int32_t> Output(const Sequence& sequence) {
  return {sequence.tokens.begin() + sequence.num_prompt_tokens, sequence.tokens.end()};
}

SamplingParams WithPromptLogprobs(LogprobOptions options) {
  SamplingParams params;
  params.prompt_logprobs = std::move(options);
  return params;
}

TEST(ModelRunnerTest, SamplesWhereThePlanAsksAndNowhereElse) {
  Bench bench(2);
  Sequence& chunk = bench.Add(std::vector<int32_t>(40, 7));
  Sequence& whole = bench.Add({1, 2, 3});

  const StepResult result = bench.Step({&chunk, &whole}, 10);

  ASSERT_THAT(result.sequences, SizeIs(2));
  EXPECT_EQ(result.sequences[0].token, -1);
  EXPECT_FALSE(result.sequences[0].no_valid_token);
  EXPECT_GE(result.sequences[1].token, 0);
  EXPECT_LT(result.sequences[1].token, kVocabSize);
  EXPECT_THAT(result.sequences[1].prompt_logprobs, IsEmpty());
}

TEST(ModelRunnerTest, OutputDoesNotDependOnCompanyChunksOrThreads) {
  SamplingParams params;
  params.seed = 77;
  params.top_p = 0.95f;
  params.repetition_penalty = 1.2f;
  params.frequency_penalty = 0.5f;
  params.logprobs = LogprobOptions{.top_n = 3};
  const std::vector<int32_t> prompt = {5, 6, 7, 8, 9, 10, 11};
  Bench alone(1), crowd(2);
  Sequence& single = alone.Add(prompt, params);
  std::vector<StepResult> single_results;
  for (int i = 0; i < 20; ++i) single_results.push_back(alone.Step({&single}));

  std::vector<Sequence*> all;
  for (int i = 0; i < 15; ++i) {
    SamplingParams other;
    other.seed = i;
    other.presence_penalty = i % 2 == 0 ? 1.0f : 0.0f;
    all.push_back(&crowd.Add({i, 2, i, i + 40}, other));
  }
  Sequence& among = crowd.Add(prompt, params);
  all.insert(all.begin() + 6, &among);
  while (Output(among).size() < 20) {
    const StepResult result = crowd.Step(all, 3);
    if (Output(among).empty()) continue;
    const SequenceResult& expected = single_results[Output(among).size() - 1].sequences[0];
    EXPECT_EQ(result.sequences[6].logprob.logprob, expected.logprob.logprob);
    EXPECT_EQ(result.sequences[6].logprob.top, expected.logprob.top);
  }

  EXPECT_EQ(Output(among), Output(single));
}

TEST(ModelRunnerTest, PenaltiesFollowTheTokensThroughForgettingAndPreemption) {
  SamplingParams params;
  params.temperature = 0.0f;
  params.repetition_penalty = 1.5f;
  params.presence_penalty = 2.0f;
  Bench steady(1), disturbed(1);
  Sequence& expected = steady.Add({1, 2, 3}, params);
  Sequence& actual = disturbed.Add({1, 2, 3}, params);

  for (int i = 0; i < 24; ++i) {
    steady.Step({&expected});
    if (i == 8) disturbed.runner().Forget(actual.id);
    if (i == 16) actual.num_computed_tokens = 0;  // preempted: computed anew
    disturbed.Step({&actual});
  }

  EXPECT_EQ(Output(actual), Output(expected));
}

TEST(ModelRunnerTest, PromptLogprobsAreTheSameInManyPassesAsInOne) {
  const std::vector<int32_t> prompt = {4, 8, 15, 16, 23, 42, 4, 8};
  Bench one(2), many(2, {.max_prompt_logits_bytes = 2 * kVocabSize * 4});
  Sequence& in_one = one.Add(prompt, WithPromptLogprobs({.top_n = 2}));
  Sequence& in_many = many.Add(prompt, WithPromptLogprobs({.top_n = 2}));

  const StepResult expected = one.Step({&in_one}), result = many.Step({&in_many});

  EXPECT_EQ(one.model().num_passes(), 1);
  EXPECT_EQ(many.model().num_passes(), 4);
  EXPECT_EQ(many.model().max_logits_rows(), 2u);
  const std::vector<TokenLogprob>& logprobs = result.sequences[0].prompt_logprobs;
  ASSERT_THAT(logprobs, SizeIs(7));
  ASSERT_THAT(expected.sequences[0].prompt_logprobs, SizeIs(7));
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(logprobs[i].token, prompt[i + 1]);
    EXPECT_LT(logprobs[i].logprob, 0.0f);
    EXPECT_EQ(logprobs[i].logprob, expected.sequences[0].prompt_logprobs[i].logprob);
    EXPECT_EQ(logprobs[i].rank, expected.sequences[0].prompt_logprobs[i].rank);
    EXPECT_EQ(logprobs[i].top, expected.sequences[0].prompt_logprobs[i].top);
    EXPECT_THAT(logprobs[i].top, SizeIs(2));
  }
  EXPECT_EQ(result.sequences[0].token, expected.sequences[0].token);
}

TEST(ModelRunnerTest, PromptLogprobsStartWhereAskedAndComeOnce) {
  Bench bench(1);
  Sequence& sequence = bench.Add({9, 8, 7, 6, 5, 4, 3}, WithPromptLogprobs({.token_ids = {0}, .start = 2}));
  std::vector<int32_t> reported;
  const auto step = [&] {
    const StepResult result = bench.Step({&sequence}, 3);
    for (const TokenLogprob& logprob : result.sequences[0].prompt_logprobs) reported.push_back(logprob.token);
  };

  step();
  EXPECT_THAT(reported, ElementsAre(7, 6));
  sequence.num_computed_tokens = 0;  // preempted
  for (int i = 0; i < 5; ++i) step();

  EXPECT_THAT(reported, ElementsAre(7, 6, 5, 4, 3));
  EXPECT_THAT(Output(sequence), SizeIs(3));
}

TEST(ModelRunnerTest, SequenceThatNeedsNoPromptLogitsReportsNone) {
  Bench bench(1);
  Sequence& sequence = bench.Add({9, 8, 7}, WithPromptLogprobs({.top_n = 1}));
  sequence.needs_prompt_logits = false;

  EXPECT_THAT(bench.Step({&sequence}).sequences[0].prompt_logprobs, IsEmpty());
}

TEST(ModelRunnerTest, NanEndsOnlyItsOwnSequence) {
  Bench bench(2);
  Sequence& broken = bench.Add({1, kNanToken});
  Sequence& sound = bench.Add({1, 2});
  Sequence& broken_prompt = bench.Add({1, kNanToken, 2}, WithPromptLogprobs({}));

  const StepResult result = bench.Step({&broken, &sound, &broken_prompt});

  EXPECT_TRUE(result.sequences[0].has_nan);
  EXPECT_EQ(result.sequences[0].token, -1);
  EXPECT_FALSE(result.sequences[1].has_nan);
  EXPECT_GE(result.sequences[1].token, 0);
  EXPECT_TRUE(result.sequences[2].has_nan);
}

}  // namespace
}  // namespace expertd
