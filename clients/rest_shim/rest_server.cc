#include "clients/rest_shim/rest_server.h"

#include <algorithm>
#include <utility>

#include <boost/asio/ip/address.hpp>

#include "clients/rest_shim/errors.h"
#include "clients/rest_shim/http_server.h"
#include "clients/rest_shim/metrics_page.h"
#include "clients/rest_shim/routes.h"
#include "clients/rest_shim/upstream.h"
#include "engine/base/descriptors.h"
#include "engine/base/log.h"
#include "engine/base/range_check.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

bool IsLoopback(const std::string& host) {
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(host, error);
  return error ? host == "localhost" : address.is_loopback();
}

class RestServerImpl final : public RestServer {
 public:
  explicit RestServerImpl(const std::shared_ptr<grpc::Channel>& channel) : upstream_(channel) {}

  absl::Status Listen(const RestConfig& config) {
    if (!config.metrics_address.empty()) {
      ASSIGN_OR_RETURN(metrics_, MetricsPage::Create(config.metrics_address));
    }
    const bool is_ipv6 = config.host.find(':') != std::string::npos;
    const std::string address = is_ipv6 ? StrCat("[", config.host, "]:", config.port)
                                        : StrCat(config.host, ":", config.port);
    const auto error_body = [](int status, std::string_view message) {
      return DumpJson(ErrorJson({.status = status, .message = std::string(message)}));
    };
    HttpLimits limits;
    // gRPC never accepts again once it had no descriptor left for a connection: it keeps as many for itself.
    limits.max_connections = std::min<int>(limits.max_connections, static_cast<int>(DescriptorLimit() / 2));
    ASSIGN_OR_RETURN(http_, HttpServer::Start(address, limits, MakeRoutes(upstream_, metrics_.get()),
                                              error_body));
    LogInfo("rest_listening", {{"address", http_->address()}});
    return absl::OkStatus();
  }

  const std::string& address() const override { return http_->address(); }
  void Stop(absl::Duration timeout) override { http_->Stop(timeout); }

 private:
  Upstream upstream_;
  std::unique_ptr<MetricsPage> metrics_;
  std::unique_ptr<HttpServer> http_;  // goes first: its requests use the others
};

}  // namespace

absl::Status RestConfig::Validate() const {
  if (host.empty()) return absl::InvalidArgumentError("--host is empty; must be a name or an address");
  RETURN_IF_ERROR(CheckRange("--port", port, 0, 65535));
  if (allow_plaintext || IsLoopback(host)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("--host ", host, " can be reached from other machines without TLS, which REST does not have; give "
             "--allow-plaintext where a proxy or a closed network protects it"));
}

void AddRestFlags(CLI::App& command, RestConfig& config) {
  command.add_option("--host", config.host, "Where REST listens: a name or an address [127.0.0.1]");
  command.add_option("--port", config.port, "Port of REST; 0 takes a free one [8000]");
}

absl::StatusOr<std::unique_ptr<RestServer>> RestServer::Start(const RestConfig& config,
                                                              const std::shared_ptr<grpc::Channel>& channel) {
  auto server = std::make_unique<RestServerImpl>(channel);
  RETURN_IF_ERROR(server->Listen(config));
  return server;
}

}  // namespace expertd::rest
