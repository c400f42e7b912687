#include "engine/text/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace expertd {
namespace {

StopMatcher Make(const std::vector<std::string>& stops, bool include_stop_in_output = false) {
  absl::StatusOr<StopMatcher> matcher = StopMatcher::Create(stops, {include_stop_in_output});
  EXPECT_TRUE(matcher.ok()) << matcher.status();
  return *std::move(matcher);
}

struct Outcome {
  std::string text;
  std::optional<int> stop_index;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << '"' << outcome.text << "\" stop " << outcome.stop_index.value_or(-1);
}

// Everything that comes out when `text` goes in by pieces of `piece_bytes`.
Outcome Feed(StopMatcher matcher, const std::string& text, size_t piece_bytes) {
  Outcome outcome;
  for (size_t i = 0; i < text.size(); i += piece_bytes) {
    const StopMatcher::Result result = matcher.Append(std::string_view(text).substr(i, piece_bytes));
    outcome.text += result.text;
    if (result.stop_index) outcome.stop_index = result.stop_index;
  }
  outcome.text += matcher.Flush();
  return outcome;
}

// The definition, without any cleverness.
Outcome FeedByDefinition(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    int longest = -1;
    for (size_t i = 0; i < stops.size(); ++i) {
      const bool ends_here = text.substr(0, end).ends_with(stops[i]);
      if (ends_here && (longest < 0 || stops[i].size() > stops[static_cast<size_t>(longest)].size()))
        longest = static_cast<int>(i);
    }
    if (longest >= 0) return {text.substr(0, end - stops[static_cast<size_t>(longest)].size()), longest};
  }
  return {text, std::nullopt};
}

TEST(StopMatcherTest, CutsInFrontOfTheStopStringHoweverTheTextIsSplit) {
  const std::string text = "answer: 42\nUser: next";

  for (size_t piece_bytes = 1; piece_bytes <= text.size(); ++piece_bytes) {
    const Outcome outcome = Feed(Make({"\nUser:", "###"}), text, piece_bytes);

    EXPECT_EQ(outcome, (Outcome{"answer: 42", 0})) << piece_bytes;
  }
}

TEST(StopMatcherTest, IncludesTheStopStringOnRequest) {
  const Outcome outcome = Feed(Make({"\nUser:"}, /*include_stop_in_output=*/true), "answer: 42\nUser: next", 3);

  EXPECT_EQ(outcome, (Outcome{"answer: 42\nUser:", 0}));
}

TEST(StopMatcherTest, HoldsBackExactlyWhatCouldBeginAStopString) {
  StopMatcher matcher = Make({"</tool>", "<end>"});

  EXPECT_EQ(matcher.Append("call <").text, "call ");
  EXPECT_EQ(matcher.num_held_bytes(), 1u);
  EXPECT_EQ(matcher.Append("/to").text, "");
  EXPECT_EQ(matcher.Append("<e").text, "</to");
  EXPECT_EQ(matcher.Append("x").text, "<ex");
  EXPECT_EQ(matcher.num_held_bytes(), 0u);
}

TEST(StopMatcherTest, FlushReturnsWhatWasHeldBack) {
  StopMatcher matcher = Make({"</tool>"});
  matcher.Append("a</to");

  EXPECT_EQ(matcher.Flush(), "</to");
  EXPECT_EQ(matcher.Flush(), "");
  EXPECT_FALSE(matcher.is_matched());
}

TEST(StopMatcherTest, ReturnsNothingAfterAMatch) {
  StopMatcher matcher = Make({"stop"});

  const StopMatcher::Result result = matcher.Append("now stop here");

  EXPECT_EQ(result.text, "now ");
  EXPECT_EQ(result.stop_index, 0);
  EXPECT_TRUE(matcher.is_matched());
  EXPECT_EQ(matcher.Append(" and stop there").text, "");
  EXPECT_EQ(matcher.Append("stop").stop_index, std::nullopt);
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, TheFirstCompleteStopStringWinsAndOfThoseTheLongest) {
  EXPECT_EQ(Feed(Make({"bcd", "abcde", "c"}), "xabcdef", 1), (Outcome{"xab", 2}));
  EXPECT_EQ(Feed(Make({"d", "bcd", "cd"}), "xabcdef", 1), (Outcome{"xa", 1}));
  EXPECT_EQ(Feed(Make({"same", "same"}), "the same", 1), (Outcome{"the ", 0}));
}

TEST(StopMatcherTest, FindsStopStringsThatOverlapTheirOwnBeginnings) {
  EXPECT_EQ(Feed(Make({"aab"}), "aaaaab", 1), (Outcome{"aaa", 0}));
  EXPECT_EQ(Feed(Make({"abab!"}), "ababab!", 2), (Outcome{"ab", 0}));
}

TEST(StopMatcherTest, NeverCutsACharacterThatArrivesWhole) {
  StopMatcher matcher = Make({"é。"});

  EXPECT_EQ(matcher.Append("aé").text, "a");
  EXPECT_EQ(matcher.Append("è").text, "éè");  // é and è share their first byte
  EXPECT_EQ(matcher.Append("é。x").text, "");
  EXPECT_TRUE(matcher.is_matched());
}

TEST(StopMatcherTest, WithoutStopStringsEverythingPasses) {
  StopMatcher matcher = Make({});

  EXPECT_EQ(matcher.Append("anything").text, "anything");
  EXPECT_EQ(matcher.num_held_bytes(), 0u);
}

TEST(StopMatcherTest, AgreesWithTheDefinitionOnRandomTexts) {
  std::mt19937 random(1);
  const auto random_text = [&](size_t max_size) {
    std::string text(1 + random() % max_size, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 3);
    return text;
  };

  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops(1 + random() % 5);
    for (std::string& stop : stops) stop = random_text(6);
    const std::string text = random_text(40);

    EXPECT_EQ(Feed(Make(stops), text, 1 + random() % 7), FeedByDefinition(stops, text)) << text;
  }
}

TEST(StopMatcherTest, RefusesTooManyEmptyAndOverlongStopStrings) {
  EXPECT_EQ(StopMatcher::Create(std::vector<std::string>(17, "x")).status().message(),
            "stop has 17 strings; at most 16");
  EXPECT_EQ(StopMatcher::Create({"a", ""}).status().message(), "stop[1] has 0 bytes; must be 1..1024");
  EXPECT_EQ(StopMatcher::Create({std::string(1025, 'x')}).status().message(),
            "stop[0] has 1025 bytes; must be 1..1024");
  EXPECT_TRUE(StopMatcher::Create(std::vector<std::string>(16, std::string(1024, 'x'))).ok());
}

TEST(StopMatcherTest, StaysLinearWhenEveryByteCouldBeginAStopString) {
  std::vector<std::string> stops;
  for (int i = 0; i < 16; ++i) stops.push_back(std::string(1000 + static_cast<size_t>(i), 'a') + "b");
  StopMatcher matcher = Make(stops);
  size_t num_out = 0;

  for (int i = 0; i < 100; ++i) num_out += matcher.Append(std::string(10'000, 'a')).text.size();

  EXPECT_EQ(num_out, 1'000'000u - 1015u);
  EXPECT_EQ(matcher.Append("b").stop_index, 15);
}

}  // namespace
}  // namespace expertd
