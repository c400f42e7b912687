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

// Underscores in the names of long flags become hyphens, and vLLM's short names long ones: `--max_num_seqs=8` is
// `--max-num-seqs=8`, `-tp` is `--tensor-parallel-size`. Values are kept.
std::vector<std::string> NormalizeFlags(int argc, char** argv);

// Adds the model folder (positional, or --model; parsing fails without it) and the flags that concern the engine.
// `config` must outlive parsing.
void AddEngineFlags(CLI::App& command, EngineConfig& config);

// Adds only the model folder and the flags of arithmetic (--dtype, --isa, --threads), for tools that schedule nothing.
void AddModelFlags(CLI::App& command, EngineConfig& config);

}  // namespace expertd
