#include "engine/layers/gate_up.h"

#include <algorithm>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/layers/work_split.h"

namespace expertd {
namespace {

// Rows [begin, begin + kPanelColumns) of `rows`, filled up with zeros.
TensorRows PanelRows(const TensorRows& rows, int begin) {
  TensorRows panel = rows;
  panel.row_begin += begin;
  panel.num_rows = std::min(kPanelColumns, rows.num_rows - begin);
  panel.num_zero_rows = kPanelColumns - panel.num_rows;
  return panel;
}

// The biases of both, where either has one, in the order of the matrix's rows.
absl::StatusOr<std::vector<float>> LoadBias(const TensorRows& gate, const TensorRows& up, WeightReader& reader) {
  ASSIGN_OR_RETURN(std::vector<float> gate_bias, reader.OptionalBias(gate.tensor, gate.num_rows));
  ASSIGN_OR_RETURN(std::vector<float> up_bias, reader.OptionalBias(up.tensor, up.num_rows));
  std::vector<float> bias;
  if (gate_bias.empty() && up_bias.empty()) return bias;
  const auto padded_width = static_cast<size_t>(CeilDiv(gate.num_rows, kPanelColumns) * kPanelColumns);
  gate_bias.resize(padded_width);
  up_bias.resize(padded_width);
  for (size_t begin = 0; begin < padded_width; begin += kPanelColumns) {
    for (const std::vector<float>* const part : {&gate_bias, &up_bias}) {
      const auto panel = part->begin() + static_cast<std::ptrdiff_t>(begin);
      bias.insert(bias.end(), panel, panel + kPanelColumns);
    }
  }
  return bias;
}

}  // namespace

absl::StatusOr<GateUp> GateUp::Load(std::string name, const TensorRows& gate, const TensorRows& up, int num_inputs,
                                    WeightReader& reader) {
  EXPERTD_CHECK(gate.num_rows == up.num_rows && gate.num_rows > 0);
  MatrixSpec spec = {.name = std::move(name), .cols = num_inputs};
  for (int begin = 0; begin < gate.num_rows; begin += kPanelColumns) {
    spec.parts.push_back(PanelRows(gate, begin));
    spec.parts.push_back(PanelRows(up, begin));
  }
  GateUp gate_up;
  ASSIGN_OR_RETURN(gate_up.bias_, LoadBias(gate, up, reader));
  ASSIGN_OR_RETURN(gate_up.weight_, reader.Matrix(spec));
  return gate_up;
}

void GateUp::Apply(const InputRows& x, int num_rows, int block_begin, int block_end, float* scratch, float* out,
                   int64_t out_stride, const Kernels& kernels) const {
  // Few rows take many columns at a time, which keeps more sums in flight; many rows few, which keeps them in cache.
  constexpr int kProductsAtOnce = 8192;
  const float* const bias = bias_.empty() ? nullptr : bias_.data();
  const int blocks_at_once = std::max(1, kProductsAtOnce / (2 * kPanelColumns * num_rows));
  for (int begin = block_begin; begin < block_end; begin += blocks_at_once) {
    const int end = std::min(begin + blocks_at_once, block_end);
    kernels.matmul(x, num_rows, weight_.packed(), bias, 2 * begin * kPanelColumns, 2 * end * kPanelColumns, scratch,
                   ScratchStride());
    for (int row = 0; row < num_rows; ++row) {
      for (int block = begin; block < end; ++block) {
        const float* const gate = scratch + row * ScratchStride() + 2 * block * kPanelColumns;
        kernels.silu_mul(gate, gate + kPanelColumns, kPanelColumns, out + row * out_stride + block * kPanelColumns);
      }
    }
  }
}

}  // namespace expertd
