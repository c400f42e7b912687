// Engine: the face of the engine. Submit a Request, read its GenerationStream; everything between happens on one thread
// that runs the loop: take the mailbox; plan = scheduler.Plan(); result = runner.Run(plan); scheduler.Commit(plan,
// result); write the outputs; report the stats.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine_config.h"
#include "engine/platform/cpu.h"
#include "engine/request/generation_stream.h"
#include "engine/request/request.h"
#include "engine/request/stats.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

namespace expertd {

// Where the time went while a model was loaded.
struct LoadPhases {
  absl::Duration text;      // settings, tokenizer, chat template
  absl::Duration weights;   // read, converted and packed
  absl::Duration kv_cache;  // reserved
};

// What GetServerInfo, GetModel, inspect and the metrics tell. Fixed once the engine stands.
struct EngineInfo {
  std::string model_name;
  std::string model_path;
  std::string architecture;                  // "Qwen3MoeForCausalLM"
  std::string isa;                           // table in use: "avx512"
  std::string cpu_model;
  CpuFeatures cpu;                           // what the processor offers
  std::string weights_dtype, kv_cache_dtype;
  int32_t num_threads = 0;
  int32_t vocab_size = 0;                    // width of the logits
  int32_t max_model_len = 0;
  int32_t max_num_seqs = 0;
  int32_t max_num_batched_tokens = 0;
  int32_t block_size = 0;
  int32_t num_kv_blocks = 0;
  int64_t num_parameters = 0;
  int64_t num_active_parameters = 0;         // per token
  int64_t weight_bytes = 0;
  int64_t huge_page_bytes = 0;               // of the process, resident on huge pages once the weights are loaded
  int32_t num_memory_nodes = 1;              // nodes (NUMA) of the process's CPUs
  int64_t kv_cache_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  bool has_chat_template = false;
  bool splits_reasoning = false;             // the model marks its reasoning
  bool parses_tool_calls = false;            // the form of its tool calls is known
  std::vector<int32_t> eos_token_ids;
  absl::Duration load_time;
  LoadPhases load_phases;                    // its parts
  std::string fingerprint;                   // build and weights: equal fingerprints give equal bits
};

// A moment's load, for GetLoad. Cheap to read.
struct EngineLoad {
  int32_t num_running = 0;
  int32_t num_waiting = 0;
  int64_t num_waiting_tokens = 0;
  int32_t blocks_free = 0, blocks_used = 0, blocks_cached = 0;
  int64_t prefix_queried_tokens = 0, prefix_hit_tokens = 0;
  double decode_tokens_per_second = 0;       // over the last few seconds
  double prefill_tokens_per_second = 0;
  bool is_draining = false;
  bool is_healthy = true;                    // false after a failed step: the process should be restarted
};

// A conversation as the chat template writes it, and its ids.
struct RenderedChat {
  std::string text;
  std::vector<int32_t> tokens;
  absl::Duration template_time;              // to render the text, without the tokens
};

enum class AbortOutcome { kAborted, kAlreadyFinished, kNotFound };  // kNotFound leaves a tombstone for a short while

// Thread-safe.
class Engine {
 public:
  // Loads the model folder of `config` and starts the engine thread. `stats` outlives the engine; null for none.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineConfig& config, StatsSink* stats);
  virtual ~Engine() = default;  // ends running requests with Unavailable, joins the thread

  // Renders, tokenizes and checks the request on the caller's thread, then queues its sequences. Errors (each with an
  // ErrorDetail): InvalidArgument; ResourceExhausted QUEUE_FULL; DeadlineExceeded when the deadline has passed or
  // cannot be met; AlreadyExists DUPLICATE_REQUEST_ID while a request of that id lives; Cancelled when it was aborted
  // before it came; Unavailable DRAINING or ENGINE_FAILURE.
  virtual absl::StatusOr<std::shared_ptr<GenerationStream>> Submit(std::shared_ptr<const Request> request) = 0;

  // Ends a live request with `status` (Cancelled, DeadlineExceeded, Aborted ...) within one step; its stream closes
  // with it. Idempotent.
  virtual AbortOutcome Abort(std::string_view request_id, absl::Status status) = 0;

  // The prompt that Submit would make of `chat`. Runs on the caller's thread. Errors as Submit's.
  virtual absl::StatusOr<RenderedChat> RenderChat(const ChatInput& chat) const = 0;

  // Refuses new requests from now on; running and waiting ones go on.
  virtual void StartDraining() = 0;
  // True once nothing runs or waits; false when `timeout` passed first.
  virtual bool WaitUntilIdle(absl::Duration timeout) = 0;

  virtual EngineLoad Load() const = 0;
  virtual const EngineInfo& info() const = 0;
  virtual RequestLimits request_limits() const = 0;
  virtual const Tokenizer* tokenizer() const = 0;        // null: the folder has none (token ids only)
  virtual const ChatTemplate* chat_template() const = 0; // null: the folder has none
};

}  // namespace expertd
