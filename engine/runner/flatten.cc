#include "engine/runner/flatten.h"

#include "engine/base/log.h"

namespace expertd {
namespace {

void Clear(ForwardPass& pass) {
  pass.batch.tokens.clear();
  pass.batch.positions.clear();
  pass.batch.sequences.clear();
  pass.batch.block_tables.clear();
  pass.batch.logits_rows.clear();
  pass.uses.clear();
}

// Adds rows to the passes of a step, one after another.
class PassWriter {
 public:
  PassWriter(int max_prompt_logits_rows, FlatStep& step) : max_prompt_rows_(max_prompt_logits_rows), step_(step) {
    step_.num_passes = 0;
    StartPass();
  }

  void AddSequence(const PlannedSequence& planned, int32_t sequence_index, int32_t prompt_logprobs_from) {
    const Sequence& sequence = *planned.sequence;
    const int32_t begin = sequence.num_computed_tokens, end = begin + planned.num_tokens;
    EXPERTD_CHECK(planned.num_tokens > 0 && end <= sequence.num_tokens(), "sequence ", sequence.id, ": rows ", begin,
                  " to ", end, " of ", sequence.num_tokens());
    int32_t prompt_index = 0;
    for (int32_t position = begin; position < end; ++position) {
      // The logits of a row tell about the token after it.
      const int32_t next = position + 1;
      const bool reports = next >= prompt_logprobs_from && next < sequence.num_prompt_tokens;
      const bool is_cut = reports && num_prompt_rows_ == max_prompt_rows_;
      if (is_cut) StartPass();
      if (is_cut || position == begin) StartSequence(sequence, position);
      AddRow(sequence.tokens[position], position);
      if (reports) {
        AddUse(
            {.sequence_index = sequence_index, .prompt_token = sequence.tokens[next], .prompt_index = prompt_index++});
        ++num_prompt_rows_;
      }
    }
    if (planned.samples) {
      EXPERTD_CHECK(end == sequence.num_tokens(), "sequence ", sequence.id, " samples before its last token");
      AddUse({.sequence_index = sequence_index, .samples = true});
    }
  }

 private:
  ForwardBatch& batch() { return pass_->batch; }

  void StartPass() {
    if (step_.num_passes == static_cast<int>(step_.passes.size())) step_.passes.emplace_back();
    pass_ = &step_.passes[step_.num_passes++];
    Clear(*pass_);
    num_prompt_rows_ = 0;
  }

  void StartSequence(const Sequence& sequence, int32_t position) {
    batch().sequences.push_back({.first_row = batch().num_tokens(),
                                 .num_tokens = 0,
                                 .num_computed = position,
                                 .first_block = static_cast<int32_t>(batch().block_tables.size()),
                                 .num_blocks = static_cast<int32_t>(sequence.blocks.size())});
    for (const BlockRef& block : sequence.blocks) batch().block_tables.push_back(block.id());
  }

  void AddRow(int32_t token, int32_t position) {
    batch().tokens.push_back(token);
    batch().positions.push_back(position);
    ++batch().sequences.back().num_tokens;
  }

  // Of the row added last.
  void AddUse(const LogitsUse& use) {
    batch().logits_rows.push_back(batch().num_tokens() - 1);
    pass_->uses.push_back(use);
  }

  const int max_prompt_rows_;
  FlatStep& step_;
  ForwardPass* pass_ = nullptr;
  int num_prompt_rows_ = 0;  // of this pass
};

}  // namespace

void Flatten(const StepPlan& plan, std::span<const int32_t> prompt_logprobs_from, int max_prompt_logits_rows,
             FlatStep& step) {
  PassWriter writer(max_prompt_logits_rows, step);
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    writer.AddSequence(plan.sequences[i], static_cast<int32_t>(i), prompt_logprobs_from[i]);
  }
}

}  // namespace expertd
