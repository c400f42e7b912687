// Public vocabularies with public vectors, where the folder of test data is present beside the repository.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/strings.h"
#include "engine/text/jieba.h"
#include "engine/text/tokenizer.h"
#include "tests/unit/text/support/gguf.h"
#include "tests/unit/text/support/temporary_folder.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

const std::string kData = StrCat(EXPERTD_SOURCE_DIR, "/../shared/data/tokenizers/");

std::vector<std::string> SplitText(std::string_view text, std::string_view separator) {
  std::vector<std::string> parts;
  for (size_t at = text.find(separator); at != std::string_view::npos; at = text.find(separator)) {
    parts.emplace_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  parts.emplace_back(text);
  return parts;
}

// The vectors of a folder: texts in vectors.inp, their ids in vectors.out.
void ExpectVectors(const Tokenizer& tokenizer, const std::string& folder) {
  const std::vector<std::string> texts = SplitText(ReadWholeFile(folder + "/vectors.inp"), "\n__ggml_vocab_test__\n");
  const std::vector<std::string> lines = SplitText(ReadWholeFile(folder + "/vectors.out"), "\n");
  ASSERT_GE(texts.size(), 40u);
  ASSERT_GE(lines.size(), texts.size());

  for (size_t i = 0; i < texts.size(); ++i) {
    std::istringstream line(lines[i]);
    const std::vector<TokenId> expected{std::istream_iterator<TokenId>(line), {}};
    absl::StatusOr<std::vector<TokenId>> ids = tokenizer.Encode(texts[i], {.add_special_tokens = false});

    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_THAT(*ids, ElementsAreArray(expected)) << texts[i];
  }
}

class PublicVectorsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(PublicVectorsTest, ReproducesEveryVector) {
  const std::string folder = kData + GetParam();
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();

  ExpectVectors(**tokenizer, folder);
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, PublicVectorsTest, ::testing::Values("qwen2", "llama-spm"),
                         [](const auto& info) { return std::string(info.param).substr(0, 5); });

TEST(PublicQwen2Test, EncodesATurnOfChat) {
  const std::string folder = kData + "qwen2";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  const auto tokenizer = *LoadTokenizer(folder);

  EXPECT_THAT(*tokenizer->Encode("<|im_start|>hello<|im_end|>", {}), ElementsAre(151644, 14990, 151645));
  EXPECT_EQ(tokenizer->Encode("<|im_start|>", {.parse_special_tokens = false})->size(), 6u);
  EXPECT_EQ(tokenizer->eos(), 151643);
  EXPECT_EQ(tokenizer->bos(), std::nullopt);
  EXPECT_EQ(tokenizer->vocab_size(), 151646);
}

// tokenizer.json of DeepSeek-LLM, which DeepSeek-V2 shares: the vocabulary of a GGUF file behind six expressions. The
// letters of the second are the scripts that have cases, here by their categories.
std::string DeepseekLlmJson(const Json& gguf) {
  constexpr const char* kPatterns[] = {"[\\r\\n]", R"(\s?[\p{Lu}\p{Ll}\p{Lt}]+)",
                                       R"(\s?[!-/:-~！-／：-～‘-‟\x{3000}-。]+)", R"(\s+$)", "[一-龥ࠀ-一가-퟿]+",
                                       R"(\p{N}+)"};
  const Json& tokens = gguf["tokenizer.ggml.tokens"];
  const Json& types = gguf["tokenizer.ggml.token_type"];
  constexpr int kNormal = 1, kControl = 3;
  Json vocabulary = Json::object(), added = Json::array(), splits = Json::array();
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] == kNormal) {
      vocabulary[tokens[id].get<std::string>()] = id;
    } else {
      added.push_back({{"id", id}, {"content", tokens[id]}, {"special", types[id] == kControl}, {"normalized", false}});
    }
  }
  for (const char* pattern : kPatterns) {
    splits.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  splits.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
  const Json json = {{"added_tokens", added},
                     {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", splits}}},
                     {"decoder", {{"type", "ByteLevel"}}},
                     {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", gguf["tokenizer.ggml.merges"]}}}};
  return json.dump();
}

TEST(PublicDeepseekLlmTest, ReproducesEveryVectorAndPutsBosInFrontOfTextOnly) {
  const std::string data = kData + "deepseek-llm";
  if (!std::filesystem::exists(data)) GTEST_SKIP() << data << " is absent";
  TemporaryFolder folder;
  folder.Write("tokenizer.json", DeepseekLlmJson(GgufMetadata::Read(ReadWholeFile(data + "/vocab.gguf"))))
      .Write("tokenizer_config.json", R"({"add_bos_token": true, "add_eos_token": false,
          "bos_token": {"__type": "AddedToken", "content": "<｜begin▁of▁sentence｜>"},
          "eos_token": {"__type": "AddedToken", "content": "<｜end▁of▁sentence｜>"}})");
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();

  ExpectVectors(**tokenizer, data);
  EXPECT_THAT(*(*tokenizer)->Encode("Führer", {}), ElementsAre(100000, 37, 100014, 71, 6245));
  EXPECT_THAT(*(*tokenizer)->Encode("<｜begin▁of▁sentence｜>User: a", {.add_special_tokens = false}),
              ElementsAre(100000, 5726, 25, 245));
  EXPECT_EQ((*tokenizer)->eos(), 100001);
  EXPECT_EQ((*tokenizer)->vocab_size(), 102400);
}

// jieba's dictionary as Debian's python3-jieba or the Python packages of the tests have it; "" when neither is there.
std::string FindJiebaDictionary() {
  std::string found = StrCat(kDebianJiebaFolder, "/dict.txt");
  if (std::filesystem::exists(found)) return found;
  std::error_code error;
  for (const auto& python : std::filesystem::directory_iterator(StrCat(EXPERTD_SOURCE_DIR, "/build/venv/lib"), error)) {
    found = python.path().string() + "/site-packages/jieba/dict.txt";
    if (std::filesystem::exists(found)) return found;
  }
  return "";
}

TEST(PublicPanguAlphaTest, ReproducesEveryVector) {
  const std::string folder = kData + "pangu-alpha", dictionary = FindJiebaDictionary();
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  if (dictionary.empty()) GTEST_SKIP() << "jieba's dictionary is absent";
  const auto tokenizer = *LoadTokenizer(folder, dictionary);
  const std::pair<std::string_view, std::vector<TokenId>> vectors[] = {
      {"上联:瑞风播福泽,事业具昌盛千家乐",
       {39, 2401, 17, 4448, 615, 5188, 2783, 2762, 10, 2371, 5720, 11050, 3373, 24420, 1613}},
      {"上联：瑞风播福泽，事业具昌盛千家乐",
       {39, 2401, 17, 4448, 615, 5188, 2783, 2762, 10, 2371, 5720, 11050, 3373, 24420, 1613}},
      {"他小如何职责码经常的却是安静奇迹", {26, 80, 373, 5440, 2527, 1663, 11, 1268, 4896, 7902}},
      {"问：中国的首都是哪里？\n答：", {476, 17, 96, 11, 6539, 16, 1329, 28, 13, 3, 3330, 17}},
      {"Hello World 123.5% ok",
       {2142, 12372, 4541, 13, 4, 13, 29237, 13, 4, 345, 23778, 200, 13, 4, 27967}},
      {"小明硕士毕业于中国科学院计算所，后在日本京都大学深造",
       {25271, 5208, 2589, 135, 4027, 1941, 1164, 10, 78, 18, 691, 3883, 2029, 1484, 1187, 5036}},
      {"😀你好", {13, 0, 5772}},
      {"a  b\n\nc\t。", {1853, 13, 4, 13, 4, 1498, 13, 3, 13, 3, 2121, 12}},
  };

  for (const auto& [text, ids] : vectors) EXPECT_THAT(*tokenizer->Encode(text, {}), ElementsAreArray(ids)) << text;
  EXPECT_EQ(tokenizer->eos(), 9);
  EXPECT_EQ(tokenizer->bos(), std::nullopt);
  EXPECT_EQ(tokenizer->vocab_size(), 40000);
}

TEST(PublicPanguAlphaTest, WritesTheSameTextForAnIdWhereverItStands) {
  const std::string folder = kData + "pangu-alpha", dictionary = FindJiebaDictionary();
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  if (dictionary.empty()) GTEST_SKIP() << "jieba's dictionary is absent";
  const auto tokenizer = *LoadTokenizer(folder, dictionary);
  const std::vector<TokenId> ids = {13, 476, 17, 4, 0, 3, 1, 2, 5, 9};

  EXPECT_EQ(tokenizer->Decode(ids, /*skip_special_tokens=*/false), "问: ⁇\n<sep><eot>");
  EXPECT_EQ(tokenizer->Decode(ids, /*skip_special_tokens=*/true), "问: ⁇\n<sep>");
}

}  // namespace
}  // namespace expertd
