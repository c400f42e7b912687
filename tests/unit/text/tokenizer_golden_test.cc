// Whole tokenizers and their stages against the answers of the reference packages (tests/golden/tokenizers/record.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/strings.h"
#include "engine/text/bpe_model.h"
#include "engine/text/detokenizer.h"
#include "engine/text/normalizer.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer.h"

namespace expertd {
namespace {

using ::testing::ElementsAreArray;

const std::string kGoldens = StrCat(EXPERTD_SOURCE_DIR, "/tests/golden/tokenizers/");

class Fnv1a {
 public:
  void Add(std::string_view bytes) {
    for (const char byte : bytes) state_ = (state_ ^ static_cast<uint8_t>(byte)) * 0x100000001B3u;
  }
  void Add(const std::vector<TokenId>& ids) {
    for (const TokenId id : ids) {
      char bytes[4];
      std::memcpy(bytes, &id, 4);
      Add({bytes, 4});
    }
  }
  std::string Hex() const {
    char text[17];
    std::snprintf(text, sizeof(text), "%016lx", static_cast<unsigned long>(state_));
    return text;
  }

 private:
  uint64_t state_ = 0xCBF29CE484222325u;
};

Json ReadGolden(const std::string& name) {
  absl::StatusOr<Json> json = ReadJsonFile(kGoldens + name);
  EXPECT_TRUE(json.ok()) << json.status();
  return json.ok() ? *json : Json();
}

const std::vector<std::string>& Texts() {
  static const auto* texts = new std::vector<std::string>(ReadGolden("texts.json").get<std::vector<std::string>>());
  return *texts;
}

class GoldenTokenizerTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(kGoldens + GetParam());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    golden_ = ReadGolden(StrCat(GetParam(), "/golden.json"));
  }

  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const {
    absl::StatusOr<std::vector<TokenId>> ids = tokenizer_->Encode(text, options);
    EXPECT_TRUE(ids.ok()) << ids.status();
    return ids.ok() ? *ids : std::vector<TokenId>();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  Json golden_;
};

TEST_P(GoldenTokenizerTest, GivesTheRecordedIds) {
  const Json& expected = golden_["ids"];

  for (size_t i = 0; i < expected.size(); ++i) {
    const std::vector<TokenId> ids = Encode(Texts()[i], {.add_special_tokens = false});

    EXPECT_THAT(ids, ElementsAreArray(expected[i].get<std::vector<TokenId>>())) << Texts()[i];
  }
  EXPECT_THAT(Encode("expert", {.add_special_tokens = true}),
              ElementsAreArray(golden_["with_special"].get<std::vector<TokenId>>()));
}

TEST_P(GoldenTokenizerTest, AgreesOnIdsAndTextsOfEveryText) {
  const std::string digests = golden_["digests"];
  ASSERT_GE(Texts().size(), 2000u);
  ASSERT_EQ(digests.size(), Texts().size() * 16);

  for (size_t i = 0; i < Texts().size(); ++i) {
    const std::vector<TokenId> ids = Encode(Texts()[i], {.add_special_tokens = false});
    const std::vector<TokenId> plain = Encode(Texts()[i], {.add_special_tokens = false, .parse_special_tokens = false});
    const std::string shown = tokenizer_->Decode(ids, /*skip_special_tokens=*/true);
    const std::string whole = tokenizer_->Decode(ids, /*skip_special_tokens=*/false);
    Fnv1a digest;
    digest.Add(ids), digest.Add("\xFF"), digest.Add(plain), digest.Add("\xFF");
    digest.Add(shown), digest.Add("\xFF"), digest.Add(whole), digest.Add("\xFF");

    EXPECT_EQ(digest.Hex(), digests.substr(i * 16, 16))
        << Json(Texts()[i]) << "\nids " << Json(ids) << "\nplain " << Json(plain) << "\nshown " << Json(shown)
        << "\nwhole " << Json(whole);
  }
}

TEST_P(GoldenTokenizerTest, StreamsExactlyWhatItDecodesAtOnce) {
  for (const std::string& text : Texts()) {
    const std::vector<TokenId> ids = Encode(text, {});
    Detokenizer detokenizer(*tokenizer_, /*skip_special_tokens=*/false);

    std::string streamed;
    for (const TokenId id : ids) streamed += detokenizer.Append(id);
    streamed += detokenizer.Flush();

    EXPECT_EQ(streamed, tokenizer_->Decode(ids, /*skip_special_tokens=*/false));
  }
}

TEST_P(GoldenTokenizerTest, GivesTheSameIdsWithOffsetsThatNeverGoBack) {
  for (const std::string& text : Texts()) {
    absl::StatusOr<Encoding> encoding = tokenizer_->EncodeWithOffsets(text, {});

    ASSERT_TRUE(encoding.ok()) << encoding.status();
    EXPECT_EQ(encoding->ids, Encode(text, {}));
    ASSERT_EQ(encoding->offsets.size(), encoding->ids.size());
    ByteRange previous;
    for (const ByteRange& range : encoding->offsets) {
      EXPECT_LE(range.begin, range.end);
      EXPECT_GE(range.begin, previous.begin) << Json(text);
      EXPECT_GE(range.end, previous.end) << Json(text);
      EXPECT_LE(range.end, text.size());
      previous = range;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, GoldenTokenizerTest,
                         ::testing::Values("qwen", "deepseek", "llama_json", "unigram", "spm_bpe", "pangu_alpha"),
                         [](const auto& info) { return std::string(info.param); });

TEST(GoldenStagesTest, NormalizersRewriteEveryTextAsRecorded) {
  const Json stages = ReadGolden("stages.json")["normalizers"];
  ASSERT_EQ(stages.size(), 10u);

  for (const Json& stage : stages) {
    absl::StatusOr<std::unique_ptr<Normalizer>> normalizer = ParseNormalizer(stage["json"]);
    ASSERT_TRUE(normalizer.ok()) << normalizer.status();
    Fnv1a digest;
    for (const std::string& text : Texts()) {
      AlignedText aligned(text, 0, /*keep_offsets=*/false);
      ASSERT_TRUE((*normalizer)->Apply(&aligned).ok());
      digest.Add(aligned.text());
      digest.Add("\xFF");
    }

    EXPECT_EQ(digest.Hex(), stage["digest"]) << stage["json"];
  }
}

TEST(GoldenStagesTest, PreTokenizersCutEveryTextAsRecorded) {
  const Json stages = ReadGolden("stages.json")["pre_tokenizers"];
  ASSERT_EQ(stages.size(), 57u);

  for (const Json& stage : stages) {
    absl::StatusOr<ParsedPreTokenizer> parsed = ParsePreTokenizer(stage["json"]);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    Fnv1a digest;
    for (const std::string& text : Texts()) {
      PieceList list{AlignedText(text, 0, /*keep_offsets=*/false), {}, /*is_whole_text_start=*/true};
      if (!text.empty()) list.pieces.push_back({0, static_cast<uint32_t>(text.size())});
      ASSERT_TRUE(parsed->pre_tokenizer->Apply(&list).ok());
      for (const PieceList::Piece piece : list.pieces) {
        const std::string_view bytes = list.text.text().substr(piece.begin, piece.end - piece.begin);
        std::string written;
        parsed->is_byte_level ? AppendByteLevelForm(bytes, &written) : (void)written.append(bytes);
        digest.Add(written);
        digest.Add("\xFE");
      }
      digest.Add("\xFF");
    }

    EXPECT_EQ(digest.Hex(), stage["digest"]) << stage["json"];
  }
}

}  // namespace
}  // namespace expertd
