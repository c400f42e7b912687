// `expertd serve`: flags to configs, then one process from loading to drain. The only place that joins engine, metrics
// and server.
#pragma once

#include <CLI/CLI.hpp>

#include "server/front_door.h"

namespace expertd {

// Adds the subcommand; running it sets `*exit_code`: 0 after a clean drain, 1 after an error (a line on standard
// error). `door`, a further way in, outlives parsing.
void AddServeCommand(CLI::App& app, FrontDoor& door, int* exit_code);

}  // namespace expertd
