#include "clients/rest_shim/errors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace expertd::rest {
namespace {

// A status as the server sends it.
grpc::Status WithDetails(grpc::StatusCode code, const std::string& reason, const std::string& field = "",
                         int retry_seconds = 0) {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  details.add_details()->PackFrom(info);
  if (!field.empty()) {
    google::rpc::BadRequest bad_request;
    bad_request.add_field_violations()->set_field(field);
    details.add_details()->PackFrom(bad_request);
  }
  if (retry_seconds > 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(retry_seconds);
    details.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, "what went wrong", details.SerializeAsString());
}

// The value of a header; "" when there is none.
std::string Header(const HttpResponse& response, std::string_view name) {
  for (const auto& [known, value] : response.headers) {
    if (known == name) return value;
  }
  return "";
}

TEST(RestErrorsTest, EachCodeHasItsHttpStatus) {
  const std::tuple<grpc::StatusCode, const char*, int> kCases[] = {
      {grpc::StatusCode::INVALID_ARGUMENT, "INVALID_PARAMETER", 400},
      {grpc::StatusCode::INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED", 400},
      {grpc::StatusCode::UNIMPLEMENTED, "UNSUPPORTED_FEATURE", 400},
      {grpc::StatusCode::FAILED_PRECONDITION, "UNSUPPORTED_FEATURE", 400},
      {grpc::StatusCode::NOT_FOUND, "MODEL_NOT_FOUND", 404},
      {grpc::StatusCode::ALREADY_EXISTS, "DUPLICATE_REQUEST_ID", 400},
      {grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", 429},
      {grpc::StatusCode::RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", 413},
      {grpc::StatusCode::RESOURCE_EXHAUSTED, "", 413},
      {grpc::StatusCode::DEADLINE_EXCEEDED, "QUEUE_TIMEOUT", 503},
      {grpc::StatusCode::DEADLINE_EXCEEDED, "DEADLINE", 504},
      {grpc::StatusCode::CANCELLED, "ABORTED_BY_ADMIN", 499},
      {grpc::StatusCode::CANCELLED, "", 503},
      {grpc::StatusCode::UNAVAILABLE, "DRAINING", 503},
      {grpc::StatusCode::INTERNAL, "ENGINE_FAILURE", 500},
      {grpc::StatusCode::UNAUTHENTICATED, "API_KEY_INVALID", 401}};
  for (const auto& [code, reason, status] : kCases) {
    EXPECT_EQ(RestErrorOf(WithDetails(code, reason)).status, status) << reason;
  }
}

TEST(RestErrorsTest, TheBodyIsOpenAIs) {
  const RestError error = RestErrorOf(
      WithDetails(grpc::StatusCode::INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED", "sampling.top_p"));

  EXPECT_EQ(DumpJson(ErrorJson(error)),
            R"({"error":{"message":"what went wrong","type":"invalid_request_error","param":"top_p",)"
            R"("code":"context_length_exceeded"}})");
}

TEST(RestErrorsTest, FieldsHaveTheNamesOfTheJson) {
  const auto param = [](const std::string& field) {
    return RestErrorOf(WithDetails(grpc::StatusCode::INVALID_ARGUMENT, "INVALID_PARAMETER", field)).param;
  };

  EXPECT_EQ(param("sampling.temperature"), "temperature");
  EXPECT_EQ(param("stop.strings[3]"), "stop[3]");
  EXPECT_EQ(param("stop.max_tokens"), "max_tokens");
  EXPECT_EQ(param("text.text"), "prompt");
  EXPECT_EQ(param("texts"), "texts");
  EXPECT_EQ(param("tokens.ids[2]"), "prompt[2]");
  EXPECT_EQ(param("chat.template_kwargs.a"), "chat_template_kwargs.a");
  EXPECT_EQ(param("structured.regex"), "structured_outputs.regex");
  EXPECT_EQ(param("structured.json_schema"), "response_format");
  EXPECT_EQ(param("chat.messages[0].role"), "messages[0].role");
  EXPECT_EQ(param("chat.messages[0].parts"), "messages[0].content");
  EXPECT_EQ(param("chat.messages[0].parts[1].image"), "messages[0].content[1].image_url");
  EXPECT_EQ(param("chat.messages[2].tool_calls[1].arguments_json"),
            "messages[2].tool_calls[1].function.arguments");
  EXPECT_EQ(param("chat.messages[2].tool_calls"), "messages[2].tool_calls");
  EXPECT_EQ(param("chat.tools[0].function.parameters_json_schema"), "tools[0].function.parameters");
}

TEST(RestErrorsTest, MessagesHaveTheNamesOfTheJsonToo) {
  grpc::Status status = WithDetails(grpc::StatusCode::INVALID_ARGUMENT, "INVALID_PARAMETER", "text.text");
  status = grpc::Status(status.error_code(), "text.text is empty", status.error_details());

  EXPECT_EQ(RestErrorOf(status).message, "prompt is empty");
}

TEST(RestErrorsTest, RetryInfoBecomesHeaders) {
  const HttpResponse response = ErrorResponse(
      RestErrorOf(WithDetails(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", "", /*retry_seconds=*/2)));

  EXPECT_EQ(Header(response, "retry-after"), "2");
  EXPECT_EQ(Header(response, "retry-after-ms"), "2000");
  EXPECT_EQ(Header(response, "x-should-retry"), "");
}

TEST(RestErrorsTest, WhatWouldFailAgainIsNotToBeRetried) {
  const HttpResponse response =
      ErrorResponse(RestErrorOf(WithDetails(grpc::StatusCode::INTERNAL, "INTERNAL_ERROR")));

  EXPECT_EQ(Header(response, "x-should-retry"), "false");
}

TEST(RestErrorsTest, AnErrorOfTheJsonNamesItsField) {
  const RestError error = RestErrorOf(InvalidField("messages[0].role", "is missing"));

  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(error.param, "messages[0].role");
  EXPECT_EQ(error.message, "messages[0].role is missing");
}

TEST(RestErrorsTest, TheReasonPhraseCannotForgeAHeader) {
  RestError error;
  error.message = "bad\r\nset-cookie: x";

  EXPECT_EQ(ErrorResponse(error).reason, "bad??set-cookie: x");
}

}  // namespace
}  // namespace expertd::rest
