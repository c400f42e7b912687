#include "clients/rest_shim/routes.h"

#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "clients/rest_shim/generate_routes.h"
#include "clients/rest_shim/models_json.h"
#include "clients/rest_shim/tokenize_routes.h"
#include "clients/rest_shim/web_page.h"
#include "engine/base/log.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

constexpr std::string_view kModels = "/v1/models";

// `path` with its %XX; nullopt when one is malformed or stands for a control character.
std::optional<std::string> Decode(std::string_view path) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string decoded;
  for (size_t i = 0; i < path.size(); ++i) {
    char c = path[i];
    if (c == '%') {
      if (i + 2 >= path.size() || digit(path[i + 1]) < 0 || digit(path[i + 2]) < 0) return std::nullopt;
      c = static_cast<char>(digit(path[i + 1]) * 16 + digit(path[i + 2]));
      i += 2;
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return std::nullopt;
    decoded += c;
  }
  return decoded;
}

void GetHealth(Upstream& upstream, const RestCall& call) {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("readiness");
  CallUpstream<grpc::health::v1::Health::StubInterface::async_interface, grpc::health::v1::HealthCheckRequest,
               grpc::health::v1::HealthCheckResponse>(
      call, upstream.health.async(), &grpc::health::v1::Health::StubInterface::async_interface::Check, request,
      [](const RestCall& call, const grpc::health::v1::HealthCheckResponse& response) {
        if (response.status() == grpc::health::v1::HealthCheckResponse::SERVING) {
          return call.Send({.content_type = "text/plain; charset=utf-8"});
        }
        call.SendError({.status = 503, .message = "the server is not ready", .code = "not_ready",
                        .retry_delay = absl::Seconds(1)});
      });
}

void GetVersion(Upstream& upstream, const RestCall& call) {
  CallUpstream<v1::ControlService::StubInterface::async_interface, v1::GetServerInfoRequest,
               v1::GetServerInfoResponse>(
      call, upstream.control.async(), &v1::ControlService::StubInterface::async_interface::GetServerInfo, {},
      [](const RestCall& call, const v1::GetServerInfoResponse& response) {
        Json json;
        json["version"] = response.version();
        call.SendJson(json);
      });
}

void ListModels(Upstream& upstream, const RestCall& call) {
  CallUpstream<v1::ModelService::StubInterface::async_interface, v1::ListModelsRequest, v1::ListModelsResponse>(
      call, upstream.model.async(), &v1::ModelService::StubInterface::async_interface::ListModels, {},
      [](const RestCall& call, const v1::ListModelsResponse& response) { call.SendJson(ModelListJson(response)); });
}

void GetModel(Upstream& upstream, const RestCall& call, std::string name) {
  v1::GetModelRequest request;
  request.set_name(std::move(name));
  CallUpstream<v1::ModelService::StubInterface::async_interface, v1::GetModelRequest, v1::GetModelResponse>(
      call, upstream.model.async(), &v1::ModelService::StubInterface::async_interface::GetModel, std::move(request),
      [](const RestCall& call, const v1::GetModelResponse& response) { call.SendJson(ModelJson(response.model())); });
}

struct Endpoint {
  std::string_view method, path;
  void (*answer)(Upstream&, const RestCall&);
};

constexpr Endpoint kEndpoints[] = {{"GET", "/health", GetHealth},
                                   {"GET", "/version", GetVersion},
                                   {"GET", kModels, ListModels},
                                   {"POST", "/v1/chat/completions", PostChatCompletion},
                                   {"POST", "/v1/completions", PostCompletion},
                                   {"POST", "/tokenize", PostTokenize},
                                   {"POST", "/detokenize", PostDetokenize}};

void RefuseMethod(const RestCall& call, std::string_view path, std::string_view method) {
  HttpResponse response = ErrorResponse({.status = 405, .message = StrCat(path, " takes ", method, " alone"),
                                         .code = "method_not_allowed"});
  response.headers.emplace_back("allow", method);
  call.Send(std::move(response));
}

void Route(Upstream& upstream, MetricsPage* metrics, const RestCall& call) {
  const HttpRequest& request = call.exchange->request();
  const std::optional<std::string> path = Decode(request.path);
  if (!path.has_value()) {
    return call.SendError({.status = 400, .message = "the path is not valid", .code = "invalid_path"});
  }
  const std::string_view method = request.method == "HEAD" ? std::string_view("GET") : request.method;
  for (const Endpoint& endpoint : kEndpoints) {
    if (*path != endpoint.path) continue;
    return method == endpoint.method ? endpoint.answer(upstream, call) : RefuseMethod(call, *path, endpoint.method);
  }
  if (*path == "/metrics" && metrics != nullptr) {
    return method == "GET" ? metrics->Answer(call) : RefuseMethod(call, *path, "GET");
  }
  if (std::optional<HttpResponse> page = WebPageAnswer(*path); page.has_value()) {
    return method == "GET" ? call.Send(*std::move(page)) : RefuseMethod(call, *path, "GET");
  }
  // A model's name may hold slashes, encoded or not.
  if (path->starts_with(kModels) && path->size() > kModels.size() + 1 && (*path)[kModels.size()] == '/') {
    return method == "GET" ? GetModel(upstream, call, path->substr(kModels.size() + 1))
                           : RefuseMethod(call, *path, "GET");
  }
  call.SendError({.status = 404, .message = StrCat("there is no ", *path, " here"), .code = "unknown_path"});
}

}  // namespace

HttpHandler MakeRoutes(Upstream& upstream, MetricsPage* metrics) {
  return [&upstream, metrics](std::shared_ptr<HttpExchange> exchange) {
    const RestCall call = MakeRestCall(std::move(exchange));
    try {
      Route(upstream, metrics, call);
    } catch (const std::exception& error) {  // out of memory, most likely
      LogError("rest_exception", {{"what", error.what()}});
      call.SendError({.status = 500, .message = "the server failed on this request", .code = "internal_error"});
    }
  };
}

}  // namespace expertd::rest
