// Grouped-query attention (arXiv 2305.13245) over the paged cache, and the plan of a step that all attention layers
// share. A step's attention is cut into parts of about equal work: where each part is a whole sequence, it turns and
// stores its own q, k and v just before it attends; where sequences are cut, all rows are stored first, as the parts
// read them. A sequence is cut by K/V heads first, as each head's keys are then read by one thread; then by rows; then,
// as one stream with a long context needs it, by keys, whose partial results are merged at the end. Used by the models
// through attention.h; the parts run on the pool's threads.
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/attention.h"
#include "engine/layers/linear.h"
#include "engine/layers/norm.h"
#include "engine/layers/work_split.h"

namespace expertd {
namespace {

// Rows of a part of a long prompt: enough that a block of keys read from memory serves many queries.
constexpr int kMinPartRows = 32;

// Rotating, normalizing and storing one head element, in multiply-adds of a product.
constexpr int64_t kPrepareElementWork = 8;

PagedKvLayer PagedLayer(KvCache& kv, int layer) {
  const KvCacheSpec& spec = kv.spec();
  return {kv.keys(layer), kv.values(layer), spec.format, spec.num_kv_heads, spec.head_dim, spec.block_size};
}

AttentionArgs ArgsOf(const AttentionPart& part, const ForwardBatch& batch, const GqaSpec& spec,
                     const PagedKvLayer& layer) {
  const BatchSequence& sequence = batch.sequences[part.sequence];
  AttentionArgs args;
  args.num_rows = part.num_rows;
  args.first_position = sequence.num_computed + (part.row_begin - sequence.first_row);
  args.num_heads = spec.num_heads;
  args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)));
  args.kv = layer;
  args.block_table = batch.block_tables.data() + sequence.first_block;
  args.partials = part.partials;
  args.part_begin = part.key_part_begin;
  args.part_end = part.key_part_end;
  return args;
}

// Multiply-adds of a sequence's attention in one layer: q . k and p . v for every row, head and key.
int64_t AttentionWork(const BatchSequence& sequence, const GqaSpec& spec) {
  const int64_t keys = sequence.num_computed + (sequence.num_tokens + 1) / 2;
  return 2 * keys * sequence.num_tokens * spec.num_heads * spec.head_dim;
}

// Multiply-adds.
struct StepWork {
  int64_t total = 0;  // of all sequences
  int64_t part = 0;   // wanted of a part
};

StepWork WorkOf(const ForwardBatch& batch, const GqaSpec& spec, int num_threads) {
  StepWork work;
  for (const BatchSequence& sequence : batch.sequences) work.total += AttentionWork(sequence, spec);
  work.part = num_threads == 1 ? INT64_MAX : std::max(kMinPartWork, work.total / (kPartsPerThread * num_threads));
  return work;
}

struct PartCounts {
  int heads = 1;
  int rows = 1;
  int keys = 1;
  int total() const { return heads * rows * keys; }
};

// Floats of all partial results of rows [.., row_end) of a sequence, `num_rows` of them.
int64_t PartialFloats(const BatchSequence& sequence, int row_end, int num_rows, const GqaSpec& spec) {
  return int64_t{NumAttentionParts(sequence.num_computed + row_end)} * num_rows * spec.num_heads *
         AttentionPartialFloats(spec.head_dim);
}

PartCounts CountParts(const BatchSequence& sequence, const GqaSpec& spec, const StepWork& work) {
  const int64_t wanted = AttentionWork(sequence, spec) / work.part;
  PartCounts counts;
  counts.heads = static_cast<int>(std::clamp<int64_t>(wanted, 1, spec.num_kv_heads));
  const int64_t most_rows = CeilDiv(sequence.num_tokens, kMinPartRows);
  counts.rows = static_cast<int>(std::clamp<int64_t>(wanted / counts.heads, 1, std::max<int64_t>(most_rows, 1)));
  const int64_t share = kMaxAttentionPartialFloats / CeilDiv(work.total, AttentionWork(sequence, spec));
  if (PartialFloats(sequence, sequence.num_tokens, sequence.num_tokens, spec) > share) return counts;
  const int64_t most_keys = NumAttentionParts(sequence.num_computed + 1);  // as many as every row sees
  counts.keys = static_cast<int>(std::clamp<int64_t>(wanted / (counts.heads * counts.rows), 1, most_keys));
  return counts;
}

// Cuts the parts of a step into arrays that have room for them.
class AttentionCutter {
 public:
  AttentionCutter(const GqaSpec& spec, AttentionPart* parts, AttentionPart* merges, ScratchArena& scratch)
      : spec_(spec), parts_(parts), merges_(merges), scratch_(scratch) {}

  void Cut(int sequence_index, const BatchSequence& sequence, const PartCounts& counts) {
    for (int i = 0; i < counts.rows; ++i) {
      const int row_begin = PartBegin(sequence.num_tokens, counts.rows, i);
      const int row_end = PartBegin(sequence.num_tokens, counts.rows, i + 1);
      AttentionPart part = {.sequence = sequence_index,
                            .row_begin = sequence.first_row + row_begin,
                            .num_rows = row_end - row_begin};
      if (counts.keys > 1) {
        part.partials = scratch_.Take<float>(PartialFloats(sequence, row_end, part.num_rows, spec_));
      }
      CutHeads(part, NumAttentionParts(sequence.num_computed + row_end), counts);
    }
  }

 private:
  void CutHeads(AttentionPart part, int num_key_parts, const PartCounts& counts) {
    for (int i = 0; i < counts.heads; ++i) {
      part.kv_head_begin = PartBegin(spec_.num_kv_heads, counts.heads, i);
      part.kv_head_end = PartBegin(spec_.num_kv_heads, counts.heads, i + 1);
      for (int j = 0; j < counts.keys; ++j) {
        part.key_part_begin = PartBegin(num_key_parts, counts.keys, j);
        part.key_part_end = PartBegin(num_key_parts, counts.keys, j + 1);
        *parts_++ = part;
      }
      if (counts.keys > 1) *merges_++ = part;
    }
  }

  const GqaSpec& spec_;
  AttentionPart* parts_;   // the next
  AttentionPart* merges_;  // the next
  ScratchArena& scratch_;
};

void CutAttention(const ForwardBatch& batch, const GqaSpec& spec, ForwardContext& context, AttentionStep* step) {
  const StepWork work = WorkOf(batch, spec, context.pool.num_threads());
  int num_parts = 0, num_merges = 0;
  for (const BatchSequence& sequence : batch.sequences) {
    const PartCounts counts = CountParts(sequence, spec, work);
    num_parts += counts.total();
    if (counts.keys > 1) num_merges += counts.rows * counts.heads;
  }
  AttentionPart* const parts = context.scratch.Take<AttentionPart>(num_parts);
  AttentionPart* const merges = context.scratch.Take<AttentionPart>(num_merges);
  AttentionCutter cutter(spec, parts, merges, context.scratch);
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    cutter.Cut(static_cast<int>(i), batch.sequences[i], CountParts(batch.sequences[i], spec, work));
  }
  step->parts = {parts, static_cast<size_t>(num_parts)};
  step->merges = {merges, static_cast<size_t>(num_merges)};
}

void PlaceRows(const BatchSequence& sequence, const ForwardBatch& batch, const KvCache& kv, const RopeTable& rope,
               int64_t* slots, RopeRow* angles) {
  const int block_size = kv.spec().block_size;
  for (int i = 0; i < sequence.num_tokens; ++i) {
    const int row = sequence.first_row + i;
    const int32_t position = batch.positions[row];
    EXPERTD_CHECK(position == sequence.num_computed + i, "row ", row, " has position ", position);
    EXPERTD_CHECK(position / block_size < sequence.num_blocks, "position ", position, " has no block");
    const int64_t block = batch.block_tables[sequence.first_block + position / block_size];
    EXPERTD_CHECK(block >= 0 && block < kv.spec().num_blocks, "block ", block);
    slots[row] = block * block_size + position % block_size;
    angles[row] = rope.Row(position);
  }
}

class GqaAttention : public Attention {
 public:
  GqaAttention(const GqaSpec& spec, Linear qkv, Linear output, RmsNorm q_norm, RmsNorm k_norm, int rotary_dim)
      : spec_(spec),
        rotary_dim_(rotary_dim),
        qkv_(std::move(qkv)),
        output_(std::move(output)),
        q_norm_(std::move(q_norm)),
        k_norm_(std::move(k_norm)) {}

  int64_t size_bytes() const override {
    return qkv_.size_bytes() + output_.size_bytes() + q_norm_.size_bytes() + k_norm_.size_bytes();
  }

  InputNeeds input_needs(const Kernels& kernels) const override { return {.form = qkv_.input_form(kernels)}; }

  void AddTo(const LayerInput& x, const AttentionStep& step, int layer, KvCache& kv, float* residual,
             ForwardContext& context) const override {
    const int num_rows = step.batch->num_tokens();
    ScratchArena::Scope scope(context.scratch);
    float* const qkv = context.scratch.Take<float>(num_rows * qkv_width());
    float* const attended = context.scratch.Take<float>(num_rows * query_width());
    qkv_.Forward(x.rows, num_rows, qkv, qkv_width(), context);
    Attend(step, PagedLayer(kv, layer), qkv, attended, context);
    output_.AddTo(attended, query_width(), num_rows, residual, context);
  }

 private:
  int64_t query_width() const { return int64_t{spec_.num_heads} * spec_.head_dim; }
  int64_t kv_width() const { return int64_t{spec_.num_kv_heads} * spec_.head_dim; }
  int64_t qkv_width() const { return query_width() + 2 * kv_width(); }

  void Attend(const AttentionStep& step, const PagedKvLayer& layer, float* qkv, float* attended,
              ForwardContext& context) const {
    const int num_rows = step.batch->num_tokens();
    if (!step.parts_are_sequences) {
      ParallelRows(context.pool, num_rows, kPrepareElementWork * qkv_width(), [&](int begin, int end, int) {
        for (int row = begin; row < end; ++row) Prepare(step, row, layer, qkv, context.kernels);
      });
    }
    float* const scratch = context.scratch.Take<float>(step.part_scratch_floats * context.pool.num_threads());
    const int num_parts = static_cast<int>(step.parts.size());
    const auto args_of = [&](const AttentionPart& part) {
      AttentionArgs args = ArgsOf(part, *step.batch, spec_, layer);
      args.queries = qkv + part.row_begin * qkv_width();
      args.query_stride = qkv_width();
      args.output = attended + part.row_begin * query_width();
      args.output_stride = query_width();
      return args;
    };
    const auto attend = [&](int index, int thread) {
      const AttentionPart& part = step.parts[index];
      if (step.parts_are_sequences) {
        const int end = part.row_begin + part.num_rows;
        for (int row = part.row_begin; row < end; ++row) Prepare(step, row, layer, qkv, context.kernels);
      }
      context.kernels.attention(args_of(part), part.kv_head_begin, part.kv_head_end,
                                scratch + thread * step.part_scratch_floats);
    };
    context.pool.ParallelFor(num_parts, attend);
    context.pool.ParallelFor(static_cast<int>(step.merges.size()), [&](int index, int) {
      const AttentionPart& part = step.merges[index];
      context.kernels.merge_attention(args_of(part), part.kv_head_begin, part.kv_head_end);
    });
  }

  // Norms and turns the q and k heads of a row in place and stores its K and V.
  void Prepare(const AttentionStep& step, int row, const PagedKvLayer& layer, float* qkv,
               const Kernels& kernels) const {
    float* const query = qkv + row * qkv_width();
    float* const key = query + query_width();
    const RopeRow angles = step.angles[row];
    PrepareHeads(query, spec_.num_heads, q_norm_, angles, kernels);
    PrepareHeads(key, spec_.num_kv_heads, k_norm_, angles, kernels);
    kernels.store_kv(key, key + kv_width(), step.slots[row], layer);
  }

  void PrepareHeads(float* heads, int num_heads, const RmsNorm& norm, const RopeRow& angles,
                    const Kernels& kernels) const {
    for (int head = 0; head < num_heads; ++head, heads += spec_.head_dim) {
      if (spec_.has_qk_norm) norm.Apply(heads, heads, kernels);
      kernels.rope(angles.cos, angles.sin, rotary_dim_, heads);
    }
  }

  const GqaSpec spec_;
  const int rotary_dim_;
  const Linear qkv_;
  const Linear output_;
  const RmsNorm q_norm_;
  const RmsNorm k_norm_;
};

absl::StatusOr<Linear> LoadQkv(const GqaSpec& spec, int hidden_size, const GqaNames& names, WeightReader& reader) {
  const int query_width = spec.num_heads * spec.head_dim;
  const int kv_width = spec.num_kv_heads * spec.head_dim;
  const std::array<std::pair<std::string, int>, 3> sources = {
      {{names.q, query_width}, {names.k, kv_width}, {names.v, kv_width}}};
  MatrixSpec matrix = {.name = names.q + "+kv", .cols = hidden_size};
  std::vector<float> bias;
  for (const auto& [name, width] : sources) {
    matrix.parts.push_back(TensorRows::All(name + ".weight", width, hidden_size));
    if (!spec.has_qkv_bias) continue;
    ASSIGN_OR_RETURN(const std::vector<float> part_bias, reader.Vector(name + ".bias", width));
    bias.insert(bias.end(), part_bias.begin(), part_bias.end());
  }
  ASSIGN_OR_RETURN(WeightMatrix weight, reader.Matrix(matrix));
  return Linear(std::move(weight), std::move(bias));
}

absl::StatusOr<Linear> LoadOutput(const GqaSpec& spec, int hidden_size, const GqaNames& names, WeightReader& reader) {
  const int width = spec.num_heads * spec.head_dim;
  ASSIGN_OR_RETURN(WeightMatrix weight,
                   reader.Matrix({.name = names.output,
                                  .cols = width,
                                  .parts = {TensorRows::All(names.output + ".weight", hidden_size, width)}}));
  std::vector<float> bias;
  if (spec.has_output_bias) {
    ASSIGN_OR_RETURN(bias, reader.Vector(names.output + ".bias", hidden_size));
  }
  return Linear(std::move(weight), std::move(bias));
}

}  // namespace

AttentionStep PlanAttention(const ForwardBatch& batch, const GqaSpec& spec, KvCache& kv, const RopeTable& rope,
                            ForwardContext& context) {
  const int num_tokens = batch.num_tokens();
  int64_t* const slots = context.scratch.Take<int64_t>(num_tokens);
  RopeRow* const angles = static_cast<RopeRow*>(context.scratch.Take<RopeRow>(num_tokens));
  int next_row = 0;
  for (const BatchSequence& sequence : batch.sequences) {
    EXPERTD_CHECK(sequence.first_row == next_row && sequence.num_tokens > 0, "sequence begins at row ",
                  sequence.first_row);
    next_row += sequence.num_tokens;
    EXPERTD_CHECK(next_row <= num_tokens, next_row);
    PlaceRows(sequence, batch, kv, rope, slots, angles);
  }
  EXPERTD_CHECK(next_row == num_tokens, "sequences cover ", next_row, " rows of ", num_tokens);

  AttentionStep step;
  step.batch = &batch;
  step.slots = slots;
  step.angles = angles;
  CutAttention(batch, spec, context, &step);
  step.parts_are_sequences = step.parts.size() == batch.sequences.size();
  const PagedKvLayer layer = PagedLayer(kv, 0);
  for (const AttentionPart& part : step.parts) {
    step.part_scratch_floats =
        std::max(step.part_scratch_floats, context.kernels.attention_scratch_floats(ArgsOf(part, batch, spec, layer)));
  }
  return step;
}

absl::StatusOr<std::unique_ptr<Attention>> LoadGqaAttention(const GqaSpec& spec, int hidden_size, double rms_norm_eps,
                                                            const GqaNames& names, WeightReader& reader) {
  ASSIGN_OR_RETURN(Linear qkv, LoadQkv(spec, hidden_size, names, reader));
  ASSIGN_OR_RETURN(Linear output, LoadOutput(spec, hidden_size, names, reader));
  RmsNorm q_norm, k_norm;
  if (spec.has_qk_norm) {
    ASSIGN_OR_RETURN(std::vector<float> q_weight, reader.Vector(StrCat(names.q_norm, ".weight"), spec.head_dim));
    ASSIGN_OR_RETURN(std::vector<float> k_weight, reader.Vector(StrCat(names.k_norm, ".weight"), spec.head_dim));
    q_norm = RmsNorm(std::move(q_weight), rms_norm_eps);
    k_norm = RmsNorm(std::move(k_weight), rms_norm_eps);
  }
  return std::make_unique<GqaAttention>(spec, std::move(qkv), std::move(output), std::move(q_norm), std::move(k_norm),
                                        spec.head_dim);
}

}  // namespace expertd
