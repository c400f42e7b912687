// The expertd binary: one program with subcommands.
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "clients/cpp/commands.h"
#include "engine/base/version.h"
#include "engine/engine_flags.h"
#include "engine/tools/tools.h"
#include "server/parse_errors.h"
#include "server/serve_command.h"

namespace {

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
  CLI::App app("Inference server for mixture-of-experts language models on CPUs", "expertd");
  app.set_version_flag("--version", std::string("expertd ") + expertd::kVersion);
  app.require_subcommand(1);
  int exit_code = 0;
  expertd::AddServeCommand(app, &exit_code);
  expertd::AddGenerateCommand(app, &exit_code);
  expertd::AddLogitsCommand(app, &exit_code);
  expertd::AddBenchCommand(app, &exit_code);
  expertd::AddInspectCommand(app, &exit_code);
  expertd::AddQuantizeCommand(app, &exit_code);
  expertd::AddChatCommand(app, &exit_code);
  expertd::AddLoadCommand(app, &exit_code);

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
