// Sequences and steps for the scheduler's tests, without a model.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/time/time.h"
#include "engine/request/sequence.h"
#include "engine/request/step_plan.h"
#include "engine/scheduler/scheduler.h"

namespace expertd {

// `count` tokens: first, first + 1, ...
std::vector<int32_t> Tokens(int32_t first, int32_t count);

// What a plan says of one sequence.
struct Row {
  uint64_t id = 0;
  int32_t num_tokens = 0;
  bool samples = false;

  friend bool operator==(const Row&, const Row&) = default;
};
void PrintTo(const Row& row, std::ostream* out);
std::vector<Row> RowsOf(const StepPlan& plan);
std::vector<uint64_t> IdsOf(const std::vector<Sequence*>& sequences);

// Makes sequences with ids 1, 2, ... that arrive a millisecond after each other, and keeps them alive.
class Sequences {
 public:
  // A waiting sequence with max_tokens 100, EOS 0 and no deadline.
  Sequence& Make(std::vector<int32_t> tokens);
  Sequence& operator[](uint64_t id) { return sequences_[id - 1]; }

 private:
  std::deque<Sequence> sequences_;
};

// The result of a plan in which every sequence that samples gets `token`.
StepResult SampleAll(const StepPlan& plan, int32_t token);

// Plan and Commit with `token` for all that sample; returns the plan.
StepPlan Step(Scheduler& scheduler, int32_t token = 7, absl::Time now = absl::UnixEpoch() + absl::Seconds(1));

}  // namespace expertd
