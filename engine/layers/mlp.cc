#include "engine/layers/mlp.h"

#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/layers/gate_up.h"
#include "engine/layers/input_rows.h"
#include "engine/layers/linear.h"
#include "engine/layers/work_split.h"

namespace expertd {
namespace {

class Mlp : public FeedForward {
 public:
  Mlp(GateUp gate_up, Linear down) : gate_up_(std::move(gate_up)), down_(std::move(down)) {}

  int64_t size_bytes() const override { return gate_up_.size_bytes() + down_.size_bytes(); }

  InputNeeds input_needs(const Kernels& kernels) const override {
    return {.form = InputFormOf(gate_up_.weight().format(), kernels)};
  }

  void AddTo(const LayerInput& x, int num_rows, float* residual, ForwardContext& context) const override {
    if (num_rows == 0) return;
    const int num_threads = context.pool.num_threads();
    const int64_t width = gate_up_.padded_width();
    ScratchArena::Scope scope(context.scratch);
    const TileGrid grid = MakeTileGrid(num_rows, InputRowBytes(x.rows.form, gate_up_.num_inputs()),
                                       gate_up_.num_blocks(), gate_up_.block_work(), num_threads);
    const int64_t scratch_floats = gate_up_.ScratchFloats(grid.rows_per_tile);
    float* const scratch = context.scratch.Take<float>(scratch_floats * num_threads);
    float* const activated = context.scratch.Take<float>(num_rows * width);
    context.pool.ParallelFor(grid.num_tiles(), [&](int index, int thread) {
      const Tile tile = TileAt(grid, index);
      gate_up_.Apply(RowsFrom(x.rows, tile.row_begin), tile.num_rows, tile.unit_begin, tile.unit_end,
                     scratch + thread * scratch_floats, activated + tile.row_begin * width, width, context.kernels);
    });
    down_.AddTo(activated, width, num_rows, residual, context);
  }

 private:
  const GateUp gate_up_;
  const Linear down_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FeedForward>> LoadMlp(const DenseSpec& spec, int hidden_size, const MlpNames& names,
                                                     WeightReader& reader) {
  const int width = spec.intermediate_size;
  ASSIGN_OR_RETURN(GateUp gate_up, GateUp::Load(names.gate + "+up", TensorRows::All(names.gate, width, hidden_size),
                                                TensorRows::All(names.up, width, hidden_size), hidden_size, reader));
  ASSIGN_OR_RETURN(std::vector<float> down_bias, reader.OptionalBias(names.down, hidden_size));
  ASSIGN_OR_RETURN(WeightMatrix down, reader.Matrix({.name = names.down,
                                                     .cols = width,
                                                     .parts = {TensorRows::All(names.down, hidden_size, width)}}));
  return std::make_unique<Mlp>(std::move(gate_up), Linear(std::move(down), std::move(down_bias)));
}

}  // namespace expertd
