#include "clients/rest_shim/chat_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "clients/rest_shim/errors.h"

namespace expertd::rest {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<v1::GenerateRequest> Read(std::string_view body) {
  const absl::StatusOr<Json> json = ParseBody(body);
  if (!json.ok()) return json.status();
  return ReadChatRequest(*json);
}

// The message of the error that `body` gives.
std::string ErrorOf(std::string_view body) {
  const auto request = Read(body);
  return request.ok() ? "no error" : std::string(request.status().message());
}

TEST(ChatJsonTest, MessagesKeepTheirOrderAndParts) {
  const auto request = Read(R"({"model": "m", "messages": [
      {"role": "system", "content": "Be brief"},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ann"},
      {"role": "assistant", "content": null, "reasoning_content": "hm",
       "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
      {"role": "tool", "tool_call_id": "c1", "content": "2"}]})");

  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->model(), "m");
  ASSERT_EQ(request->chat().messages_size(), 4);
  EXPECT_EQ(request->chat().messages(0).role(), v1::ROLE_SYSTEM);
  EXPECT_EQ(request->chat().messages(0).parts(0).text(), "Be brief");
  EXPECT_EQ(request->chat().messages(1).parts(1).text(), "b");
  EXPECT_EQ(request->chat().messages(1).name(), "Ann");
  EXPECT_EQ(request->chat().messages(2).parts_size(), 0);
  EXPECT_EQ(request->chat().messages(2).reasoning(), "hm");
  EXPECT_EQ(request->chat().messages(2).tool_calls(0).arguments_json(), R"({"x": 1})");
  EXPECT_EQ(request->chat().messages(3).tool_call_id(), "c1");
}

TEST(ChatJsonTest, SettingsGoToTheirFields) {
  const auto request = Read(R"({"messages": [], "temperature": 0, "top_p": 0.5, "top_k": -1, "n": 2, "seed": -1,
      "max_tokens": 9, "max_completion_tokens": 7, "min_tokens": 1, "stop": "x", "stop_token_ids": [3],
      "ignore_eos": true, "logprobs": true, "top_logprobs": 2, "logit_bias": {"5": -100}, "user": "u",
      "priority": 3, "reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": false}})");

  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_TRUE(request->sampling().has_temperature());
  EXPECT_EQ(request->sampling().temperature(), 0);
  EXPECT_EQ(request->sampling().top_p(), 0.5f);
  EXPECT_EQ(request->sampling().top_k(), -1);
  EXPECT_EQ(request->sampling().n(), 2u);
  EXPECT_EQ(request->sampling().seed(), UINT64_MAX);
  EXPECT_EQ(request->sampling().logit_bias(0).token_id(), 5u);
  EXPECT_EQ(request->stop().max_tokens(), 7u);
  EXPECT_EQ(request->stop().min_tokens(), 1u);
  EXPECT_EQ(request->stop().strings(0), "x");
  EXPECT_EQ(request->stop().token_ids(0), 3u);
  EXPECT_TRUE(request->stop().ignore_eos());
  EXPECT_EQ(request->output().logprobs().top_n(), 2u);
  EXPECT_EQ(request->user(), "u");
  EXPECT_EQ(request->scheduling().priority(), -3);  // vLLM's order is the other one
  EXPECT_EQ(request->chat().reasoning_effort(), v1::REASONING_EFFORT_LOW);
  EXPECT_FALSE(request->chat().template_kwargs().fields().at("enable_thinking").bool_value());
}

TEST(ChatJsonTest, NullIsAbsentAndUnknownFieldsAreLeftAside) {
  const auto request = Read(R"({"messages": [], "temperature": null, "stop": null, "tools": null, "logprobs": null,
      "stream_options": null, "store": true, "metadata": {"a": "b"}, "service_tier": "auto", "verbosity": "low"})");

  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_FALSE(request->sampling().has_temperature());
  EXPECT_EQ(request->stop().strings_size(), 0);
  EXPECT_FALSE(request->output().has_logprobs());
}

TEST(ChatJsonTest, ToolsKeepTheOrderOfTheirSchemas) {
  const auto request = Read(R"({"messages": [], "tool_choice": "none", "tools": [{"type": "function",
      "function": {"name": "f", "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}}}]})");

  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->chat().tools(0).function().parameters_json_schema(),
            R"({"type":"object","properties":{"z":{},"a":{}}})");
  EXPECT_EQ(request->chat().tool_choice().mode(), v1::ToolChoice::MODE_NONE);
}

TEST(ChatJsonTest, ErrorsNameTheMember) {
  EXPECT_EQ(ErrorOf(R"({})"), "messages is missing");
  EXPECT_EQ(ErrorOf(R"({"messages": {}})"), "messages must be an array");
  EXPECT_EQ(ErrorOf(R"({"messages": [{"content": "x"}]})"), "messages[0].role is missing");
  EXPECT_EQ(ErrorOf(R"({"messages": [{"role": "wizard"}]})"),
            "messages[0].role must be one of system, developer, user, assistant, tool");
  EXPECT_EQ(ErrorOf(R"({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]})"),
            "messages[0].content[0].type must be text, refusal or image_url");
  EXPECT_EQ(ErrorOf(R"({"messages": [], "temperature": "hot"})"), "temperature is \"hot\"; must be a number");
  EXPECT_EQ(ErrorOf(R"({"messages": [], "max_tokens": 1.5})"),
            "max_tokens is 1.5; must be an integer in 0..4294967295");
  EXPECT_EQ(ErrorOf(R"({"messages": [], "top_logprobs": 2})"), "top_logprobs needs logprobs to be true");
  EXPECT_EQ(ErrorOf(R"({"messages": [], "best_of": 2})"), "best_of is not supported beyond n");
  EXPECT_EQ(ErrorOf(R"({"messages": [], "functions": [{"name": "f"}]})"),
            "functions is not supported; give them as tools");
  EXPECT_EQ(ErrorOf(R"({"messages": [], "functions": [], "modalities": ["text"]})"), "no error");
  EXPECT_EQ(ErrorOf(R"({"messages": [], "modalities": ["text", "audio"]})"), "modalities must be [\"text\"]");
  EXPECT_EQ(ErrorOf(R"({"messages": [], "web_search_options": {}})"), "web_search_options is not supported");
  EXPECT_EQ(ErrorOf(R"({"messages": [], "stop": [1]})"), "stop must be a string or an array of strings");
  EXPECT_THAT(ErrorOf(R"({"messages": [], "response_format": {"type": "xml"}})"), HasSubstr("response_format.type"));
  EXPECT_THAT(ErrorOf(R"({"messages": [], "response_format": {"type": "json_schema", "json_schema": {"name": "x"}}})"),
              HasSubstr("response_format.json_schema.schema is missing"));
  EXPECT_THAT(ErrorOf(R"({"messages": [], "guided_regex": "a", "response_format": {"type": "json_object"}})"),
              HasSubstr("guided_regex asks for a form beside another"));
}

TEST(ChatJsonTest, AWholeAnswerIsAChatCompletion) {
  v1::GenerateResponse response;
  response.set_id("r1");
  response.set_model("m");
  response.mutable_create_time()->set_seconds(7);
  response.set_system_fingerprint("fp");
  v1::Candidate& candidate = *response.add_candidates();
  candidate.set_text("Hi");
  candidate.set_finish_reason(v1::FINISH_REASON_STOP_SEQUENCE);
  candidate.mutable_stop_match()->set_text("!");
  response.mutable_usage()->set_prompt_tokens(3);
  response.mutable_usage()->set_completion_tokens(2);
  response.mutable_usage()->set_total_tokens(5);

  EXPECT_EQ(DumpJson(ChatCompletionJson(response)),
            R"({"id":"chatcmpl-r1","object":"chat.completion","created":7,"model":"m","system_fingerprint":"fp",)"
            R"("choices":[{"index":0,"message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":null,)"
            R"("finish_reason":"stop","stop_reason":"!"}],"usage":{"prompt_tokens":3,"completion_tokens":2,)"
            R"("total_tokens":5,"prompt_tokens_details":{"cached_tokens":0},)"
            R"("completion_tokens_details":{"reasoning_tokens":0}}})");
}

TEST(ChatJsonTest, TheFirstDeltaNamesTheRole) {
  v1::Delta delta;
  delta.set_text("Hi");

  EXPECT_EQ(DumpJson(ChatDeltaJson(delta, /*is_first=*/true)),
            R"({"index":0,"delta":{"role":"assistant","content":"Hi"},"logprobs":null,"finish_reason":null})");
  EXPECT_EQ(DumpJson(ChatDeltaJson(delta, /*is_first=*/false)),
            R"({"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null})");
}

TEST(ChatJsonTest, LogprobsHaveTextAndBytes) {
  v1::Delta delta;
  v1::TokenLogprob& token = *delta.add_logprobs();
  token.set_text("\xEF\xBF\xBD");
  token.set_text_bytes("\xE4");
  token.set_logprob(-0.5f);

  EXPECT_EQ(DumpJson(ChatDeltaJson(delta, /*is_first=*/false)["logprobs"]),
            "{\"content\":[{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-0.5,\"bytes\":[228],\"top_logprobs\":[]}],"
            "\"refusal\":null}");
}

}  // namespace
}  // namespace expertd::rest
