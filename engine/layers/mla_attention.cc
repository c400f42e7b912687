// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434) in the absorbed form. Of each token the cache keeps the
// normed latent c and the rotated key part kr, which all heads share:
//   score[h, j] = (UK[h]^T qn[h] . c[j] + qr[h] . kr[j]) * scale,   out[h] = UV[h] sum_j p[h, j] c[j]
// with [qn | qr] the query of head h and kv_up = [UK | UV] by heads. So a head's query is as wide as a cached token,
// and attention over the cache is that of one K/V head whose values are the latents. Used by the models through
// attention.h.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/attention.h"
#include "engine/layers/linear.h"
#include "engine/layers/norm.h"
#include "engine/layers/work_split.h"

namespace expertd {
namespace {

// Heads that are attended to together: rows of a tile of the matrix units, and enough that the work of making values
// of a block's latents is a small part.
constexpr int kGroupHeads = 16;

// Rotating or storing one element, in multiply-adds of a product.
constexpr int64_t kPrepareElementWork = 8;

// Rows of one product of a head.
constexpr int kHeadTileRows = 64;

// One matrix for each head.
class HeadMatrices {
 public:
  HeadMatrices() = default;
  explicit HeadMatrices(std::vector<WeightMatrix> heads) : heads_(std::move(heads)) {}

  int64_t size_bytes() const {
    int64_t total = 0;
    for (const WeightMatrix& head : heads_) total += head.size_bytes();
    return total;
  }

  // y[row, h] = x[row, h] W[h]^T for rows [0, num_rows) and all heads. Rows are x_stride and y_stride apart, heads
  // x_head_stride and y_head_stride.
  void Forward(const float* x, int64_t x_stride, int64_t x_head_stride, int num_rows, float* y, int64_t y_stride,
               int64_t y_head_stride, ForwardContext& context) const {
    ScratchArena::Scope scope(context.scratch);
    const int num_heads = static_cast<int>(heads_.size());
    const int num_inputs = heads_.front().cols(), num_outputs = heads_.front().rows();
    const InputForm form = InputFormOf(heads_.front(), context);
    const int tile_rows = std::min(num_rows, kHeadTileRows);
    const int num_tiles = static_cast<int>(CeilDiv(num_rows, tile_rows));
    InputRows converted;
    if (form != InputForm::kF32) {
      converted = TakeInputRows(form, num_inputs, tile_rows * context.pool.num_threads(), context.scratch);
    }
    const int64_t item_work = int64_t{tile_rows} * num_inputs * num_outputs;
    ParallelRows(context.pool, num_heads * num_tiles, item_work, [&](int begin, int end, int thread) {
      for (int item = begin; item < end; ++item) {
        const int head = item / num_tiles, row = item % num_tiles * tile_rows;
        const int count = std::min(tile_rows, num_rows - row);
        const float* const from = x + row * x_stride + head * x_head_stride;
        InputRows rows = InputRows::Floats(from, x_stride);
        if (form != InputForm::kF32) {
          rows = RowsFrom(converted, int64_t{thread} * tile_rows);
          for (int64_t i = 0; i < count; ++i) ConvertRow(from + i * x_stride, num_inputs, i, rows, context.kernels);
        }
        context.kernels.matmul(rows, count, heads_[head].packed(), /*bias=*/nullptr, 0, num_outputs,
                               y + row * y_stride + head * y_head_stride, y_stride);
      }
    });
  }

 private:
  std::vector<WeightMatrix> heads_;
};

class MlaAttention : public Attention {
 public:
  // What is read from the checkpoint. `down` yields [query or its latent | c | kr] of a row.
  struct Parts {
    Linear down;
    RmsNorm q_norm, kv_norm;  // q_norm and q_up are unused without q_lora_rank
    Linear q_up;
    HeadMatrices key_up;    // UK[h]^T: [kv_lora_rank, qk_nope_head_dim]
    HeadMatrices value_up;  // UV[h]: [v_head_dim, kv_lora_rank]
    Linear output;
  };

  MlaAttention(const MlaSpec& spec, Parts parts) : spec_(spec), parts_(std::move(parts)) {}

  int64_t size_bytes() const override {
    return parts_.down.size_bytes() + parts_.q_norm.size_bytes() + parts_.kv_norm.size_bytes() +
           parts_.q_up.size_bytes() + parts_.key_up.size_bytes() + parts_.value_up.size_bytes() +
           parts_.output.size_bytes();
  }

  InputNeeds input_needs(const Kernels& kernels) const override { return {.form = parts_.down.input_form(kernels)}; }

  void AddTo(const LayerInput& x, const AttentionStep& step, int layer, KvCache& kv, float* residual,
             ForwardContext& context) const override {
    ScratchArena::Scope scope(context.scratch);
    const int num_rows = step.batch->num_tokens();
    float* const down = context.scratch.Take<float>(num_rows * down_width());
    parts_.down.Forward(x.rows, num_rows, down, down_width(), context);
    const Queries raw = ProjectQueries(down, num_rows, context);

    float* const queries = context.scratch.Take<float>(num_rows * query_width());
    parts_.key_up.Forward(raw.data, raw.stride, spec_.query_head_dim(), num_rows, queries, query_width(),
                          spec_.cached_dim(), context);
    float* const latents = context.scratch.Take<float>(num_rows * latent_width());
    const PagedKvLayer paged = PagedLayer(kv, layer);
    const auto prepare = [&](int row) {
      PrepareQuery(step, row, raw, queries, context.kernels);
      StoreToken(step, row, down, paged, context.kernels);
    };
    Attend(step, {queries, query_width(), latents, latent_width()}, static_cast<float>(spec_.score_scale), paged,
           prepare, kPrepareElementWork * (spec_.num_heads * spec_.qk_rope_head_dim + spec_.cached_dim()), context);

    float* const attended = context.scratch.Take<float>(num_rows * value_width());
    parts_.value_up.Forward(latents, latent_width(), spec_.kv_lora_rank, num_rows, attended, value_width(),
                            spec_.v_head_dim, context);
    parts_.output.AddTo(attended, value_width(), num_rows, residual, context);
  }

 private:
  // [num_rows, num_heads, query_head_dim], rows `stride` apart.
  struct Queries {
    const float* data = nullptr;
    int64_t stride = 0;
  };

  int64_t raw_query_width() const { return int64_t{spec_.num_heads} * spec_.query_head_dim(); }
  int64_t query_width() const { return int64_t{spec_.num_heads} * spec_.cached_dim(); }
  int64_t latent_width() const { return int64_t{spec_.num_heads} * spec_.kv_lora_rank; }
  int64_t value_width() const { return int64_t{spec_.num_heads} * spec_.v_head_dim; }
  int64_t down_width() const { return parts_.down.num_outputs(); }
  int64_t down_query_width() const { return down_width() - spec_.cached_dim(); }

  // Queries before they are absorbed and rotated; `down` is normed in place where it holds their latents.
  Queries ProjectQueries(float* down, int num_rows, ForwardContext& context) const {
    if (spec_.q_lora_rank == 0) return {down, down_width()};
    ParallelRows(context.pool, num_rows, int64_t{4} * spec_.q_lora_rank, [&](int begin, int end, int) {
      for (int64_t row = begin; row < end; ++row) {
        float* const latent = down + row * down_width();
        parts_.q_norm.Apply(latent, latent, context.kernels);
      }
    });
    const InputRows rows = ToInputRows(down, down_width(), num_rows, spec_.q_lora_rank,
                                       parts_.q_up.input_form(context.kernels), context);
    float* const queries = context.scratch.Take<float>(num_rows * raw_query_width());
    parts_.q_up.Forward(rows, num_rows, queries, raw_query_width(), context);
    return {queries, raw_query_width()};
  }

  // Puts the rotated parts of a row's queries behind their absorbed ones.
  void PrepareQuery(const AttentionStep& step, int64_t row, const Queries& raw, float* queries,
                    const Kernels& kernels) const {
    for (int64_t head = 0; head < spec_.num_heads; ++head) {
      const float* const from =
          raw.data + row * raw.stride + head * spec_.query_head_dim() + spec_.qk_nope_head_dim;
      float* const to = queries + row * query_width() + head * spec_.cached_dim() + spec_.kv_lora_rank;
      Rotate(from, step.angles[row], to, kernels);
    }
  }

  // Norms the latent of a row, rotates its key part and stores both.
  void StoreToken(const AttentionStep& step, int64_t row, const float* down, const PagedKvLayer& layer,
                  const Kernels& kernels) const {
    float token[kMaxCachedDim];
    const float* const latent = down + row * down_width() + down_query_width();
    parts_.kv_norm.Apply(latent, token, kernels);
    Rotate(latent + spec_.kv_lora_rank, step.angles[row], token + spec_.kv_lora_rank, kernels);
    kernels.store_kv(token, /*value=*/nullptr, step.slots[row], layer);
  }

  // to = from, rotated; both [qk_rope_head_dim]. Neighbours that turn together are put half a width apart first, in
  // queries and keys alike, which leaves their products as they are.
  void Rotate(const float* from, const RopeRow& angles, float* to, const Kernels& kernels) const {
    const int half = spec_.qk_rope_head_dim / 2;
    if (spec_.has_interleaved_rope) {
      for (int i = 0; i < half; ++i) {
        to[i] = from[2 * i];
        to[half + i] = from[2 * i + 1];
      }
    } else {
      std::memcpy(to, from, sizeof(float) * static_cast<size_t>(spec_.qk_rope_head_dim));
    }
    kernels.rope(angles.cos, angles.sin, spec_.qk_rope_head_dim, to);
  }

  const MlaSpec spec_;
  const Parts parts_;
};

// q (or its latent) and the cached part of a token in one product.
absl::StatusOr<Linear> LoadDown(const MlaSpec& spec, int hidden_size, const MlaNames& names, WeightReader& reader) {
  const Projection query = spec.q_lora_rank > 0
                               ? Projection{names.q_down, spec.q_lora_rank, spec.has_bias}
                               : Projection{names.q, spec.num_heads * spec.query_head_dim()};
  const Projection projections[] = {query, {names.kv_down, spec.cached_dim(), spec.has_bias}};
  return LoadLinear(projections, {.name = query.name + "+kv", .cols = hidden_size}, reader);
}

// The parts of kv_up, of which each head has [UK | UV] as rows.
absl::Status LoadUp(const MlaSpec& spec, const MlaNames& names, WeightReader& reader, MlaAttention::Parts* parts) {
  const int head_rows = spec.qk_nope_head_dim + spec.v_head_dim;
  const TensorRows all = TensorRows::All(names.kv_up + ".weight", spec.num_heads * head_rows, spec.kv_lora_rank);
  const WeightFormat format = FloatFormat(reader.format());
  std::vector<WeightMatrix> key_up(static_cast<size_t>(spec.num_heads)), value_up(key_up.size());
  for (int head = 0; head < spec.num_heads; ++head) {
    TensorRows key = all, value = all;
    key.row_begin = int64_t{head} * head_rows;
    key.num_rows = spec.qk_nope_head_dim;
    key.is_transposed = true;
    value.row_begin = key.row_begin + key.num_rows;
    value.num_rows = spec.v_head_dim;
    ASSIGN_OR_RETURN(key_up[head], reader.Matrix({.name = StrCat(names.kv_up, ".", head, ".key"),
                                                  .cols = spec.qk_nope_head_dim,
                                                  .parts = {key},
                                                  .format = format}));
    ASSIGN_OR_RETURN(value_up[head], reader.Matrix({.name = StrCat(names.kv_up, ".", head, ".value"),
                                                    .cols = spec.kv_lora_rank,
                                                    .parts = {value},
                                                    .format = format}));
  }
  parts->key_up = HeadMatrices(std::move(key_up));
  parts->value_up = HeadMatrices(std::move(value_up));
  return absl::OkStatus();
}

}  // namespace

AttentionShape ShapeOf(const MlaSpec& spec) {
  const bool is_even = spec.num_heads % kGroupHeads == 0;
  return {.num_heads = spec.num_heads,
          .num_groups = is_even ? spec.num_heads / kGroupHeads : 1,
          .key_dim = spec.cached_dim(),
          .value_dim = spec.kv_lora_rank,
          .shares_keys = true};
}

absl::StatusOr<std::unique_ptr<Attention>> LoadMlaAttention(const MlaSpec& spec, int hidden_size, double rms_norm_eps,
                                                            const MlaNames& names, WeightReader& reader) {
  MlaAttention::Parts parts;
  ASSIGN_OR_RETURN(parts.down, LoadDown(spec, hidden_size, names, reader));
  if (spec.q_lora_rank > 0) {
    ASSIGN_OR_RETURN(parts.q_norm, LoadRmsNorm(names.q_norm, spec.q_lora_rank, rms_norm_eps, reader));
    const Projection q_up = {names.q_up, spec.num_heads * spec.query_head_dim()};
    ASSIGN_OR_RETURN(parts.q_up, LoadLinear(q_up, spec.q_lora_rank, reader));
  }
  ASSIGN_OR_RETURN(parts.kv_norm, LoadRmsNorm(names.kv_norm, spec.kv_lora_rank, rms_norm_eps, reader));
  RETURN_IF_ERROR(LoadUp(spec, names, reader, &parts));
  const Projection output = {names.output, hidden_size, spec.has_bias};
  ASSIGN_OR_RETURN(parts.output, LoadLinear(output, spec.num_heads * spec.v_head_dim, reader));
  return std::make_unique<MlaAttention>(spec, std::move(parts));
}

}  // namespace expertd
