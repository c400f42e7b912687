#include "engine/text/reasoning_marks.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/text/support/fake_tokenizer.h"

namespace expertd {
namespace {

// Ids: 0 <think>, 1 </think>, 2 newlines, 3 a word, 4 the end.
FakeTokenizer ThinkTokenizer() { return FakeTokenizer({{"<think>"}, {"</think>"}, {"\n\n"}, {"so"}, {"<eos>", true}}); }

constexpr ReasoningMarks kMarks = {.open = 0, .close = 1};

TEST(ReasoningMarksTest, ATemplateClosesReasoningWhereThinkingIsOff) {
  const FakeTokenizer tokenizer = ThinkTokenizer();
  const ReasoningMarks marks = *FindReasoningMarks(tokenizer);

  EXPECT_TRUE(EndsBehindReasoning(tokenizer, marks, std::vector<TokenId>{3, 0, 2, 1, 2}));
  EXPECT_FALSE(EndsBehindReasoning(tokenizer, marks, std::vector<TokenId>{0, 1, 3}));
  EXPECT_FALSE(EndsBehindReasoning(tokenizer, marks, std::vector<TokenId>{3, 0, 2}));
  EXPECT_FALSE(EndsBehindReasoning(tokenizer, marks, {}));
}

TEST(ReasoningMarksTest, AreThoseThatTheVocabularyHasBothOf) {
  const FakeTokenizer pangu({{"a"}, {"[unused17]"}, {"[unused16]"}, {"<think>"}}), none({{"<think>"}, {"[unused17]"}});

  EXPECT_EQ(FindReasoningMarks(ThinkTokenizer()), kMarks);
  EXPECT_EQ(FindReasoningMarks(pangu), (ReasoningMarks{.open = 2, .close = 1}));
  EXPECT_EQ(FindReasoningMarks(none), std::nullopt);
}

TEST(ReasoningMarksTest, APromptOpensReasoningIfItEndsWithTheMarkAndBlanks) {
  const FakeTokenizer tokenizer = ThinkTokenizer();
  const auto opens = [&](std::vector<TokenId> prompt) { return EndsInReasoning(tokenizer, kMarks, prompt); };

  EXPECT_TRUE(opens({3, 0}));
  EXPECT_TRUE(opens({3, 0, 2, 2}));
  EXPECT_FALSE(opens({}));
  EXPECT_FALSE(opens({2}));
  EXPECT_FALSE(opens({0, 3}));           // a user's words
  EXPECT_FALSE(opens({0, 2, 1, 2}));     // thinking switched off
  EXPECT_FALSE(opens({3, 4}));
}

TEST(ReasoningMarksTest, CountsWhatStandsBetweenTheMarks) {
  const FakeTokenizer tokenizer = ThinkTokenizer();
  const auto count = [&](bool is_open, std::vector<TokenId> output) {
    return CountReasoningTokens(tokenizer, kMarks, is_open, output);
  };

  EXPECT_EQ(count(false, {}), 0);
  EXPECT_EQ(count(false, {3, 3}), 0);
  EXPECT_EQ(count(false, {0, 3, 2, 1, 3, 3, 3}), 2);
  EXPECT_EQ(count(false, {0, 1, 3}), 0);
  EXPECT_EQ(count(false, {0, 3, 3}), 2);             // cut off while thinking
  EXPECT_EQ(count(true, {3, 2, 3, 1, 3}), 3);
  EXPECT_EQ(count(true, {0, 3, 1, 3}), 1);           // opens once more
  EXPECT_EQ(count(false, {2, 0, 3, 1, 3}), 1);
  EXPECT_EQ(count(false, {0, 3, 1, 3, 0, 3, 1}), 1);  // an answer that speaks of the marks
  EXPECT_EQ(count(false, {3, 0, 3, 3}), 0);
}

}  // namespace
}  // namespace expertd
