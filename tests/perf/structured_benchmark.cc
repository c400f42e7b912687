// The cost of structured output for a full batch, as the runner does it: 64 outputs under a JSON schema, a vocabulary
// of Qwen's size, over the threads of a pool. Each step masks 64 rows of logits, takes the likeliest token of each and
// goes on with it. Beside it the same without a schema. The folder of a tokenizer is in EXPERTD_TOKENIZER. Run by hand
// on a quiet machine.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <random>
#include <vector>

#include "engine/platform/thread_pool.h"
#include "engine/sampling/sampler.h"
#include "engine/structured/constraint_compiler.h"
#include "engine/text/tokenizer.h"

namespace expertd {
namespace {

constexpr int kNumRows = 64;
constexpr const char* kSchema = R"({
  "type": "object", "additionalProperties": false, "required": ["name", "age", "address", "tags", "notes"],
  "properties": {
    "name": {"type": "string", "maxLength": 40}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
                "required": ["street", "city"], "additionalProperties": false},
    "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5},
    "notes": {"type": "string"}, "score": {"type": "number"}, "mail": {"type": "string", "format": "email"}}})";

// Logits of random values, drawn anew for each row and step from a few rows.
class Rows {
 public:
  explicit Rows(size_t vocab_size) : vocab_size_(vocab_size), values_(vocab_size * 8) {
    std::mt19937 bits(1);
    std::normal_distribution<float> normal(0.0f, 2.5f);
    for (float& value : values_) value = normal(bits);
  }
  void Copy(size_t offset, std::span<float> row) const {
    const size_t begin = offset * 7919 % (values_.size() - vocab_size_);
    std::copy_n(values_.begin() + static_cast<ptrdiff_t>(begin), vocab_size_, row.begin());
  }

 private:
  size_t vocab_size_;
  std::vector<float> values_;
};

struct Setting {
  std::unique_ptr<Tokenizer> tokenizer;
  int32_t vocab_size = 0;
};

Setting& TheSetting() {
  static Setting setting = [] {
    const char* folder = std::getenv("EXPERTD_TOKENIZER");
    auto tokenizer = LoadTokenizer(folder == nullptr ? "" : folder);
    if (!tokenizer.ok()) {
      std::fprintf(stderr, "EXPERTD_TOKENIZER: %s\n", std::string(tokenizer.status().message()).c_str());
      std::exit(1);
    }
    const int32_t size = (*tokenizer)->vocab_size();
    return Setting{*std::move(tokenizer), size};
  }();
  return setting;
}

std::unique_ptr<ConstraintCompiler> MakeCompiler() {
  return std::make_unique<ConstraintCompiler>(TheSetting().vocab_size, [](int32_t id) -> std::string_view {
    const Tokenizer& tokenizer = *TheSetting().tokenizer;
    return tokenizer.IsSpecial(id) ? std::string_view() : tokenizer.TokenBytes(id);
  });
}

// `is_cold`: the schema is compiled anew for each output, so that nothing is known of it.
void BM_Step(benchmark::State& state, bool is_structured, bool is_cold) {
  using Clock = std::chrono::steady_clock;
  const size_t vocab_size = static_cast<size_t>(TheSetting().vocab_size);
  ThreadPool pool(static_cast<int>(state.range(0)));
  const Rows source(vocab_size);
  std::vector<float> logits(vocab_size * kNumRows);
  std::vector<Sequence> sequences(kNumRows);
  std::vector<SamplerScratch> scratch(pool.num_threads(), SamplerScratch(SelectKernels(DetectCpu()), vocab_size));
  std::vector<SequenceResult> results(kNumRows);
  std::unique_ptr<ConstraintCompiler> compiler = MakeCompiler();
  const ConstraintSpec spec{.kind = ConstraintSpec::Kind::kJsonSchema, .text = kSchema};
  size_t step = 0;
  const auto begin_output = [&](Sequence& sequence) {
    if (!is_structured) return;
    if (is_cold) compiler = MakeCompiler();
    sequence.constraint.emplace(*compiler->Compile(spec));
  };
  for (Sequence& sequence : sequences) {
    sequence.sampling.temperature = 0;
    sequence.eos_token_ids = {0};
    begin_output(sequence);
  }
  double worst = 0;
  for (auto _ : state) {
    for (size_t i = 0; i < kNumRows; ++i) {
      source.Copy(++step, std::span(logits).subspan(i * vocab_size, vocab_size));
    }
    const Clock::time_point begin = Clock::now();
    pool.ParallelFor(kNumRows, [&](int64_t row, int thread) {
      const std::span<float> values = std::span(logits).subspan(static_cast<size_t>(row) * vocab_size, vocab_size);
      SampleToken(values, sequences[static_cast<size_t>(row)], nullptr, scratch[static_cast<size_t>(thread)],
                  results[static_cast<size_t>(row)]);
    });
    for (size_t i = 0; is_structured && i < kNumRows; ++i) {
      if (results[i].token > 0) sequences[i].constraint->Advance(results[i].token);
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    worst = std::max(worst, seconds);
    state.SetIterationTime(seconds);
    for (size_t i = 0; is_structured && i < kNumRows; ++i) {
      if (results[i].token <= 0 || sequences[i].constraint->must_end()) begin_output(sequences[i]);
    }
  }
  state.counters["worst_ms"] = worst * 1e3;
}

BENCHMARK_CAPTURE(BM_Step, plain, false, false)->Arg(2)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Step, schema, true, false)
    ->Arg(2)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(2000);
BENCHMARK_CAPTURE(BM_Step, cold_schema, true, true)
    ->Arg(2)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(200);

void BM_Compile(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    const std::unique_ptr<ConstraintCompiler> compiler = MakeCompiler();
    (void)compiler->Compile({.kind = ConstraintSpec::Kind::kChoices, .choices = {"a"}});  // the vocabulary
    state.ResumeTiming();
    benchmark::DoNotOptimize(compiler->Compile({.kind = ConstraintSpec::Kind::kJsonSchema, .text = kSchema}));
  }
}
BENCHMARK(BM_Compile)->Unit(benchmark::kMillisecond)->Iterations(20);

void BM_Vocabulary(benchmark::State& state) {
  for (auto _ : state) {
    const std::unique_ptr<ConstraintCompiler> compiler = MakeCompiler();
    benchmark::DoNotOptimize(compiler->Compile({.kind = ConstraintSpec::Kind::kChoices, .choices = {"a"}}));
  }
}
BENCHMARK(BM_Vocabulary)->Unit(benchmark::kMillisecond)->Iterations(5);

}  // namespace
}  // namespace expertd

BENCHMARK_MAIN();
