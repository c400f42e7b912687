#include "engine/base/terminal_text.h"

#include <gtest/gtest.h>

namespace expertd {
namespace {

TEST(TerminalTextTest, KeepsTextLinesAndTabs) {
  EXPECT_EQ(WithoutControls("a\tb\nc é 你好 😀\n"), "a\tb\nc é 你好 😀\n");
  EXPECT_EQ(WithoutControls(""), "");
}

TEST(TerminalTextTest, DropsControlsOfAscii) {
  EXPECT_EQ(WithoutControls("a\x1b[31mred\x1b[0m"), "a[31mred[0m");
  EXPECT_EQ(WithoutControls("a\rb\x07\b\x7f" "c"), "abc");
  EXPECT_EQ(WithoutControls(std::string_view("a\0b", 3)), "ab");
}

TEST(TerminalTextTest, DropsTheEightBitControls) {
  EXPECT_EQ(WithoutControls("\xc2\x9b" "31mred"), "31mred");       // U+009B, the one-character form of ESC [
  EXPECT_EQ(WithoutControls("a\xc2\x80\xc2\x9f" "b"), "ab");        // the first and the last
  EXPECT_EQ(WithoutControls("\xc2\xa0\xc3\x9b"), "\xc2\xa0\xc3\x9b");  // no-break space and Û are text
}

TEST(TerminalTextTest, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(WithoutControls("a\x9b" "31m"), "a\xef\xbf\xbd" "31m");  // the bare byte, a control in Latin-1
  EXPECT_EQ(WithoutControls("a\xe4\xbd"), "a\xef\xbf\xbd");
}

}  // namespace
}  // namespace expertd
