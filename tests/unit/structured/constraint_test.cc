#include "engine/structured/constraint.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/structured/tool_call_form.h"

namespace expertd {
namespace {

// All single bytes, then some longer tokens, then two special ones.
class ConstraintTest : public testing::Test {
 protected:
  ConstraintTest() {
    for (int byte = 0; byte < 256; ++byte) texts_.emplace_back(1, static_cast<char>(byte));
    for (const char* text : {"ab", "abc", "aab", "\"}", "{\"", "你", "你好", "x\"", "  ", "abababab", "\\n", "éé"}) {
      texts_.emplace_back(text);
    }
    special_ = static_cast<int32_t>(texts_.size());
    texts_.resize(texts_.size() + 2);
    vocabulary_ = std::make_shared<const Vocabulary>(
        static_cast<int32_t>(texts_.size()),
        [this](int32_t token) -> std::string_view { return texts_[static_cast<size_t>(token)]; });
  }

  std::shared_ptr<Constraint> Compile(const Grammar& grammar) {
    auto constraint = Constraint::Create(grammar, vocabulary_, live_bytes_);
    EXPECT_TRUE(constraint.ok()) << constraint.status();
    return constraint.ok() ? *constraint : nullptr;
  }

  std::string ErrorOf(const Grammar& grammar) {
    return std::string(Constraint::Create(grammar, vocabulary_, live_bytes_).status().message());
  }

  // Ids of the texts, one byte each.
  ConstraintCursor Write(const std::shared_ptr<Constraint>& constraint, std::string_view text) {
    ConstraintCursor cursor(constraint);
    for (const char byte : text) cursor.Advance(static_cast<uint8_t>(byte));
    return cursor;
  }

  bool Matches(const std::shared_ptr<Constraint>& constraint, std::string_view text) {
    return Write(constraint, text).may_end();
  }

  bool IsAllowed(const TokenMask& mask, int32_t token) {
    const auto has = [&](std::span<const uint64_t> words) {
      return ((words[static_cast<size_t>(token) / 64] >> (token % 64)) & 1) != 0;
    };
    if (mask.plain_characters > 0 && has(vocabulary_->PlainTokens(mask.plain_characters))) return true;
    if (!mask.words.empty() && has(mask.words)) return true;
    return std::find(mask.tokens.begin(), mask.tokens.end(), token) != mask.tokens.end();
  }

  // The mask says of each token what writing it shows.
  void ExpectMaskTellsTheTruth(const ConstraintCursor& cursor) {
    const auto mask = cursor.AllowedTokens();
    ASSERT_NE(mask, nullptr);
    for (int32_t token = 0; token < vocabulary_->size(); ++token) {
      ConstraintCursor next = cursor.Clone();
      next.Advance(token);
      const bool is_alive = next.may_end() || !next.AllowedTokens()->empty();
      ASSERT_EQ(IsAllowed(*mask, token), is_alive) << token << " '" << texts_[static_cast<size_t>(token)] << "'";
    }
  }

  // A JSON value of strings, arrays and objects.
  static Grammar NestedValues() {
    Grammar g;
    const auto value = g.AddRule("value");
    const auto character = g.OtherCharacters({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}});
    const auto escape = g.Sequence({g.Bytes("\\"), g.Characters({{'n', 'n'}, {'"', '"'}})});
    const auto text = g.Sequence({g.Bytes("\""), g.Repeat(g.Choice({character, escape}), 0, Grammar::kUnbounded),
                                  g.Bytes("\"")});
    const auto list = [&](Grammar::Expression item) {
      return g.Optional(g.Sequence({item, g.Repeat(g.Sequence({g.Bytes(","), item}), 0, Grammar::kUnbounded)}));
    };
    const auto array = g.Sequence({g.Bytes("["), list(g.Call(value)), g.Bytes("]")});
    const auto object = g.Sequence({g.Bytes("{"), list(g.Sequence({text, g.Bytes(":"), g.Call(value)})),
                                    g.Bytes("}")});
    g.DefineRule(value, g.Choice({text, array, object}));
    g.SetStart(g.Call(value));
    return g;
  }

  std::vector<std::string> texts_;
  int32_t special_ = 0;
  std::shared_ptr<const Vocabulary> vocabulary_;
  Constraint::LiveBytes live_bytes_ = std::make_shared<std::atomic<int64_t>>(0);
};

TEST_F(ConstraintTest, ReadsNestedText) {
  const auto constraint = Compile(NestedValues());
  for (const char* text : {"\"\"", "[]", "{}", "[\"a\",{\"b\":[[]]}]", "\"\\n你\""}) {
    EXPECT_TRUE(Matches(constraint, text)) << text;
  }
  for (const char* text : {"", "[", "[]]", "[,]", "{\"a\"}", "\"\\x\"", "\"\xFF\"", "[\"a\"", "\"\n\""}) {
    EXPECT_FALSE(Matches(constraint, text)) << text;
  }
}

TEST_F(ConstraintTest, NestingHasALimit) {
  const auto constraint = Compile(NestedValues());
  const std::string open(Automaton::kMaxDepth - 1, '['), close(Automaton::kMaxDepth - 1, ']');
  EXPECT_TRUE(Matches(constraint, open + close));
  EXPECT_FALSE(Matches(constraint, open + close + "]"));
  EXPECT_FALSE(Matches(constraint, open + close.substr(1)));
  EXPECT_FALSE(Matches(constraint, "[[" + open + close + "]]"));
}

TEST_F(ConstraintTest, MasksTellWhatWritingShows) {
  const auto constraint = Compile(NestedValues());
  for (const char* text : {"", "[", "\"", "\"a", "{\"", "{\"a\"", "[\"a\\", "[[[\"a\"", "\"\xE4", "\"\xE4\xBD", "[]"}) {
    ExpectMaskTellsTheTruth(Write(constraint, text));
  }
}

TEST_F(ConstraintTest, MasksCountCharacters) {
  Grammar g;
  const auto character = g.OtherCharacters({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}});
  g.SetStart(g.Sequence({g.Bytes("\""), g.Repeat(character, 1, 5), g.Bytes("\"")}));
  const auto constraint = Compile(g);
  for (const char* text : {"", "\"", "\"a", "\"aa", "\"aaa", "\"aaaa", "\"aaaaa", "\"aaaaa\"", "\"aaa\xC3"}) {
    ExpectMaskTellsTheTruth(Write(constraint, text));
  }
  EXPECT_TRUE(Matches(constraint, "\"你好你好a\""));
  EXPECT_FALSE(Matches(constraint, "\"你好你好aa\""));
}

TEST_F(ConstraintTest, RepetitionsCount) {
  Grammar g;
  g.SetStart(g.Repeat(g.Choice({g.Bytes("ab"), g.Bytes("c")}), 2, 3));
  const auto constraint = Compile(g);
  for (const char* text : {"abc", "cc", "cabc", "ababab"}) EXPECT_TRUE(Matches(constraint, text)) << text;
  for (const char* text : {"", "ab", "cccc", "abb"}) EXPECT_FALSE(Matches(constraint, text)) << text;
  EXPECT_TRUE(Write(constraint, "ccc").must_end());
  EXPECT_FALSE(Write(constraint, "cc").must_end());
}

TEST_F(ConstraintTest, EmptyLoopsEnd) {
  Grammar g;
  const auto stars = g.Repeat(g.Repeat(g.Bytes("a"), 0, Grammar::kUnbounded), 0, Grammar::kUnbounded);
  const auto rule = g.AddRule("maybe");
  g.DefineRule(rule, g.Optional(g.Bytes("b")));
  g.SetStart(g.Sequence({stars, g.Repeat(g.Call(rule), 0, 100), g.Repeat(g.Call(rule), 3, Grammar::kUnbounded)}));
  const auto constraint = Compile(g);
  EXPECT_TRUE(Matches(constraint, ""));
  EXPECT_TRUE(Matches(constraint, "aaabbb" + std::string(200, 'b')));
  EXPECT_FALSE(Matches(constraint, "ba"));
}

// Every a may be closed by b or by c, whichever rule has opened it: 2^n stacks, were they not shared.
TEST_F(ConstraintTest, AmbiguousStacksAreShared) {
  Grammar g;
  const auto rule = g.AddRule("pair");
  const auto inner = g.Optional(g.Call(rule));
  g.DefineRule(rule, g.Choice({g.Sequence({g.Bytes("a"), inner, g.Bytes("b")}),
                               g.Sequence({g.Bytes("a"), inner, g.Bytes("c")})}));
  g.SetStart(g.Call(rule));
  const auto constraint = Compile(g);
  EXPECT_TRUE(Matches(constraint, std::string(200, 'a') + std::string(100, 'b') + std::string(100, 'c')));
  EXPECT_FALSE(Matches(constraint, std::string(200, 'a') + std::string(199, 'b')));
  EXPECT_LT(constraint->num_bytes(), 4 << 20);
}

TEST_F(ConstraintTest, RightRecursionNeedsNoStack) {
  Grammar g;
  const auto rule = g.AddRule("many");
  g.DefineRule(rule, g.Optional(g.Sequence({g.Bytes("a"), g.Call(rule)})));
  g.SetStart(g.Call(rule));
  const auto constraint = Compile(g);
  EXPECT_TRUE(Matches(constraint, std::string(100'000, 'a')));
  EXPECT_LT(constraint->num_bytes(), 100'000);
}

TEST_F(ConstraintTest, LeftRecursionIsRefusedByName) {
  Grammar direct;
  const auto list = direct.AddRule("list");
  direct.DefineRule(list, direct.Choice({direct.Bytes("a"), direct.Sequence({direct.Call(list), direct.Bytes("b")})}));
  direct.SetStart(direct.Call(list));
  EXPECT_THAT(ErrorOf(direct), testing::HasSubstr("'list' is left-recursive"));

  Grammar hidden;
  const auto first = hidden.AddRule("first"), second = hidden.AddRule("second");
  hidden.DefineRule(first, hidden.Choice({hidden.Bytes("x"), hidden.Repeat(hidden.Call(second), 2, 4)}));
  hidden.DefineRule(second, hidden.Sequence({hidden.Optional(hidden.Bytes("y")), hidden.Call(first)}));
  hidden.SetStart(hidden.Sequence({hidden.Bytes("z"), hidden.Call(first)}));
  EXPECT_THAT(ErrorOf(hidden), testing::HasSubstr("is left-recursive"));
}

TEST_F(ConstraintTest, WhatCannotEndIsNeverBegun) {
  Grammar endless;
  const auto rule = endless.AddRule("endless");
  endless.DefineRule(rule, endless.Sequence({endless.Bytes("a"), endless.Call(rule)}));
  endless.SetStart(endless.Call(rule));
  EXPECT_EQ(ErrorOf(endless), "no text can match the constraint");

  endless.SetStart(endless.Choice({endless.Call(rule), endless.Bytes("b")}));
  const auto constraint = Compile(endless);
  EXPECT_FALSE(IsAllowed(*ConstraintCursor(constraint).AllowedTokens(), 'a'));
  EXPECT_TRUE(Matches(constraint, "b"));
}

TEST_F(ConstraintTest, HugeRepetitionsAreRefused) {
  Grammar g;
  g.SetStart(g.Repeat(g.Repeat(g.Bytes("a"), 100'000, 100'000), 100'000, 100'000));
  EXPECT_EQ(ErrorOf(g), "");  // nested repetitions are rules, each written out once
  Grammar h;
  h.SetStart(h.Repeat(h.Bytes("a"), 0, 1'000'000'000));
  EXPECT_THAT(ErrorOf(h), testing::HasSubstr("too large"));
}

// Each text of a and b has a state of its own; the states of the others are forgotten, but not where a cursor is.
TEST_F(ConstraintTest, StatesStayWithinTheirMemory) {
  Grammar g;
  const auto either = g.Characters({{'a', 'b'}});
  g.SetStart(g.Sequence({g.Repeat(either, 0, Grammar::kUnbounded), g.Bytes("a"), g.Repeat(either, 400, 400)}));
  const auto constraint = Compile(g);
  ConstraintCursor cursor(constraint);
  const ConstraintCursor behind_a = Write(constraint, std::string(400, 'b') + "a" + std::string(400, 'b'));
  uint32_t random = 1;
  for (int i = 0; i < 20'000; ++i) {
    random = random * 1664525 + 1013904223;
    cursor.Advance('a' + static_cast<int32_t>(random >> 31));
    if (i % 100 == 0) {
      ASSERT_TRUE(IsAllowed(*cursor.AllowedTokens(), 'a'));
    }
    ASSERT_LT(constraint->num_bytes(), 2 * Constraint::kMaxBytes);
  }
  EXPECT_TRUE(behind_a.may_end());
  ConstraintCursor next = behind_a.Clone();
  next.Advance('b');
  EXPECT_FALSE(next.may_end());
}

TEST_F(ConstraintTest, TokensByTheirId) {
  Grammar g;
  g.SetStart(g.Sequence({g.Token(special_), g.Bytes("a"), g.Choice({g.Token(special_ + 1), g.Bytes("b")})}));
  const auto constraint = Compile(g);
  ConstraintCursor cursor(constraint);
  EXPECT_THAT(cursor.AllowedTokens()->tokens, testing::ElementsAre(special_));
  cursor.Advance(special_);
  EXPECT_THAT(cursor.AllowedTokens()->tokens, testing::UnorderedElementsAre('a', 256 /* ab */));
  cursor.Advance('a');
  ConstraintCursor other = cursor.Clone();
  cursor.Advance(special_ + 1);
  EXPECT_TRUE(cursor.must_end());
  other.Advance(special_);
  EXPECT_FALSE(other.may_end());
  EXPECT_TRUE(other.AllowedTokens()->empty());
}

TEST_F(ConstraintTest, HoldsBehindReasoning) {
  Grammar g;
  g.SetStart(g.Bytes("ab"));
  const auto constraint = Compile(g);
  const ConstraintPrelude prelude = {
      .open_token = special_, .close_token = special_ + 1, .is_open = false, .blank_tokens = {'\n'}};

  ConstraintCursor at_once(constraint, prelude);
  EXPECT_TRUE(IsAllowed(*at_once.AllowedTokens(), special_));
  EXPECT_TRUE(IsAllowed(*at_once.AllowedTokens(), 'a'));
  EXPECT_FALSE(IsAllowed(*at_once.AllowedTokens(), 'b'));
  ConstraintCursor reasoning = at_once.Clone();
  at_once.Advance('a');
  EXPECT_FALSE(IsAllowed(*at_once.AllowedTokens(), special_));

  reasoning.Advance(special_);
  for (const int32_t token : {int32_t{'x'}, int32_t{'y'}, special_}) {
    reasoning.Advance(token);
    EXPECT_EQ(reasoning.AllowedTokens(), nullptr);
    EXPECT_FALSE(reasoning.may_end());
  }
  reasoning.Advance(special_ + 1);
  EXPECT_FALSE(IsAllowed(*reasoning.AllowedTokens(), special_));
  EXPECT_TRUE(IsAllowed(*reasoning.AllowedTokens(), '\n'));
  reasoning.Advance('\n');
  EXPECT_FALSE(IsAllowed(*reasoning.AllowedTokens(), '\n'));
  reasoning.Advance(256);
  EXPECT_TRUE(reasoning.must_end());
}

TEST_F(ConstraintTest, GivesItsMemoryBack) {
  {
    const auto constraint = Compile(NestedValues());
    ExpectMaskTellsTheTruth(Write(constraint, "[\""));
    EXPECT_EQ(live_bytes_->load(), constraint->num_bytes());
    EXPECT_GT(live_bytes_->load(), 0);
  }
  EXPECT_EQ(live_bytes_->load(), 0);
}

TEST_F(ConstraintTest, ATriggerBeginsIt) {
  Grammar g;
  g.SetStart(g.Sequence({g.Token(special_), g.Bytes("ab")}));
  ConstraintCursor cursor(Compile(g), ConstraintPrelude{.trigger_token = special_});

  EXPECT_EQ(cursor.AllowedTokens(), nullptr);
  EXPECT_TRUE(cursor.may_end());
  for (const int32_t token : {int32_t{'x'}, int32_t{'a'}}) cursor.Advance(token);
  EXPECT_EQ(cursor.AllowedTokens(), nullptr);
  EXPECT_FALSE(cursor.must_end());

  cursor.Advance(special_);
  EXPECT_FALSE(cursor.may_end());
  ExpectMaskTellsTheTruth(cursor);
  cursor.Advance('a');
  cursor.Advance('b');
  EXPECT_TRUE(cursor.must_end());
}

TEST_F(ConstraintTest, ATokenThatHasBytesCanBeNamed) {
  const auto ab = static_cast<int32_t>(std::find(texts_.begin(), texts_.end(), "ab") - texts_.begin());
  Grammar g;
  g.SetStart(g.Choice({g.Sequence({g.Token(ab), g.Bytes("x")}), g.Bytes("aby")}));
  ConstraintCursor cursor(Compile(g));
  ExpectMaskTellsTheTruth(cursor);

  cursor.Advance(ab);
  EXPECT_TRUE(IsAllowed(*cursor.AllowedTokens(), 'x'));
  EXPECT_FALSE(IsAllowed(*cursor.AllowedTokens(), 'y'));
}

TEST_F(ConstraintTest, ATriggerInReasoningBeginsNothing) {
  Grammar g;
  g.SetStart(g.Sequence({g.Token('c'), g.Bytes("ab")}));
  ConstraintCursor cursor(Compile(g), ConstraintPrelude{.open_token = special_, .close_token = special_ + 1,
                                                        .is_open = true, .trigger_token = 'c'});
  cursor.Advance('c');
  EXPECT_FALSE(cursor.may_end());
  cursor.Advance(special_ + 1);
  EXPECT_TRUE(cursor.may_end());
  EXPECT_EQ(cursor.AllowedTokens(), nullptr);
  cursor.Advance('c');
  EXPECT_FALSE(cursor.may_end());
  EXPECT_NE(cursor.AllowedTokens(), nullptr);
}

TEST_F(ConstraintTest, CallsOfToolsFollowTheirSchemas) {
  ToolCallForm form;
  form.open = {{.token = special_}, {.text = "["}};
  form.before_name = {{.text = "<"}};
  form.after_name = {{.text = ":"}};
  form.after_arguments = {{.text = ">"}};
  form.between = {{.text = ","}};
  form.close = {{.text = "]"}};
  form.tools = {{.name = "f", .schema = R"({"type": "object", "properties": {"n": {"const": 1}}, "required": ["n"]})"},
                {.name = "any"}};
  const auto matches = [&](std::string_view text) {
    Grammar g;
    g.SetStart(*AddToolCalls(form, g));
    ConstraintCursor cursor(Compile(g));
    cursor.Advance(special_);
    for (const char byte : text) cursor.Advance(static_cast<uint8_t>(byte));
    return cursor.may_end();
  };

  EXPECT_TRUE(matches(R"([<f:{"n": 1}>])"));
  EXPECT_TRUE(matches(R"([<f:{"n": 1}>,<any:{"x": []}>])"));
  EXPECT_FALSE(matches(R"([<f:{}>])"));
  EXPECT_FALSE(matches(R"([<g:{}>])"));
  EXPECT_FALSE(matches("[]"));
  form.is_single = true;
  EXPECT_TRUE(matches("[<any:{}>]"));
  EXPECT_FALSE(matches("[<any:{}>,<any:{}>]"));

  form.tools[0].schema = R"({"not": {}})";
  Grammar g;
  EXPECT_THAT(std::string(AddToolCalls(form, g).status().message()), testing::HasSubstr("tool f"));
}

}  // namespace
}  // namespace expertd
