#include "engine/layers/moe.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/input_rows.h"
#include "engine/layers/work_split.h"

namespace expertd {
namespace {

// Who goes where. An assignment is one (row, expert) pair; `slots` order them by expert, then by row.
struct Grouping {
  int num_rows = 0;
  int per_token = 0;
  const int32_t* row_of_slot = nullptr;         // [num_rows * per_token]
  const int32_t* slot_of_assignment = nullptr;  // [num_rows, per_token]
  const int32_t* expert_begin = nullptr;        // [num_experts + 1] first slot of each expert
  int num_slots() const { return num_rows * per_token; }
};

// Some slots of one expert, and the columns [unit_begin, unit_end) in panels or blocks.
struct ExpertTile {
  int32_t expert = 0;
  int32_t slot_begin = 0;
  int32_t num_rows = 0;
  int32_t unit_begin = 0;
  int32_t unit_end = 0;
};

Grouping GroupByExpert(const int32_t* experts, int num_rows, int per_token, int num_experts, ScratchArena& scratch) {
  const int num_slots = num_rows * per_token;
  int32_t* const row_of_slot = scratch.Take<int32_t>(num_slots);
  int32_t* const slot_of_assignment = scratch.Take<int32_t>(num_slots);
  int32_t* const expert_begin = scratch.Take<int32_t>(num_experts + 1);
  int32_t* const next_slot = scratch.Take<int32_t>(num_experts);
  std::fill(expert_begin, expert_begin + num_experts + 1, 0);
  for (int i = 0; i < num_slots; ++i) ++expert_begin[experts[i] + 1];
  for (int e = 0; e < num_experts; ++e) expert_begin[e + 1] += expert_begin[e];
  std::copy(expert_begin, expert_begin + num_experts, next_slot);
  for (int i = 0; i < num_slots; ++i) {
    const int32_t slot = next_slot[experts[i]]++;
    row_of_slot[slot] = i / per_token;
    slot_of_assignment[i] = slot;
  }
  return {num_rows, per_token, row_of_slot, slot_of_assignment, expert_begin};
}

// Cuts the products of all experts into tiles of about equal work. `row_bytes`: of the input; `unit_work`:
// multiply-adds of one unit of columns for one row.
std::span<const ExpertTile> CutExperts(const Grouping& grouping, int num_experts, int64_t row_bytes, int num_units,
                                       int64_t unit_work, int num_threads, ScratchArena& scratch) {
  const int64_t total_work = int64_t{grouping.num_slots()} * num_units * unit_work;
  const int64_t tile_work =
      num_threads == 1 ? INT64_MAX : std::max(kMinPartWork, total_work / (kPartsPerThread * num_threads));
  ExpertTile* tiles = nullptr;
  int num_tiles = 0;
  for (const bool counting : {true, false}) {
    if (!counting) tiles = scratch.Take<ExpertTile>(num_tiles);
    num_tiles = 0;
    for (int expert = 0; expert < num_experts; ++expert) {
      const int begin = grouping.expert_begin[expert], end = grouping.expert_begin[expert + 1];
      if (begin == end) continue;
      const int rows_per_tile = TileRows(end - begin, row_bytes);
      for (int slot = begin; slot < end; slot += rows_per_tile) {
        const int num_rows = std::min(rows_per_tile, end - slot);
        const int64_t wanted = int64_t{num_rows} * num_units * unit_work / tile_work;
        const int num_parts = static_cast<int>(std::clamp<int64_t>(wanted, 1, num_units));
        for (int part = 0; part < num_parts; ++part, ++num_tiles) {
          if (counting) continue;
          tiles[num_tiles] = {expert, slot, num_rows, PartBegin(num_units, num_parts, part),
                              PartBegin(num_units, num_parts, part + 1)};
        }
      }
    }
  }
  return {tiles, static_cast<size_t>(num_tiles)};
}

// Runs fn(tile, thread) for all tiles. Together they may be too small to wake anyone for.
template <typename Fn>
void ForEachTile(std::span<const ExpertTile> tiles, int64_t total_work, ThreadPool& pool, Fn fn) {
  const int num_tiles = static_cast<int>(tiles.size());
  const int num_parts = NumParts(total_work, num_tiles, pool.num_threads()) == 1 ? 1 : num_tiles;
  pool.ParallelFor(num_parts, [&](int part, int thread) {
    if (num_parts == num_tiles) {
      fn(tiles[part], thread);
    } else {
      for (const ExpertTile& tile : tiles) fn(tile, thread);
    }
  });
}

class Moe : public FeedForward {
 public:
  Moe(Linear gate, std::unique_ptr<Router> router, std::vector<Expert> experts, std::unique_ptr<FeedForward> shared)
      : gate_(std::move(gate)),
        router_(std::move(router)),
        experts_(std::move(experts)),
        shared_(std::move(shared)),
        hidden_(experts_.front().gate_up.num_inputs()),
        padded_width_(experts_.front().gate_up.padded_width()) {}

  int64_t size_bytes() const override {
    int64_t total = gate_.size_bytes() + router_->size_bytes() + (shared_ == nullptr ? 0 : shared_->size_bytes());
    for (const Expert& expert : experts_) total += expert.gate_up.size_bytes() + expert.down.size_bytes();
    return total;
  }

  InputNeeds input_needs(const Kernels& kernels) const override {
    return {.form = InputFormOf(experts_.front().gate_up.weight().format(), kernels), .floats = true};
  }

  void AddTo(const LayerInput& x, int num_rows, float* residual, ForwardContext& context) const override {
    if (num_rows == 0) return;
    ScratchArena::Scope scope(context.scratch);
    const int per_token = router_->experts_per_token();
    int32_t* const chosen = context.scratch.Take<int32_t>(int64_t{num_rows} * per_token);
    float* const weights = context.scratch.Take<float>(int64_t{num_rows} * per_token);
    Route(x, num_rows, chosen, weights, context);
    const Grouping grouping = GroupByExpert(chosen, num_rows, per_token, num_experts(), context.scratch);
    ++context.counters.moe_layers;
    for (int e = 0; e < num_experts(); ++e) {
      context.counters.activated_experts += grouping.expert_begin[e] < grouping.expert_begin[e + 1] ? 1 : 0;
    }
    float* const activated = context.scratch.Take<float>(int64_t{grouping.num_slots()} * padded_width_);
    Activate(x.rows, grouping, activated, context);
    AddOutputs(activated, grouping, weights, residual, context);
    if (shared_ != nullptr) AddShared(x, num_rows, residual, context);
  }

 private:
  int num_experts() const { return static_cast<int>(experts_.size()); }

  void Route(const LayerInput& x, int num_rows, int32_t* chosen, float* weights, ForwardContext& context) const {
    const int per_token = router_->experts_per_token();
    float* const logits = context.scratch.Take<float>(int64_t{num_rows} * num_experts());
    gate_.Forward(InputRows::Floats(x.floats, hidden_), num_rows, logits, num_experts(), context);
    ParallelRows(context.pool, num_rows, router_->row_work(), [&](int begin, int end, int) {
      router_->Route(logits + int64_t{begin} * num_experts(), end - begin,
                     chosen + int64_t{begin} * per_token, weights + int64_t{begin} * per_token, context.kernels);
    });
  }

  // activated[slot] = silu(gate) * up of the slot's expert and row: [num_slots, padded_width].
  void Activate(const InputRows& x, const Grouping& grouping, float* activated, ForwardContext& context) const {
    const GateUp& any = experts_.front().gate_up;
    const int num_threads = context.pool.num_threads();
    const std::span<const ExpertTile> tiles =
        CutExperts(grouping, num_experts(), InputRowBytes(x.form, hidden_), any.num_blocks(), any.block_work(),
                   num_threads, context.scratch);
    int most_rows = 0;
    for (const ExpertTile& tile : tiles) most_rows = std::max(most_rows, tile.num_rows);
    const GatheredRows gathered = MakeGatheredRows(x, hidden_, most_rows * num_threads, context.scratch);
    const int64_t product_floats = any.ScratchFloats(most_rows);
    float* const products = context.scratch.Take<float>(product_floats * num_threads);
    const int64_t total_work = int64_t{grouping.num_slots()} * any.num_blocks() * any.block_work();
    ForEachTile(tiles, total_work, context.pool, [&](const ExpertTile& tile, int thread) {
      const InputRows rows = Gather(x, grouping, tile, gathered, thread * most_rows);
      experts_[tile.expert].gate_up.Apply(
          rows, tile.num_rows, tile.unit_begin, tile.unit_end, products + thread * product_floats,
          activated + int64_t{tile.slot_begin} * padded_width_, padded_width_, context.kernels);
    });
  }

  // The rows of a tile, one after another: in place for a single one, otherwise copied. Each tile copies for itself,
  // which costs a few per cent of its product and saves a pass with a barrier.
  static InputRows Gather(const InputRows& input, const Grouping& grouping, const ExpertTile& tile,
                          const GatheredRows& gathered, int64_t first) {
    const int32_t* const rows = grouping.row_of_slot + tile.slot_begin;
    if (tile.num_rows == 1) return RowsFrom(input, rows[0]);
    for (int i = 0; i < tile.num_rows; ++i) gathered.Copy(input, rows[i], first + i);
    return RowsFrom(gathered.rows, first);
  }

  // residual[row] += sum over i of weights[row, i] * down(activated[slot of (row, i)]).
  void AddOutputs(const float* activated, const Grouping& grouping, const float* weights, float* residual,
                  ForwardContext& context) const {
    float* const outputs = context.scratch.Take<float>(int64_t{grouping.num_slots()} * hidden_);
    Project(activated, grouping, outputs, context);
    Combine(outputs, grouping, weights, residual, context);
  }

  // outputs[slot] = down(activated[slot]): [num_slots, hidden].
  void Project(const float* activated, const Grouping& grouping, float* outputs, ForwardContext& context) const {
    const WeightMatrix& any = experts_.front().down.weight();
    const InputRows input = ToInputRows(activated, padded_width_, grouping.num_slots(), any.cols(),
                                        InputFormOf(any, context), context);
    const int64_t panel_work = int64_t{any.cols()} * kPanelColumns;
    const std::span<const ExpertTile> tiles =
        CutExperts(grouping, num_experts(), InputRowBytes(input.form, any.cols()), any.num_panels(), panel_work,
                   context.pool.num_threads(), context.scratch);
    const int64_t total_work = int64_t{grouping.num_slots()} * any.num_panels() * panel_work;
    ForEachTile(tiles, total_work, context.pool, [&](const ExpertTile& tile, int) {
      const Linear& down = experts_[tile.expert].down;
      context.kernels.matmul(RowsFrom(input, tile.slot_begin), tile.num_rows, down.weight().packed(), down.bias(),
                             tile.unit_begin * kPanelColumns, std::min(tile.unit_end * kPanelColumns, hidden_),
                             outputs + int64_t{tile.slot_begin} * hidden_, hidden_);
    });
  }

  void Combine(const float* outputs, const Grouping& grouping, const float* weights, float* residual,
               ForwardContext& context) const {
    float* const sums = context.scratch.Take<float>(int64_t{hidden_} * context.pool.num_threads());
    // Adding is counted as four multiply-adds of a product: nothing is reused.
    const int64_t row_work = int64_t{4} * hidden_ * grouping.per_token;
    ParallelRows(context.pool, grouping.num_rows, row_work, [&](int begin, int end, int thread) {
      float* const sum = sums + int64_t{hidden_} * thread;
      for (int64_t row = begin; row < end; ++row) {
        std::fill(sum, sum + hidden_, 0.0f);
        for (int64_t i = row * grouping.per_token; i < (row + 1) * grouping.per_token; ++i) {
          const int64_t slot = grouping.slot_of_assignment[i];
          context.kernels.add_scaled(outputs + slot * hidden_, weights[i], hidden_, sum);
        }
        context.kernels.add(sum, hidden_, residual + row * hidden_);
      }
    });
  }

  // The shared expert may hold its weights in another format than the others (checkpoints mix them).
  void AddShared(const LayerInput& x, int num_rows, float* residual, ForwardContext& context) const {
    const InputForm form = shared_->input_needs(context.kernels).form;
    const InputRows rows = form == x.rows.form
                               ? x.rows
                               : ToInputRows(x.floats, hidden_, num_rows, hidden_, form, context);
    shared_->AddTo({.rows = rows, .floats = x.floats}, num_rows, residual, context);
  }

  const Linear gate_;  // f32
  const std::unique_ptr<Router> router_;
  const std::vector<Expert> experts_;
  const std::unique_ptr<FeedForward> shared_;  // may be null
  const int hidden_;
  const int padded_width_;
};

// gate, up and down of one expert in the checkpoint.
struct ExpertRows {
  TensorRows gate, up, down;
};

ExpertRows StackedExpert(const MoeSpec& spec, int hidden_size, const std::string& prefix, int expert) {
  const int width = spec.expert_intermediate_size;
  const TensorRows gate_up = {prefix + ".gate_up_proj", {spec.num_experts, 2 * width, hidden_size}};
  ExpertRows rows = {gate_up, gate_up, {prefix + ".down_proj", {spec.num_experts, hidden_size, width}}};
  rows.gate.row_begin = int64_t{expert} * 2 * width;
  rows.up.row_begin = rows.gate.row_begin + width;
  rows.gate.num_rows = rows.up.num_rows = width;
  rows.down.row_begin = int64_t{expert} * hidden_size;
  rows.down.num_rows = hidden_size;
  return rows;
}

ExpertRows SeparateExpert(const MoeSpec& spec, int hidden_size, const std::string& prefix, int expert) {
  const int width = spec.expert_intermediate_size;
  const std::string name = StrCat(prefix, ".", expert);
  return {TensorRows::All(name + ".gate_proj.weight", width, hidden_size),
          TensorRows::All(name + ".up_proj.weight", width, hidden_size),
          TensorRows::All(name + ".down_proj.weight", hidden_size, width)};
}

absl::StatusOr<Expert> LoadExpert(const std::string& name, const ExpertRows& rows, int hidden_size,
                                  WeightReader& reader) {
  Expert expert;
  ASSIGN_OR_RETURN(expert.gate_up, GateUp::Load(name + ".gate+up", rows.gate, rows.up, hidden_size, reader));
  ASSIGN_OR_RETURN(std::vector<float> bias, reader.OptionalBias(rows.down.tensor, hidden_size));
  ASSIGN_OR_RETURN(WeightMatrix down, reader.Matrix({.name = name + ".down",
                                                     .cols = rows.gate.num_rows,
                                                     .parts = {rows.down}}));
  expert.down = Linear(std::move(down), std::move(bias));
  return expert;
}

// What the router learned beside its matrix.
absl::StatusOr<std::vector<float>> ReadPerExpert(const MoeSpec& spec, const MoeNames& names, WeightReader& reader) {
  if (std::holds_alternative<SigmoidTopKRouter>(spec.router)) {
    return reader.Vector(names.router_bias, spec.num_experts);
  }
  if (std::holds_alternative<GroupedRouter>(spec.router) && reader.Has(names.router_scale)) {
    return reader.Vector(names.router_scale, spec.num_experts);
  }
  return std::vector<float>();
}

}  // namespace

std::unique_ptr<FeedForward> MakeMoe(Linear gate, std::unique_ptr<Router> router, std::vector<Expert> experts,
                                     std::unique_ptr<FeedForward> shared) {
  EXPERTD_CHECK(static_cast<int>(experts.size()) == gate.num_outputs());
  return std::make_unique<Moe>(std::move(gate), std::move(router), std::move(experts), std::move(shared));
}

absl::StatusOr<std::unique_ptr<FeedForward>> LoadMoe(const MoeSpec& spec, int hidden_size, const MoeNames& names,
                                                     WeightReader& reader) {
  // The router stays in fp32: it is small, and rounding it would send tokens to other experts.
  ASSIGN_OR_RETURN(std::vector<float> gate_bias, reader.OptionalBias(names.router, spec.num_experts));
  ASSIGN_OR_RETURN(WeightMatrix gate,
                   reader.Matrix({.name = names.router,
                                  .cols = hidden_size,
                                  .parts = {TensorRows::All(names.router, spec.num_experts, hidden_size)},
                                  .format = WeightFormat::kF32}));
  ASSIGN_OR_RETURN(std::vector<float> per_expert, ReadPerExpert(spec, names, reader));
  const bool is_stacked = reader.Has(names.experts + ".gate_up_proj");
  std::vector<Expert> experts(static_cast<size_t>(spec.num_experts));
  for (int e = 0; e < spec.num_experts; ++e) {
    const ExpertRows rows = (is_stacked ? StackedExpert : SeparateExpert)(spec, hidden_size, names.experts, e);
    ASSIGN_OR_RETURN(experts[e], LoadExpert(StrCat(names.experts, ".", e), rows, hidden_size, reader));
  }
  std::unique_ptr<FeedForward> shared;
  if (spec.shared_intermediate_size > 0) {
    ASSIGN_OR_RETURN(shared, LoadMlp({spec.shared_intermediate_size}, hidden_size, names.shared, reader));
  }
  return MakeMoe(Linear(std::move(gate), std::move(gate_bias)), MakeRouter(spec, std::move(per_expert)),
                 std::move(experts), std::move(shared));
}

}  // namespace expertd
