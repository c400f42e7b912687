#include "engine/engine_flags.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>

#include "engine/base/flags.h"
#include "engine/base/strings.h"
#include "engine/output_formats.h"

namespace expertd {
namespace {

const std::map<std::string, DType> kDTypes = {
    {"bf16", DType::kBF16}, {"bfloat16", DType::kBF16}, {"f32", DType::kF32}, {"float32", DType::kF32},
    {"float", DType::kF32},
};

const std::map<std::string, KvFormat> kKvFormatNames = {
    {"bf16", KvFormat::kBF16}, {"bfloat16", KvFormat::kBF16}, {"f32", KvFormat::kF32}, {"float32", KvFormat::kF32},
    {"float", KvFormat::kF32}, {"int8", KvFormat::kInt8},
};

const std::map<std::string, Isa> kIsas = {
    {"auto", Isa::kAmx},           {"amx", Isa::kAmx},
    {"avx512_bf16", Isa::kAvx512Bf16}, {"avx512", Isa::kAvx512},
    {"avx2_vnni", Isa::kAvx2Vnni}, {"avx2", Isa::kAvx2},
    {"scalar", Isa::kScalar}};

struct Quantization {
  std::optional<WeightFormat> format;
  QuantizedWeights quantized = QuantizedWeights::kKeep;
  std::string form;
};
// The names of published forms ask for nothing beyond auto; they say what the checkpoint is, which is held against it.
const std::map<std::string, Quantization> kQuantizations = {
    {"auto", {}},
    {"none", {std::nullopt, QuantizedWeights::kConvert}},
    {"int8", {WeightFormat::kInt8, QuantizedWeights::kConvert}},
    {"int4", {WeightFormat::kInt4, QuantizedWeights::kConvert}},
    {"ascend", {.form = "ascend"}},
    {"awq", {.form = "awq"}},
    {"awq_marlin", {.form = "awq"}},
    {"compressed-tensors", {.form = "compressed-tensors"}},
    {"fp8", {.form = "fp8"}},
    {"golden-stick", {.form = "golden-stick"}},
    {"gptq", {.form = "gptq"}},
    {"gptq_marlin", {.form = "gptq"}},
};

// `auto` takes what the checkpoint is published in, which is bf16 for every family served here.
void AddDTypeFlag(CLI::App& command, EngineConfig& config) {
  command
      .add_option_function<std::string>(
          "--dtype",
          [&config](const std::string& name) {
            const auto it = kDTypes.find(name == "auto" ? "bf16" : name);
            if (it == kDTypes.end()) {
              throw FlagError("--dtype", name, "auto, bf16 (bfloat16) or f32 (float32)");
            }
            config.weights_dtype = it->second;
            config.kv_cache_dtype = it->second == DType::kF32 ? KvFormat::kF32 : KvFormat::kBF16;
          },
          "Number format of weights in memory: auto, bf16 or f32 [auto: bf16]");
}

void AddQuantizationFlag(CLI::App& command, EngineConfig& config) {
  command.add_option_function<std::string>(
      "-q,--quantization",
      [&config](const std::string& name) {
        const auto it = kQuantizations.find(name);
        if (it == kQuantizations.end()) {
          throw FlagError("--quantization", name,
                          "auto, none, int8, int4, ascend, awq, compressed-tensors, fp8, golden-stick or gptq");
        }
        config.quantization = it->second.format;
        config.quantized_weights = it->second.quantized;
        config.quantized_form = it->second.form;
      },
      "Weights as integers: auto (as the checkpoint has them; ascend, awq, compressed-tensors, fp8 and gptq say what "
      "it is), none (as --dtype), int8 (per output) or int4 (groups of 128), converted while loading [auto]");
}

void AddLoadFormatFlag(CLI::App& command, EngineConfig& config) {
  command.add_option_function<std::string>(
      "--load-format",
      [&config](const std::string& name) {
        if (name != "auto" && name != "safetensors" && name != "dummy") {
          throw FlagError("--load-format", name, "auto, safetensors or dummy");
        }
        config.has_dummy_weights = name == "dummy";
      },
      "auto, safetensors or dummy: random weights for benchmarks, config.json alone is read [auto]");
}

// The short names of `vllm serve` that have more than one letter.
struct ShortName {
  std::string_view name, full_name;
};
constexpr ShortName kShortNames[] = {
    {"-tp", "--tensor-parallel-size"}, {"-pp", "--pipeline-parallel-size"}, {"-dp", "--data-parallel-size"},
    {"-dpn", "--data-parallel-rank"},  {"-ep", "--enable-expert-parallel"}, {"-cc", "--compilation-config"},
};

}  // namespace

std::vector<std::string> NormalizeFlags(int argc, char** argv) {
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  for (std::string& argument : arguments) {
    if (argument == "--") break;
    for (const ShortName& known : kShortNames) {
      if (argument == known.name) argument = known.full_name;
    }
    if (!argument.starts_with("--")) continue;
    const size_t end = std::min(argument.find('='), argument.size());
    std::replace(argument.begin() + 2, argument.begin() + static_cast<ptrdiff_t>(end), '_', '-');
  }
  return arguments;
}

void AddModelFlags(CLI::App& command, EngineConfig& config) {
  command.add_option("model,--model", config.model_path, "Model folder in the Hugging Face format; required");
  command.parse_complete_callback([&command, &config] {
    if (!config.model_path.empty()) return;
    throw CLI::RequiredError(StrCat("no model folder is given; name one, as in `expertd ", command.get_name(),
                                    " models/expertd-tiny`"),
                             CLI::ExitCodes::RequiredError);
  });
  AddDTypeFlag(command, config);
  AddQuantizationFlag(command, config);
  AddLoadFormatFlag(command, config);
  command.add_option_function<std::string>(
      "--isa",
      [&config](const std::string& name) {
        const auto it = kIsas.find(name);
        if (it == kIsas.end()) {
          throw FlagError("--isa", name, "auto, amx, avx512_bf16, avx512, avx2_vnni, avx2 or scalar");
        }
        config.isa_limit = it->second;
      },
      "Highest instruction set to use: auto, amx, avx512_bf16, avx512, avx2_vnni, avx2 or scalar [auto]");
  command.add_option("--jieba-dict", config.jieba_dict,
                     "jieba's dict.txt, prob_emit.py beside it, for PanGu-alpha [the model's, or python3-jieba's]");
  command.add_option("--threads", config.num_threads, "Compute threads; 0 takes the CPUs of the cpuset and quota [0]");
}

void AddEngineFlags(CLI::App& command, EngineConfig& config) {
  AddModelFlags(command, config);
  AddChoiceFlag(command, "--reasoning-parser", config.reasoning_parser, ReasoningParserNames(),
                "How the model marks reasoning: deepseek_r1, qwen3, pangu, none, or auto: by its template [auto]");
  AddChoiceFlag(command, "--tool-call-parser", config.tool_call_parser, ToolCallParserNames(),
                "How it calls tools: hermes, deepseek_v3, deepseek_v31, pangu, none, or auto: by its template [auto]");
  command
      .add_option_function<std::string>(
          "--served-model-name",
          [&config](const std::string& name) {
            if (name.empty()) throw FlagError("--served-model-name", name, "a name, or left out for the folder's");
            config.served_model_name = name;
          },
          "Name that requests give [the folder's name]");
  command
      .add_option_function<std::string>(
          "--kv-cache-dtype",
          [&config](const std::string& name) {
            if (name == "auto") return;
            const auto it = kKvFormatNames.find(name);
            if (it == kKvFormatNames.end()) {
              throw FlagError("--kv-cache-dtype", name, "auto, bf16, f32 or int8");
            }
            config.kv_cache_dtype = it->second;
          },
          "Number format of the KV cache: auto, bf16, f32 or int8 (one scale per token and head) [auto: as --dtype]");
  command.add_option("--max-model-len", config.max_model_len, "Longest prompt plus output, tokens; 0: the model's [0]");
  command.add_option("--max-num-seqs", config.max_num_seqs, "Sequences computed at once [64]");
  command.add_option("--max-num-batched-tokens", config.max_num_batched_tokens, "Tokens computed in one step [2048]");
  command.add_option("--max-prefill-chunk,--long-prefill-token-threshold", config.max_prefill_chunk,
                     "Prompt tokens of one sequence in one step; 0: as the budget allows [0]");
  command.add_option("--block-size", config.block_size, "Tokens of a KV block: 16, 32, 64 or 128 [32]");
  command.add_option("--num-kv-blocks,--num-gpu-blocks-override", config.num_kv_blocks,
                     "KV blocks; 0: from the memory available [0]");
  command.add_option("--memory-utilization,--gpu-memory-utilization", config.memory_utilization,
                     "Share of the memory left after loading that the KV cache may take [0.8]");
  command.add_option("--kv-cache-memory-bytes,--kv-cache-memory", config.kv_cache_max_bytes,
                     "Most bytes of the KV cache; 0: no cap [0]");
  command.add_flag("--enable-prefix-caching,!--no-enable-prefix-caching", config.enable_prefix_caching,
                   "Share KV blocks between equal prompt beginnings [on]");
  command.add_option("--max-num-queued-reqs", config.max_num_queued_reqs, "Requests that may wait [2048]");
  command.add_option("--max-num-queued-tokens", config.max_num_queued_tokens, "Prompt tokens that may wait [4000000]");
  command.add_option("--max-candidates", config.max_num_candidates, "Largest n of a request [16]");
  command.add_option("--max-logprobs", config.max_logprobs, "Largest top_n of log-probabilities [20]");
}

}  // namespace expertd
