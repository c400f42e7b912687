#include "server/inference_service.h"

#include <utility>

#include "server/generate_reactor.h"
#include "server/stream_reactor.h"

namespace expertd {

grpc::ServerUnaryReactor* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                     const v1::GenerateRequest* request,
                                                     v1::GenerateResponse* response) {
  CallGate::Ticket ticket =
      gate_.Admit(*context, "expertd.v1.InferenceService/Generate", CallGate::Access::kKey);
  if (!ticket.status().ok()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(ticket.status()));
    return reactor;
  }
  return GenerateReactor::Start(environment_, context, request, response, std::move(ticket));
}

grpc::ServerWriteReactor<v1::StreamGenerateResponse>* InferenceService::StreamGenerate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  CallGate::Ticket ticket =
      gate_.Admit(*context, "expertd.v1.InferenceService/StreamGenerate", CallGate::Access::kKey);
  if (!ticket.status().ok()) {
    return new RefusingReactor<grpc::ServerWriteReactor<v1::StreamGenerateResponse>>(ticket.status());
  }
  return StreamReactor::Start(environment_, context, request, std::move(ticket));
}

}  // namespace expertd
