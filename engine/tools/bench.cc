// `expertd bench`: throughput of the whole engine without the network: scheduler, forward pass, sampling, stream. Every
// batch size gives one line: prompts of random ids, greedy, end-of-text ignored. Beside each speed stands its share of
// the ceiling that binds, measured on the same machine before: reading every byte once, or doing every operation.
#include <algorithm>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "engine/base/json.h"
#include "engine/base/range_check.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/engine.h"
#include "engine/engine_flags.h"
#include "engine/loader.h"
#include "engine/models/model_config.h"
#include "engine/models/step_cost.h"
#include "engine/platform/cpu.h"
#include "engine/tools/ceilings.h"
#include "engine/tools/step_recorder.h"
#include "engine/tools/tools.h"

namespace expertd {
namespace {

struct BenchOptions {
  EngineConfig engine;
  int input_len = 128;
  int output_len = 128;
  int repetitions = 3;
  std::vector<int> batches = {1, 2, 4, 8, 16, 32, 64};
  bool json = false;
};

struct Measurement {
  double prefill_tokens_per_second = 0;
  double decode_tokens_per_second = 0;
  double output_tokens_per_second = 0;  // of the whole run, prefill included: what a client sees
  double time_to_first_token_ms = 0;    // mean over the batch
  double time_per_output_token_ms = 0;  // of one stream
  double prefill_experts = 0;           // distinct experts of a sparse layer in a step; 0 for dense models
  double decode_experts = 0;
};

// What the speeds are held against.
struct Bounds {
  ModelConfig model;
  WeightFormat format = WeightFormat::kBF16;
  KvFormat kv_format = KvFormat::kBF16;
  InputForm form = InputForm::kF32;            // of products
  InputForm attention_form = InputForm::kF32;  // of q . k and p . v
  Ceilings ceilings;
  int max_step_tokens = 0;
};

// The least time that steps of `cost` take: by the memory or by the units, whichever is more.
double LeastSeconds(const Bounds& bounds, const StepCost& cost) {
  const double read = (cost.weight_bytes + cost.kv_bytes) / bounds.ceilings.read_bytes;
  const double computed = cost.matrix_operations / bounds.ceilings.Operations(bounds.form) +
                          cost.attention_operations / bounds.ceilings.Operations(bounds.attention_form);
  return std::max(read, computed);
}

// The share of the ceiling that binds, of all prompts together. Prompts come in steps of as many tokens as fit.
double PrefillShare(const Bounds& bounds, const BenchOptions& options, int batch, const Measurement& measured) {
  const int64_t num_tokens = int64_t{batch} * options.input_len;
  const int64_t num_steps = (num_tokens + bounds.max_step_tokens - 1) / bounds.max_step_tokens;
  StepShape shape = {.num_rows = num_tokens,
                     .num_logits_rows = batch,
                     .num_cached_tokens = num_tokens,
                     .num_attended_keys = num_tokens * (options.input_len + 1) / 2,
                     .experts_per_layer = measured.prefill_experts};
  StepCost cost = CostOfStep(bounds.model, bounds.format, bounds.kv_format, shape);
  cost.weight_bytes *= static_cast<double>(num_steps);
  return LeastSeconds(bounds, cost) * measured.prefill_tokens_per_second / static_cast<double>(num_tokens);
}

double DecodeShare(const Bounds& bounds, const BenchOptions& options, int batch, const Measurement& measured) {
  const int64_t context = options.input_len + options.output_len / 2;  // on the mean
  const StepShape shape = {.num_rows = batch,
                           .num_logits_rows = batch,
                           .num_cached_tokens = batch * context,
                           .num_attended_keys = batch * context,
                           .experts_per_layer = measured.decode_experts};
  const StepCost cost = CostOfStep(bounds.model, bounds.format, bounds.kv_format, shape);
  return LeastSeconds(bounds, cost) * measured.decode_tokens_per_second / batch;
}

absl::StatusOr<std::shared_ptr<const Request>> RandomRequest(const Engine& engine, const BenchOptions& options,
                                                             std::mt19937_64& random) {
  RequestSpec spec;
  TokenInput input;
  std::uniform_int_distribution<int32_t> any_id(0, engine.info().vocab_size - 1);
  for (int i = 0; i < options.input_len; ++i) input.ids.push_back(any_id(random));
  spec.input = std::move(input);
  spec.sampling.temperature = 0.0f;
  spec.sampling.seed = 1;
  spec.stop.max_tokens = options.output_len;
  spec.stop.ignore_eos = true;
  spec.output.text = false;
  spec.cache.bypass_prefix_cache = true;
  return Request::Create(std::move(spec), engine.request_limits());
}

// Prefill: prompt tokens over the time from the submission to the last first token. Decode: as DecodeTokensPerSecond.
absl::StatusOr<Measurement> Measure(Engine& engine, StepRecorder& recorder, const BenchOptions& options, int batch,
                                    std::mt19937_64& random) {
  std::vector<std::shared_ptr<const Request>> requests;
  for (int i = 0; i < batch; ++i) {
    ASSIGN_OR_RETURN(requests.emplace_back(), RandomRequest(engine, options, random));
  }
  const absl::Time start = absl::Now();
  std::vector<std::shared_ptr<GenerationStream>> streams;
  for (const auto& request : requests) {
    ASSIGN_OR_RETURN(streams.emplace_back(), engine.Submit(request));
  }
  Measurement result;
  absl::Duration slowest_first_token, decode;
  int64_t num_output_tokens = 0;
  for (const auto& stream : streams) {
    while (std::optional<StreamEvent> event = stream->Next()) {
      const auto* summary = std::get_if<SummaryEvent>(&*event);
      if (summary == nullptr) continue;
      slowest_first_token = std::max(slowest_first_token, summary->timing.time_to_first_token);
      num_output_tokens += summary->num_output_tokens;
      result.time_to_first_token_ms += absl::ToDoubleMilliseconds(summary->timing.time_to_first_token) / batch;
      decode += summary->timing.decode;
    }
    RETURN_IF_ERROR(stream->status());
  }
  result.output_tokens_per_second = batch * options.output_len / absl::ToDoubleSeconds(absl::Now() - start);
  result.prefill_tokens_per_second = batch * options.input_len / absl::ToDoubleSeconds(slowest_first_token);
  if (options.output_len > 1) {
    result.time_per_output_token_ms = absl::ToDoubleMilliseconds(decode) / batch / (options.output_len - 1);
  }
  const std::vector<StepStats> steps = recorder.Take(num_output_tokens);
  result.decode_tokens_per_second = DecodeTokensPerSecond(steps, batch);
  result.prefill_experts = ExpertsPerLayer(steps, StepPhase::kPrefill);
  result.decode_experts = ExpertsPerLayer(steps, StepPhase::kDecode);
  return result;
}

// Requests reach the engine one by one, so that on a busy machine the first of few short streams may end before the
// last begins. Such a run says nothing of the batch and is done again.
absl::StatusOr<Measurement> MeasureWholeBatch(Engine& engine, StepRecorder& recorder, const BenchOptions& options,
                                              int batch, std::mt19937_64& random) {
  constexpr int kMaxTries = 20;
  for (int i = 0; i < kMaxTries; ++i) {
    ASSIGN_OR_RETURN(const Measurement measurement, Measure(engine, recorder, options, batch, random));
    if (measurement.decode_tokens_per_second > 0) return measurement;
  }
  return absl::FailedPreconditionError(StrCat("--output-len is ", options.output_len, "; too short for the ", batch,
                                              " streams of --batch to run together"));
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Measurement Medians(const std::vector<Measurement>& runs) {
  const auto median = [&](double Measurement::* field) {
    std::vector<double> values;
    for (const Measurement& run : runs) values.push_back(run.*field);
    return Median(std::move(values));
  };
  return {median(&Measurement::prefill_tokens_per_second), median(&Measurement::decode_tokens_per_second),
          median(&Measurement::output_tokens_per_second), median(&Measurement::time_to_first_token_ms),
          median(&Measurement::time_per_output_token_ms), median(&Measurement::prefill_experts),
          median(&Measurement::decode_experts)};
}

// Measured before the model is loaded, which may leave no memory for it.
absl::StatusOr<Bounds> MeasureBounds(const BenchOptions& options) {
  Bounds bounds;
  ASSIGN_OR_RETURN(const EngineConfig config, WithFormatOfFolder(options.engine));
  ASSIGN_OR_RETURN(bounds.model, ReadModelConfig(config.model_path));
  bounds.format = config.weight_format();
  bounds.kv_format = config.kv_cache_dtype;
  bounds.max_step_tokens = config.max_num_batched_tokens;
  const CpuFeatures cpu = DetectCpu();
  const Kernels& kernels = SelectKernels(cpu, config.isa_limit);
  bounds.form = InputFormOf(bounds.format, kernels);
  bounds.attention_form = bounds.kv_format == KvFormat::kBF16 ? kernels.bf16_input : InputForm::kF32;
  ThreadPool pool(NumPoolThreads(config.num_threads, cpu.num_cpus));
  ASSIGN_OR_RETURN(bounds.ceilings, MeasureCeilings(kernels, pool));
  return bounds;
}

void PrintHeader(const BenchOptions& options, const EngineInfo& info, const Ceilings& ceilings) {
  std::cout << absl::StrFormat("%s, %s weights, %s, %d threads; %d tokens in, %d out; medians of %d\n", info.model_name,
                               info.weights_dtype, info.isa, info.num_threads, options.input_len, options.output_len,
                               options.repetitions)
            << absl::StrFormat("machine: %.1f GB/s read; %.2f int8, %.2f bf16, %.2f fp32 Tera-operations/s\n",
                               ceilings.read_bytes * 1e-9, ceilings.int8_operations * 1e-12,
                               ceilings.bf16_operations * 1e-12, ceilings.float_operations * 1e-12)
            << absl::StrFormat("%6s %14s %7s %14s %7s %14s %10s %10s %10s %8s\n", "batch", "prefill tok/s", "share",
                               "decode tok/s", "share", "output tok/s", "ttft ms", "tpot ms", "peak MiB", "experts");
}

void PrintLine(const BenchOptions& options, const EngineInfo& info, const Bounds& bounds, int batch,
               const Measurement& measurement) {
  const double peak_mib = static_cast<double>(ReadResidentMemory().peak) / (1 << 20);
  const double prefill_share = PrefillShare(bounds, options, batch, measurement);
  const double decode_share = DecodeShare(bounds, options, batch, measurement);
  if (options.json) {
    const Json line = {{"model", info.model_name},
                       {"isa", info.isa},
                       {"dtype", info.weights_dtype},
                       {"threads", info.num_threads},
                       {"batch", batch},
                       {"input_len", options.input_len},
                       {"output_len", options.output_len},
                       {"repetitions", options.repetitions},
                       {"prefill_tokens_per_second", measurement.prefill_tokens_per_second},
                       {"prefill_share", prefill_share},
                       {"decode_tokens_per_second", measurement.decode_tokens_per_second},
                       {"decode_share", decode_share},
                       {"output_tokens_per_second", measurement.output_tokens_per_second},
                       {"time_to_first_token_ms", measurement.time_to_first_token_ms},
                       {"time_per_output_token_ms", measurement.time_per_output_token_ms},
                       {"peak_memory_mib", peak_mib},
                       {"prefill_experts_per_layer", measurement.prefill_experts},
                       {"decode_experts_per_layer", measurement.decode_experts},
                       {"machine_read_bytes_per_second", bounds.ceilings.read_bytes},
                       {"machine_int8_operations_per_second", bounds.ceilings.int8_operations},
                       {"machine_bf16_operations_per_second", bounds.ceilings.bf16_operations},
                       {"machine_fp32_operations_per_second", bounds.ceilings.float_operations}};
    std::cout << DumpJson(line) << std::endl;
    return;
  }
  std::cout << absl::StrFormat("%6d %14.1f %5.0f %% %14.1f %5.0f %% %14.1f %10.2f %10.3f %10.1f %8.1f\n", batch,
                               measurement.prefill_tokens_per_second, 100 * prefill_share,
                               measurement.decode_tokens_per_second, 100 * decode_share,
                               measurement.output_tokens_per_second, measurement.time_to_first_token_ms,
                               measurement.time_per_output_token_ms, peak_mib, measurement.decode_experts)
            << std::flush;
}

absl::Status RunBench(BenchOptions options) {
  constexpr int kMaxLength = 10'000'000, kMaxBatch = 65536, kMaxRepetitions = 1'000'000;
  RETURN_IF_ERROR(CheckRange("--input-len", options.input_len, 1, kMaxLength));
  RETURN_IF_ERROR(CheckRange("--output-len", options.output_len, 2, kMaxLength));  // decoding begins with the second
  RETURN_IF_ERROR(CheckRange("--repetitions", options.repetitions, 1, kMaxRepetitions));
  for (const int batch : options.batches) {
    RETURN_IF_ERROR(CheckRange("--batch", batch, 1, kMaxBatch));
    options.engine.max_num_seqs = std::max(options.engine.max_num_seqs, batch);
  }
  options.engine.max_num_queued_tokens = INT64_MAX;
  RETURN_IF_ERROR(options.engine.Validate());
  ASSIGN_OR_RETURN(const Bounds bounds, MeasureBounds(options));
  StepRecorder recorder;
  ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, Engine::Create(options.engine, &recorder));
  if (const int length = options.input_len + options.output_len; length > engine->info().max_model_len) {
    return absl::InvalidArgumentError(StrCat("--input-len plus --output-len is ", length, "; the model's length is ",
                                             engine->info().max_model_len));
  }
  if (!options.json) PrintHeader(options, engine->info(), bounds.ceilings);
  std::mt19937_64 random(1);
  for (int batch : options.batches) {
    RETURN_IF_ERROR(Measure(*engine, recorder, options, batch, random).status());  // warm up
    std::vector<Measurement> runs;
    for (int i = 0; i < options.repetitions; ++i) {
      ASSIGN_OR_RETURN(runs.emplace_back(), MeasureWholeBatch(*engine, recorder, options, batch, random));
    }
    PrintLine(options, engine->info(), bounds, batch, Medians(runs));
  }
  return absl::OkStatus();
}

}  // namespace

void AddBenchCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("bench", "Measure prefill and decode throughput of the engine");
  auto options = std::make_shared<BenchOptions>();
  AddEngineFlags(*command, options->engine);
  command->add_option("--input-len", options->input_len, "Prompt tokens [128]");
  command->add_option("--output-len", options->output_len, "Generated tokens [128]");
  command->add_option("--batch", options->batches, "Streams at once: 1,2,4 [1,2,4,8,16,32,64]")->delimiter(',');
  command->add_option("--repetitions", options->repetitions, "Runs for each median [3]");
  command->add_flag("--json", options->json, "One JSON object a line");
  command->callback([=] { *exit_code = ReportToUser(*command, RunBench(*options)); });
}

}  // namespace expertd
