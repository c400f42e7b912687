// Loading and running of BPE tokenizers written out here, damaged files, and texts made to be slow.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/bpe_model.h"
#include "engine/text/text_regex.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tokenizer_files.h"
#include "tests/unit/text/support/temporary_folder.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kGoldens = StrCat(EXPERTD_SOURCE_DIR, "/tests/golden/tokenizers/");

// A byte-level tokenizer of a few pieces: h e l o Ġ w, he=6, ll=7, hell=8, hello=9.
Json SmallTokenizer() {
  return Json::parse(R"({
    "version": "1.0",
    "added_tokens": [{"id": 10, "content": "<end>", "special": true, "normalized": false},
                     {"id": 11, "content": "<think>", "special": false, "normalized": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"h": 0, "e": 1, "l": 2, "o": 3, "Ġ": 4, "w": 5,
                                       "he": 6, "ll": 7, "hell": 8, "hello": 9},
              "merges": ["h e", "l l", "he ll", "hell o"]}
  })");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const Json& json, const std::string& config = "") {
  TemporaryFolder folder;
  folder.Write("tokenizer.json", json.dump());
  if (!config.empty()) folder.Write("tokenizer_config.json", config);
  return LoadTokenizer(folder.path());
}

absl::Status LoadStatus(const Json& json, const std::string& config = "") { return Load(json, config).status(); }

std::vector<TokenId> Encode(const Tokenizer& tokenizer, std::string_view text, const EncodeOptions& options = {}) {
  absl::StatusOr<std::vector<TokenId>> ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : std::vector<TokenId>();
}

TEST(ByteBpeTest, MergesByRankAndKnowsItsTokens) {
  const auto tokenizer = *Load(SmallTokenizer());

  EXPECT_THAT(Encode(*tokenizer, "hello hell"), ElementsAre(9, 4, 8));
  EXPECT_THAT(Encode(*tokenizer, ""), IsEmpty());
  EXPECT_EQ(tokenizer->vocab_size(), 12);
  EXPECT_EQ(tokenizer->TokenText(4), "Ġ");
  EXPECT_EQ(tokenizer->TokenBytes(4), " ");
  EXPECT_EQ(tokenizer->TokenBytes(10), "<end>");
  EXPECT_EQ(tokenizer->TokenBytes(12), "");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_TRUE(tokenizer->IsSpecial(10));
  EXPECT_FALSE(tokenizer->IsSpecial(11));
  EXPECT_FALSE(tokenizer->IsSpecial(2000));
  EXPECT_EQ(tokenizer->TokenToId("hello"), 9);
  EXPECT_EQ(tokenizer->TokenToId("<think>"), 11);
  EXPECT_EQ(tokenizer->TokenToId("nothing"), std::nullopt);
  EXPECT_FALSE(tokenizer->strips_leading_space());
}

TEST(ByteBpeTest, ParsesSpecialTokensInTextOnlyWhenAsked) {
  const auto tokenizer = *Load(SmallTokenizer());

  EXPECT_THAT(Encode(*tokenizer, "hell<end><think>o"), ElementsAre(8, 10, 11, 3));
  // Of "<end>" the vocabulary knows only the letter e; the others have no piece and no unknown token.
  EXPECT_THAT(Encode(*tokenizer, "hell<end><think>o", {.parse_special_tokens = false}), ElementsAre(8, 1, 11, 3));
}

TEST(ByteBpeTest, GivesOffsetsIntoTheOriginalText) {
  Json json = SmallTokenizer();
  json["normalizer"] = Json::parse(R"({"type": "NFKC"})");
  const auto tokenizer = *Load(json);

  absl::StatusOr<Encoding> encoding = tokenizer->EncodeWithOffsets("o<end>ｈell o", {});

  ASSERT_TRUE(encoding.ok()) << encoding.status();
  EXPECT_THAT(encoding->ids, ElementsAre(3, 10, 8, 4, 3));
  EXPECT_THAT(encoding->offsets,
              ElementsAre(ByteRange{0, 1}, ByteRange{1, 6}, ByteRange{6, 12}, ByteRange{12, 13}, ByteRange{13, 14}));
}

TEST(ByteBpeTest, RefusesTextThatIsNotUtf8AndNamesTheByte) {
  const auto tokenizer = *Load(SmallTokenizer());

  const absl::Status status = tokenizer->Encode("hello\xFF", {}).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "text is not UTF-8: malformed at byte 5");
  EXPECT_FALSE(tokenizer->EncodeWithOffsets("\xE4\xBD", {}).ok());
}

TEST(ByteBpeTest, AddsWhatTheTemplateSaysAndWhatTheConfigOverrules) {
  Json json = SmallTokenizer();
  json["post_processor"] = Json::parse(R"({"type": "Sequence", "processors": [
      {"type": "ByteLevel"},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "<end>", "type_id": 0}}, {"Sequence": {"id": "A"}}],
       "special_tokens": {"<end>": {"id": "<end>", "ids": [10], "tokens": ["<end>"]}}}]})");
  const auto plain = *Load(json);
  const auto overruled = *Load(json, R"({"bos_token": "<end>", "eos_token": {"content": "<end>"},
                                         "add_bos_token": false, "add_eos_token": true})");

  EXPECT_THAT(Encode(*plain, "hello"), ElementsAre(10, 9));
  EXPECT_THAT(Encode(*plain, "hello", {.add_special_tokens = false}), ElementsAre(9));
  EXPECT_EQ(plain->bos(), std::nullopt);
  EXPECT_THAT(Encode(*overruled, "hello"), ElementsAre(9, 10));
  EXPECT_EQ(overruled->bos(), 10);
  EXPECT_EQ(overruled->eos(), 10);
}

TEST(ByteBpeTest, TakesFlagsAndFurtherTokensFromTheConfig) {
  const auto tokenizer = *Load(SmallTokenizer(), R"({
      "added_tokens_decoder": {"11": {"content": "<think>", "special": true, "normalized": false},
                               "20": {"content": "<new>", "lstrip": true, "rstrip": true, "normalized": false}},
      "pad_token": "<absent>"})");

  EXPECT_EQ(tokenizer->vocab_size(), 21);
  EXPECT_TRUE(tokenizer->IsSpecial(11));
  EXPECT_EQ(tokenizer->pad(), std::nullopt);
  EXPECT_EQ(tokenizer->TokenBytes(15), "");
  EXPECT_THAT(Encode(*tokenizer, "o  <new> \n o"), ElementsAre(3, 20, 3));
}

TEST(ByteBpeTest, MatchesTheLongestAddedTokenFirst) {
  Json json = SmallTokenizer();
  json["added_tokens"].push_back(
      Json::parse(R"({"id": 12, "content": "<end>.", "special": true, "normalized": false})"));
  json["added_tokens"].push_back(
      Json::parse(R"({"id": 13, "content": "low", "single_word": true, "normalized": false})"));
  const auto tokenizer = *Load(json);

  EXPECT_THAT(Encode(*tokenizer, "<end>.<end>"), ElementsAre(12, 10));
  EXPECT_THAT(Encode(*tokenizer, "low lowe"), ElementsAre(13, 4, 2, 3, 5, 1));
}

TEST(ByteBpeTest, IgnoreMergesTakesWholePiecesThatMergingCannotReach) {
  Json json = SmallTokenizer();
  json["model"]["vocab"]["hellow"] = 12;
  const auto merging = *Load(json);
  json["model"]["ignore_merges"] = true;
  const auto ignoring = *Load(json);

  EXPECT_THAT(Encode(*merging, "hellow"), ElementsAre(9, 5));
  EXPECT_THAT(Encode(*ignoring, "hellow"), ElementsAre(12));
}

TEST(ByteBpeTest, RefusesWhatItDoesNotImplementByName) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"normalizer": {"type": "Precompiled"}})", "normalizer type \"Precompiled\" is not supported"},
      {R"({"pre_tokenizer": {"type": "UnicodeScripts"}})", "pre_tokenizer type \"UnicodeScripts\" is not supported"},
      {R"({"post_processor": {"type": "RobertaProcessing"}})", "post_processor type \"RobertaProcessing\""},
      {R"({"decoder": {"type": "WordPiece"}})", "decoder type \"WordPiece\" is not supported"},
      {R"({"decoder": null})", "decoder null is not supported"},
      {R"({"model": {"type": "WordPiece"}})", "model type \"WordPiece\" is not supported"},
      {R"({"model": {"continuing_subword_prefix": "##"}})", "model.continuing_subword_prefix is \"##\""},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[a-z&&[^b]]"}}})", "an intersection of classes"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}}})", "missing closing parenthesis"},
  };

  for (const auto& [change, message] : cases) {
    Json json = SmallTokenizer();
    const Json patch = Json::parse(change);
    for (const auto& [key, value] : patch.items()) {
      key == "model" ? json[key].update(value) : (void)(json[key] = value);
    }
    const absl::Status status = LoadStatus(json);

    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << change;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_THAT(std::string(status.message()), HasSubstr("/tokenizer.json: "));
  }
}

TEST(ByteBpeTest, RefusesDamagedVocabulariesAndNamesTheDamage) {
  const struct {
    std::string path;   // JSON pointer
    std::string value;
    std::string message;
  } cases[] = {
      {"/model/vocab/h", "-1", "the id of \"h\" is -1"},
      {"/model/vocab/h", "4194304", "the id of \"h\" is 4194304"},
      {"/model/vocab/h", "18446744073709551615", "the id of \"h\" is 18446744073709551615"},
      {"/model/vocab/h", "1.5", "the id of \"h\" is 1.5"},
      {"/model/vocab/h", "[1]", "the id of \"h\" is [1]"},
      {"/model/vocab/h", "2", "id 2 is given to both"},
      {"/model/vocab", "7", "the vocabulary is not an object of ids"},
      {"/model/vocab", "null", "model has no vocab"},
      {"/model/merges/0", "\"h x\"", "names \"x\", which is not in the vocabulary"},
      {"/model/merges/0", "\"h w\"", "names \"hw\", which is not in the vocabulary"},
      {"/model/merges/0", "\"h\"", "merge 0 is not two pieces"},
      {"/model/merges/0", "[\"h\"]", "merge 0 is not two pieces"},
      {"/model/merges", "{}", "model has no list of merges"},
      {"/model/unk_token", "\"<unk>\"", "unk_token \"<unk>\" is not in the vocabulary"},
      {"/model", "[]", "there is no model"},
      {"/added_tokens/0/id", "9", "id 9 belongs to both \"hello\" and the added token \"<end>\""},
      {"/added_tokens/0/id", "11", "id 11 belongs to both"},
      {"/added_tokens/0/id", "-1", "id is -1"},
      {"/added_tokens/0/id", "4194304", "id is 4194304"},
      {"/added_tokens/0/content", "\"\"", "an added token has no content"},
      {"/added_tokens/0/content", StrCat("\"", std::string(1025, 'x'), "\""), "added token 10 has 1025 bytes"},
      {"/added_tokens/0/content", "\"hello\"", "added token \"hello\" has the ids 9 and 10"},
      {"/post_processor", R"({"type": "TemplateProcessing", "single": []})", "has 0 sequences"},
      {"/post_processor", R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<bos>"}}]})",
       "names the unknown token \"<bos>\""},
      {"/pre_tokenizer", R"({"type": "Split", "pattern": {}})", "neither a Regex nor a String pattern"},
  };

  for (const auto& test : cases) {
    Json json = SmallTokenizer();
    json[Json::json_pointer(test.path)] = Json::parse(test.value);
    const absl::Status status = LoadStatus(json);

    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << test.path << " " << test.value << " " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(test.message));
  }
}

TEST(ByteBpeTest, TheLastIdOfAPieceGivenTwiceCounts) {
  TemporaryFolder folder;
  folder.Write("vocab.json", R"({"a": 0, "b": 1, "a": 2})").Write("merges.txt", "");
  const auto tokenizer = *LoadTokenizer(folder.path());

  EXPECT_EQ(*tokenizer->Encode("ab", {}), (std::vector<TokenId>{2, 1}));
  EXPECT_EQ(tokenizer->TokenText(0), "");
}

TEST(ByteBpeTest, HolesInTheVocabularyHaveNoText) {
  Json json = SmallTokenizer();
  json["model"]["vocab"]["q"] = 100;
  const auto tokenizer = *Load(json);

  EXPECT_EQ(tokenizer->vocab_size(), 101);
  EXPECT_EQ(tokenizer->TokenText(50), "");
  EXPECT_EQ(tokenizer->TokenBytes(50), "");
  EXPECT_EQ(tokenizer->Decode(std::vector<TokenId>{0, 50, 1}, true), "he");
}

TEST(ByteBpeTest, AnyTruncationOfTheFileIsAStatus) {
  const std::string text = ReadWholeFile(kGoldens + "qwen/tokenizer.json");
  const size_t end = text.find_last_of('}');

  for (size_t size = 0; size < end; size += 1 + size / 40) {
    TemporaryFolder folder;
    folder.Write("tokenizer.json", std::string_view(text).substr(0, size));

    EXPECT_EQ(LoadTokenizer(folder.path()).status().code(), absl::StatusCode::kInvalidArgument) << size;
  }
}

TEST(ByteBpeTest, RandomDamageIsAStatusOrAWorkingTokenizer) {
  const std::string text = ReadWholeFile(kGoldens + "deepseek/tokenizer.json");
  std::mt19937 random(7);
  constexpr std::string_view kBytes = "0123456789aeé-\"{}[],:\\ \xFF";
  int num_refused = 0;

  for (int round = 0; round < 400; ++round) {
    std::string damaged = text;
    for (uint32_t i = 0; i <= random() % 2; ++i) damaged[random() % damaged.size()] = kBytes[random() % kBytes.size()];
    TemporaryFolder folder;
    folder.Write("tokenizer.json", damaged);
    const absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(folder.path());
    num_refused += !tokenizer.ok();
    if (!tokenizer.ok()) continue;
    const absl::StatusOr<std::vector<TokenId>> ids = (*tokenizer)->Encode("Hello, 世界! 1234 <think>", {});
    if (ids.ok()) (*tokenizer)->Decode(*ids, /*skip_special_tokens=*/false);
  }

  EXPECT_GT(num_refused, 0);
  EXPECT_LT(num_refused, 400);  // some damage leaves a tokenizer
}

// ---- rules that make much of little

// A sequence that makes 2^num_parts letters h of each.
Json Doubling(std::string_view list_name, int num_parts) {
  const Json twice = Json::parse(R"({"type": "Replace", "pattern": {"String": "h"}, "content": "hh"})");
  return {{"type", "Sequence"}, {std::string(list_name), Json::array_t(static_cast<size_t>(num_parts), twice)}};
}

absl::StatusOr<std::vector<TokenId>> EncodeWith(std::string_view part, const Json& value, std::string_view text) {
  Json json = SmallTokenizer();
  json[std::string(part)] = value;
  ASSIGN_OR_RETURN(const auto tokenizer, Load(json));
  return tokenizer->Encode(text, {});
}

TEST(ByteBpeTest, BoundsWhatNormalizersMakeOfAText) {
  const auto grown = EncodeWith("normalizer", Doubling("normalizers", 60), "hh");

  EXPECT_EQ(grown.status(), absl::InvalidArgumentError(
                                "the tokenizer's rules make a text of 8192 bytes out of 2; at most 4128"));
  EXPECT_EQ(EncodeWith("normalizer", Doubling("normalizers", 4), std::string(100'000, 'h'))->size(), 1'600'000u);
}

TEST(ByteBpeTest, BoundsASingleNormalizerThatMakesMuch) {
  Json json = SmallTokenizer();
  json["normalizer"] = {
      {"type", "Replace"}, {"pattern", {{"String", "h"}}}, {"content", std::string(1'000'000, 'e')}};
  const auto tokenizer = *Load(json);

  EXPECT_EQ(tokenizer->EncodeWithOffsets(std::string(1'000'000, 'h'), {}).status(),
            absl::InvalidArgumentError(
                "the tokenizer's rules make a text of 1000000000000 bytes out of 1000000; at most 16004096"));
  EXPECT_TRUE(tokenizer->Encode("eee", {}).ok());
}

TEST(ByteBpeTest, BoundsWhatPreTokenizersMakeOfAText) {
  const Json blanks = Json::parse(R"({"type": "Metaspace", "replacement": "  ", "prepend_scheme": "never"})");
  const Json sequence = {{"type", "Sequence"}, {"pretokenizers", Json::array_t(40, blanks)}};

  EXPECT_EQ(EncodeWith("pre_tokenizer", sequence, "h h").status(),
            absl::InvalidArgumentError("the tokenizer's rules make a text of 8194 bytes out of 3; at most 4144"));
}

TEST(ByteBpeTest, LetsTheLongestHonestNormalizationPass) {
  const Json rules = Json::parse(R"({"type": "Sequence", "normalizers": [
      {"type": "NFKC"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})");
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += "\uFDFA";

  EXPECT_TRUE(EncodeWith("normalizer", rules, text).ok());
}

TEST(ByteBpeTest, RefusesAddedTokensThatNormalizersMakeTooLong) {
  Json json = SmallTokenizer();
  json["normalizer"] = Doubling("normalizers", 60);
  json["added_tokens"][0]["content"] = "<h>";
  json["added_tokens"][0]["normalized"] = true;
  json["added_tokens"][0]["special"] = false;

  EXPECT_EQ(LoadStatus(json).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(LoadStatus(json).message()), HasSubstr("out of 3; at most 4144"));
}

TEST(ByteBpeTest, RefusesDecodersThatMakeMuchOfAPiece) {
  Json json = SmallTokenizer();
  json["decoder"] = Doubling("decoders", 30);

  EXPECT_THAT(std::string(LoadStatus(json).message()), HasSubstr("bytes or more of a piece of 1; at most 80"));
}

TEST(ByteBpeTest, LoadsManyAddedTokens) {
  constexpr int kNumTokens = 100'000;
  Json ids = Json::object(), specials = Json::array();
  for (int i = 0; i < kNumTokens; ++i) {
    ids[StrCat("<", i, ">")] = 4 + i;
    specials.push_back(StrCat("<", i, ">"));
  }
  TemporaryFolder folder;
  folder.Write("vocab.json", R"({"h": 0, "e": 1, "he": 2, "<": 3})")
      .Write("merges.txt", "h e\n")
      .Write("added_tokens.json", ids.dump())
      .Write("tokenizer_config.json", Json{{"additional_special_tokens", specials}}.dump());
  const auto tokenizer = *LoadTokenizer(folder.path());

  EXPECT_EQ(tokenizer->vocab_size(), 4 + kNumTokens);
  EXPECT_THAT(Encode(*tokenizer, "he<99999>"), ElementsAre(2, 4 + 99'999));
  EXPECT_TRUE(tokenizer->IsSpecial(4 + 99'999));
}

TEST(ByteBpeTest, RefusesMoreRulesInSequenceThanAnyTokenizerHas) {
  const std::pair<std::string, std::string> cases[] = {{"normalizer", "normalizer has more than 64 parts"},
                                                       {"pre_tokenizer", "pre_tokenizer has more than 64 parts"},
                                                       {"decoder", "has no list of decoders, or too many"}};

  for (const auto& [part, message] : cases) {
    Json json = SmallTokenizer();
    json[part] = {{"type", "Sequence"},
                  {"normalizers", Json::array_t(65, {{"type", "Lowercase"}})},
                  {"pretokenizers", Json::array_t(65, {{"type", "WhitespaceSplit"}})},
                  {"decoders", Json::array_t(65, {{"type", "Fuse"}})}};

    EXPECT_EQ(LoadStatus(json).code(), absl::StatusCode::kInvalidArgument) << part;
    EXPECT_THAT(std::string(LoadStatus(json).message()), HasSubstr(message));
  }
}

TEST(ByteBpeTest, RefusesPostProcessorsThatPutManyTokensBesideAText) {
  Json json = SmallTokenizer();
  json["post_processor"] = Json::parse(R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}],
                                           "special_tokens": {"<end>": {"ids": [10, 10, 10, 10, 10]}}})");
  for (int i = 0; i < 13; ++i) {
    json["post_processor"]["single"].push_back(Json::parse(R"({"SpecialToken": {"id": "<end>"}})"));
  }

  EXPECT_EQ(LoadStatus(json).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(LoadStatus(json).message()), HasSubstr("puts more than 64 tokens beside a text"));
}

TEST(ByteBpeTest, RefusesDeepNesting) {
  TemporaryFolder folder;
  folder.Write("tokenizer.json", StrCat("{\"normalizer\":", std::string(100'000, '['), std::string(100'000, ']'), "}"));

  const absl::Status status = LoadTokenizer(folder.path()).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("JSON is nested 100001 deep; at most 64"));
}

TEST(ByteBpeTest, RefusesSequencesInSequencesWithoutEnd) {
  Json nested = Json::parse(R"({"type": "Digits"})");
  for (int i = 0; i < 20; ++i) nested = Json{{"type", "Sequence"}, {"pretokenizers", Json::array({nested})}};
  Json json = SmallTokenizer();
  json["pre_tokenizer"] = nested;

  EXPECT_THAT(std::string(LoadStatus(json).message()), HasSubstr("pre_tokenizer is nested too deeply"));
}

TEST(ByteBpeTest, ReadsVocabAndMergesWithTheSettingsBesideThem) {
  TemporaryFolder folder;
  folder.Write("vocab.json", R"({"h": 0, "e": 1, "he": 2, "Ġ": 3, "1": 4, "<eos>": 5})")
      .Write("merges.txt", "#version: 0.2\r\nh e\n\n")
      .Write("special_tokens_map.json", R"({"eos_token": {"content": "<eos>"}})")
      .Write("added_tokens.json", R"({"<more>": 9})");

  const auto tokenizer = *LoadTokenizer(folder.path());

  EXPECT_THAT(Encode(*tokenizer, "he he11<eos><more>"), ElementsAre(2, 3, 2, 4, 4, 5, 9));
  EXPECT_EQ(tokenizer->eos(), 5);
  EXPECT_TRUE(tokenizer->IsSpecial(5));
  EXPECT_FALSE(tokenizer->IsSpecial(9));
}

TEST(ByteBpeTest, NamesTheLineOfADamagedMergesFile) {
  TemporaryFolder folder;
  folder.Write("vocab.json", R"({"h": 0, "e": 1, "he": 2})").Write("merges.txt", "#version: 0.2\nh e\nh e x\n");

  const absl::Status status = LoadTokenizer(folder.path()).status();

  EXPECT_THAT(std::string(status.message()), HasSubstr("merges.txt: line 3 is not two pieces"));
}

TEST(ByteBpeTest, RefusesOtherClassesWithoutATokenizerJson) {
  TemporaryFolder folder;
  folder.Write("vocab.json", R"({"h": 0})")
      .Write("merges.txt", "")
      .Write("tokenizer_config.json", R"({"tokenizer_class": "CLIPTokenizer"})");

  const absl::Status status = LoadTokenizer(folder.path()).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("CLIPTokenizer"));
}

TEST(ByteBpeTest, AFolderWithoutTokenizerIsNotFound) {
  const TemporaryFolder folder;

  EXPECT_EQ(LoadTokenizer(folder.path()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(LoadTokenizer(folder.path() + "/absent").status().code(), absl::StatusCode::kNotFound);
}

TEST(ByteBpeTest, ManyThreadsEncodeAlike) {
  const auto tokenizer = *LoadTokenizer(kGoldens + "qwen");
  const std::vector<std::string> texts = ReadJsonFile(kGoldens + "texts.json")->get<std::vector<std::string>>();
  std::vector<std::vector<TokenId>> expected;
  for (const std::string& text : texts) expected.push_back(Encode(*tokenizer, text));
  std::vector<int> num_different(4, 0);

  std::vector<std::thread> threads;
  for (int& differences : num_different) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i) differences += *tokenizer->Encode(texts[i], {}) != expected[i];
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_THAT(num_different, ::testing::Each(0));
}

// Long and short pieces go different ways; both must follow the definition.
TEST(BpeModelTest, MergesLongPiecesAsTheDefinitionSays) {
  const auto by_definition = [](const BpeModel::Merges& merges, std::vector<std::string> parts) {
    for (bool changed = true; changed;) {
      changed = false;
      for (const auto& [left, right] : merges) {  // by rank
        for (size_t i = 0; i + 1 < parts.size() && !changed; ++i) {
          if (parts[i] != left || parts[i + 1] != right) continue;
          parts[i] += right;
          parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
          changed = true;
        }
        if (changed) break;
      }
    }
    return parts;
  };
  const BpeModel::Merges merges = {{"a", "b"}, {"c", "a"},     {"ab", "ab"}, {"b", "c"},  {"ab", "c"}, {"ca", "bc"},
                                   {"b", "b"}, {"abab", "ab"}, {"a", "a"},   {"aa", "a"}, {"c", "c"},  {"cc", "cc"}};
  BpeModel::Vocabulary vocabulary = {{"a", 0}, {"b", 1}, {"c", 2}};
  for (const auto& [left, right] : merges)
    vocabulary.emplace_back(left + right, static_cast<TokenId>(vocabulary.size()));
  const BpeModel model = *BpeModel::Create(vocabulary, merges, {.is_byte_level = true});
  const BpeModel::ScratchPtr scratch = BpeModel::MakeScratch();
  std::mt19937 random(3);

  for (int round = 0; round < 400; ++round) {
    std::string text(1 + random() % 300, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 3);
    std::vector<std::string> characters;
    for (const char c : text) characters.emplace_back(1, c);
    std::vector<ModelToken> tokens;
    model.Encode(text, scratch.get(), &tokens);

    std::vector<std::string> parts;
    for (const ModelToken& token : tokens) parts.emplace_back(model.piece(token.id));
    EXPECT_EQ(parts, by_definition(merges, characters)) << text;
  }
}

TEST(BpeModelTest, WritesBytesInPrintableFormAndBack) {
  std::string all_bytes, form;
  for (int byte = 0; byte < 256; ++byte) all_bytes.push_back(static_cast<char>(byte));

  AppendByteLevelForm(all_bytes, &form);

  EXPECT_EQ(form.substr(0, 6), "ĀāĂ");
  EXPECT_EQ(FromByteLevelForm(form), all_bytes);
  EXPECT_EQ(FromByteLevelForm("ĠA\u0143"), " A\xAD");
  EXPECT_EQ(FromByteLevelForm("a b"), std::nullopt);
  EXPECT_EQ(FromByteLevelForm("\u0144"), std::nullopt);
  EXPECT_EQ(FromByteLevelForm("你"), std::nullopt);
}

TEST(TextRegexTest, TranslatesWhatTheTwoLibrariesReadDifferently) {
  EXPECT_EQ(*TranslateOnigurumaPattern(R"(\p{L}+|\p{Han}|\p{^Lu}|\P{N}x)"), R"(\p{L}+|\p{sc:Han}|\p{^Lu}|\P{N}x)");
  EXPECT_EQ(*TranslateOnigurumaPattern(R"(\h\\s[\h\-\]x])"), R"([0-9A-Fa-f]\\s[0-9A-Fa-f\-\]x])");
  EXPECT_EQ(*TranslateOnigurumaPattern(R"([\u3000-\u30fF]\\u)"), R"([\x{3000}-\x{30fF}]\\u)");
  EXPECT_EQ(*TranslateOnigurumaPattern(R"((?i:'s)(?=a)(?<n>b)\x{41})"), R"((?i:'s)(?=a)(?<n>b)\x{41})");
  for (const std::string_view pattern :
       {"[a[bc]]", "[a&&b]", "(?m:a)", "a{,3}", "a{1,3}+", R"([\W])", R"(\p{L)", "[[:alpha", R"(\u12)"}) {
    EXPECT_EQ(TranslateOnigurumaPattern(pattern).status().code(), absl::StatusCode::kUnimplemented) << pattern;
  }
}

TEST(TextRegexTest, BlanksAreWhiteSpaceAndCasesFoldAcrossAlphabets) {
  const TextRegex blanks = *TextRegex::Compile(R"(\s+)");
  const TextRegex contraction = *TextRegex::Compile(R"((?i:'s))");
  std::vector<ByteRange> matches;

  ASSERT_TRUE(TextRegex::Searcher(blanks).FindAll("a\u0085b\u3000\u180Ec\u00A0", &matches).ok());
  EXPECT_THAT(matches, ElementsAre(ByteRange{1, 3}, ByteRange{4, 7}, ByteRange{11, 13}));
  ASSERT_TRUE(TextRegex::Searcher(contraction).FindAll("'s 'S 'ſ 'x", &matches).ok());
  EXPECT_THAT(matches, ElementsAre(ByteRange{0, 2}, ByteRange{3, 5}, ByteRange{6, 9}));
}

TEST(TextRegexTest, AMatchWithoutEndIsAnErrorAndNotAHang) {
  const TextRegex regex = *TextRegex::Compile("(a+)+(a+)+(a+)+c");
  std::vector<ByteRange> matches;

  const absl::Status status =
      TextRegex::Searcher(regex).FindAll(std::string(5000, 'a') + "cb" + std::string(60, 'a') + "b", &matches);

  EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kResourceExhausted) << status;
}

// Quadratic work on these would take minutes; the limit is generous for slow and instrumented machines.
TEST(ByteBpeTest, LongTextsOfEveryShapeTakeLinearTime) {
  const auto qwen = *LoadTokenizer(kGoldens + "qwen");
  const auto deepseek = *LoadTokenizer(kGoldens + "deepseek");
  const auto llama = *LoadTokenizer(kGoldens + "llama_json");
  const auto repeat = [](std::string_view unit, size_t num_bytes) {
    std::string text;
    while (text.size() < num_bytes) text += unit;
    return text;
  };
  constexpr size_t kNumBytes = 300'000;
  const auto start = std::chrono::steady_clock::now();

  for (const std::string_view unit :
       {"a", "word", "expert", " ", " \n", "\n", "!", "7", "你", "e\u0301\u0323", "'", "<|im_start|>", "<|im_star",
        "\u1100\u1161", "👨‍👩‍👧‍👦", "<mask> "}) {
    const std::string text = repeat(unit, kNumBytes) + "x";
    for (const Tokenizer* tokenizer : {qwen.get(), deepseek.get(), llama.get()}) {
      EXPECT_FALSE(Encode(*tokenizer, text).empty());
    }
  }

  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::minutes(5));
}

TEST(TextRegexTest, BlanksBeforeALineEndTakeLinearTime) {
  const TextRegex regex = *TextRegex::Compile(R"(\s+$)");
  std::vector<ByteRange> matches;

  ASSERT_TRUE(TextRegex::Searcher(regex).FindAll(std::string(2'000'000, ' ') + "x \n y  ", &matches).ok());

  EXPECT_THAT(matches, ElementsAre(ByteRange{2'000'001, 2'000'002}, ByteRange{2'000'005, 2'000'007}));
}

}  // namespace
}  // namespace expertd
