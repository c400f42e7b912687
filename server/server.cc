#include "server/server.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/request/errors.h"
#include "server/auth.h"
#include "server/call_gate.h"
#include "server/control_service.h"
#include "server/generation_call.h"
#include "server/health_service.h"
#include "server/inference_service.h"
#include "server/model_service.h"
#include "server/reflection_service.h"
#include "server/server_state.h"
#include "server/threads.h"
#include "server/tokenizer_service.h"

namespace expertd {
namespace {

// How often the engine's own health is looked at for those who watch it.
constexpr absl::Duration kHealthInterval = absl::Milliseconds(500);
// For what gRPC needs besides requests: connections, answers on their way.
constexpr int64_t kTransportBytes = 128 << 20;
// For calls that are ended to reach their callers before gRPC cuts them off.
constexpr absl::Duration kLastWrites = absl::Seconds(2);

int Milliseconds(absl::Duration duration) {
  constexpr absl::Duration kMost = absl::Milliseconds(std::numeric_limits<int>::max());
  return static_cast<int>(absl::ToInt64Milliseconds(std::min(duration, kMost)));
}

CallLimits LimitsOf(const ServerConfig& config) {
  CallLimits limits;
  limits.max_live_calls = config.max_live_calls;
  limits.max_live_request_bytes = config.max_live_request_bytes;
  limits.max_request_bytes = static_cast<size_t>(config.max_receive_message_bytes);
  limits.max_answer_bytes = static_cast<size_t>(config.max_send_message_bytes);
  return limits;
}

void SetTransport(const ServerConfig& config, grpc::ServerBuilder& builder) {
  // The gate looks at sizes itself, to say what is wrong and to count it. What is far above its limit is left to gRPC:
  // it need not be received whole.
  builder.SetMaxReceiveMessageSize(config.max_receive_message_bytes + config.max_receive_message_bytes / 4);
  builder.SetMaxSendMessageSize(config.max_send_message_bytes);
  // gRPC would unpack what is compressed before it looks at the size.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  // As much again for requests that are still on their way as for those that have arrived, and room for connections.
  grpc::ResourceQuota quota("expertd");
  quota.Resize(static_cast<size_t>(2 * config.max_live_request_bytes + kTransportBytes));
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, config.max_metadata_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, config.max_streams_per_connection);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             Milliseconds(config.min_ping_interval));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(config.keepalive_time));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(config.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, Milliseconds(config.max_connection_age));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, Milliseconds(config.max_connection_age_grace));
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, Milliseconds(config.handshake_timeout));
  // Two servers on one port would share its connections by chance; the second is to fail instead.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

absl::Status CheckReadable(std::string_view flag, const std::string& path) {
  if (path.empty() || access(path.c_str(), R_OK) == 0) return absl::OkStatus();
  return absl::NotFoundError(StrCat(flag, " ", path, " can't be read"));
}

// The files are read again at intervals, so that certificates can be renewed under a running server.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(const ServerConfig& config) {
  if (!config.uses_tls()) return grpc::InsecureServerCredentials();
  RETURN_IF_ERROR(CheckReadable("--ssl-certfile", config.tls_cert_file));
  RETURN_IF_ERROR(CheckReadable("--ssl-keyfile", config.tls_key_file));
  RETURN_IF_ERROR(CheckReadable("--ssl-ca-certs", config.tls_client_ca_file));
  const auto provider = std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      config.tls_key_file, config.tls_cert_file, config.tls_client_ca_file,
      static_cast<unsigned>(absl::ToInt64Seconds(config.tls_refresh_interval)));
  grpc::experimental::TlsServerCredentialsOptions options(provider);
  options.watch_identity_key_cert_pairs();
  if (!config.tls_client_ca_file.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

// Looks at the engine's health now and then.
class HealthTimer final : public Dispatcher::Task, public std::enable_shared_from_this<HealthTimer> {
 public:
  HealthTimer(HealthService& health, Dispatcher& dispatcher) : health_(health), dispatcher_(dispatcher) {}

  void OnTimer(absl::Time now) override {
    health_.Refresh();
    dispatcher_.PostAt(now + kHealthInterval, weak_from_this());
  }

 private:
  HealthService& health_;
  Dispatcher& dispatcher_;
};

class GrpcServer final : public Server {
 public:
  GrpcServer(const ServerConfig& config, KeyRing keys, RpcObserver* observer)
      : config_(config),
        gate_(std::move(keys), LimitsOf(config), observer),
        workers_("rpc-submit", config.num_submit_threads),
        inference_({config_, state_, workers_, dispatcher_, registry_, observer}, gate_),
        tokenizer_(state_, gate_, workers_),
        model_(state_, gate_),
        control_(state_, gate_, dispatcher_),
        health_(state_, gate_),
        reflection_(gate_, reflection_access(), service_names()),
        reflection_alpha_(gate_, reflection_access(), service_names()),
        health_timer_(std::make_shared<HealthTimer>(health_, dispatcher_)) {}

  ~GrpcServer() override {
    if (grpc_ != nullptr) Drain(absl::ZeroDuration(), absl::ZeroDuration());
  }

  absl::Status Listen() {
    grpc::ServerBuilder builder, inside_builder;
    Prepare(builder);
    Prepare(inside_builder);
    ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ServerCredentials> credentials, MakeCredentials(config_));
    std::vector<int> ports(config_.listen_addresses.size(), 0);
    for (size_t i = 0; i < ports.size(); ++i) {
      builder.AddListeningPort(config_.listen_addresses[i], credentials, &ports[i]);
    }
    inside_ = inside_builder.BuildAndStart();
    if (inside_ == nullptr) return absl::InternalError("gRPC can't start");
    grpc_ = builder.BuildAndStart();
    for (size_t i = 0; i < ports.size(); ++i) {
      const std::string& address = config_.listen_addresses[i];
      if (grpc_ == nullptr || ports[i] == 0) {
        return absl::UnavailableError(
            StrCat("can't listen on ", address, ": in use, not of this machine, or forbidden"));
      }
      addresses_.push_back(address.starts_with("unix:") ? address
                                                        : StrCat(address.substr(0, address.rfind(':') + 1), ports[i]));
      LogInfo("grpc_listening", {{"address", addresses_.back()}, {"tls", config_.uses_tls() ? "on" : "off"}});
    }
    dispatcher_.PostAt(absl::Now() + kHealthInterval, health_timer_);
    return absl::OkStatus();
  }

  void SetEngine(Engine* engine) override {
    state_.SetEngine(engine);
    health_.Refresh();
  }

  void Drain(absl::Duration shutdown_timeout, absl::Duration drain_delay) override {
    if (is_draining_.exchange(true)) return Wait();
    const bool has_served = state_.is_started();
    if (has_served) {
      LogInfo("draining", {{"timeout", absl::FormatDuration(shutdown_timeout)},
                           {"delay", absl::FormatDuration(drain_delay)},
                           {"live_calls", gate_.num_live()}});
    }
    DrainOnce(shutdown_timeout, drain_delay);
    if (has_served) LogInfo("drained", {});
    is_over_.Notify();
  }

  void Wait() override { is_over_.WaitForNotification(); }

  const std::vector<std::string>& addresses() const override { return addresses_; }

  std::shared_ptr<grpc::Channel> InProcessChannel() override {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(config_.max_send_message_bytes);
    arguments.SetMaxSendMessageSize(config_.max_receive_message_bytes);
    return inside_->InProcessChannel(arguments);
  }

 private:
  void Prepare(grpc::ServerBuilder& builder) {
    SetTransport(config_, builder);
    builder.RegisterService(&inference_).RegisterService(&tokenizer_).RegisterService(&model_);
    builder.RegisterService(&control_).RegisterService(&health_);
    if (config_.enable_reflection) builder.RegisterService(&reflection_).RegisterService(&reflection_alpha_);
  }

  CallGate::Access reflection_access() const {
    return config_.reflection_needs_key ? CallGate::Access::kKey : CallGate::Access::kOpen;
  }

  static std::vector<std::string> service_names() {
    return {v1::ControlService::service_full_name(),
            v1::InferenceService::service_full_name(),
            v1::ModelService::service_full_name(),
            v1::TokenizerService::service_full_name(),
            grpc::health::v1::Health::service_full_name(),
            grpc::reflection::v1::ServerReflection::service_full_name(),
            grpc::reflection::v1alpha::ServerReflection::service_full_name()};
  }

  void DrainOnce(absl::Duration shutdown_timeout, absl::Duration drain_delay) {
    state_.SetUnready();
    health_.Refresh();
    if (drain_delay > absl::ZeroDuration()) absl::SleepFor(drain_delay);
    state_.SetDraining();

    const absl::StatusOr<Engine*> engine = state_.engine();
    if (engine.ok()) (*engine)->StartDraining();
    health_.EndWatches();
    control_.EndWatches();
    // Sends GOAWAY, so that clients take their next calls to another server, and returns when the last call has ended.
    std::thread closing([&, deadline = absl::Now() + shutdown_timeout + 2 * kLastWrites] {
      grpc_->Shutdown(absl::ToChronoTime(deadline));
    });
    // Calls end when their last byte is written, which may be after the engine has fallen idle.
    if (!registry_.WaitUntilEmpty(shutdown_timeout)) {
      const absl::Status status = MakeError(absl::StatusCode::kUnavailable, "the server stopped before the end",
                                            {.reason = std::string(error_reason::kDraining)});
      LogWarning("drain_timeout", {{"live_calls", gate_.num_live()}});
      registry_.AbortAll(status);
      registry_.WaitUntilEmpty(kLastWrites);
    }
    closing.join();
    grpc_->Wait();
    inside_->Shutdown(absl::ToChronoTime(absl::Now() + kLastWrites));
    inside_->Wait();
    // All calls are done; what their last steps have left in these two goes before the services do.
    workers_.Stop();
    dispatcher_.Stop();
  }

  const ServerConfig config_;
  ServerState state_;
  CallGate gate_;
  GenerationRegistry registry_;
  Dispatcher dispatcher_;
  WorkerPool workers_;  // before the dispatcher goes, its jobs are done
  InferenceService inference_;
  TokenizerService tokenizer_;
  ModelService model_;
  ControlService control_;
  HealthService health_;
  ReflectionService reflection_;
  ReflectionAlphaService reflection_alpha_;
  std::shared_ptr<HealthTimer> health_timer_;
  std::vector<std::string> addresses_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<grpc::Server> inside_;  // for InProcessChannel: a GOAWAY there would end its running calls
  std::atomic<bool> is_draining_{false};
  absl::Notification is_over_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerConfig& config, RpcObserver* observer) {
  RETURN_IF_ERROR(config.Validate());
  KeyRing keys;
  if (!config.api_key_file.empty()) {
    ASSIGN_OR_RETURN(keys, KeyRing::Load(config.api_key_file));
  }
  BoundFreeMemory();
  auto server = std::make_unique<GrpcServer>(config, std::move(keys), observer);
  RETURN_IF_ERROR(server->Listen());
  return server;
}

}  // namespace expertd
