// Word segmentation: the package's own answers (tests/golden/tokenizers/record.py), its files, and damage to them.
#include "engine/text/jieba.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/strings.h"
#include "tests/unit/text/support/temporary_folder.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kGolden = StrCat(EXPERTD_SOURCE_DIR, "/tests/golden/tokenizers/pangu_alpha");

Jieba GoldenJieba() { return *Jieba::Load({kGolden + "/dict.txt", kGolden + "/prob_emit.py"}); }

std::vector<std::string> Words(const Jieba& jieba, std::string_view text) {
  std::vector<std::string> words;
  uint32_t begin = 0;
  for (const uint32_t end : jieba.WordEnds(text)) {
    words.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

// With a table of emissions that knows no character.
Jieba WithDictionary(std::string_view dictionary) {
  constexpr std::string_view kEmissions =
      R"(P={'B': {'\u4e00': -1}, 'E': {'\u4e00': -1}, 'M': {'\u4e00': -1}, 'S': {'\u4e00': -1}})";
  return Jieba(*JiebaDictionary::Parse(dictionary), *JiebaHmm::Parse(kEmissions));
}

TEST(JiebaTest, CutsTheRecordedWords) {
  const Jieba jieba = GoldenJieba();
  const Json golden = *ReadJsonFile(kGolden + "/words.json");
  ASSERT_EQ(golden.size(), 800u);

  for (const Json& words : golden) {
    const auto expected = words.get<std::vector<std::string>>();
    std::string text;
    for (const std::string& word : expected) text += word;

    EXPECT_EQ(Words(jieba, text), expected);
  }
}

TEST(JiebaTest, TakesTheLongestOfEquallyLikelyWords) {
  // 甲 and 乙 together are as likely as 甲乙: ln(4/16) + ln(4/16) = ln(1/16).
  EXPECT_THAT(Words(WithDictionary("甲 4\n乙 4\n甲乙 1\n丙 7\n"), "甲乙"), ElementsAre("甲乙"));
  EXPECT_THAT(Words(WithDictionary("甲 5\n乙 4\n甲乙 1\n丙 6\n"), "甲乙丙"), ElementsAre("甲", "乙", "丙"));
}

TEST(JiebaTest, TakesTheLastFrequencyOfARepeatedWordAndCountsBoth) {
  const JiebaDictionary dictionary = *JiebaDictionary::Parse("ab 3\nab 1 n\nac 4");
  const auto a = dictionary.Child(JiebaDictionary::kRoot, 'a');

  EXPECT_FALSE(dictionary.IsWord(a));
  EXPECT_DOUBLE_EQ(dictionary.LogProbability(dictionary.Child(a, 'b')), std::log(1.0 / 8));
  EXPECT_DOUBLE_EQ(dictionary.LogProbability(dictionary.Child(a, 'c')), std::log(4.0 / 8));
  EXPECT_EQ(dictionary.Child(a, 'd'), JiebaDictionary::kNone);
  EXPECT_EQ(dictionary.Child(dictionary.Child(a, 'c'), 'a'), JiebaDictionary::kNone);
}

TEST(JiebaTest, KeepsLineEndsWholeAndCutsOtherSignsOneByOne) {
  const Jieba jieba = WithDictionary("甲 1\n");

  EXPECT_THAT(Words(jieba, "a\r\n\n\r  。。é"), ElementsAre("a", "\r\n", "\n", "\r", " ", " ", "。", "。", "é"));
  EXPECT_THAT(Words(jieba, "v1.5%x+-3."), ElementsAre("v1.5%", "x", "+-", "3", "."));
  EXPECT_THAT(Words(jieba, ""), ElementsAre());
}

TEST(JiebaTest, RefusesADamagedDictionaryByLine) {
  const std::string long_word(257, 'a');
  const std::pair<std::string, std::string> cases[] = {
      {"", "there is no word with a frequency above 0"},
      {"甲 0\n", "there is no word with a frequency above 0"},
      {"甲 1\n乙\n", "line 2: must be a word, a space, a frequency"},
      {"甲 1\n\n", "line 2: must be a word, a space, a frequency"},
      {"甲 -1\n", "line 1: the frequency is \"-1\"; must be 0..2^32-1"},
      {"甲 4294967296\n", "line 1: the frequency is \"4294967296\""},
      {"甲 1.5\n", "line 1: the frequency is \"1.5\""},
      {"甲  1\n", "line 1: the frequency is \"\""},
      {"\xE7\x94 1\n", "line 1: the word is not UTF-8"},
      {long_word + " 1\n", "line 1: the word has 257 bytes; at most 256"},
  };

  for (const auto& [text, message] : cases) {
    const absl::Status status = JiebaDictionary::Parse(text).status();

    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(JiebaTest, RefusesDamagedEmissionsByLine) {
  const std::string others = R"(, 'E': {'\u4e00': -1}, 'M': {'\u4e00': -1}, 'S': {'\u4e00': -1}})";
  const std::pair<std::string, std::string> cases[] = {
      {"", "line 1: no P"},
      {"import os\nP={}", "line 1: no P"},
      {"P={'B': {}" + others, "line 1: no '\\u"},
      {"P=\n{'X': {'\\u4e00': -1}" + others, "line 2: no state B, M, E or S that is new"},
      {"P={'E': {'\\u4e00': -1}" + others, "no state B, M, E or S that is new"},
      {"P={'B': {'\\u4e00': -1}}", "line 1: no ,"},
      {"P={'B': {'\\u4e0': -1}" + others, "no four hexadecimal digits"},
      {"P={'B': {'\\u4e00': x}" + others, "no number"},
      {"P={'B': {'\\u4e00': nan}" + others, "is not in -3.14e100..0"},
      {"P={'B': {'\\u4e00': 0.5}" + others, "is not in -3.14e100..0"},
      {"P={'B': {'\\u4e00': -1,\n'\\u4e00': -2}" + others, "line 2: a character is given twice"},
      {"P={'B': {'\\u4e00': -1}" + others + "\nprint(1)", "line 2: something behind the table"},
  };

  ASSERT_TRUE(JiebaHmm::Parse("P={'B': {'\\u4e00': -1}" + others).ok());
  for (const auto& [text, message] : cases) {
    const absl::Status status = JiebaHmm::Parse(text).status();

    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << text;
  }
}

TEST(JiebaTest, SurvivesFilesCutAnywhere) {
  const std::string dictionary = ReadWholeFile(kGolden + "/dict.txt");
  const std::string emissions = ReadWholeFile(kGolden + "/prob_emit.py");

  for (size_t size = 0; size < emissions.size(); size += 7) {
    EXPECT_FALSE(JiebaHmm::Parse(std::string_view(emissions).substr(0, size)).ok());
  }
  for (size_t size = 0; size < dictionary.size(); size += 7) {
    const auto parsed = JiebaDictionary::Parse(std::string_view(dictionary).substr(0, size));
    if (parsed.ok()) {
      EXPECT_GT(parsed->num_nodes(), 1u);
    }
  }
}

TEST(JiebaTest, FindsItsFilesWhereTheyAreExpected) {
  TemporaryFolder model, package, own;
  std::filesystem::create_directory(package.path() + "/finalseg");
  package.Write("dict.txt", "x 1").Write("finalseg/prob_emit.py", "");
  own.Write("words.txt", "x 1").Write("prob_emit.py", "");

  JiebaFiles files = *FindJiebaFiles(model.path(), "", package.path());
  EXPECT_EQ(files.dictionary, package.path() + "/dict.txt");
  EXPECT_EQ(files.emissions, package.path() + "/finalseg/prob_emit.py");

  model.Write("dict.txt", "x 1");
  files = *FindJiebaFiles(model.path(), "", package.path());
  EXPECT_EQ(files.dictionary, model.path() + "/dict.txt");
  EXPECT_EQ(files.emissions, package.path() + "/finalseg/prob_emit.py");

  files = *FindJiebaFiles(model.path(), own.path() + "/words.txt", package.path());
  EXPECT_EQ(files.dictionary, own.path() + "/words.txt");
  EXPECT_EQ(files.emissions, own.path() + "/prob_emit.py");
}

TEST(JiebaTest, SaysWhatToDoWhenAFileIsMissing) {
  TemporaryFolder model, package;

  EXPECT_EQ(FindJiebaFiles(model.path(), "", package.path()).status(),
            absl::FailedPreconditionError(
                StrCat("the tokenizer of ", model.path(), " needs jieba's dict.txt and prob_emit.py: put both into ",
                       "that folder, or elsewhere and name the first with --jieba-dict, or install Debian's ",
                       "python3-jieba")));
  EXPECT_EQ(FindJiebaFiles(model.path(), "/no/dict.txt", package.path()).status(),
            absl::FailedPreconditionError("--jieba-dict is /no/dict.txt; there is no such file"));
  model.Write("dict.txt", "x 1");
  EXPECT_EQ(FindJiebaFiles(model.path(), "", package.path()).status(),
            absl::FailedPreconditionError(
                StrCat("the tokenizer of ", model.path(), " needs jieba's prob_emit.py: put it into that folder or ",
                       "beside the dictionary, or install Debian's python3-jieba")));
}

}  // namespace
}  // namespace expertd
