// The cut of a step's attention. It is cut into parts of about equal work: where each part is a whole sequence, it
// prepares its own rows just before it attends; where sequences are cut, all rows are prepared first, as the parts read
// them. A sequence is cut by groups of heads first, as the keys of each group are then read by one thread; then by
// rows; then, as one stream with a long context needs it, by keys, whose partial results are merged at the end. Where
// all groups read the same keys, they are cut last.
#include "engine/layers/attention_step.h"

#include <algorithm>

#include "engine/base/log.h"
#include "engine/layers/work_split.h"

namespace expertd {
namespace {

// Rows of a part of a long prompt: enough that a block of keys read from memory serves many queries.
constexpr int kMinPartRows = 32;

// Floats of the partial results of `num_heads` heads: parts of the keys up to row `row_end` of a sequence, `num_rows`
// rows.
int64_t PartialFloats(const BatchSequence& sequence, int row_end, int num_rows, int num_heads, int value_dim) {
  return int64_t{NumAttentionParts(sequence.num_computed + row_end)} * num_rows * num_heads *
         AttentionPartialFloats(value_dim);
}

// All but queries, output and scale.
AttentionArgs ArgsOf(const AttentionPart& part, const ForwardBatch& batch, const AttentionShape& shape,
                     const PagedKvLayer& layer) {
  const BatchSequence& sequence = batch.sequences[part.sequence];
  const int first_row = part.row_begin - sequence.first_row;
  AttentionArgs args;
  args.num_rows = part.num_rows;
  args.first_position = sequence.num_computed + first_row;
  args.num_heads = shape.shares_keys ? (part.group_end - part.group_begin) * shape.group_heads() : shape.num_heads;
  args.kv = layer;
  args.block_table = batch.block_tables.data() + sequence.first_block;
  args.partials = part.partials;
  if (part.partials != nullptr && shape.shares_keys) {
    // Calls with some of the heads have partial results of those alone.
    args.partials += PartialFloats(sequence, first_row + part.num_rows, part.num_rows,
                                   part.group_begin * shape.group_heads(), shape.value_dim);
  }
  args.part_begin = part.key_part_begin;
  args.part_end = part.key_part_end;
  return args;
}

// The K/V heads of a part.
struct HeadRange {
  int begin = 0;
  int end = 1;
};

HeadRange KvHeadsOf(const AttentionPart& part, const AttentionShape& shape) {
  return shape.shares_keys ? HeadRange{} : HeadRange{part.group_begin, part.group_end};
}

// Multiply-adds of a sequence's attention in one layer: q . k and p . v for every row, head and key.
int64_t AttentionWork(const BatchSequence& sequence, const AttentionShape& shape) {
  const int64_t keys = sequence.num_computed + (sequence.num_tokens + 1) / 2;
  return keys * sequence.num_tokens * shape.num_heads * (shape.key_dim + shape.value_dim);
}

// Multiply-adds.
struct StepWork {
  int64_t total = 0;  // of all sequences
  int64_t part = 0;   // wanted of a part
};

StepWork WorkOf(const ForwardBatch& batch, const AttentionShape& shape, int num_threads) {
  StepWork work;
  for (const BatchSequence& sequence : batch.sequences) work.total += AttentionWork(sequence, shape);
  work.part = num_threads == 1 ? INT64_MAX : std::max(kMinPartWork, work.total / (kPartsPerThread * num_threads));
  return work;
}

struct PartCounts {
  int groups = 1;
  int rows = 1;
  int keys = 1;
  int total() const { return groups * rows * keys; }
};

PartCounts CountParts(const BatchSequence& sequence, const AttentionShape& shape, const StepWork& work) {
  const int64_t wanted = AttentionWork(sequence, shape) / work.part;
  PartCounts counts;
  const auto cut = [&](int64_t most) {
    return static_cast<int>(std::clamp<int64_t>(wanted / counts.total(), 1, std::max<int64_t>(most, 1)));
  };
  if (!shape.shares_keys) counts.groups = cut(shape.num_groups);
  counts.rows = cut(CeilDiv(sequence.num_tokens, kMinPartRows));
  const int64_t share = kMaxAttentionPartialFloats / CeilDiv(work.total, AttentionWork(sequence, shape));
  if (PartialFloats(sequence, sequence.num_tokens, sequence.num_tokens, shape.num_heads, shape.value_dim) <= share) {
    counts.keys = cut(NumAttentionParts(sequence.num_computed + 1));  // as many as every row sees
  }
  if (shape.shares_keys) counts.groups = cut(shape.num_groups);
  return counts;
}

// Cuts the parts of a step into arrays that have room for them.
class AttentionCutter {
 public:
  AttentionCutter(const AttentionShape& shape, AttentionPart* parts, AttentionPart* merges, ScratchArena& scratch)
      : shape_(shape), parts_(parts), merges_(merges), scratch_(scratch) {}

  void Cut(int sequence_index, const BatchSequence& sequence, const PartCounts& counts) {
    for (int i = 0; i < counts.rows; ++i) {
      const int row_begin = PartBegin(sequence.num_tokens, counts.rows, i);
      const int row_end = PartBegin(sequence.num_tokens, counts.rows, i + 1);
      AttentionPart part = {.sequence = sequence_index,
                            .row_begin = sequence.first_row + row_begin,
                            .num_rows = row_end - row_begin};
      if (counts.keys > 1) {
        part.partials = scratch_.Take<float>(
            PartialFloats(sequence, row_end, part.num_rows, shape_.num_heads, shape_.value_dim));
      }
      CutGroups(part, NumAttentionParts(sequence.num_computed + row_end), counts);
    }
  }

 private:
  void CutGroups(AttentionPart part, int num_key_parts, const PartCounts& counts) {
    for (int i = 0; i < counts.groups; ++i) {
      part.group_begin = PartBegin(shape_.num_groups, counts.groups, i);
      part.group_end = PartBegin(shape_.num_groups, counts.groups, i + 1);
      for (int j = 0; j < counts.keys; ++j) {
        part.key_part_begin = PartBegin(num_key_parts, counts.keys, j);
        part.key_part_end = PartBegin(num_key_parts, counts.keys, j + 1);
        *parts_++ = part;
      }
      if (counts.keys > 1) *merges_++ = part;
    }
  }

  const AttentionShape& shape_;
  AttentionPart* parts_;   // the next
  AttentionPart* merges_;  // the next
  ScratchArena& scratch_;
};

void CutAttention(const ForwardBatch& batch, ForwardContext& context, AttentionStep* step) {
  const StepWork work = WorkOf(batch, step->shape, context.pool.num_threads());
  const auto num_sequences = static_cast<int>(batch.sequences.size());
  PartCounts* const counts = context.scratch.Take<PartCounts>(num_sequences);
  int num_parts = 0, num_merges = 0;
  for (int i = 0; i < num_sequences; ++i) {
    counts[i] = CountParts(batch.sequences[i], step->shape, work);
    num_parts += counts[i].total();
    if (counts[i].keys > 1) num_merges += counts[i].rows * counts[i].groups;
  }
  AttentionPart* const parts = context.scratch.Take<AttentionPart>(num_parts);
  AttentionPart* const merges = context.scratch.Take<AttentionPart>(num_merges);
  AttentionCutter cutter(step->shape, parts, merges, context.scratch);
  for (int i = 0; i < num_sequences; ++i) cutter.Cut(i, batch.sequences[i], counts[i]);
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

// Calls the kernels for the parts of a step.
class PartRunner {
 public:
  PartRunner(const AttentionStep& step, const AttentionRows& rows, float scale, const PagedKvLayer& layer)
      : step_(step), rows_(rows), scale_(scale), layer_(layer) {}

  void Attend(const AttentionPart& part, float* scratch, const Kernels& kernels) const {
    const HeadRange heads = KvHeadsOf(part, step_.shape);
    kernels.attention(Args(part), heads.begin, heads.end, scratch);
  }

  void Merge(const AttentionPart& part, const Kernels& kernels) const {
    const HeadRange heads = KvHeadsOf(part, step_.shape);
    kernels.merge_attention(Args(part), heads.begin, heads.end);
  }

 private:
  AttentionArgs Args(const AttentionPart& part) const {
    const AttentionShape& shape = step_.shape;
    const int64_t first_head = shape.shares_keys ? int64_t{part.group_begin} * shape.group_heads() : 0;
    AttentionArgs args = ArgsOf(part, *step_.batch, shape, layer_);
    args.queries = rows_.queries + part.row_begin * rows_.query_stride + first_head * shape.key_dim;
    args.query_stride = rows_.query_stride;
    args.output = rows_.output + part.row_begin * rows_.output_stride + first_head * shape.value_dim;
    args.output_stride = rows_.output_stride;
    args.scale = scale_;
    return args;
  }

  const AttentionStep& step_;
  const AttentionRows& rows_;
  const float scale_;
  const PagedKvLayer& layer_;
};

}  // namespace

AttentionStep PlanAttention(const ForwardBatch& batch, const AttentionShape& shape, KvCache& kv, const RopeTable& rope,
                            ForwardContext& context) {
  const int num_tokens = batch.num_tokens();
  int64_t* const slots = context.scratch.Take<int64_t>(num_tokens);
  RopeRow* const angles = context.scratch.Take<RopeRow>(num_tokens);
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
  step.shape = shape;
  step.slots = slots;
  step.angles = angles;
  CutAttention(batch, context, &step);
  step.parts_are_sequences = step.parts.size() == batch.sequences.size();
  const PagedKvLayer layer = PagedLayer(kv, 0);
  for (const AttentionPart& part : step.parts) {
    step.part_scratch_floats =
        std::max(step.part_scratch_floats, context.kernels.attention_scratch_floats(ArgsOf(part, batch, shape, layer)));
  }
  return step;
}

PagedKvLayer PagedLayer(KvCache& kv, int layer) {
  const KvCacheSpec& spec = kv.spec();
  return {kv.keys(layer), kv.values(layer), spec.format,    spec.num_kv_heads,
          spec.head_dim,  spec.value_dim,   spec.block_size};
}

void Attend(const AttentionStep& step, const AttentionRows& rows, float scale, const PagedKvLayer& layer,
            absl::FunctionRef<void(int row)> prepare, int64_t prepare_work, ForwardContext& context) {
  ScratchArena::Scope scope(context.scratch);
  if (!step.parts_are_sequences) {
    ParallelRows(context.pool, step.batch->num_tokens(), prepare_work, [&](int begin, int end, int) {
      for (int row = begin; row < end; ++row) prepare(row);
    });
  }
  const PartRunner runner(step, rows, scale, layer);
  float* const scratch = context.scratch.Take<float>(step.part_scratch_floats * context.pool.num_threads());
  context.pool.ParallelFor(static_cast<int>(step.parts.size()), [&](int index, int thread) {
    const AttentionPart& part = step.parts[index];
    if (step.parts_are_sequences) {
      for (int row = part.row_begin; row < part.row_begin + part.num_rows; ++row) prepare(row);
    }
    runner.Attend(part, scratch + thread * step.part_scratch_floats, context.kernels);
  });
  context.pool.ParallelFor(static_cast<int>(step.merges.size()), [&](int index, int) {
    runner.Merge(step.merges[index], context.kernels);
  });
}

}  // namespace expertd
