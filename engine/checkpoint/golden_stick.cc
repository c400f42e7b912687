// Tensors of golden-stick and what they mean; X is a linear map of n outputs and k inputs, E the number of experts.
//   X._layer.weight                i8 [n, k]; of all experts i8 [E, k, n], or [E, k, n / 2] of 4-bit codes, of which
//                                  outputs 2j and 2j + 1 share a byte, the even one in the low half
//   X._layer.matmul.dequant_scale  [n], with X._layer.matmul.quant_bias i32 [n], X.quant_op.input_scale and
//                                  X.quant_op.input_zp: static; as deq_scale, quant_bias, input_scale and input_offset
//                                  in ascend_weights.cc
//   X._layer.matmul.weight_scale   [n]: dynamic; of all experts [E, n], or [E, groups, n] of 4-bit codes
//   X._layer.matmul.gmm_bias       serves another arithmetic
//   X.quant_op.beta                [k], added to the inputs: the bias of the norm before, which others keep once
// Scales are floats, or have a float's bits in the lower half of 64. A linear map that is not quantized is X.weight.
//
// The format's description gives these endings, the names of linear maps and of the router below, the stacks, and that
// rotated rows lie evens-then-odds. The rest follows scripts of golden-stick and MindFormers that convert such folders,
// and is UNVERIFIED against a published one: the names of norms and tables; lkv2kv in two tensors; q_proj of V2-Lite;
// qkv2l, and w_gate_hidden outside the routed experts; 4-bit scales called weight_scale, where the description says
// w_scale; 4-bit codes of type i8 or u8; an input_scale for every input, by which inputs are divided one by one.
#include "engine/checkpoint/golden_stick.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/quantized_tensors.h"

namespace expertd {
namespace {

using WeightPtr = std::unique_ptr<StoredWeight>;

constexpr std::string_view kLayerMark = "._layer.", kInputMark = ".quant_op.";
constexpr std::string_view kCodes = "._layer.weight", kFloats = ".weight";
constexpr std::string_view kQuantBias = "._layer.matmul.quant_bias", kBeta = ".quant_op.beta";
constexpr std::string_view kDequantScale = "._layer.matmul.dequant_scale";
constexpr std::string_view kWeightScale = "._layer.matmul.weight_scale", kWScale = "._layer.matmul.w_scale";
constexpr std::string_view kWeightOffset = "._layer.matmul.weight_offset";
constexpr std::string_view kInputScale = ".quant_op.input_scale", kInputZero = ".quant_op.input_zp";
constexpr std::string_view kBiases[] = {"._layer.bias", ".bias"};

// What a quantized module may consist of.
constexpr std::string_view kKnown[] = {
    kCodes,      kDequantScale, kWeightScale, kWScale, kWeightOffset, kQuantBias, "._layer.matmul.gmm_bias",
    kInputScale, kInputZero,    kBeta,        kBiases[0],
};

// ---- names ----

constexpr std::string_view kLayers = "model.layers.", kExperts = "mlp.experts.";
constexpr std::string_view kJointDown = "qkv2l", kLatentUp = "lkv2kv";
constexpr std::string_view kKeyUp = "attention.lkv2kv_k_nope.weight", kValueUp = "attention.lkv2kv_v.weight";

// Which rows of a linear map are rotated: the last qk_rope_head_dim, or the last so many of every head.
enum class Rotated { kNone, kLast, kLastOfHeads };

// Of two linear maps that are stored as one.
enum class Share { kFirst, kLast };

struct LinearName {
  std::string_view port;  // as Hugging Face calls it
  std::string_view file;
  std::string_view joint = "";  // the two as one
  Share share = Share::kFirst;
  Rotated rotated = Rotated::kNone;
};

constexpr LinearName kLinears[] = {
    {"q_proj", "q_proj", "", Share::kFirst, Rotated::kLastOfHeads},
    {"q_a_proj", "q2l_proj", kJointDown, Share::kFirst},
    {"kv_a_proj_with_mqa", "kv2l", kJointDown, Share::kLast, Rotated::kLast},
    {"q_b_proj", "l2q_proj", "", Share::kFirst, Rotated::kLastOfHeads},
    {"kv_b_proj", kLatentUp},
    {"o_proj", "wo"},
    {"gate_proj", "w1", "w_gate_hidden", Share::kFirst},
    {"up_proj", "w3", "w_gate_hidden", Share::kLast},
    {"down_proj", "w2"},
};

struct NamePair {
  std::string_view port, file;
};

// What linear maps of a layer are part of. Behind kExperts stands the number of the expert; the file stacks them.
constexpr NamePair kPlaces[] = {
    {kExperts, "feed_forward.routed_experts.ffn."},
    {"mlp.shared_experts.", "feed_forward.shared_experts."},
    {"mlp.", "feed_forward."},
    {"self_attn.", "attention."},
};

// The other tensors: of a layer, and outside.
constexpr NamePair kLayerTensors[] = {
    {"input_layernorm.weight", "attention_norm.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"self_attn.q_a_layernorm.weight", "attention.lq_norm.weight"},
    {"self_attn.kv_a_layernorm.weight", "attention.lkv_norm.weight"},
    {"mlp.gate.weight", "feed_forward.routed_experts.router.dense.weight"},
    {"mlp.gate.e_score_correction_bias", "feed_forward.routed_experts.router.e_score_correction_bias"},
};
constexpr NamePair kOtherTensors[] = {
    {"model.embed_tokens.weight", "model.tok_embeddings.embedding_weight"},
    {"model.norm.weight", "model.norm_out.weight"},
};

// Modules that the output of a norm goes to, which each have a beta of their own, by the name of the norm's bias.
struct NormReaders {
  std::string_view bias, place;
  std::array<std::string_view, 4> modules;
};
constexpr NormReaders kNormReaders[] = {
    {"input_layernorm.bias", "attention.", {"q_proj", "q2l_proj", "kv2l", "qkv2l"}},
    {"self_attn.q_a_layernorm.bias", "attention.", {"l2q_proj"}},
    {"post_attention_layernorm.bias", "feed_forward.", {"w1", "w3", "w_gate_hidden"}},
    {"post_attention_layernorm.bias", "feed_forward.shared_experts.", {"w1", "w3", "w_gate_hidden"}},
    {"post_attention_layernorm.bias", "feed_forward.routed_experts.ffn.", {"w1", "w3", "w_gate_hidden"}},
    {"post_attention_layernorm.bias", "feed_forward.routed_experts.router.", {"dense"}},
};

// "model.layers.3.mlp.gate.weight" as "model.layers.3." and "mlp.gate.weight"; the first is empty for other names.
struct LayerName {
  std::string_view layer, rest;
};

LayerName SplitLayer(std::string_view name) {
  const size_t dot = name.starts_with(kLayers) ? name.find('.', kLayers.size()) : std::string_view::npos;
  if (dot == std::string_view::npos) return {"", name};
  return {name.substr(0, dot + 1), name.substr(dot + 1)};
}

// ---- weights ----

// A row of one of several weights.
struct FileRow {
  size_t weight = 0;
  int64_t row = 0;
};
using RowMap = std::function<FileRow(int64_t)>;

// Rows of other weights in another order: row r is `from(r)`. Codes are kept where all rows are of one weight.
class MappedWeight : public StoredWeight {
 public:
  MappedWeight(int64_t rows, std::vector<WeightPtr> weights, RowMap from, std::vector<WeightTensor> tensors)
      : StoredWeight(weights[0]->scheme(), rows, weights[0]->cols(), std::move(tensors)),
        weights_(std::move(weights)),
        from_(std::move(from)) {}

  std::optional<WeightFormat> native_format() const override {
    return weights_.size() == 1 ? weights_[0]->native_format() : std::nullopt;
  }
  bool has_zero_points() const override { return weights_[0]->has_zero_points(); }

  absl::Status ReadRow(int64_t row, float* out) const override {
    const FileRow from = from_(row);
    return weights_[from.weight]->ReadRow(from.row, out);
  }
  absl::Status ReadQuantizedRow(int64_t row, QuantizedRow& out) const override {
    const FileRow from = from_(row);
    return weights_[from.weight]->ReadQuantizedRow(from.row, out);
  }

 private:
  const std::vector<WeightPtr> weights_;
  const RowMap from_;
};

// The weight of inputs that are divided by `divisors` [cols] one by one.
class DividedWeight : public StoredWeight {
 public:
  DividedWeight(WeightPtr weight, std::vector<float> divisors)
      : StoredWeight(weight->scheme(), weight->rows(), weight->cols(), weight->tensors()),
        weight_(std::move(weight)),
        divisors_(std::move(divisors)) {}

  absl::Status ReadRow(int64_t row, float* out) const override {
    RETURN_IF_ERROR(weight_->ReadRow(row, out));
    for (int64_t k = 0; k < cols(); ++k) out[k] /= divisors_[k];
    return absl::OkStatus();
  }

 private:
  const WeightPtr weight_;
  const std::vector<float> divisors_;
};

// Floats [cols, rows], inputs first.
class ColumnFloats : public StoredWeight {
 public:
  ColumnFloats(const WeightTensor& tensor, int64_t rows, int64_t cols)
      : StoredWeight("float", rows, cols, {tensor}), tensor_(tensor) {}

  absl::Status ReadRow(int64_t row, float* out) const override {
    const int64_t width = DTypeBytes(tensor_.dtype);
    for (int64_t k = 0; k < cols(); ++k) ToFloats(tensor_.dtype, tensor_.data + (k * rows() + row) * width, 1, out + k);
    return absl::OkStatus();
  }

 private:
  const WeightTensor tensor_;
};

WeightTensor SliceOf(WeightTensor stack, int64_t index) {
  stack.size_bytes /= stack.shape.front();
  stack.data += index * stack.size_bytes;
  stack.shape.erase(stack.shape.begin());
  return stack;
}

// As large a part of `tensor` as `rows` are of `total`: what reading those rows counts for, and lets go.
WeightTensor ShareOf(WeightTensor tensor, int64_t row_begin, int64_t rows, int64_t total) {
  const int64_t begin = tensor.size_bytes * row_begin / total;
  tensor.size_bytes = tensor.size_bytes * (row_begin + rows) / total - begin;
  tensor.data += begin;
  return tensor;
}

// ---- the checkpoint ----

// Of config.json.
struct Sizes {
  int64_t q_lora_rank = 0, kv_lora_rank = 0, nope_dim = 0, rope_dim = 0, value_dim = 0, num_experts = 0;
};

class GoldenStickWeights : public StoredWeights {
 public:
  GoldenStickWeights(const WeightSource& source, const Sizes& sizes) : StoredWeights(source), sizes_(sizes) {}

  bool Has(std::string_view name) const override {
    if (const auto linear = FindLinear(name, ".weight")) {
      if (linear->expert.value_or(-1) >= sizes_.num_experts) return false;
      return IsStored(linear->module) || HasLatentUpInTwo(*linear);
    }
    if (const auto linear = FindLinear(name, ".bias")) return FindBias(linear->module).has_value();
    if (IsNormBias(name)) return !BetasOf(name).empty();
    return source().Has(NameInFile(name));
  }

  absl::StatusOr<WeightPtr> Open(std::string_view name, std::span<const int64_t> shape) const override {
    const std::optional<Linear> linear = FindLinear(name, ".weight");
    if (!linear || shape.size() != 2) return StoredWeights::Open(NameInFile(name), shape);
    const int64_t rows = shape[0], total = TotalRows(*linear, rows);
    if (HasLatentUpInTwo(*linear)) return OpenLatentUp(*linear, rows, shape[1]);
    ASSIGN_OR_RETURN(WeightPtr whole, OpenWhole(*linear, total, shape[1]));
    if (total == rows && linear->name->rotated == Rotated::kNone) return whole;
    std::vector<WeightTensor> tensors;
    for (const WeightTensor& tensor : whole->tensors()) {
      tensors.push_back(ShareOf(tensor, FirstRow(*linear, rows), rows, total));
    }
    std::vector<WeightPtr> weights;
    weights.push_back(std::move(whole));
    const auto from = [row_of = RowInFile(*linear, rows)](int64_t row) { return FileRow{0, row_of(row)}; };
    return std::make_unique<MappedWeight>(rows, std::move(weights), from, std::move(tensors));
  }

  absl::StatusOr<std::vector<float>> Vector(std::string_view name, int64_t size) const override {
    if (IsNormBias(name)) return ReadNormBias(name, size);
    const std::optional<Linear> linear = FindLinear(name, ".bias");
    if (!linear) return StoredWeights::Vector(NameInFile(name), size);
    ASSIGN_OR_RETURN(const std::vector<float> whole, ReadBias(*linear, TotalRows(*linear, size)));
    std::vector<float> bias(static_cast<size_t>(size));
    const auto row_of = RowInFile(*linear, size);
    for (int64_t row = 0; row < size; ++row) bias[row] = whole[row_of(row)];
    return bias;
  }

  // Refuses tensors of modules that have a form which is none of those above, and betas that follow no norm.
  absl::Status CheckNames() const {
    for (const std::string& name : source().Names()) {
      const size_t mark = std::min(name.find(kLayerMark), name.find(kInputMark));
      if (mark == std::string::npos) continue;
      const std::string_view ending = std::string_view(name).substr(mark);
      if (std::ranges::find(kKnown, ending) == std::end(kKnown)) {
        return absl::UnimplementedError(
            StrCat("tensor ", ShowName(name), " is of a form of golden-stick that is not read; read are W8A8, static "
                   "and dynamic, and A8W4 of experts"));
      }
      if (ending == kBeta) RETURN_IF_ERROR(CheckFollowsNorm(name, name.substr(0, mark)));
    }
    return absl::OkStatus();
  }

 private:
  // A linear map as the file has it.
  struct Linear {
    const LinearName* name = nullptr;
    std::string layer;   // "model.layers.3."
    std::string module;  // with the layer
    bool is_joint = false;
    std::optional<int64_t> expert;
  };

  // X of `name` "X" + `ending`, joint with another one where it is stored so; nothing when X is no linear map.
  std::optional<Linear> FindLinear(std::string_view name, std::string_view ending) const {
    if (!name.ends_with(ending)) return std::nullopt;
    const auto [layer, rest] = SplitLayer(name.substr(0, name.size() - ending.size()));
    const auto* const place = std::ranges::find_if(
        kPlaces, [rest = rest](std::string_view port) { return rest.starts_with(port); }, &NamePair::port);
    if (layer.empty() || place == std::end(kPlaces)) return std::nullopt;
    std::string_view port = rest.substr(place->port.size());
    Linear linear = {.layer = std::string(layer)};
    if (place->port == kExperts) {
      const size_t dot = std::min(port.find('.'), port.size() - 1);
      if (!absl::SimpleAtoi(ToAbslView(port.substr(0, dot)), &linear.expert.emplace())) return std::nullopt;
      port.remove_prefix(dot + 1);
    }
    linear.name = std::ranges::find(kLinears, port, &LinearName::port);
    if (linear.name == std::end(kLinears)) return std::nullopt;
    linear.module = StrCat(layer, place->file, linear.name->file);
    if (linear.name->joint.empty() || IsStored(linear.module)) return linear;
    std::string joint = StrCat(layer, place->file, linear.name->joint);
    linear.is_joint = IsStored(joint);
    if (linear.is_joint) linear.module = std::move(joint);
    return linear;
  }

  static std::string NameInFile(std::string_view name) {
    const LayerName split = SplitLayer(name);
    for (const NamePair& pair : kLayerTensors) {
      if (!split.layer.empty() && split.rest == pair.port) return StrCat(split.layer, pair.file);
    }
    const auto* const found = std::ranges::find(kOtherTensors, name, &NamePair::port);
    return std::string(found == std::end(kOtherTensors) ? name : found->file);
  }

  bool HasOf(const std::string& module, std::string_view ending) const { return source().Has(StrCat(module, ending)); }
  bool IsStored(const std::string& module) const { return HasOf(module, kCodes) || HasOf(module, kFloats); }
  std::string WeightName(const std::string& module) const {
    return StrCat(module, HasOf(module, kCodes) ? kCodes : kFloats);
  }

  // ---- rows ----

  // Of the stored tensor when a linear map has `rows`.
  int64_t TotalRows(const Linear& linear, int64_t rows) const {
    if (!linear.is_joint) return rows;
    if (linear.name->joint != kJointDown) return 2 * rows;
    return sizes_.q_lora_rank + sizes_.kv_lora_rank + sizes_.rope_dim;
  }

  int64_t FirstRow(const Linear& linear, int64_t rows) const {
    return linear.name->share == Share::kLast ? TotalRows(linear, rows) - rows : 0;
  }

  // Where a row lies. Of rotated ones the file has the first of every pair, and then the second of every pair.
  std::function<int64_t(int64_t)> RowInFile(const Linear& linear, int64_t rows) const {
    const int64_t first = FirstRow(linear, rows);
    const Rotated rotated = linear.name->rotated;
    if (rotated == Rotated::kNone) return [first](int64_t row) { return first + row; };
    const int64_t num_rotated = sizes_.rope_dim;
    const int64_t period = rotated == Rotated::kLast ? rows : sizes_.nope_dim + num_rotated;
    return [=](int64_t row) {
      const int64_t i = row % period - (period - num_rotated);
      return first + (i < 0 ? row : row - i + i / 2 + i % 2 * (num_rotated / 2));
    };
  }

  // ---- weights ----

  bool HasLatentUpInTwo(const Linear& linear) const {
    return linear.name->file == kLatentUp && !IsStored(linear.module) && HasOf(linear.layer, kKeyUp);
  }

  // kv_b_proj, of which each head has rows of keys and then of values; the file has those of all heads apart.
  absl::StatusOr<WeightPtr> OpenLatentUp(const Linear& linear, int64_t rows, int64_t cols) const {
    const int64_t key_rows = sizes_.nope_dim, value_rows = sizes_.value_dim, head_rows = key_rows + value_rows;
    const int64_t num_heads = rows / head_rows;
    std::vector<WeightPtr> weights(2);
    const int64_t keys_shape[] = {num_heads * key_rows, cols}, values_shape[] = {num_heads * value_rows, cols};
    ASSIGN_OR_RETURN(weights[0], StoredWeights::Open(StrCat(linear.layer, kKeyUp), keys_shape));
    ASSIGN_OR_RETURN(weights[1], StoredWeights::Open(StrCat(linear.layer, kValueUp), values_shape));
    std::vector<WeightTensor> tensors = {weights[0]->tensors()[0], weights[1]->tensors()[0]};
    const auto from = [=](int64_t row) {
      const int64_t head = row / head_rows, i = row % head_rows;
      return i < key_rows ? FileRow{0, head * key_rows + i} : FileRow{1, head * value_rows + i - key_rows};
    };
    return std::make_unique<MappedWeight>(rows, std::move(weights), from, std::move(tensors));
  }

  // All rows of a module, in the file's order.
  absl::StatusOr<WeightPtr> OpenWhole(const Linear& linear, int64_t rows, int64_t cols) const {
    const std::string name = WeightName(linear.module);
    ASSIGN_OR_RETURN(const WeightTensor tensor, source().Get(name));
    if (!IsFloat(tensor.dtype)) return OpenCodes(linear, rows, cols);
    if (!linear.expert) return StoredWeights::Open(name, std::vector{rows, cols});
    ASSIGN_OR_RETURN(const WeightTensor stack, GetShaped(source(), name, std::vector{sizes_.num_experts, cols, rows}));
    return std::make_unique<ColumnFloats>(SliceOf(stack, *linear.expert), rows, cols);
  }

  // The codes of a module, without scales.
  absl::StatusOr<IntegerCodes> FindCodes(const Linear& linear, int64_t rows, int64_t cols) const {
    IntegerCodes integers = {.name = WeightName(linear.module)};
    ASSIGN_OR_RETURN(integers.codes, source().Get(integers.name));
    std::vector<int64_t> wanted = {rows, cols};
    if (linear.expert) {
      wanted = {sizes_.num_experts, cols, rows};
      const bool is_packed = rows % 2 == 0 && integers.codes.shape == std::vector{sizes_.num_experts, cols, rows / 2};
      integers.layout = is_packed ? CodeLayout::kColumnRowPairs : CodeLayout::kColumnBytes;
      integers.bits = is_packed ? 4 : 8;
    }
    const bool has_dtype = integers.codes.dtype == DType::kI8 ||
                           (integers.codes.dtype == DType::kU8 && integers.bits == 4);
    if (!has_dtype || (integers.codes.shape != wanted && integers.bits == 8)) {
      return absl::InvalidArgumentError(StrCat("tensor ", ShowName(integers.name), " has dtype ",
                                               ShowDType(integers.codes.dtype), " and shape ",
                                               ShowShape(integers.codes.shape), "; config.json calls for I8 ",
                                               ShowShape(wanted)));
    }
    if (linear.expert) integers.codes = SliceOf(integers.codes, *linear.expert);
    return integers;
  }

  absl::StatusOr<WeightPtr> OpenCodes(const Linear& linear, int64_t rows, int64_t cols) const {
    ASSIGN_OR_RETURN(IntegerCodes integers, FindCodes(linear, rows, cols));
    std::vector<WeightTensor> tensors = {integers.codes};
    std::vector<float> divisors;
    const bool is_static = !HasOf(linear.module, kWeightScale) && !HasOf(linear.module, kWScale) &&
                           HasOf(linear.module, kInputScale);
    if (is_static) {
      ASSIGN_OR_RETURN(divisors, ReadStaticScales(linear, rows, cols, integers, tensors));
    } else {
      RETURN_IF_ERROR(ReadDynamicScales(linear, rows, cols, integers, tensors));
    }
    const std::string_view scheme = integers.bits == 4 ? "golden_stick_a8w4"
                                    : is_static        ? "golden_stick_w8a8"
                                                       : "golden_stick_w8a8_dynamic";
    WeightPtr weight = MakeIntegerWeight(scheme, rows, cols, std::move(integers), std::move(tensors));
    if (divisors.empty()) return weight;
    return std::make_unique<DividedWeight>(std::move(weight), std::move(divisors));
  }

  // The tensor X + `ending` of `shape`; of a stack, [num_experts] + shape, the part of the expert.
  absl::StatusOr<WeightTensor> GetPart(const Linear& linear, std::string_view ending,
                                       std::vector<int64_t> shape) const {
    const std::string name = StrCat(linear.module, ending);
    ASSIGN_OR_RETURN(WeightTensor tensor, source().Get(name));
    if (linear.expert) shape.insert(shape.begin(), sizes_.num_experts);
    if (tensor.shape != shape) {
      return absl::InvalidArgumentError(
          StrCat("tensor ", ShowName(name), " has shape ", ShowShape(tensor.shape), "; must be ", ShowShape(shape)));
    }
    return linear.expert ? SliceOf(std::move(tensor), *linear.expert) : tensor;
  }

  absl::Status ReadDynamicScales(const Linear& linear, int64_t rows, int64_t cols, IntegerCodes& integers,
                                 std::vector<WeightTensor>& tensors) const {
    const std::string_view ending = HasOf(linear.module, kWScale) ? kWScale : kWeightScale;
    const std::string name = StrCat(linear.module, ending);
    if (HasOf(linear.module, kWeightOffset)) {
      ASSIGN_OR_RETURN(const Grid offsets, ReadGrid(source(), StrCat(linear.module, kWeightOffset)));
      RETURN_IF_ERROR(CheckZeros(offsets));
    }
    ASSIGN_OR_RETURN(const WeightTensor whole, source().Get(name));
    const bool has_groups = integers.bits == 4 && whole.shape.size() == 3;
    const int64_t num_groups = has_groups ? whole.shape[1] : 1;
    ASSIGN_OR_RETURN(const WeightTensor tensor,
                     GetPart(linear, ending, has_groups ? std::vector{num_groups, rows} : std::vector{rows}));
    ASSIGN_OR_RETURN(const std::vector<float> values, ScaleValues(tensor, name));
    integers.num_groups = num_groups;
    ASSIGN_OR_RETURN(integers.group_size, GroupSize(cols, num_groups, /*said=*/0, name));
    integers.group_scales.resize(values.size());
    for (int64_t group = 0; group < num_groups; ++group) {
      for (int64_t row = 0; row < rows; ++row) {
        integers.group_scales[row * num_groups + group] = values[group * rows + row];
      }
    }
    tensors.push_back(tensor);
    return absl::OkStatus();
  }

  // One scale for each row. Returns what inputs are divided by, [cols], where that is not the same for all of them.
  absl::StatusOr<std::vector<float>> ReadStaticScales(const Linear& linear, int64_t rows, int64_t cols,
                                                      IntegerCodes& integers,
                                                      std::vector<WeightTensor>& tensors) const {
    ASSIGN_OR_RETURN(const WeightTensor tensor, GetPart(linear, kDequantScale, {rows}));
    ASSIGN_OR_RETURN(integers.group_scales, ScaleValues(tensor, StrCat(linear.module, kDequantScale)));
    ASSIGN_OR_RETURN(std::vector<float> input_scales, ReadPerInput(linear, kInputScale, cols));
    for (const float scale : input_scales) {
      if (scale > 0.0f) continue;
      return absl::InvalidArgumentError(
          StrCat("tensor ", ShowName(StrCat(linear.module, kInputScale)), " has the value ", scale,
                 "; must be positive"));
    }
    integers.group_size = cols;
    tensors.push_back(tensor);
    const float first = input_scales[0];
    if (std::ranges::any_of(input_scales, [first](float scale) { return scale != first; })) return input_scales;
    for (float& value : integers.group_scales) value /= first;
    return std::vector<float>();
  }

  // X + `ending`: one number for all inputs, or one for each.
  absl::StatusOr<std::vector<float>> ReadPerInput(const Linear& linear, std::string_view ending, int64_t cols) const {
    ASSIGN_OR_RETURN(Grid grid, ReadGrid(source(), StrCat(linear.module, ending)));
    if (grid.cols == 1 && (grid.rows == 1 || grid.rows == cols)) return std::move(grid.values);
    return absl::InvalidArgumentError(StrCat("tensor ", ShowName(grid.name), " has shape ",
                                             ShowShape(grid.tensor.shape), "; must be [1] or [", cols, "]"));
  }

  // ---- biases ----

  // The ending of the tensor that holds a module's bias. One of floats beside quant_bias is the same again.
  std::optional<std::string_view> FindBias(const std::string& module) const {
    if (HasOf(module, kQuantBias)) return kQuantBias;
    for (const std::string_view ending : kBiases) {
      if (HasOf(module, ending)) return ending;
    }
    return std::nullopt;
  }

  absl::StatusOr<std::vector<float>> ReadBias(const Linear& linear, int64_t rows) const {
    const std::string_view ending = FindBias(linear.module).value_or(kBiases[1]);
    if (ending == kQuantBias) return ReadBiasInCodes(linear, rows);
    ASSIGN_OR_RETURN(const WeightTensor tensor, GetPart(linear, ending, {rows}));
    return ScaleValues(tensor, StrCat(linear.module, ending));
  }

  // The codes as a weight, with as many inputs as the file says: a bias is asked for without them.
  absl::StatusOr<WeightPtr> OpenBareCodes(const Linear& linear, int64_t rows) const {
    const std::string name = WeightName(linear.module);
    ASSIGN_OR_RETURN(const WeightTensor tensor, source().Get(name));
    const int64_t cols = tensor.shape.size() < 2 ? 1 : std::max<int64_t>(tensor.shape[1], 1);
    absl::StatusOr<IntegerCodes> integers = FindCodes(linear, rows, cols);
    if (!integers.ok()) {
      return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " has dtype ", ShowDType(tensor.dtype),
                                               " and shape ", ShowShape(tensor.shape), "; must be I8 of ", rows,
                                               " outputs"));
    }
    integers->group_size = cols;
    integers->group_scales.assign(static_cast<size_t>(rows), 1.0f);
    return MakeIntegerWeight("codes", rows, cols, *std::move(integers), {});
  }

  // (quant_bias + sum of input_zp * codes of the row) * dequant_scale.
  absl::StatusOr<std::vector<float>> ReadBiasInCodes(const Linear& linear, int64_t rows) const {
    ASSIGN_OR_RETURN(const WeightPtr codes, OpenBareCodes(linear, rows));
    const int64_t cols = codes->cols();
    ASSIGN_OR_RETURN(const WeightTensor stored, GetPart(linear, kQuantBias, {rows}));
    if (stored.dtype != DType::kI32) {
      return absl::InvalidArgumentError(StrCat("tensor ", ShowName(StrCat(linear.module, kQuantBias)), " has dtype ",
                                               ShowDType(stored.dtype), "; must be I32"));
    }
    ASSIGN_OR_RETURN(const WeightTensor scales_tensor, GetPart(linear, kDequantScale, {rows}));
    ASSIGN_OR_RETURN(const std::vector<float> scales,
                     ScaleValues(scales_tensor, StrCat(linear.module, kDequantScale)));
    ASSIGN_OR_RETURN(const std::vector<float> zeros, ReadPerInput(linear, kInputZero, cols));
    std::vector<float> row_codes(static_cast<size_t>(cols)), bias(static_cast<size_t>(rows));
    for (int64_t row = 0; row < rows; ++row) {
      RETURN_IF_ERROR(codes->ReadRow(row, row_codes.data()));
      double correction = 0.0;
      for (int64_t k = 0; k < cols; ++k) correction += double{zeros[zeros.size() == 1 ? 0 : k]} * row_codes[k];
      int32_t steps;
      std::memcpy(&steps, stored.data + row * int64_t{sizeof(steps)}, sizeof(steps));
      bias[row] = static_cast<float>(BiasSteps(steps, correction) * scales[row]);
    }
    return bias;
  }

  // ---- biases of norms ----

  static bool IsNormBias(std::string_view name) {
    return std::ranges::find(kNormReaders, SplitLayer(name).rest, &NormReaders::bias) != std::end(kNormReaders);
  }

  // The modules of the layer that read the norm, where any of them has a beta.
  std::vector<std::string> BetasOf(std::string_view name) const {
    const LayerName split = SplitLayer(name);
    std::vector<std::string> modules;
    bool has_beta = false;
    for (const NormReaders& readers : kNormReaders) {
      if (readers.bias != split.rest) continue;
      for (const std::string_view reader : readers.modules) {
        std::string module = StrCat(split.layer, readers.place, reader);
        if (!IsStored(module)) continue;
        has_beta = has_beta || HasOf(module, kBeta);
        modules.push_back(std::move(module));
      }
    }
    return has_beta ? modules : std::vector<std::string>();
  }

  // What the modules that read a norm add to its output, which must be the same; one without a beta adds zeros.
  absl::StatusOr<std::vector<float>> ReadNormBias(std::string_view name, int64_t size) const {
    std::vector<float> bias;
    const std::vector<std::string> modules = BetasOf(name);
    for (const std::string& module : modules) {
      std::vector<float> beta(static_cast<size_t>(size));
      if (HasOf(module, kBeta)) {
        ASSIGN_OR_RETURN(beta, StoredWeights::Vector(StrCat(module, kBeta), size));
      }
      if (bias.empty()) bias = beta;
      if (bias == beta) continue;
      return absl::InvalidArgumentError(StrCat(modules[0], " and ", module, " follow one norm, but add different ",
                                               "biases to it (", kBeta.substr(1), ")"));
    }
    if (!bias.empty()) return bias;
    return absl::NotFoundError(StrCat("tensor ", ShowName(name), " is missing from the checkpoint"));
  }

  absl::Status CheckFollowsNorm(const std::string& name, const std::string& module) const {
    const std::string_view rest = SplitLayer(module).rest;
    for (const auto& [bias, place, modules] : kNormReaders) {
      if (!rest.starts_with(place)) continue;
      if (std::ranges::count(modules, rest.substr(place.size())) > 0) return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const Grid grid, ReadGrid(source(), name));
    return CheckZeros(grid);  // there is no norm that could add it
  }

  const Sizes sizes_;
};

}  // namespace

std::optional<std::string> FindGoldenStickTensor(const WeightSource& source) {
  for (std::string& name : source.Names()) {
    if (name.find(kLayerMark) != std::string::npos || name.find(kInputMark) != std::string::npos) return name;
  }
  return std::nullopt;
}

bool HasMindFormersNames(const WeightSource& source) {
  return source.Has(kOtherTensors[0].file) || FindGoldenStickTensor(source).has_value();
}

absl::StatusOr<std::unique_ptr<StoredWeights>> MakeGoldenStickWeights(const Json& config, const WeightSource& source) {
  constexpr int64_t kMost = 1 << 24;
  if (JsonFind(config, "kv_lora_rank") == nullptr) {
    const std::string name = FindGoldenStickTensor(source).value_or(std::string(kOtherTensors[0].file));
    return absl::UnimplementedError(StrCat("tensor ", ShowName(name), " is of MindSpore's golden-stick or MindFormers, "
                                           "which are read for DeepSeek only; export the checkpoint with Hugging Face "
                                           "names"));
  }
  Sizes sizes;
  ASSIGN_OR_RETURN(sizes.q_lora_rank, JsonIntOr(config, "q_lora_rank", 0, 0, kMost));
  ASSIGN_OR_RETURN(sizes.kv_lora_rank, JsonInt(config, "kv_lora_rank", 1, kMost));
  ASSIGN_OR_RETURN(sizes.nope_dim, JsonInt(config, "qk_nope_head_dim", 1, kMost));
  ASSIGN_OR_RETURN(sizes.rope_dim, JsonInt(config, "qk_rope_head_dim", 1, kMost));
  ASSIGN_OR_RETURN(sizes.value_dim, JsonInt(config, "v_head_dim", 1, kMost));
  ASSIGN_OR_RETURN(sizes.num_experts, JsonIntOr(config, "n_routed_experts", 0, 0, kMost));
  auto weights = std::make_unique<GoldenStickWeights>(source, sizes);
  RETURN_IF_ERROR(weights->CheckNames());
  return weights;
}

}  // namespace expertd
