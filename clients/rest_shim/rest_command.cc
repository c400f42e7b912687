#include "clients/rest_shim/rest_command.h"

#include <pthread.h>
#include <signal.h>

#include <cstring>
#include <memory>

#include "clients/cpp/client.h"
#include "clients/rest_shim/rest_server.h"
#include "engine/base/flags.h"
#include "engine/base/log.h"
#include "engine/base/range_check.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

struct RestOptions {
  ClientOptions client;
  RestConfig rest;
  double shutdown_timeout_seconds = 300;
};

// Blocks SIGTERM and SIGINT here and in the threads that start later, and waits for one of them.
class EndSignals {
 public:
  EndSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }

  // The next signal, while running requests still go on, ends the program.
  int Wait() {
    int signal = 0;
    sigwait(&signals_, &signal);
    pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
    return signal;
  }

 private:
  sigset_t signals_;
};

absl::Status RunRest(const RestOptions& options) {
  RETURN_IF_ERROR(options.client.Validate());
  RETURN_IF_ERROR(options.rest.Validate());
  RETURN_IF_ERROR(CheckNotNegative("--shutdown-timeout", options.shutdown_timeout_seconds));
  EndSignals end_signals;
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, MakeChannel(options.client));
  ASSIGN_OR_RETURN(const std::unique_ptr<RestServer> server, RestServer::Start(options.rest, channel));
  LogInfo("serving", {{"rest", server->address()}, {"target", options.client.target}});
  LogInfo("stop_requested", {{"signal", strsignal(end_signals.Wait())}});
  server->Stop(absl::Seconds(options.shutdown_timeout_seconds));
  LogInfo("stopped");
  return absl::OkStatus();
}

}  // namespace

void AddRestCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("rest", "Serve OpenAI's HTTP interface in front of a gRPC server");
  auto options = std::make_shared<RestOptions>();
  AddTargetFlags(*command, options->client);
  AddRestFlags(*command, options->rest);
  command->add_option("--metrics-target", options->rest.metrics_address,
                      "HOST:PORT of the server's metrics, for /metrics [none]");
  command->add_flag("--allow-plaintext", options->rest.allow_plaintext,
                    "Listen without TLS on hosts beyond this machine");
  command->add_option("--shutdown-timeout", options->shutdown_timeout_seconds,
                      "After SIGTERM, seconds that running requests may go on for [300]");
  command->callback([=] { *exit_code = ReportToUser(*command, RunRest(*options)); });
}

}  // namespace expertd::rest
