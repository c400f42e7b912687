#include "engine/text/detokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/text/support/fake_tokenizer.h"

namespace expertd {
namespace {

// One token for each byte.
FakeTokenizer ByteTokenizer() {
  std::vector<FakeTokenizer::Token> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back({std::string(1, static_cast<char>(byte))});
  return FakeTokenizer(std::move(tokens));
}

std::vector<TokenId> BytesOf(std::string_view text) {
  std::vector<TokenId> ids;
  for (const char byte : text) ids.push_back(static_cast<uint8_t>(byte));
  return ids;
}

TEST(DetokenizerTest, HoldsACharacterBackUntilItsLastByte) {
  const FakeTokenizer tokenizer = ByteTokenizer();
  Detokenizer detokenizer(tokenizer, /*skip_special_tokens=*/true);

  EXPECT_EQ(detokenizer.Append(0xF0), "");
  EXPECT_EQ(detokenizer.Append(0x9F), "");
  EXPECT_EQ(detokenizer.Append(0x98), "");
  EXPECT_EQ(detokenizer.num_pending_bytes(), 3);
  EXPECT_EQ(detokenizer.Append(0x80), "😀");
  EXPECT_EQ(detokenizer.num_pending_bytes(), 0);
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(DetokenizerTest, ReplacesEachMaximalInvalidPrefixOnce) {
  const FakeTokenizer tokenizer = ByteTokenizer();

  // The expectations are Python's bytes.decode("utf-8", errors="replace").
  EXPECT_EQ(tokenizer.Decode(BytesOf("a\xE4\xBDz"), true), "a\uFFFDz");
  EXPECT_EQ(tokenizer.Decode(BytesOf("\xF0\x9F\x98"), true), "\uFFFD");
  EXPECT_EQ(tokenizer.Decode(BytesOf("\xED\xA0\x80"), true), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(tokenizer.Decode(BytesOf("\xE4\xE4\xBD\xA0"), true), "\uFFFD你");
  EXPECT_EQ(tokenizer.Decode(BytesOf("\xFF\xC0\x80"), true), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(tokenizer.Decode(BytesOf("\xF4\x90\x80\x80"), true), "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(tokenizer.Decode(BytesOf("\xC3\xF0\x9F"), true), "\uFFFD\uFFFD");
}

TEST(DetokenizerTest, FlushReplacesAnUnfinishedCharacterAndStartsAnew) {
  const FakeTokenizer tokenizer = ByteTokenizer();
  Detokenizer detokenizer(tokenizer, /*skip_special_tokens=*/true);
  detokenizer.Append(0xE4);
  detokenizer.Append(0xBD);

  EXPECT_EQ(detokenizer.Flush(), "\uFFFD");
  EXPECT_EQ(detokenizer.Flush(), "");
  EXPECT_EQ(detokenizer.Append('a'), "a");
}

TEST(DetokenizerTest, SkipsSpecialTokensOnlyWhenAsked) {
  const FakeTokenizer tokenizer({{"a"}, {"<|im_end|>", true}, {"<think>"}, {"\xE4\xBD"}, {"\xA0"}});
  const std::vector<TokenId> ids = {0, 1, 2, 3, 1, 4};

  EXPECT_EQ(tokenizer.Decode(ids, /*skip_special_tokens=*/true), "a<think>你");
  EXPECT_EQ(tokenizer.Decode(ids, /*skip_special_tokens=*/false), "a<|im_end|><think>\uFFFD<|im_end|>\uFFFD");
}

TEST(DetokenizerTest, IgnoresIdsOutsideTheTokenizer) {
  const FakeTokenizer tokenizer({{"a"}, {""}, {"b"}});

  EXPECT_EQ(tokenizer.Decode(std::vector<TokenId>{0, 1, -1, 3, 2'000'000'000, 2}, false), "ab");
}

TEST(DetokenizerTest, StripsOneLeadingSpaceWhereTheTokenizerPutsOne) {
  const std::vector<FakeTokenizer::Token> tokens = {{" a"}, {" "}, {"<sep>", false, true}, {"<s>", true, true}, {"b"}};
  const FakeTokenizer stripping(tokens, /*strips_leading_space=*/true);
  const FakeTokenizer keeping(tokens, /*strips_leading_space=*/false);

  EXPECT_EQ(stripping.Decode(std::vector<TokenId>{0, 0}, true), "a a");
  EXPECT_EQ(stripping.Decode(std::vector<TokenId>{1, 0}, true), " a");
  EXPECT_EQ(stripping.Decode(std::vector<TokenId>{4, 0}, true), "b a");
  EXPECT_EQ(stripping.Decode(std::vector<TokenId>{0, 2, 0}, true), "a<sep>a");
  EXPECT_EQ(stripping.Decode(std::vector<TokenId>{3, 0, 3, 0}, true), "a a");
  EXPECT_EQ(stripping.Decode(std::vector<TokenId>{3, 0, 3, 0}, false), "<s>a<s>a");
  EXPECT_EQ(keeping.Decode(std::vector<TokenId>{0, 2, 0}, true), " a<sep> a");
}

TEST(DetokenizerTest, StripsEveryLeadingSpaceWhereTheModelDropsThem) {
  const FakeTokenizer tokenizer({{" a"}, {" "}}, /*strips_leading_space=*/true, /*strips_every_leading_space=*/true);

  EXPECT_EQ(tokenizer.Decode(std::vector<TokenId>{1, 1, 0, 1, 0}, true), "a  a");
}

TEST(DetokenizerTest, CopiesContinueOnTheirOwn) {
  const FakeTokenizer tokenizer = ByteTokenizer();
  Detokenizer first(tokenizer, /*skip_special_tokens=*/true);
  first.Append(0xC3);

  Detokenizer second = first;

  EXPECT_EQ(first.Append(0xA9), "é");
  EXPECT_EQ(second.Append(0xA8), "è");
}

}  // namespace
}  // namespace expertd
