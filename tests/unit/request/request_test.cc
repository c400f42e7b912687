#include "engine/request/request.h"

#include <functional>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/strings.h"
#include "engine/request/errors.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Pair;

using Edit = std::function<void(RequestSpec&)>;
using Pairs = std::vector<std::pair<std::string, std::string>>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

RequestLimits Limits() {
  RequestLimits limits;
  limits.vocab_size = 1000;
  limits.max_prompt_bytes = 4096;
  return limits;
}

// A valid request, edited.
RequestSpec Spec(const Edit& edit) {
  RequestSpec spec;
  spec.input = TextInput{.text = "Once upon a time"};
  edit(spec);
  return spec;
}

RequestSpec ChatSpec(const std::function<void(ChatInput&)>& edit) {
  ChatInput chat;
  chat.messages = Json::array({{{"role", "user"}, {"content", "hello"}}});
  edit(chat);
  RequestSpec spec;
  spec.input = std::move(chat);
  return spec;
}

Pairs ViolationsOf(RequestSpec spec, const RequestLimits& limits = Limits()) {
  const auto request = Request::Create(std::move(spec), limits);
  if (request.ok()) return {};
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
  const std::optional<ErrorDetail> detail = GetErrorDetail(request.status());
  EXPECT_TRUE(detail.has_value());
  EXPECT_EQ(detail->reason, error_reason::kInvalidParameter);
  return detail->violations;
}

TEST(RequestTest, KeepsAValidRequestAsItIs) {
  const auto request = Request::Create(Spec([](RequestSpec& spec) {
                                         spec.id = "my-request_1.2:3";
                                         spec.sampling.temperature = 0.7f;
                                         spec.stop.strings = {"\n\n", "終"};
                                         spec.num_candidates = 16;
                                       }),
                                       Limits());

  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ((*request)->id(), "my-request_1.2:3");
  EXPECT_EQ((*request)->spec().sampling.temperature, 0.7f);
  EXPECT_THAT((*request)->spec().stop.strings, ElementsAre("\n\n", "終"));
}

TEST(RequestTest, MakesAnIdWhenThereIsNone) {
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    const auto request = Request::Create(Spec([](RequestSpec&) {}), Limits());
    ASSERT_TRUE(request.ok());
    EXPECT_THAT((*request)->id(), MatchesRegex("gen-[0-9a-f]+"));
    EXPECT_EQ((*request)->id().size(), 36u);
    ids.insert((*request)->id());
  }

  EXPECT_EQ(ids.size(), 100u);
}

TEST(RequestTest, ListsAllViolationsInTheOrderOfTheContract) {
  const RequestSpec spec = Spec([](RequestSpec& spec) {
    spec.id = "a b";
    spec.stop.max_tokens = 0;
    spec.stop.strings = {"a", "b", "c", ""};
    spec.sampling.temperature = kNan;
    spec.sampling.logprobs = LogprobOptions{.top_n = 21};
    spec.scheduling.priority = 101;
  });

  const auto request = Request::Create(spec, Limits());

  EXPECT_EQ(request.status().message(),
            "sampling.temperature is nan; must be 0..2. stop.max_tokens is 0; must be 1 or more. "
            "stop.strings[3] has 0 bytes; must have 1..1024. output.logprobs.top_n is 21; must be 0..20. "
            "scheduling.priority is 101; must be -100..100. "
            "request_id has the byte 32 at 1; must be of [A-Za-z0-9._:-]");
  EXPECT_THAT(ViolationsOf(spec), ElementsAre(Pair("sampling.temperature", "is nan; must be 0..2"),
                                              Pair("stop.max_tokens", "is 0; must be 1 or more"),
                                              Pair("stop.strings[3]", "has 0 bytes; must have 1..1024"),
                                              Pair("output.logprobs.top_n", "is 21; must be 0..20"),
                                              Pair("scheduling.priority", "is 101; must be -100..100"),
                                              Pair("request_id", "has the byte 32 at 1; must be of [A-Za-z0-9._:-]")));
}

TEST(RequestTest, CountsViolationsBeyondTheThirtySecond) {
  const RequestSpec spec = Spec([](RequestSpec& spec) { spec.stop.token_ids.assign(1000, -1); });

  const auto request = Request::Create(spec, Limits());

  EXPECT_EQ(ViolationsOf(spec).size(), 32u);
  EXPECT_THAT(std::string(request.status().message()), testing::EndsWith(". And 968 more"));
}

// One field with one value, and what is said of it; empty where it is allowed.
struct FieldCase {
  std::string name;
  Edit edit;
  std::string path;
  std::string description;
};

class RequestFieldTest : public testing::TestWithParam<FieldCase> {};

TEST_P(RequestFieldTest, IsCheckedAsTheContractSays) {
  const FieldCase& field = GetParam();

  const Pairs violations = ViolationsOf(Spec(field.edit));

  if (field.path.empty()) {
    EXPECT_THAT(violations, IsEmpty());
  } else {
    EXPECT_THAT(violations, ElementsAre(Pair(field.path, field.description)));
  }
}

std::string NameOf(const testing::TestParamInfo<FieldCase>& info) { return info.param.name; }

FieldCase Allowed(std::string name, Edit edit) { return {std::move(name), std::move(edit), "", ""}; }

std::vector<FieldCase> SamplingCases() {
  const auto temperature = [](float value) { return [=](RequestSpec& s) { s.sampling.temperature = value; }; };
  const auto top_p = [](float value) { return [=](RequestSpec& s) { s.sampling.top_p = value; }; };
  const auto top_k = [](int32_t value) { return [=](RequestSpec& s) { s.sampling.top_k = value; }; };
  const auto min_p = [](float value) { return [=](RequestSpec& s) { s.sampling.min_p = value; }; };
  const auto repetition = [](float value) { return [=](RequestSpec& s) { s.sampling.repetition_penalty = value; }; };
  const auto presence = [](float value) { return [=](RequestSpec& s) { s.sampling.presence_penalty = value; }; };
  const auto frequency = [](float value) { return [=](RequestSpec& s) { s.sampling.frequency_penalty = value; }; };
  const auto n = [](int32_t value) { return [=](RequestSpec& s) { s.num_candidates = value; }; };
  const auto bias = [](std::vector<std::pair<int32_t, float>> value) {
    return [=](RequestSpec& s) { s.sampling.logit_bias = value; };
  };
  return {
      {"TemperatureNan", temperature(kNan), "sampling.temperature", "is nan; must be 0..2"},
      {"TemperatureInfinite", temperature(kInfinity), "sampling.temperature", "is inf; must be 0..2"},
      {"TemperatureNegative", temperature(-0.5f), "sampling.temperature", "is -0.5; must be 0..2"},
      {"TemperatureHuge", temperature(1e38f), "sampling.temperature", "is 1e+38; must be 0..2"},
      Allowed("TemperatureSubnormal", temperature(1e-45f)),
      Allowed("TemperatureNegativeZero", temperature(-0.0f)),
      Allowed("TemperatureTwo", temperature(2.0f)),
      {"TopPNan", top_p(kNan), "sampling.top_p", "is nan; must be above 0, up to 1"},
      {"TopPZero", top_p(0), "sampling.top_p", "is 0; must be above 0, up to 1"},
      {"TopPNegative", top_p(-1), "sampling.top_p", "is -1; must be above 0, up to 1"},
      {"TopPAboveOne", top_p(1.5f), "sampling.top_p", "is 1.5; must be above 0, up to 1"},
      Allowed("TopPOne", top_p(1)),
      {"TopKNegative", top_k(-2), "sampling.top_k", "is -2; must be 1 or more, or 0 or -1 for off"},
      Allowed("TopKOff", top_k(0)),
      Allowed("TopKOffAsElsewhere", top_k(-1)),
      Allowed("TopKLargest", top_k(std::numeric_limits<int32_t>::max())),
      {"MinPNan", min_p(kNan), "sampling.min_p", "is nan; must be 0..1"},
      {"MinPAboveOne", min_p(2), "sampling.min_p", "is 2; must be 0..1"},
      {"RepetitionZero", repetition(0), "sampling.repetition_penalty", "is 0; must be above 0, up to 10"},
      {"RepetitionInfinite", repetition(kInfinity), "sampling.repetition_penalty", "is inf; must be above 0, up to 10"},
      {"PresenceLow", presence(-2.5f), "sampling.presence_penalty", "is -2.5; must be -2..2"},
      {"FrequencyNan", frequency(kNan), "sampling.frequency_penalty", "is nan; must be -2..2"},
      {"NZero", n(0), "sampling.n", "is 0; must be 1..16"},
      {"NHuge", n(1'000'000'000), "sampling.n", "is 1000000000; must be 1..16"},
      {"LogitBiasNan", bias({{1, kNan}}), "sampling.logit_bias[0].bias", "is nan; must be -100..100"},
      {"LogitBiasHuge", bias({{1, 0}, {2, 1e38f}}), "sampling.logit_bias[1].bias", "is 1e+38; must be -100..100"},
      {"LogitBiasBeyondVocabulary", bias({{1000, 0}}), "sampling.logit_bias[0].token_id", "is 1000; must be 0..999"},
      {"LogitBiasTwice", bias({{5, 1}, {6, 1}, {5, 2}}), "sampling.logit_bias[2].token_id",
       "is 5; entry 0 has it already; must be there once"},
      {"LogitBiasLong", bias(std::vector<std::pair<int32_t, float>>(100'000, {-1, kNan})), "sampling.logit_bias",
       "has 100000 entries; must have at most 1024"},
      {"AllowedIdNegative", [](RequestSpec& s) { s.sampling.allowed_token_ids = {0, -1}; },
       "sampling.allowed_token_ids[1]", "is -1; must be 0..999"},
      {"AllowedIdsLong", [](RequestSpec& s) { s.sampling.allowed_token_ids.assign(1001, 1); },
       "sampling.allowed_token_ids", "has 1001 entries; must have at most 1000"},
      {"BadWordEmpty", [](RequestSpec& s) { s.sampling.bad_words = {"x", ""}; }, "sampling.bad_words[1]",
       "has 0 bytes; must have 1..1024"},
      {"BadWordsLong", [](RequestSpec& s) { s.sampling.bad_words.assign(257, "x"); }, "sampling.bad_words",
       "has 257 entries; must have at most 256"},
      Allowed("SeedAny", [](RequestSpec& s) { s.sampling.seed = std::numeric_limits<uint64_t>::max(); }),
  };
}
INSTANTIATE_TEST_SUITE_P(Sampling, RequestFieldTest, testing::ValuesIn(SamplingCases()), NameOf);

std::vector<FieldCase> StopAndOutputCases() {
  const auto stop_strings = [](std::vector<std::string> value) {
    return [=](RequestSpec& s) { s.stop.strings = value; };
  };
  const auto logprobs = [](LogprobOptions value) { return [=](RequestSpec& s) { s.sampling.logprobs = value; }; };
  const auto prompt_logprobs = [](LogprobOptions value) {
    return [=](RequestSpec& s) { s.sampling.prompt_logprobs = value; };
  };
  return {
      {"MaxTokensNegative", [](RequestSpec& s) { s.stop.max_tokens = -1; }, "stop.max_tokens",
       "is -1; must be 1 or more"},
      Allowed("MaxTokensLargest", [](RequestSpec& s) { s.stop.max_tokens = std::numeric_limits<int32_t>::max(); }),
      {"MinTokensNegative", [](RequestSpec& s) { s.stop.min_tokens = -1; }, "stop.min_tokens",
       "is -1; must be 0 or more"},
      {"MinTokensAboveMaxTokens",
       [](RequestSpec& s) {
         s.stop.max_tokens = 5;
         s.stop.min_tokens = 6;
       },
       "stop.min_tokens", "is 6; must be at most stop.max_tokens, 5"},
      {"StopStringsMany", stop_strings(std::vector<std::string>(10'000, "x")), "stop.strings",
       "has 10000 entries; must have at most 16"},
      {"StopStringLong", stop_strings({std::string(1 << 20, 'x')}), "stop.strings[0]",
       "has 1048576 bytes; must have 1..1024"},
      {"StopStringLoneSurrogate", stop_strings({"a\xED\xA0\x80"}), "stop.strings[0]", "is not UTF-8 at byte 1"},
      {"StopStringOverlong", stop_strings({"\xC0\xAF"}), "stop.strings[0]", "is not UTF-8 at byte 0"},
      {"StopStringTruncated", stop_strings({"ab\xE4\xBD"}), "stop.strings[0]", "is not UTF-8 at byte 2"},
      Allowed("StopStringWithNul", stop_strings({std::string("a\0b", 3)})),
      {"StopIdBeyondVocabulary", [](RequestSpec& s) { s.stop.token_ids = {999, 1000}; }, "stop.token_ids[1]",
       "is 1000; must be 0..999"},
      {"StopIdsMany", [](RequestSpec& s) { s.stop.token_ids.assign(1025, 1); }, "stop.token_ids",
       "has 1025 entries; must have at most 1024"},
      {"TimeLimitZero", [](RequestSpec& s) { s.stop.time_limit = absl::ZeroDuration(); }, "stop.time_limit",
       "is 0; must be above 0"},
      {"LogprobsNegative", logprobs({.top_n = -1}), "output.logprobs.top_n", "is -1; must be 0..20"},
      {"LogprobsOfAllTokensButOne", prompt_logprobs({.top_n = 999}), "output.prompt_logprobs.top_n",
       "is 999; must be 0..20"},
      {"LogprobsOfManyIds", logprobs({.token_ids = std::vector<int32_t>(21, 1)}), "output.logprobs.only_ids.ids",
       "has 21 entries; must have at most 20"},
      {"LogprobsOfWrongId", logprobs({.token_ids = {1, 1000}}), "output.logprobs.only_ids.ids[1]",
       "is 1000; must be 0..999"},
      {"LogprobsOfTopAndIds", logprobs({.top_n = 2, .token_ids = {1}}), "output.logprobs.only_ids",
       "is set; must not be, with output.logprobs.top_n"},
      {"LogprobsWithStart", logprobs({.start = 3}), "output.logprobs.start",
       "is 3; is for output.prompt_logprobs only"},
      {"PromptLogprobsStartNegative", prompt_logprobs({.start = -3}), "output.prompt_logprobs.start",
       "is -3; must be 0 or more"},
      Allowed("PromptLogprobsWithStart", prompt_logprobs({.top_n = 20, .start = 3})),
      {"EchoOfNothing",
       [](RequestSpec& s) {
         s.output.text = false;
         s.output.echo = true;
       },
       "output.echo", "is true; needs output.text or output.token_ids"},
  };
}
INSTANTIATE_TEST_SUITE_P(StopAndOutput, RequestFieldTest, testing::ValuesIn(StopAndOutputCases()), NameOf);

std::vector<FieldCase> OtherCases() {
  const auto text = [](std::string value) { return [=](RequestSpec& s) { s.input = TextInput{.text = value}; }; };
  const auto tokens = [](std::vector<int32_t> value) { return [=](RequestSpec& s) { s.input = TokenInput{value}; }; };
  const auto id = [](std::string value) { return [=](RequestSpec& s) { s.id = value; }; };
  return {
      {"TextEmpty", text(""), "text.text", "is empty; must have at least 1 byte"},
      Allowed("TextBlank", text(" \n")),
      {"TextLong", text(std::string(4097, 'x')), "text.text", "has 4097 bytes; must have 1..4096"},
      {"TextNotUtf8", text("abc\xFFz"), "text.text", "is not UTF-8 at byte 3"},
      {"TextAboveUnicode", text("\xF4\x90\x80\x80"), "text.text", "is not UTF-8 at byte 0"},
      Allowed("TextOfEveryLength", text("\xEF\xBB\xBF aé佛😀\xF4\x8F\xBF\xBF")),
      {"TruncateNegative", [](RequestSpec& s) { s.input = TextInput{.text = "a", .truncate_to = -1}; },
       "text.truncate_to", "is -1; must be 1 or more"},
      {"TokensEmpty", tokens({}), "tokens.ids", "is empty; must have at least 1 entry"},
      {"TokenNegative", tokens({1, -1}), "tokens.ids[1]", "is -1; must be 0..999"},
      {"TokenAtVocabularySize", tokens({1000}), "tokens.ids[0]", "is 1000; must be 0..999"},
      {"TokensMany", tokens(std::vector<int32_t>(1025, 1)), "tokens.ids", "has 1025 entries; must have at most 1024"},
      Allowed("TokensWithinVocabulary", tokens({0, 999})),
      {"IdLong", id(std::string(1 << 20, 'a')), "request_id", "has 1048576 bytes; must have 1..128"},
      {"IdWithNewline", id("a\nb"), "request_id", "has the byte 10 at 1; must be of [A-Za-z0-9._:-]"},
      {"IdNotAscii", id("\xC3\xA9"), "request_id", "has the byte 195 at 0; must be of [A-Za-z0-9._:-]"},
      Allowed("IdLongest", id(std::string(128, 'a'))),
      {"PriorityLow", [](RequestSpec& s) { s.scheduling.priority = -101; }, "scheduling.priority",
       "is -101; must be -100..100"},
      {"QueueTimeoutNegative", [](RequestSpec& s) { s.scheduling.queue_timeout = absl::Seconds(-1); },
       "scheduling.queue_timeout", "is -1s; must be above 0"},
      {"SaltLong", [](RequestSpec& s) { s.cache.salt.assign(257, 'a'); }, "cache.salt",
       "has 257 bytes; must have at most 256"},
      {"SaltNotUtf8", [](RequestSpec& s) { s.cache.salt.assign(1, '\x80'); }, "cache.salt", "is not UTF-8 at byte 0"},
  };
}
INSTANTIATE_TEST_SUITE_P(Other, RequestFieldTest, testing::ValuesIn(OtherCases()), NameOf);

TEST(RequestChatTest, AllowsAConversation) {
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) {
                chat.tools = Json::array({{{"type", "function"}}});
                chat.template_kwargs = {{"enable_thinking", false}};
              })),
              IsEmpty());
}

TEST(RequestChatTest, NeedsMessagesWithRoles) {
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) { chat.messages = Json::array(); })),
              ElementsAre(Pair("chat.messages", "is empty; must have at least 1 entry")));
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) { chat.messages = nullptr; })),
              ElementsAre(Pair("chat.messages", "is empty; must have at least 1 entry")));
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) {
                chat.messages.push_back({{"content", "x"}});
                chat.messages.push_back("text");
                chat.messages.push_back({{"role", 3}});
              })),
              ElementsAre(Pair("chat.messages[1].role", "is missing"), Pair("chat.messages[2].role", "is missing"),
                          Pair("chat.messages[3].role", "is missing")));
}

TEST(RequestChatTest, BoundsNumberSizeAndDepth) {
  Json deep = "x";
  for (int i = 0; i < 100; ++i) deep = Json::array({deep});

  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) {
                for (int i = 0; i < 10'000; ++i) chat.messages.push_back(chat.messages[0]);
              })),
              ElementsAre(Pair("chat.messages", "has 10001 entries; must have at most 10000")));
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) { chat.messages[0]["content"] = std::string(5000, 'x'); })),
              ElementsAre(Pair("chat", "has 5015 bytes of text; must have at most 4096")));
  EXPECT_THAT(ViolationsOf(ChatSpec([&](ChatInput& chat) { chat.messages[0]["content"] = deep; })),
              ElementsAre(Pair("chat.messages[0]", "is nested deeper than 64")));
}

TEST(RequestChatTest, RefusesTextThatIsNotUtf8Anywhere) {
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) { chat.messages[0]["content"] = "\xFF"; })),
              ElementsAre(Pair("chat.messages[0]", "holds text that is not UTF-8")));
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) { chat.tools = Json::array({{{"\xFF", 1}}}); })),
              ElementsAre(Pair("chat.tools", "holds text that is not UTF-8")));
}

TEST(RequestChatTest, TemplateKwargsCannotReplaceTheTemplatesOwnVariables) {
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) { chat.template_kwargs = {{"messages", Json::array()}}; })),
              ElementsAre(Pair("chat.template_kwargs.messages",
                               "is the template's own; use the field of the request")));
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) { chat.template_kwargs = Json::array(); })),
              ElementsAre(Pair("chat.template_kwargs", "is not an object")));
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) { chat.template_kwargs = {{"k", std::string(70'000, 'x')}}; })),
              ElementsAre(Pair("chat.template_kwargs", "has 70001 bytes; must have at most 65536")));
}

TEST(RequestChatTest, RefusesToContinueAMessageAndOpenAnother) {
  EXPECT_THAT(ViolationsOf(ChatSpec([](ChatInput& chat) { chat.continue_final_message = true; })),
              ElementsAre(Pair("chat.continue_final_message",
                               "is true; must be false with chat.add_generation_prompt")));
}

}  // namespace
}  // namespace expertd
