// ModelService of the contract: the one model of this process.
#pragma once

#include "expertd/v1/model.grpc.pb.h"
#include "server/call_gate.h"
#include "server/server_state.h"

namespace expertd {

// Thread-safe. What it is given outlives it.
class ModelService final : public v1::ModelService::CallbackService {
 public:
  ModelService(const ServerState& state, CallGate& gate) : state_(state), gate_(gate) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context, const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

 private:
  const ServerState& state_;
  CallGate& gate_;
};

}  // namespace expertd
