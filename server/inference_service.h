// InferenceService of the contract: Generate and StreamGenerate.
#pragma once

#include "expertd/v1/inference.grpc.pb.h"
#include "server/call_gate.h"
#include "server/generation_call.h"

namespace expertd {

// Thread-safe. What it is given outlives it.
class InferenceService final : public v1::InferenceService::CallbackService {
 public:
  InferenceService(const GenerationEnvironment& environment, CallGate& gate) : environment_(environment), gate_(gate) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context, const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override;
  grpc::ServerWriteReactor<v1::StreamGenerateResponse>* StreamGenerate(grpc::CallbackServerContext* context,
                                                                       const v1::GenerateRequest* request) override;

 private:
  const GenerationEnvironment environment_;
  CallGate& gate_;
};

}  // namespace expertd
