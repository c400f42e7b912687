// `expertd quantize`: a model folder to a packed folder, whose weights are mapped as they are when served.
#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/engine_flags.h"
#include "engine/models/model.h"
#include "engine/platform/cpu.h"
#include "engine/platform/thread_pool.h"
#include "engine/tools/tools.h"

namespace expertd {
namespace {

struct QuantizeOptions {
  std::string model_path, packed_path;
  std::string format = "int8";
  std::string load_format = "auto";
  int32_t num_threads = 0;
};

// A bar on a terminal, drawn anew with each layer.
void ShowProgress(const LoadProgress& progress) {
  if (progress.total_bytes <= 0) return;
  constexpr int kWidth = 40;
  const int filled = static_cast<int>(kWidth * progress.done_bytes / progress.total_bytes);
  std::cerr << absl::StrFormat("\r[%s%s] %3d %%", std::string(filled, '#'), std::string(kWidth - filled, ' '),
                               static_cast<int>(100 * progress.done_bytes / progress.total_bytes))
            << (progress.done_bytes == progress.total_bytes ? "\n" : "") << std::flush;
}

absl::Status RunQuantize(const QuantizeOptions& options) {
  const absl::Time start = absl::Now();
  LoadOptions load;
  if (options.format != "auto") {
    load.weight_format = *WeightFormatNamed(options.format);  // the flag takes no other name
    load.quantized_weights = QuantizedWeights::kConvert;
  }
  load.is_dummy = options.load_format == "dummy";
  if (isatty(STDERR_FILENO) == 1) load.progress = ShowProgress;
  ThreadPool pool(NumPoolThreads(options.num_threads, DetectCpu().num_cpus));
  RETURN_IF_ERROR(PackModel(options.model_path, options.packed_path, load, pool));
  const std::string weights = options.format == "auto" ? "the checkpoint's" : options.format;
  std::cout << absl::StrFormat("%s: %s weights, packed in %.1f s; serve it with `expertd serve %s`\n",
                               options.packed_path, weights, absl::ToDoubleSeconds(absl::Now() - start),
                               options.packed_path);
  return absl::OkStatus();
}

}  // namespace

void AddQuantizeCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("quantize", "Write a model folder as a packed folder that loads at once");
  auto options = std::make_shared<QuantizeOptions>();
  command->add_option("model,--model", options->model_path,
                      "Model folder in the Hugging Face format, or of PanGu-alpha as Megatron writes it")->required();
  command->add_option("output,--output,-o", options->packed_path, "Folder to make; must not be there")->required();
  AddChoiceFlag(*command, "--format", options->format, {"int8", "int4", "bf16", "auto"},
                "Weights: int8, int4, bf16, or auto: as the checkpoint has them, floats as bf16 [int8]");
  AddChoiceFlag(*command, "--load-format", options->load_format, {"auto", "dummy"},
                "auto, or dummy: random weights for benchmarks [auto]");
  command->add_option("--threads", options->num_threads, "Threads; 0 takes the CPUs of the cpuset and quota [0]")
      ->check(CLI::Range(0, 1024));
  command->callback([=] { *exit_code = ReportToUser(*command, RunQuantize(*options)); });
}

}  // namespace expertd
