// WeightMatrix: the weight of a linear map in memory, packed once so that the same bytes serve every instruction set
// and any number of rows; panel_layout.h says how.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/platform/memory.h"
#include "engine/tensor/dtype.h"
#include "engine/tensor/panel_layout.h"
#include "engine/tensor/weight_format.h"

namespace expertd {

struct QuantizedRow;

// What products must know of a matrix [rows, cols] in `format`, but for its bytes.
PackedWeights PackedShape(WeightFormat format, int rows, int cols, bool has_zero_points = false);

// Immutable, so concurrent reads are safe; copies share the bytes.
class WeightMatrix {
 public:
  // Packs `rows` x `cols` elements of the float type `source` at `row_major` in `format`: rounded to nearest even, or
  // quantized (quantize.h). Errors: InvalidArgument (empty or negative shape), ResourceExhausted.
  static absl::StatusOr<WeightMatrix> Pack(const void* row_major, DType source, int rows, int cols,
                                           WeightFormat format);

  // A matrix over bytes that are packed already. bytes.size_bytes must be that of all panels of `packed`, whose pointer
  // is ignored.
  static WeightMatrix Over(PackedWeights packed, SharedBytes bytes);

  WeightMatrix() = default;  // 0 x 0

  int rows() const { return packed_.rows; }
  int cols() const { return packed_.cols; }
  WeightFormat format() const { return packed_.format; }
  int64_t size_bytes() const { return bytes_.size_bytes; }
  std::span<const std::byte> bytes() const { return {bytes_.data, static_cast<size_t>(bytes_.size_bytes)}; }

  int num_panels() const { return (rows() + kPanelColumns - 1) / kPanelColumns; }
  const PackedWeights& packed() const { return packed_; }

  // Writes row `row` as `cols()` floats, what its codes stand for: an embedding looked up in a tied output matrix.
  void CopyRow(int row, float* out) const;

 private:
  PackedWeights packed_;
  SharedBytes bytes_;
};

// Packs several source tensors into one matrix, one under the other (q, k, v; gate, up), or one tensor piece by piece.
// Used by one thread at a time.
class WeightMatrixBuilder {
 public:
  // `has_zero_points`: int4 only. Errors: InvalidArgument, ResourceExhausted, as Pack.
  static absl::StatusOr<WeightMatrixBuilder> Create(int rows, int cols, WeightFormat format,
                                                    bool has_zero_points = false);

  // Packs `num_rows` rows of `cols` elements of the float type `source` into rows [row_begin, row_begin + num_rows).
  // Row i starts at element i * source_row_stride of `row_major` (0: the stride is `cols`), which needs no alignment.
  // Errors: InvalidArgument when the rows do not lie inside the matrix.
  absl::Status AddRows(int row_begin, const void* row_major, DType source, int num_rows, int64_t source_row_stride = 0);

  // Packs a row of an int8 or int4 matrix whose codes are there already, bit for bit. Errors: InvalidArgument when the
  // row lies outside or has another number of codes or groups than the matrix, or zero points that the matrix lacks.
  absl::Status AddQuantizedRow(int row, const QuantizedRow& quantized);

  // Leaves `num_rows` rows from `row_begin` on as zeros. Errors: as AddRows.
  absl::Status AddZeroRows(int row_begin, int num_rows);

  // Fills all rows with random weights of mean zero and variance 1 / cols; the same for the same seed.
  void FillRandom(uint64_t seed);

  // The finished matrix; the builder is empty afterwards. Errors: FailedPrecondition when fewer rows were added than
  // the matrix has.
  absl::StatusOr<WeightMatrix> Finish();

 private:
  absl::Status CheckRows(int row_begin, int num_rows) const;
  void StoreRow(int row, const QuantizedRow& quantized);
  std::byte* PanelOf(int row);

  PackedWeights packed_;
  AlignedBuffer buffer_;
  int64_t rows_added_ = 0;
};

}  // namespace expertd
