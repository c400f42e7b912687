// TokenizerService of the contract. Runs on the worker pool: a long text holds up neither gRPC nor the engine.
#pragma once

#include "expertd/v1/tokenizer.grpc.pb.h"
#include "server/call_gate.h"
#include "server/server_state.h"
#include "server/threads.h"

namespace expertd {

// Thread-safe. What it is given outlives it.
class TokenizerService final : public v1::TokenizerService::CallbackService {
 public:
  TokenizerService(const ServerState& state, CallGate& gate, WorkerPool& workers)
      : state_(state), gate_(gate), workers_(workers) {}

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* RenderChat(grpc::CallbackServerContext* context, const v1::RenderChatRequest* request,
                                       v1::RenderChatResponse* response) override;

 private:
  // Answers on a worker with what `handler` (absl::Status(Engine&)) returns.
  template <typename Handler>
  grpc::ServerUnaryReactor* AnswerOnWorker(grpc::CallbackServerContext* context, std::string_view method,
                                           std::string_view model, size_t request_bytes, Handler handler);

  const ServerState& state_;
  CallGate& gate_;
  WorkerPool& workers_;
};

}  // namespace expertd
