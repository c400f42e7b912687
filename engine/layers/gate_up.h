// GateUp: the first half of a gated feed-forward, silu(x Wgate^T) * (x Wup^T), as one packed matrix. Panels of gate and
// up alternate, so that one tile of the product holds both operands of the activation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/kernels/kernels.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {

// Immutable; concurrent calls on disjoint outputs are safe.
class GateUp {
 public:
  // gate, up: rows of tensors, [width, num_inputs] each; when width is not a multiple of kPanelColumns, rows of zeros
  // fill both up. Biases are taken where there are some. `name`: of the matrix. Errors: as WeightReader.
  static absl::StatusOr<GateUp> Load(std::string name, const TensorRows& gate, const TensorRows& up, int num_inputs,
                                     WeightReader& reader);

  int num_inputs() const { return weight_.cols(); }
  const WeightMatrix& weight() const { return weight_; }

  // The output is cut into blocks of kPanelColumns columns; columns beyond the true width are zero.
  int num_blocks() const { return weight_.num_panels() / 2; }
  int padded_width() const { return num_blocks() * kPanelColumns; }
  int64_t block_work() const { return int64_t{2} * kPanelColumns * num_inputs(); }  // multiply-adds per row
  int64_t size_bytes() const { return weight_.size_bytes() + static_cast<int64_t>(bias_.size() * sizeof(float)); }

  // Scratch of Apply for `num_rows` rows.
  int64_t ScratchFloats(int num_rows) const { return num_rows * ScratchStride(); }

  // out[r, c] for rows [0, num_rows) and the columns of blocks [block_begin, block_end); column c at out[c], row stride
  // out_stride. x: as products with weight() take it; scratch: ScratchFloats(num_rows).
  void Apply(const InputRows& x, int num_rows, int block_begin, int block_end, float* scratch, float* out,
             int64_t out_stride, const Kernels& kernels) const;

 private:
  // One more panel than the product has: rows that lie a power of two apart would share few cache sets.
  int64_t ScratchStride() const { return int64_t{weight_.rows()} + kPanelColumns; }

  WeightMatrix weight_;      // [2 * padded_width, num_inputs]
  std::vector<float> bias_;  // [2 * padded_width], or empty
};

}  // namespace expertd
