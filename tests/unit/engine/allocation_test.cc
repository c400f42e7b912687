// What a decode step takes from the heap once it runs steadily: nothing in the runner, and in the engine only what its
// callers' streams and growing sequences need.
#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <numeric>

#include <gmock/gmock.h>

#include "engine/loader.h"
#include "engine/runner/model_runner.h"
#include "tests/unit/engine/engine_fixture.h"
#include "tests/unit/engine/support/allocation_count.h"

namespace expertd::testing {
namespace {

class AllocationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kCountsAllocations) GTEST_SKIP() << "a sanitizer has an allocator of its own";
  }
};

TEST_F(AllocationTest, CountsWhatIsAllocated) {
  const int64_t before = NumAllocations();

  auto number = std::make_unique<int>(1);
  EXPECT_EQ(*number, 1);

  EXPECT_GE(NumAllocations(), before + 1);
}

// A sequence that decodes, with room for all that it will have.
std::unique_ptr<Sequence> MakeSequence(uint64_t id, const SamplingParams& sampling, BlockPool& blocks) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = id;
  sequence->sampling = sampling;
  sequence->tokens = SomeTokens(150, static_cast<uint32_t>(id));
  sequence->num_prompt_tokens = sequence->num_tokens();
  sequence->tokens.reserve(256);
  for (int i = 0; i < 8; ++i) sequence->blocks.push_back(blocks.Take());
  return sequence;
}

TEST_F(AllocationTest, RunnerTakesNothingForAStepLikeTheOneBefore) {
  SamplingParams greedy{.temperature = 0.0f};
  SamplingParams nucleus{.top_p = 0.95f};
  SamplingParams penalized{.temperature = 0.7f, .top_p = 0.8f, .top_k = 20, .repetition_penalty = 1.05f};
  SamplingParams with_logprobs{.min_p = 0.05f};
  with_logprobs.logprobs = LogprobOptions{.top_n = 5};
  absl::StatusOr<LoadedModel> loaded = LoadModelFolder(BundledConfig());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ModelRunner runner(*loaded->model, *loaded->kv_cache, *loaded->kernels, *loaded->pool);
  BlockPool blocks(64);
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (const SamplingParams& params : {greedy, nucleus, penalized, with_logprobs}) {
    sequences.push_back(MakeSequence(sequences.size() + 1, params, blocks));
  }
  StepPlan plan;
  StepResult result;
  std::vector<int64_t> allocations;
  allocations.reserve(64);

  for (int step = 0; step < 64; ++step) {
    plan.sequences.clear();
    plan.num_tokens = 0;
    for (const auto& sequence : sequences) {
      const int32_t num_rows = sequence->num_tokens() - sequence->num_computed_tokens;
      plan.sequences.push_back({sequence.get(), num_rows, /*samples=*/true});
      plan.num_tokens += num_rows;
    }
    const int64_t before = NumAllocations();
    result = runner.Run(plan, std::move(result)).value();
    allocations.push_back(NumAllocations() - before);
    for (size_t i = 0; i < sequences.size(); ++i) {
      sequences[i]->num_computed_tokens = sequences[i]->num_tokens();
      sequences[i]->tokens.push_back(result.sequences[i].token);
    }
  }

  // The first step computes the prompts, the second is the first of its shape.
  allocations.erase(allocations.begin(), allocations.begin() + 2);
  EXPECT_THAT(allocations, ::testing::Each(0));
}

// Notes the count after each step; the engine thread writes, the test reads once `num_steps` steps were counted.
class StepAllocations final : public StatsSink {
 public:
  explicit StepAllocations(size_t num_steps) : num_steps_(num_steps) { counts_.reserve(num_steps); }

  void OnStep(const StepStats&) override {
    const std::lock_guard lock(mutex_);
    if (counts_.size() == num_steps_) return;
    counts_.push_back(NumAllocations());
    if (counts_.size() == num_steps_) is_full_.notify_all();
  }
  void OnSequenceFinished(const SequenceStats&) override {}
  void OnInterTokenGap(absl::Duration) override {}
  void OnRejected(const std::string&) override {}
  void OnStage(const char*, absl::Duration) override {}

  // Of each step but the first.
  std::vector<int64_t> Wait() {
    std::unique_lock lock(mutex_);
    is_full_.wait(lock, [this] { return counts_.size() == num_steps_; });
    std::vector<int64_t> differences;
    for (size_t i = 1; i < counts_.size(); ++i) differences.push_back(counts_[i] - counts_[i - 1]);
    return differences;
  }

 private:
  const size_t num_steps_;
  std::mutex mutex_;
  std::condition_variable is_full_;
  std::vector<int64_t> counts_;
};

// Allocations of each of 256 decode steps of four streams, which nobody reads meanwhile.
std::vector<int64_t> AllocationsOfDecodeSteps(OutputOptions output) {
  constexpr int kFirst = 100, kNum = 256;
  StepAllocations allocations(kFirst + kNum + 1);
  const auto engine = MakeEngine(BundledConfig(), &allocations);
  std::vector<std::shared_ptr<GenerationStream>> streams;
  for (uint32_t i = 0; i < 4; ++i) {
    RequestSpec spec = TokenSpec(SomeTokens(100, i), 500);
    spec.sampling.temperature = 1.0f;
    spec.sampling.repetition_penalty = 1.05f;
    spec.output = output;
    streams.push_back(Submit(*engine, std::move(spec)).value());
  }
  std::vector<int64_t> counts = allocations.Wait();
  for (const auto& stream : streams) EXPECT_TRUE(ReadAll(*stream).status.ok());
  return {counts.begin() + kFirst, counts.end()};
}

// What may be taken for a sequence in 256 steps beside its events: a key of the prefix cache for each of the 8 blocks
// that it fills, and the doubling of what grows with it (tokens, blocks, keys, counts for penalties, its text).
constexpr int64_t kGrowthOfASequence = 8 + 12;

TEST_F(AllocationTest, EngineTakesNothingInMostSteps) {
  const std::vector<int64_t> counts = AllocationsOfDecodeSteps({.text = true});

  EXPECT_LE(std::accumulate(counts.begin(), counts.end(), int64_t{0}), 4 * kGrowthOfASequence);
  EXPECT_GE(std::count(counts.begin(), counts.end(), 0), 200);
}

TEST_F(AllocationTest, EngineTakesOneBlockForTheIdsOfAnEvent) {
  const std::vector<int64_t> counts = AllocationsOfDecodeSteps({.token_ids = true});

  EXPECT_LE(std::accumulate(counts.begin(), counts.end(), int64_t{0}), 4 * (256 + kGrowthOfASequence));
  EXPECT_GE(std::count(counts.begin(), counts.end(), 4), 200);
}

}  // namespace
}  // namespace expertd::testing
