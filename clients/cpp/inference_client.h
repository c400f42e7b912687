// InferenceClient: the client for C++ programs: whole answers and streams over the contract, with deadlines,
// cancellation, retries, and errors that say why. Needs the contract's messages, gRPC and abseil, nothing else of ours;
// `cmake --install` makes a package of it (clients/cpp/README.md).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "expertd/v1/control.grpc.pb.h"
#include "expertd/v1/inference.grpc.pb.h"
#include "expertd/v1/model.grpc.pb.h"
#include "expertd/v1/tokenizer.grpc.pb.h"

namespace expertd {

// When a call is tried again: on UNAVAILABLE alone, and a stream only before its first message. The pauses grow from
// `initial` by `factor` up to `maximum`, less a random part of up to a half; a pause that the server asks for counts.
// All attempts together take no longer than the call's timeout.
struct RetryPolicy {
  int attempts = 5;
  absl::Duration initial = absl::Milliseconds(200);
  absl::Duration maximum = absl::Seconds(5);
  double factor = 2;
};

struct InferenceClientOptions {
  std::string target = "127.0.0.1:50051";                  // HOST:PORT, unix:PATH, or any gRPC target
  std::string api_key;                                     // printable ASCII; sent with each call
  std::shared_ptr<grpc::ChannelCredentials> credentials;   // null: plaintext
  absl::Duration timeout = absl::InfiniteDuration();       // of each call that has none of its own
  RetryPolicy retry;
};

// What a failed call's status tells beside its code and message.
struct CallError {
  std::string reason;                                              // as errors.proto lists them: "QUEUE_FULL"
  std::map<std::string, std::string> metadata;                     // {"maxModelLen", "4096"}
  std::vector<std::pair<std::string, std::string>> violations;     // fields at fault, and what is wrong with each
  std::optional<absl::Duration> retry_delay;                       // when the server expects to have room
};

// Of a status that a client returned; empty when the failure is not the server's own.
CallError ErrorOf(const absl::Status& status);

// Cancels calls from any thread. Copies are one and the same.
class CallCanceller {
 public:
  CallCanceller();
  // Ends the calls that have it, and those that will; they return Cancelled.
  void Cancel() const;

 private:
  friend class InferenceClient;
  struct State;
  std::shared_ptr<State> state_;
};

struct CallOptions {
  std::optional<absl::Duration> timeout;    // absent: the client's
  std::optional<CallCanceller> canceller;
};

// Thread-safe; calls block.
class InferenceClient {
 public:
  // Connects with the first call. Errors: InvalidArgument for a key that can't be sent.
  static absl::StatusOr<std::unique_ptr<InferenceClient>> Create(InferenceClientOptions options);

  absl::StatusOr<v1::GenerateResponse> Generate(const v1::GenerateRequest& request, const CallOptions& options = {});

  // Calls `on_delta` with each piece of the answer as it comes, on this thread; false ends the call, which is
  // cancelled on the server and returns Cancelled. The whole answer, as Generate gives it.
  absl::StatusOr<v1::GenerateResponse> Stream(const v1::GenerateRequest& request,
                                              const std::function<bool(const v1::Delta&)>& on_delta,
                                              const CallOptions& options = {});

  absl::StatusOr<std::vector<uint32_t>> Tokenize(const std::string& text, const CallOptions& options = {});
  absl::StatusOr<std::string> Detokenize(const std::vector<uint32_t>& ids, const CallOptions& options = {});

  // By default the model that is served.
  absl::StatusOr<v1::Model> GetModel(const std::string& name = "", const CallOptions& options = {});
  absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo(const CallOptions& options = {});
  absl::StatusOr<v1::Load> GetLoad(const CallOptions& options = {});

  // For what this client does not cover.
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  class Attempts;

  explicit InferenceClient(InferenceClientOptions options);
  absl::Status Run(const CallOptions& options, const std::function<grpc::Status(grpc::ClientContext&)>& call,
                   const bool* has_begun = nullptr) const;

  const InferenceClientOptions options_;
  const std::shared_ptr<grpc::Channel> channel_;
  v1::InferenceService::Stub inference_;
  v1::TokenizerService::Stub tokenizer_;
  v1::ModelService::Stub model_;
  v1::ControlService::Stub control_;
};

// Requests that continue a text, or answer one turn of a user; what else they ask for is set on their fields.
v1::GenerateRequest TextRequest(std::string text);
v1::GenerateRequest ChatRequest(std::string user_text);

}  // namespace expertd
