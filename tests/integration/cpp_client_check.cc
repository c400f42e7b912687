// What the C++ client promises, against the server at argv[1]; argv[2] is an address where none listens. Built and run
// by cpp_client_test.py with the installed package.
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include "absl/time/clock.h"
#include "clients/cpp/inference_client.h"

namespace {

void Check(bool is_true, const std::string& what) {
  if (is_true) return;
  std::cerr << "FAILED: " << what << "\n";
  std::exit(1);
}

expertd::v1::GenerateRequest LongRequest() {
  auto request = expertd::TextRequest("Once");
  request.mutable_stop()->set_max_tokens(1500);
  request.mutable_stop()->set_ignore_eos(true);
  return request;
}

void CheckAnswers(expertd::InferenceClient& client) {
  auto request = expertd::TextRequest("Once upon a time");
  request.mutable_sampling()->set_seed(5);
  request.mutable_sampling()->set_n(2);
  request.mutable_stop()->set_max_tokens(20);
  request.mutable_output()->set_token_ids(true);
  const auto whole = client.Generate(request);
  Check(whole.ok(), "an answer: " + whole.status().ToString());
  std::string second;
  const auto streamed = client.Stream(request, [&](const expertd::v1::Delta& delta) {
    if (delta.index() == 1) second += delta.text();
    return true;
  });
  Check(streamed.ok() && second == whole->candidates(1).text(), "a stream makes the same text");
  for (int i = 0; i < 2; ++i) {
    Check(streamed->candidates(i).SerializeAsString() == whole->candidates(i).SerializeAsString(), "and all the rest");
  }
  const auto ids = client.Tokenize("你好");
  Check(ids.ok() && *client.Detokenize(*ids) == "你好", "tokens and back");
  Check(client.GetModel()->vocab_size() > 0 && !client.GetServerInfo()->version().empty(), "model and server");
}

void CheckEnds(expertd::InferenceClient& client) {
  const auto left = client.Stream(LongRequest(), [](const auto&) { return false; });
  Check(left.status().code() == absl::StatusCode::kCancelled, "a stream that is left: " + left.status().ToString());

  const expertd::CallCanceller canceller;
  std::thread other([&] {
    absl::SleepFor(absl::Milliseconds(50));
    canceller.Cancel();
  });
  const auto cancelled = client.Generate(LongRequest(), {.canceller = canceller});
  other.join();
  Check(cancelled.status().code() == absl::StatusCode::kCancelled, "a canceller");
  Check(client.Generate(LongRequest(), {.canceller = canceller}).status().code() == absl::StatusCode::kCancelled,
        "one that was used");

  const auto late = client.Generate(LongRequest(), {.timeout = absl::Milliseconds(100)});
  Check(late.status().code() == absl::StatusCode::kDeadlineExceeded, "a deadline: " + late.status().ToString());
  for (int i = 0; i < 500 && client.GetLoad()->ranks(0).num_running() > 0; ++i) absl::SleepFor(absl::Milliseconds(20));
  Check(client.GetLoad()->ranks(0).num_running() == 0, "nothing of it runs on");
}

void CheckErrors(expertd::InferenceClient& client, const std::string& nobody) {
  auto request = expertd::TextRequest("A");
  request.mutable_sampling()->set_temperature(9);
  const auto wrong = client.Generate(request).status();
  const expertd::CallError error = expertd::ErrorOf(wrong);
  Check(wrong.code() == absl::StatusCode::kInvalidArgument && error.reason == "INVALID_PARAMETER" &&
            error.violations.size() == 1 && error.violations[0].first == "sampling.temperature",
        "an error's reason and field: " + wrong.ToString());
  Check(client.GetModel("other").status().code() == absl::StatusCode::kNotFound, "an unknown model");

  const auto alone = expertd::InferenceClient::Create(
      {.target = nobody, .retry = {.attempts = 3, .initial = absl::Milliseconds(1)}});
  Check((*alone)->Generate(request).status().code() == absl::StatusCode::kUnavailable, "retries end");
  Check(!expertd::InferenceClient::Create({.api_key = "a\nb"}).ok(), "a key that can't be sent");
}

// Cancels its first calls as gRPC does while a server begins to stop, streams in their midst.
class StoppingServer final : public expertd::v1::InferenceService::Service {
 public:
  explicit StoppingServer(int num_cancelled) : num_left_(num_cancelled) {}

  grpc::Status Generate(grpc::ServerContext*, const expertd::v1::GenerateRequest*,
                        expertd::v1::GenerateResponse*) override {
    return num_left_-- > 0 ? grpc::Status::CANCELLED : grpc::Status::OK;
  }
  grpc::Status StreamGenerate(grpc::ServerContext*, const expertd::v1::GenerateRequest*,
                              grpc::ServerWriter<expertd::v1::StreamGenerateResponse>* writer) override {
    expertd::v1::StreamGenerateResponse event;
    event.mutable_accepted();
    writer->Write(event);
    return num_left_-- > 0 ? grpc::Status::CANCELLED : grpc::Status::OK;
  }

 private:
  std::atomic<int> num_left_;
};

void CheckServerThatStops() {
  const auto call = [](int num_cancelled, const auto& make_call) {
    StoppingServer service(num_cancelled);
    int port = 0;
    const auto server = grpc::ServerBuilder()
                            .AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port)
                            .RegisterService(&service)
                            .BuildAndStart();
    const auto client = expertd::InferenceClient::Create(
        {.target = "127.0.0.1:" + std::to_string(port), .retry = {.attempts = 3, .initial = absl::Milliseconds(1)}});
    return make_call(**client).status();
  };
  const auto generate = [](expertd::InferenceClient& client) { return client.Generate(expertd::TextRequest("A")); };
  const auto stream = [](expertd::InferenceClient& client) {
    return client.Stream(expertd::TextRequest("A"), [](const auto&) { return true; });
  };
  Check(call(2, generate).ok(), "what a server cancels that stops is tried again");
  Check(call(9, generate).code() == absl::StatusCode::kUnavailable, "and is unavailable in the end");
  Check(call(1, stream).code() == absl::StatusCode::kUnavailable, "as is a stream that has begun");
}

}  // namespace

int main(int, char** argv) {
  const auto client = expertd::InferenceClient::Create({.target = argv[1], .timeout = absl::Minutes(1)});
  CheckAnswers(**client);
  CheckEnds(**client);
  CheckErrors(**client, argv[2]);
  CheckServerThatStops();
  std::cout << "all held\n";
}
