// What the flags of all commands share. Only for sources that build a command line: CLI11 reports by exceptions, which
// server/main.cc turns into one line and exit code 2.
#pragma once

#include <cstdint>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "engine/base/strings.h"

namespace expertd {

// The error "NAME is VALUE; must be WANTED".
inline CLI::ValidationError FlagError(std::string_view name, std::string_view value, std::string_view wanted) {
  return CLI::ValidationError(StrCat(name, " is ", value.empty() ? "empty" : value, "; must be ", wanted));
}

// Adds a flag whose value must be one of `choices`.
inline void AddChoiceFlag(CLI::App& command, const std::string& name, std::string& choice,
                          const std::vector<std::string>& choices, const std::string& help) {
  command.add_option_function<std::string>(
      name,
      [=, &choice](const std::string& value) {
        std::string wanted;
        for (size_t i = 0; i < choices.size(); ++i) {
          if (choices[i] == value) {
            choice = value;
            return;
          }
          StrAppend(&wanted, i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ", choices[i]);
        }
        throw FlagError(name, value, wanted);
      },
      help);
}

// Adds --seed, a uint64_t or an optional one. CLI11's own reading of unsigned numbers takes -5 for 2^64 - 5.
template <typename Seed>
void AddSeedFlag(CLI::App& command, Seed& seed, const std::string& help) {
  command
      .add_option_function<std::string>(
          "--seed",
          [&seed](const std::string& text) {
            uint64_t value = 0;
            if (!absl::SimpleAtoi(text, &value)) throw FlagError("--seed", text, StrCat("0..", UINT64_MAX));
            seed = value;
          },
          help)
      ->type_name("UINT");
}

// Prints `expertd COMMAND: message` to standard error when `status` is not OK. Returns the exit code: 0 or 1.
inline int ReportToUser(const CLI::App& command, const absl::Status& status) {
  if (status.ok()) return 0;
  std::cerr << "expertd " << command.get_name() << ": " << status.message() << std::endl;
  return 1;
}

}  // namespace expertd
