// What is wrong with a command line, in words that name the flag and the remedy: CLI11's own say too little.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace expertd {

// One line for an `error` of `app`, whose subcommands are the commands of the program. `arguments` is the command line
// without the program's name.
std::string ExplainParseError(const CLI::ParseError& error, const CLI::App& app,
                              const std::vector<std::string>& arguments);

}  // namespace expertd
