// Regular expressions, JSON schemas and EBNF as grammars: which texts they match.
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/json.h"
#include "engine/base/strings.h"
#include "engine/structured/automaton.h"
#include "engine/structured/constraint_compiler.h"
#include "engine/structured/ebnf.h"
#include "engine/structured/json_schema.h"
#include "engine/structured/regex.h"
#include "engine/structured/utf8_ranges.h"

namespace expertd {
namespace {

using testing::HasSubstr;
using Texts = std::vector<std::string>;

bool Matches(const TransitionNetwork& network, std::string_view text) {
  Automaton automaton(network);
  Automaton::State state = automaton.start();
  for (const char byte : text) {
    state = automaton.Next(state, static_cast<uint8_t>(byte));
    if (state == Automaton::kDead) return false;
  }
  return automaton.accepts(state);
}

void ExpectMatches(const Grammar& grammar, const Texts& yes, const Texts& no) {
  const auto network = TransitionNetwork::Create(grammar);
  ASSERT_TRUE(network.ok()) << network.status();
  for (const std::string& text : yes) EXPECT_TRUE(Matches(*network, text)) << text;
  for (const std::string& text : no) EXPECT_FALSE(Matches(*network, text)) << text;
}

void ExpectRegex(std::string_view pattern, const Texts& yes, const Texts& no, bool is_search = false) {
  SCOPED_TRACE(pattern);
  Grammar grammar;
  const auto start = AddRegex(pattern, grammar, {.is_search = is_search});
  ASSERT_TRUE(start.ok()) << start.status();
  grammar.SetStart(*start);
  ExpectMatches(grammar, yes, no);
}

void ExpectSchema(std::string_view schema, const Texts& yes, const Texts& no) {
  SCOPED_TRACE(schema);
  Grammar grammar;
  const auto start = AddJsonSchema(*ParseJson(schema), grammar);
  ASSERT_TRUE(start.ok()) << start.status();
  grammar.SetStart(*start);
  ExpectMatches(grammar, yes, no);
}

// The message of the error that a schema gives.
std::string SchemaError(const Json& schema) {
  Grammar grammar;
  const auto start = AddJsonSchema(schema, grammar);
  return start.ok() ? "no error" : std::string(start.status().message());
}

TEST(RegexTest, TheWholeTextMatches) {
  ExpectRegex("a|bc*", {"a", "b", "bcc"}, {"", "ab", "c", "xa"});
  ExpectRegex("^(x[0-9]{2,3}|y)$", {"x12", "x123", "y"}, {"x1", "x1234"});
  ExpectRegex("[^a]", {"b", "é", "你", "\xF0\x9F\x98\x80"}, {"a", "", "bb", "\xFF", "\xED\xA0\x80"});
  ExpectRegex(".", {"x", "\t"}, {"\n", "\r", "\xE2\x80\xA8"});
  ExpectRegex(R"(\d\w\s\D\W\S)", {"1_ x-!", "0a\t\xC3\xA9 x"}, {"a_ x-!"});
  ExpectRegex(R"(\u0041\x42\u{43}\.\\)", {"ABC.\\"}, {"ABCx\\"});
  ExpectRegex("(?:a(?P<n>b){0,1}?){2}", {"aa", "aba", "abab"}, {"a", "aaa"});
  ExpectRegex("[a-c-]{,2}", {"", "a-", "--"}, {"d", "abc"});
  ExpectRegex("", {""}, {"a"});
}

TEST(RegexTest, WhatSomebodyTakesForASpaceIsNeither) {
  const Texts unicode = {"\xC2\xA0", "\xE3\x80\x80", "\xE2\x80\xA8", "\x1C", "\xEF\xBB\xBF"};
  for (const char* pattern : {R"(\S)", R"([^\s])", R"([\S])"}) {
    ExpectRegex(pattern, {"a", "你", "\x01"}, unicode);
    ExpectRegex(pattern, {}, {" ", "\n"});
  }
  for (const char* pattern : {R"(\s)", R"([\s])", R"([^\S])"}) {
    ExpectRegex(pattern, {" ", "\n", "\f"}, unicode);
    ExpectRegex(pattern, {}, {"a"});
  }
}

TEST(RegexTest, ASearchFindsItAnywhere) {
  ExpectRegex("b+", {"b", "abc", "你b"}, {"", "ac"}, true);
  ExpectRegex("^a|b$", {"a", "ax", "b", "xb", "a\nb"}, {"xa", "bx"}, true);
  ExpectRegex("^$", {""}, {"a"}, true);
}

TEST(EbnfTest, RulesAlternativesAndRepetitions) {
  Grammar grammar;
  const auto start = AddEbnf(
      "# comment\nroot ::= item (\",\" item)*\n\nitem ::=\n  \"a\" | 'b'{2,3} # more\n"
      "  | [x-z]+ | (\"(\" root\n \")\")\n",
      grammar);
  ASSERT_TRUE(start.ok()) << start.status();
  grammar.SetStart(*start);
  ExpectMatches(grammar, {"a", "bb,a", "bbb,xyz", "((a,bb),x)"}, {"", "b", "a,", "bbbb", "(a"});
}

TEST(JsonSchemaTest, BlanksStandWhereModelsPutThem) {
  ExpectSchema(R"({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "null"}}}})",
               {"{}", R"({"a":[]})", R"({"a": [null, null]})", "{\n  \"a\": [\n    null\n  ]\n}"},
               {"", "{", R"({"a" :[]})", R"({"b":[]})", "{  }", " {}", "{} ", R"({"a":[null,]})"});
}

TEST(JsonSchemaTest, PropertiesComeInOrder) {
  ExpectSchema(R"({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}},
                   "required": ["b"]})",
               {R"({"b":2})", R"({"a":1,"b":2})", R"({"b":2,"c":3})", R"({"a":1,"b":2,"c":3})"},
               {"{}", R"({"a":1})", R"({"b":2,"a":1})", R"({"a":1,"c":3})", R"({"b":2,"b":2})"});
}

TEST(JsonSchemaTest, OtherPropertiesHaveOtherNames) {
  ExpectSchema(R"({"type": "object", "properties": {"ab": {"const": 1}}, "additionalProperties": {"const": 2}})",
               {"{}", R"({"ab":1})", R"({"ab":1,"a":2})", R"({"abc":2,"":2})", R"({"你":2})"},
               {R"({"ab":2})", R"({"ab":1,"ab":2})", R"({"x":1})", R"({"\u0061b":2})", R"({"a\\b":2})"});
}

TEST(JsonSchemaTest, StringsCountCodePoints) {
  ExpectSchema(R"({"type": "string", "minLength": 1, "maxLength": 2})",
               {R"("a")", R"("你好")", R"("\n\"")", R"("\ud83d\ude00x")", "\"\xF0\x9F\x98\x80x\""},
               {R"("")", R"("abc")", R"("\ud83d")", R"("\x")", "\"\n\"", R"("\ude00")"});
}

TEST(JsonSchemaTest, PatternsAreOfTheValue) {
  ExpectSchema(R"({"type": "string", "pattern": "^[^x]\\\\\"$"})", {R"("a\\\"")", R"("\n\\\"")"},
               {R"("a\\"")", R"("x\\\"")", R"("\u000a\\\"")"});
  ExpectSchema(R"({"type": "string", "pattern": "b"})", {R"("b")", R"("ab\n")"}, {R"("")", R"("a")"});
}

TEST(JsonSchemaTest, NumbersKeepTheirBounds) {
  ExpectSchema(R"({"type": "integer", "minimum": -12, "maximum": 105})",
               {"-12", "-9", "0", "7", "99", "100", "105"}, {"-13", "106", "-0", "01", "1.0", "1e1", "1000", "-"});
  ExpectSchema(R"({"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 11})", {"10"},
               {"9", "11", "1", "100"});
  ExpectSchema(R"({"type": "integer", "maximum": -1})", {"-1", "-10"}, {"0", "1"});
  ExpectSchema(R"({"type": "number", "minimum": 0.25, "exclusiveMaximum": 2})",
               {"0.25", "0.3", "1", "1.0", "1.999", "0.250001"}, {"0.2", "2", "2.0", "0.249999", "-1", "1e0", "0"});
  ExpectSchema(R"({"type": "number", "exclusiveMinimum": -1.5, "maximum": -0.5})",
               {"-1", "-0.5", "-1.4", "-1.499999"}, {"-1.5", "-1.50", "-0.4", "0", "-0.499999", "0.5"});
  ExpectSchema(R"({"type": "number"})", {"0", "-1.5e-7", "12345", "1E+10"}, {"01", ".5", "1.", "1e999", "NaN"});
  ExpectSchema(R"({"type": "integer", "multipleOf": 7})", {"0", "7", "-14", "49", "777777777777777"},
               {"1", "-8", "07", "", "7777777777777777"});
  ExpectSchema(R"({"type": "array", "items": {"type": "integer", "multipleOf": 100}})", {"[0,100,-2500]"}, {"[150]"});
}

TEST(JsonSchemaTest, BoundsBeyondAllNumbersBoundNothing) {
  for (const char* bounds : {R"("minimum": -9007199254740991, "maximum": 9007199254740991)",
                             R"("minimum": -9223372036854775808, "maximum": 18446744073709551615)",
                             R"("exclusiveMinimum": -1e300, "exclusiveMaximum": 1e300)"}) {
    ExpectSchema(StrCat(R"({"type": "integer", )", bounds, "}"), {"0", "-5", "99999999999999", "-99999999999999"},
                 {"00"});
    ExpectSchema(StrCat(R"({"type": "number", )", bounds, "}"), {"0", "-5.25", "123456.5"}, {"-", "1."});
  }
  EXPECT_THAT(SchemaError({{"type", "integer"}, {"maximum", std::numeric_limits<int64_t>::min()}}),
              HasSubstr("up to 15 digits"));
  EXPECT_THAT(SchemaError({{"type", "integer"}, {"minimum", 9007199254740991}}), HasSubstr("up to 15 digits"));
}

TEST(JsonSchemaTest, LargeSchemasOfEqualPartsAreSmall) {
  for (const Json& part : Json({{{"type", "integer"}}, {{"type", "string"}, {"maxLength", 4000}},
                                {{"type", "string"}, {"format", "uri"}}, {{"type", "number"}, {"minimum", 0.5}}})) {
    Json properties = Json::object(), names = Json::array();
    for (int i = 0; i < 2000; ++i) {
      properties[StrCat("p", i)] = part;
      names.push_back(StrCat("p", i));
    }
    Grammar grammar;
    const auto start = AddJsonSchema({{"type", "object"}, {"properties", properties}, {"required", names}}, grammar);
    ASSERT_TRUE(start.ok()) << start.status();
    grammar.SetStart(*start);
    EXPECT_TRUE(TransitionNetwork::Create(grammar).ok()) << part;
  }
}

TEST(JsonSchemaTest, TakesWhatToolsOfOthersWrite) {
  ExpectSchema(R"({"discriminator": {"propertyName": "k"}, "oneOf": [
                   {"type": "object", "properties": {"k": {"const": 1}}, "required": ["k"]},
                   {"type": "object", "properties": {"k": {"const": 2}}, "required": ["k"]}]})",
               {R"({"k":1})", R"({"k":2})"}, {R"({"k":3})"});
  ExpectSchema(R"({"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083})", {R"("http://a.b/c")"},
               {R"("")"});
  ExpectSchema(R"({"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"const": 1}})",
               {R"({"a":1})"}, {R"({"a":2})"});
  ExpectSchema(R"({"allOf": [{"enum": ["a", "b"]}, {"const": "a"}]})", {R"("a")"}, {R"("b")"});
  EXPECT_THAT(SchemaError({{"type", "string"}, {"format", "uri"}, {"maxLength", 20}}), HasSubstr("narrower"));
  EXPECT_THAT(SchemaError({{"propertyNames", {{"pattern", "a"}}}}), HasSubstr("propertyNames"));
  EXPECT_THAT(SchemaError({{"allOf", {{{"enum", {"a", "b"}}}, {{"const", "c"}}}}}), HasSubstr("const is none"));
}

TEST(JsonSchemaTest, ReferencesKeepTheirSlashes) {
  ExpectSchema(R"({"$defs": {"a/b": {"const": "slash"}, "a": {"b": {"const": "nested"}}},
                   "prefixItems": [{"$ref": "#/$defs/a~1b"}, {"$ref": "#/$defs/a/b"}], "minItems": 2, "maxItems": 2})",
               {R"(["slash","nested"])"}, {R"(["slash","slash"])"});
}

TEST(JsonSchemaTest, BranchesThatOneTextMayMatchAreRefused) {
  const auto branch = [](int k) {
    return Json({{"type", {"object", "null"}}, {"properties", {{"k", {{"const", k}}}}}, {"required", {"k"}}});
  };
  EXPECT_THAT(SchemaError({{"oneOf", {branch(1), branch(2)}}}), HasSubstr("may match branch"));
}

TEST(JsonSchemaTest, DatesAreOfTheCalendar) {
  ExpectSchema(R"({"type": "string", "format": "date"})", {R"("0001-01-31")", R"("2026-02-28")", R"("1000-12-05")"},
               {R"("0000-12-05")", R"("2026-02-30")"});
}

TEST(JsonSchemaTest, ArraysCountTheirElements) {
  ExpectSchema(R"({"type": "array", "items": {"const": 1}, "minItems": 1, "maxItems": 3})",
               {"[1]", "[1,1]", "[1, 1, 1]"}, {"[]", "[1,1,1,1]", "[1,]"});
  ExpectSchema(R"({"prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}, "minItems": 1, "maxItems": 3})",
               {"[1]", "[1,2]", "[1,2,3]"}, {"[]", "[2]", "[1,3]", "[1,2,3,3]"});
  ExpectSchema(R"({"prefixItems": [{"const": 1}, {"const": 2}], "maxItems": 1})", {"[]", "[1]"}, {"[1,2]", "[2]"});
  ExpectSchema(R"({"type": "array", "maxItems": 0})", {"[]", "[ ]"}, {"[1]"});
}

TEST(JsonSchemaTest, RecursionIsByRules) {
  ExpectSchema(R"({"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
                   "required": ["next"]})",
               {R"({"next":null})", R"({"next":{"next":{"next":null}}})"}, {"{}", R"({"next":{}})"});
}

TEST(JsonSchemaTest, FewBytesCannotAskForVeryMuchWork) {
  Json names = Json::array(), other_names = Json::array(), values = Json::array(), merges = Json::array();
  Json properties = Json::object();
  for (int i = 0; i < 10'000; ++i) {
    names.push_back(StrCat("a", i));
    other_names.push_back(StrCat("b", i));
    values.push_back({{"const", i}});
    if (i < 2000) merges.push_back({{"$ref", "#/$defs/x"}});
    if (i < 2000) properties[StrCat("p", i)] = {{"type", "null"}};
  }

  EXPECT_THAT(SchemaError({{"allOf", {{{"required", names}}, {{"required", other_names}}}}}),
              HasSubstr("takes too long"));
  EXPECT_THAT(SchemaError({{"allOf", {{{"enum", names}}, {{"enum", other_names}}}}}), HasSubstr("takes too long"));
  EXPECT_THAT(SchemaError({{"oneOf", values}}), HasSubstr("takes too long"));
  EXPECT_THAT(SchemaError({{"allOf", merges}, {"$defs", {{"x", {{"properties", properties}}}}}}),
              HasSubstr("takes too long"));
  EXPECT_NE(SchemaError({{"allOf", {{{"$ref", "#"}}, {{"allOf", {{{"$ref", "#"}}, {{"$ref", "#"}}}}}}}}), "no error");
}

TEST(JsonSchemaTest, WhatServicesAskForIsNoMuchWork) {
  Json codes = Json::array(), parts = Json::array();
  for (int i = 0; i < 500; ++i) codes.push_back({{"const", StrCat("code ", i)}, {"title", "a"}});
  for (int part = 0; part < 10; ++part) {
    Json properties = Json::object();
    for (int i = 0; i < 100; ++i) properties[StrCat("p", part, "_", i)] = {{"type", "boolean"}};
    parts.push_back({{"properties", properties}, {"required", {StrCat("p", part, "_0")}}});
  }

  EXPECT_EQ(SchemaError({{"oneOf", codes}}), "no error");
  EXPECT_EQ(SchemaError({{"type", "object"}, {"allOf", parts}}), "no error");
}

TEST(Utf8RangesTest, SplitsEveryRangeIntoItsCodePoints) {
  for (const CodePointRange range : {CodePointRange{0, 0x10FFFF}, {0x7F, 0x80}, {0x7FF, 0x800}, {0xFFFF, 0x10000},
                                     {0x3A3, 0x2F1B}, {0x1F600, 0x1F64F}, {'a', 'z'}, {0x12345, 0x12345}}) {
    int64_t count = 0;
    for (const Utf8Range& part : SplitUtf8(range)) {
      int64_t texts = 1;
      for (int i = 0; i < part.size; ++i) texts *= part.bytes[i].last - part.bytes[i].first + 1;
      count += texts;
    }
    EXPECT_EQ(count, int64_t{range.last} - range.first + 1) << range.first;
  }
}

class ConstraintCompilerTest : public testing::Test {
 protected:
  std::string text_ = "abc";
  ConstraintCompiler compiler_{3, [this](int32_t id) { return std::string_view(text_).substr(id, 1); }};
};

TEST_F(ConstraintCompilerTest, KeepsWhatItHasCompiled) {
  const ConstraintSpec spec{.kind = ConstraintSpec::Kind::kRegex, .text = "a+"};
  const auto first = compiler_.Compile(spec);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(*first, *compiler_.Compile(spec));
  const ConstraintSpec long_text{.kind = ConstraintSpec::Kind::kRegex, .text = "a0:1:c"};
  EXPECT_NE(*compiler_.Compile({.kind = ConstraintSpec::Kind::kRegex, .text = "a", .choices = {"c"}}),
            *compiler_.Compile(long_text));
  EXPECT_NE(*first, *compiler_.Compile({.kind = ConstraintSpec::Kind::kGrammar, .text = "root ::= \"a+\""}));
  EXPECT_NE(*compiler_.Compile({.kind = ConstraintSpec::Kind::kChoices, .choices = {"ab", "c"}}),
            *compiler_.Compile({.kind = ConstraintSpec::Kind::kChoices, .choices = {"a", "bc"}}));
}

TEST_F(ConstraintCompilerTest, WhatHasTooManyReadingsAtItsBeginningIsRefused) {
  std::string regex = "(ab){2}", grammar = "root ::= r0", rules = "\nr0 ::= \"x\"";
  Json definitions = Json::object(), branches = Json::array();
  for (int i = 1; i < 6000; ++i) {
    regex += "|(ab){2}";
    grammar += StrCat("|r", i);
    rules += StrCat("\nr", i, " ::= \"x\"");
    definitions[StrCat("d", i)] = {{"const", i % 10}};
    branches.push_back({{"$ref", StrCat("#/$defs/d", i)}});
  }
  const std::string schema = DumpJson({{"$defs", definitions}, {"anyOf", branches}});
  for (const ConstraintSpec& spec : {ConstraintSpec{.kind = ConstraintSpec::Kind::kRegex, .text = regex},
                                     ConstraintSpec{.kind = ConstraintSpec::Kind::kGrammar, .text = grammar + rules},
                                     ConstraintSpec{.kind = ConstraintSpec::Kind::kJsonSchema, .text = schema}}) {
    EXPECT_THAT(std::string(compiler_.Compile(spec).status().message()), HasSubstr("too many readings"));
  }
}

TEST_F(ConstraintCompilerTest, KeepsNoMoreThanItMay) {
  std::vector<std::weak_ptr<Constraint>> all;
  int64_t num_bytes = 0;
  for (int i = 0; num_bytes < 2 * ConstraintCompiler::kMaxCachedBytes; ++i) {
    const auto made = compiler_.Compile(
        {.kind = ConstraintSpec::Kind::kRegex, .text = StrCat("(a|b){", 50'000 + i, "}")});
    ASSERT_TRUE(made.ok()) << made.status();
    num_bytes += (*made)->num_bytes();
    all.push_back(*made);
  }
  EXPECT_TRUE(all.front().expired());
  EXPECT_FALSE(all.back().expired());
}

TEST_F(ConstraintCompilerTest, RefusesMoreThanMayBeInUse) {
  std::vector<std::shared_ptr<Constraint>> in_use;
  absl::Status status;
  for (int i = 0; status.ok() && i < 2000; ++i) {
    const auto made = compiler_.Compile(
        {.kind = ConstraintSpec::Kind::kRegex, .text = StrCat("(a|b){", 90'000 + i, "}")});
    status = made.status();
    if (made.ok()) in_use.push_back(*made);
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the limit is"));
}

}  // namespace
}  // namespace expertd
