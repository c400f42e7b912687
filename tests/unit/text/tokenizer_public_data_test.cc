// Public vocabularies with public vectors, where the folder of test data is present beside the repository.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/strings.h"
#include "engine/text/tokenizer.h"
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

class PublicVectorsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(PublicVectorsTest, ReproducesEveryVector) {
  const std::string folder = kData + GetParam();
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  const std::vector<std::string> texts = SplitText(ReadWholeFile(folder + "/vectors.inp"), "\n__ggml_vocab_test__\n");
  const std::vector<std::string> lines = SplitText(ReadWholeFile(folder + "/vectors.out"), "\n");
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ASSERT_GE(texts.size(), 40u);
  ASSERT_GE(lines.size(), texts.size());

  for (size_t i = 0; i < texts.size(); ++i) {
    std::istringstream line(lines[i]);
    const std::vector<TokenId> expected{std::istream_iterator<TokenId>(line), {}};
    absl::StatusOr<std::vector<TokenId>> ids = (*tokenizer)->Encode(texts[i], {.add_special_tokens = false});

    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_THAT(*ids, ElementsAreArray(expected)) << texts[i];
  }
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

TEST(PublicPanguAlphaTest, EncodesWordsThatJiebaHasSeparated) {
  const std::string model = kData + "pangu-alpha/vocab.model";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << model << " is absent";
  TemporaryFolder folder;
  folder.Write("tokenizer.model", ReadWholeFile(model)).Write("tokenizer_config.json", R"({"add_bos_token": false})");
  const auto tokenizer = *LoadTokenizer(folder.path());

  EXPECT_THAT(*tokenizer->Encode("问 ： 中国 的 首都 是 哪里 ？ ▃ 答 ：", {}),
              ElementsAre(476, 17, 96, 11, 6539, 16, 1329, 28, 13, 3, 3330, 17));
}

}  // namespace
}  // namespace expertd
