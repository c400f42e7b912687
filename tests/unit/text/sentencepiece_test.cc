// Sentencepiece models: what the file says, damage, and the rules of the slow Llama-like classes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "engine/base/strings.h"
#include "engine/text/sentencepiece_model.h"
#include "engine/text/tokenizer.h"
#include "tests/unit/text/support/temporary_folder.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kGoldens = StrCat(EXPERTD_SOURCE_DIR, "/tests/golden/tokenizers/");

std::string UnigramModel() { return ReadWholeFile(kGoldens + "unigram/tokenizer.model"); }
std::string BpeModelFile() { return ReadWholeFile(kGoldens + "spm_bpe/tokenizer.model"); }

absl::StatusOr<std::unique_ptr<Tokenizer>> Load(std::string_view model, const std::string& config = "") {
  TemporaryFolder folder;
  folder.Write("tokenizer.model", model);
  if (!config.empty()) folder.Write("tokenizer_config.json", config);
  return LoadTokenizer(folder.path());
}

std::vector<TokenId> Encode(const Tokenizer& tokenizer, std::string_view text, const EncodeOptions& options = {}) {
  absl::StatusOr<std::vector<TokenId>> ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : std::vector<TokenId>();
}

std::vector<std::string> Pieces(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::string> pieces;
  for (const TokenId id : Encode(tokenizer, text, {.add_special_tokens = false}))
    pieces.emplace_back(tokenizer.TokenText(id));
  return pieces;
}

// A field of bytes in protobuf's wire format; sizes below 128.
std::string Field(int number, std::string_view bytes) {
  return StrCat(std::string(1, static_cast<char>(number << 3 | 2)), std::string(1, static_cast<char>(bytes.size())),
                bytes);
}
std::string Varint(int number, int value) {
  return {static_cast<char>(number << 3), static_cast<char>(value)};
}
std::string Piece(std::string_view text, int type) { return Field(1, StrCat(Field(1, text), Varint(3, type))); }

TEST(SentencePieceTest, KnowsTheKindsOfItsPieces) {
  const auto tokenizer = *LoadTokenizer(kGoldens + "spm_bpe");
  const TokenId newline = *tokenizer->TokenToId("<0x0A>");

  EXPECT_EQ(tokenizer->unk(), 0);
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_TRUE(tokenizer->IsSpecial(0));
  EXPECT_TRUE(tokenizer->IsSpecial(1));
  EXPECT_FALSE(tokenizer->IsSpecial(newline));
  EXPECT_EQ(tokenizer->TokenBytes(newline), "\n");
  EXPECT_EQ(tokenizer->TokenText(newline), "<0x0A>");
  EXPECT_EQ(tokenizer->TokenBytes(*tokenizer->TokenToId("▁t")), " t");
  EXPECT_EQ(tokenizer->TokenBytes(tokenizer->vocab_size()), "");
  EXPECT_TRUE(tokenizer->strips_leading_space());
}

TEST(SentencePieceTest, EachStretchBehindAnAddedTokenGetsItsDummySpace) {
  const auto tokenizer = *LoadTokenizer(kGoldens + "spm_bpe");

  EXPECT_THAT(Pieces(*tokenizer, "t[unused9]t"), ElementsAre("▁t", "[unused9]", "▁t"));
  EXPECT_EQ(tokenizer->Decode(Encode(*tokenizer, "t[unused9]t"), /*skip_special_tokens=*/true), "t[unused9]t");
}

TEST(SentencePieceTest, WithoutLegacyOnlyTheTextItselfGetsADummySpace) {
  const auto tokenizer = *Load(BpeModelFile(), R"({"legacy": false, "added_tokens_decoder":
      {"2000": {"content": "<sep>", "special": false}}})");

  EXPECT_THAT(Pieces(*tokenizer, "t<sep>t"), ElementsAre("▁t", "<sep>", "t"));
  EXPECT_EQ(tokenizer->Decode(Encode(*tokenizer, "t<sep> t"), /*skip_special_tokens=*/true), "t<sep> t");
}

TEST(SentencePieceTest, TheConfigDecidesAboutBosAndEos) {
  const auto both = *Load(BpeModelFile(), R"({"add_bos_token": true, "add_eos_token": true})");
  const auto none = *Load(BpeModelFile(), R"({"add_bos_token": false})");
  const auto silent = *Load(BpeModelFile());
  const TokenId t = *both->TokenToId("▁t");

  EXPECT_THAT(Encode(*both, "t"), ElementsAre(1, t, 2));
  EXPECT_THAT(Encode(*none, "t"), ElementsAre(t));
  EXPECT_THAT(Encode(*silent, "t"), ElementsAre(1, t));
  EXPECT_THAT(Encode(*silent, "t", {.add_special_tokens = false}), ElementsAre(t));
}

TEST(SentencePieceTest, BytesOutsideTheVocabularyComeBack) {
  const auto tokenizer = *LoadTokenizer(kGoldens + "spm_bpe");

  const std::vector<TokenId> ids = Encode(*tokenizer, "\U0001FAE8 ok");

  EXPECT_EQ(tokenizer->Decode(ids, /*skip_special_tokens=*/true), "\U0001FAE8 ok");
}

TEST(SentencePieceTest, OffsetsCoverTheTextInOrder) {
  const auto tokenizer = *LoadTokenizer(kGoldens + "unigram");

  absl::StatusOr<Encoding> encoding = tokenizer->EncodeWithOffsets("a<think>①", {.add_special_tokens = false});

  ASSERT_TRUE(encoding.ok()) << encoding.status();
  ASSERT_GE(encoding->ids.size(), 3u);
  EXPECT_EQ(encoding->offsets.front().begin, 0u);
  EXPECT_THAT(encoding->offsets, ::testing::Contains(ByteRange{1, 8}));
  EXPECT_EQ(encoding->offsets.back(), (ByteRange{8, 11}));  // ① became 1
}

TEST(SentencePieceTest, RefusesTextThatIsNotUtf8) {
  const auto tokenizer = *LoadTokenizer(kGoldens + "unigram");

  EXPECT_EQ(tokenizer->Encode("ab\x80", {}).status().message(), "text is not UTF-8: malformed at byte 2");
}

TEST(SentencePieceTest, AnyTruncationIsAStatusOrASmallerModel) {
  for (const std::string& model : {UnigramModel(), BpeModelFile()}) {
    int num_refused = 0;
    for (size_t size = 0; size < model.size(); size += 1 + size / 100) {
      const auto tokenizer = Load(std::string_view(model).substr(0, size));
      if (tokenizer.ok()) (void)(*tokenizer)->Encode("Hello, 世界：① e\u0301", {});
      num_refused += !tokenizer.ok();
    }

    EXPECT_GT(num_refused, 100);
  }
}

TEST(SentencePieceTest, RandomDamageIsAStatusOrAWorkingTokenizer) {
  std::mt19937 random(5);
  int num_refused = 0;

  for (int round = 0; round < 600; ++round) {
    std::string model = round % 2 == 0 ? UnigramModel() : BpeModelFile();
    // Specs and the normalization table stand at the end: half of the damage goes there.
    const size_t begin = round % 4 < 2 ? 0 : model.size() - 1500;
    for (uint32_t i = 0; i <= random() % 4; ++i)
      model[begin + random() % (model.size() - begin)] = static_cast<char>(random());
    const auto tokenizer = Load(model);
    num_refused += !tokenizer.ok();
    if (!tokenizer.ok()) continue;
    const auto ids = (*tokenizer)->Encode("Hello, 世界：① e\u0301 ﬁne\t\u3000 [unused9]", {});
    if (ids.ok()) (*tokenizer)->Decode(*ids, /*skip_special_tokens=*/false);
  }

  EXPECT_GT(num_refused, 0);
  EXPECT_LT(num_refused, 600);  // some damage leaves a tokenizer
}

TEST(SentencePieceModelTest, ReadsPiecesAndSettings) {
  const SentencePieceModel unigram = *ParseSentencePieceModel(UnigramModel());
  const SentencePieceModel bpe = *ParseSentencePieceModel(BpeModelFile());

  EXPECT_EQ(unigram.pieces.size(), 900u);
  EXPECT_EQ(unigram.pieces[0].text, "<unk>");
  EXPECT_EQ(unigram.pieces[0].type, SentencePieceModel::PieceType::kUnknown);
  EXPECT_EQ(unigram.pieces[1].type, SentencePieceModel::PieceType::kControl);
  EXPECT_EQ(unigram.pieces[3].text, "<sep>");
  EXPECT_EQ(unigram.pieces[3].type, SentencePieceModel::PieceType::kUserDefined);
  EXPECT_TRUE(unigram.remove_extra_whitespaces);
  EXPECT_FALSE(bpe.remove_extra_whitespaces);
  EXPECT_TRUE(bpe.add_dummy_prefix);
  EXPECT_FALSE(ParseSentencePieceModel(WithoutDummyPrefix(BpeModelFile()))->add_dummy_prefix);
}

TEST(SentencePieceModelTest, RefusesDamageByName) {
  const std::string unk = Piece("<unk>", 2);
  std::string nan_score = Field(1, "a");
  nan_score += '\x15';
  nan_score += std::string("\x00\x00\xC0\x7F", 4);
  const std::pair<std::string, std::string> cases[] = {
      {"", "sentencepiece model has 0 pieces"},
      {"\x0A", "truncated or damaged"},
      {"\x0A\x05" "ab", "truncated or damaged"},
      {std::string(11, '\xFF'), "truncated or damaged"},
      {"\x0B", "truncated or damaged"},
      {Piece("a", 1), "has 0 unknown pieces"},
      {unk + Piece("<unk2>", 2), "has 2 unknown pieces"},
      {unk + Piece("a", 1) + Piece("a", 1), "sentencepiece 2 is a repetition"},
      {unk + Piece("", 1), "sentencepiece 1 is empty or not text"},
      {unk + Piece("\xFF", 1), "sentencepiece 1 is empty or not text"},
      {unk + Piece("a", 9), "of the unknown type 9"},
      {unk + Piece("<0xZZ>", 6), "sentencepiece 1 is a byte but not written as one"},
      {unk + Field(1, nan_score), "sentencepiece 1 has no finite score"},
      {unk + Field(3, Field(2, "abc")), "damaged normalization table"},
      {unk + Field(3, Field(2, std::string("\x08\0\0\0aaaabbbb\0", 13))), "damaged normalization table"},
      {unk + Field(2, Varint(3, 3)), "sentencepiece model_type is 3"},
      {unk + Field(3, Varint(5, 0)), "without escape_whitespaces"},
      {unk + Field(2, std::string("\xC0\x01\x01", 3)), "treat_whitespace_as_suffix"},
  };

  for (const auto& [model, message] : cases) {
    const absl::Status status = ParseSentencePieceModel(model).status();

    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_THAT(std::string(Load(model).status().message()), HasSubstr(message));
  }
}

// A model of one piece with this normalization table.
std::string ModelWithTable(const std::string& charsmap) {
  const auto size = [](size_t n) {
    return std::string{static_cast<char>(0x80 | (n & 0x7F)), static_cast<char>(n >> 7)};
  };
  const std::string spec = "\x12" + size(charsmap.size()) + charsmap;
  return Piece("<unk>", 2) + "\x1A" + size(spec.size()) + spec;
}

// One block of 256 units, all leading to themselves, and one replacement.
std::string TableWithReplacement(const std::string& replacement) {
  return std::string("\0\x04\0\0", 4) + std::string(1024, '\0') + replacement + std::string(1, '\0');
}

TEST(SentencePieceModelTest, RefusesANormalizationTableThatMakesMuchOfACharacter) {
  EXPECT_TRUE(ParseSentencePieceModel(ModelWithTable(TableWithReplacement(std::string(64, 'x')))).ok());
  EXPECT_EQ(ParseSentencePieceModel(ModelWithTable(TableWithReplacement(std::string(65, 'x')))).status(),
            absl::InvalidArgumentError("sentencepiece model has a normalization to 65 bytes; must be 0..64"));
}

TEST(SentencePieceModelTest, RefusesANormalizationTableThatLeadsOutside) {
  const std::string table = TableWithReplacement("x");
  const auto with_unit = [&](size_t index, uint32_t unit) {
    std::string changed = table;
    std::memcpy(changed.data() + 4 + index * 4, &unit, 4);
    return ParseSentencePieceModel(ModelWithTable(changed)).status();
  };

  EXPECT_TRUE(ParseSentencePieceModel(ModelWithTable(table)).ok());
  EXPECT_TRUE(with_unit(3, 0x80000001u).ok());  // a leaf: the second byte of the replacements
  EXPECT_FALSE(with_unit(3, 0x80000002u).ok());                            // behind them
  EXPECT_FALSE(with_unit(3, 256u << 10).ok());                             // children in the next block
  EXPECT_FALSE(with_unit(3, 1u << 10 | 1u << 9).ok());                     // the same, in units of 256
  EXPECT_TRUE(with_unit(3, 5u << 10).ok());
}

}  // namespace
}  // namespace expertd
