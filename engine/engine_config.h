// EngineConfig: every setting of the engine, its default and its check. Filled by engine_flags.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/kernels/kernels.h"
#include "engine/request/request.h"
#include "engine/tensor/dtype.h"
#include "engine/tensor/kv_layout.h"
#include "engine/tensor/weight_format.h"

namespace expertd {

struct EngineConfig {
  std::string model_path;
  std::string served_model_name;             // empty: the folder's name
  // How the model writes reasoning and tool calls, as FindOutputFormats names it.
  std::string reasoning_parser = "auto", tool_call_parser = "auto";
  std::string jieba_dict;                    // jieba's dict.txt, for PanGu-alpha; empty: see FindJiebaFiles
  bool needs_tokenizer = false;              // prompts are texts: a folder without a tokenizer is refused
  bool needs_chat_template = false;          // prompts are chats: one without a template, too
  DType weights_dtype = DType::kBF16;        // --dtype; bf16 or f32 in memory
  std::optional<WeightFormat> quantization;  // --quantization; kInt8 or kInt4: matrices are converted while loading
  QuantizedWeights quantized_weights = QuantizedWeights::kKeep;  // kConvert with --quantization none, int8, int4
  std::string quantized_form;                // "fp8", "gptq", ...: of the codes that are kept; or empty
  bool has_dummy_weights = false;            // --load-format dummy: random weights, only config.json is read
  KvFormat kv_cache_dtype = KvFormat::kBF16; // follows weights_dtype unless set
  Isa isa_limit = Isa::kAmx;                 // --isa
  int32_t num_threads = 0;                   // --threads; 0: the CPUs of the cpuset and cgroup quota

  int32_t max_model_len = 0;                 // 0: the model's max_position_embeddings, at most what the cache holds
  int32_t max_num_seqs = 64;
  int32_t max_num_batched_tokens = 2048;
  int32_t max_prefill_chunk = 0;             // 0: as the budget allows
  int32_t block_size = 32;                   // 16, 32, 64 or 128
  int32_t num_kv_blocks = 0;                 // 0: from memory_utilization
  double memory_utilization = 0.8;           // share of the memory left after loading that the cache may take, (0, 1]
  int64_t kv_cache_max_bytes = 0;            // --kv-cache-memory-bytes; 0: no cap beside memory_utilization
  bool enable_prefix_caching = true;

  int32_t max_num_queued_reqs = 2048;        // sequences waiting
  int64_t max_num_queued_tokens = 4'000'000; // their uncomputed tokens
  int32_t max_num_candidates = 16;           // n
  int32_t max_logprobs = 20;
  absl::Duration priority_ageing = absl::Seconds(10);

  // InvalidArgument naming the flag, the value and what is allowed; NotFound when the model folder is not there.
  absl::Status Validate() const;

  // What requests are checked against, given the width of the model's logits.
  RequestLimits LimitsOfRequests(int32_t vocab_size) const;

  // How matrices are held: quantization, or else weights_dtype.
  WeightFormat weight_format() const;

  // The name that requests give: served_model_name, or the folder's own.
  std::string ModelName() const;
};

}  // namespace expertd
