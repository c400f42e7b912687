// What a model takes: its matrices by kind, and the sums that follow from them - parameters, bytes in memory, bytes of
// the KV cache. `inspect`, the memory plan and the cost of a step read these, so no one else counts a layer's parts.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/kv/kv_cache.h"
#include "engine/models/model_config.h"
#include "engine/tensor/dtype.h"
#include "engine/tensor/kv_layout.h"
#include "engine/tensor/weight_format.h"

namespace expertd {

// How a matrix is held beside those in the format of the model.
enum class MatrixRole {
  kWeight,    // in the format itself
  kRouter,    // f32: rounding it would send tokens to other experts
  kLatentUp,  // of latent attention: a float format, as published quantized checkpoints have it
  kHead,      // at least eight bits: four would show in every token
};
WeightFormat FormatOf(MatrixRole role, WeightFormat format);

// Matrices [rows, cols] of one kind.
struct MatrixUse {
  int64_t rows = 0;  // outputs
  int64_t cols = 0;  // inputs
  int64_t count = 1;
  int64_t active = 1;  // that one token is multiplied with
  MatrixRole role = MatrixRole::kWeight;

  bool is_expert() const { return count != active; }  // which of them a step reads depends on its tokens
};

// Bytes of one of them beside weights in `format`.
int64_t MatrixBytes(const MatrixUse& use, WeightFormat format);

// All matrices that tokens are multiplied with.
std::vector<MatrixUse> MatricesOf(const ModelConfig& config);

struct ParameterCount {
  int64_t total = 0;
  int64_t active = 0;  // those one token is multiplied with: its experts only; the embedding counts as one table
};

// Parameters of the model as stored (a tied head counts once).
ParameterCount CountParameters(const ModelConfig& config);

// Bytes of all parameters in memory when matrices are held in `format` (norms and biases in fp32, others by their role,
// the embedding as below).
int64_t WeightBytes(const ModelConfig& config, WeightFormat format);

// How an embedding table of its own is held beside matrices in `format`: each step reads only a few rows of it.
DType EmbeddingDType(WeightFormat format);

// Bytes of activations that a row of a step needs, generously: residual, normed input, attention, feed-forward.
int64_t ActivationBytesPerRow(const ModelConfig& config);

// The KV cache that a model with `config` needs.
KvCacheSpec KvSpecFor(const ModelConfig& config, int block_size, int64_t num_blocks, KvFormat format);

// Bytes that one token takes in the KV cache over all layers.
int64_t KvBytesPerToken(const ModelConfig& config, KvFormat format);

}  // namespace expertd
