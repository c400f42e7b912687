// Upstream: the gRPC server behind the shim, and how its unary calls are made for an HTTP exchange: with the caller's
// key and request id, cancelled when the caller goes, failures answered.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "clients/rest_shim/errors.h"
#include "clients/rest_shim/http_server.h"
#include "expertd/v1/control.grpc.pb.h"
#include "expertd/v1/inference.grpc.pb.h"
#include "expertd/v1/model.grpc.pb.h"
#include "expertd/v1/tokenizer.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace expertd::rest {

// Thread-safe.
struct Upstream {
  explicit Upstream(const std::shared_ptr<grpc::Channel>& channel)
      : inference(channel), tokenizer(channel), model(channel), control(channel), health(channel) {}

  v1::InferenceService::Stub inference;
  v1::TokenizerService::Stub tokenizer;
  v1::ModelService::Stub model;
  v1::ControlService::Stub control;
  grpc::health::v1::Health::Stub health;
};

// An HTTP exchange with the id that its answer and its calls carry.
struct RestCall {
  std::shared_ptr<HttpExchange> exchange;
  std::string request_id;  // the caller's x-request-id when it is 1..128 of [A-Za-z0-9._:-], else one of our own

  void Send(HttpResponse response) const {
    response.headers.emplace_back("x-request-id", request_id);
    exchange->Send(std::move(response));
  }
  void SendJson(const Json& json) const { Send({.body = DumpJson(json)}); }
  void SendError(const RestError& error) const { Send(ErrorResponse(error)); }
};

RestCall MakeRestCall(std::shared_ptr<HttpExchange> exchange);

// Adds the caller's key, when it is one that can be sent, and the call's id.
void PrepareContext(const RestCall& call, grpc::ClientContext& context);

// One unary call under way.
template <typename Request, typename Response>
struct UnaryCall {
  grpc::ClientContext context;
  Request request;
  Response response;
};

// Calls `method` (a member of a stub's async interface) and hands a good answer to `on_answer`, on a thread of gRPC's;
// a failure is answered.
template <typename Async, typename Request, typename Response>
void CallUpstream(const RestCall& call, Async* stub,
                  void (Async::*method)(grpc::ClientContext*, const Request*, Response*,
                                        std::function<void(grpc::Status)>),
                  Request request, std::function<void(const RestCall&, const Response&)> on_answer) {
  auto unary = std::make_shared<UnaryCall<Request, Response>>();
  unary->request = std::move(request);
  PrepareContext(call, unary->context);
  call.exchange->SetOnGone([weak = std::weak_ptr(unary)] {
    if (const auto live = weak.lock()) live->context.TryCancel();
  });
  (stub->*method)(&unary->context, &unary->request, &unary->response,
                  [call, unary, on_answer = std::move(on_answer)](const grpc::Status& status) {
                    if (!status.ok()) return call.SendError(RestErrorOf(status));
                    on_answer(call, unary->response);
                  });
}

}  // namespace expertd::rest
