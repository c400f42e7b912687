#include "engine/layers/linear.h"

#include <algorithm>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/layers/input_rows.h"
#include "engine/layers/work_split.h"

namespace expertd {
namespace {

TileGrid GridOver(const WeightMatrix& weight, int num_rows, const ForwardContext& context) {
  const int64_t row_bytes = InputRowBytes(InputFormOf(weight, context), weight.cols());
  return MakeTileGrid(num_rows, row_bytes, weight.num_panels(), int64_t{weight.cols()} * kPanelColumns,
                      context.pool.num_threads());
}

struct Columns {
  int begin = 0;
  int end = 0;
};

Columns ColumnsOf(const Tile& tile, const WeightMatrix& weight) {
  return {tile.unit_begin * kPanelColumns, std::min(tile.unit_end * kPanelColumns, weight.rows())};
}

}  // namespace

Linear::Linear(WeightMatrix weight, std::vector<float> bias) : weight_(std::move(weight)), bias_(std::move(bias)) {
  EXPERTD_CHECK(bias_.empty() || static_cast<int>(bias_.size()) == weight_.rows());
}

void Linear::Forward(const InputRows& x, int num_rows, float* y, int64_t y_stride, ForwardContext& context) const {
  if (num_rows == 0) return;
  const TileGrid grid = GridOver(weight_, num_rows, context);
  context.pool.ParallelFor(grid.num_tiles(), [&](int index, int) {
    const Tile tile = TileAt(grid, index);
    const Columns columns = ColumnsOf(tile, weight_);
    context.kernels.matmul(RowsFrom(x, tile.row_begin), tile.num_rows, weight_.packed(), bias(), columns.begin,
                           columns.end, y + tile.row_begin * y_stride, y_stride);
  });
}

void Linear::ForwardHere(const float* x, int num_rows, float* y, const Kernels& kernels) const {
  EXPERTD_CHECK(weight_.format() == WeightFormat::kF32);
  kernels.matmul(InputRows::Floats(x, num_inputs()), num_rows, weight_.packed(), bias(), 0,
                 num_outputs(), y, num_outputs());
}

void Linear::AddTo(const float* x, int64_t x_stride, int num_rows, float* residual, ForwardContext& context) const {
  if (num_rows == 0) return;
  const TileGrid grid = GridOver(weight_, num_rows, context);
  const int64_t width = num_outputs();
  ScratchArena::Scope scope(context.scratch);
  const InputRows input = ToInputRows(x, x_stride, num_rows, num_inputs(), input_form(context.kernels), context);
  float* const product = context.scratch.Take<float>(num_rows * width);
  context.pool.ParallelFor(grid.num_tiles(), [&](int index, int) {
    const Tile tile = TileAt(grid, index);
    const Columns columns = ColumnsOf(tile, weight_);
    const int64_t row_end = tile.row_begin + tile.num_rows;
    context.kernels.matmul(RowsFrom(input, tile.row_begin), tile.num_rows, weight_.packed(), bias(), columns.begin,
                           columns.end, product + tile.row_begin * width, width);
    for (int64_t row = tile.row_begin; row < row_end; ++row) {
      const int64_t offset = row * width + columns.begin;
      context.kernels.add(product + offset, columns.end - columns.begin, residual + offset);
    }
  });
}

absl::StatusOr<Linear> LoadLinear(std::span<const Projection> projections, MatrixSpec matrix, WeightReader& reader) {
  std::vector<float> bias;
  size_t num_outputs = 0;
  for (const auto& [name, width, has_bias] : projections) {
    matrix.parts.push_back(TensorRows::All(name + ".weight", width, matrix.cols));
    ASSIGN_OR_RETURN(const std::vector<float> part_bias,
                     has_bias ? reader.Vector(name + ".bias", width) : reader.OptionalBias(name + ".weight", width));
    if (!part_bias.empty()) {
      bias.resize(num_outputs);  // zeros for the parts before that have none
      bias.insert(bias.end(), part_bias.begin(), part_bias.end());
    }
    num_outputs += static_cast<size_t>(width);
  }
  if (!bias.empty()) bias.resize(num_outputs);
  ASSIGN_OR_RETURN(WeightMatrix weight, reader.Matrix(matrix));
  return Linear(std::move(weight), std::move(bias));
}

absl::StatusOr<Linear> LoadLinear(const Projection& projection, int num_inputs, WeightReader& reader) {
  return LoadLinear({&projection, 1}, {.name = projection.name, .cols = num_inputs}, reader);
}

}  // namespace expertd
