#include "engine/layers/gate_up.h"

#include <algorithm>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace expertd {
namespace {

// Appends rows [begin, begin + kPanelColumns) of `source`, and as many rows of `zeros` as are missing.
void AppendPanel(const SourceRows& source, int begin, int num_inputs, const std::vector<float>& zeros,
                 std::vector<SourceRows>& parts) {
  const int num_rows = std::min(kPanelColumns, source.num_rows - begin);
  parts.push_back({source.data + int64_t{begin} * num_inputs * DTypeBytes(source.dtype), source.dtype, num_rows});
  if (num_rows == kPanelColumns) return;
  parts.push_back({reinterpret_cast<const std::byte*>(zeros.data()), DType::kF32, kPanelColumns - num_rows});
}

}  // namespace

absl::StatusOr<GateUp> GateUp::Pack(const SourceRows& gate, const SourceRows& up, int num_inputs,
                                    WeightReader& reader) {
  EXPERTD_CHECK(gate.num_rows == up.num_rows && gate.num_rows > 0);
  const std::vector<float> zeros(static_cast<size_t>(num_inputs) * (kPanelColumns - 1));
  std::vector<SourceRows> parts;
  for (int begin = 0; begin < gate.num_rows; begin += kPanelColumns) {
    AppendPanel(gate, begin, num_inputs, zeros, parts);
    AppendPanel(up, begin, num_inputs, zeros, parts);
  }
  GateUp gate_up;
  ASSIGN_OR_RETURN(gate_up.weight_, reader.Pack(parts, num_inputs));
  return gate_up;
}

void GateUp::Apply(const float* x, int64_t x_stride, int num_rows, int block_begin, int block_end, float* scratch,
                   float* out, int64_t out_stride, const Kernels& kernels) const {
  // Few rows take many columns at a time, which keeps more sums in flight; many rows few, which keeps them in cache.
  constexpr int kProductsAtOnce = 8192;
  const int blocks_at_once = std::max(1, kProductsAtOnce / (2 * kPanelColumns * num_rows));
  for (int begin = block_begin; begin < block_end; begin += blocks_at_once) {
    const int end = std::min(begin + blocks_at_once, block_end);
    kernels.matmul(x, x_stride, num_rows, weight_, /*bias=*/nullptr, 2 * begin * kPanelColumns, 2 * end * kPanelColumns,
                   scratch, ScratchStride());
    for (int row = 0; row < num_rows; ++row) {
      for (int block = begin; block < end; ++block) {
        const float* const gate = scratch + row * ScratchStride() + 2 * block * kPanelColumns;
        kernels.silu_mul(gate, gate + kPanelColumns, kPanelColumns, out + row * out_stride + block * kPanelColumns);
      }
    }
  }
}

}  // namespace expertd
