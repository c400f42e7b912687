#include "engine/base/utf8.h"

#include <gtest/gtest.h>

#include <optional>
#include <string_view>

namespace expertd {
namespace {

using Kind = Utf8Scan::Kind;

// A string literal as bytes, NULs included.
template <size_t n>
constexpr std::string_view Bytes(const char (&literal)[n]) {
  return {literal, n - 1};
}

TEST(Utf8Test, ScansWholeIncompleteAndInvalidCharacters) {
  const struct {
    std::string_view bytes;
    Kind kind;
    int num_bytes;
  } cases[] = {
      {Bytes("\0"), Kind::kComplete, 1},
      {"a", Kind::kComplete, 1},
      {"\xC3\xA9", Kind::kComplete, 2},
      {"\xE4\xBD\xA0", Kind::kComplete, 3},
      {"\xF0\x9F\x98\x80x", Kind::kComplete, 4},
      {"\xC3", Kind::kIncomplete, 1},
      {"\xE4\xBD", Kind::kIncomplete, 2},
      {"\xF0\x9F\x98", Kind::kIncomplete, 3},
      {"\x80", Kind::kInvalid, 1},              // a continuation byte alone
      {"\xC0\x80", Kind::kInvalid, 1},          // overlong
      {"\xE0\x80\x80", Kind::kInvalid, 1},      // overlong
      {"\xED\xA0\x80", Kind::kInvalid, 1},      // surrogate
      {"\xE4\xBDx", Kind::kInvalid, 2},         // cut short: one maximal subpart
      {"\xF0\x9F\x98x", Kind::kInvalid, 3},
      {"\xF4\x90\x80\x80", Kind::kInvalid, 1},  // above U+10FFFF
      {"\xF5\x80\x80\x80", Kind::kInvalid, 1},
      {"\xFF", Kind::kInvalid, 1},
  };

  for (const auto& test : cases) {
    const Utf8Scan scan = ScanUtf8(test.bytes);

    EXPECT_EQ(static_cast<int>(scan.kind), static_cast<int>(test.kind)) << testing::PrintToString(test.bytes);
    EXPECT_EQ(scan.num_bytes, test.num_bytes) << testing::PrintToString(test.bytes);
  }
}

TEST(Utf8Test, NamesTheFirstWrongByte) {
  EXPECT_EQ(FindInvalidUtf8(""), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("plain text that is longer than a word, é 你好 😀"), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("0123456789\xFF"), 10u);
  EXPECT_EQ(FindInvalidUtf8("0123456\x80 01234567"), 7u);
  EXPECT_EQ(FindInvalidUtf8("你好\xE4\xBD"), 6u);
}

}  // namespace
}  // namespace expertd
