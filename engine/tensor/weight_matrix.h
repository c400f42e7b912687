// WeightMatrix: the weight of a linear map in memory, packed once so that the same bytes serve every instruction set
// and any number of rows. The only place, with the matmul kernels, that knows the packed layout.
//
// Layout. The matrix [rows (outputs), cols (inputs)] is cut into panels of kPanelColumns outputs, which become columns
// of y = x W^T. A panel is a contiguous run of vectors over its 32 outputs, in the order in which a product consumes
// inputs:
//   f32:  [cols][32]            element (k, c) of the panel at k * 32 + c
//   bf16: [ceil(cols / 2)][32][2]  element (k, c) at (k / 2) * 64 + c * 2 + k % 2; a missing last input is zero
// bf16 is in pairs because one 64-byte load then yields two float vectors with one operation each (shift, mask), and
// because it is what the bf16 dot-product and tile instructions of AVX-512 and AMX take.
// Outputs beyond `rows` in the last panel are zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/platform/memory.h"
#include "engine/tensor/dtype.h"

namespace expertd {

inline constexpr int kPanelColumns = 32;

// The packed bytes and what a product must know of them: a plain value, so that kernels, which are compiled for an
// instruction set that the machine may lack, need no function of the class below.
struct PackedWeights {
  const std::byte* panels = nullptr;  // panel i at panels + i * panel_bytes, aligned to AlignedBuffer::kAlignment
  int64_t panel_bytes = 0;
  int rows = 0;
  int cols = 0;
  DType dtype = DType::kF32;
};

// A move-only value; immutable, so concurrent reads are safe.
class WeightMatrix {
 public:
  // Packs `rows` x `cols` elements of type `source` at `row_major` as `stored` (kF32 or kBF16), rounding to nearest
  // even. Errors: InvalidArgument (empty or negative shape, a stored type that is not supported), ResourceExhausted.
  static absl::StatusOr<WeightMatrix> Pack(const void* row_major, DType source, int rows, int cols, DType stored);

  WeightMatrix() = default;  // 0 x 0

  int rows() const { return rows_; }
  int cols() const { return cols_; }
  DType dtype() const { return dtype_; }
  int64_t size_bytes() const { return buffer_.size_bytes(); }

  int num_panels() const { return (rows_ + kPanelColumns - 1) / kPanelColumns; }
  PackedWeights packed() const;

  // Writes row `row` (of the matrix that was packed) as `cols()` floats: an embedding looked up in a tied output
  // matrix.
  void CopyRow(int row, float* out) const;

 private:
  friend class WeightMatrixBuilder;

  int rows_ = 0;
  int cols_ = 0;
  DType dtype_ = DType::kF32;
  int64_t panel_bytes_ = 0;
  AlignedBuffer buffer_;
};

// Packs several source tensors into one matrix, one under the other (q, k, v; gate, up), or one tensor piece by piece.
// Used by one thread at a time.
class WeightMatrixBuilder {
 public:
  // Errors: InvalidArgument, ResourceExhausted, as Pack.
  static absl::StatusOr<WeightMatrixBuilder> Create(int rows, int cols, DType stored);

  // Packs `num_rows` rows of `cols` elements of type `source` into rows [row_begin, row_begin + num_rows). Row i starts
  // at element i * source_row_stride of `row_major` (0: the stride is `cols`), which needs no alignment. Errors:
  // InvalidArgument when the rows do not lie inside the matrix.
  absl::Status AddRows(int row_begin, const void* row_major, DType source, int num_rows, int64_t source_row_stride = 0);

  // The finished matrix; the builder is empty afterwards. Errors: FailedPrecondition when fewer rows were added than
  // the matrix has.
  absl::StatusOr<WeightMatrix> Finish();

 private:
  WeightMatrix matrix_;
  int64_t rows_added_ = 0;
};

}  // namespace expertd
