#include "engine/prompt_builder.h"

#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/request/errors.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PromptBuilderTest : public ::testing::Test {
 protected:
  PromptBuilderTest() {
    const std::string dir = std::string(EXPERTD_SOURCE_DIR) + "/models/expertd-tiny";
    tokenizer_ = *LoadTokenizer(dir);
    chat_template_ = std::make_unique<ChatTemplate>(*LoadChatTemplate(dir));
    options_.tokenizer = tokenizer_.get();
    options_.chat_template = chat_template_.get();
    options_.vocab_size = 2560;
    options_.max_model_len = 100;
  }

  absl::StatusOr<BuiltPrompt> Build(RequestSpec spec) const {
    const RequestLimits limits{.vocab_size = 1 << 20};
    absl::StatusOr<std::shared_ptr<const Request>> request = Request::Create(std::move(spec), limits);
    EXPECT_TRUE(request.ok()) << request.status();
    return PromptBuilder(options_).Build(**request);
  }

  static RequestSpec Ids(std::vector<int32_t> ids) {
    RequestSpec spec;
    spec.input = TokenInput{std::move(ids)};
    return spec;
  }

  static RequestSpec Text(std::string text) {
    RequestSpec spec;
    spec.input = TextInput{std::move(text)};
    return spec;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  PromptBuilderOptions options_;
};

TEST_F(PromptBuilderTest, LeavesTokenIdsAsTheyAre) {
  const absl::StatusOr<BuiltPrompt> built = Build(Ids({5, 2559, 7}));

  ASSERT_TRUE(built.ok()) << built.status();
  EXPECT_THAT(built->tokens, ElementsAre(5, 2559, 7));
}

TEST_F(PromptBuilderTest, RefusesIdsBeyondTheLogits) {
  const absl::StatusOr<BuiltPrompt> built = Build(Ids({5, 2560}));

  EXPECT_EQ(built.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(built.status().message()), HasSubstr("token id 2560"));
}

TEST_F(PromptBuilderTest, KeepsTheLastTokensOfATruncatedText) {
  RequestSpec spec = Text("one two three four five");
  std::get<TextInput>(spec.input).truncate_to = 3;

  const absl::StatusOr<BuiltPrompt> whole = Build(Text("one two three four five"));
  const absl::StatusOr<BuiltPrompt> cut = Build(std::move(spec));

  ASSERT_TRUE(whole.ok() && cut.ok());
  EXPECT_EQ(cut->tokens, std::vector<int32_t>(whole->tokens.end() - 3, whole->tokens.end()));
}

TEST_F(PromptBuilderTest, TakesDefaultsFromTheModelAndTheCallersWordOverThem) {
  options_.defaults.temperature = 0.6;
  options_.defaults.top_k = 20;
  RequestSpec spec = Ids({5});
  spec.sampling.top_k = 3;

  const absl::StatusOr<BuiltPrompt> built = Build(std::move(spec));

  ASSERT_TRUE(built.ok());
  EXPECT_FLOAT_EQ(built->sampling.temperature, 0.6f);
  EXPECT_EQ(built->sampling.top_k, 3);
  EXPECT_FLOAT_EQ(built->sampling.top_p, 1.0f);
}

TEST_F(PromptBuilderTest, AModelThatDoesNotSampleIsGreedyByDefault) {
  options_.defaults.do_sample = false;
  RequestSpec warm = Ids({5});
  warm.sampling.temperature = 0.5f;

  EXPECT_EQ(Build(Ids({5}))->sampling.temperature, 0.0f);
  EXPECT_EQ(Build(std::move(warm))->sampling.temperature, 0.5f);
}

TEST_F(PromptBuilderTest, DrawsASeedThatJsonCanCarry) {
  const uint64_t first = Build(Ids({5}))->sampling.seed;
  const uint64_t second = Build(Ids({5}))->sampling.seed;

  EXPECT_NE(first, second);
  EXPECT_LT(std::max(first, second), uint64_t{1} << 53);
}

TEST_F(PromptBuilderTest, SetsNoLimitOfItsOwnByDefault) {
  EXPECT_EQ(Build(Ids({5, 6, 7}))->stop.max_tokens, StopConditions::kNoLimit);
}

TEST_F(PromptBuilderTest, RefusesWhatDoesNotFitTheModelsLength) {
  RequestSpec spec = Ids(std::vector<int32_t>(90, 5));
  spec.stop.max_tokens = 11;

  const absl::Status status = Build(std::move(spec)).status();

  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->reason, "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_THAT(detail->metadata, ElementsAre(std::pair("promptTokens", "90"), std::pair("maxTokens", "11"),
                                            std::pair("maxModelLen", "100")));
}

TEST_F(PromptBuilderTest, APromptThatFillsTheModelsLengthIsRefusedForItself) {
  const absl::Status status = Build(Ids(std::vector<int32_t>(100, 5))).status();

  EXPECT_THAT(std::string(status.message()), HasSubstr("has 100 tokens and leaves no room for an answer"));
}

TEST_F(PromptBuilderTest, RefusesMoreMinTokensThanFit) {
  RequestSpec spec = Ids({5});
  spec.stop.min_tokens = 100;

  EXPECT_EQ(Build(std::move(spec)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(PromptBuilderTest, BansBadWordsAtTheStartAndInsideAText) {
  RequestSpec spec = Ids({5});
  spec.sampling.bad_words = {"cat"};

  const absl::StatusOr<BuiltPrompt> built = Build(std::move(spec));

  ASSERT_TRUE(built.ok());
  EXPECT_THAT(built->sampling.bad_words,
              ElementsAre(*tokenizer_->Encode("cat"), *tokenizer_->Encode(" cat")));
}

TEST_F(PromptBuilderTest, WithoutATokenizerOnlyIdsAreServed) {
  options_.tokenizer = nullptr;
  options_.chat_template = nullptr;
  RequestSpec with_stop = Ids({5});
  with_stop.stop.strings = {"x"};

  EXPECT_TRUE(Build(Ids({5})).ok());
  EXPECT_EQ(Build(Text("hello")).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Build(std::move(with_stop)).status().code(), absl::StatusCode::kUnimplemented);
}

TEST_F(PromptBuilderTest, EchoShowsThePromptsText) {
  RequestSpec spec = Ids(*tokenizer_->Encode("hello there"));
  spec.output.echo = true;

  EXPECT_EQ(Build(std::move(spec))->text, "hello there");
}

TEST_F(PromptBuilderTest, ATemplateThatRefusesIsTheCallersError) {
  options_.chat_template = nullptr;
  const absl::StatusOr<ChatTemplate> refusing =
      ChatTemplate::Parse("{{ raise_exception('roles must alternate') }}", {});
  ASSERT_TRUE(refusing.ok());
  options_.chat_template = &*refusing;
  RequestSpec spec;
  ChatInput chat;
  chat.messages.push_back({{"role", "user"}, {"content", "hi"}});
  spec.input = chat;

  const absl::Status status = Build(std::move(spec)).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("roles must alternate"));
}

}  // namespace
}  // namespace expertd
