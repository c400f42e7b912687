#include "clients/rest_shim/upstream.h"

#include <algorithm>
#include <random>

#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

bool IsRequestId(std::string_view id) {
  const auto is_allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
           c == ':' || c == '-';
  };
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), is_allowed);
}

std::string NewRequestId() {
  thread_local std::mt19937_64 random{(uint64_t{std::random_device{}()} << 32) ^ std::random_device{}()};
  return StrCat("req-", absl::Hex(random(), absl::kZeroPad16));
}

}  // namespace

RestCall MakeRestCall(std::shared_ptr<HttpExchange> exchange) {
  const std::string& wanted = exchange->request().request_id;
  std::string id = IsRequestId(wanted) ? wanted : NewRequestId();
  return {std::move(exchange), std::move(id)};
}

void PrepareContext(const RestCall& call, grpc::ClientContext& context) {
  const std::string& authorization = call.exchange->request().authorization;
  // gRPC ends the program when it is to send any other character; without the key the server refuses the call itself.
  const bool can_be_sent =
      std::all_of(authorization.begin(), authorization.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (!authorization.empty() && can_be_sent) context.AddMetadata("authorization", authorization);
  context.AddMetadata("x-request-id", call.request_id);
}

}  // namespace expertd::rest
