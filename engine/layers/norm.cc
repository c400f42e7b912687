#include "engine/layers/norm.h"

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/work_split.h"

namespace expertd {

namespace {

// What an element costs: about four multiply-adds of a product, as nothing is reused.
constexpr int64_t kElementWork = 4;

}  // namespace

LayerInput Norm::Forward(const float* x, int num_rows, InputNeeds needs, ForwardContext& context) const {
  const bool is_converted = needs.form != InputForm::kF32;
  const bool keeps_floats = needs.floats || !is_converted;
  const int64_t num_float_rows = keeps_floats ? num_rows : context.pool.num_threads();
  float* const floats = context.scratch.Take<float>(num_float_rows * size());
  LayerInput out;
  if (keeps_floats) out.floats = floats;
  out.rows = is_converted ? TakeInputRows(needs.form, size(), num_rows, context.scratch)
                          : InputRows::Floats(floats, size());
  const int64_t row_work = (kElementWork + (is_converted ? 2 : 0)) * size();
  ParallelRows(context.pool, num_rows, row_work, [&](int begin, int end, int thread) {
    for (int64_t row = begin; row < end; ++row) {
      float* const y = floats + (keeps_floats ? row : thread) * size();
      Apply(x + row * size(), y, context.kernels);
      if (is_converted) ConvertRow(y, size(), row, out.rows, context.kernels);
    }
  });
  return out;
}

void Norm::ApplyInPlace(int num_rows, float* x, ForwardContext& context) const {
  ParallelRows(context.pool, num_rows, kElementWork * size(), [&](int begin, int end, int) {
    for (int64_t row = begin; row < end; ++row) Apply(x + row * size(), x + row * size(), context.kernels);
  });
}

RmsNorm::RmsNorm(std::vector<float> weight, double eps, std::vector<float> bias)
    : weight_(std::move(weight)), bias_(std::move(bias)), eps_(static_cast<float>(eps)) {
  EXPERTD_CHECK(bias_.empty() || bias_.size() == weight_.size());
}

void RmsNorm::Apply(const float* x, float* y, const Kernels& kernels) const {
  kernels.rms_norm(x, weight_.data(), eps_, size(), y);
  if (!bias_.empty()) kernels.add(bias_.data(), size(), y);
}

void LayerNorm::Apply(const float* x, float* y, const Kernels& kernels) const {
  kernels.layer_norm(x, weight_.data(), bias_.data(), eps_, size(), y);
}

absl::StatusOr<RmsNorm> LoadRmsNorm(const std::string& name, int size, double eps, WeightReader& reader) {
  ASSIGN_OR_RETURN(std::vector<float> bias, reader.OptionalBias(name + ".weight", size));
  ASSIGN_OR_RETURN(std::vector<float> weight, reader.Vector(name + ".weight", size));
  return RmsNorm(std::move(weight), eps, std::move(bias));
}

}  // namespace expertd
