#include "clients/rest_shim/completions_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace expertd::rest {
namespace {

using ::testing::ElementsAre;

absl::StatusOr<std::vector<v1::GenerateRequest>> Read(std::string_view body) {
  const absl::StatusOr<Json> json = ParseBody(body);
  if (!json.ok()) return json.status();
  return ReadCompletionRequests(*json);
}

std::string ErrorOf(std::string_view body) {
  const auto requests = Read(body);
  return requests.ok() ? "no error" : std::string(requests.status().message());
}

TEST(CompletionsJsonTest, APromptHasFourForms) {
  const auto text = Read(R"({"prompt": "a"})");
  const auto texts = Read(R"({"prompt": ["a", "b"]})");
  const auto ids = Read(R"({"prompt": [1, 2]})");
  const auto lists = Read(R"({"prompt": [[1, 2], [3]]})");

  ASSERT_TRUE(text.ok() && texts.ok() && ids.ok() && lists.ok());
  ASSERT_EQ(text->size(), 1u);
  EXPECT_EQ(text->front().text().text(), "a");
  ASSERT_EQ(texts->size(), 2u);
  EXPECT_EQ(texts->back().text().text(), "b");
  ASSERT_EQ(ids->size(), 1u);
  EXPECT_THAT(ids->front().tokens().ids(), ElementsAre(1, 2));
  ASSERT_EQ(lists->size(), 2u);
  EXPECT_THAT(lists->back().tokens().ids(), ElementsAre(3));
}

TEST(CompletionsJsonTest, EveryPromptGetsTheSettings) {
  const auto requests = Read(R"({"prompt": ["a", "b"], "temperature": 0, "echo": true, "logprobs": 1})");

  ASSERT_TRUE(requests.ok()) << requests.status();
  for (const v1::GenerateRequest& request : *requests) {
    EXPECT_EQ(request.stop().max_tokens(), 16u);  // OpenAI's default
    EXPECT_TRUE(request.sampling().has_temperature());
    EXPECT_TRUE(request.output().echo());
    EXPECT_EQ(request.output().logprobs().top_n(), 1u);
    EXPECT_EQ(request.output().prompt_logprobs().top_n(), 1u);
  }
}

TEST(CompletionsJsonTest, ErrorsNameTheMember) {
  EXPECT_EQ(ErrorOf(R"({})"), "prompt is missing");
  EXPECT_EQ(ErrorOf(R"({"prompt": []})"), "prompt is an empty array");
  EXPECT_EQ(ErrorOf(R"({"prompt": ["a", 1]})"),
            "prompt must be a string, an array of strings, token ids, or arrays of token ids");
  EXPECT_EQ(ErrorOf(R"({"prompt": [1, "a"]})"), "prompt[1] is \"a\"; must be a token id");
  EXPECT_EQ(ErrorOf(R"({"prompt": [[1], [-2]]})"), "prompt[1][0] is -2; must be a token id");
  EXPECT_EQ(ErrorOf(R"({"prompt": "a", "suffix": "b"})"), "suffix is not supported");
  EXPECT_EQ(ErrorOf(R"({"prompt": "a", "best_of": 2})"), "best_of is not supported beyond n");
  Json shared;
  shared["prompt"] = std::vector<std::string>(1000, "a");
  shared["user"] = std::string(100'000, 'u');
  EXPECT_THAT(ErrorOf(DumpJson(shared)), testing::StartsWith("prompt has 1000 prompts, which all share"));
}

// A token whose text is `bytes`, with one other beside it.
void AddToken(const std::string& bytes, float logprob, const std::string& other, float other_logprob,
              google::protobuf::RepeatedPtrField<v1::TokenLogprob>* tokens) {
  v1::TokenLogprob& token = *tokens->Add();
  token.set_text_bytes(bytes);
  token.set_logprob(logprob);
  v1::TopLogprob& top = *token.add_top();
  top.set_text_bytes(other);
  top.set_logprob(other_logprob);
}

TEST(CompletionsJsonTest, EchoedLogprobsBeginWithTheFirstTokenOfThePrompt) {
  v1::GenerateResponse response;
  response.mutable_prompt()->set_text("你好 all");
  AddToken("好", -1, "a", -0.5f, response.mutable_prompt()->mutable_logprobs());
  AddToken(" all", -2, " all", -2, response.mutable_prompt()->mutable_logprobs());
  v1::Candidate& candidate = *response.add_candidates();
  candidate.set_text("!");
  candidate.set_finish_reason(v1::FINISH_REASON_MAX_TOKENS);
  AddToken("!", -0.25f, "?", -4, candidate.mutable_logprobs());

  const Json choice = CompletionJson("r", {response})["choices"][0];

  EXPECT_EQ(choice["text"].get<std::string>(), "你好 all!");
  EXPECT_EQ(choice["finish_reason"].get<std::string>(), "length");
  EXPECT_EQ(DumpJson(choice["logprobs"]),
            R"({"tokens":["你","好"," all","!"],"token_logprobs":[null,-1.0,-2.0,-0.25],)"
            R"("top_logprobs":[null,{"a":-0.5,"好":-1.0},{" all":-2.0},{"?":-4.0,"!":-0.25}],)"
            R"("text_offset":[0,1,2,6]})");
}

TEST(CompletionsJsonTest, TokensThatAreNoTextHaveNamesOfTheirOwn) {
  v1::TokenLogprob token;
  token.set_text_bytes("\xE4");
  LegacyLogprobs logprobs;

  logprobs.Add(token);

  EXPECT_EQ(logprobs.ToJson()["tokens"][0].get<std::string>(), "bytes:\\xe4");
}

TEST(CompletionsJsonTest, ChoicesAreNumberedThrough) {
  std::vector<v1::GenerateResponse> responses(2);
  for (v1::GenerateResponse& response : responses) {
    response.mutable_usage()->set_prompt_tokens(2);
    response.add_candidates()->set_index(0);
    response.add_candidates()->set_index(1);
  }

  const Json json = CompletionJson("r", responses);

  EXPECT_EQ(json["id"].get<std::string>(), "cmpl-r");
  ASSERT_EQ(json["choices"].size(), 4u);
  EXPECT_EQ(json["choices"][3]["index"].get<int>(), 3);
  EXPECT_EQ(json["usage"]["prompt_tokens"].get<int>(), 4);
}

}  // namespace
}  // namespace expertd::rest
