#include "server/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "engine/request/errors.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/status.h"
#include "tests/support/fake_engine.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr uint32_t kMaxUint32 = std::numeric_limits<uint32_t>::max();
const RequestLimits kLimits{.vocab_size = 1000};

v1::GenerateRequest TextRequest() {
  v1::GenerateRequest request;
  request.mutable_text()->set_text("hi");
  return request;
}

v1::GenerateRequest ChatRequest() {
  v1::GenerateRequest request;
  v1::Message* message = request.mutable_chat()->add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_parts()->set_text("hi");
  return request;
}

RequestSpec SpecOf(const v1::GenerateRequest& request) {
  absl::StatusOr<ConvertedRequest> converted = ToRequestSpec(request, kLimits);
  EXPECT_TRUE(converted.ok()) << converted.status();
  return converted.ok() ? std::move(converted->spec) : RequestSpec{};
}

// How a request fares at the door as a whole: "ok", or "CODE REASON FIELD" of the first violation.
std::string Outcome(const v1::GenerateRequest& request) {
  absl::Status status;
  if (auto converted = ToRequestSpec(request, kLimits); !converted.ok()) {
    status = converted.status();
  } else {
    status = Request::Create(std::move(converted->spec), kLimits).status();
  }
  if (status.ok()) return "ok";
  const ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail{});
  return StrCat(absl::StatusCodeToString(status.code()), " ", detail.reason, " ",
                detail.violations.empty() ? "" : detail.violations.front().first);
}

std::string OutcomeOf(const std::function<void(v1::GenerateRequest&)>& change) {
  v1::GenerateRequest request = TextRequest();
  change(request);
  return Outcome(request);
}

std::string OutcomeOfChat(const std::function<void(v1::ChatInput&)>& change) {
  v1::GenerateRequest request = ChatRequest();
  change(*request.mutable_chat());
  return Outcome(request);
}

std::string Invalid(std::string_view field) { return StrCat("INVALID_ARGUMENT INVALID_PARAMETER ", field); }
std::string Unsupported(std::string_view field) { return StrCat("UNIMPLEMENTED UNSUPPORTED_FEATURE ", field); }

TEST(ConvertTest, AbsentFieldsLeaveTheDefaults) {
  const RequestSpec spec = SpecOf(TextRequest());

  EXPECT_EQ(std::get<TextInput>(spec.input).text, "hi");
  EXPECT_TRUE(std::get<TextInput>(spec.input).add_special_tokens);
  EXPECT_EQ(std::get<TextInput>(spec.input).truncate_to, 0);
  EXPECT_FALSE(spec.sampling.temperature.has_value());
  EXPECT_FALSE(spec.sampling.top_p.has_value());
  EXPECT_FALSE(spec.sampling.top_k.has_value());
  EXPECT_FALSE(spec.stop.max_tokens.has_value());
  EXPECT_EQ(spec.stop.time_limit, absl::InfiniteDuration());
  EXPECT_EQ(spec.scheduling.queue_timeout, absl::InfiniteDuration());
  EXPECT_EQ(spec.scheduling.deadline, absl::InfiniteFuture());
  EXPECT_EQ(spec.num_candidates, 1);
  EXPECT_TRUE(spec.output.text);
  EXPECT_TRUE(spec.output.skip_special_tokens);
  EXPECT_FALSE(spec.output.token_ids);
  EXPECT_FALSE(spec.output.echo);
  EXPECT_FALSE(spec.cache.bypass_prefix_cache);
}

TEST(ConvertTest, EveryFieldArrives) {
  v1::GenerateRequest request = TextRequest();
  request.set_request_id("id-1");
  request.mutable_text()->set_add_special_tokens(false);
  request.mutable_text()->set_truncate_to(5);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  sampling.set_temperature(0);
  sampling.set_top_p(0.5f);
  sampling.set_top_k(7);
  sampling.set_min_p(0.25f);
  sampling.set_repetition_penalty(1.5f);
  sampling.set_frequency_penalty(-1);
  sampling.set_presence_penalty(2);
  sampling.set_seed(std::numeric_limits<uint64_t>::max());
  sampling.set_n(3);
  sampling.add_logit_bias()->set_token_id(9);
  sampling.mutable_logit_bias(0)->set_bias(-100);
  sampling.add_allowed_token_ids(4);
  sampling.add_bad_words("bad");
  sampling.set_deterministic(true);
  v1::StopConditions& stop = *request.mutable_stop();
  stop.set_max_tokens(10);
  stop.set_min_tokens(2);
  stop.add_strings("END");
  stop.add_token_ids(8);
  stop.set_include_stop_in_output(true);
  stop.set_ignore_eos(true);
  stop.mutable_time_limit()->set_seconds(3);
  v1::OutputOptions& output = *request.mutable_output();
  output.set_text(false);
  output.set_token_ids(true);
  output.mutable_logprobs()->set_top_n(4);
  output.mutable_prompt_logprobs()->mutable_only_ids()->add_ids(6);
  output.mutable_prompt_logprobs()->set_start(1);
  output.set_echo(true);
  output.set_skip_special_tokens(false);
  output.set_timing(true);
  output.mutable_stream()->set_min_tokens_per_message(2);
  output.mutable_stream()->mutable_min_interval()->set_nanos(1000);
  output.mutable_stream()->set_usage_every_message(true);
  request.mutable_scheduling()->set_priority(-5);
  request.mutable_scheduling()->mutable_queue_timeout()->set_seconds(4);
  request.mutable_cache()->set_bypass_prefix_cache(true);
  request.mutable_cache()->set_salt("salt");

  const absl::StatusOr<ConvertedRequest> converted = ToRequestSpec(request, kLimits);

  ASSERT_TRUE(converted.ok()) << converted.status();
  const RequestSpec& spec = converted->spec;
  EXPECT_EQ(spec.id, "id-1");
  EXPECT_FALSE(std::get<TextInput>(spec.input).add_special_tokens);
  EXPECT_EQ(std::get<TextInput>(spec.input).truncate_to, 5);
  EXPECT_EQ(spec.sampling.temperature, 0.0f);
  EXPECT_EQ(spec.sampling.top_p, 0.5f);
  EXPECT_EQ(spec.sampling.top_k, 7);
  EXPECT_EQ(spec.sampling.min_p, 0.25f);
  EXPECT_EQ(spec.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(spec.sampling.frequency_penalty, -1.0f);
  EXPECT_EQ(spec.sampling.presence_penalty, 2.0f);
  EXPECT_EQ(spec.sampling.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(spec.num_candidates, 3);
  EXPECT_THAT(spec.sampling.logit_bias, ElementsAre(Pair(9, -100.0f)));
  EXPECT_THAT(spec.sampling.allowed_token_ids, ElementsAre(4));
  EXPECT_THAT(spec.sampling.bad_words, ElementsAre("bad"));
  EXPECT_EQ(spec.stop.max_tokens, 10);
  EXPECT_EQ(spec.stop.min_tokens, 2);
  EXPECT_THAT(spec.stop.strings, ElementsAre("END"));
  EXPECT_THAT(spec.stop.token_ids, ElementsAre(8));
  EXPECT_TRUE(spec.stop.include_stop_in_output);
  EXPECT_TRUE(spec.stop.ignore_eos);
  EXPECT_EQ(spec.stop.time_limit, absl::Seconds(3));
  EXPECT_FALSE(spec.output.text);
  EXPECT_TRUE(spec.output.token_ids);
  EXPECT_TRUE(spec.output.echo);
  EXPECT_FALSE(spec.output.skip_special_tokens);
  EXPECT_EQ(spec.sampling.logprobs->top_n, 4);
  EXPECT_THAT(spec.sampling.prompt_logprobs->token_ids, ElementsAre(6));
  EXPECT_EQ(spec.sampling.prompt_logprobs->start, 1);
  EXPECT_EQ(spec.scheduling.priority, -5);
  EXPECT_EQ(spec.scheduling.queue_timeout, absl::Seconds(4));
  EXPECT_TRUE(spec.cache.bypass_prefix_cache);
  EXPECT_EQ(spec.cache.salt, "salt");
  EXPECT_TRUE(converted->answer.timing);
  EXPECT_TRUE(converted->answer.usage_every_message);
  EXPECT_EQ(converted->answer.min_tokens_per_message, 2);
  EXPECT_EQ(converted->answer.min_interval, absl::Nanoseconds(1000));
}

TEST(ConvertTest, SeedIsDrawnWhenTheCallerGivesNone) {
  const RequestSpec first = SpecOf(TextRequest());
  const RequestSpec second = SpecOf(TextRequest());

  ASSERT_TRUE(first.sampling.seed.has_value());
  EXPECT_NE(first.sampling.seed, second.sampling.seed);
  EXPECT_LT(*first.sampling.seed, uint64_t{1} << 53);
}

TEST(ConvertTest, SeedZeroIsASeed) {
  v1::GenerateRequest request = TextRequest();
  request.mutable_sampling()->set_seed(0);

  EXPECT_EQ(SpecOf(request).sampling.seed, 0u);
}

TEST(ConvertTest, RequestWithoutInputIsRefused) {
  EXPECT_EQ(Outcome(v1::GenerateRequest()), Invalid("input"));
}

TEST(ConvertTest, EmptyInputsAreRefused) {
  v1::GenerateRequest text, tokens, chat;
  text.mutable_text();
  tokens.mutable_tokens();
  chat.mutable_chat();

  EXPECT_EQ(Outcome(text), Invalid("text.text"));
  EXPECT_EQ(Outcome(tokens), Invalid("tokens.ids"));
  EXPECT_EQ(Outcome(chat), Invalid("chat.messages"));
}

TEST(ConvertTest, TokenIdsOutsideTheLogitsAreRefused) {
  const auto outcome = [](uint32_t id) {
    v1::GenerateRequest request;
    request.mutable_tokens()->add_ids(1);
    request.mutable_tokens()->add_ids(id);
    return Outcome(request);
  };

  EXPECT_EQ(outcome(0), "ok");
  EXPECT_EQ(outcome(999), "ok");
  EXPECT_EQ(outcome(1000), Invalid("tokens.ids[1]"));
  EXPECT_EQ(outcome(0x7FFFFFFF), Invalid("tokens.ids[1]"));
  EXPECT_EQ(outcome(0x80000000), Invalid("tokens.ids[1]"));
  EXPECT_EQ(outcome(kMaxUint32), Invalid("tokens.ids[1]"));
}

struct FloatCase {
  const char* field;
  void (v1::SamplingParams::*set)(float);
  std::vector<float> good;
  std::vector<float> bad;
};

TEST(ConvertTest, FloatsAreCheckedAtTheirLimits) {
  const std::vector<FloatCase> cases = {
      {"sampling.temperature", &v1::SamplingParams::set_temperature, {0, -0.0f, 1e-45f, 2}, {-1e-45f, 2.001f, 1e38f}},
      {"sampling.top_p", &v1::SamplingParams::set_top_p, {1e-45f, 1}, {0, -0.5f, 1.001f}},
      {"sampling.min_p", &v1::SamplingParams::set_min_p, {0, 1}, {-0.001f, 1.001f}},
      {"sampling.repetition_penalty", &v1::SamplingParams::set_repetition_penalty, {0.001f, 10}, {0, -1, 10.01f}},
      {"sampling.frequency_penalty", &v1::SamplingParams::set_frequency_penalty, {-2, 0, 2}, {-2.01f, 2.01f}},
      {"sampling.presence_penalty", &v1::SamplingParams::set_presence_penalty, {-2, 0, 2}, {-2.01f, 2.01f}},
  };
  for (FloatCase test : cases) {
    test.bad.insert(test.bad.end(), {kNan, -kNan, kInfinity, -kInfinity});
    for (const float value : test.good) {
      EXPECT_EQ(OutcomeOf([&](auto& request) { (request.mutable_sampling()->*test.set)(value); }), "ok")
          << test.field << " " << value;
    }
    for (const float value : test.bad) {
      EXPECT_EQ(OutcomeOf([&](auto& request) { (request.mutable_sampling()->*test.set)(value); }), Invalid(test.field))
          << value;
    }
  }
}

TEST(ConvertTest, LogitBiasIsCheckedAtItsLimits) {
  const auto outcome = [](uint32_t id, float bias) {
    return OutcomeOf([&](auto& request) {
      v1::LogitBias* entry = request.mutable_sampling()->add_logit_bias();
      entry->set_token_id(id);
      entry->set_bias(bias);
    });
  };

  EXPECT_EQ(outcome(999, 100), "ok");
  EXPECT_EQ(outcome(999, -100), "ok");
  EXPECT_EQ(outcome(1000, 0), Invalid("sampling.logit_bias[0].token_id"));
  EXPECT_EQ(outcome(kMaxUint32, 0), Invalid("sampling.logit_bias[0].token_id"));
  for (const float bias : {kNan, kInfinity, -kInfinity, 100.1f, -100.1f}) {
    EXPECT_EQ(outcome(1, bias), Invalid("sampling.logit_bias[0].bias")) << bias;
  }
}

TEST(ConvertTest, IntegersAreCheckedAtTheirLimits) {
  const auto with_n = [](uint32_t n) { return OutcomeOf([&](auto& r) { r.mutable_sampling()->set_n(n); }); };
  const auto with_top_k = [](int32_t k) { return OutcomeOf([&](auto& r) { r.mutable_sampling()->set_top_k(k); }); };
  const auto with_max = [](uint32_t max) { return OutcomeOf([&](auto& r) { r.mutable_stop()->set_max_tokens(max); }); };
  const auto with_priority = [](int32_t p) {
    return OutcomeOf([&](auto& r) { r.mutable_scheduling()->set_priority(p); });
  };
  const auto with_logprobs = [](uint32_t n) {
    return OutcomeOf([&](auto& r) { r.mutable_output()->mutable_logprobs()->set_top_n(n); });
  };
  const auto with_truncate = [](uint32_t n) {
    return OutcomeOf([&](auto& r) { r.mutable_text()->set_truncate_to(n); });
  };

  EXPECT_EQ(with_n(16), "ok");
  for (const uint32_t n : {0u, 17u, 1'000'000'000u, kMaxUint32}) EXPECT_EQ(with_n(n), Invalid("sampling.n")) << n;
  for (const int32_t k : {-1, 0, 1, std::numeric_limits<int32_t>::max()}) EXPECT_EQ(with_top_k(k), "ok") << k;
  for (const int32_t k : {-2, std::numeric_limits<int32_t>::min()}) {
    EXPECT_EQ(with_top_k(k), Invalid("sampling.top_k")) << k;
  }
  EXPECT_EQ(with_max(1), "ok");
  for (const uint32_t max : {0u, 0x80000000u, kMaxUint32}) EXPECT_EQ(with_max(max), Invalid("stop.max_tokens")) << max;
  EXPECT_EQ(with_priority(-100), "ok");
  EXPECT_EQ(with_priority(100), "ok");
  EXPECT_EQ(with_priority(101), Invalid("scheduling.priority"));
  EXPECT_EQ(with_priority(std::numeric_limits<int32_t>::min()), Invalid("scheduling.priority"));
  EXPECT_EQ(with_logprobs(0), "ok");
  EXPECT_EQ(with_logprobs(20), "ok");
  EXPECT_EQ(with_logprobs(21), Invalid("output.logprobs.top_n"));
  EXPECT_EQ(with_logprobs(kMaxUint32), Invalid("output.logprobs.top_n"));
  EXPECT_EQ(with_truncate(1), "ok");
  EXPECT_EQ(with_truncate(0), Invalid("text.truncate_to"));
  EXPECT_EQ(with_truncate(kMaxUint32), Invalid("text.truncate_to"));
}

TEST(ConvertTest, IdListsAreCheckedAgainstTheLogits) {
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_stop()->add_token_ids(1000); }), Invalid("stop.token_ids[0]"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_stop()->add_token_ids(kMaxUint32); }), Invalid("stop.token_ids[0]"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_sampling()->add_allowed_token_ids(1000); }),
            Invalid("sampling.allowed_token_ids[0]"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_output()->mutable_logprobs()->mutable_only_ids()->add_ids(kMaxUint32); }),
            Invalid("output.logprobs.only_ids.ids[0]"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_output()->mutable_logprobs()->mutable_only_ids(); }),
            Invalid("output.logprobs.only_ids"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_output()->mutable_logprobs()->set_start(0); }),
            Invalid("output.logprobs.start"));
}

TEST(ConvertTest, StopTextsAreCheckedAtTheirLimits) {
  const auto with_strings = [](int count, size_t bytes) {
    return OutcomeOf([&](auto& r) {
      for (int i = 0; i < count; ++i) r.mutable_stop()->add_strings(std::string(bytes, 'x'));
    });
  };

  EXPECT_EQ(with_strings(16, 1024), "ok");
  EXPECT_EQ(with_strings(17, 1), Invalid("stop.strings"));
  EXPECT_EQ(with_strings(1, 0), Invalid("stop.strings[0]"));
  EXPECT_EQ(with_strings(1, 1025), Invalid("stop.strings[0]"));
  EXPECT_EQ(OutcomeOf([](auto& r) {
              r.mutable_stop()->set_max_tokens(3);
              r.mutable_stop()->set_min_tokens(4);
            }),
            Invalid("stop.min_tokens"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_sampling()->add_bad_words(""); }), Invalid("sampling.bad_words[0]"));
}

TEST(ConvertTest, DurationsAreCheckedAtTheirLimits) {
  const auto with_limit = [](int64_t seconds, int32_t nanos) {
    return OutcomeOf([&](auto& r) {
      r.mutable_stop()->mutable_time_limit()->set_seconds(seconds);
      r.mutable_stop()->mutable_time_limit()->set_nanos(nanos);
    });
  };

  EXPECT_EQ(with_limit(0, 1), "ok");
  EXPECT_EQ(with_limit(315'576'000'000, 0), "ok");
  EXPECT_EQ(with_limit(0, 0), Invalid("stop.time_limit"));
  EXPECT_EQ(with_limit(-1, 0), Invalid("stop.time_limit"));
  EXPECT_EQ(with_limit(1, -1), Invalid("stop.time_limit"));
  EXPECT_EQ(with_limit(0, 1'000'000'000), Invalid("stop.time_limit"));
  EXPECT_EQ(with_limit(std::numeric_limits<int64_t>::max(), 0), Invalid("stop.time_limit"));
  EXPECT_EQ(with_limit(std::numeric_limits<int64_t>::min(), 0), Invalid("stop.time_limit"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_scheduling()->mutable_queue_timeout(); }),
            Invalid("scheduling.queue_timeout"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_output()->mutable_stream()->mutable_min_interval()->set_seconds(11); }),
            Invalid("output.stream.min_interval"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_output()->mutable_stream()->mutable_min_interval()->set_nanos(-1); }),
            Invalid("output.stream.min_interval"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_output()->mutable_stream()->set_min_tokens_per_message(0); }),
            Invalid("output.stream.min_tokens_per_message"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_output()->mutable_stream()->set_min_tokens_per_message(4097); }),
            Invalid("output.stream.min_tokens_per_message"));
}

TEST(ConvertTest, TagsAreBounded) {
  const std::string long_tag(257, 'x');

  EXPECT_EQ(OutcomeOf([&](auto& r) { r.set_user(long_tag); }), Invalid("user"));
  EXPECT_EQ(OutcomeOf([&](auto& r) { r.mutable_cache()->set_salt(long_tag); }), Invalid("cache.salt"));
  EXPECT_EQ(OutcomeOf([&](auto& r) { r.mutable_scheduling()->set_session_id(long_tag); }),
            Invalid("scheduling.session_id"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.set_request_id("a\nb"); }), Invalid("request_id"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.set_request_id(std::string(129, 'a')); }), Invalid("request_id"));
}

TEST(ConvertTest, AllViolationsAreToldAtOnce) {
  v1::GenerateRequest request = TextRequest();
  request.mutable_stop()->set_max_tokens(kMaxUint32);
  request.mutable_sampling()->set_n(kMaxUint32);
  request.set_user(std::string(1000, 'x'));

  const absl::Status status = ToRequestSpec(request, kLimits).status();

  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  ASSERT_TRUE(detail.has_value());
  std::vector<std::string> fields;
  for (const auto& [field, description] : detail->violations) fields.push_back(field);
  EXPECT_THAT(fields, ElementsAre("stop.max_tokens", "sampling.n", "user"));
}

TEST(ConvertTest, NumbersBeyondTheEnginesTypesAreMeasuredByTheRealLimits) {
  v1::GenerateRequest request = TextRequest();
  request.mutable_sampling()->set_n(kMaxUint32);
  request.mutable_sampling()->add_logit_bias()->set_token_id(kMaxUint32);
  request.mutable_output()->mutable_logprobs()->set_top_n(kMaxUint32);

  const absl::Status status = ToRequestSpec(request, kLimits).status();

  EXPECT_THAT(GetErrorDetail(status)->violations,
              UnorderedElementsAre(Pair("sampling.n", "is 4294967295; must be 1..16"),
                                   Pair("sampling.logit_bias[0].token_id", "is 4294967295; must be 0..999"),
                                   Pair("output.logprobs.top_n", "is 4294967295; must be 0..20")));
}

TEST(ConvertTest, KeyThatASchemaHasTwiceIsNamed) {
  v1::GenerateRequest request = ChatRequest();
  v1::FunctionTool* function = request.mutable_chat()->add_tools()->mutable_function();
  function->set_name("f");

  // The same key in two objects is no duplicate.
  function->set_parameters_json_schema(R"({"a": {"type": "x"}, "b": [{"type": "y"}, {"type": "z"}]})");
  const absl::Status good = ToRequestSpec(request, kLimits).status();
  function->set_parameters_json_schema(R"({"properties": {"city": {}, "day": {}, "city": {}}})");
  const absl::Status bad = ToRequestSpec(request, kLimits).status();

  EXPECT_TRUE(good.ok()) << good;
  EXPECT_THAT(GetErrorDetail(bad)->violations,
              ElementsAre(Pair("chat.tools[0].function.parameters_json_schema",
                               "has the key 'city' twice in one object")));
}

TEST(ConvertTest, WhatIsNotJsonIsToldInWordsForCallers) {
  v1::GenerateRequest request = ChatRequest();
  request.mutable_chat()->add_tools()->mutable_function()->set_name("f");
  request.mutable_chat()->mutable_tools(0)->mutable_function()->set_parameters_json_schema("{\"a\": }");

  const absl::Status status = ToRequestSpec(request, kLimits).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("json.exception")));
}

TEST(ConvertTest, FeaturesOfLaterAreRefusedByName) {
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_structured()->set_structural_tag("{}"); }),
            Unsupported("structured.structural_tag"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.set_adapter("lora"); }), Unsupported("adapter"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_sampling()->set_typical_p(0.9f); }), Unsupported("sampling.typical_p"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_sampling()->set_typical_p(kNan); }), Unsupported("sampling.typical_p"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_sampling()->set_no_repeat_ngram_size(3); }),
            Unsupported("sampling.no_repeat_ngram_size"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_output()->mutable_stream()->set_progress(true); }),
            Unsupported("output.stream.progress"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_scheduling()->mutable_ttft_target(); }),
            Unsupported("scheduling.ttft_target"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_scheduling()->mutable_tpot_target(); }),
            Unsupported("scheduling.tpot_target"));
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_scheduling()->set_data_parallel_rank(0); }),
            Unsupported("scheduling.data_parallel_rank"));
}

TEST(ConvertTest, FeaturesOfLaterAreAcceptedWhenTheyAskForNothing) {
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_sampling()->set_typical_p(1); }), "ok");
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_sampling()->set_no_repeat_ngram_size(0); }), "ok");
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_sampling()->set_deterministic(false); }), "ok");
  EXPECT_EQ(OutcomeOf([](auto& r) { r.mutable_output()->mutable_stream()->set_progress(false); }), "ok");
}

TEST(ConvertTest, ExtraKeysBecomeSortedWarnings) {
  v1::GenerateRequest request = TextRequest();
  (*request.mutable_extra()->mutable_fields())["zeta"].set_bool_value(true);
  (*request.mutable_extra()->mutable_fields())["alpha"].set_number_value(1);

  const absl::StatusOr<ConvertedRequest> converted = ToRequestSpec(request, kLimits);

  ASSERT_TRUE(converted.ok()) << converted.status();
  ASSERT_EQ(converted->warnings.size(), 2u);
  EXPECT_EQ(converted->warnings[0].field(), "extra.alpha");
  EXPECT_EQ(converted->warnings[1].field(), "extra.zeta");
}

TEST(ConvertTest, TooManyExtraKeysAreRefused) {
  EXPECT_EQ(OutcomeOf([](auto& r) {
              for (int i = 0; i < 65; ++i) (*r.mutable_extra()->mutable_fields())[StrCat("k", i)];
            }),
            Invalid("extra"));
}

TEST(ConvertChatTest, MessagesTakeTheShapeThatTemplatesRead) {
  v1::GenerateRequest request = ChatRequest();
  v1::ChatInput& chat = *request.mutable_chat();
  chat.mutable_messages(0)->add_parts()->set_text("there");
  v1::Message* call = chat.add_messages();
  call->set_role(v1::ROLE_ASSISTANT);
  call->set_reasoning("thinking");
  v1::ToolCall* tool_call = call->add_tool_calls();
  tool_call->set_id("c1");
  tool_call->set_name("f");
  tool_call->set_arguments_json(R"({"z":1,"a":[2]})");
  v1::Message* answer = chat.add_messages();
  answer->set_role(v1::ROLE_TOOL);
  answer->set_tool_call_id("c1");
  answer->add_parts()->set_text("42");

  const RequestSpec spec = SpecOf(request);

  EXPECT_EQ(std::get<ChatInput>(spec.input).messages.dump(),
            R"([{"role":"user","content":"hi\nthere"},)"
            R"({"role":"assistant","content":null,"reasoning_content":"thinking",)"
            R"("tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":{"z":1,"a":[2]}}}]},)"
            R"({"role":"tool","content":"42","tool_call_id":"c1"}])");
  EXPECT_TRUE(std::get<ChatInput>(spec.input).tools.is_null());
  EXPECT_TRUE(std::get<ChatInput>(spec.input).add_generation_prompt);
}

TEST(ConvertChatTest, ToolsKeepTheOrderOfTheirSchema) {
  v1::GenerateRequest request = ChatRequest();
  v1::FunctionTool* function = request.mutable_chat()->add_tools()->mutable_function();
  function->set_name("get_weather");
  function->set_description("Weather");
  function->set_parameters_json_schema(R"({"type":"object","properties":{"z":{},"a":{}}})");

  const RequestSpec spec = SpecOf(request);

  EXPECT_EQ(std::get<ChatInput>(spec.input).tools.dump(),
            R"([{"type":"function","function":{"name":"get_weather","description":"Weather",)"
            R"("parameters":{"type":"object","properties":{"z":{},"a":{}}}}}])");
}

TEST(ConvertChatTest, ToolChoiceNoneKeepsToolsFromTheTemplate) {
  v1::GenerateRequest request = ChatRequest();
  request.mutable_chat()->add_tools()->mutable_function()->set_name("f");
  request.mutable_chat()->mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_NONE);

  EXPECT_TRUE(std::get<ChatInput>(SpecOf(request).input).tools.is_null());
}

TEST(ConvertChatTest, TemplateKwargsArriveSortedAndTyped) {
  v1::GenerateRequest request = ChatRequest();
  auto& fields = *request.mutable_chat()->mutable_template_kwargs()->mutable_fields();
  fields["enable_thinking"].set_bool_value(false);
  fields["budget"].set_number_value(3);
  fields["ratio"].set_number_value(0.5);
  fields["list"].mutable_list_value()->add_values()->set_string_value("x");
  fields["nothing"].set_null_value(google::protobuf::NULL_VALUE);
  request.mutable_chat()->set_reasoning_effort(v1::REASONING_EFFORT_LOW);

  const RequestSpec spec = SpecOf(request);

  EXPECT_EQ(std::get<ChatInput>(spec.input).template_kwargs.dump(),
            R"({"budget":3,"enable_thinking":false,"list":["x"],"nothing":null,"ratio":0.5,"reasoning_effort":"low"})");
}

TEST(ConvertChatTest, ContinueFinalMessageLeavesOutTheGenerationPrompt) {
  v1::GenerateRequest request = ChatRequest();
  request.mutable_chat()->set_continue_final_message(true);

  const RequestSpec spec = SpecOf(request);

  EXPECT_TRUE(std::get<ChatInput>(spec.input).continue_final_message);
  EXPECT_FALSE(std::get<ChatInput>(spec.input).add_generation_prompt);
}

TEST(ConvertChatTest, WrongConversationsAreRefused) {
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.mutable_messages(0)->set_role(v1::ROLE_UNSPECIFIED); }),
            Invalid("chat.messages[0].role"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.mutable_messages(0)->set_role(static_cast<v1::Role>(99)); }),
            Invalid("chat.messages[0].role"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.mutable_messages(0)->clear_parts(); }),
            Invalid("chat.messages[0].parts"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.mutable_messages(0)->add_parts(); }),
            Invalid("chat.messages[0].parts[1]"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.mutable_messages(0)->set_reasoning("x"); }),
            Invalid("chat.messages[0].reasoning"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.mutable_messages(0)->set_tool_call_id("x"); }),
            Invalid("chat.messages[0].tool_call_id"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.mutable_messages(0)->add_tool_calls(); }),
            Invalid("chat.messages[0].tool_calls"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.add_tools(); }), Invalid("chat.tools[0].function"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.add_tools()->mutable_function()->set_name("a b\n"); }),
            Invalid("chat.tools[0].function.name"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) {
              chat.add_tools()->mutable_function()->set_name("f");
              chat.mutable_tools(0)->mutable_function()->set_parameters_json_schema("[1]");
            }),
            Invalid("chat.tools[0].function.parameters_json_schema"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) {
              chat.add_tools()->mutable_function()->set_name("f");
              chat.mutable_tools(0)->mutable_function()->set_parameters_json_schema(std::string(100'000, '['));
            }),
            Invalid("chat.tools[0].function.parameters_json_schema"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) {
              chat.set_add_generation_prompt(true);
              chat.set_continue_final_message(true);
            }),
            Invalid("chat.continue_final_message"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { (*chat.mutable_template_kwargs()->mutable_fields())["messages"]; }),
            Invalid("chat.template_kwargs.messages"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) {
              (*chat.mutable_template_kwargs()->mutable_fields())["x"].set_number_value(std::nan(""));
            }),
            Invalid("chat.template_kwargs"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) {
              google::protobuf::Value* value = &(*chat.mutable_template_kwargs()->mutable_fields())["x"];
              for (int depth = 0; depth < 30; ++depth) value = value->mutable_list_value()->add_values();
            }),
            Invalid("chat.template_kwargs"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) {
              (*chat.mutable_template_kwargs()->mutable_fields())["x"].set_string_value(std::string(70'000, 'x'));
            }),
            Invalid("chat.template_kwargs"));
}

TEST(ConvertChatTest, FeaturesOfLaterAreRefusedByName) {
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.mutable_messages(0)->add_parts()->mutable_image()->set_url("x"); }),
            Unsupported("chat.messages[0].parts[1].image"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.mutable_messages(0)->add_parts()->mutable_video(); }),
            Unsupported("chat.messages[0].parts[1].video"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.set_chat_template("{{x}}"); }), Unsupported("chat.chat_template"));
}

TEST(ConvertChatTest, AChoiceOfToolsNeedsTheTool) {
  EXPECT_EQ(OutcomeOfChat([](auto& chat) { chat.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_REQUIRED); }),
            Invalid("chat.tool_choice"));
  EXPECT_EQ(OutcomeOfChat([](auto& chat) {
              chat.add_tools()->mutable_function()->set_name("f");
              chat.mutable_tool_choice()->set_function_name("g");
            }),
            Invalid("chat.tool_choice.function_name"));
}

TEST(ConvertChatTest, TellsHowToolsMayBeUsed) {
  v1::ChatInput chat;
  chat.add_messages()->set_role(v1::ROLE_USER);
  chat.mutable_messages(0)->add_parts()->set_text("hi");
  for (const char* name : {"f", "g"}) chat.add_tools()->mutable_function()->set_name(name);
  EXPECT_FALSE(ToChatInput(chat)->tool_use.is_required);

  chat.mutable_tools(1)->mutable_function()->set_strict(true);
  chat.set_parallel_tool_calls(false);
  chat.mutable_tool_choice()->set_function_name("g");
  const ToolUse use = ToChatInput(chat)->tool_use;

  EXPECT_TRUE(use.is_required);
  EXPECT_TRUE(use.is_single);
  EXPECT_EQ(use.only_tool, "g");
  EXPECT_THAT(use.strict_tools, ElementsAre("g"));
}

TEST(ConvertChatTest, UnknownEnumsOfOptionalFieldsMeanNotGiven) {
  EXPECT_EQ(OutcomeOfChat([](auto& chat) {
              chat.set_reasoning_effort(static_cast<v1::ReasoningEffort>(99));
              chat.mutable_tool_choice()->set_mode(static_cast<v1::ToolChoice::Mode>(99));
            }),
            "ok");
}

TEST(ConvertEventTest, StopMatchTellsWhatEndedTheCandidate) {
  v1::Finished by_eos, by_text, by_id, by_limit;

  FillFinished({.reason = FinishReason::kStop, .stop_token = 256}, &by_eos);
  FillFinished({.reason = FinishReason::kStopSequence, .stop_string = "END"}, &by_text);
  FillFinished({.reason = FinishReason::kStopSequence, .stop_token = 8}, &by_id);
  FillFinished({.reason = FinishReason::kMaxTokens, .stop_token = 8}, &by_limit);

  EXPECT_EQ(by_eos.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(by_eos.stop_match().eos_token_id(), 256u);
  EXPECT_EQ(by_text.finish_reason(), v1::FINISH_REASON_STOP_SEQUENCE);
  EXPECT_EQ(by_text.stop_match().text(), "END");
  EXPECT_EQ(by_id.stop_match().token_id(), 8u);
  EXPECT_FALSE(by_limit.has_stop_match());
}

TEST(ConvertEventTest, LogprobsCarryTextAndBytes) {
  const ByteTokenizer tokenizer;
  DeltaEvent event;
  event.num_tokens = 1;
  event.logprobs.push_back({.token = 0xE4, .logprob = -0.5f, .rank = 2, .top = {{97, -0.25f}}});
  v1::Delta delta;

  FillDelta(std::move(event), &tokenizer, &delta);

  ASSERT_EQ(delta.logprobs_size(), 1);
  EXPECT_EQ(delta.logprobs(0).text(), "\xEF\xBF\xBD");
  EXPECT_EQ(delta.logprobs(0).text_bytes(), "\xE4");
  EXPECT_EQ(delta.logprobs(0).logprob(), -0.5f);
  EXPECT_EQ(delta.logprobs(0).rank(), 2u);
  EXPECT_EQ(delta.logprobs(0).top(0).token_id(), 97u);
  EXPECT_EQ(delta.logprobs(0).top(0).text(), "a");
}

TEST(ConvertEventTest, PiecesOfCallsAreJoined) {
  v1::Candidate candidate;
  DeltaEvent first{.reasoning = "so"};
  first.tool_calls = {{.index = 0, .id = "call_0", .name = "f", .arguments = "{"}};
  DeltaEvent second;
  second.tool_calls = {{.index = 0, .arguments = "}"}, {.index = 1, .id = "call_1", .name = "g", .arguments = "{}"}};

  AppendDelta(std::move(first), nullptr, &candidate);
  AppendDelta(std::move(second), nullptr, &candidate);

  EXPECT_EQ(candidate.reasoning(), "so");
  ASSERT_EQ(candidate.tool_calls_size(), 2);
  EXPECT_EQ(candidate.tool_calls(0).id(), "call_0");
  EXPECT_EQ(candidate.tool_calls(0).arguments_json(), "{}");
  EXPECT_EQ(candidate.tool_calls(1).name(), "g");
  EXPECT_EQ(candidate.tool_calls(1).index(), 1u);
}

TEST(StatusTest, TextsAreMadeValidAndCut) {
  EXPECT_EQ(ToValidUtf8("caf\xC3\xA9"), "caf\xC3\xA9");
  EXPECT_EQ(ToValidUtf8("a\xFFz"), "a\xEF\xBF\xBDz");
  EXPECT_EQ(ToValidUtf8("\xED\xA0\x80", 100), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  EXPECT_EQ(ToValidUtf8("\xC0\xAF", 3), "\xEF\xBF\xBD");                                // overlong
  EXPECT_EQ(ToValidUtf8("caf\xC3\xA9", 4), "caf");
  EXPECT_EQ(ToValidUtf8("\xF0\x9F\x98\x80"), "\xF0\x9F\x98\x80");
}

TEST(StatusTest, CodesArriveOneToOneWithExactlyOneErrorInfo) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "why");

    const grpc::Status wire = ToGrpcStatus(status);

    google::rpc::Status details;
    ASSERT_TRUE(details.ParseFromString(wire.error_details()));
    int num_infos = 0;
    for (const auto& any : details.details()) num_infos += any.Is<google::rpc::ErrorInfo>();
    EXPECT_EQ(static_cast<int>(wire.error_code()), code);
    EXPECT_EQ(wire.error_message(), "why");
    EXPECT_EQ(details.code(), code);
    EXPECT_EQ(num_infos, 1) << code;
    EXPECT_THAT(details.details(0).type_url(), "type.googleapis.com/google.rpc.ErrorInfo");
  }
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(StatusTest, TrailersFitWhatClientsAccept) {
  ErrorDetail detail{.reason = "INVALID_PARAMETER", .retry_delay = absl::InfiniteDuration()};
  const std::string wide(100'000, '\xE4');
  for (int i = 0; i < 50; ++i) {
    detail.violations.emplace_back(wide, wide);
    detail.metadata.emplace_back(StrCat(i, wide), wide);
  }

  const grpc::Status wire = ToGrpcStatus(MakeError(absl::StatusCode::kInvalidArgument, wide, detail));

  // Base64 adds a third; characters outside ASCII triple in grpc-message.
  EXPECT_LT(wire.error_details().size() * 4 / 3 + wire.error_message().size() * 3, 8u << 10);
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(wire.error_details()));
}

TEST(StatusTest, MissingReasonIsGuessedFromTheCode) {
  EXPECT_EQ(ErrorReasonOf(absl::InternalError("x")), "INTERNAL_ERROR");
  EXPECT_EQ(ErrorReasonOf(absl::CancelledError("x")), "CLIENT_CANCELLED");
  EXPECT_EQ(ErrorReasonOf(absl::DeadlineExceededError("x")), "DEADLINE");
  EXPECT_EQ(ErrorReasonOf(absl::OkStatus()), "");
}

}  // namespace
}  // namespace expertd
