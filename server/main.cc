// The expertd binary: one program with subcommands.
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "clients/cpp/commands.h"
#include "clients/rest_shim/rest_command.h"
#include "clients/rest_shim/rest_server.h"
#include "clients/run_batch/run_batch_command.h"
#include "engine/base/descriptors.h"
#include "engine/base/status_macros.h"
#include "engine/base/version.h"
#include "engine/engine_flags.h"
#include "engine/tools/tools.h"
#include "server/parse_errors.h"
#include "server/serve_command.h"

namespace {

// REST as a door of `serve`.
class RestDoor final : public expertd::FrontDoor {
 public:
  void AddFlags(CLI::App& command) override {
    expertd::rest::AddRestFlags(command, config_);
    command.add_flag("--no-rest", is_off_, "Do not serve REST");
  }

  absl::Status Validate(bool allow_plaintext) override {
    config_.allow_plaintext = allow_plaintext;
    return is_off_ ? absl::OkStatus() : config_.Validate();
  }

  absl::Status Open(const std::shared_ptr<grpc::Channel>& channel, const std::string& metrics_address) override {
    if (is_off_) return absl::OkStatus();
    config_.metrics_address = metrics_address;
    ASSIGN_OR_RETURN(server_, expertd::rest::RestServer::Start(config_, channel));
    return absl::OkStatus();
  }

  void Close(absl::Duration timeout) override {
    if (server_ != nullptr) server_->Stop(timeout);
    server_.reset();
  }

 private:
  expertd::rest::RestConfig config_;
  bool is_off_ = false;
  std::unique_ptr<expertd::rest::RestServer> server_;
};

// "expertd serve" for messages; "expertd" before a command was read.
std::string CommandName(const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? "expertd" : "expertd " + chosen.front()->get_name();
}

// CLI11 reads an empty number as 0: `--threads "$UNSET"` would pass for a choice.
void RefuseEmptyNumbers(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands(/*filter=*/{})) {
    for (CLI::Option* option : command->get_options()) {
      const std::string type = option->get_type_name();
      if (type != "INT" && type != "UINT" && type != "FLOAT") continue;
      option->check([](const std::string& text) { return text.empty() ? "the number is empty" : ""; }, "");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  expertd::RaiseDescriptorLimit();
  CLI::App app("Inference server for mixture-of-experts language models on CPUs", "expertd");
  app.set_version_flag("--version", std::string("expertd ") + expertd::kVersion);
  app.require_subcommand(1);
  int exit_code = 0;
  RestDoor rest;
  expertd::AddServeCommand(app, rest, &exit_code);
  expertd::AddGenerateCommand(app, &exit_code);
  expertd::AddLogitsCommand(app, &exit_code);
  expertd::AddBenchCommand(app, &exit_code);
  expertd::AddInspectCommand(app, &exit_code);
  expertd::AddQuantizeCommand(app, &exit_code);
  expertd::AddChatCommand(app, &exit_code);
  expertd::AddLoadCommand(app, &exit_code);
  expertd::rest::AddRestCommand(app, &exit_code);
  expertd::batch::AddRunBatchCommand(app, &exit_code);

  RefuseEmptyNumbers(app);

  const std::vector<std::string> arguments = expertd::NormalizeFlags(argc, argv);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // CLI11 takes them from the back
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    const std::string name = CommandName(app);
    std::cerr << name << ": " << expertd::ExplainParseError(error, app, arguments) << "\nSee `" << name
              << " --help`.\n";
    return 2;
  } catch (const std::bad_alloc&) {
    std::cerr << CommandName(app) << ": out of memory\n";
    return 1;
  }
  std::cout.flush();
  if (!std::cout && exit_code == 0) {
    std::cerr << CommandName(app) << ": standard output could not be written whole\n";
    return 1;
  }
  return exit_code;
}
