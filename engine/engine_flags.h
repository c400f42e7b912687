// Command-line flags of EngineConfig, shared by `serve` and the offline tools. Names are those of `vllm serve`, with
// hyphens or underscores, so that start scripts keep working; a flag that has no effect here is warned about or refused
// by name, never swallowed.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "engine/base/flags.h"
#include "engine/engine_config.h"

namespace expertd {

// Underscores in the names of long flags become hyphens: `--max_num_seqs=8` is `--max-num-seqs=8`. Values are kept.
std::vector<std::string> NormalizeFlags(int argc, char** argv);

// Adds the model folder (positional, or --model; parsing fails without it) and the flags that concern the engine.
// `config` must outlive parsing.
void AddEngineFlags(CLI::App& command, EngineConfig& config);

// Adds only the model folder and the flags of arithmetic (--dtype, --isa, --threads), for tools that schedule nothing.
void AddModelFlags(CLI::App& command, EngineConfig& config);

// Adds the flags of `vllm serve` that are known and have no effect here: some are accepted with a warning in the log,
// others are refused because serving without them would not be what was asked for.
void AddForeignServeFlags(CLI::App& command);

}  // namespace expertd
