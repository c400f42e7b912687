#include "engine/text/tool_call_parser.h"

#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/strings.h"
#include "engine/text/held_text.h"
#include "engine/text/json_scanner.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Call {
  std::string name, arguments;

  friend bool operator==(const Call&, const Call&) = default;
  friend void PrintTo(const Call& call, std::ostream* out) { *out << call.name << "(" << call.arguments << ")"; }
};

struct Parsed {
  std::string text;
  std::vector<Call> calls;

  friend bool operator==(const Parsed&, const Parsed&) = default;
};

void Join(const ToolCallParser::Output& output, Parsed* parsed) {
  parsed->text += output.text;
  for (const ToolCallPiece& piece : output.calls) {
    const bool is_new = piece.index == static_cast<int>(parsed->calls.size());
    EXPECT_EQ(is_new, !piece.name.empty());
    if (is_new) parsed->calls.push_back({piece.name, ""});
    EXPECT_EQ(piece.index, static_cast<int>(parsed->calls.size()) - 1);
    parsed->calls.back().arguments += piece.arguments;
  }
}

Parsed ParsePieces(ToolFormat format, std::string_view text, size_t piece_size) {
  ToolCallParser parser(format);
  Parsed parsed;
  for (; !text.empty(); text.remove_prefix(std::min(piece_size, text.size()))) {
    Join(parser.Append(text.substr(0, piece_size)), &parsed);
  }
  Join(parser.Flush(), &parsed);
  EXPECT_EQ(parser.num_calls(), static_cast<int>(parsed.calls.size()));
  return parsed;
}

// The same whatever the pieces are.
Parsed Parse(ToolFormat format, std::string_view text) {
  const Parsed whole = ParsePieces(format, text, text.size() + 1);
  for (size_t piece_size : {1, 2, 3, 5, 7, 16}) EXPECT_EQ(ParsePieces(format, text, piece_size), whole) << piece_size;
  return whole;
}

Parsed ParseHermes(std::string_view text) { return Parse(ToolFormat::kHermes, text); }

TEST(ToolCallParserTest, LeavesTextAlone) {
  for (const std::string_view text : {"", "Hello, world. ", "a < b <tool", "\n\n{\"name\": \"f\"}\n", "<tool_cal"}) {
    EXPECT_EQ(ParseHermes(text), (Parsed{std::string(text), {}})) << text;
  }
}

TEST(ToolCallParserTest, FindsTheCallsOfQwen) {
  const Parsed parsed = ParseHermes(
      "I look it up.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3}}\n"
      "</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>");

  EXPECT_EQ(parsed.text, "I look it up.");
  EXPECT_THAT(parsed.calls, ElementsAre(Call{"weather", "{\"city\": \"Paris\", \"days\": 3}"}, Call{"now", "{}"}));
}

TEST(ToolCallParserTest, GivesTheNameBeforeTheArgumentsAreWhole) {
  ToolCallParser parser(ToolFormat::kHermes);

  const auto first = parser.Append("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1");
  const auto second = parser.Append(", 2]");

  EXPECT_THAT(first.calls, ElementsAre(ToolCallPiece{0, "f", "{\"a\": [1"}));
  EXPECT_THAT(second.calls, ElementsAre(ToolCallPiece{0, "", ", 2]"}));
}

TEST(ToolCallParserTest, MarksInStringsAreNone) {
  const Parsed parsed = ParseHermes(
      R"(<tool_call>{"name": "f", "arguments": {"a": "</tool_call> \" } \\", "b": {"c": "]"}}}</tool_call> done)");

  EXPECT_EQ(parsed.text, " done");
  EXPECT_THAT(parsed.calls, ElementsAre(Call{"f", R"({"a": "</tool_call> \" } \\", "b": {"c": "]"}})"}));
}

TEST(ToolCallParserTest, ArgumentsMayComeFirstBeAStringOrBeMissing) {
  EXPECT_THAT(ParseHermes(R"(<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>)").calls,
              ElementsAre(Call{"f", "{\"a\": 1}"}));
  EXPECT_THAT(ParseHermes(R"(<tool_call>{"name": "f", "arguments": "{\"a\": \"\u00e9\"}"}</tool_call>)").calls,
              ElementsAre(Call{"f", "{\"a\": \"é\"}"}));
  EXPECT_THAT(ParseHermes(R"(<tool_call>{"name": "f"}</tool_call>)").calls, ElementsAre(Call{"f", "{}"}));
  EXPECT_THAT(ParseHermes(R"(<tool_call>{"name": "f", "id": 7, "parameters": {}})").calls,
              ElementsAre(Call{"f", "{}"}));
}

TEST(ToolCallParserTest, WhatIsNoCallIsText) {
  for (const std::string_view text :
       {"<tool_call>", "<tool_call></tool_call>", "<tool_call>nonsense</tool_call> and more",
        "<tool_call>\n{\"name\": 3}\n</tool_call>", "<tool_call>{\"nam", "x <tool_call>{name: \"f\"}</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>", "<tool_call>{\"name\": \"\"}"}) {
    EXPECT_EQ(ParseHermes(text), (Parsed{std::string(text), {}})) << text;
  }
}

TEST(ToolCallParserTest, ACallThatIsCutOffKeepsWhatItHas) {
  EXPECT_THAT(ParseHermes(R"(<tool_call>{"name": "f", "arguments": {"a": "b)").calls,
              ElementsAre(Call{"f", "{\"a\": \"b"}));
}

TEST(ToolCallParserTest, WhatIsBrokenBehindTheNameIsDropped) {
  const Parsed parsed = ParseHermes(R"(<tool_call>{"name": "f", "arguments": {} oops</tool_call> then)");

  EXPECT_EQ(parsed.text, " then");
  EXPECT_THAT(parsed.calls, ElementsAre(Call{"f", "{}"}));
}

TEST(ToolCallParserTest, FindsTheCallsOfDeepseekV3) {
  const Parsed parsed = Parse(
      ToolFormat::kDeepseek,
      "Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
      "{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜>\n"
      "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>"
      "<｜tool▁calls▁end｜>");

  EXPECT_EQ(parsed.text, "Let me see.");
  EXPECT_THAT(parsed.calls, ElementsAre(Call{"weather", "{\"city\": \"Paris\"}"}, Call{"now", "{}"}));
}

TEST(ToolCallParserTest, FindsTheCallsOfDeepseekV31) {
  const Parsed parsed = Parse(
      ToolFormat::kDeepseekV31,
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"<｜tool▁call▁end｜>\"}"
      "<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜><｜tool▁call▁end｜><｜tool▁calls▁end｜>!");

  EXPECT_EQ(parsed.text, "!");
  EXPECT_THAT(parsed.calls, ElementsAre(Call{"weather", "{\"city\": \"<｜tool▁call▁end｜>\"}"}, Call{"now", "{}"}));
}

TEST(ToolCallParserTest, ADeepseekCallWithoutItsEndsIsACall) {
  EXPECT_THAT(Parse(ToolFormat::kDeepseek,
                    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁calls▁end｜>")
                  .calls,
              ElementsAre(Call{"f", "{}"}));
  EXPECT_THAT(Parse(ToolFormat::kDeepseek, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}").calls,
              ElementsAre(Call{"f", "{\"a\": 1}"}));
}

TEST(ToolCallParserTest, ADeepseekSectionWithoutACallIsText) {
  for (const std::string_view text : {"<｜tool▁calls▁begin｜>hm", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function",
                                      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜><｜tool▁sep｜>{}"}) {
    const Parsed parsed = Parse(ToolFormat::kDeepseek, text);

    EXPECT_EQ(parsed.text, text);
    EXPECT_THAT(parsed.calls, IsEmpty());
  }
  const std::string endless = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>" + std::string(2000, 'x');
  EXPECT_EQ(Parse(ToolFormat::kDeepseek, endless).text, endless);
}

TEST(ToolCallParserTest, TextBehindACallWithoutArgumentsStays) {
  const Parsed parsed = Parse(ToolFormat::kDeepseekV31,
                              "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜><｜tool▁calls▁end｜>done");

  EXPECT_THAT(parsed.calls, ElementsAre(Call{"f", "{}"}));
  EXPECT_EQ(parsed.text, "done");
}

TEST(ToolCallParserTest, ANameBeyondItsLimitIsTextInAnySplit) {
  const std::string head = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>" + std::string(400, ' ');
  for (const std::string& text : {head + "f<｜tool▁sep｜>{}", head + "function<｜tool▁sep｜>f\n{}"}) {
    EXPECT_EQ(Parse(ToolFormat::kDeepseek, text).text, text);
  }
}

TEST(ToolCallParserTest, BlanksWithoutEndAreNotHeldBack) {
  ToolCallParser parser(ToolFormat::kHermes);

  const std::string text = parser.Append("a" + std::string(1000, '\n')).text;

  EXPECT_EQ(text, "a" + std::string(1000 - kMaxHeldBlanks, '\n'));
  EXPECT_EQ(ParseHermes(std::string(100, ' ') + "<tool_call>{\"name\": \"f\"}</tool_call>").text,
            std::string(100 - kMaxHeldBlanks, ' '));
}

// What no model writes on purpose: pieces of calls in any order, in all splits the same.
TEST(ToolCallParserTest, AnySplitOfAnyTextGivesTheSame) {
  constexpr std::string_view kPieces[] = {
      "<tool_call>", "</tool_call>", "[unused11]", "[unused12]", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
      "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "function", "\n```json\n", "\n```",
      R"({"name": "f")", R"({"name": "g", "arguments": )", R"({"a": 1})", "}", "{", "[", "]", "\"", "\\", ",", " ",
      "\n", "\"name\"", ":", "\"arguments\"", "{}", "null", "text", "é", R"(\ud83d)", "<", "[unused", "<｜",
      R"({"arguments": {"x": [1]}, "name": "h"})", R"({"name": "i", "arguments": "{\"a\": 1}"})"};
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (size_t count = random() % 30; count > 0; --count) text += kPieces[random() % std::size(kPieces)];
    for (const ToolFormat format :
         {ToolFormat::kHermes, ToolFormat::kDeepseek, ToolFormat::kDeepseekV31, ToolFormat::kPangu}) {
      Parse(format, text);
      if (HasFailure()) FAIL() << text;
    }
  }
}

TEST(ToolCallParserTest, FindsTheCallsOfPangu) {
  const Parsed parsed = Parse(
      ToolFormat::kPangu,
      R"(好的[unused11][{"name": "天气", "arguments": {"城市": "巴黎"}}, {"name": "now", "arguments": {}}][unused12])");

  EXPECT_EQ(parsed.text, "好的");
  EXPECT_THAT(parsed.calls, ElementsAre(Call{"天气", "{\"城市\": \"巴黎\"}"}, Call{"now", "{}"}));
}

TEST(ToolCallParserTest, ReadsTheLayoutsThatItNames) {
  for (const ToolFormat format :
       {ToolFormat::kHermes, ToolFormat::kPangu, ToolFormat::kDeepseek, ToolFormat::kDeepseekV31}) {
    const ToolCallLayout layout = LayoutOf(format);
    const auto call = [&](std::string_view name, std::string_view arguments) {
      return StrCat(layout.before_name, name, layout.after_name, arguments, layout.after_arguments);
    };

    const Parsed parsed =
        Parse(format, StrCat(layout.open, call("f", "{\"a\": 1}"), layout.between, call("g", "{}"), layout.close));

    EXPECT_EQ(parsed.text, "");
    EXPECT_THAT(parsed.calls, ElementsAre(Call{"f", "{\"a\": 1}"}, Call{"g", "{}"}));
  }
}

TEST(ToolCallParserTest, TheBeginningOfACallThatWasCutOffIsNoText) {
  for (const std::string_view text : {"Hm.<tool_call>", "Hm.<tool_call>\n{\"name\": \"f", "Hm.\n<tool_call>\n"}) {
    ToolCallParser cut(ToolFormat::kHermes), ended(ToolFormat::kHermes);

    std::string cut_text = cut.Append(text).text, ended_text = ended.Append(text).text;
    cut_text += cut.Flush(/*is_cut_off=*/true).text;
    ended_text += ended.Flush().text;

    EXPECT_EQ(cut_text, "Hm.") << text;
    EXPECT_EQ(ended_text, text);
  }
  ToolCallParser parser(ToolFormat::kHermes);
  parser.Append("<tool_call>{\"name\": \"f\"}</tool_call>\n<tool_call>\n{");
  const auto last = parser.Flush(/*is_cut_off=*/true);
  EXPECT_EQ(last.text, "");
  EXPECT_THAT(last.calls, IsEmpty());
}

TEST(ToolCallParserTest, WhatWasCutOffIsNoCallWithoutArguments) {
  for (const std::string_view text : {"<tool_call>{\"name\": \"f\", \"argu",
                                      "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"city\\\""}) {
    ToolCallParser parser(ToolFormat::kHermes);
    EXPECT_THAT(parser.Append(text).calls, ElementsAre(ToolCallPiece{.name = "f"}));
    EXPECT_THAT(parser.Flush(/*is_cut_off=*/true).calls, IsEmpty());
    EXPECT_EQ(parser.num_ended_calls(), 0) << text;
  }
  EXPECT_THAT(Parse(ToolFormat::kHermes, "<tool_call>{\"name\": \"f\"").calls, ElementsAre(Call{"f", "{}"}));
}

TEST(ToolCallParserTest, TheFirstArgumentsCount) {
  EXPECT_THAT(Parse(ToolFormat::kHermes, "<tool_call>{\"name\": \"f\", \"parameters\": {\"a\": 1}, "
                                         "\"arguments\": {\"a\": 2}}</tool_call>").calls,
              ElementsAre(Call{"f", "{\"a\": 1}"}));
  EXPECT_THAT(Parse(ToolFormat::kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": \"\\ud83d\"}</tool_call>").calls,
              ElementsAre(Call{"f", "\"\\ud83d\""}));
}

TEST(ToolCallParserTest, BlanksBehindTheLastCallAreNoAnswer) {
  for (const std::string_view end : {"\n", " \n\n", ""}) {
    EXPECT_EQ(Parse(ToolFormat::kHermes, StrCat("<tool_call>{\"name\": \"f\"}</tool_call>", end)).text, "");
  }
  EXPECT_EQ(Parse(ToolFormat::kHermes, "<tool_call>{\"name\": \"f\"}</tool_call>\nSo.\n").text, "\nSo.\n");
}

TEST(ToolCallParserTest, CountsTheCallsThatAreWhole) {
  ToolCallParser parser(ToolFormat::kHermes);

  parser.Append("<tool_call>{\"name\": \"f\", \"arguments\": {");
  EXPECT_EQ(parser.num_ended_calls(), 0);
  parser.Append("}}");
  EXPECT_EQ(parser.num_ended_calls(), 1);
}

TEST(ToolCallParserTest, KnowsTheFormatOfATemplate) {
  EXPECT_EQ(FindToolFormat("... <tool_call>\\n{...}\\n</tool_call> ..."), ToolFormat::kHermes);
  EXPECT_EQ(FindToolFormat("{{'<｜tool▁calls▁begin｜>'}} ```json"), ToolFormat::kDeepseek);
  EXPECT_EQ(FindToolFormat("{{'<｜tool▁calls▁begin｜>'}}"), ToolFormat::kDeepseekV31);
  EXPECT_EQ(FindToolFormat("[unused11]"), ToolFormat::kPangu);
  EXPECT_EQ(FindToolFormat("<tool_call>\\n<function=f>"), std::nullopt);
  EXPECT_EQ(FindToolFormat("{{ messages }}"), std::nullopt);
}

TEST(JsonMembersTest, HandsOutValuesAsTheyAre) {
  const std::string_view text = R"( {"a" : [1, {"b": "}"}] , "c\n":-1.5e3,"d":"x\"y","e":null} rest)";
  std::vector<std::string> members;
  JsonMembers object;
  std::string value;

  size_t taken = 0;
  for (; taken < text.size() && !object.is_ended(); ++taken) {
    object.Append(text.substr(taken, 1), [&](std::string_view key, std::string_view part, bool is_end) {
      value += part;
      if (is_end) members.push_back(std::string(key) + "=" + std::exchange(value, {}));
    });
    ASSERT_FALSE(object.is_broken()) << taken;
  }

  EXPECT_EQ(text.substr(taken), " rest");
  EXPECT_THAT(members, ElementsAre(R"(a=[1, {"b": "}"}])", "c\n=-1.5e3", R"(d="x\"y")", "e=null"));
}

TEST(JsonMembersTest, StopsWhereTheObjectIsBroken) {
  for (const std::string_view text : {"[]", "{1:2}", "{\"a\" 1}", "{\"a\":,}", "{\"a\":1}}", "{\"\\x\":1}"}) {
    JsonMembers object;

    const size_t taken = object.Append(text, [](std::string_view, std::string_view, bool) {});

    EXPECT_TRUE(object.is_broken() || taken < text.size()) << text;
  }
}

}  // namespace
}  // namespace expertd
