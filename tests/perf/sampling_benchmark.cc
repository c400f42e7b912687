// The cost of choosing tokens for a full batch, as the runner does it: 64 rows of logits of a vocabulary of 152k over
// the threads of a pool. A decode step of a model of 3 billion parameters takes some 200 ms on two cores; sampling
// should be lost in that. Run by hand on a quiet machine.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include "engine/platform/thread_pool.h"
#include "engine/sampling/sampler.h"

namespace expertd {
namespace {

constexpr int kNumRows = 64;
constexpr int kVocabSize = 151936;

enum class Shape {
  kSharp,  // a trained model's: a few likely tokens far above a wide rest
  kFlat,   // a normal distribution of deviation 1, as random weights give: the nucleus holds most of the vocabulary
};

std::vector<float> RandomLogits(Shape shape) {
  std::mt19937 bits(1);
  std::normal_distribution<float> normal(0.0f, shape == Shape::kSharp ? 2.5f : 1.0f);
  std::vector<float> logits(size_t{kNumRows} * kVocabSize);
  for (float& value : logits) value = normal(bits);
  if (shape == Shape::kFlat) return logits;
  constexpr int kNumLikely = 40;
  for (int row = 0; row < kNumRows; ++row) {
    for (int i = 0; i < kNumLikely; ++i) {
      logits[size_t(row) * kVocabSize + bits() % kVocabSize] = 20.0f - 0.25f * static_cast<float>(i);
    }
  }
  return logits;
}

// `num_tokens` of prompt and output together.
Sequence MakeSequence(const SamplingParams& params, int seed, int num_tokens) {
  std::mt19937 bits(seed);
  Sequence sequence;
  sequence.sampling = params;
  sequence.sampling.seed = seed;
  sequence.num_prompt_tokens = num_tokens / 2;
  for (int i = 0; i < num_tokens; ++i) sequence.tokens.push_back(static_cast<int32_t>(bits() % kVocabSize));
  return sequence;
}

void BM_SampleBatch(benchmark::State& state, const SamplingParams& params, Shape shape) {
  using Clock = std::chrono::steady_clock;
  ThreadPool pool(static_cast<int>(state.range(0)));
  const std::vector<float> source = RandomLogits(shape);
  std::vector<float> logits(source.size());
  std::vector<Sequence> sequences;
  for (int row = 0; row < kNumRows; ++row) sequences.push_back(MakeSequence(params, row, /*num_tokens=*/1000));
  std::vector<TokenHistory> histories(kNumRows);
  std::vector<SamplerScratch> scratch(pool.num_threads(), SamplerScratch(SelectKernels(DetectCpu()), kVocabSize));
  std::vector<SequenceResult> results(kNumRows);
  for (auto _ : state) {
    std::memcpy(logits.data(), source.data(), logits.size() * sizeof(float));  // processors overwrite them
    const Clock::time_point start = Clock::now();
    pool.ParallelFor(kNumRows, [&](int row, int thread) {
      SampleToken(std::span(logits).subspan(size_t(row) * kVocabSize, kVocabSize), sequences[row], &histories[row],
                  scratch[thread], results[row]);
    });
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
  }
}

SamplingParams Greedy() { return {.temperature = 0.0f}; }
SamplingParams Qwen() {  // generation_config.json of Qwen2.5
  return {.temperature = 0.7f, .top_p = 0.8f, .top_k = 20, .repetition_penalty = 1.05f};
}
SamplingParams Plain() { return {.temperature = 1.0f}; }
SamplingParams TopP() { return {.temperature = 1.0f, .top_p = 0.95f}; }
SamplingParams MinP() { return {.temperature = 1.0f, .min_p = 0.05f}; }
SamplingParams WithLogprobs(SamplingParams params) {
  params.logprobs = LogprobOptions{.top_n = 5};
  return params;
}

#define EXPERTD_SAMPLING(name, params)                                                                              \
  BENCHMARK_CAPTURE(BM_SampleBatch, name##Sharp, params, Shape::kSharp)                                            \
      ->ArgName("threads")->Arg(2)->UseManualTime()->Unit(benchmark::kMillisecond);                                \
  BENCHMARK_CAPTURE(BM_SampleBatch, name##Flat, params, Shape::kFlat)                                              \
      ->ArgName("threads")->Arg(2)->UseManualTime()->Unit(benchmark::kMillisecond)
EXPERTD_SAMPLING(Greedy, Greedy());
EXPERTD_SAMPLING(QwenDefaults, Qwen());
EXPERTD_SAMPLING(Temperature1, Plain());
EXPERTD_SAMPLING(TopP, TopP());
EXPERTD_SAMPLING(MinP, MinP());
EXPERTD_SAMPLING(GreedyLogprobs, WithLogprobs(Greedy()));
EXPERTD_SAMPLING(QwenDefaultsLogprobs, WithLogprobs(Qwen()));

}  // namespace
}  // namespace expertd

BENCHMARK_MAIN();
