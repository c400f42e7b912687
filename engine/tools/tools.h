// The offline subcommands of `expertd`: they link the engine and use no network. Each function adds one subcommand to
// the command line; running it sets `*exit_code` (0 done, 1 failed with a line on standard error).
#pragma once

#include <CLI/CLI.hpp>

namespace expertd {

// generate MODEL: prompts in, text out, all prompts batched.
void AddGenerateCommand(CLI::App& app, int* exit_code);

// logits MODEL --token-ids 1,2,3 --output out.npy: float32 [tokens, vocab], as NumPy reads it.
void AddLogitsCommand(CLI::App& app, int* exit_code);

// bench MODEL: prefill and decode throughput through the whole engine, by batch size.
void AddBenchCommand(CLI::App& app, int* exit_code);

// inspect MODEL: architecture, parameters, memory plan, instruction set; loads no weights.
void AddInspectCommand(CLI::App& app, int* exit_code);

// quantize MODEL OUTPUT: a packed folder with weights in int8, int4 or bf16.
void AddQuantizeCommand(CLI::App& app, int* exit_code);

}  // namespace expertd
