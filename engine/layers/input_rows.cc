#include "engine/layers/input_rows.h"

#include <cstring>

#include "engine/layers/work_split.h"

namespace expertd {
namespace {

constexpr int64_t kCacheLine = 64;

// Elements from row to row: whole groups, so that every format finds its padding, and an odd number of cache lines, so
// that rows do not fall into the same sets of the cache.
int64_t StrideOf(InputForm form, int64_t num_cols) {
  const int64_t padded = CeilDiv(num_cols, kGroupInputs) * kGroupInputs;
  return padded + kCacheLine / (form == InputForm::kBF16 ? 2 : 1);
}

int64_t ElementBytes(InputForm form) { return form == InputForm::kF32 ? 4 : form == InputForm::kBF16 ? 2 : 1; }

int64_t SumsOf(int64_t num_cols) { return 1 + CeilDiv(num_cols, kGroupInputs); }

// The arrays of InputRows that were taken from scratch, to be written.
template <typename T>
T* Writable(const T* taken) {
  return const_cast<T*>(taken);
}

}  // namespace

InputForm InputFormOf(const WeightMatrix& weight, const ForwardContext& context) {
  return InputFormOf(weight.format(), context.kernels);
}

InputRows TakeInputRows(InputForm form, int num_cols, int num_rows, ScratchArena& scratch) {
  InputRows rows = {.form = form, .stride = StrideOf(form, num_cols)};
  rows.data = scratch.Take<std::byte>(num_rows * rows.stride * ElementBytes(form));
  if (form == InputForm::kInt8) {
    rows.sums_stride = SumsOf(num_cols);
    rows.scales = scratch.Take<float>(num_rows);
    rows.sums = scratch.Take<int32_t>(num_rows * rows.sums_stride);
  }
  return rows;
}

void ConvertRow(const float* x, int num_cols, int64_t row, const InputRows& rows, const Kernels& kernels) {
  if (rows.form == InputForm::kBF16) {
    auto* const data = Writable(static_cast<const BFloat16*>(rows.data));
    kernels.round_to_bf16(x, num_cols, data + row * rows.stride);
  } else {
    auto* const codes = Writable(static_cast<const int8_t*>(rows.data));
    kernels.quantize(x, num_cols, codes + row * rows.stride, Writable(rows.scales) + row,
                     Writable(rows.sums) + row * rows.sums_stride);
  }
}

int64_t InputRowBytes(InputForm form, int64_t num_cols) { return num_cols * ElementBytes(form); }

InputRows ToInputRows(const float* x, int64_t x_stride, int num_rows, int num_cols, InputForm form,
                      ForwardContext& context) {
  if (form == InputForm::kF32) return InputRows::Floats(x, x_stride);
  const InputRows rows = TakeInputRows(form, num_cols, num_rows, context.scratch);
  // An element is read twice and written once, as vectors: about two multiply-adds of a product.
  ParallelRows(context.pool, num_rows, int64_t{2} * num_cols, [&](int begin, int end, int) {
    for (int64_t row = begin; row < end; ++row) ConvertRow(x + row * x_stride, num_cols, row, rows, context.kernels);
  });
  return rows;
}

InputRows RowsFrom(const InputRows& rows, int64_t row) {
  InputRows from = rows;
  from.data = static_cast<const std::byte*>(rows.data) + row * rows.stride * ElementBytes(rows.form);
  if (rows.form == InputForm::kInt8) {
    from.scales += row;
    from.sums += row * rows.sums_stride;
  }
  return from;
}

GatheredRows MakeGatheredRows(const InputRows& like, int num_cols, int num_rows, ScratchArena& scratch) {
  GatheredRows gathered;
  gathered.rows = TakeInputRows(like.form, num_cols, num_rows, scratch);
  const int64_t copied = like.form == InputForm::kF32 ? num_cols : CeilDiv(num_cols, kGroupInputs) * kGroupInputs;
  gathered.row_bytes = copied * ElementBytes(like.form);
  return gathered;
}

void GatheredRows::Copy(const InputRows& from, int64_t from_row, int64_t to_row) const {
  const InputRows source = RowsFrom(from, from_row);
  const InputRows target = RowsFrom(rows, to_row);
  std::memcpy(const_cast<void*>(target.data), source.data, static_cast<size_t>(row_bytes));
  if (rows.form != InputForm::kInt8) return;
  *Writable(target.scales) = *source.scales;
  std::memcpy(Writable(target.sums), source.sums, sizeof(int32_t) * static_cast<size_t>(rows.sums_stride));
}

}  // namespace expertd
