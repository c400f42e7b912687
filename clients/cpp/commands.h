// The subcommands of `expertd` that speak gRPC to a server. Each function adds one subcommand to the command line;
// running it sets `*exit_code` (0 done, 1 failed with a line on standard error).
#pragma once

#include <CLI/CLI.hpp>

namespace expertd {

// chat: a conversation in the terminal; --once for a single turn.
void AddChatCommand(CLI::App& app, int* exit_code);

// load: a load generator; throughput and latency as a table or as JSON.
void AddLoadCommand(CLI::App& app, int* exit_code);

}  // namespace expertd
