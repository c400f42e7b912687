// The expertd binary: one program with subcommands.
#include <algorithm>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "clients/cpp/commands.h"
#include "engine/base/version.h"
#include "engine/engine_flags.h"
#include "engine/tools/tools.h"
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

std::string CommandList(const CLI::App& app) {
  std::string list;
  for (const CLI::App* command : app.get_subcommands(/*filter=*/{})) {
    list += (list.empty() ? "" : ", ") + command->get_name();
  }
  return list;
}

// CLI11's errors in our words, where its own say too little.
std::string Explain(const CLI::ParseError& error, const CLI::App& app, const std::vector<std::string>& arguments) {
  const std::string text = error.what();
  if (app.get_subcommands().empty()) {
    const auto given =
        std::find_if(arguments.begin(), arguments.end(), [](const std::string& word) { return !word.starts_with('-'); });
    return (given == arguments.end() ? "no command is given" : "there is no command '" + *given + "'") +
           "; the commands are " + CommandList(app);
  }
  const std::string_view kUnread = "Could not convert: ";  // NAME = VALUE
  if (const size_t equals = text.find(" = "); text.starts_with(kUnread) && equals != std::string::npos) {
    return text.substr(kUnread.size(), equals - kUnread.size()) + " does not take the value '" +
           text.substr(equals + 3) + "'";
  }
  return text;
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
    std::cerr << name << ": " << Explain(error, app, arguments) << "\nSee `" << name << " --help`.\n";
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
