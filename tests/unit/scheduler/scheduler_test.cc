#include "engine/scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/scheduler/support/sequences.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Time kStart = absl::UnixEpoch();

// Roomy: budgets that a test wants to feel, it makes small.
SchedulerConfig Config() {
  SchedulerConfig config;
  config.max_num_seqs = 8;
  config.max_num_batched_tokens = 64;
  config.block_size = 4;
  config.num_blocks = 64;
  config.max_model_len = 128;
  return config;
}

TEST(SchedulerTest, ComputesAPromptThenOneTokenAtATime) {
  Sequences sequences;
  Scheduler scheduler(Config());
  Sequence& sequence = sequences.Make(Tokens(10, 6));
  scheduler.Add(&sequence);

  const StepPlan first = Step(scheduler, 7);
  const StepPlan second = Step(scheduler, 8);

  EXPECT_THAT(RowsOf(first), ElementsAre(Row{1, 6, true}));
  EXPECT_THAT(RowsOf(second), ElementsAre(Row{1, 1, true}));
  EXPECT_THAT(sequence.tokens, ElementsAre(10, 11, 12, 13, 14, 15, 7, 8));
  EXPECT_EQ(sequence.num_computed_tokens, 7);
  EXPECT_EQ(sequence.num_output_tokens(), 2);
  EXPECT_EQ(sequence.state, SequenceState::kRunning);
}

TEST(SchedulerTest, HasWorkUntilTheLastSequenceEnds) {
  Sequences sequences;
  Scheduler scheduler(Config());
  const bool at_first = scheduler.HasWork();
  Sequence& sequence = sequences.Make(Tokens(10, 3));
  scheduler.Add(&sequence);
  const bool when_waiting = scheduler.HasWork();
  Step(scheduler, 0);
  const bool when_ended = scheduler.HasWork();
  scheduler.Finish(&sequence, sequence.finish_reason);

  EXPECT_FALSE(at_first);
  EXPECT_TRUE(when_waiting);
  EXPECT_FALSE(when_ended);
  EXPECT_FALSE(scheduler.HasWork());
  EXPECT_TRUE(scheduler.Plan(kStart).empty());
}

TEST(SchedulerTest, SplitsAPromptByTheTokenBudget) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_num_batched_tokens = 8;
  Scheduler scheduler(config);
  scheduler.Add(&sequences.Make(Tokens(10, 18)));

  const StepPlan first = Step(scheduler), second = Step(scheduler), third = Step(scheduler);

  EXPECT_THAT(RowsOf(first), ElementsAre(Row{1, 8, false}));
  EXPECT_THAT(RowsOf(second), ElementsAre(Row{1, 8, false}));
  EXPECT_THAT(RowsOf(third), ElementsAre(Row{1, 2, true}));
}

TEST(SchedulerTest, SplitsAPromptByTheChunkLimitAndFillsTheRestWithOthers) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_prefill_chunk = 8;
  Scheduler scheduler(config);
  scheduler.Add(&sequences.Make(Tokens(10, 18)));
  scheduler.Add(&sequences.Make(Tokens(50, 5)));

  const StepPlan first = Step(scheduler), second = Step(scheduler), third = Step(scheduler);

  EXPECT_THAT(RowsOf(first), ElementsAre(Row{1, 8, false}, Row{2, 5, true}));
  EXPECT_THAT(RowsOf(second), ElementsAre(Row{1, 8, false}, Row{2, 1, true}));
  EXPECT_THAT(RowsOf(third), ElementsAre(Row{1, 2, true}, Row{2, 1, true}));
}

TEST(SchedulerTest, DecodesGoOnBesideALongPrompt) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_num_batched_tokens = 8;
  Scheduler scheduler(config);
  for (int i = 0; i < 3; ++i) scheduler.Add(&sequences.Make(Tokens(10 * i, 2)));
  Step(scheduler);
  sequences.Make(Tokens(100, 100)).priority = 5;
  scheduler.Add(&sequences[4]);

  for (int step = 0; step < 12; ++step) {
    const StepPlan plan = Step(scheduler);

    // The prompt is first in order, yet takes only what the others leave.
    EXPECT_THAT(RowsOf(plan), ElementsAre(Row{4, 5, false}, Row{1, 1, true}, Row{2, 1, true}, Row{3, 1, true}));
  }
}

TEST(SchedulerTest, RunsNoMoreThanMaxNumSeqs) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_num_seqs = 2;
  Scheduler scheduler(config);
  for (int i = 0; i < 3; ++i) scheduler.Add(&sequences.Make(Tokens(10 * i, 3)));

  const StepPlan first = Step(scheduler);
  scheduler.Finish(&sequences[1], FinishReason::kCancelled);
  const StepPlan second = Step(scheduler);

  EXPECT_THAT(RowsOf(first), ElementsAre(Row{1, 3, true}, Row{2, 3, true}));
  EXPECT_THAT(RowsOf(second), ElementsAre(Row{2, 1, true}, Row{3, 3, true}));
}

TEST(SchedulerTest, RunsNoMoreSequencesThanAStepHasRows) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_num_batched_tokens = 2;
  Scheduler scheduler(config);
  for (int i = 0; i < 3; ++i) scheduler.Add(&sequences.Make(Tokens(10 * i, 1)));

  Step(scheduler);
  const StepPlan second = Step(scheduler);

  EXPECT_THAT(RowsOf(second), ElementsAre(Row{1, 1, true}, Row{2, 1, true}));
  EXPECT_EQ(scheduler.stats().num_waiting, 1);
}

TEST(SchedulerTest, AdmitsByPriorityThenByArrival) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_num_seqs = 3;
  Scheduler scheduler(config);
  for (const int priority : {0, 1, 0, 1, -1}) {
    Sequence& sequence = sequences.Make(Tokens(10, 3));
    sequence.priority = priority;
    scheduler.Add(&sequence);
  }

  const StepPlan plan = Step(scheduler);

  EXPECT_THAT(RowsOf(plan), ElementsAre(Row{2, 3, true}, Row{4, 3, true}, Row{1, 3, true}));
}

TEST(SchedulerTest, WaitingRaisesPriority) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_num_seqs = 1;
  config.priority_ageing = absl::Seconds(10);
  Scheduler scheduler(config);
  Sequence& low = sequences.Make(Tokens(10, 3));
  Sequence& early = sequences.Make(Tokens(10, 3));
  Sequence& late = sequences.Make(Tokens(10, 3));
  low.arrival_time = kStart;
  early.arrival_time = kStart + absl::Seconds(19);
  early.priority = 2;
  late.arrival_time = kStart + absl::Seconds(21);
  late.priority = 2;
  for (Sequence* sequence : {&late, &low, &early}) scheduler.Add(sequence);

  std::vector<uint64_t> order;
  for (int i = 0; i < 3; ++i) {
    const StepPlan plan = Step(scheduler, 0, kStart + absl::Seconds(30));
    order.push_back(plan.sequences[0].sequence->id);
    scheduler.Finish(plan.sequences[0].sequence, FinishReason::kStop);
  }

  // Two levels are worth 20 s: what comes within these passes low, what comes after them does not.
  EXPECT_THAT(order, ElementsAre(2, 1, 3));
}

TEST(SchedulerTest, PrioritiesAreStrictWithoutAgeing) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_num_seqs = 1;
  config.priority_ageing = absl::InfiniteDuration();
  Scheduler scheduler(config);
  Sequence& low = sequences.Make(Tokens(10, 3));
  Sequence& high = sequences.Make(Tokens(10, 3));
  high.priority = 1;
  high.arrival_time = low.arrival_time + absl::Hours(1000);
  scheduler.Add(&low);
  scheduler.Add(&high);

  const StepPlan plan = Step(scheduler);

  EXPECT_THAT(RowsOf(plan), ElementsAre(Row{2, 3, true}));
}

TEST(SchedulerTest, PreemptsTheYoungestOfLowestPriorityWhenBlocksRunOut) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.num_blocks = 8;
  config.enable_prefix_caching = false;
  Scheduler scheduler(config);
  for (const int priority : {0, 1, 0}) {
    Sequence& sequence = sequences.Make(Tokens(10, 4));
    sequence.priority = priority;
    scheduler.Add(&sequence);
  }
  // One block each and a second one each at the next token: 2 free. A third one each at the ninth.
  for (int step = 0; step < 5; ++step) Step(scheduler);
  ASSERT_EQ(scheduler.stats().num_blocks_free, 2);

  const StepPlan plan = Step(scheduler);

  EXPECT_THAT(RowsOf(plan), ElementsAre(Row{2, 1, true}, Row{1, 1, true}));
  EXPECT_THAT(IdsOf(plan.preempted), ElementsAre(3));
  EXPECT_EQ(sequences[3].state, SequenceState::kWaiting);
  EXPECT_EQ(sequences[3].num_preemptions, 1);
  EXPECT_EQ(sequences[3].num_computed_tokens, 0);
  EXPECT_EQ(sequences[3].num_tokens(), 9);
  EXPECT_THAT(sequences[3].blocks, IsEmpty());
  EXPECT_EQ(scheduler.stats().num_preemptions, 1);
}

TEST(SchedulerTest, APreemptedSequenceReturnsBeforeLaterArrivals) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.num_blocks = 8;
  config.enable_prefix_caching = false;
  Scheduler scheduler(config);
  for (int i = 0; i < 3; ++i) scheduler.Add(&sequences.Make(Tokens(10, 4)));
  for (int step = 0; step < 6; ++step) Step(scheduler);
  ASSERT_EQ(sequences[3].state, SequenceState::kWaiting);
  scheduler.Add(&sequences.Make(Tokens(10, 1)));

  const StepPlan while_full = Step(scheduler);
  scheduler.Finish(&sequences[1], FinishReason::kCancelled);
  const StepPlan when_free = Step(scheduler);

  // The small one that came later would fit at once, but does not overtake.
  EXPECT_THAT(RowsOf(while_full), ElementsAre(Row{1, 1, true}, Row{2, 1, true}));
  EXPECT_THAT(RowsOf(when_free), ElementsAre(Row{2, 1, true}, Row{3, 9, true}, Row{4, 1, true}));
  EXPECT_EQ(scheduler.stats().recomputed_tokens, 8);
}

TEST(SchedulerTest, APreemptedSequenceFindsItsOwnBlocksAgain) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.num_blocks = 8;
  Scheduler scheduler(config);
  for (int i = 0; i < 3; ++i) scheduler.Add(&sequences.Make(Tokens(10 * i, 4)));
  for (int step = 0; step < 6; ++step) Step(scheduler);
  ASSERT_EQ(sequences[3].state, SequenceState::kWaiting);
  ASSERT_EQ(sequences[3].num_tokens(), 9);
  scheduler.Finish(&sequences[1], FinishReason::kCancelled);

  const StepPlan plan = Step(scheduler);

  // Its second block was freed last of its two full ones but stands behind in the chain, and the second sequence took
  // neither: both are found.
  EXPECT_THAT(RowsOf(plan), ElementsAre(Row{2, 1, true}, Row{3, 1, true}));
  EXPECT_EQ(scheduler.stats().recomputed_tokens, 0);
  EXPECT_EQ(sequences[3].num_cached_tokens, 0);  // tells of the first admission
}

TEST(SchedulerTest, AdmitsOnlyWhatWillFitBesideTheRunning) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_prefill_chunk = 8;
  config.num_blocks = 16;
  Scheduler scheduler(config);
  scheduler.Add(&sequences.Make(Tokens(0, 40)));    // 10 blocks, taken 2 at a step
  scheduler.Add(&sequences.Make(Tokens(100, 24)));  // 6 blocks and one to spare: 17

  const StepPlan first = Step(scheduler);
  const SchedulerStats after_first = scheduler.stats();
  for (int step = 0; step < 4; ++step) Step(scheduler);
  const StepPlan sixth = Step(scheduler);

  EXPECT_THAT(RowsOf(first), ElementsAre(Row{1, 8, false}));
  EXPECT_EQ(after_first.num_blocks_free, 14);
  EXPECT_THAT(RowsOf(sixth), ElementsAre(Row{1, 1, true}));
  EXPECT_EQ(scheduler.stats().num_waiting, 1);
  EXPECT_EQ(scheduler.stats().num_preemptions, 0);
}

TEST(SchedulerTest, ALargeSequenceAtTheHeadIsNotOvertaken) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.num_blocks = 8;
  Scheduler scheduler(config);
  scheduler.Add(&sequences.Make(Tokens(0, 8)));
  Step(scheduler);
  scheduler.Add(&sequences.Make(Tokens(100, 28)));
  scheduler.Add(&sequences.Make(Tokens(50, 1)));

  const StepPlan blocked = Step(scheduler);
  scheduler.Finish(&sequences[1], FinishReason::kCancelled);
  const StepPlan after = Step(scheduler);

  EXPECT_THAT(RowsOf(blocked), ElementsAre(Row{1, 1, true}));
  EXPECT_THAT(RowsOf(after), ElementsAre(Row{2, 28, true}));
}

TEST(SchedulerTest, SkipsWhatTheCacheHolds) {
  Sequences sequences;
  Scheduler scheduler(Config());
  scheduler.Add(&sequences.Make(Tokens(10, 10)));
  Step(scheduler);
  scheduler.Add(&sequences.Make(Tokens(10, 12)));

  const StepPlan plan = Step(scheduler);

  EXPECT_THAT(RowsOf(plan), ElementsAre(Row{1, 1, true}, Row{2, 4, true}));
  EXPECT_EQ(sequences[2].num_cached_tokens, 8);
  EXPECT_EQ(sequences[2].blocks[0].id(), sequences[1].blocks[0].id());
  EXPECT_EQ(sequences[2].blocks[1].id(), sequences[1].blocks[1].id());
  EXPECT_NE(sequences[2].blocks[2].id(), sequences[1].blocks[2].id());
  EXPECT_EQ(scheduler.stats().prefix_queried_tokens, 22);
  EXPECT_EQ(scheduler.stats().prefix_hit_tokens, 8);
}

TEST(SchedulerTest, AlwaysComputesTheLastTokenOfAPrompt) {
  Sequences sequences;
  Scheduler scheduler(Config());
  scheduler.Add(&sequences.Make(Tokens(10, 8)));
  Step(scheduler);
  scheduler.Add(&sequences.Make(Tokens(10, 8)));

  const StepPlan plan = Step(scheduler);

  EXPECT_THAT(RowsOf(plan), ElementsAre(Row{1, 1, true}, Row{2, 4, true}));
}

TEST(SchedulerTest, FindsBlocksOfASequenceThatHasEnded) {
  Sequences sequences;
  Scheduler scheduler(Config());
  scheduler.Add(&sequences.Make(Tokens(10, 10)));
  Step(scheduler, 0);
  scheduler.Finish(&sequences[1], sequences[1].finish_reason);
  const SchedulerStats between = scheduler.stats();
  scheduler.Add(&sequences.Make(Tokens(10, 10)));

  const StepPlan plan = Step(scheduler);

  EXPECT_EQ(between.num_blocks_used, 0);
  EXPECT_EQ(between.num_blocks_free, 64);
  EXPECT_EQ(between.num_blocks_cached, 2);
  EXPECT_THAT(RowsOf(plan), ElementsAre(Row{2, 2, true}));
}

TEST(SchedulerTest, ChainsOfCachedBlocksAreEvictedFromTheirEnd) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.num_blocks = 4;
  Scheduler scheduler(config);
  scheduler.Add(&sequences.Make(Tokens(10, 12)));
  Step(scheduler, 0);
  scheduler.Finish(&sequences[1], FinishReason::kStop);
  sequences.Make(Tokens(50, 8)).bypass_prefix_cache = true;
  scheduler.Add(&sequences[2]);  // takes the block that holds nothing, then one of the three cached
  Step(scheduler, 0);
  scheduler.Finish(&sequences[2], FinishReason::kStop);
  scheduler.Add(&sequences.Make(Tokens(10, 13)));

  const StepPlan plan = Step(scheduler);

  EXPECT_THAT(RowsOf(plan), ElementsAre(Row{3, 5, true}));
}

TEST(SchedulerTest, UnlikeSaltsShareNothing) {
  Sequences sequences;
  Scheduler scheduler(Config());
  sequences.Make(Tokens(10, 10)).cache_salt = "a";
  scheduler.Add(&sequences[1]);
  Step(scheduler);
  sequences.Make(Tokens(10, 10)).cache_salt = "b";
  scheduler.Add(&sequences[2]);

  const StepPlan plan = Step(scheduler);

  EXPECT_THAT(RowsOf(plan), ElementsAre(Row{1, 1, true}, Row{2, 10, true}));
}

TEST(SchedulerTest, ASequenceThatBypassesTheCacheNeitherReadsNorLeavesAnything) {
  Sequences sequences;
  Scheduler scheduler(Config());
  sequences.Make(Tokens(10, 10)).bypass_prefix_cache = true;
  sequences.Make(Tokens(10, 10));
  sequences.Make(Tokens(10, 10)).bypass_prefix_cache = true;

  std::vector<int32_t> rows;
  for (const uint64_t id : {1, 2, 3}) {
    scheduler.Add(&sequences[id]);
    rows.push_back(Step(scheduler, 0).num_tokens);
    scheduler.Finish(&sequences[id], FinishReason::kStop);
  }

  EXPECT_THAT(rows, ElementsAre(10, 10, 10));
  EXPECT_EQ(scheduler.stats().prefix_queried_tokens, 10);
}

TEST(SchedulerTest, ASequenceThatNeedsPromptLogitsComputesAllButLeavesItsBlocks) {
  Sequences sequences;
  Scheduler scheduler(Config());
  sequences.Make(Tokens(10, 10)).needs_prompt_logits = true;
  sequences.Make(Tokens(10, 10)).needs_prompt_logits = true;
  sequences.Make(Tokens(10, 10));

  std::vector<int32_t> rows;
  for (const uint64_t id : {1, 2, 3}) {
    scheduler.Add(&sequences[id]);
    rows.push_back(Step(scheduler, 0).num_tokens);
    scheduler.Finish(&sequences[id], FinishReason::kStop);
  }

  EXPECT_THAT(rows, ElementsAre(10, 10, 2));
}

TEST(SchedulerTest, PrefixCachingCanBeTurnedOff) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.enable_prefix_caching = false;
  Scheduler scheduler(config);
  scheduler.Add(&sequences.Make(Tokens(10, 10)));
  Step(scheduler);
  scheduler.Add(&sequences.Make(Tokens(10, 10)));

  const StepPlan plan = Step(scheduler);

  EXPECT_THAT(RowsOf(plan), ElementsAre(Row{1, 1, true}, Row{2, 10, true}));
  EXPECT_EQ(scheduler.stats().prefix_queried_tokens, 0);
}

TEST(SchedulerTest, TwoThatComputeTheSameAtOnceEndUpSharing) {
  Sequences sequences;
  Scheduler scheduler(Config());
  scheduler.Add(&sequences.Make(Tokens(10, 9)));
  scheduler.Add(&sequences.Make(Tokens(10, 9)));

  Step(scheduler);

  EXPECT_EQ(sequences[2].blocks[0].id(), sequences[1].blocks[0].id());
  EXPECT_EQ(sequences[2].blocks[1].id(), sequences[1].blocks[1].id());
  EXPECT_NE(sequences[2].blocks[2].id(), sequences[1].blocks[2].id());
  EXPECT_EQ(scheduler.stats().num_blocks_used, 4);
}

// What ends a sequence: its settings, the tokens sampled, and what is expected.
struct EndCase {
  const char* name;
  StopConditions stop;
  std::vector<int32_t> sampled;
  FinishReason reason;
  int32_t stop_token;
};

class SchedulerEndTest : public testing::TestWithParam<EndCase> {};

TEST_P(SchedulerEndTest, EndsWithTheReasonAtTheRightToken) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_model_len = 12;
  Scheduler scheduler(config);
  Sequence& sequence = sequences.Make(Tokens(10, 4));
  sequence.stop = GetParam().stop;
  scheduler.Add(&sequence);

  for (const int32_t token : GetParam().sampled) {
    EXPECT_EQ(sequence.finish_reason, FinishReason::kNone);
    Step(scheduler, token);
  }

  EXPECT_EQ(sequence.finish_reason, GetParam().reason);
  EXPECT_EQ(sequence.stop_token, GetParam().stop_token);
  EXPECT_EQ(sequence.num_output_tokens(), static_cast<int32_t>(GetParam().sampled.size()));
  EXPECT_TRUE(scheduler.Plan(kStart).empty());
}

INSTANTIATE_TEST_SUITE_P(
    Ends, SchedulerEndTest,
    testing::Values(
        EndCase{"Eos", {.max_tokens = 5}, {7, 0}, FinishReason::kStop, 0},
        EndCase{"EosIgnored", {.max_tokens = 3, .ignore_eos = true}, {7, 0, 0}, FinishReason::kMaxTokens, -1},
        EndCase{"StopId", {.max_tokens = 5, .token_ids = {9, 8}}, {7, 8}, FinishReason::kStopSequence, 8},
        EndCase{"EosAsStopId",
                {.max_tokens = 5, .token_ids = {0}, .ignore_eos = true},
                {7, 0},
                FinishReason::kStopSequence,
                0},
        EndCase{"MaxTokens", {.max_tokens = 3}, {7, 7, 7}, FinishReason::kMaxTokens, -1},
        EndCase{"EosAtMaxTokens", {.max_tokens = 3}, {7, 7, 0}, FinishReason::kStop, 0},
        EndCase{"ContextLength", {.max_tokens = 100}, {7, 7, 7, 7, 7, 7, 7, 7}, FinishReason::kContextLength, -1},
        EndCase{"MinTokens", {.max_tokens = 5, .min_tokens = 3, .token_ids = {8}}, {0, 8, 0}, FinishReason::kStop, 0},
        EndCase{"MinTokensAtLimit", {.max_tokens = 2, .min_tokens = 2}, {0, 7}, FinishReason::kMaxTokens, -1}),
    [](const testing::TestParamInfo<EndCase>& info) { return info.param.name; });

TEST(SchedulerTest, EndsASequenceForWhichEveryTokenIsMasked) {
  Sequences sequences;
  Scheduler scheduler(Config());
  Sequence& sequence = sequences.Make(Tokens(10, 4));
  scheduler.Add(&sequence);
  const StepPlan plan = scheduler.Plan(kStart);
  StepResult result = SampleAll(plan, -1);
  result.sequences[0].no_valid_token = true;

  scheduler.Commit(plan, result);

  EXPECT_EQ(sequence.finish_reason, FinishReason::kNoValidToken);
  EXPECT_EQ(sequence.num_output_tokens(), 0);
  EXPECT_FALSE(scheduler.HasWork());
}

TEST(SchedulerTest, ABrokenStepLeavesNothingInTheCache) {
  Sequences sequences;
  Scheduler scheduler(Config());
  Sequence& broken = sequences.Make(Tokens(10, 9));
  scheduler.Add(&broken);
  const StepPlan plan = scheduler.Plan(kStart);
  StepResult result;
  result.sequences.resize(1);
  result.sequences[0].has_nan = true;

  scheduler.Commit(plan, result);
  scheduler.Finish(&broken, FinishReason::kError);
  scheduler.Add(&sequences.Make(Tokens(10, 9)));
  const StepPlan next = scheduler.Plan(kStart);

  EXPECT_THAT(RowsOf(next), ElementsAre(Row{2, 9, true}));
}

TEST(SchedulerTest, EndsASequenceForWhichNoTokenCameWithError) {
  Sequences sequences;
  Scheduler scheduler(Config());
  Sequence& sequence = sequences.Make(Tokens(10, 4));
  scheduler.Add(&sequence);
  const StepPlan plan = scheduler.Plan(kStart);

  scheduler.Commit(plan, SampleAll(plan, -1));

  EXPECT_EQ(sequence.finish_reason, FinishReason::kError);
}

TEST(SchedulerTest, ASequenceCanFillAllBlocksAndEndsThere) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.num_blocks = 3;
  Scheduler scheduler(config);
  Sequence& sequence = sequences.Make(Tokens(10, 2));
  scheduler.Add(&sequence);

  while (sequence.finish_reason == FinishReason::kNone) Step(scheduler);

  EXPECT_EQ(scheduler.max_length(), 12);
  EXPECT_EQ(sequence.finish_reason, FinishReason::kContextLength);
  EXPECT_EQ(sequence.num_tokens(), 12);
  EXPECT_EQ(sequence.num_preemptions, 0);
}

TEST(SchedulerTest, FinishFreesBlocksInAnyState) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_num_seqs = 1;
  Scheduler scheduler(config);
  scheduler.Add(&sequences.Make(Tokens(10, 10)));
  scheduler.Add(&sequences.Make(Tokens(10, 10)));
  Step(scheduler);

  scheduler.Finish(&sequences[2], FinishReason::kCancelled);
  scheduler.Finish(&sequences[1], FinishReason::kError);
  scheduler.Finish(&sequences[1], FinishReason::kCancelled);  // has ended already

  EXPECT_EQ(sequences[1].state, SequenceState::kFinished);
  EXPECT_EQ(sequences[1].finish_reason, FinishReason::kError);
  EXPECT_EQ(sequences[2].finish_reason, FinishReason::kCancelled);
  EXPECT_THAT(sequences[1].blocks, IsEmpty());
  EXPECT_EQ(scheduler.stats().num_blocks_used, 0);
  EXPECT_FALSE(scheduler.HasWork());
}

TEST(SchedulerTest, CommitPassesOverASequenceFinishedSinceThePlan) {
  Sequences sequences;
  Scheduler scheduler(Config());
  scheduler.Add(&sequences.Make(Tokens(10, 5)));
  scheduler.Add(&sequences.Make(Tokens(30, 5)));
  const StepPlan plan = scheduler.Plan(kStart);

  scheduler.Finish(&sequences[1], FinishReason::kCancelled);
  scheduler.Commit(plan, SampleAll(plan, 7));

  EXPECT_EQ(sequences[1].num_output_tokens(), 0);
  EXPECT_EQ(sequences[2].num_output_tokens(), 1);
}

TEST(SchedulerTest, ReportsExpiredSequencesEarliestFirst) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_num_seqs = 2;
  Scheduler scheduler(config);
  for (int i = 0; i < 4; ++i) sequences.Make(Tokens(10 * i, 3));
  sequences[1].deadline = kStart + absl::Seconds(30);
  sequences[2].soft_deadline = kStart + absl::Seconds(20);
  sequences[2].queue_deadline = kStart + absl::Seconds(2);  // is admitted before
  sequences[3].queue_deadline = kStart + absl::Seconds(10);
  for (const uint64_t id : {1, 2, 3, 4}) scheduler.Add(&sequences[id]);
  Step(scheduler);

  EXPECT_THAT(scheduler.Expired(kStart + absl::Seconds(9)), IsEmpty());
  EXPECT_THAT(IdsOf(scheduler.Expired(kStart + absl::Seconds(10))), ElementsAre(3));
  EXPECT_THAT(IdsOf(scheduler.Expired(kStart + absl::Seconds(60))), ElementsAre(3, 2, 1));
}

TEST(SchedulerTest, TheQueueDeadlineDoesNotReturnWithPreemption) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.num_blocks = 8;
  Scheduler scheduler(config);
  for (int i = 0; i < 3; ++i) sequences.Make(Tokens(10 * i, 4)).queue_deadline = kStart + absl::Seconds(5);
  for (const uint64_t id : {1, 2, 3}) scheduler.Add(&sequences[id]);
  for (int step = 0; step < 6; ++step) Step(scheduler);
  ASSERT_EQ(sequences[3].state, SequenceState::kWaiting);

  EXPECT_THAT(scheduler.Expired(kStart + absl::Seconds(60)), IsEmpty());
}

TEST(SchedulerTest, StatsTellOfQueueAndBlocks) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_num_seqs = 1;
  Scheduler scheduler(config);
  scheduler.Add(&sequences.Make(Tokens(10, 9)));
  scheduler.Add(&sequences.Make(Tokens(10, 5)));
  scheduler.Add(&sequences.Make(Tokens(10, 6)));
  Step(scheduler);

  const SchedulerStats stats = scheduler.stats();

  EXPECT_EQ(stats.num_running, 1);
  EXPECT_EQ(stats.num_waiting, 2);
  EXPECT_EQ(stats.num_waiting_tokens, 11);
  EXPECT_EQ(stats.oldest_arrival, kStart + absl::Milliseconds(2));
  EXPECT_EQ(stats.num_blocks_used, 3);
  EXPECT_EQ(stats.num_blocks_free, 61);
  EXPECT_EQ(stats.num_blocks_cached, 0);
}

TEST(SchedulerDeathTest, RefusesASequenceThatCanNeverFit) {
  Sequences sequences;
  SchedulerConfig config = Config();
  config.max_model_len = 8;
  Sequence& sequence = sequences.Make(Tokens(10, 8));

  EXPECT_DEATH(Scheduler(config).Add(&sequence), "8 tokens of at most 8");
}

}  // namespace
}  // namespace expertd
