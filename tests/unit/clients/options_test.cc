// The command lines of the clients: what their flags set, and what they refuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "clients/cpp/chat_options.h"
#include "clients/cpp/load_options.h"

namespace expertd {
namespace {

using ::testing::HasSubstr;

// Parses `arguments` (in order) with the flags that `add` adds; returns the error, or "".
template <typename Options>
std::string Parse(void (*add)(CLI::App&, Options&), std::vector<std::string> arguments, Options& options) {
  CLI::App app;
  add(app, options);
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  return "";
}

std::string ParseChat(std::vector<std::string> arguments) {
  ChatOptions options;
  return Parse(AddChatFlags, std::move(arguments), options);
}

TEST(ChatOptionsTest, FlagsSetWhatTheyName) {
  ChatOptions options;

  EXPECT_EQ(Parse(AddChatFlags,
                  {"--target", "example:1", "--tls", "--wait-ready", "2.5", "--system", "Be brief", "--prompt", "Hello",
                   "--once", "--stats", "--temperature", "0.5", "--top-p", "0.9", "--top-k", "40", "--seed",
                   "18446744073709551615", "--max-tokens", "7", "--timeout", "30"},
                  options),
            "");

  EXPECT_EQ(options.client.target, "example:1");
  EXPECT_TRUE(options.client.use_tls);
  EXPECT_EQ(options.client.wait_ready_seconds, 2.5);
  EXPECT_EQ(options.system, "Be brief");
  EXPECT_EQ(options.prompt, "Hello");
  EXPECT_TRUE(options.once);
  EXPECT_TRUE(options.stats);
  EXPECT_EQ(options.temperature, 0.5f);
  EXPECT_EQ(options.top_p, 0.9f);
  EXPECT_EQ(options.top_k, 40);
  EXPECT_EQ(options.seed, 18446744073709551615u);
  EXPECT_EQ(options.max_tokens, 7u);
  EXPECT_EQ(options.timeout_seconds, 30);
  EXPECT_TRUE(options.Validate().ok());
}

TEST(ChatOptionsTest, LeavesToTheModelWhatIsNotGiven) {
  ChatOptions options;

  EXPECT_EQ(Parse(AddChatFlags, {}, options), "");

  EXPECT_FALSE(options.temperature || options.top_p || options.top_k || options.seed || options.max_tokens);
}

TEST(ChatOptionsTest, RefusesSeedsOutsideTheirRange) {
  EXPECT_EQ(ParseChat({"--seed", "-5"}), "--seed is -5; must be 0..18446744073709551615");
  EXPECT_EQ(ParseChat({"--seed", "18446744073709551616"}),
            "--seed is 18446744073709551616; must be 0..18446744073709551615");
  EXPECT_EQ(ParseChat({"--seed", "x"}), "--seed is x; must be 0..18446744073709551615");
}

TEST(ChatOptionsTest, RefusesWhatCannotBeSent) {
  ChatOptions once, text, target, timeout, wait;
  once.once = true;
  text.prompt = "a\xff";
  target.client.target = "";
  timeout.timeout_seconds = -1;
  wait.client.wait_ready_seconds = -1;

  EXPECT_EQ(once.Validate().message(), "--once needs --prompt TEXT");
  EXPECT_EQ(text.Validate().message(), "--prompt is not UTF-8");
  EXPECT_THAT(std::string(target.Validate().message()), HasSubstr("--target is empty"));
  EXPECT_EQ(timeout.Validate().message(), "--timeout is -1; must be 0 or more");
  EXPECT_EQ(wait.Validate().message(), "--wait-ready is -1; must be 0 or more");
}

TEST(LoadOptionsTest, FlagsSetWhatTheyName) {
  LoadOptions options;

  EXPECT_EQ(Parse(AddLoadFlags,
                  {"--concurrency", "3", "--num-requests", "9", "--input-len", "5", "--output-len", "6",
                   "--request-rate", "1.5", "--timeout", "4", "--connections", "2", "--seed", "11", "--no-text",
                   "--json"},
                  options),
            "");

  EXPECT_EQ(options.concurrency, 3);
  EXPECT_EQ(options.num_requests, 9);
  EXPECT_EQ(options.input_len, 5);
  EXPECT_EQ(options.output_len, 6);
  EXPECT_EQ(options.request_rate, 1.5);
  EXPECT_EQ(options.timeout_seconds, 4);
  EXPECT_EQ(options.connections, 2);
  EXPECT_EQ(options.seed, 11u);
  EXPECT_FALSE(options.text);
  EXPECT_TRUE(options.json);
  EXPECT_TRUE(options.Validate().ok());
}

TEST(LoadOptionsTest, ErrorsNameTheFlagAndItsRange) {
  LoadOptions calls, requests, rate, connections;
  calls.concurrency = 0;
  requests.num_requests = 0;
  rate.request_rate = -1;
  connections.connections = 1025;

  EXPECT_EQ(calls.Validate().message(), "--concurrency is 0; must be 1..65536");
  EXPECT_EQ(requests.Validate().message(), "--num-requests is 0; must be 1..1000000000");
  EXPECT_EQ(rate.Validate().message(), "--request-rate is -1; must be 0 or more");
  EXPECT_EQ(connections.Validate().message(), "--connections is 1025; must be 0..1024");
}

TEST(LoadOptionsTest, OpensAConnectionForEach256CallsAtOnce) {
  LoadOptions options;
  options.num_requests = 1000;

  options.concurrency = 256;
  EXPECT_EQ(options.NumConnections(), 1);
  options.concurrency = 257;
  EXPECT_EQ(options.NumConnections(), 2);
  options.num_requests = 10;  // no more calls than that are ever open
  EXPECT_EQ(options.NumConnections(), 1);
  options.connections = 5;
  EXPECT_EQ(options.NumConnections(), 5);
}

}  // namespace
}  // namespace expertd
