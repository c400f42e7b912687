// Activations on their way into a product: the form that the weights' format takes, made in scratch memory.
#pragma once

#include <cstdint>

#include "engine/forward/forward_context.h"
#include "engine/kernels/kernels.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {

// x [num_rows, weight.cols()], row stride x_stride, as products with `weight` take it: x itself, or a copy that lives in
// the caller's scratch scope. A row's form depends on that row alone.
InputRows ToInputRows(const float* x, int64_t x_stride, int num_rows, const WeightMatrix& weight,
                      ForwardContext& context);

// The rows from `row` on.
InputRows RowsFrom(const InputRows& rows, int64_t row);

// Room for `num_rows` rows of the form of `like`, which have the width of the weights that `like` was made for; copies
// are gathered there. One array for each part of the form.
struct GatheredRows {
  InputRows rows;
  int64_t row_bytes = 0;

  // Copies row `from_row` of `from` to row `to_row`.
  void Copy(const InputRows& from, int64_t from_row, int64_t to_row) const;
};
GatheredRows MakeGatheredRows(const InputRows& like, int num_cols, int num_rows, ScratchArena& scratch);

// Bytes of one row of x in a form, padding left out.
int64_t InputRowBytes(InputForm form, int64_t num_cols);

}  // namespace expertd
