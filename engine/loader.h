// Loader: a model folder to everything that serves it: the model, its tokenizer, its chat template, its sampling
// defaults, the KV cache and the sums of memory. Used by Engine::Create and by the offline tools that need the parts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/engine_config.h"
#include "engine/kernels/kernels.h"
#include "engine/kv/kv_cache.h"
#include "engine/models/generation_config.h"
#include "engine/models/model.h"
#include "engine/platform/thread_pool.h"
#include "engine/output_formats.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

namespace expertd {

// A model in memory and what belongs to it. Members are destroyed in reverse order; a value that moves as one.
struct LoadedModel {
  const Kernels* kernels = nullptr;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Model> model;
  std::unique_ptr<KvCache> kv_cache;
  std::unique_ptr<Tokenizer> tokenizer;          // null: the folder has none
  std::unique_ptr<ChatTemplate> chat_template;   // null: the folder has none
  OutputFormats output_formats;                  // none without a tokenizer
  GenerationDefaults generation_defaults;
  std::vector<int32_t> eos_token_ids;            // of generation_config.json, else config.json, else the tokenizer
  EngineInfo info;
};

// Loads `config.model_path`. Errors name the file or the flag at fault; when the KV cache cannot hold what was asked
// for, FailedPrecondition prints the memory sum and the flags that change it.
absl::StatusOr<LoadedModel> LoadModelFolder(const EngineConfig& config);

// `config` with the format of its folder: a packed one says itself how its matrices are held, and --quantization may
// only agree, as with the form of a quantized checkpoint. Errors: InvalidArgument when it does not, and those of
// FindPackedFormat and FindQuantizedForm.
absl::StatusOr<EngineConfig> WithFormatOfFolder(EngineConfig config);

// The sum behind the size of the KV cache, as `inspect` prints it.
struct MemoryPlan {
  int64_t available_bytes = 0;      // of the machine or the cgroup, before loading
  int64_t weight_bytes = 0;
  int64_t scratch_bytes = 0;        // activations and logits of the largest step
  int64_t kv_block_bytes = 0;
  int32_t num_kv_blocks = 0;
  int32_t max_model_len = 0;
  int64_t kv_cache_bytes() const { return kv_block_bytes * num_kv_blocks; }
};

// The bytes that the weights of `config.model_path` will take: as they are counted from config.json, or, where they are
// kept as a quantized checkpoint or a packed folder has them, about the bytes of its files. Errors: as LoadModelFolder.
absl::StatusOr<int64_t> EstimateWeightBytes(const EngineConfig& config, const ModelConfig& model);

// What `config` leads to for a model of shape `model` with `available_bytes` of memory, of which the weights take
// `weight_bytes`. Same errors as LoadModelFolder.
absl::StatusOr<MemoryPlan> PlanMemory(const EngineConfig& config, const ModelConfig& model, int64_t available_bytes,
                                      int64_t weight_bytes);

}  // namespace expertd
