// Model: a loaded decoder, from a step's tokens to logits. The runner owns one; LoadModel makes it from a folder.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/forward/forward_batch.h"
#include "engine/forward/forward_context.h"
#include "engine/kv/kv_cache.h"
#include "engine/models/model_config.h"
#include "engine/tensor/kv_layout.h"
#include "engine/tensor/weight_format.h"

namespace expertd {

class ThreadPool;

// What a model holds in memory.
struct ModelMemory {
  int64_t weight_bytes = 0;  // packed matrices, norms and biases
  int64_t table_bytes = 0;   // rotary tables when fully grown
};

// Stateless between calls except for what Forward writes to the KV cache.
// Thread-safety: const methods may run concurrently with different KV caches and contexts.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  virtual ModelMemory memory() const = 0;

  // Computes one step: writes K and V of every row to `kv` (the spec of KvSpecFor), and the logits of the rows named in
  // batch.logits_rows to `logits`: [logits_rows.size(), vocab_size], row-major. fp32 residual and accumulation.
  // The logits of a row depend only on its sequence's tokens up to it: not on the other sequences, the split of the
  // prompt into steps, or the number of threads.
  // The caller guarantees (CHECKed): token ids in [0, vocab_size), positions in [0, max_positions) and equal to
  // num_computed + row offset, block ids within `kv`, at least one token.
  virtual void Forward(const ForwardBatch& batch, KvCache& kv, ForwardContext& context, float* logits) const = 0;
};

struct LoadProgress {
  int64_t done_bytes = 0;  // of tensors in the files, packed so far
  int64_t total_bytes = 0;
};

struct LoadOptions {
  WeightFormat weight_format = WeightFormat::kBF16;   // how matrices are held; a packed folder has its own
  QuantizedWeights quantized_weights = QuantizedWeights::kKeep;  // of those that the checkpoint has as integers
  bool is_dummy = false;                              // random weights; only config.json is read
  std::function<void(const LoadProgress&)> progress;  // called on the loading thread, after each layer; may be empty
};

// Loads `dir`: config.json with safetensors or files of PyTorch, a checkpoint of Megatron, or a packed folder. Errors,
// one line each, naming what is at fault: NotFound (no such folder or file), InvalidArgument (malformed config or
// checkpoint, missing tensor, wrong shape), Unimplemented (architecture, feature, dtype), ResourceExhausted (memory).
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& dir, const LoadOptions& options, ThreadPool& pool);

// Writes `dir` as a packed folder `packed_dir` with matrices in options.weight_format (checkpoint/packed_folder.h); a
// server of the one gives the same bits as a server of the other. Errors: as LoadModel, AlreadyExists, DataLoss.
absl::Status PackModel(const std::string& dir, const std::string& packed_dir, const LoadOptions& options,
                       ThreadPool& pool);

}  // namespace expertd
