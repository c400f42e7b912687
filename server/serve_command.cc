#include "server/serve_command.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "engine/base/log.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/base/version.h"
#include "engine/engine.h"
#include "engine/engine_flags.h"
#include "engine/foreign_flags.h"
#include "expertd/v1/control.pb.h"
#include "expertd/v1/inference.pb.h"
#include "expertd/v1/model.pb.h"
#include "expertd/v1/tokenizer.pb.h"
#include "metrics/engine_metrics.h"
#include "metrics/exposer.h"
#include "server/build_commit.h"
#include "server/server.h"
#include "server/server_config.h"

namespace expertd {
namespace {

struct ServeOptions {
  EngineConfig engine;
  ServerConfig server;
  std::string metrics_listen = "127.0.0.1:9464";
  std::string metrics_compat = "none";
  absl::Duration shutdown_timeout = absl::Seconds(300);
  absl::Duration drain_delay = absl::ZeroDuration();
};

// "30s", "500ms", "2m", "inf"; a bare number is seconds.
bool ParseTime(const std::string& text, absl::Duration* duration) {
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    *duration = absl::Seconds(seconds);
    return seconds >= 0;
  }
  return absl::ParseDuration(text, duration) && *duration >= absl::ZeroDuration();
}

void AddDurationFlag(CLI::App& command, const std::string& name, absl::Duration& duration, const std::string& help) {
  command.add_option_function<std::string>(
      name,
      [name, &duration](const std::string& text) {
        if (!ParseTime(text, &duration)) {
          throw FlagError(name, text, "a time such as 30s, 500ms or inf");
        }
      },
      StrCat(help, " [", absl::FormatDuration(duration), "]"));
}

void AddServerFlags(CLI::App& command, ServeOptions& options) {
  ServerConfig& server = options.server;
  command.add_option("--grpc-listen", server.listen_addresses,
                     "Where gRPC listens: HOST:PORT or unix:PATH; may be repeated [127.0.0.1:50051]")
      ->allow_extra_args(false);
  command.add_option("--metrics-listen", options.metrics_listen,
                     "Where /metrics listens: HOST:PORT, or off [127.0.0.1:9464]");
  AddChoiceFlag(command, "--metrics-compat", options.metrics_compat, {"none", "vllm"},
                "Further metric names: none or vllm [none]");
  command.add_flag("--allow-plaintext", server.allow_plaintext, "Listen without TLS on addresses beyond this machine");
  command.add_option("--ssl-certfile", server.tls_cert_file, "TLS certificate chain (PEM)");
  command.add_option("--ssl-keyfile", server.tls_key_file, "TLS private key (PEM)");
  command.add_option("--ssl-ca-certs", server.tls_client_ca_file,
                     "Clients must show a certificate signed by these (PEM)");
  AddDurationFlag(command, "--ssl-refresh-interval", server.tls_refresh_interval, "How often TLS files are read again");
  command.add_option("--api-key-file", server.api_key_file, "Keys that clients must send, one a line [none needed]");
  command.add_flag("--enable-reflection,!--no-enable-reflection", server.enable_reflection, "gRPC reflection [on]");
  command.add_flag("--reflection-needs-key,!--no-reflection-needs-key", server.reflection_needs_key,
                   "Reflection needs a key where keys are needed [on]");
  command.add_flag("--enable-log-requests", server.log_requests, "A log line for each request; never its text [off]");
  command.add_option("--max-live-calls", server.max_live_calls,
                     "Calls open at once, beyond: RESOURCE_EXHAUSTED [4096]");
  command.add_option("--max-live-request-bytes", server.max_live_request_bytes,
                     "Bytes of requests held until the engine has them, beyond: RESOURCE_EXHAUSTED [256 MiB]");
  command.add_option("--submit-threads", server.num_submit_threads, "Threads for templates and tokenizing [2]");
  AddDurationFlag(command, "--stream-stall-timeout", server.stream_stall_timeout,
                  "A reader that takes nothing is ended after");
  AddDurationFlag(command, "--shutdown-timeout", options.shutdown_timeout,
                  "After SIGTERM, running requests may go on for");
  AddDurationFlag(command, "--drain-delay", options.drain_delay, "After SIGTERM, requests are still taken for");
}

void AddTransportFlags(CLI::App& command, ServerConfig& server) {
  command.add_option("--grpc-max-receive-message-bytes", server.max_receive_message_bytes, "Largest request [64 MiB]");
  command.add_option("--grpc-max-send-message-bytes", server.max_send_message_bytes, "Largest answer [64 MiB]");
  command.add_option("--grpc-max-metadata-bytes", server.max_metadata_bytes, "Largest metadata of a call [16 KiB]");
  command.add_option("--grpc-max-concurrent-streams", server.max_streams_per_connection,
                     "Calls of a connection [1024]");
  AddDurationFlag(command, "--grpc-min-ping-interval", server.min_ping_interval, "Clients may ping every");
  AddDurationFlag(command, "--grpc-keepalive-time", server.keepalive_time, "An idle connection is pinged after");
  AddDurationFlag(command, "--grpc-keepalive-timeout", server.keepalive_timeout, "A ping must be answered within");
  AddDurationFlag(command, "--grpc-max-connection-age", server.max_connection_age, "Connections are closed after");
  AddDurationFlag(command, "--grpc-max-connection-age-grace", server.max_connection_age_grace,
                  "Calls on a closing connection may go on for");
  AddDurationFlag(command, "--grpc-handshake-timeout", server.handshake_timeout, "A handshake must end within");
}

MetricsOptions MakeMetricsOptions(const ServeOptions& options) {
  MetricsOptions metrics;
  metrics.model = options.engine.ModelName();
  metrics.version = kVersion;
  metrics.commit = BuildCommit();
  for (const google::protobuf::FileDescriptor* file :
       {v1::GenerateRequest::descriptor()->file(), v1::TokenizeRequest::descriptor()->file(),
        v1::GetModelRequest::descriptor()->file(), v1::GetLoadRequest::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      const google::protobuf::ServiceDescriptor& service = *file->service(i);
      for (int j = 0; j < service.method_count(); ++j) {
        metrics.methods.push_back(StrCat(service.full_name(), "/", service.method(j)->name()));
      }
    }
  }
  metrics.vllm_names = options.metrics_compat == "vllm";
  return metrics;
}

EngineFacts MakeFacts(const EngineInfo& info) {
  const CpuFeatures& cpu = info.cpu;
  EngineFacts facts;
  facts.isa = info.isa;
  facts.has_avx512 = cpu.avx512;
  facts.has_bf16 = cpu.avx512_bf16 || cpu.amx_bf16;
  facts.has_int8 = cpu.avx512_vnni || cpu.amx_int8;
  facts.has_amx = cpu.amx_tile;
  facts.weights_dtype = info.weights_dtype;
  facts.weight_bytes = info.weight_bytes;
  facts.kv_cache_bytes = info.kv_cache_bytes;
  facts.num_kv_blocks = info.num_kv_blocks;
  facts.block_size = info.block_size;
  facts.num_compute_threads = info.num_threads;
  facts.num_memory_nodes = info.num_memory_nodes;
  facts.max_num_seqs = info.max_num_seqs;
  facts.text_load_time = info.load_phases.text;
  facts.weights_load_time = info.load_phases.weights;
  facts.kv_cache_load_time = info.load_phases.kv_cache;
  return facts;
}

// SIGTERM and SIGINT: blocked in every thread that starts after this object, and received by a thread of its own. While
// the model loads there is nothing to drain, so a signal ends the process at once; so does SIGINT, the second Ctrl-C,
// while it drains. A second SIGTERM changes nothing: process managers send one to the group and one to its leader.
class EndSignals {
 public:
  EndSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGUSR1);  // ends the thread
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    signal(SIGPIPE, SIG_IGN);
    thread_ = std::thread([this] { Run(); });
  }
  ~EndSignals() {
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
  }

  // From now on a signal is waited for instead of ending the process.
  void SetLoaded() { is_loaded_.store(true); }
  int Wait() {
    received_.WaitForNotification();
    return signal_;
  }

 private:
  void Run() {
    pthread_setname_np(pthread_self(), "signals");
    for (;;) {
      int signal = 0;
      sigwait(&signals_, &signal);
      if (signal == SIGUSR1) return;
      if (!is_loaded_.load()) {
        LogInfo("stopped_while_loading", {{"signal", strsignal(signal)}});
        std::_Exit(0);
      }
      if (received_.HasBeenNotified() && signal == SIGTERM) continue;
      if (received_.HasBeenNotified()) {
        LogWarning("stopped_while_draining", {{"signal", strsignal(signal)}});
        std::_Exit(1);
      }
      signal_ = signal;
      received_.Notify();
    }
  }

  sigset_t signals_;
  std::atomic<bool> is_loaded_{false};
  int signal_ = 0;
  Notification received_;
  std::thread thread_;
};

// For answers that are on their way when the server is done.
constexpr absl::Duration kLastAnswers = absl::Seconds(2);

// Where /metrics is, for the other door; empty when it is off.
std::string MetricsAddress(const ServeOptions& options, const Exposer* exposer) {
  if (exposer == nullptr) return "";
  return StrCat(options.metrics_listen.substr(0, options.metrics_listen.rfind(':') + 1), exposer->port());
}

// From loading to the last answer. `engine` outlives `server`.
absl::Status LoadAndServe(const ServeOptions& options, Server& server, EngineMetrics& metrics,
                          std::unique_ptr<Engine>& engine, EndSignals& end_signals) {
  ASSIGN_OR_RETURN(engine, Engine::Create(options.engine, &metrics));
  metrics.SetEngineFacts(MakeFacts(engine->info()));
  server.SetEngine(engine.get());
  metrics.SetReady(true);
  end_signals.SetLoaded();
  for (const std::string& address : server.addresses()) {
    LogInfo("serving", {{"grpc", address}, {"metrics", options.metrics_listen}, {"model", engine->info().model_name}});
  }
  const int signal = end_signals.Wait();
  LogInfo("stop_requested", {{"signal", strsignal(signal)}});
  metrics.SetReady(false);
  server.Drain(options.shutdown_timeout, options.drain_delay);
  return absl::OkStatus();
}

absl::Status RunServe(const ServeOptions& options, FrontDoor& door) {
  RETURN_IF_ERROR(options.engine.Validate());
  RETURN_IF_ERROR(options.server.Validate());
  RETURN_IF_ERROR(door.Validate(options.server.allow_plaintext));
  if (options.metrics_listen != "off" && !HasPort(options.metrics_listen)) {
    return absl::InvalidArgumentError(StrCat("--metrics-listen is '", options.metrics_listen,
                                             "'; must be HOST:PORT with a port in 0..65535, or off"));
  }
  EndSignals end_signals;
  EngineMetrics metrics(MakeMetricsOptions(options));
  std::unique_ptr<Exposer> exposer;
  if (options.metrics_listen != "off") {
    ASSIGN_OR_RETURN(exposer, Exposer::Start(options.metrics_listen, metrics.registry()));
  }
  // Listening first: probes find somebody (who is not ready) while the weights load.
  std::unique_ptr<Engine> engine;
  ASSIGN_OR_RETURN(const std::unique_ptr<Server> server, Server::Start(options.server, &metrics));
  RETURN_IF_ERROR(door.Open(server->InProcessChannel(), MetricsAddress(options, exposer.get())));
  const absl::Status status = LoadAndServe(options, *server, metrics, engine, end_signals);
  door.Close(kLastAnswers);
  if (status.ok()) LogInfo("stopped");
  return status;
}

}  // namespace

void AddServeCommand(CLI::App& app, FrontDoor& door, int* exit_code) {
  CLI::App* command = app.add_subcommand("serve", "Serve a model folder over gRPC and REST");
  auto options = std::make_shared<ServeOptions>();
  AddEngineFlags(*command, options->engine);
  AddServerFlags(*command, *options);
  AddTransportFlags(*command, options->server);
  door.AddFlags(*command);
  AddForeignServeFlags(*command);
  command->callback([=, &door] { *exit_code = ReportToUser(*command, RunServe(*options, door)); });
}

}  // namespace expertd
