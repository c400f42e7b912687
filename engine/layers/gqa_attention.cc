// Grouped-query attention (arXiv 2305.13245) over the paged cache: q, k and v in one product, norms and rotation of the
// heads, the attention of the step, the output product. In a layer with learned queries, the product makes k and v.
// Used by the models through attention.h.
#include <cmath>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/attention.h"
#include "engine/layers/linear.h"
#include "engine/layers/norm.h"
#include "engine/platform/cpu.h"

namespace expertd {
namespace {

// Rotating, normalizing and storing one head element, in multiply-adds of a product.
constexpr int64_t kPrepareElementWork = 8;

class GqaAttention : public Attention {
 public:
  struct Parts {
    Linear qkv;                      // or k and v, with a query table
    std::vector<float> query_table;  // [positions, query width], or empty
    Linear output;
    RmsNorm q_norm, k_norm;
  };

  GqaAttention(const GqaSpec& spec, Parts parts) : spec_(spec), parts_(std::move(parts)) {}

  int64_t size_bytes() const override {
    return parts_.qkv.size_bytes() + static_cast<int64_t>(parts_.query_table.size() * sizeof(float)) +
           parts_.output.size_bytes() + parts_.q_norm.size_bytes() + parts_.k_norm.size_bytes();
  }

  InputNeeds input_needs(const Kernels& kernels) const override { return {.form = parts_.qkv.input_form(kernels)}; }

  void AddTo(const LayerInput& x, const AttentionStep& step, int layer, KvCache& kv, float* residual,
             ForwardContext& context) const override {
    const int num_rows = step.batch->num_tokens();
    ScratchArena::Scope scope(context.scratch);
    float* const qkv = context.scratch.Take<float>(num_rows * qkv_width());
    float* const attended = context.scratch.Take<float>(num_rows * query_width());
    float* const product = parts_.query_table.empty() ? qkv : qkv + query_width();
    parts_.qkv.Forward(x.rows, num_rows, product, qkv_width(), context);
    const PagedKvLayer paged = PagedLayer(kv, layer);
    const AttentionRows rows = {qkv, qkv_width(), attended, query_width()};
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec_.head_dim)));
    const auto prepare = [&](int row) { Prepare(step, row, paged, qkv, context.kernels); };
    Attend(step, rows, scale, paged, prepare, kPrepareElementWork * qkv_width(), context);
    parts_.output.AddTo(attended, query_width(), num_rows, residual, context);
  }

 private:
  int64_t query_width() const { return int64_t{spec_.num_heads} * spec_.head_dim; }
  int64_t kv_width() const { return int64_t{spec_.num_kv_heads} * spec_.head_dim; }
  int64_t qkv_width() const { return query_width() + 2 * kv_width(); }

  // Puts the q and k heads of a row in order in place and stores its K and V.
  void Prepare(const AttentionStep& step, int row, const PagedKvLayer& layer, float* qkv,
               const Kernels& kernels) const {
    float* const query = qkv + row * qkv_width();
    float* const key = query + query_width();
    const RopeRow angles = step.angles[row];
    if (parts_.query_table.empty()) {
      PrepareHeads(query, spec_.num_heads, parts_.q_norm, angles, kernels);
    } else {
      std::memcpy(query, parts_.query_table.data() + step.batch->positions[row] * query_width(),
                  static_cast<size_t>(query_width()) * sizeof(float));
    }
    PrepareHeads(key, spec_.num_kv_heads, parts_.k_norm, angles, kernels);
    kernels.store_kv(key, key + kv_width(), step.slots[row], layer);
  }

  void PrepareHeads(float* heads, int num_heads, const RmsNorm& norm, const RopeRow& angles,
                    const Kernels& kernels) const {
    for (int head = 0; head < num_heads; ++head, heads += spec_.head_dim) {
      if (spec_.has_qk_norm) norm.Apply(heads, heads, kernels);
      if (spec_.has_rope) kernels.rope(angles.cos, angles.sin, spec_.head_dim, heads);
    }
  }

  const GqaSpec spec_;
  const Parts parts_;
};

absl::StatusOr<Linear> LoadQkv(const GqaSpec& spec, int hidden_size, const GqaNames& names, WeightReader& reader) {
  const int kv_width = spec.num_kv_heads * spec.head_dim;
  const int query_width = spec.num_heads * spec.head_dim;
  const bool has_bias = spec.has_qkv_bias;
  const Projection projections[] = {
      {names.q, query_width, has_bias}, {names.k, kv_width, has_bias}, {names.v, kv_width, has_bias}};
  return LoadLinear(projections, {.name = names.q + "+kv", .cols = hidden_size}, reader);
}

absl::StatusOr<Linear> LoadKv(const GqaSpec& spec, int hidden_size, const GqaNames& names, WeightReader& reader) {
  const int kv_width = spec.num_kv_heads * spec.head_dim;
  const Projection projections[] = {{names.k, kv_width, spec.has_qkv_bias}, {names.v, kv_width, spec.has_qkv_bias}};
  return LoadLinear(projections, {.name = names.k + "+v", .cols = hidden_size}, reader);
}

absl::StatusOr<Linear> LoadOutput(const GqaSpec& spec, int hidden_size, const GqaNames& names, WeightReader& reader) {
  return LoadLinear({names.output, hidden_size, spec.has_output_bias}, spec.num_heads * spec.head_dim, reader);
}

// The queries of all positions, [num_positions, query width]; empty when the weights are only being packed, which hands
// out no bytes.
absl::StatusOr<std::vector<float>> LoadQueryTable(const GqaSpec& spec, int hidden_size, int num_positions,
                                                  const GqaNames& names, WeightReader& reader) {
  const int width = spec.num_heads * spec.head_dim;
  const Projection query[] = {{names.q, width, spec.has_qkv_bias}};
  const MatrixSpec matrix = {.name = names.q, .cols = hidden_size, .format = WeightFormat::kF32};
  ASSIGN_OR_RETURN(const Linear project, LoadLinear(query, matrix, reader));
  ASSIGN_OR_RETURN(const SharedBytes rows,
                   reader.Table(names.query_table + ".weight", num_positions, hidden_size, DType::kF32));
  if (rows.data == nullptr) return std::vector<float>();
  // On this thread, as layers are loaded side by side. All kernels give the same bits for f32.
  std::vector<float> table(static_cast<size_t>(num_positions) * static_cast<size_t>(width));
  project.ForwardHere(reinterpret_cast<const float*>(rows.data), num_positions, table.data(),
                      SelectKernels(DetectCpu()));
  return table;
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
  GqaAttention::Parts parts;
  ASSIGN_OR_RETURN(parts.qkv, LoadQkv(spec, hidden_size, names, reader));
  ASSIGN_OR_RETURN(parts.output, LoadOutput(spec, hidden_size, names, reader));
  if (spec.has_qk_norm) {
    ASSIGN_OR_RETURN(parts.q_norm, LoadRmsNorm(names.q_norm, spec.head_dim, rms_norm_eps, reader));
    ASSIGN_OR_RETURN(parts.k_norm, LoadRmsNorm(names.k_norm, spec.head_dim, rms_norm_eps, reader));
  }
  return std::make_unique<GqaAttention>(spec, std::move(parts));
}

absl::StatusOr<std::unique_ptr<Attention>> LoadQueryAttention(const GqaSpec& spec, int hidden_size, int num_positions,
                                                              const GqaNames& names, WeightReader& reader) {
  if (spec.has_qk_norm || spec.has_rope) {
    return absl::UnimplementedError("learned queries with norms or rotation are not supported");
  }
  GqaAttention::Parts parts;
  ASSIGN_OR_RETURN(parts.qkv, LoadKv(spec, hidden_size, names, reader));
  ASSIGN_OR_RETURN(parts.output, LoadOutput(spec, hidden_size, names, reader));
  ASSIGN_OR_RETURN(parts.query_table, LoadQueryTable(spec, hidden_size, num_positions, names, reader));
  return std::make_unique<GqaAttention>(spec, std::move(parts));
}

}  // namespace expertd
