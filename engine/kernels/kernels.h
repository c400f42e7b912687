// Kernels: the table of arithmetic, one entry per operation, one table per instruction set. Chosen once per process by
// SelectKernels, passed to layers in ForwardContext. `reference.cc` is the scalar table: the readable definition of
// every entry and the oracle that all others are tested against.
//
// Same bits: each output element is reduced in an order that depends only on its own row and the shape of the weight
// (sequential over k, lanes along output columns or keys). No entry changes arithmetic with the number of rows, so a
// row's result is the same alone and in any batch, and for any split of rows, columns or heads over threads.
//
// Thread-safety: every entry is a pure function of its arguments; concurrent calls on disjoint outputs are safe.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/platform/cpu.h"
#include "engine/tensor/dtype.h"
#include "engine/tensor/kv_layout.h"
#include "engine/tensor/panel_layout.h"

namespace expertd {

// K and V of one layer, by blocks: the tiles of block b and kv head h are number b * num_kv_heads + h behind the bases.
struct PagedKvLayer {
  void* key_base = nullptr;    // 64-byte aligned
  void* value_base = nullptr;  // 64-byte aligned; null for a latent cache, where a value is the beginning of its key
  KvFormat format = KvFormat::kF32;
  int num_kv_heads = 0;
  int head_dim = 0;    // of keys and queries; any value >= 1, not necessarily a multiple of a vector
  int value_dim = 0;   // of values and outputs: 1 .. head_dim
  int block_size = 0;  // 16, 32, 64 or 128
};

// Keys are split at multiples of this many positions; each part yields a partial result, and these are merged in
// ascending order. So prefill, decode and any thread split compute the same bits.
inline constexpr int kAttentionPartKeys = 512;

constexpr int NumAttentionParts(int num_keys) { return (num_keys + kAttentionPartKeys - 1) / kAttentionPartKeys; }

// Floats of the partial result of one query in one part: the values of keys weighted by exp(score - maximum),
// [value_dim rounded up to kKvDimUnit]; the maximum of the scores; the sum of the weights; room up to 64 bytes.
constexpr int64_t AttentionPartialFloats(int value_dim) { return PaddedKvDim(value_dim) + 16; }

struct AttentionArgs {
  const float* queries = nullptr;  // rows of [num_heads, head_dim]; row r at queries + r * query_stride
  int64_t query_stride = 0;        // elements
  float* output = nullptr;         // [num_heads, value_dim] per row, row stride output_stride
  int64_t output_stride = 0;
  int num_rows = 0;                // consecutive rows of one sequence
  int first_position = 0;          // position of row 0; row r attends to positions [0, first_position + r]
  int num_heads = 0;               // a multiple of num_kv_heads
  float scale = 1.0f;              // multiplies q . k
  PagedKvLayer kv;
  const int32_t* block_table = nullptr;

  // For few rows with many keys: a call that has `partials` attends to the parts [part_begin, part_end) alone and
  // leaves their results there, for merge_attention to make the output of.
  // [NumAttentionParts(first_position + num_rows)][num_kv_heads][num_rows][heads of a kv head][AttentionPartialFloats]
  float* partials = nullptr;
  int part_begin = 0;
  int part_end = 0;
};

// How a product takes the rows of x.
enum class InputForm { kF32, kBF16, kInt8 };

// Rows whose largest magnitude is below this are quantized to zeros: reciprocals would overflow.
inline constexpr float kSmallestQuantized = 1e-30f;

// Rows of x in one form.
struct InputRows {
  InputForm form = InputForm::kF32;

  // float: [cols], BFloat16: [cols rounded up to 32] or int8_t: [cols rounded up to kGroupInputs] a row; zeros beyond
  // cols.
  const void* data = nullptr;
  int64_t stride = 0;  // elements from row to row

  // kInt8 only: x = scale * code. Of each row: its scale, and the sums of its codes that zero points are taken off
  // with: first that of all, then that of each group of kGroupInputs.
  const float* scales = nullptr;
  const int32_t* sums = nullptr;
  int64_t sums_stride = 0;

  static InputRows Floats(const float* x, int64_t stride) { return {.data = x, .stride = stride}; }
};

// Logits are looked at in blocks of this many: few enough that the maximum of each says much about where the large
// ones are, many enough that the maxima of a vocabulary of 152k stay in the first-level cache.
inline constexpr int kLogitsBlock = 64;

// One row of logits, without NaN, and the maximum of each of its blocks, the last of which may be shorter.
struct LogitsRow {
  const float* logits = nullptr;  // [size]
  int64_t size = 0;
  const float* block_max = nullptr;
};

// How logits become probabilities: p = exp((logit - max) * inverse_temperature), relative to the most likely token's.
struct LogitsScale {
  float max = 0.0f;                  // finite
  float inverse_temperature = 1.0f;  // > 0

  float Exponent(float logit) const { return (logit - max) * inverse_temperature; }
};

// Probabilities are counted in units of 2^-40 of the most likely token's: integers, whose sums do not depend on order.
// Fine enough that what is rounded away from the largest vocabularies is below the precision of a float, coarse enough
// that 2^23 tokens fit 64 bits.
inline constexpr int kMassBits = 40;

struct Kernels {
  std::string_view isa;  // the name of its Isa

  // The form in which products with bf16 weights take x: kF32 where x is multiplied as it is, kBF16 where instructions
  // multiply pairs of bf16. f32 weights always take kF32, int8 and int4 weights kInt8. Attention to a bf16 cache rounds
  // queries and weights alike.
  InputForm bf16_input;

  // y[r, c] = bias[c] + sum_k x[r, k] * w[c, k], for rows [0, num_rows) and weight rows (output columns)
  // [column_begin, column_end), both multiples of kPanelColumns except column_end == w.rows. x: in the form that
  // InputFormOf names; y: row stride y_stride, column c of the weight at y[c]; bias: null means zeros. x and y do not
  // overlap.
  // f32, and bf16 with x in f32: a chain of fused multiply-adds that begins with the bias and goes through k in
  // ascending order, the same bits from all tables. bf16 with x in bf16: the order of the instruction set, fp32 sums.
  // int8: y = bias + float(sum of (code - 128) * x code) * (x scale * w scale), the sum in integers; int4: the sums of
  // groups, as floats, go through a chain of fused multiply-adds with the group scales that begins with zero, before
  // the same last step. Both have the same bits from all tables.
  void (*matmul)(const InputRows& x, int num_rows, const PackedWeights& w, const float* bias, int column_begin,
                 int column_end, float* y, int64_t y_stride);

  // Makes one row of kInt8 input: codes [size rounded up to kGroupInputs], the scale max |x| / 127, sums as InputRows
  // says. Codes are rounded to nearest even. Rows below kSmallestQuantized are zeros; a row with an infinity or NaN has
  // a scale of NaN.
  void (*quantize)(const float* x, int size, int8_t* codes, float* scale, int32_t* sums);

  // Makes one row of kBF16 input, rounded to nearest even.
  void (*round_to_bf16)(const float* x, int size, BFloat16* out);

  // y[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i], i in [0, size). May be in place.
  void (*rms_norm)(const float* x, const float* weight, float eps, int size, float* y);

  // y[i] = (x[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i], i in [0, size), the variance divided by `size`
  // and taken in a second pass. May be in place.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, int size, float* y);

  // x[i] += y[i].
  void (*add)(const float* y, int64_t size, float* x);

  // x[i] += scale * y[i], as one fused multiply-add.
  void (*add_scaled)(const float* y, float scale, int64_t size, float* x);

  // out[i] = silu(gate[i]) * up[i], silu(v) = v / (1 + exp(-v)). out may be gate or up.
  void (*silu_mul)(const float* gate, const float* up, int64_t size, float* out);

  // out[i] = x[i] * Phi(x[i]), Phi the normal distribution (arXiv 1606.08415), and the paper's approximation of it,
  // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). Relative error below 5e-6, far below zero where the exponential
  // is tiny below 1e-5. out may be x.
  void (*gelu_erf)(const float* x, int64_t size, float* out);
  void (*gelu_tanh)(const float* x, int64_t size, float* out);

  // Rotates one head in place, "rotate half": for i < rotary_dim/2, (x[i], x[i + rotary_dim/2]) by the angle whose
  // cosine and sine are cos[i], sin[i].
  void (*rope)(const float* cos, const float* sin, int rotary_dim, float* x);

  // Probabilities in place: x[i] = exp(x[i] - max) / sum. Size >= 1.
  void (*softmax)(int size, float* x);

  // Index of the largest element, the lowest index on ties; NaN never wins over a number. Size >= 1.
  int (*argmax)(const float* x, int size);

  // block_max[b] = the largest logit of block b. Returns the largest of all, or NaN where there is one: then block_max
  // means nothing. Size >= 0, minus infinity for 0.
  float (*summarize_logits)(const float* logits, int64_t size, float* block_max);

  // masses[i] = round(2^40 exp(scale.Exponent(logits[i]))), the exponential within 2e-7 of its value and exact at 0.
  void (*logit_masses)(const float* logits, int64_t size, const LogitsScale& scale, uint64_t* masses);

  // block_mass[b] = the sum of the masses, as logit_masses gives them, of the logits >= threshold of block b; returns
  // the sum of all.
  uint64_t (*sum_masses)(const LogitsRow& row, const LogitsScale& scale, float threshold, uint64_t* block_mass);

  // The indices of the first `limit` logits in [low, high], ascending; returns how many they are.
  int64_t (*find_logits)(const LogitsRow& row, float low, float high, int64_t limit, int32_t* indices);

  // Stores one token's K heads [num_kv_heads, head_dim] and V heads [num_kv_heads, value_dim], null for a latent cache,
  // at `slot` = block * block_size + offset. bf16 is rounded to nearest even; int8 codes and scales are those of
  // `quantize`.
  void (*store_kv)(const float* key, const float* value, int64_t slot, const PagedKvLayer& kv);

  // Causal attention of the rows of one sequence, for kv heads [kv_head_begin, kv_head_end) and their query heads. An
  // int8 cache's scales multiply its codes' scores and the weights of its codes. A call for some of the query heads of
  // a layer with one kv head has `queries`, `output` and num_heads of these alone.
  // `scratch` holds attention_scratch_floats(args) floats.
  void (*attention)(const AttentionArgs& args, int kv_head_begin, int kv_head_end, float* scratch);
  int64_t (*attention_scratch_floats)(const AttentionArgs& args);

  // Writes the output of kv heads [kv_head_begin, kv_head_end) from args.partials, whose every part has been attended
  // to, and uses them up: the bits that one call for all parts would have written.
  void (*merge_attention)(const AttentionArgs& args, int kv_head_begin, int kv_head_end);

  // Multiplies on registers alone, as products whose input has `form` do, and returns the number of operations (a
  // multiplication and an addition are two), which grows with num_steps >= 0: the peak that benchmarks measure against.
  int64_t (*run_products)(InputForm form, int64_t num_steps);
};

inline InputForm InputFormOf(WeightFormat format, const Kernels& kernels) {
  if (IsInteger(format)) return InputForm::kInt8;
  return format == WeightFormat::kBF16 ? kernels.bf16_input : InputForm::kF32;
}

// Instruction sets, each one including those before it except that avx512 does not need avx2_vnni:
//   avx2         AVX2, FMA, F16C (2013 on)            avx2_vnni    and AVX-VNNI (Alder Lake, Sierra Forest, Zen 5)
//   avx512       AVX-512 F, BW, DQ, VL and VNNI       avx512_bf16  and BF16 (Cooper Lake, Zen 4)
//   amx          and tiles with int8 and bf16 (Sapphire Rapids)
enum class Isa { kScalar, kAvx2, kAvx2Vnni, kAvx512, kAvx512Bf16, kAmx };

// "scalar", "avx2", "avx2_vnni", ...
std::string_view IsaName(Isa isa);

// The best table that this CPU runs, at most `limit`. The only place that asks which CPU this is.
const Kernels& SelectKernels(const CpuFeatures& cpu, Isa limit = Isa::kAmx);

}  // namespace expertd
