#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "clients/run_batch/batch_files.h"
#include "clients/run_batch/batch_run.h"
#include "engine/base/json.h"
#include "engine/base/strings.h"

namespace expertd::batch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

std::string LineOf(std::string_view custom_id) {
  return StrCat(R"({"custom_id": ")", custom_id, R"(", "method": "POST", "url": "/v1/completions", "body": {"n": 1}})");
}

std::string ErrorOf(std::string_view line) { return std::string(ParseBatchRequest(line).status().message()); }

TEST(BatchRequestTest, IsReadOrRefused) {
  const auto request = ParseBatchRequest(LineOf("a"));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->custom_id, "a");
  EXPECT_EQ(request->body, R"({"n":1})");

  EXPECT_FALSE(ParseBatchRequest("{").ok());
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("object"));
  EXPECT_THAT(ErrorOf(R"({"custom_id": 1})"), HasSubstr("custom_id"));
  EXPECT_THAT(ErrorOf(R"({"custom_id": "a", "method": "GET"})"), HasSubstr("method"));
  EXPECT_THAT(ErrorOf(R"({"custom_id": "a", "method": "POST", "url": "/v1/models"})"), HasSubstr("/v1/models"));
  EXPECT_THAT(ErrorOf(R"({"custom_id": "a", "method": "POST", "url": "/v1/completions"})"), HasSubstr("body"));
  EXPECT_THAT(ErrorOf(R"({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"stream": true}})"),
              HasSubstr("stream"));
}

class BatchRunTest : public testing::Test {
 protected:
  void WriteInput(const std::vector<std::string>& ids) {
    std::ofstream file(input_path_);
    for (const std::string& id : ids) file << LineOf(id) << "\n\n";
  }

  // Runs the batch; requests are answered by `answer`, at once and on this thread.
  absl::Status Run(const std::function<rest::HttpResponse(const rest::HttpRequest&)>& answer,
                   const std::function<bool(const BatchProgress&)>& on_tick = [](const auto&) { return true; }) {
    auto output = BatchOutput::Open(output_path_);
    if (!output.ok()) return output.status();
    BatchRun run(
        *BatchInput::Open(input_path_), *std::move(output),
        [&](std::shared_ptr<rest::HttpExchange> exchange) {
          ++num_calls_;
          exchange->Send(answer(exchange->request()));
        },
        {.num_requests = num_requests_,
         .concurrency = 2,
         .patience = absl::Milliseconds(50),
         .first_retry_delay = absl::Milliseconds(1)});
    const absl::Status status = run.Run(on_tick);
    progress_ = run.progress();
    return status;
  }

  std::vector<std::string> AnsweredIds() const {
    std::vector<std::string> ids;
    std::ifstream file(output_path_);
    for (std::string line; std::getline(file, line);) ids.push_back((*ParseJson(line))["custom_id"]);
    return ids;
  }

  static rest::HttpResponse Good(const rest::HttpRequest&) {
    return {.headers = {{"x-request-id", "r"}}, .body = R"({"usage": {"completion_tokens": 3}})"};
  }

  const std::string input_path_ = testing::TempDir() + "/batch_in.jsonl";
  const std::string output_path_ = testing::TempDir() + "/batch_out.jsonl";
  int num_calls_ = 0;
  int64_t num_requests_ = 100;
  BatchProgress progress_;

  void SetUp() override { std::remove(output_path_.c_str()); }
};

TEST_F(BatchRunTest, EveryRequestGetsItsAnswer) {
  WriteInput({"a", "b", "c"});

  ASSERT_TRUE(Run(Good).ok());

  EXPECT_THAT(AnsweredIds(), UnorderedElementsAre("a", "b", "c"));
  EXPECT_EQ(progress_.num_answered, 3);
  EXPECT_EQ(progress_.num_output_tokens, 9);
}

TEST_F(BatchRunTest, AnErrorIsAnAnswer) {
  WriteInput({"a"});

  ASSERT_TRUE(Run([](const auto&) { return rest::HttpResponse{.status = 400, .body = R"({"error": {}})"}; }).ok());

  std::ifstream file(output_path_);
  std::stringstream text;
  text << file.rdbuf();
  const Json line = *ParseJson(text.str());
  EXPECT_EQ(line["response"]["status_code"], 400);
  EXPECT_TRUE(line["error"].is_null());
  EXPECT_EQ(progress_.num_refused, 1);
}

TEST_F(BatchRunTest, GoesOnWhereAnEarlierRunEnded) {
  WriteInput({"a", "b"});
  std::ofstream(output_path_) << R"({"custom_id": "a", "response": {}})" << "\n"
                              << R"({"id":"batch_x","custom_id": "b", "resp)";

  ASSERT_TRUE(Run(Good).ok());

  EXPECT_EQ(num_calls_, 1);
  EXPECT_THAT(AnsweredIds(), ElementsAre("a", "b"));
}

TEST_F(BatchRunTest, WhatIsTurnedAwayIsSentAgain) {
  WriteInput({"a"});

  const absl::Status status = Run([this](const rest::HttpRequest& request) {
    if (num_calls_ == 1) return rest::HttpResponse{.status = 503, .body = "{}"};
    if (num_calls_ == 2) return rest::HttpResponse{.status = 429, .headers = {{"retry-after-ms", "1"}}, .body = "{}"};
    EXPECT_EQ(request.body, R"({"n":1})");
    return Good(request);
  });

  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(num_calls_, 3);
  EXPECT_THAT(AnsweredIds(), ElementsAre("a"));
}

TEST_F(BatchRunTest, PatienceEnds) {
  WriteInput({"a", "b"});

  const absl::Status status =
      Run([](const auto&) { return rest::HttpResponse{.status = 503, .body = R"({"error": {"message": "gone"}})"}; });

  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("gone"));
  EXPECT_TRUE(AnsweredIds().empty());
}

TEST_F(BatchRunTest, PatienceBeginsWithTheFirstRefusal) {
  WriteInput({"a"});

  EXPECT_TRUE(Run([&](const rest::HttpRequest& request) {
    absl::SleepFor(absl::Milliseconds(80));  // longer than the patience
    return num_calls_ == 1 ? rest::HttpResponse{.status = 503, .body = "{}"} : Good(request);
  }).ok());
  EXPECT_EQ(AnsweredIds(), (std::vector<std::string>{"a"}));
}

TEST_F(BatchRunTest, WhatIsAppendedMeanwhileIsNotOfIt) {
  WriteInput({"a", "b", "c"});
  num_requests_ = 2;

  EXPECT_TRUE(Run(Good).ok());
  EXPECT_EQ(AnsweredIds(), (std::vector<std::string>{"a", "b"}));
}

TEST_F(BatchRunTest, AnOperatorsCancellationIsAnAnswer) {
  WriteInput({"a"});

  EXPECT_TRUE(Run([](const auto&) { return rest::HttpResponse{.status = 499, .body = "{}"}; }).ok());
  EXPECT_EQ(AnsweredIds(), (std::vector<std::string>{"a"}));
}

TEST_F(BatchRunTest, ALineWithoutEndIsRefused) {
  {
    std::ofstream file(input_path_);
    for (int i = 0; i < 33; ++i) file << std::string(1 << 20, 'x');
  }

  EXPECT_THAT(Run(Good).message(), HasSubstr("line 1: has more than 33554432 bytes"));
}

TEST_F(BatchRunTest, AWrongKeyEndsItWithoutAnAnswer) {
  WriteInput({"a", "b"});

  const absl::Status status = Run([](const auto&) { return rest::HttpResponse{.status = 401, .body = "{}"}; });

  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_TRUE(AnsweredIds().empty());
}

TEST_F(BatchRunTest, AnInterruptionCancelsWhatRuns) {
  WriteInput({"a"});
  std::vector<std::shared_ptr<rest::HttpExchange>> held;
  BatchRun run(
      *BatchInput::Open(input_path_), *BatchOutput::Open(output_path_),
      [&](std::shared_ptr<rest::HttpExchange> exchange) {
        exchange->SetOnGone([raw = exchange.get()] { raw->Send({.status = 499, .body = "{}"}); });
        held.push_back(std::move(exchange));
      },
      {});

  const absl::Status status = run.Run([](const BatchProgress& progress) { return progress.num_running == 0; });

  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(AnsweredIds().empty());
}

TEST_F(BatchRunTest, AForeignOutputAndOneInUseAreRefused) {
  WriteInput({"a"});
  std::ofstream(output_path_) << "precious notes\n";
  EXPECT_THAT(std::string(Run(Good).message()), HasSubstr("line 1 is no answer"));

  std::ofstream(output_path_) << "one line of notes";
  EXPECT_THAT(std::string(Run(Good).message()), HasSubstr("ends in what is no answer"));

  std::remove(output_path_.c_str());
  const auto held = BatchOutput::Open(output_path_);
  EXPECT_THAT(std::string(BatchOutput::Open(output_path_).status().message()), HasSubstr("another run"));
}

}  // namespace
}  // namespace expertd::batch
