#include "clients/cpp/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace expertd {
namespace {

using ::testing::ElementsAre;

// "system: Be brief", "user: Hello", ...
std::vector<std::string> Lines(const v1::ChatInput& input) {
  std::vector<std::string> lines;
  for (const v1::Message& message : input.messages()) {
    const std::string role = message.role() == v1::ROLE_SYSTEM      ? "system"
                             : message.role() == v1::ROLE_USER      ? "user"
                             : message.role() == v1::ROLE_ASSISTANT ? "assistant"
                                                                    : "?";
    lines.push_back(role + ": " + message.parts(0).text());
  }
  return lines;
}

TEST(ConversationTest, SendsTheSystemMessageTheExchangesAndTheNewMessage) {
  Conversation conversation("Be brief");
  conversation.Add("Hello", "Hi", 20);

  EXPECT_THAT(Lines(conversation.With("Bye")),
              ElementsAre("system: Be brief", "user: Hello", "assistant: Hi", "user: Bye"));
}

TEST(ConversationTest, WithoutASystemMessageBeginsWithTheUser) {
  EXPECT_THAT(Lines(Conversation().With("Hello")), ElementsAre("user: Hello"));
}

TEST(ConversationTest, ForgetsTheOldestExchangeAndNeverTheSystemMessage) {
  Conversation conversation("Be brief");
  conversation.Add("one", "1", 20);
  conversation.Add("two", "2", 30);

  EXPECT_TRUE(conversation.ForgetOldest());
  EXPECT_THAT(Lines(conversation.With("x")),
              ElementsAre("system: Be brief", "user: two", "assistant: 2", "user: x"));
  EXPECT_TRUE(conversation.ForgetOldest());
  EXPECT_FALSE(conversation.ForgetOldest());
  EXPECT_THAT(Lines(conversation.With("x")), ElementsAre("system: Be brief", "user: x"));
}

TEST(ConversationTest, ShortensToWhatIsLeftOfItsTokens) {
  Conversation conversation;
  conversation.Add("one", "1", 100);
  conversation.Add("two", "2", 150);    // 50 more
  conversation.Add("three", "3", 180);  // 30 more

  EXPECT_EQ(conversation.Shorten(180), 0);
  EXPECT_EQ(conversation.Shorten(179), 1);
  EXPECT_EQ(conversation.num_exchanges(), 2);
  EXPECT_EQ(conversation.Shorten(80), 0);
  EXPECT_EQ(conversation.Shorten(79), 1);
  EXPECT_EQ(conversation.Shorten(-1), 1);
  EXPECT_EQ(conversation.num_exchanges(), 0);
}

TEST(ConversationTest, CountsAnewAfterForgetting) {
  Conversation conversation;
  conversation.Add("one", "1", 100);
  conversation.Add("two", "2", 150);
  conversation.ForgetOldest();

  conversation.Add("three", "3", 90);  // the server's count of what is left, and 40 more

  EXPECT_EQ(conversation.Shorten(90), 0);
  EXPECT_EQ(conversation.Shorten(89), 1);
  EXPECT_EQ(conversation.Shorten(40), 0);
}

TEST(ConversationTest, ClearLeavesTheSystemMessage) {
  Conversation conversation("Be brief");
  conversation.Add("one", "1", 100);

  conversation.Clear();

  EXPECT_THAT(Lines(conversation.With("x")), ElementsAre("system: Be brief", "user: x"));
  EXPECT_EQ(conversation.Shorten(0), 0);
}

}  // namespace
}  // namespace expertd
