#include "engine/text/unicode.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace expertd {
namespace {

std::string NormalizeAll(UnicodeNormalizer::Form form, std::string_view text) {
  const UnicodeNormalizer normalizer(form);
  std::string result;
  size_t done = 0;
  for (ByteRange cluster = normalizer.NextCluster(text, 0); cluster.begin < text.size();
       cluster = normalizer.NextCluster(text, done)) {
    result += text.substr(done, cluster.begin - done);
    result += normalizer.Normalize(text.substr(cluster.begin, cluster.end - cluster.begin));
    done = cluster.end;
  }
  return result += text.substr(done);
}

TEST(Utf8Test, ErrorNamesTheFirstWrongByte) {
  EXPECT_TRUE(CheckUtf8("é").ok());
  EXPECT_EQ(CheckUtf8("ab\xFF").message(), "text is not UTF-8: malformed at byte 2");
}

TEST(Utf8Test, DecodesForwardAndBackwardWhatItAppends) {
  for (const char32_t c : {0x0u, 0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xFFFDu, 0x10000u, 0x10FFFFu}) {
    std::string text = "é";
    AppendUtf8(c, &text);
    size_t forward = 2, backward = text.size();

    EXPECT_EQ(DecodeUtf8(text, &forward), c);
    EXPECT_EQ(forward, text.size());
    EXPECT_EQ(DecodeUtf8Backward(text, &backward), c);
    EXPECT_EQ(backward, 2u);
  }
}

TEST(UnicodePropertyTest, WhitespaceIsThePropertyWhiteSpace) {
  int num_whitespace = 0;
  for (char32_t c = 0; c < 0x110000; ++c) num_whitespace += IsWhitespace(c);

  EXPECT_EQ(num_whitespace, 25);
  EXPECT_FALSE(IsWhitespace(0x180E));
  EXPECT_FALSE(IsWhitespace(0x200B));
}

TEST(UnicodePropertyTest, KnowsNumbersPunctuationAndWords) {
  EXPECT_TRUE(IsNumeric(U'7'));
  EXPECT_TRUE(IsNumeric(U'½'));
  EXPECT_TRUE(IsNumeric(U'Ⅷ'));
  EXPECT_FALSE(IsNumeric(U'四'));
  EXPECT_TRUE(IsPunctuation(U'$'));
  EXPECT_TRUE(IsPunctuation(U'。'));
  EXPECT_FALSE(IsPunctuation(U'€'));
  EXPECT_TRUE(IsWord(U'_'));
  EXPECT_TRUE(IsWord(U'你'));
  EXPECT_TRUE(IsWord(0x301));
  EXPECT_TRUE(IsWord(U'Ⓐ'));
  EXPECT_TRUE(IsWord(0x200D));
  EXPECT_FALSE(IsWord(U'-'));
}

TEST(UnicodePropertyTest, LowersTurkishCapitalIToTwoCharacters) {
  std::string text;

  for (const char32_t c : {U'İ', U'Σ', U'ẞ', U'A', U'1'}) AppendLowercase(c, &text);

  EXPECT_EQ(text, "i\u0307σßa1");
}

TEST(UnicodeNormalizerTest, ComposesMarksInCanonicalOrder) {
  const auto nfc = [](std::string_view text) { return NormalizeAll(UnicodeNormalizer::Form::kNfc, text); };

  EXPECT_EQ(nfc("e\u0301"), "é");
  EXPECT_EQ(nfc("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(nfc("o\u0302\u0301"), "ố");
  EXPECT_EQ(nfc("\u212B"), "Å");
  EXPECT_EQ(nfc("\u0915\u093C"), "\u0915\u093C");  // a composition that is excluded
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093C");
  EXPECT_EQ(nfc("\u1100\u1161\u11A8"), "각");
  EXPECT_EQ(nfc("가\u11A8"), "각");
  EXPECT_EQ(nfc("\u09C7\u09BE"), "\u09CB");  // the second part has combining class 0
  EXPECT_EQ(nfc("か\u3099"), "が");
  EXPECT_EQ(nfc("ﬁ ① ａ"), "ﬁ ① ａ");
}

TEST(UnicodeNormalizerTest, OtherFormsDecomposeAndFold) {
  EXPECT_EQ(NormalizeAll(UnicodeNormalizer::Form::kNfd, "é각"), "e\u0301\u1100\u1161\u11A8");
  EXPECT_EQ(NormalizeAll(UnicodeNormalizer::Form::kNfkc, "ﬁ①ａ\uFF76\uFF9E"), "fi1aガ");
  EXPECT_EQ(NormalizeAll(UnicodeNormalizer::Form::kNfkd, "ﬁé"), "fie\u0301");
}

TEST(UnicodeNormalizerTest, ClustersAreTheOnlyPlacesThatChange) {
  const UnicodeNormalizer normalizer(UnicodeNormalizer::Form::kNfc);
  const std::string text = "abe\u0301cd";

  const ByteRange cluster = normalizer.NextCluster(text, 0);

  EXPECT_EQ(cluster, (ByteRange{2, 5}));
  EXPECT_EQ(normalizer.NextCluster(text, 5), (ByteRange{text.size(), text.size()}));
}

TEST(UnicodeNormalizerTest, SortsHalfAMillionMarksInReasonableTime) {
  std::string text = "e";
  for (int i = 0; i < 250'000; ++i) text += "\u0301\u0323";

  const std::string normalized = NormalizeAll(UnicodeNormalizer::Form::kNfc, text);

  // Half of the marks stand below and come first; the base takes the first of them.
  EXPECT_EQ(normalized.substr(0, 5), "ẹ\u0323");
  EXPECT_EQ(normalized.size(), 3 + 2 * (500'000u - 1));
}

}  // namespace
}  // namespace expertd
