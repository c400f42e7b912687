#include "engine/runner/flatten.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int kNoLimit = 1 << 20;

// A sequence with tokens first_token, first_token + 1, ... and blocks of four tokens.
struct TestSequence {
  TestSequence(BlockPool& pool, int32_t first_token, int num_prompt, int num_output, int num_computed) {
    for (int i = 0; i < num_prompt + num_output; ++i) sequence.tokens.push_back(first_token + i);
    sequence.num_prompt_tokens = num_prompt;
    sequence.num_computed_tokens = num_computed;
    for (int i = 0; i < num_prompt + num_output; i += 4) sequence.blocks.push_back(pool.Take());
  }
  Sequence sequence;
};

std::vector<int32_t> Report(const LogitsUse& use) { return {use.sequence_index, use.prompt_token, use.prompt_index}; }

class FlattenTest : public ::testing::Test {
 protected:
  BlockPool pool_{32};
  FlatStep step_;
};

TEST_F(FlattenTest, LaysSequencesOutOneAfterAnother) {
  TestSequence chunk(pool_, 100, 9, 0, 4), decode(pool_, 200, 2, 3, 4);
  StepPlan plan;
  plan.sequences = {{&chunk.sequence, 3, false}, {&decode.sequence, 1, true}};

  Flatten(plan, std::vector<int32_t>{kNoPromptLogprobs, kNoPromptLogprobs}, kNoLimit, step_);

  ASSERT_EQ(step_.num_passes, 1);
  const ForwardBatch& batch = step_.passes[0].batch;
  EXPECT_THAT(batch.tokens, ElementsAre(104, 105, 106, 204));
  EXPECT_THAT(batch.positions, ElementsAre(4, 5, 6, 4));
  ASSERT_EQ(batch.sequences.size(), 2u);
  EXPECT_EQ(batch.sequences[0].first_row, 0);
  EXPECT_EQ(batch.sequences[0].num_tokens, 3);
  EXPECT_EQ(batch.sequences[0].num_computed, 4);
  EXPECT_EQ(batch.sequences[0].first_block, 0);
  EXPECT_EQ(batch.sequences[0].num_blocks, 3);
  EXPECT_EQ(batch.sequences[1].first_row, 3);
  EXPECT_EQ(batch.sequences[1].num_tokens, 1);
  EXPECT_EQ(batch.sequences[1].num_computed, 4);
  EXPECT_EQ(batch.sequences[1].first_block, 3);
  EXPECT_EQ(batch.sequences[1].num_blocks, 2);
  EXPECT_THAT(batch.block_tables,
              ElementsAre(chunk.sequence.blocks[0].id(), chunk.sequence.blocks[1].id(), chunk.sequence.blocks[2].id(),
                          decode.sequence.blocks[0].id(), decode.sequence.blocks[1].id()));
  EXPECT_THAT(batch.logits_rows, ElementsAre(3));
  ASSERT_EQ(step_.passes[0].uses.size(), 1u);
  EXPECT_TRUE(step_.passes[0].uses[0].samples);
  EXPECT_EQ(step_.passes[0].uses[0].sequence_index, 1);
}

TEST_F(FlattenTest, PromptLogprobsNeedTheRowBeforeEachPromptToken) {
  TestSequence whole(pool_, 100, 4, 1, 0);
  StepPlan plan;
  plan.sequences = {{&whole.sequence, 5, true}};

  Flatten(plan, std::vector<int32_t>{2}, kNoLimit, step_);

  ASSERT_EQ(step_.num_passes, 1);
  EXPECT_THAT(step_.passes[0].batch.logits_rows, ElementsAre(1, 2, 4));
  ASSERT_EQ(step_.passes[0].uses.size(), 3u);
  EXPECT_THAT(Report(step_.passes[0].uses[0]), ElementsAre(0, 102, 0));
  EXPECT_THAT(Report(step_.passes[0].uses[1]), ElementsAre(0, 103, 1));
  EXPECT_FALSE(step_.passes[0].uses[1].samples);
  EXPECT_TRUE(step_.passes[0].uses[2].samples);
}

TEST_F(FlattenTest, RowsBeyondTheLimitOfLogitsGoOnInTheNextPass) {
  TestSequence plain(pool_, 10, 3, 0, 0), reported(pool_, 100, 6, 0, 0), other(pool_, 200, 3, 0, 0);
  StepPlan plan;
  plan.sequences = {{&plain.sequence, 3, true}, {&reported.sequence, 6, true}, {&other.sequence, 3, true}};

  Flatten(plan, std::vector<int32_t>{kNoPromptLogprobs, 1, 1}, 2, step_);

  ASSERT_EQ(step_.num_passes, 4);
  EXPECT_THAT(step_.passes[0].batch.tokens, ElementsAre(10, 11, 12, 100, 101));
  EXPECT_THAT(step_.passes[1].batch.tokens, ElementsAre(102, 103));
  EXPECT_THAT(step_.passes[2].batch.tokens, ElementsAre(104, 105, 200));
  EXPECT_THAT(step_.passes[3].batch.tokens, ElementsAre(201, 202));
  EXPECT_THAT(step_.passes[1].batch.positions, ElementsAre(2, 3));
  EXPECT_EQ(step_.passes[1].batch.sequences[0].num_computed, 2);
  EXPECT_EQ(step_.passes[1].batch.sequences[0].num_tokens, 2);
  EXPECT_THAT(step_.passes[1].batch.block_tables,
              ElementsAre(reported.sequence.blocks[0].id(), reported.sequence.blocks[1].id()));
  EXPECT_THAT(step_.passes[2].batch.logits_rows, ElementsAre(0, 1, 2));
  EXPECT_THAT(Report(step_.passes[2].uses[0]), ElementsAre(1, 105, 4));
  EXPECT_TRUE(step_.passes[2].uses[1].samples);
  EXPECT_THAT(Report(step_.passes[2].uses[2]), ElementsAre(2, 201, 0));
  EXPECT_THAT(Report(step_.passes[3].uses[0]), ElementsAre(2, 202, 1));
}

TEST_F(FlattenTest, PassThatEndsWithASequenceLeavesNoEmptyOne) {
  TestSequence first(pool_, 10, 3, 0, 0), second(pool_, 100, 3, 0, 0);
  StepPlan plan;
  plan.sequences = {{&first.sequence, 3, false}, {&second.sequence, 3, false}};

  Flatten(plan, std::vector<int32_t>{1, 1}, 2, step_);

  ASSERT_EQ(step_.num_passes, 2);
  EXPECT_EQ(step_.passes[0].batch.sequences.size(), 1u);
  EXPECT_THAT(step_.passes[1].batch.tokens, ElementsAre(100, 101, 102));
}

TEST_F(FlattenTest, NothingOfTheLastStepRemains) {
  TestSequence large(pool_, 100, 8, 0, 0), small(pool_, 5, 1, 0, 0);
  StepPlan plan;
  plan.sequences = {{&large.sequence, 8, true}};
  Flatten(plan, std::vector<int32_t>{1}, 3, step_);

  plan.sequences = {{&small.sequence, 1, false}};
  Flatten(plan, std::vector<int32_t>{kNoPromptLogprobs}, 3, step_);

  ASSERT_EQ(step_.num_passes, 1);
  EXPECT_THAT(step_.passes[0].batch.tokens, ElementsAre(5));
  EXPECT_EQ(step_.passes[0].batch.sequences.size(), 1u);
  EXPECT_EQ(step_.passes[0].batch.block_tables.size(), 1u);
  EXPECT_THAT(step_.passes[0].batch.logits_rows, IsEmpty());
  EXPECT_THAT(step_.passes[0].uses, IsEmpty());
}

}  // namespace
}  // namespace expertd
