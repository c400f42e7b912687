#include "tests/unit/scheduler/support/sequences.h"

#include <numeric>
#include <ostream>
#include <utility>

namespace expertd {

std::vector<int32_t> Tokens(int32_t first, int32_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

void PrintTo(const Row& row, std::ostream* out) {
  *out << "{" << row.id << ", " << row.num_tokens << ", " << (row.samples ? "true" : "false") << "}";
}

std::vector<Row> RowsOf(const StepPlan& plan) {
  std::vector<Row> rows;
  for (const PlannedSequence& planned : plan.sequences) {
    rows.push_back({planned.sequence->id, planned.num_tokens, planned.samples});
  }
  return rows;
}

std::vector<uint64_t> IdsOf(const std::vector<Sequence*>& sequences) {
  std::vector<uint64_t> ids;
  for (const Sequence* sequence : sequences) ids.push_back(sequence->id);
  return ids;
}

Sequence& Sequences::Make(std::vector<int32_t> tokens) {
  Sequence& sequence = sequences_.emplace_back();
  sequence.id = sequences_.size();
  sequence.num_prompt_tokens = static_cast<int32_t>(tokens.size());
  sequence.tokens = std::move(tokens);
  sequence.stop.max_tokens = 100;
  sequence.eos_token_ids = {0};
  sequence.arrival_time = absl::UnixEpoch() + absl::Milliseconds(static_cast<int64_t>(sequence.id));
  return sequence;
}

StepResult SampleAll(const StepPlan& plan, int32_t token) {
  StepResult result;
  for (const PlannedSequence& planned : plan.sequences) {
    SequenceResult& of_sequence = result.sequences.emplace_back();
    if (planned.samples) of_sequence.token = token;
  }
  return result;
}

StepPlan Step(Scheduler& scheduler, int32_t token, absl::Time now) {
  StepPlan plan = scheduler.Plan(now);
  scheduler.Commit(plan, SampleAll(plan, token));
  return plan;
}

}  // namespace expertd
