// `expertd serve`: flags to configs, then one process from loading to drain. The only place that joins engine, metrics
// and server.
#pragma once

#include <CLI/CLI.hpp>

namespace expertd {

// Adds the subcommand; running it sets `*exit_code`: 0 after a clean drain, 1 after an error (a line on standard
// error).
void AddServeCommand(CLI::App& app, int* exit_code);

}  // namespace expertd
