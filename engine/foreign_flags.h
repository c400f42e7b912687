// The flags of `vllm serve` that have no effect here, so that none of an existing start script is swallowed.
#pragma once

#include <CLI/CLI.hpp>

namespace expertd {

// Some are accepted with a warning in the log; others are refused, with what to do instead, because serving without
// them would not be what was asked for. Call after the flags that do have an effect.
void AddForeignServeFlags(CLI::App& command);

}  // namespace expertd
