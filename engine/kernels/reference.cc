// The scalar table: the readable definition of every kernel, the oracle of all others, and the way to run on a machine
// without vector extensions. Matrix products and the other plain chains of operations are to be matched bit for bit;
// functions with an exponential or a long sum are matched within the errors that tests/kernels names.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

namespace expertd {
namespace {

const std::byte* PanelOf(const PackedWeights& w, int column) {
  return w.panels + column / kPanelColumns * w.panel_bytes;
}

// Element k of output `column` of a float matrix.
float WeightAt(const PackedWeights& w, int column, int k) {
  const std::byte* panel = PanelOf(w, column);
  const int c = column % kPanelColumns;
  if (w.format == WeightFormat::kF32) return reinterpret_cast<const float*>(panel)[int64_t{k} * kPanelColumns + c];
  const auto* pairs = reinterpret_cast<const BFloat16*>(panel);
  return ToFloat(pairs[int64_t{k / 2} * 2 * kPanelColumns + 2 * c + k % 2]);
}

float FloatProduct(const float* x, const PackedWeights& w, int column, float bias) {
  float sum = bias;
  for (int k = 0; k < w.cols; ++k) sum = std::fma(x[k], WeightAt(w, column, k), sum);
  return sum;
}

// The sum of code products of one output, without any scale.
float Int8Product(const int8_t* codes, const std::byte* panel, int column, int cols) {
  const auto* const weights = reinterpret_cast<const uint8_t*>(panel + kPanelScaleBytes) + 4 * column;
  int32_t sum = 0;
  for (int k = 0; k < cols; ++k) sum += codes[k] * (weights[k / 4 * 4 * kPanelColumns + k % 4] - kInt8ZeroPoint);
  return static_cast<float>(sum);
}

// The sum over groups of code products times group scales.
float Int4Product(const int8_t* codes, const PackedWeights& w, const std::byte* panel, int column) {
  constexpr int kHalf = kPanelColumns / 2;
  float total = 0.0f;
  const auto* group = reinterpret_cast<const uint8_t*>(panel + kPanelScaleBytes);
  for (int begin = 0; begin < w.cols; begin += kGroupInputs) {
    const auto* const scales = reinterpret_cast<const uint16_t*>(group + kInt4CodeBytes);
    const uint8_t* const zero_points = group + kInt4CodeBytes + kInt4ScaleBytes;
    const int zero_point = w.has_zero_points ? zero_points[column] : kInt4ZeroPoint;
    int32_t sum = 0;
    for (int k = 0; k < std::min(kGroupInputs, w.cols - begin); ++k) {
      const uint8_t pair = group[k / 4 * kInt4StepBytes + column % kHalf * 4 + k % 4];
      sum += codes[begin + k] * ((column < kHalf ? pair & 15 : pair >> 4) - zero_point);
    }
    total = std::fma(static_cast<float>(sum), HalfToFloat(scales[column]), total);
    group += Int4GroupBytes(w.has_zero_points);
  }
  return total;
}

float IntegerProduct(const InputRows& x, int row, const PackedWeights& w, int column, float bias) {
  const int8_t* const codes = static_cast<const int8_t*>(x.data) + row * x.stride;
  const std::byte* const panel = PanelOf(w, column);
  const int c = column % kPanelColumns;
  const float sum = w.format == WeightFormat::kInt8 ? Int8Product(codes, panel, c, w.cols)
                                                    : Int4Product(codes, w, panel, c);
  return std::fma(sum, x.scales[row] * reinterpret_cast<const float*>(panel)[c], bias);
}

void Matmul(const InputRows& x, int num_rows, const PackedWeights& w, const float* bias, int column_begin,
            int column_end, float* y, int64_t y_stride) {
  for (int row = 0; row < num_rows; ++row) {
    for (int column = column_begin; column < column_end; ++column) {
      const float start = bias == nullptr ? 0.0f : bias[column];
      y[row * y_stride + column] =
          IsInteger(w.format)
              ? IntegerProduct(x, row, w, column, start)
              : FloatProduct(static_cast<const float*>(x.data) + row * x.stride, w, column, start);
    }
  }
}

void Quantize(const float* x, int size, int8_t* codes, float* scale, int32_t* sums) {
  const int num_groups = (size + kGroupInputs - 1) / kGroupInputs;
  float largest = 0.0f;
  bool is_finite = true;
  for (int i = 0; i < size; ++i) {
    is_finite = is_finite && std::isfinite(x[i]);
    largest = std::max(largest, std::fabs(x[i]));
  }
  const bool is_zero = !is_finite || largest < kSmallestQuantized;
  *scale = !is_finite ? std::numeric_limits<float>::quiet_NaN() : is_zero ? 0.0f : largest / 127.0f;
  const float inverse = is_zero ? 0.0f : 127.0f / largest;
  std::fill(sums, sums + 1 + num_groups, 0);
  for (int i = 0; i < num_groups * kGroupInputs; ++i) {
    codes[i] = is_zero || i >= size ? int8_t{0} : static_cast<int8_t>(std::nearbyint(x[i] * inverse));
    sums[0] += codes[i];
    sums[1 + i / kGroupInputs] += codes[i];
  }
}

void RoundToBf16(const float* x, int size, BFloat16* out) {
  for (int i = 0; i < (size + 31) / 32 * 32; ++i) out[i] = i < size ? ToBFloat16(x[i]) : BFloat16{};
}

void RmsNorm(const float* x, const float* weight, float eps, int size, float* y) {
  double sum = 0.0;
  for (int i = 0; i < size; ++i) sum += double{x[i]} * x[i];
  const float inverse = 1.0f / std::sqrt(static_cast<float>(sum / size) + eps);
  for (int i = 0; i < size; ++i) y[i] = x[i] * inverse * weight[i];
}

void LayerNorm(const float* x, const float* weight, const float* bias, float eps, int size, float* y) {
  double sum = 0.0, squares = 0.0;
  for (int i = 0; i < size; ++i) sum += x[i];
  const double mean = sum / size;
  for (int i = 0; i < size; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double inverse = 1.0 / std::sqrt(squares / size + eps);
  for (int i = 0; i < size; ++i) y[i] = static_cast<float>((x[i] - mean) * inverse * weight[i] + bias[i]);
}

void Add(const float* y, int64_t size, float* x) {
  for (int64_t i = 0; i < size; ++i) x[i] += y[i];
}

void AddScaled(const float* y, float scale, int64_t size, float* x) {
  for (int64_t i = 0; i < size; ++i) x[i] = std::fma(scale, y[i], x[i]);
}

void SiluMul(const float* gate, const float* up, int64_t size, float* out) {
  for (int64_t i = 0; i < size; ++i) out[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

void GeluErf(const float* x, int64_t size, float* out) {
  // By the complement, which keeps the digits of what is left far below zero.
  for (int64_t i = 0; i < size; ++i) out[i] = static_cast<float>(0.5 * x[i] * std::erfc(-x[i] * std::sqrt(0.5)));
}

void GeluTanh(const float* x, int64_t size, float* out) {
  for (int64_t i = 0; i < size; ++i) {
    const double v = x[i], inner = std::sqrt(2.0 / std::numbers::pi) * (v + 0.044715 * v * v * v);
    out[i] = static_cast<float>(v / (1.0 + std::exp(-2.0 * inner)));  // 1 + tanh(u) = 2 / (1 + exp(-2 u))
  }
}

void Rope(const float* cos, const float* sin, int rotary_dim, float* x) {
  const int half = rotary_dim / 2;
  for (int i = 0; i < half; ++i) {
    const float first = x[i];
    const float second = x[i + half];
    x[i] = std::fma(first, cos[i], -(second * sin[i]));
    x[i + half] = std::fma(second, cos[i], first * sin[i]);
  }
}

void Softmax(int size, float* x) {
  const float maximum = *std::max_element(x, x + size);
  double sum = 0.0;
  for (int i = 0; i < size; ++i) {
    x[i] = std::exp(x[i] - maximum);
    sum += x[i];
  }
  const float inverse = static_cast<float>(1.0 / sum);
  for (int i = 0; i < size; ++i) x[i] *= inverse;
}

int Argmax(const float* x, int size) {
  int best = 0;
  for (int i = 1; i < size; ++i) {
    if (x[i] > x[best] || (std::isnan(x[best]) && !std::isnan(x[i]))) best = i;
  }
  return best;
}

// ---- sampling ----

float SummarizeLogits(const float* logits, int64_t size, float* block_max) {
  float max = -std::numeric_limits<float>::infinity();
  bool has_nan = false;
  for (int64_t i = 0; i < size; ++i) {
    float& block = block_max[i / kLogitsBlock];
    block = i % kLogitsBlock == 0 ? logits[i] : std::max(block, logits[i]);
    max = std::max(max, logits[i]);
    has_nan = has_nan || std::isnan(logits[i]);
  }
  return has_nan ? std::numeric_limits<float>::quiet_NaN() : max;
}

void LogitMasses(const float* logits, int64_t size, const LogitsScale& scale, uint64_t* masses) {
  for (int64_t i = 0; i < size; ++i) {
    const double probability = std::exp(double{scale.Exponent(logits[i])});
    masses[i] = static_cast<uint64_t>(std::nearbyint(std::ldexp(probability, kMassBits)));
  }
}

uint64_t SumMasses(const LogitsRow& row, const LogitsScale& scale, float threshold, uint64_t* block_mass) {
  uint64_t total = 0;
  for (int64_t i = 0; i < row.size; ++i) {
    uint64_t mass = 0;
    if (row.logits[i] >= threshold) LogitMasses(&row.logits[i], 1, scale, &mass);
    uint64_t& block = block_mass[i / kLogitsBlock];
    block = mass + (i % kLogitsBlock == 0 ? 0 : block);
    total += mass;
  }
  return total;
}

int64_t FindLogits(const LogitsRow& row, float low, float high, int64_t limit, int32_t* indices) {
  int64_t found = 0;
  for (int64_t i = 0; i < row.size && found < limit; ++i) {
    if (row.logits[i] >= low && row.logits[i] <= high) indices[found++] = static_cast<int32_t>(i);
  }
  return found;
}

// ---- attention ----

// The tile of K, or of V, of a block and head, as tensor/kv_layout.h says.
class KvTile {
 public:
  KvTile(void* base, int dim, const PagedKvLayer& kv, int64_t block, int head)
      : format_(kv.format),
        dim_(dim),
        block_size_(kv.block_size),
        bytes_(static_cast<std::byte*>(base) +
               (block * kv.num_kv_heads + head) * KvTileBytes(kv.format, dim, kv.block_size)),
        scales_(reinterpret_cast<float*>(bytes_ + int64_t{kv.block_size} * PaddedKvDim(dim))) {}

  // Element d of a token, without its scale.
  float Key(int token, int d) const { return Load(KeyIndex(token, d)); }
  float Value(int token, int d) const { return Load(ValueIndex(token, d)); }
  float ScaleOf(int token) const { return format_ == KvFormat::kInt8 ? scales_[token] : 1.0f; }

  void StoreKey(const float* head, int token) {
    Store(head, token, [&](int d) { return KeyIndex(token, d); });
  }
  void StoreValue(const float* head, int token) {
    Store(head, token, [&](int d) { return ValueIndex(token, d); });
  }

 private:
  int64_t KeyIndex(int token, int d) const {
    if (format_ != KvFormat::kBF16) return int64_t{d} * block_size_ + token;
    return (int64_t{d / 2} * block_size_ + token) * 2 + d % 2;
  }
  int64_t ValueIndex(int token, int d) const {
    const int64_t padded_dim = PaddedKvDim(dim_);
    if (format_ != KvFormat::kBF16) return token * padded_dim + d;
    return (token / 2 * padded_dim + d) * 2 + token % 2;
  }

  float Load(int64_t index) const {
    if (format_ == KvFormat::kF32) return reinterpret_cast<const float*>(bytes_)[index];
    if (format_ == KvFormat::kBF16) return ToFloat(reinterpret_cast<const BFloat16*>(bytes_)[index]);
    return reinterpret_cast<const int8_t*>(bytes_)[index];
  }

  template <typename IndexOf>
  void Store(const float* head, int token, IndexOf index_of) {
    if (format_ != KvFormat::kInt8) {
      for (int d = 0; d < dim_; ++d) StoreElement(head[d], index_of(d));
      if (dim_ % 2 != 0) StoreElement(0.0f, index_of(dim_));
      return;
    }
    const int num_groups = (dim_ + kGroupInputs - 1) / kGroupInputs;
    std::vector<int8_t> codes(static_cast<size_t>(num_groups) * kGroupInputs);
    std::vector<int32_t> sums(static_cast<size_t>(1 + num_groups));
    Quantize(head, dim_, codes.data(), &scales_[token], sums.data());
    for (int d = 0; d < (dim_ + 1) / 2 * 2; ++d) reinterpret_cast<int8_t*>(bytes_)[index_of(d)] = codes[d];
  }

  void StoreElement(float value, int64_t index) {
    if (format_ == KvFormat::kF32) {
      reinterpret_cast<float*>(bytes_)[index] = value;
    } else {
      reinterpret_cast<BFloat16*>(bytes_)[index] = ToBFloat16(value);
    }
  }

  KvFormat format_;
  int dim_;  // head_dim of K, value_dim of V
  int block_size_;
  std::byte* bytes_;
  float* scales_;  // int8 only
};

KvTile KeyTile(const PagedKvLayer& kv, int64_t block, int head) {
  return KvTile(kv.key_base, kv.head_dim, kv, block, head);
}
KvTile ValueTile(const PagedKvLayer& kv, int64_t block, int head) {
  return KvTile(kv.value_base, kv.value_dim, kv, block, head);
}

void StoreKv(const float* key, const float* value, int64_t slot, const PagedKvLayer& kv) {
  const int64_t block = slot / kv.block_size;
  const int token = static_cast<int>(slot % kv.block_size);
  for (int head = 0; head < kv.num_kv_heads; ++head) {
    KeyTile(kv, block, head).StoreKey(key + head * kv.head_dim, token);
    if (value != nullptr) ValueTile(kv, block, head).StoreValue(value + head * kv.value_dim, token);
  }
}

// The partial result of one head of one row; `scores` has room for a part.
void AttendPart(const AttentionArgs& args, int row, int head, int part, float* scores, float* partial) {
  const PagedKvLayer& kv = args.kv;
  const int kv_head = head / (args.num_heads / kv.num_kv_heads), padded_dim = PaddedKvDim(kv.value_dim);
  const bool is_latent = kv.value_base == nullptr;
  const int begin = part * kAttentionPartKeys;
  const int num_keys = std::min(args.first_position + row + 1 - begin, kAttentionPartKeys);
  const float* query = args.queries + row * args.query_stride + head * kv.head_dim;
  for (int key = 0; key < num_keys; ++key) {
    const int token = (begin + key) % kv.block_size;
    const KvTile keys = KeyTile(kv, args.block_table[(begin + key) / kv.block_size], kv_head);
    float dot = 0.0f;
    for (int d = 0; d < kv.head_dim; ++d) dot = std::fma(query[d], keys.Key(token, d), dot);
    scores[key] = dot * args.scale * keys.ScaleOf(token);
  }
  const float maximum = *std::max_element(scores, scores + num_keys);
  double sum = 0.0;
  std::fill(partial, partial + padded_dim, 0.0f);
  for (int key = 0; key < num_keys; ++key) {
    const int token = (begin + key) % kv.block_size;
    const int64_t block = args.block_table[(begin + key) / kv.block_size];
    const KvTile values = is_latent ? KeyTile(kv, block, kv_head) : ValueTile(kv, block, kv_head);
    const float weight = std::exp(scores[key] - maximum);
    const float value_weight = weight * values.ScaleOf(token);
    sum += weight;
    for (int d = 0; d < kv.value_dim; ++d) {
      const float value = is_latent ? values.Key(token, d) : values.Value(token, d);
      partial[d] = std::fma(value_weight, value, partial[d]);
    }
  }
  partial[padded_dim] = maximum;
  partial[padded_dim + 1] = static_cast<float>(sum);
}

// Merges the partial result of a part into that of the parts before it.
void MergePart(const float* part, int padded_dim, float* merged) {
  const float common = std::max(merged[padded_dim], part[padded_dim]);
  const float old_factor = std::exp(merged[padded_dim] - common), new_factor = std::exp(part[padded_dim] - common);
  for (int d = 0; d < padded_dim; ++d) merged[d] = merged[d] * old_factor + part[d] * new_factor;
  merged[padded_dim] = common;
  merged[padded_dim + 1] = merged[padded_dim + 1] * old_factor + part[padded_dim + 1] * new_factor;
}

void WriteOutput(const AttentionArgs& args, int row, int head, const float* merged) {
  const int value_dim = args.kv.value_dim;
  float* const output = args.output + row * args.output_stride + head * value_dim;
  for (int d = 0; d < value_dim; ++d) output[d] = merged[d] / merged[PaddedKvDim(value_dim) + 1];
}

float* PartialAt(const AttentionArgs& args, int part, int row, int head) {
  const int num_kv_heads = args.kv.num_kv_heads, group = args.num_heads / num_kv_heads;
  const int64_t kv_head_index = int64_t{part} * num_kv_heads + head / group;
  return args.partials + ((kv_head_index * args.num_rows + row) * group + head % group) *
                             AttentionPartialFloats(args.kv.value_dim);
}

void Attention(const AttentionArgs& args, int kv_head_begin, int kv_head_end, float* scratch) {
  const int group = args.num_heads / args.kv.num_kv_heads, padded_dim = PaddedKvDim(args.kv.value_dim);
  float* const scores = scratch;
  float* const part_result = scores + kAttentionPartKeys;
  float* const merged = part_result + AttentionPartialFloats(args.kv.value_dim);
  for (int row = 0; row < args.num_rows; ++row) {
    const int num_parts = NumAttentionParts(args.first_position + row + 1);
    for (int head = kv_head_begin * group; head < kv_head_end * group; ++head) {
      if (args.partials != nullptr) {
        for (int part = args.part_begin; part < std::min(args.part_end, num_parts); ++part) {
          AttendPart(args, row, head, part, scores, PartialAt(args, part, row, head));
        }
        continue;
      }
      AttendPart(args, row, head, 0, scores, merged);
      for (int part = 1; part < num_parts; ++part) {
        AttendPart(args, row, head, part, scores, part_result);
        MergePart(part_result, padded_dim, merged);
      }
      WriteOutput(args, row, head, merged);
    }
  }
}

int64_t AttentionScratchFloats(const AttentionArgs& args) {
  return kAttentionPartKeys + 2 * AttentionPartialFloats(args.kv.value_dim);
}

void MergeAttention(const AttentionArgs& args, int kv_head_begin, int kv_head_end) {
  const int group = args.num_heads / args.kv.num_kv_heads;
  for (int row = 0; row < args.num_rows; ++row) {
    for (int head = kv_head_begin * group; head < kv_head_end * group; ++head) {
      float* const merged = PartialAt(args, 0, row, head);
      for (int part = 1; part < NumAttentionParts(args.first_position + row + 1); ++part) {
        MergePart(PartialAt(args, part, row, head), PaddedKvDim(args.kv.value_dim), merged);
      }
      WriteOutput(args, row, head, merged);
    }
  }
}

int64_t RunProducts(InputForm, int64_t num_steps) {
  constexpr int kSums = 8;
  float sums[kSums] = {};
  for (int64_t step = 0; step < num_steps; ++step) {
    for (float& sum : sums) sum = std::fma(sum, 0.5f, 1.0f);
  }
  for (float& sum : sums) __asm__ volatile("" : "+m"(sum));  // nobody reads them
  return num_steps * kSums * 2;
}

}  // namespace

const Kernels& ScalarKernels() {
  static constexpr Kernels kTable = {
      .isa = "scalar",
      .bf16_input = InputForm::kF32,
    .matmul = Matmul,
    .quantize = Quantize,
    .round_to_bf16 = RoundToBf16,
      .rms_norm = RmsNorm,
    .layer_norm = LayerNorm,
      .add = Add,
      .add_scaled = AddScaled,
      .silu_mul = SiluMul,
    .gelu_erf = GeluErf,
    .gelu_tanh = GeluTanh,
      .rope = Rope,
      .softmax = Softmax,
      .argmax = Argmax,
      .summarize_logits = SummarizeLogits,
      .logit_masses = LogitMasses,
      .sum_masses = SumMasses,
      .find_logits = FindLogits,
      .store_kv = StoreKv,
      .attention = Attention,
      .attention_scratch_floats = AttentionScratchFloats,
      .merge_attention = MergeAttention,
      .run_products = RunProducts,
  };
  return kTable;
}

}  // namespace expertd
