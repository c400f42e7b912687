#include "engine/layers/norm.h"

#include "engine/kernels/kernels.h"
#include "engine/layers/work_split.h"

namespace expertd {

LayerInput RmsNorm::Forward(const float* x, int num_rows, InputNeeds needs, ForwardContext& context) const {
  const bool is_converted = needs.form != InputForm::kF32;
  const bool keeps_floats = needs.floats || !is_converted;
  const int64_t num_float_rows = keeps_floats ? num_rows : context.pool.num_threads();
  float* const floats = context.scratch.Take<float>(num_float_rows * size());
  LayerInput out;
  if (keeps_floats) out.floats = floats;
  out.rows = is_converted ? TakeInputRows(needs.form, size(), num_rows, context.scratch)
                          : InputRows::Floats(floats, size());
  // An element costs about as much as four multiply-adds of a product, or six with its conversion: nothing is reused.
  const int64_t row_work = int64_t{is_converted ? 6 : 4} * size();
  ParallelRows(context.pool, num_rows, row_work, [&](int begin, int end, int thread) {
    for (int64_t row = begin; row < end; ++row) {
      float* const y = floats + (keeps_floats ? row : thread) * size();
      Apply(x + row * size(), y, context.kernels);
      if (is_converted) ConvertRow(y, size(), row, out.rows, context.kernels);
    }
  });
  return out;
}

void RmsNorm::Apply(const float* x, float* y, const Kernels& kernels) const {
  kernels.rms_norm(x, weight_.data(), eps_, size(), y);
}

}  // namespace expertd
