#include "engine/text/reasoning_splitter.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "engine/text/held_text.h"

namespace expertd {
namespace {

using Split = std::pair<std::string, std::string>;  // reasoning, text

Split SplitPieces(std::string_view text, bool is_open, size_t piece_size) {
  ReasoningSplitter splitter("<think>", "</think>", is_open);
  Split split;
  const auto add = [&](const ReasoningSplitter::Output& output) {
    split.first += output.reasoning;
    split.second += output.text;
  };
  for (; !text.empty(); text.remove_prefix(std::min(piece_size, text.size()))) {
    add(splitter.Append(text.substr(0, piece_size)));
  }
  add(splitter.Flush());
  return split;
}

// The same whatever the pieces are.
Split SplitText(std::string_view text, bool is_open = false) {
  const Split whole = SplitPieces(text, is_open, text.size() + 1);
  for (size_t piece_size : {1, 2, 3, 5, 11}) EXPECT_EQ(SplitPieces(text, is_open, piece_size), whole) << piece_size;
  return whole;
}

TEST(ReasoningSplitterTest, TakesMarksAndTheLineBreaksBesideThemAway) {
  EXPECT_EQ(SplitText("<think>\nTwo and two.\nFour.\n</think>\n\nIt is 4.\n"),
            Split("Two and two.\nFour.", "It is 4.\n"));
}

TEST(ReasoningSplitterTest, BeginsInReasoningWhereThePromptOpenedIt) {
  EXPECT_EQ(SplitText("\nHm.</think>Yes.", /*is_open=*/true), Split("Hm.", "Yes."));
}

TEST(ReasoningSplitterTest, TextWithoutMarksIsTheAnswer) {
  EXPECT_EQ(SplitText("\nA </think> b <thin"), Split("", "\nA </think> b <thin"));
}

TEST(ReasoningSplitterTest, AnEmptyBlockIsNoReasoning) {
  EXPECT_EQ(SplitText("<think>\n\n</think>\n\nYes."), Split("", "Yes."));
}

TEST(ReasoningSplitterTest, LineBreaksWithoutEndAreNotHeldBack) {
  ReasoningSplitter splitter("<think>", "</think>", /*is_open=*/true);

  EXPECT_EQ(splitter.Append("hm" + std::string(1000, '\n')).reasoning, "hm" + std::string(1000 - kMaxHeldBlanks, '\n'));
  EXPECT_EQ(SplitText("<think>hm" + std::string(100, '\n') + "</think>yes"),
            Split("hm" + std::string(100 - kMaxHeldBlanks, '\n'), "yes"));
}

TEST(ReasoningSplitterTest, ReasoningThatIsCutOffIsReasoning) {
  EXPECT_EQ(SplitText("<think>\nI wonder\n</thin"), Split("I wonder\n</thin", ""));
}

TEST(ReasoningSplitterTest, AnAnswerMaySpeakOfTheMarks) {
  EXPECT_EQ(SplitText("<think>a</think>b<think>c</think>d"), Split("a", "b<think>c</think>d"));
  EXPECT_EQ(SplitText("Use <think> so."), Split("", "Use <think> so."));
  EXPECT_EQ(SplitText("<think>a</think>\n\n<think>"), Split("a", "<think>"));
  EXPECT_EQ(SplitText(" \n<think>a</think>b"), Split("a", " \nb"));
}

}  // namespace
}  // namespace expertd
