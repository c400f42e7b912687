#include "server/model_service.h"

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "server/convert.h"
#include "server/status.h"

namespace expertd {
namespace {

constexpr uint32_t kMaxPageSize = 1000;

void FillServed(const Engine& engine, const ServerState& state, v1::Model* model) {
  FillModel(engine.info(), engine.request_limits(), engine.tokenizer() != nullptr, state.ready_time(), model);
}

absl::Status ListModels(const Engine& engine, const ServerState& state, const v1::ListModelsRequest& request,
                        v1::ListModelsResponse* response) {
  if (request.page_size() > kMaxPageSize) {
    return InvalidParameter("page_size", StrCat("is ", request.page_size(), "; must be 0..", kMaxPageSize));
  }
  // One model makes one page, so no token was ever given out.
  if (!request.page_token().empty()) return InvalidParameter("page_token", "is not known");
  FillServed(engine, state, response->add_models());
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* ModelService::ListModels(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request, grpc::ByteBuffer* answer) {
  return AnswerUnary<v1::ListModelsRequest, v1::ListModelsResponse>(
      gate_, {context, request, answer}, "expertd.v1.ModelService/ListModels", CallGate::Access::kKey,
      [this](const v1::ListModelsRequest& wanted, v1::ListModelsResponse* response) -> absl::Status {
        ASSIGN_OR_RETURN(const Engine* engine, state_.engine());
        return expertd::ListModels(*engine, state_, wanted, response);
      });
}

grpc::ServerUnaryReactor* ModelService::GetModel(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* answer) {
  return AnswerUnary<v1::GetModelRequest, v1::GetModelResponse>(
      gate_, {context, request, answer}, "expertd.v1.ModelService/GetModel", CallGate::Access::kKey,
      [this](const v1::GetModelRequest& wanted, v1::GetModelResponse* response) -> absl::Status {
        ASSIGN_OR_RETURN(const Engine* engine, state_.engine());
        RETURN_IF_ERROR(CheckModelName(wanted.name(), engine->info().model_name));
        FillServed(*engine, state_, response->mutable_model());
        return absl::OkStatus();
      });
}

}  // namespace expertd
