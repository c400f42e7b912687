#include "engine/engine_config.h"

#include <filesystem>
#include <system_error>

#include "engine/base/range_check.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {

absl::Status EngineConfig::Validate() const {
  if (model_path.empty()) return absl::InvalidArgumentError("no model folder is given");
  std::error_code error;
  if (!std::filesystem::is_directory(model_path, error)) {
    return absl::NotFoundError(StrCat("there is no model folder '", model_path, "'"));
  }
  if (block_size != 16 && block_size != 32 && block_size != 64 && block_size != 128) {
    return absl::InvalidArgumentError(StrCat("--block-size is ", block_size, "; must be 16, 32, 64 or 128"));
  }
  if (!(memory_utilization > 0.0) || memory_utilization > 1.0) {
    return absl::InvalidArgumentError(StrCat("--memory-utilization is ", memory_utilization, "; must be in (0, 1]"));
  }
  if (weights_dtype == DType::kF16) {
    return absl::InvalidArgumentError("--dtype is f16; weights are kept as bf16 or f32");
  }
  RETURN_IF_ERROR(CheckRange("--threads", num_threads, 0, 1024));
  RETURN_IF_ERROR(CheckRange("--max-model-len", max_model_len, 0, 10'000'000));
  RETURN_IF_ERROR(CheckRange("--max-num-seqs", max_num_seqs, 1, 65536));
  RETURN_IF_ERROR(CheckRange("--max-num-batched-tokens", max_num_batched_tokens, 1, 1'000'000));
  RETURN_IF_ERROR(CheckRange("--max-prefill-chunk", max_prefill_chunk, 0, 1'000'000));
  RETURN_IF_ERROR(CheckRange("--num-kv-blocks", num_kv_blocks, 0, INT32_MAX));
  RETURN_IF_ERROR(CheckRange("--kv-cache-memory-bytes", kv_cache_max_bytes, 0, INT64_MAX));
  RETURN_IF_ERROR(CheckRange("--max-num-queued-reqs", max_num_queued_reqs, 0, 1'000'000));
  RETURN_IF_ERROR(CheckRange("--max-num-queued-tokens", max_num_queued_tokens, 0, INT64_MAX));
  RETURN_IF_ERROR(CheckRange("--max-candidates", max_num_candidates, 1, 128));
  RETURN_IF_ERROR(CheckRange("--max-logprobs", max_logprobs, 0, 1000));
  if (max_num_batched_tokens < max_num_seqs) {
    return absl::InvalidArgumentError(StrCat("--max-num-batched-tokens is ", max_num_batched_tokens,
                                             "; must be at least --max-num-seqs, ", max_num_seqs));
  }
  if (priority_ageing <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        StrCat("priority_ageing is ", absl::FormatDuration(priority_ageing), "; must be positive"));
  }
  return absl::OkStatus();
}

RequestLimits EngineConfig::LimitsOfRequests(int32_t vocab_size) const {
  RequestLimits limits;
  limits.vocab_size = vocab_size;
  limits.max_num_candidates = max_num_candidates;
  limits.max_logprobs = max_logprobs;
  return limits;
}

WeightFormat EngineConfig::weight_format() const {
  return quantization.value_or(weights_dtype == DType::kF32 ? WeightFormat::kF32 : WeightFormat::kBF16);
}

std::string EngineConfig::ModelName() const {
  if (!served_model_name.empty()) return served_model_name;
  std::filesystem::path path = std::filesystem::path(model_path).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

}  // namespace expertd
