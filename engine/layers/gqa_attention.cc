// Grouped-query attention (arXiv 2305.13245) over the paged cache: q, k and v in one product, norms and rotation of the
// heads, the attention of the step, the output product. Used by the models through attention.h.
#include <array>
#include <cmath>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/attention.h"
#include "engine/layers/linear.h"
#include "engine/layers/norm.h"

namespace expertd {
namespace {

// Rotating, normalizing and storing one head element, in multiply-adds of a product.
constexpr int64_t kPrepareElementWork = 8;

class GqaAttention : public Attention {
 public:
  GqaAttention(const GqaSpec& spec, Linear qkv, Linear output, RmsNorm q_norm, RmsNorm k_norm, int rotary_dim)
      : spec_(spec),
        rotary_dim_(rotary_dim),
        qkv_(std::move(qkv)),
        output_(std::move(output)),
        q_norm_(std::move(q_norm)),
        k_norm_(std::move(k_norm)) {}

  int64_t size_bytes() const override {
    return qkv_.size_bytes() + output_.size_bytes() + q_norm_.size_bytes() + k_norm_.size_bytes();
  }

  InputNeeds input_needs(const Kernels& kernels) const override { return {.form = qkv_.input_form(kernels)}; }

  void AddTo(const LayerInput& x, const AttentionStep& step, int layer, KvCache& kv, float* residual,
             ForwardContext& context) const override {
    const int num_rows = step.batch->num_tokens();
    ScratchArena::Scope scope(context.scratch);
    float* const qkv = context.scratch.Take<float>(num_rows * qkv_width());
    float* const attended = context.scratch.Take<float>(num_rows * query_width());
    qkv_.Forward(x.rows, num_rows, qkv, qkv_width(), context);
    const PagedKvLayer paged = PagedLayer(kv, layer);
    const AttentionRows rows = {qkv, qkv_width(), attended, query_width()};
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec_.head_dim)));
    const auto prepare = [&](int row) { Prepare(step, row, paged, qkv, context.kernels); };
    Attend(step, rows, scale, paged, prepare, kPrepareElementWork * qkv_width(), context);
    output_.AddTo(attended, query_width(), num_rows, residual, context);
  }

 private:
  int64_t query_width() const { return int64_t{spec_.num_heads} * spec_.head_dim; }
  int64_t kv_width() const { return int64_t{spec_.num_kv_heads} * spec_.head_dim; }
  int64_t qkv_width() const { return query_width() + 2 * kv_width(); }

  // Norms and turns the q and k heads of a row in place and stores its K and V.
  void Prepare(const AttentionStep& step, int row, const PagedKvLayer& layer, float* qkv,
               const Kernels& kernels) const {
    float* const query = qkv + row * qkv_width();
    float* const key = query + query_width();
    const RopeRow angles = step.angles[row];
    PrepareHeads(query, spec_.num_heads, q_norm_, angles, kernels);
    PrepareHeads(key, spec_.num_kv_heads, k_norm_, angles, kernels);
    kernels.store_kv(key, key + kv_width(), step.slots[row], layer);
  }

  void PrepareHeads(float* heads, int num_heads, const RmsNorm& norm, const RopeRow& angles,
                    const Kernels& kernels) const {
    for (int head = 0; head < num_heads; ++head, heads += spec_.head_dim) {
      if (spec_.has_qk_norm) norm.Apply(heads, heads, kernels);
      kernels.rope(angles.cos, angles.sin, rotary_dim_, heads);
    }
  }

  const GqaSpec spec_;
  const int rotary_dim_;
  const Linear qkv_;
  const Linear output_;
  const RmsNorm q_norm_;
  const RmsNorm k_norm_;
};

absl::StatusOr<Linear> LoadQkv(const GqaSpec& spec, int hidden_size, const GqaNames& names, WeightReader& reader) {
  const int query_width = spec.num_heads * spec.head_dim;
  const int kv_width = spec.num_kv_heads * spec.head_dim;
  const std::array<std::pair<std::string, int>, 3> sources = {
      {{names.q, query_width}, {names.k, kv_width}, {names.v, kv_width}}};
  MatrixSpec matrix = {.name = names.q + "+kv", .cols = hidden_size};
  std::vector<float> bias;
  for (const auto& [name, width] : sources) {
    matrix.parts.push_back(TensorRows::All(name + ".weight", width, hidden_size));
    if (!spec.has_qkv_bias) continue;
    ASSIGN_OR_RETURN(const std::vector<float> part_bias, reader.Vector(name + ".bias", width));
    bias.insert(bias.end(), part_bias.begin(), part_bias.end());
  }
  ASSIGN_OR_RETURN(WeightMatrix weight, reader.Matrix(matrix));
  return Linear(std::move(weight), std::move(bias));
}

absl::StatusOr<Linear> LoadOutput(const GqaSpec& spec, int hidden_size, const GqaNames& names, WeightReader& reader) {
  const int width = spec.num_heads * spec.head_dim;
  ASSIGN_OR_RETURN(WeightMatrix weight,
                   reader.Matrix({.name = names.output,
                                  .cols = width,
                                  .parts = {TensorRows::All(names.output + ".weight", hidden_size, width)}}));
  std::vector<float> bias;
  if (spec.has_output_bias) {
    ASSIGN_OR_RETURN(bias, reader.Vector(names.output + ".bias", hidden_size));
  }
  return Linear(std::move(weight), std::move(bias));
}

}  // namespace

AttentionShape ShapeOf(const GqaSpec& spec) {
  return {.num_heads = spec.num_heads,
          .num_groups = spec.num_kv_heads,
          .key_dim = spec.head_dim,
          .value_dim = spec.head_dim};
}

absl::StatusOr<std::unique_ptr<Attention>> LoadGqaAttention(const GqaSpec& spec, int hidden_size, double rms_norm_eps,
                                                            const GqaNames& names, WeightReader& reader) {
  ASSIGN_OR_RETURN(Linear qkv, LoadQkv(spec, hidden_size, names, reader));
  ASSIGN_OR_RETURN(Linear output, LoadOutput(spec, hidden_size, names, reader));
  RmsNorm q_norm, k_norm;
  if (spec.has_qk_norm) {
    ASSIGN_OR_RETURN(std::vector<float> q_weight, reader.Vector(StrCat(names.q_norm, ".weight"), spec.head_dim));
    ASSIGN_OR_RETURN(std::vector<float> k_weight, reader.Vector(StrCat(names.k_norm, ".weight"), spec.head_dim));
    q_norm = RmsNorm(std::move(q_weight), rms_norm_eps);
    k_norm = RmsNorm(std::move(k_weight), rms_norm_eps);
  }
  return std::make_unique<GqaAttention>(spec, std::move(qkv), std::move(output), std::move(q_norm), std::move(k_norm),
                                        spec.head_dim);
}

}  // namespace expertd
