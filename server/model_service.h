// ModelService of the contract: the one model of this process.
#pragma once

#include "expertd/v1/model.grpc.pb.h"
#include "server/call_gate.h"
#include "server/server_state.h"

namespace expertd {

// Thread-safe. What it is given outlives it.
class ModelService final : public v1::ModelService::WithRawCallbackMethod_ListModels<
                               v1::ModelService::WithRawCallbackMethod_GetModel<v1::ModelService::Service>> {
 public:
  ModelService(const ServerState& state, CallGate& gate) : state_(state), gate_(gate) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* answer) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* answer) override;

 private:
  const ServerState& state_;
  CallGate& gate_;
};

}  // namespace expertd
