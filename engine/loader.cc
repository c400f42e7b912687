#include "engine/loader.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>

#include <xxhash.h>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "engine/base/byte_size.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/base/version.h"
#include "engine/checkpoint/packed_folder.h"
#include "engine/checkpoint/stored_weights.h"
#include "engine/layers/attention.h"
#include "engine/models/model_sizes.h"
#include "engine/platform/cpu.h"

namespace expertd {
namespace {

// Ids that end a text: generation_config.json knows best, then config.json, then the tokenizer's own.
std::vector<int32_t> EosTokenIds(const GenerationDefaults& defaults, const ModelConfig& config,
                                 const Tokenizer* tokenizer) {
  if (!defaults.eos_token_ids.empty()) return defaults.eos_token_ids;
  if (!config.eos_token_ids.empty()) return config.eos_token_ids;
  if (tokenizer != nullptr && tokenizer->eos().has_value()) return {*tokenizer->eos()};
  return {};
}

// Equal for equal builds, weights (their files' sizes and samples of their bytes) and number formats.
std::string Fingerprint(const EngineConfig& config, std::string_view isa) {
  XXH3_state_t* state = XXH3_createState();
  XXH3_64bits_reset(state);
  const std::string settings = StrCat(kVersion, "|", isa, "|", WeightFormatName(config.weight_format()), "|",
                                      static_cast<int>(config.quantized_weights), "|",
                                      KvFormatName(config.kv_cache_dtype), "|", config.block_size);
  XXH3_64bits_update(state, settings.data(), settings.size());
  std::vector<std::filesystem::path> files;
  std::error_code error;
  constexpr auto kOptions = std::filesystem::directory_options::skip_permission_denied;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(config.model_path, kOptions, error)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".safetensors" || extension == ".bin" || extension == ".pt" ||
        entry.path().filename() == "config.json") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  for (const auto& path : files) {
    absl::StatusOr<MappedFile> file = MappedFile::Open(path.string());
    if (!file.ok()) continue;
    const std::span<const std::byte> bytes = file->bytes();
    constexpr size_t kSample = 1 << 16;
    const size_t size = bytes.size();
    XXH3_64bits_update(state, &size, sizeof(size));
    for (size_t offset = 0; offset < size; offset += std::max(kSample, size / 64)) {
      XXH3_64bits_update(state, bytes.data() + offset, std::min(kSample, size - offset));
    }
  }
  const uint64_t digest = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return absl::StrFormat("expertd-%s-%016x", kVersion, digest);
}

// A folder need not have what `status` says it has not, unless prompts need it.
absl::Status UnlessNeeded(const absl::Status& status, bool is_needed, std::string_view otherwise) {
  if (!absl::IsNotFound(status)) return status;
  if (!is_needed) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat(ToStdView(status.message()), "; ", otherwise));
}

absl::Status LoadText(const EngineConfig& config, LoadedModel* loaded) {
  const std::string& dir = config.model_path;
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(dir, config.jieba_dict);
  if (tokenizer.ok()) {
    loaded->tokenizer = *std::move(tokenizer);
  } else {
    RETURN_IF_ERROR(UnlessNeeded(tokenizer.status(), config.needs_tokenizer, "give prompts as ids of tokens"));
  }
  absl::StatusOr<ChatTemplate> chat_template = LoadChatTemplate(dir);
  if (chat_template.ok()) {
    loaded->chat_template = std::make_unique<ChatTemplate>(*std::move(chat_template));
  } else {
    RETURN_IF_ERROR(
        UnlessNeeded(chat_template.status(), config.needs_chat_template, "give prompts as text or ids of tokens"));
  }
  if (loaded->tokenizer != nullptr) {
    ASSIGN_OR_RETURN(loaded->output_formats,
                     FindOutputFormats(*loaded->tokenizer, loaded->chat_template.get(), config.reasoning_parser,
                                       config.tool_call_parser));
  }
  return absl::OkStatus();
}

// Null where there is one node.
std::unique_ptr<PageInterleaving> SpreadPages(const std::vector<int>& nodes) {
  if (nodes.size() == 1) return nullptr;
  auto interleaving = std::make_unique<PageInterleaving>(nodes);
  if (const absl::Status& status = interleaving->status(); !status.ok()) {
    LogWarning("memory_not_interleaved", {{"nodes", nodes.size()}, {"reason", ToStdView(status.message())}});
  }
  return interleaving;
}

EngineInfo MakeInfo(const EngineConfig& config, const LoadedModel& loaded, const CpuFeatures& cpu,
                    const MemoryPlan& plan) {
  const ModelConfig& model = loaded.model->config();
  const ParameterCount parameters = CountParameters(model);
  EngineInfo info;
  info.model_path = config.model_path;
  info.model_name = config.ModelName();
  info.architecture = model.architecture;
  info.isa = std::string(loaded.kernels->isa);
  info.cpu_model = cpu.model_name;
  info.cpu = cpu;
  // Codes of fp8 are never kept: they become floats.
  const bool keeps_codes = !config.quantized_form.empty() && config.quantized_form != "fp8";
  info.weights_dtype = keeps_codes ? config.quantized_form : std::string(WeightFormatName(config.weight_format()));
  info.kv_cache_dtype = std::string(KvFormatName(config.kv_cache_dtype));
  info.num_threads = loaded.pool->num_threads();
  info.vocab_size = model.vocab_size;
  info.max_model_len = plan.max_model_len;
  info.max_num_seqs = config.max_num_seqs;
  info.max_num_batched_tokens = config.max_num_batched_tokens;
  info.block_size = config.block_size;
  info.num_kv_blocks = plan.num_kv_blocks;
  info.num_parameters = parameters.total;
  info.num_active_parameters = parameters.active;
  info.weight_bytes = loaded.model->memory().weight_bytes;
  info.kv_cache_bytes = plan.kv_cache_bytes();
  info.kv_bytes_per_token = KvBytesPerToken(model, config.kv_cache_dtype);
  info.has_chat_template = loaded.chat_template != nullptr;
  info.splits_reasoning = loaded.output_formats.reasoning.has_value();
  info.parses_tool_calls = loaded.output_formats.tools.has_value();
  info.eos_token_ids = loaded.eos_token_ids;
  info.fingerprint = Fingerprint(config, info.isa);
  return info;
}

}  // namespace

absl::StatusOr<EngineConfig> WithFormatOfFolder(EngineConfig config) {
  ASSIGN_OR_RETURN(const std::optional<WeightFormat> packed, FindPackedFormat(config.model_path));
  const bool keeps_codes = config.quantized_weights == QuantizedWeights::kKeep && !config.has_dummy_weights;
  if (keeps_codes || !config.quantized_form.empty()) {
    ASSIGN_OR_RETURN(const std::string form, FindQuantizedForm(config.model_path));
    if (!config.quantized_form.empty() && (packed || form != config.quantized_form)) {
      return absl::InvalidArgumentError(StrCat("--quantization is ", config.quantized_form, ", but ", config.model_path,
                                               " is ", packed ? "packed" : form.empty() ? "not quantized" : form));
    }
    if (!packed) config.quantized_form = form;
  }
  if (!packed) return config;
  const bool is_integer = *packed == WeightFormat::kInt8 || *packed == WeightFormat::kInt4;
  const bool wants_floats = config.quantized_weights == QuantizedWeights::kConvert && !config.quantization;
  if ((config.quantization && *config.quantization != *packed) || (wants_floats && is_integer)) {
    const std::string_view wanted = config.quantization ? WeightFormatName(*config.quantization) : "none";
    return absl::InvalidArgumentError(StrCat("--quantization is ", wanted, ", but ", config.model_path,
                                             " is packed as ", WeightFormatName(*packed)));
  }
  if (config.weights_dtype == DType::kF32 && *packed == WeightFormat::kBF16) {
    return absl::InvalidArgumentError(StrCat("--dtype is f32, but ", config.model_path, " is packed as bf16"));
  }
  config.quantization = *packed;
  return config;
}

absl::StatusOr<int64_t> EstimateWeightBytes(const EngineConfig& config, const ModelConfig& model) {
  const int64_t converted = WeightBytes(model, config.weight_format());
  if (config.has_dummy_weights || config.quantized_weights == QuantizedWeights::kConvert) return converted;
  std::error_code error;
  const uintmax_t packed = std::filesystem::file_size(config.model_path + "/expertd_weights.bin", error);
  if (!error) return static_cast<int64_t>(packed);
  ASSIGN_OR_RETURN(const std::optional<int64_t> kept,
                   EstimateQuantizedBytes(config.model_path, config.weight_format()));
  // The files may hold more than the model reads, such as layers of multi-token prediction.
  return std::min(kept.value_or(converted), converted);
}

absl::StatusOr<MemoryPlan> PlanMemory(const EngineConfig& config, const ModelConfig& model, int64_t available_bytes,
                                      int64_t weight_bytes) {
  MemoryPlan plan;
  plan.available_bytes = available_bytes;
  plan.weight_bytes = weight_bytes;
  plan.scratch_bytes = config.max_num_batched_tokens * ActivationBytesPerRow(model) +
                       int64_t{4} * config.max_num_seqs * model.vocab_size +
                       int64_t{4} * kMaxAttentionPartialFloats;
  plan.kv_block_bytes = KvBytesPerToken(model, config.kv_cache_dtype) * config.block_size;

  const int64_t model_limit = std::min<int64_t>(model.max_positions(), INT32_MAX / 2);
  if (config.max_model_len > model_limit) {
    return absl::InvalidArgumentError(StrCat("--max-model-len is ", config.max_model_len,
                                             "; the model's positions reach ", model_limit));
  }
  plan.max_model_len = static_cast<int32_t>(config.max_model_len > 0 ? config.max_model_len : model_limit);

  const int64_t left = available_bytes - plan.weight_bytes - plan.scratch_bytes;
  int64_t kv_bytes = static_cast<int64_t>(std::max<int64_t>(left, 0) * config.memory_utilization);
  if (config.kv_cache_max_bytes > 0) kv_bytes = std::min(kv_bytes, config.kv_cache_max_bytes);
  const int64_t blocks_per_sequence = (plan.max_model_len + config.block_size - 1) / config.block_size;
  // Beyond every running sequence at full length, as much again for cached prefixes is of use; more is not.
  const int64_t useful_blocks = 2 * blocks_per_sequence * config.max_num_seqs;
  int64_t blocks = config.num_kv_blocks > 0 ? config.num_kv_blocks
                                            : std::min(kv_bytes / plan.kv_block_bytes, useful_blocks);
  blocks = std::min<int64_t>(blocks, INT32_MAX);
  plan.num_kv_blocks = static_cast<int32_t>(blocks);

  const std::string sum = StrCat("memory ", ByteSize(available_bytes), " - weights ", ByteSize(plan.weight_bytes),
                                 " - activations ", ByteSize(plan.scratch_bytes), ", of the rest ",
                                 config.memory_utilization, " for the KV cache: ", blocks, " blocks of ",
                                 config.block_size, " tokens (", ByteSize(blocks * plan.kv_block_bytes), ")");
  if (blocks < 1 || (config.num_kv_blocks > 0 && blocks * plan.kv_block_bytes > std::max<int64_t>(left, 0))) {
    const std::string_view remedy =
        plan.weight_bytes >= available_bytes ? "--quantization int8 or int4 makes weights smaller; or give more memory"
        : config.kv_cache_max_bytes > 0      ? "raise --kv-cache-memory-bytes, or give more memory"
                                        : "lower --max-num-batched-tokens or --num-kv-blocks, or give more memory";
    return absl::FailedPreconditionError(StrCat("the model does not fit: ", sum, "; ", remedy));
  }
  if (blocks < blocks_per_sequence) {
    const int64_t fits = blocks * config.block_size;
    if (config.max_model_len > 0) {
      return absl::FailedPreconditionError(StrCat("--max-model-len ", config.max_model_len, " needs ",
                                                  blocks_per_sequence, " KV blocks: ", sum,
                                                  "; at most ", fits, " tokens fit"));
    }
    plan.max_model_len = static_cast<int32_t>(fits);
    const std::string cause = config.num_kv_blocks > 0        ? StrCat("--num-kv-blocks ", config.num_kv_blocks)
                              : config.kv_cache_max_bytes > 0 ? StrCat("memory or --kv-cache-memory-bytes ",
                                                                       config.kv_cache_max_bytes)
                                                              : "memory";
    LogWarning("max_model_len_reduced", {{"max_model_len", fits},
                                         {"model_limit", model_limit},
                                         {"reason", StrCat("the KV cache (", cause, ") is shorter than what "
                                                           "the model takes; --max-model-len ", fits, " accepts that")},
                                         {"sum", sum}});
  }
  return plan;
}

absl::StatusOr<LoadedModel> LoadModelFolder(const EngineConfig& asked) {
  RETURN_IF_ERROR(asked.Validate());
  ASSIGN_OR_RETURN(const EngineConfig config, WithFormatOfFolder(asked));
  const absl::Time start = absl::Now();
  const CpuFeatures cpu = DetectCpu();
  LoadedModel loaded;
  loaded.kernels = &SelectKernels(cpu, config.isa_limit);
  const std::vector<int> nodes = MemoryNodes();
  const auto interleaving = SpreadPages(nodes);  // before the pool, whose threads load the weights
  // Not pinned: beside a server's own threads, with 16 streams on two CPUs, pinned workers were no faster, and slower
  // whenever another process took their CPU.
  loaded.pool = std::make_unique<ThreadPool>(NumPoolThreads(config.num_threads, cpu.num_cpus));

  ASSIGN_OR_RETURN(const ModelConfig model_config, ReadModelConfig(config.model_path));
  ASSIGN_OR_RETURN(loaded.generation_defaults, ReadGenerationConfig(config.model_path));
  const int64_t available_bytes = ReadMemoryLimits().Available();
  ASSIGN_OR_RETURN(const int64_t expected_bytes, EstimateWeightBytes(config, model_config));
  ASSIGN_OR_RETURN(MemoryPlan plan, PlanMemory(config, model_config, available_bytes, expected_bytes));
  RETURN_IF_ERROR(LoadText(config, &loaded));
  const absl::Time text_end = absl::Now();

  LoadOptions options;
  options.weight_format = config.weight_format();
  options.quantized_weights = config.quantized_weights;
  options.is_dummy = config.has_dummy_weights;
  ASSIGN_OR_RETURN(loaded.model, LoadModel(config.model_path, options, *loaded.pool));
  const absl::Time weights_end = absl::Now();
  // What a quantized checkpoint takes is certain only now: weights that no integer format holds have become floats.
  if (const int64_t weight_bytes = loaded.model->memory().weight_bytes; weight_bytes > expected_bytes) {
    ASSIGN_OR_RETURN(plan, PlanMemory(config, model_config, available_bytes, weight_bytes));
  }
  ASSIGN_OR_RETURN(loaded.kv_cache, KvCache::Create(KvSpecFor(loaded.model->config(), config.block_size,
                                                              plan.num_kv_blocks, config.kv_cache_dtype)));
  loaded.eos_token_ids = EosTokenIds(loaded.generation_defaults, loaded.model->config(), loaded.tokenizer.get());
  std::erase_if(loaded.eos_token_ids, [&](int32_t id) { return id >= loaded.model->config().vocab_size; });
  loaded.info = MakeInfo(config, loaded, cpu, plan);
  loaded.info.num_memory_nodes = static_cast<int32_t>(nodes.size());
  loaded.info.huge_page_bytes = ReadHugePages().resident_bytes;
  const absl::Time end = absl::Now();
  loaded.info.load_time = end - start;
  loaded.info.load_phases = {
      .text = text_end - start, .weights = weights_end - text_end, .kv_cache = end - weights_end};
  LogInfo("model_loaded", {{"model", loaded.info.model_name},
                           {"architecture", loaded.info.architecture},
                           {"parameters", loaded.info.num_parameters},
                           {"weights", ByteSize(loaded.info.weight_bytes)},
                           {"dtype", loaded.info.weights_dtype},
                           {"kv_cache_dtype", loaded.info.kv_cache_dtype},
                           {"kv_blocks", plan.num_kv_blocks},
                           {"kv_cache", ByteSize(plan.kv_cache_bytes())},
                           {"max_model_len", plan.max_model_len},
                           {"isa", loaded.info.isa},
                           {"threads", loaded.info.num_threads},
                           {"memory_nodes", loaded.info.num_memory_nodes},
                           {"huge_pages", ByteSize(loaded.info.huge_page_bytes)},
                           {"seconds", absl::ToDoubleSeconds(loaded.info.load_time)}});
  return loaded;
}

}  // namespace expertd
