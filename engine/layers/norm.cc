#include "engine/layers/norm.h"

#include "engine/kernels/kernels.h"
#include "engine/layers/work_split.h"

namespace expertd {

void RmsNorm::Forward(const float* x, int num_rows, float* y, ForwardContext& context) const {
  // An element costs about as much as four multiply-adds of a product: it is read twice, and nothing is reused.
  ParallelRows(context.pool, num_rows, int64_t{4} * size(), [&](int begin, int end, int) {
    for (int64_t row = begin; row < end; ++row) Apply(x + row * size(), y + row * size(), context.kernels);
  });
}

void RmsNorm::Apply(const float* x, float* y, const Kernels& kernels) const {
  kernels.rms_norm(x, weight_.data(), eps_, size(), y);
}

}  // namespace expertd
