#include "server/inference_service.h"

#include <utility>

#include "server/generate_reactor.h"
#include "server/stream_reactor.h"

namespace expertd {

grpc::ServerUnaryReactor* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request, grpc::ByteBuffer* answer) {
  CallGate::Ticket ticket =
      gate_.Admit(*context, "expertd.v1.InferenceService/Generate", CallGate::Access::kKey, request);
  if (!ticket.status().ok()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(ticket.status()));
    return reactor;
  }
  return GenerateReactor::Start(environment_, context, answer, std::move(ticket));
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::StreamGenerate(grpc::CallbackServerContext* context,
                                                                             const grpc::ByteBuffer* request) {
  CallGate::Ticket ticket =
      gate_.Admit(*context, "expertd.v1.InferenceService/StreamGenerate", CallGate::Access::kKey, request);
  if (!ticket.status().ok()) return new RefusingReactor<grpc::ServerWriteReactor<grpc::ByteBuffer>>(ticket.status());
  return StreamReactor::Start(environment_, context, std::move(ticket));
}

}  // namespace expertd
