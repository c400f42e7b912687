// `expertd rest`: OpenAI's HTTP interface in front of a gRPC server elsewhere.
#pragma once

#include <CLI/CLI.hpp>

namespace expertd::rest {

// Adds the subcommand; running it sets `*exit_code` (0 after SIGTERM or Ctrl-C, 1 after an error, with a line on
// standard error).
void AddRestCommand(CLI::App& app, int* exit_code);

}  // namespace expertd::rest
