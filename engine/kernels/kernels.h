// Kernels: the table of arithmetic, one entry per operation, one table per instruction set. Chosen once per process by
// SelectKernels, passed to layers in ForwardContext. `reference.cc` is the scalar table: the readable definition of
// every entry and the oracle that all others are tested against.
//
// Same bits: each output element is reduced in an order that depends only on its own row and the shape of the weight
// (sequential FMA over k, lanes along output columns or keys). No entry changes arithmetic with the number of rows, so
// a row's result is the same alone and in any batch, and for any split of rows, columns or heads over threads.
//
// Thread-safety: every entry is a pure function of its arguments; concurrent calls on disjoint outputs are safe.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/platform/cpu.h"
#include "engine/tensor/dtype.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {

// Paged attention reads K and V by blocks of one layer. For block b and kv head h (elements of `dtype`, f32 or bf16):
//   K at key_base   + (b * num_kv_heads + h) * head_dim * block_size: [head_dim, block_size], so that lanes are keys
//   V at value_base + (b * num_kv_heads + h) * head_dim * block_size: [block_size, head_dim]
struct PagedKvLayer {
  void* key_base = nullptr;
  void* value_base = nullptr;
  DType dtype = DType::kF32;
  int num_kv_heads = 0;
  int head_dim = 0;    // any value >= 1; not necessarily a multiple of a vector
  int block_size = 0;  // 16, 32, 64 or 128
};

// Keys are split at multiples of this many positions; each part yields (maximum, sum, weighted values), and parts are
// combined in ascending order. So prefill, decode and any thread split compute the same bits.
inline constexpr int kAttentionPartKeys = 512;

struct AttentionArgs {
  const float* queries = nullptr;  // rows of [num_heads, head_dim]; row r at queries + r * query_stride
  int64_t query_stride = 0;        // elements
  float* output = nullptr;         // [num_heads, head_dim] per row, row stride output_stride
  int64_t output_stride = 0;
  int num_rows = 0;                // consecutive rows of one sequence
  int first_position = 0;          // position of row 0; row r attends to positions [0, first_position + r]
  int num_heads = 0;               // a multiple of num_kv_heads
  float scale = 1.0f;              // multiplies q . k
  PagedKvLayer kv;
  const int32_t* block_table = nullptr;
};

struct Kernels {
  std::string_view isa;  // "scalar", "avx2", "avx512"

  // y[r, c] = bias[c] + sum_k x[r, k] * w[c, k], for rows [0, num_rows) and weight rows (output columns)
  // [column_begin, column_end), both multiples of kPanelColumns except column_end == w.rows(). x: row stride x_stride;
  // y: row stride y_stride, column c of the weight at y[c]. fp32 accumulation: a chain of fused
  // multiply-adds that begins with the bias (null: zeros) and goes through k in ascending order, so all tables yield
  // the same bits. x and y do not overlap.
  void (*matmul)(const float* x, int64_t x_stride, int num_rows, const WeightMatrix& w, const float* bias,
                 int column_begin, int column_end, float* y, int64_t y_stride);

  // y[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i], i in [0, size). May be in place.
  void (*rms_norm)(const float* x, const float* weight, float eps, int size, float* y);

  // x[i] += y[i].
  void (*add)(const float* y, int64_t size, float* x);

  // x[i] += scale * y[i], as one fused multiply-add.
  void (*add_scaled)(const float* y, float scale, int64_t size, float* x);

  // out[i] = silu(gate[i]) * up[i], silu(v) = v / (1 + exp(-v)). out may be gate or up.
  void (*silu_mul)(const float* gate, const float* up, int64_t size, float* out);

  // Rotates one head in place, "rotate half": for i < rotary_dim/2, (x[i], x[i + rotary_dim/2]) by the angle whose
  // cosine and sine are cos[i], sin[i].
  void (*rope)(const float* cos, const float* sin, int rotary_dim, float* x);

  // Probabilities in place: x[i] = exp(x[i] - max) / sum. Size >= 1.
  void (*softmax)(int size, float* x);

  // Index of the largest element, the lowest index on ties; NaN never wins over a number. Size >= 1.
  int (*argmax)(const float* x, int size);

  // Stores one token's K and V heads ([num_kv_heads, head_dim] each) at `slot` = block * block_size + offset.
  void (*store_kv)(const float* key, const float* value, int64_t slot, const PagedKvLayer& kv);

  // Causal attention of the rows of one sequence, for kv heads [kv_head_begin, kv_head_end) and their query heads.
  // `scratch` holds attention_scratch_floats(args) floats.
  void (*attention)(const AttentionArgs& args, int kv_head_begin, int kv_head_end, float* scratch);
  int64_t (*attention_scratch_floats)(const AttentionArgs& args);
};

enum class Isa { kScalar, kAvx2, kAvx512 };

// The best table that this CPU runs, at most `limit`. The only place that asks which CPU this is.
const Kernels& SelectKernels(const CpuFeatures& cpu, Isa limit = Isa::kAvx512);

}  // namespace expertd
