// `expertd run-batch`: a file of requests in OpenAI's batch format, answered by a server.
#pragma once

#include <CLI/CLI.hpp>

namespace expertd::batch {

// Adds the subcommand; running it sets `*exit_code` (0 when every request has its answer in the output, errors
// included; 1 otherwise, with a line on standard error).
void AddRunBatchCommand(CLI::App& app, int* exit_code);

}  // namespace expertd::batch
