// The whole gRPC server over a FakeEngine, called through a real connection on the loopback interface.
#include "server/server.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "expertd/v1/control.grpc.pb.h"
#include "expertd/v1/inference.grpc.pb.h"
#include "expertd/v1/model.grpc.pb.h"
#include "expertd/v1/tokenizer.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/call_gate.h"
#include "tests/support/fake_engine.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using HealthResponse = grpc::health::v1::HealthCheckResponse;

// Records what the server reports, and lets a test wait for it.
class RecordingObserver final : public RpcObserver {
 public:
  void OnRpcStarted(std::string_view) override {}
  void OnRpcFinished(std::string_view method, absl::StatusCode code, std::string_view reason, absl::Duration) override {
    absl::MutexLock lock(&mutex_);
    finished_.push_back(StrCat(method, " ", absl::StatusCodeToString(code), " ", reason));
  }
  void OnStreamOpened() override {
    absl::MutexLock lock(&mutex_);
    ++num_open_;
  }
  void OnStreamClosed() override {
    absl::MutexLock lock(&mutex_);
    --num_open_;
  }
  void OnStreamMessage(int num_merged) override {
    absl::MutexLock lock(&mutex_);
    num_merged_ += num_merged;
  }
  void OnValidated(absl::Duration) override {}
  void OnBackpressure(absl::Duration) override {
    absl::MutexLock lock(&mutex_);
    ++num_backpressure_;
  }

  bool AwaitFinished(const std::string& line) {
    absl::MutexLock lock(&mutex_);
    const auto came = [&] { return std::find(finished_.begin(), finished_.end(), line) != finished_.end(); };
    return mutex_.AwaitWithTimeout(absl::Condition(&came), FakeEngine::kPatience);
  }
  bool AwaitNoOpenStream() {
    absl::MutexLock lock(&mutex_);
    const auto none = [&] { return num_open_ == 0; };
    return mutex_.AwaitWithTimeout(absl::Condition(&none), FakeEngine::kPatience);
  }
  int num_merged() {
    absl::MutexLock lock(&mutex_);
    return num_merged_;
  }
  int num_backpressure() {
    absl::MutexLock lock(&mutex_);
    return num_backpressure_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::string> finished_;
  int num_open_ = 0, num_merged_ = 0, num_backpressure_ = 0;
};

// What a stream brought, in short.
struct StreamResult {
  std::vector<std::string> events;  // "accepted", "prompt", "delta:TEXT", "finished", "summary"
  std::string text;
  grpc::Status status;
  v1::Accepted accepted;
  v1::Summary summary;
};

StreamResult ReadAll(grpc::ClientReader<v1::StreamGenerateResponse>& reader) {
  StreamResult result;
  v1::StreamGenerateResponse response;
  while (reader.Read(&response)) {
    switch (response.event_case()) {
      case v1::StreamGenerateResponse::kAccepted:
        result.accepted = response.accepted();
        result.events.push_back("accepted");
        break;
      case v1::StreamGenerateResponse::kPrompt: result.events.push_back("prompt"); break;
      case v1::StreamGenerateResponse::kDelta:
        result.events.push_back("delta:" + response.delta().text());
        result.text += response.delta().text();
        break;
      case v1::StreamGenerateResponse::kFinished: result.events.push_back("finished"); break;
      case v1::StreamGenerateResponse::kSummary:
        result.summary = response.summary();
        result.events.push_back("summary");
        break;
      default: result.events.push_back("?");
    }
  }
  result.status = reader.Finish();
  return result;
}

// The detail of type T in the status; a default one when there is none.
template <typename T>
T DetailOf(const grpc::Status& status) {
  google::rpc::Status wire;
  EXPECT_TRUE(wire.ParseFromString(status.error_details()));
  T detail;
  for (const auto& any : wire.details()) {
    if (any.Is<T>()) any.UnpackTo(&detail);
  }
  return detail;
}

std::string ReasonOf(const grpc::Status& status) { return DetailOf<google::rpc::ErrorInfo>(status).reason(); }

v1::GenerateRequest TextRequest(const std::string& id, const std::string& text = "hi") {
  v1::GenerateRequest request;
  request.mutable_text()->set_text(text);
  request.set_request_id(id);
  return request;
}

class ServerTest : public ::testing::Test {
 protected:
  void StartServer(ServerConfig config = {}) {
    StartWithoutEngine(std::move(config));
    server_->SetEngine(&engine_);
  }

  void StartWithoutEngine(ServerConfig config = {}) {
    config.listen_addresses = {"127.0.0.1:0"};
    auto server = Server::Start(config, &observer_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // no connection of an earlier test
    channel_ = grpc::CreateCustomChannel(server_->addresses()[0], grpc::InsecureChannelCredentials(), arguments);
    inference_ = v1::InferenceService::NewStub(channel_);
    health_ = grpc::health::v1::Health::NewStub(channel_);
  }

  ~ServerTest() override {
    engine_.UnblockSubmit();
    server_.reset();
  }

  StreamResult Stream(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    const auto reader = inference_->StreamGenerate(&context, request);
    return ReadAll(*reader);
  }

  grpc::Status Generate(const v1::GenerateRequest& request, v1::GenerateResponse* response) {
    grpc::ClientContext context;
    return inference_->Generate(&context, request, response);
  }

  std::string Health(const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthResponse response;
    const grpc::Status status = health_->Check(&context, request, &response);
    if (!status.ok()) return StrCat("code ", static_cast<int>(status.error_code()));
    return HealthResponse::ServingStatus_Name(response.status());
  }

  FakeEngine engine_;
  RecordingObserver observer_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::InferenceService::Stub> inference_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

TEST_F(ServerTest, StreamSendsEventsInTheOrderOfTheContract) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);

  engine_.Push("a", PromptEvent{.num_prompt_tokens = 3, .num_cached_tokens = 2});
  engine_.PushText("a", "Hello");
  engine_.Finish("a");
  const StreamResult result = ReadAll(*reader);

  EXPECT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_THAT(result.events, ElementsAre("accepted", "prompt", "delta:Hello", "finished", "summary"));
  EXPECT_EQ(result.accepted.id(), "a");
  EXPECT_EQ(result.accepted.model(), "fake");
  EXPECT_EQ(result.accepted.system_fingerprint(), "fake-1");
  EXPECT_TRUE(result.accepted.has_seed());
  EXPECT_EQ(result.summary.usage().prompt_tokens(), 3u);
  EXPECT_EQ(result.summary.usage().cached_prompt_tokens(), 2u);
  EXPECT_EQ(result.summary.usage().total_tokens(), 4u);
  EXPECT_EQ(result.summary.usage().reasoning_tokens(), 1u);
  EXPECT_FALSE(result.summary.has_timing());
}

TEST_F(ServerTest, AcceptedComesBeforeAnyOutput) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));

  v1::StreamGenerateResponse first;
  const bool has_first = reader->Read(&first);  // the engine has sent nothing yet
  engine_.Finish("a");
  ReadAll(*reader);

  ASSERT_TRUE(has_first);
  EXPECT_TRUE(first.has_accepted());
}

TEST_F(ServerTest, GenerateCollectsAllCandidates) {
  StartServer();
  engine_.AnswerAtOnce({"one ", "two"});
  v1::GenerateRequest request = TextRequest("a");
  request.mutable_sampling()->set_n(2);
  request.mutable_sampling()->set_seed(7);
  request.mutable_output()->set_timing(true);

  v1::GenerateResponse response;
  const grpc::Status status = Generate(request, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.candidates_size(), 2);
  EXPECT_EQ(response.candidates(0).text(), "one two");
  EXPECT_EQ(response.candidates(1).text(), "one two");
  EXPECT_EQ(response.candidates(1).index(), 1u);
  EXPECT_EQ(response.candidates(1).seed(), 8u);
  EXPECT_EQ(response.candidates(0).finish_reason(), v1::FINISH_REASON_MAX_TOKENS);
  EXPECT_EQ(response.candidates(0).num_tokens(), 2u);
  EXPECT_EQ(response.usage().completion_tokens(), 4u);
  EXPECT_EQ(response.usage().reasoning_tokens(), 1u);
  EXPECT_EQ(response.prompt().num_cached_tokens(), 2u);
  EXPECT_EQ(response.timing().queue().nanos(), 5'000'000);
}

TEST_F(ServerTest, DeltasAreHeldBackUntilMinTokensAreThere) {
  StartServer();
  v1::GenerateRequest request = TextRequest("a");
  request.mutable_output()->mutable_stream()->set_min_tokens_per_message(3);
  request.mutable_output()->mutable_stream()->set_usage_every_message(true);
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, request);
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);
  v1::StreamGenerateResponse response;

  for (const char* text : {"a", "b", "c"}) engine_.PushText("a", text);
  ASSERT_TRUE(reader->Read(&response) && response.has_accepted());
  ASSERT_TRUE(reader->Read(&response) && response.has_delta());
  engine_.PushText("a", "d");
  engine_.Finish("a");
  const StreamResult rest = ReadAll(*reader);

  EXPECT_EQ(response.delta().text(), "abc");
  EXPECT_EQ(response.delta().num_tokens(), 3u);
  EXPECT_EQ(response.delta().usage().completion_tokens(), 3u);
  EXPECT_EQ(observer_.num_merged(), 2);
  EXPECT_THAT(rest.events, ElementsAre("delta:d", "finished", "summary"));
}

TEST_F(ServerTest, HeldBackTokensGoOutWhenTheCandidateEnds) {
  StartServer();
  v1::GenerateRequest request = TextRequest("a");
  request.mutable_output()->mutable_stream()->set_min_tokens_per_message(100);
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, request);
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);

  engine_.PushText("a", "x");
  engine_.PushText("a", "y");
  engine_.Finish("a");
  const StreamResult result = ReadAll(*reader);

  EXPECT_THAT(result.events, ElementsAre("accepted", "delta:xy", "finished", "summary"));
}

TEST_F(ServerTest, HeldBackTokensGoOutBeforeAnError) {
  StartServer();
  v1::GenerateRequest request = TextRequest("a");
  request.mutable_output()->mutable_stream()->set_min_tokens_per_message(100);
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, request);
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);

  engine_.PushText("a", "x");
  engine_.Close("a", MakeError(absl::StatusCode::kUnavailable, "step failed", {.reason = "ENGINE_FAILURE"}));
  const StreamResult result = ReadAll(*reader);

  EXPECT_THAT(result.events, ElementsAre("accepted", "delta:x"));
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(result.status), "ENGINE_FAILURE");
}

TEST_F(ServerTest, MinIntervalSendsTheRestWhenItsTimeComes) {
  StartServer();
  v1::GenerateRequest request = TextRequest("a");
  request.mutable_output()->mutable_stream()->mutable_min_interval()->set_nanos(50'000'000);
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, request);
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);
  v1::StreamGenerateResponse response;

  engine_.PushText("a", "1");
  ASSERT_TRUE(reader->Read(&response) && response.has_accepted());
  ASSERT_TRUE(reader->Read(&response) && response.has_delta());
  EXPECT_EQ(response.delta().text(), "1");
  const absl::Time first = absl::Now();
  engine_.PushText("a", "2");
  engine_.PushText("a", "3");
  ASSERT_TRUE(reader->Read(&response) && response.has_delta());  // comes by the timer: nothing else happens
  const absl::Duration gap = absl::Now() - first;
  engine_.Finish("a");
  ReadAll(*reader);

  EXPECT_EQ(response.delta().text(), "23");
  EXPECT_GE(gap, absl::Milliseconds(20));
}

TEST_F(ServerTest, CancelOfAStreamAbortsItsRequest) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);

  context.TryCancel();
  const absl::Status aborted = engine_.AwaitAbort("a");
  const StreamResult result = ReadAll(*reader);

  EXPECT_EQ(aborted.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(GetErrorDetail(aborted)->reason, "CLIENT_CANCELLED");
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(observer_.AwaitFinished("expertd.v1.InferenceService/StreamGenerate CANCELLED CLIENT_CANCELLED"));
  EXPECT_TRUE(observer_.AwaitNoOpenStream());
}

TEST_F(ServerTest, CancelOfAUnaryCallAbortsItsRequest) {
  StartServer();
  grpc::ClientContext context;
  std::thread caller([&] {
    v1::GenerateResponse response;
    inference_->Generate(&context, TextRequest("a"), &response);
  });
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);

  context.TryCancel();
  const absl::Status aborted = engine_.AwaitAbort("a");
  caller.join();

  EXPECT_EQ(aborted.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(observer_.AwaitFinished("expertd.v1.InferenceService/Generate CANCELLED CLIENT_CANCELLED"));
}

TEST_F(ServerTest, CancelDuringSubmitAbortsAfterwards) {
  StartServer();
  engine_.BlockSubmit();
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  ASSERT_TRUE(engine_.AwaitBlocked(1));

  context.TryCancel();
  ReadAll(*reader);
  // The cancellation has reached the server once a later call on the same connection was answered.
  EXPECT_EQ(Health(""), "SERVING");
  engine_.UnblockSubmit();

  EXPECT_EQ(engine_.AwaitAbort("a").code(), absl::StatusCode::kCancelled);
}

TEST_F(ServerTest, DeadlineIsGivenToTheEngineAndEndsTheRequest) {
  StartServer();
  const absl::Time deadline = absl::Now() + absl::Milliseconds(200);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  const std::shared_ptr<const Request> request = engine_.AwaitRequest("a");
  ASSERT_NE(request, nullptr);

  const StreamResult result = ReadAll(*reader);

  // The wire carries the time that is left, so the server's deadline is later by the time of the way.
  EXPECT_GT(request->spec().scheduling.deadline, deadline - absl::Milliseconds(10));
  EXPECT_LT(request->spec().scheduling.deadline, deadline + absl::Seconds(10));
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  const absl::Status aborted = engine_.AwaitAbort("a");
  EXPECT_FALSE(aborted.ok());
}

TEST_F(ServerTest, WithoutADeadlineTheEngineSeesNone) {
  StartServer();
  engine_.AnswerAtOnce({"x"});

  Stream(TextRequest("a"));

  EXPECT_EQ(engine_.AwaitRequest("a")->spec().scheduling.deadline, absl::InfiniteFuture());
}

TEST_F(ServerTest, ReaderThatStallsIsEndedAndLearnsWhyWhenItComesBack) {
  ServerConfig config;
  config.stream_stall_timeout = absl::Seconds(1);
  StartServer(config);
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);

  engine_.PushText("a", std::string(32 << 20, 'x'));  // far beyond any window of flow control
  const absl::Status aborted = engine_.AwaitAbort("a");
  const StreamResult result = ReadAll(*reader);

  EXPECT_EQ(aborted.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << "the client's own 4 MiB limit";
  EXPECT_TRUE(observer_.AwaitFinished("expertd.v1.InferenceService/StreamGenerate ABORTED SLOW_CONSUMER"));
}

TEST_F(ServerTest, ReaderThatNeverComesBackIsReset) {
  ServerConfig config;
  config.stream_stall_timeout = absl::Milliseconds(100);
  StartServer(config);
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);

  engine_.PushText("a", std::string(32 << 20, 'x'));
  const absl::Status aborted = engine_.AwaitAbort("a");
  const bool is_closed = observer_.AwaitNoOpenStream();  // nothing was read meanwhile

  EXPECT_EQ(aborted.code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(is_closed);
  EXPECT_GE(observer_.num_backpressure(), 1);
  context.TryCancel();
  ReadAll(*reader);
}

TEST_F(ServerTest, DuplicateLiveIdIsRefusedWithItsReason) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);

  const StreamResult second = Stream(TextRequest("a"));
  engine_.Finish("a");
  const StreamResult first = ReadAll(*reader);

  EXPECT_EQ(second.status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(ReasonOf(second.status), "DUPLICATE_REQUEST_ID");
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(second.status).domain(), "expertd.inference");
  EXPECT_TRUE(first.status.ok());
  EXPECT_EQ(engine_.num_aborts(), 0);
}

TEST_F(ServerTest, RequestIdOfTheMetadataIsUsedAndEchoed) {
  StartServer();
  engine_.AnswerAtOnce({"x"});
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "trace-1");

  const auto reader = inference_->StreamGenerate(&context, TextRequest(""));
  const StreamResult result = ReadAll(*reader);

  EXPECT_EQ(result.accepted.id(), "trace-1");
  const auto echoed = context.GetServerInitialMetadata().find("x-request-id");
  ASSERT_NE(echoed, context.GetServerInitialMetadata().end());
  EXPECT_EQ(std::string(echoed->second.data(), echoed->second.size()), "trace-1");
}

TEST_F(ServerTest, UnusableRequestIdOfTheMetadataGivesAWarning) {
  StartServer();
  engine_.AnswerAtOnce({"x"});
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "Root=1;Self=2");
  v1::GenerateResponse response;

  const grpc::Status status = inference_->Generate(&context, TextRequest(""), &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.warnings_size(), 1);
  EXPECT_EQ(response.warnings(0).field(), "x-request-id");
  const auto echoed = context.GetServerInitialMetadata().find("x-request-id");
  ASSERT_NE(echoed, context.GetServerInitialMetadata().end());
  EXPECT_EQ(std::string(echoed->second.data(), echoed->second.size()), response.id());
}

TEST_F(ServerTest, UnknownExtraKeysAreWarnedOf) {
  StartServer();
  engine_.AnswerAtOnce({"x"});
  v1::GenerateRequest request = TextRequest("a");
  (*request.mutable_extra()->mutable_fields())["best_of"].set_number_value(2);

  const StreamResult result = Stream(request);

  ASSERT_EQ(result.accepted.warnings_size(), 1);
  EXPECT_EQ(result.accepted.warnings(0).field(), "extra.best_of");
}

TEST_F(ServerTest, UnknownModelIsNotFoundWithResourceInfo) {
  StartServer();
  v1::GenerateRequest request = TextRequest("a");
  request.set_model("gpt-4");

  const StreamResult result = Stream(request);

  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(result.status), "MODEL_NOT_FOUND");
  EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(result.status).resource_name(), "gpt-4");
  EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(result.status).resource_type(), "expertd.v1.Model");
}

TEST_F(ServerTest, BadFieldsAreNamedInBadRequest) {
  StartServer();
  v1::GenerateRequest request = TextRequest("a");
  request.mutable_sampling()->set_temperature(-1);
  request.mutable_sampling()->set_top_p(2);
  v1::GenerateResponse response;

  const grpc::Status status = Generate(request, &response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(status), "INVALID_PARAMETER");
  const auto bad_request = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_EQ(bad_request.field_violations_size(), 2);
  EXPECT_EQ(bad_request.field_violations(0).field(), "sampling.temperature");
  EXPECT_EQ(bad_request.field_violations(1).field(), "sampling.top_p");
  EXPECT_EQ(engine_.num_submitted(), 0);
}

TEST_F(ServerTest, FullQueueTellsWhenToRetry) {
  StartServer();
  ErrorDetail detail{.reason = "QUEUE_FULL", .retry_delay = absl::Milliseconds(2500)};
  detail.metadata = {{"limit", "max-num-queued-reqs"}};
  engine_.RefuseWith(MakeError(absl::StatusCode::kResourceExhausted, "2048 sequences wait", detail));

  const StreamResult result = Stream(TextRequest("a"));

  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto retry = DetailOf<google::rpc::RetryInfo>(result.status);
  EXPECT_EQ(retry.retry_delay().seconds(), 2);
  EXPECT_EQ(retry.retry_delay().nanos(), 500'000'000);
  const auto quota = DetailOf<google::rpc::QuotaFailure>(result.status);
  ASSERT_EQ(quota.violations_size(), 1);
  EXPECT_EQ(quota.violations(0).subject(), "max-num-queued-reqs");
}

TEST_F(ServerTest, CallsBeyondTheCapAreRefusedAtOnceAndHealthIsNot) {
  ServerConfig config;
  config.max_live_calls = 2;
  StartServer(config);
  grpc::ClientContext context_a, context_b;
  const auto reader_a = inference_->StreamGenerate(&context_a, TextRequest("a"));
  const auto reader_b = inference_->StreamGenerate(&context_b, TextRequest("b"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);
  ASSERT_NE(engine_.AwaitRequest("b"), nullptr);

  const StreamResult third = Stream(TextRequest("c"));
  const std::string health = Health("readiness");
  engine_.Finish("a");
  engine_.Finish("b");

  EXPECT_EQ(third.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(third.status), "TOO_MANY_CALLS");
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(third.status).metadata().at("limit"), "max-live-calls");
  EXPECT_EQ(health, "SERVING");
  EXPECT_TRUE(ReadAll(*reader_a).status.ok());
  EXPECT_TRUE(ReadAll(*reader_b).status.ok());
}

TEST_F(ServerTest, HealthIsAnsweredWhileAllWorkersAreBusy) {
  StartServer();
  engine_.BlockSubmit();
  grpc::ClientContext context_a, context_b;
  const auto reader_a = inference_->StreamGenerate(&context_a, TextRequest("a"));
  const auto reader_b = inference_->StreamGenerate(&context_b, TextRequest("b"));
  ASSERT_TRUE(engine_.AwaitBlocked(2));

  const std::string health = Health("liveness");
  engine_.UnblockSubmit();
  engine_.Finish("a");
  engine_.Finish("b");

  EXPECT_EQ(health, "SERVING");
  ReadAll(*reader_a);
  ReadAll(*reader_b);
}

TEST_F(ServerTest, LargePromptsLeaveAWorkerToOthers) {
  StartServer();
  engine_.BlockSubmit();
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::StreamGenerateResponse>>> readers;
  for (const std::string id : {"large-1", "large-2", "small"}) {
    const size_t size = id == "small" ? 10 : 1 << 20;
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(inference_->StreamGenerate(contexts.back().get(), TextRequest(id, std::string(size, 'x'))));
  }

  const bool small_runs_beside_one_large = engine_.AwaitBlocked(2);
  engine_.UnblockSubmit();
  for (const std::string id : {"large-1", "large-2", "small"}) engine_.Finish(id);

  EXPECT_TRUE(small_runs_beside_one_large);
  for (const auto& reader : readers) EXPECT_TRUE(ReadAll(*reader).status.ok());
}

TEST_F(ServerTest, TwoHundredStreamsRunAtOnce) {
  StartServer();
  constexpr int kNumStreams = 200;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::StreamGenerateResponse>>> readers;
  for (int i = 0; i < kNumStreams; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(inference_->StreamGenerate(contexts.back().get(), TextRequest(StrCat("s", i))));
  }
  for (int i = 0; i < kNumStreams; ++i) ASSERT_NE(engine_.AwaitRequest(StrCat("s", i)), nullptr);

  for (int step = 0; step < 20; ++step) {
    for (int i = 0; i < kNumStreams; ++i) engine_.PushText(StrCat("s", i), StrCat(i, ","));
  }
  for (int i = 0; i < kNumStreams; ++i) engine_.Finish(StrCat("s", i));

  for (int i = 0; i < kNumStreams; ++i) {
    std::string expected;
    for (int step = 0; step < 20; ++step) StrAppend(&expected, i, ",");
    const StreamResult result = ReadAll(*readers[i]);
    EXPECT_TRUE(result.status.ok()) << result.status.error_message();
    EXPECT_EQ(result.text, expected);
  }
  EXPECT_TRUE(observer_.AwaitNoOpenStream());
}

TEST_F(ServerTest, BeforeTheModelIsLoadedRequestsGetNotReadyAndHealthSaysSo) {
  StartWithoutEngine();

  const StreamResult result = Stream(TextRequest("a"));

  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(result.status), "NOT_READY");
  EXPECT_EQ(Health(""), "SERVING");
  EXPECT_EQ(Health("liveness"), "SERVING");
  EXPECT_EQ(Health("startup"), "NOT_SERVING");
  EXPECT_EQ(Health("readiness"), "NOT_SERVING");
}

TEST_F(ServerTest, HealthKnowsTheServicesAndNothingElse) {
  StartServer();

  EXPECT_EQ(Health("startup"), "SERVING");
  EXPECT_EQ(Health("readiness"), "SERVING");
  EXPECT_EQ(Health("expertd.v1.InferenceService"), "SERVING");
  EXPECT_EQ(Health("expertd.v1.TokenizerService"), "SERVING");
  EXPECT_EQ(Health("expertd.v1.ModelService"), "SERVING");
  EXPECT_EQ(Health("expertd.v1.ControlService"), "SERVING");
  EXPECT_EQ(Health("expertd.v2.InferenceService"), "code 5");
}

TEST_F(ServerTest, FailedEngineTurnsReadinessAndLivenessOff) {
  StartServer();

  engine_.SetUnhealthy();

  EXPECT_EQ(Health("readiness"), "NOT_SERVING");
  EXPECT_EQ(Health("liveness"), "NOT_SERVING");
  EXPECT_EQ(Health("startup"), "SERVING");
}

TEST_F(ServerTest, HealthWatchTellsOfEachChange) {
  StartWithoutEngine();
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("readiness");
  const auto watch = health_->Watch(&context, request);
  HealthResponse response;

  std::vector<int> states;
  ASSERT_TRUE(watch->Read(&response));
  states.push_back(response.status());
  server_->SetEngine(&engine_);
  ASSERT_TRUE(watch->Read(&response));
  states.push_back(response.status());
  engine_.SetUnhealthy();  // noticed by the server's own look at the engine
  ASSERT_TRUE(watch->Read(&response));
  states.push_back(response.status());
  context.TryCancel();
  watch->Finish();

  EXPECT_THAT(states, ElementsAre(HealthResponse::NOT_SERVING, HealthResponse::SERVING, HealthResponse::NOT_SERVING));
}

TEST_F(ServerTest, DrainLetsRunningRequestsEndAndRefusesNewOnes) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);
  grpc::ClientContext watch_context;
  grpc::health::v1::HealthCheckRequest health_request;
  health_request.set_service("readiness");
  const auto watch = health_->Watch(&watch_context, health_request);
  HealthResponse health;
  ASSERT_TRUE(watch->Read(&health));

  std::thread drain([&] { server_->Drain(absl::Seconds(20), absl::ZeroDuration()); });
  ASSERT_TRUE(watch->Read(&health));
  EXPECT_EQ(health.status(), HealthResponse::NOT_SERVING);
  // Readiness goes off before requests are refused, so the first may come too early: it is taken, and ends late.
  StreamResult refused;
  do {
    grpc::ClientContext refused_context;
    refused_context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(200)));
    refused = ReadAll(*inference_->StreamGenerate(&refused_context, TextRequest("b")));
  } while (refused.status.error_code() != grpc::StatusCode::UNAVAILABLE);
  StreamResult refused_inside;
  {
    grpc::ClientContext inside_context;
    const auto inside = v1::InferenceService::NewStub(server_->InProcessChannel());
    refused_inside = ReadAll(*inside->StreamGenerate(&inside_context, TextRequest("c")));
  }
  engine_.PushText("a", "end");
  engine_.Finish("a");
  const StreamResult running = ReadAll(*reader);
  drain.join();

  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused_inside.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(refused_inside.status), "DRAINING");
  EXPECT_TRUE(running.status.ok()) << running.status.error_message();
  EXPECT_EQ(running.text, "end");
}

TEST_F(ServerTest, DrainEndsWhatRunsLongerThanItsTimeout) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);
  engine_.PushText("a", "part");

  std::thread drain([&] { server_->Drain(absl::Milliseconds(50), absl::ZeroDuration()); });
  const StreamResult result = ReadAll(*reader);
  drain.join();

  EXPECT_EQ(result.text, "part");
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(result.status), "DRAINING");
}

TEST_F(ServerTest, ServerGoesAwayUnderRunningStreams) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);

  server_.reset();
  const StreamResult result = ReadAll(*reader);

  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_FALSE(engine_.AwaitAbort("a").ok());
}

class KeyedServerTest : public ServerTest {
 protected:
  void StartKeyed(ServerConfig config = {}) {
    config.api_key_file = ::testing::TempDir() + "/api_keys_" + std::to_string(getpid());
    std::ofstream(config.api_key_file) << "# team a\n0123456789abcdef\n\nfedcba9876543210 # team b\n";
    StartServer(config);
  }

  grpc::Status CallWith(const std::string& authorization) {
    grpc::ClientContext context;
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
    v1::GenerateResponse response;
    return inference_->Generate(&context, TextRequest(""), &response);
  }

  std::string Reflect(const std::string& authorization) {
    grpc::ClientContext context;
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
    const auto stub = grpc::reflection::v1::ServerReflection::NewStub(channel_);
    const auto stream = stub->ServerReflectionInfo(&context);
    stream->WritesDone();
    return stream->Finish().ok() ? "ok" : "refused";
  }
};

TEST_F(KeyedServerTest, OnlyCallersWithAKeyGetIn) {
  StartKeyed();
  engine_.AnswerAtOnce({"x"});

  EXPECT_TRUE(CallWith("Bearer 0123456789abcdef").ok());
  EXPECT_TRUE(CallWith("bearer fedcba9876543210").ok());
  EXPECT_EQ(CallWith("Bearer 0123456789abcdeX").error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(CallWith("0123456789abcdef").error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(CallWith("Bearer ").error_code(), grpc::StatusCode::UNAUTHENTICATED);
  const grpc::Status none = CallWith("");
  EXPECT_EQ(none.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(ReasonOf(none), "API_KEY_INVALID");
}

TEST_F(KeyedServerTest, HealthNeedsNoKeyAndReflectionDoes) {
  StartKeyed();

  EXPECT_EQ(Health("readiness"), "SERVING");
  EXPECT_EQ(Reflect(""), "refused");
  EXPECT_EQ(Reflect("Bearer 0123456789abcdef"), "ok");
}

TEST_F(KeyedServerTest, ReflectionCanBeOpened) {
  StartKeyed({.reflection_needs_key = false});

  EXPECT_EQ(Reflect(""), "ok");
}

TEST_F(ServerTest, ReflectionListsAllServicesAndResolvesErrorDetails) {
  StartServer();
  const auto stub = grpc::reflection::v1::ServerReflection::NewStub(channel_);
  grpc::ClientContext context;
  const auto stream = stub->ServerReflectionInfo(&context);
  grpc::reflection::v1::ServerReflectionRequest request;
  grpc::reflection::v1::ServerReflectionResponse response;

  std::vector<std::string> services;
  request.set_list_services("*");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  for (const auto& service : response.list_services_response().service()) services.push_back(service.name());
  std::vector<int> num_files;
  for (const std::string symbol : {"expertd.v1.InferenceService", "google.rpc.ErrorInfo", "google.rpc.Status",
                                   "grpc.health.v1.Health.Check"}) {
    request.set_file_containing_symbol(symbol);
    ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
    num_files.push_back(response.file_descriptor_response().file_descriptor_proto_size());
  }
  request.set_file_containing_symbol("expertd.v9.Nothing");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  const int error_code = response.error_response().error_code();
  stream->WritesDone();

  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_THAT(services, UnorderedElementsAre("expertd.v1.InferenceService", "expertd.v1.TokenizerService",
                                             "expertd.v1.ModelService", "expertd.v1.ControlService",
                                             "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                                             "grpc.reflection.v1alpha.ServerReflection"));
  EXPECT_THAT(num_files, ElementsAre(4, 2, 2, 1));
  EXPECT_EQ(error_code, static_cast<int>(grpc::StatusCode::NOT_FOUND));
}

TEST_F(ServerTest, ReflectionAnswersOldToolsToo) {
  StartServer();
  const auto stub = grpc::reflection::v1alpha::ServerReflection::NewStub(channel_);
  grpc::ClientContext context;
  const auto stream = stub->ServerReflectionInfo(&context);
  grpc::reflection::v1alpha::ServerReflectionRequest request;
  grpc::reflection::v1alpha::ServerReflectionResponse response;

  request.set_file_by_filename("expertd/v1/control.proto");
  const bool answered = stream->Write(request) && stream->Read(&response);
  stream->WritesDone();
  stream->Finish();

  ASSERT_TRUE(answered);
  EXPECT_EQ(response.file_descriptor_response().file_descriptor_proto_size(), 3);
}

TEST_F(ServerTest, TokenizeGivesIdsOffsetsAndPieces) {
  StartServer();
  const auto stub = v1::TokenizerService::NewStub(channel_);
  grpc::ClientContext context;
  v1::TokenizeRequest request;
  request.add_texts("a<|end|>");
  request.add_texts("");
  request.set_offsets(true);
  request.set_pieces(true);
  v1::TokenizeResponse response;

  const grpc::Status status = stub->Tokenize(&context, request, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.results_size(), 2);
  EXPECT_THAT(response.results(0).ids(), ElementsAre(97, 256, 256));
  EXPECT_THAT(response.results(0).pieces(), ElementsAre("a", "<|end|>", "<|end|>"));
  EXPECT_EQ(response.results(0).offsets(1).begin(), 1u);
  EXPECT_EQ(response.results(0).offsets(1).end(), 8u);
  EXPECT_THAT(response.results(1).ids(), ElementsAre(256));
  EXPECT_EQ(response.max_model_len(), 1024u);
}

TEST_F(ServerTest, DetokenizeRefusesIdsBeyondTheLogits) {
  StartServer();
  const auto stub = v1::TokenizerService::NewStub(channel_);
  v1::DetokenizeRequest request;
  request.add_sequences()->add_ids(104);
  request.mutable_sequences(0)->add_ids(105);
  v1::DetokenizeResponse response;
  grpc::ClientContext good_context, bad_context;

  const grpc::Status good = stub->Detokenize(&good_context, request, &response);
  request.mutable_sequences(0)->add_ids(512);
  v1::DetokenizeResponse unused;
  const grpc::Status bad = stub->Detokenize(&bad_context, request, &unused);

  ASSERT_TRUE(good.ok()) << good.error_message();
  EXPECT_THAT(response.texts(), ElementsAre("hi"));
  EXPECT_EQ(bad.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(DetailOf<google::rpc::BadRequest>(bad).field_violations(0).field(), "sequences[0].ids[2]");
}

TEST_F(ServerTest, RenderChatShowsThePrompt) {
  StartServer();
  const auto stub = v1::TokenizerService::NewStub(channel_);
  grpc::ClientContext context;
  v1::RenderChatRequest request;
  v1::Message* message = request.mutable_chat()->add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_parts()->set_text("hi");
  v1::RenderChatResponse response;

  const grpc::Status status = stub->RenderChat(&context, request, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.text(), "user: hi\n");
  EXPECT_THAT(response.token_ids(), IsEmpty());
}

TEST_F(ServerTest, ModelsAreListedWithWhatTheyCan) {
  StartServer();
  const auto stub = v1::ModelService::NewStub(channel_);
  grpc::ClientContext list_context, get_context;
  v1::ListModelsResponse list;
  v1::GetModelRequest wanted;
  wanted.set_name("other");
  v1::GetModelResponse unused;

  const grpc::Status listed = stub->ListModels(&list_context, {}, &list);
  const grpc::Status missing = stub->GetModel(&get_context, wanted, &unused);

  ASSERT_TRUE(listed.ok()) << listed.error_message();
  ASSERT_EQ(list.models_size(), 1);
  EXPECT_EQ(list.models(0).name(), "fake");
  EXPECT_EQ(list.models(0).max_model_len(), 1024u);
  EXPECT_TRUE(list.models(0).capabilities().chat_input());
  EXPECT_TRUE(list.models(0).capabilities().has_image_input());
  EXPECT_FALSE(list.models(0).capabilities().image_input());
  EXPECT_EQ(missing.error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServerTest, AbortRequestTellsWhatBecameOfEachId) {
  StartServer();
  const auto stub = v1::ControlService::NewStub(channel_);
  grpc::ClientContext live_context;
  const auto reader = inference_->StreamGenerate(&live_context, TextRequest("live"));
  ASSERT_NE(engine_.AwaitRequest("live"), nullptr);
  engine_.AnswerAtOnce({"x"});
  Stream(TextRequest("done"));
  v1::AbortRequestRequest request;
  for (const char* id : {"live", "done", "never"}) request.add_request_ids(id);
  request.set_reason("maintenance");
  v1::AbortRequestResponse response;
  grpc::ClientContext context;

  const grpc::Status status = stub->AbortRequest(&context, request, &response);
  const StreamResult result = ReadAll(*reader);

  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.results_size(), 3);
  EXPECT_EQ(response.results(0).outcome(), v1::ABORT_OUTCOME_ABORTED);
  EXPECT_EQ(response.results(1).outcome(), v1::ABORT_OUTCOME_ALREADY_FINISHED);
  EXPECT_EQ(response.results(2).outcome(), v1::ABORT_OUTCOME_NOT_FOUND_TOMBSTONED);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(ReasonOf(result.status), "ABORTED_BY_ADMIN");
  EXPECT_EQ(result.status.error_message(), "aborted: maintenance");
}

TEST_F(ServerTest, AbortRequestRefusesWhatIsNoId) {
  StartServer();
  const auto stub = v1::ControlService::NewStub(channel_);

  for (const std::string& id : {std::string(), std::string("   "), std::string(129, 'a'), std::string("a b"),
                                std::string("ünïcode")}) {
    v1::AbortRequestRequest request;
    request.add_request_ids("good");
    request.add_request_ids(id);
    v1::AbortRequestResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub->AbortRequest(&context, request, &response);

    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << id;
    EXPECT_EQ(DetailOf<google::rpc::BadRequest>(status).field_violations(0).field(), "request_ids[1]") << id;
  }
}

TEST_F(ServerTest, LoadIsToldOnceAndAgain) {
  StartServer();
  const auto stub = v1::ControlService::NewStub(channel_);
  grpc::ClientContext live_context;
  const auto reader = inference_->StreamGenerate(&live_context, TextRequest("a"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);
  grpc::ClientContext context, watch_context;
  v1::GetLoadResponse load;
  v1::WatchLoadRequest watch_request;
  watch_request.mutable_interval()->set_nanos(100'000'000);

  const grpc::Status status = stub->GetLoad(&context, {}, &load);
  const auto watch = stub->WatchLoad(&watch_context, watch_request);
  v1::WatchLoadResponse message;
  const bool came_at_once = watch->Read(&message);
  engine_.Finish("a");
  bool fell_idle = false;
  while (!fell_idle && watch->Read(&message)) fell_idle = message.load().ranks(0).num_running() == 0;
  watch_context.TryCancel();

  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(load.load().ranks(0).num_running(), 1u);
  EXPECT_TRUE(load.load().healthy());
  EXPECT_GE(load.load().num_live_calls(), 2u);
  EXPECT_TRUE(came_at_once);
  EXPECT_TRUE(fell_idle);
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ReadAll(*reader);
}

TEST_F(ServerTest, ServerInfoTellsTheModelAndTheProcess) {
  StartServer();
  const auto stub = v1::ControlService::NewStub(channel_);
  grpc::ClientContext context;
  v1::GetServerInfoResponse info;

  const grpc::Status status = stub->GetServerInfo(&context, {}, &info);

  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(info.model(), "fake");
  EXPECT_EQ(info.num_kv_blocks(), 100u);
  EXPECT_EQ(info.schema_revision(), 2u);
  EXPECT_FALSE(info.version().empty());
  EXPECT_THAT(info.git_commit(), ::testing::MatchesRegex("unknown|[0-9a-f]+(-dirty)?"));
  EXPECT_FALSE(info.instance_id().empty());
}

TEST_F(ServerTest, InProcessChannelTakesTheSamePath) {
  StartServer();
  engine_.AnswerAtOnce({"x"});
  const auto stub = v1::InferenceService::NewStub(server_->InProcessChannel());
  grpc::ClientContext context;
  const auto reader = stub->StreamGenerate(&context, TextRequest("a"));

  const StreamResult result = ReadAll(*reader);

  EXPECT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.text, "x");
}

TEST_F(ServerTest, SecondServerOnAPortIsRefused) {
  StartServer();
  ServerConfig config;
  config.listen_addresses = {server_->addresses()[0]};

  const auto second = Server::Start(config, nullptr);

  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ServerTest, MessagesAboveTheLimitAreRefused) {
  ServerConfig config;
  config.max_receive_message_bytes = 4096;
  StartServer(config);

  const StreamResult result = Stream(TextRequest("a", std::string(5000, 'x')));

  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(result.status), "MESSAGE_TOO_LARGE");
  EXPECT_FALSE(DetailOf<google::rpc::RetryInfo>(result.status).has_retry_delay());  // it would be of no use
  EXPECT_TRUE(
      observer_.AwaitFinished("expertd.v1.InferenceService/StreamGenerate RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE"));
  EXPECT_EQ(engine_.num_submitted(), 0);
}

// A call with bytes of the test's choice; of a stream the first message is dropped.
grpc::Status CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                     const std::string& text) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const grpc::Slice slice(text);
  const auto call = stub.PrepareUnaryCall(&context, "/" + method, grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  call->Finish(&answer, &status, nullptr);
  void* tag;
  bool ok;
  EXPECT_TRUE(queue.Next(&tag, &ok));
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  return status;
}

TEST_F(ServerTest, EveryMethodTellsAndCountsAMessageThatItCannotRead) {
  StartServer();

  for (const std::string method :
       {"expertd.v1.InferenceService/Generate", "expertd.v1.InferenceService/StreamGenerate",
        "expertd.v1.TokenizerService/Tokenize", "expertd.v1.TokenizerService/Detokenize",
        "expertd.v1.TokenizerService/RenderChat", "expertd.v1.ModelService/ListModels",
        "expertd.v1.ModelService/GetModel", "expertd.v1.ControlService/GetServerInfo",
        "expertd.v1.ControlService/GetLoad", "expertd.v1.ControlService/WatchLoad",
        "expertd.v1.ControlService/AbortRequest", "grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}) {
    const grpc::Status status = CallRaw(channel_, method, "\xFF\xFF\xFF");

    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
    EXPECT_EQ(ReasonOf(status), "INVALID_PARAMETER") << method;
    EXPECT_TRUE(observer_.AwaitFinished(StrCat(method, " INVALID_ARGUMENT INVALID_PARAMETER"))) << method;
  }
  EXPECT_EQ(engine_.num_submitted(), 0);
}

TEST_F(ServerTest, TextThatIsNotUtf8IsNamedInBadRequest) {
  StartServer();

  const grpc::Status status =
      CallRaw(channel_, "expertd.v1.InferenceService/StreamGenerate", std::string("\x12\x04\x0A\x02\xFF\xFE", 6));

  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const auto details = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_EQ(details.field_violations_size(), 1);
  EXPECT_EQ(details.field_violations(0).field(), "text.text");
  EXPECT_EQ(details.field_violations(0).description(), "is not UTF-8 at byte 0");
}

TEST_F(ServerTest, ShortMethodsTakeShortMessagesOnly) {
  StartServer();
  const std::string unknown_field = "\x7A\x80\x80\x60" + std::string(0x180000, 'x');

  const grpc::Status status = CallRaw(channel_, "expertd.v1.ControlService/GetLoad", unknown_field);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(status), "MESSAGE_TOO_LARGE");
}

TEST_F(ServerTest, CompressedRequestsAreReadAndUnpackedNoFurtherThanTheLimit) {
  ServerConfig config;
  config.max_receive_message_bytes = 1 << 20;
  StartServer(config);
  engine_.AnswerAtOnce({"x"});
  for (const grpc_compression_algorithm algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    grpc::ClientContext good_context, bad_context;
    good_context.set_compression_algorithm(algorithm);
    bad_context.set_compression_algorithm(algorithm);
    v1::GenerateResponse response;

    const v1::GenerateRequest fits = TextRequest("", std::string(900'000, 'y'));
    const v1::GenerateRequest bursts = TextRequest("", std::string(50 << 20, 'y'));  // 51 KiB on the wire
    const grpc::Status good = inference_->Generate(&good_context, fits, &response);
    const grpc::Status bad = inference_->Generate(&bad_context, bursts, &response);

    EXPECT_TRUE(good.ok()) << good.error_message();
    EXPECT_EQ(bad.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(ReasonOf(bad), "MESSAGE_TOO_LARGE");
  }
}

TEST_F(ServerTest, BytesOfRequestsBeyondTheBudgetAreRefusedUntilTheEngineHasTheOthers) {
  ServerConfig config;
  config.max_receive_message_bytes = 4096;
  config.max_live_request_bytes = 4096;
  StartServer(config);
  engine_.BlockSubmit();
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a", std::string(4080, 'x')));  // 4089 bytes
  ASSERT_TRUE(engine_.AwaitBlocked(1));

  const std::string health = Health("readiness");  // 11 bytes
  const StreamResult refused = Stream(TextRequest("b", std::string(3000, 'x')));
  engine_.UnblockSubmit();
  v1::StreamGenerateResponse accepted;
  ASSERT_TRUE(reader->Read(&accepted));  // from here on the engine has the first
  engine_.AnswerAtOnce({"x"});
  const StreamResult later = Stream(TextRequest("c", std::string(3000, 'x')));
  engine_.Finish("a");
  ReadAll(*reader);

  EXPECT_EQ(health, "SERVING");
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(refused.status), "TOO_MANY_BYTES");
  EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(refused.status).retry_delay().seconds(), 1);
  EXPECT_EQ(DetailOf<google::rpc::QuotaFailure>(refused.status).violations(0).subject(), "max-live-request-bytes");
  EXPECT_TRUE(observer_.AwaitFinished("expertd.v1.InferenceService/StreamGenerate RESOURCE_EXHAUSTED TOO_MANY_BYTES"));
  EXPECT_TRUE(later.status.ok()) << later.status.error_message();
}

TEST_F(ServerTest, AnswersAboveTheLimitEndTheCallAndItsRequest) {
  ServerConfig config;
  config.max_send_message_bytes = 1024;
  StartServer(config);
  grpc::ClientContext context;
  const auto reader = inference_->StreamGenerate(&context, TextRequest("a"));
  ASSERT_NE(engine_.AwaitRequest("a"), nullptr);

  engine_.PushText("a", std::string(2000, 'x'));
  const StreamResult streamed = ReadAll(*reader);
  const absl::Status aborted = engine_.AwaitAbort("a");
  engine_.AnswerAtOnce({std::string(2000, 'x')});
  v1::GenerateResponse response;
  const grpc::Status whole = Generate(TextRequest("b"), &response);

  EXPECT_THAT(streamed.events, ElementsAre("accepted"));
  EXPECT_EQ(streamed.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(streamed.status), "MESSAGE_TOO_LARGE");
  EXPECT_EQ(aborted.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(whole), "MESSAGE_TOO_LARGE");
}

TEST(CatchAllTest, WhatALibraryThrowsIsForTheLogOnly) {
  const absl::Status status =
      CatchAll([]() -> absl::Status { throw std::runtime_error("[json.exception.type_error.316] secret"); });

  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), ::testing::Not(::testing::HasSubstr("secret")));
}

}  // namespace
}  // namespace expertd
