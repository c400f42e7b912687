// TokenizerService of the contract. Runs on the worker pool: a long text holds up neither gRPC nor the engine.
#pragma once

#include "expertd/v1/tokenizer.grpc.pb.h"
#include "server/call_gate.h"
#include "server/server_state.h"
#include "server/threads.h"

namespace expertd {

// Thread-safe. What it is given outlives it.
class TokenizerService final
    : public v1::TokenizerService::WithRawCallbackMethod_Tokenize<
          v1::TokenizerService::WithRawCallbackMethod_Detokenize<
              v1::TokenizerService::WithRawCallbackMethod_RenderChat<v1::TokenizerService::Service>>> {
 public:
  TokenizerService(const ServerState& state, CallGate& gate, WorkerPool& workers)
      : state_(state), gate_(gate), workers_(workers) {}

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* answer) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* answer) override;
  grpc::ServerUnaryReactor* RenderChat(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* answer) override;

 private:
  // Reads, answers and writes on a worker; `handler` answers.
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* AnswerOnWorker(const UnaryCall& call, std::string_view method,
                                           absl::Status (*handler)(const Engine&, const Request&, Response*));

  const ServerState& state_;
  CallGate& gate_;
  WorkerPool& workers_;
};

}  // namespace expertd
