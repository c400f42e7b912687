// Activations on their way into a product: the form that the weights' format takes, made in scratch memory.
#pragma once

#include <cstdint>

#include "engine/forward/forward_context.h"
#include "engine/kernels/kernels.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {

// What a layer wants its input as.
struct InputNeeds {
  InputForm form = InputForm::kF32;  // of its products
  bool floats = false;               // the floats beside them, if `form` is another
};

// The input of a layer: rows as its products take them, and floats, contiguous, where it needs them. With kF32 both are
// the same.
struct LayerInput {
  InputRows rows;
  const float* floats = nullptr;
};

// Rows as products with `weight` take them.
InputForm InputFormOf(const WeightMatrix& weight, const ForwardContext& context);

// x [num_rows, num_cols], row stride x_stride, in `form`: x itself, or a copy that lives in the caller's scratch scope.
// A row's form depends on that row alone.
InputRows ToInputRows(const float* x, int64_t x_stride, int num_rows, int num_cols, InputForm form,
                      ForwardContext& context);

// Room in the caller's scratch scope for rows in a form other than kF32, filled by ConvertRow.
InputRows TakeInputRows(InputForm form, int num_cols, int num_rows, ScratchArena& scratch);

// Puts x [num_cols] into row `row` of rows that TakeInputRows made.
void ConvertRow(const float* x, int num_cols, int64_t row, const InputRows& rows, const Kernels& kernels);

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
