#include "engine/runner/model_runner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace expertd {
namespace {

bool ReportsPromptLogprobs(const Sequence& sequence) {
  return sequence.needs_prompt_logits && sequence.sampling.prompt_logprobs.has_value();
}

// Room for `num_rows` rows of logits. Rounded up, so that a batch that grows by one does not allocate every time.
absl::Status Reserve(int64_t num_rows, int64_t vocab_size, AlignedBuffer& logits) {
  constexpr int64_t kRowsStep = 8;
  const auto row_bytes = vocab_size * static_cast<int64_t>(sizeof(float));
  if (logits.size_bytes() >= num_rows * row_bytes) return absl::OkStatus();
  logits = AlignedBuffer();  // first, so that old and new are never held together
  ASSIGN_OR_RETURN(logits, AlignedBuffer::Allocate((num_rows + kRowsStep - 1) / kRowsStep * kRowsStep * row_bytes));
  return absl::OkStatus();
}

// As a new one, with its memory.
void Clear(SequenceResult& result) {
  result.token = -1;
  result.no_valid_token = result.has_nan = result.has_logprob = false;
  result.prompt_logprobs.clear();
}

}  // namespace

ModelRunner::ModelRunner(const Model& model, KvCache& kv_cache, const Kernels& kernels, ThreadPool& pool,
                         ModelRunnerOptions options)
    : model_(model),
      kv_cache_(kv_cache),
      kernels_(kernels),
      pool_(pool),
      vocab_size_(model.config().vocab_size),
      max_prompt_logits_rows_(static_cast<int>(std::clamp<int64_t>(
          options.max_prompt_logits_bytes / (vocab_size_ * static_cast<int64_t>(sizeof(float))), 1, 1 << 20))) {
  for (int thread = 0; thread < pool.num_threads(); ++thread) {
    scratch_.emplace_back(kernels, static_cast<size_t>(vocab_size_));
  }
}

absl::StatusOr<StepResult> ModelRunner::Run(const StepPlan& plan, StepResult reused) {
  EXPERTD_CHECK(!plan.empty());
  FindStates(plan);
  Flatten(plan, prompt_logprobs_from_, max_prompt_logits_rows_, flat_);
  StepResult result = std::move(reused);
  result.sequences.resize(plan.sequences.size());
  for (SequenceResult& sequence : result.sequences) Clear(sequence);
  result.experts_per_layer = 0.0;
  for (int i = 0; i < flat_.num_passes; ++i) RETURN_IF_ERROR(RunPass(plan, flat_.passes[i], result));
  BookPromptPositions(plan);
  return result;
}

void ModelRunner::Forget(uint64_t sequence_id) { states_.erase(sequence_id); }

void ModelRunner::FindStates(const StepPlan& plan) {
  step_states_.clear();
  prompt_logprobs_from_.clear();
  for (const PlannedSequence& planned : plan.sequences) {
    const Sequence& sequence = *planned.sequence;
    const bool reports = ReportsPromptLogprobs(sequence);
    SequenceState* state = nullptr;
    if (reports || UsesPenalties(sequence.sampling)) {
      std::unique_ptr<SequenceState>& kept = states_[sequence.id];
      if (kept == nullptr) kept = std::make_unique<SequenceState>();
      state = kept.get();
    }
    step_states_.push_back(state);
    prompt_logprobs_from_.push_back(
        reports ? std::max(state->next_prompt_position, sequence.sampling.prompt_logprobs->start) : kNoPromptLogprobs);
  }
}

absl::Status ModelRunner::RunPass(const StepPlan& plan, const ForwardPass& pass, StepResult& result) {
  const int num_rows = static_cast<int>(pass.uses.size());
  RETURN_IF_ERROR(Reserve(num_rows, vocab_size_, logits_));
  const std::span<float> logits = logits_.As<float>();
  ForwardContext context{.kernels = kernels_, .pool = pool_, .scratch = arena_};
  model_.Forward(pass.batch, kv_cache_, context, logits.data());
  if (context.counters.moe_layers > 0) {
    result.experts_per_layer =
        static_cast<double>(context.counters.activated_experts) / static_cast<double>(context.counters.moe_layers);
  }

  for (const LogitsUse& use : pass.uses) {
    if (!use.samples) result.sequences[use.sequence_index].prompt_logprobs.resize(use.prompt_index + 1);
  }
  pool_.ParallelFor(num_rows, [&](int row, int thread) {
    ProcessRow(plan, pass.uses[row], logits.subspan(row * vocab_size_, vocab_size_), scratch_[thread], result);
  });
  // Rows of one sequence are processed by several threads: what they have in common is told here.
  for (const LogitsUse& use : pass.uses) {
    SequenceResult& sequence = result.sequences[use.sequence_index];
    if (!use.samples && std::isnan(sequence.prompt_logprobs[use.prompt_index].logprob)) sequence.has_nan = true;
  }
  return absl::OkStatus();
}

void ModelRunner::ProcessRow(const StepPlan& plan, const LogitsUse& use, std::span<float> logits,
                             SamplerScratch& scratch, StepResult& result) const {
  const Sequence& sequence = *plan.sequences[use.sequence_index].sequence;
  SequenceResult& sequence_result = result.sequences[use.sequence_index];
  if (!use.samples) {
    sequence_result.prompt_logprobs[use.prompt_index] =
        ComputeLogprob(logits, use.prompt_token, *sequence.sampling.prompt_logprobs, scratch);
    return;
  }
  SequenceState* state = step_states_[use.sequence_index];
  SampleToken(logits, sequence, state == nullptr ? nullptr : &state->history, scratch, sequence_result);
}

void ModelRunner::BookPromptPositions(const StepPlan& plan) {
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    if (step_states_[i] == nullptr) continue;
    const Sequence& sequence = *plan.sequences[i].sequence;
    // The logits of the last row tell about the position after it.
    const int32_t next = sequence.num_computed_tokens + plan.sequences[i].num_tokens + 1;
    int32_t& kept = step_states_[i]->next_prompt_position;
    kept = std::max(kept, std::min(next, sequence.num_prompt_tokens));
  }
}

}  // namespace expertd
