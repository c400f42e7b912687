// InferenceService of the contract: Generate and StreamGenerate.
#pragma once

#include "expertd/v1/inference.grpc.pb.h"
#include "server/call_gate.h"
#include "server/generation_call.h"

namespace expertd {

// Thread-safe. What it is given outlives it.
class InferenceService final
    : public v1::InferenceService::WithRawCallbackMethod_Generate<
          v1::InferenceService::WithRawCallbackMethod_StreamGenerate<v1::InferenceService::Service>> {
 public:
  InferenceService(const GenerationEnvironment& environment, CallGate& gate) : environment_(environment), gate_(gate) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* answer) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamGenerate(grpc::CallbackServerContext* context,
                                                             const grpc::ByteBuffer* request) override;

 private:
  const GenerationEnvironment environment_;
  CallGate& gate_;
};

}  // namespace expertd
