// The command line of `expertd chat`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "clients/cpp/client.h"

namespace expertd {

struct ChatOptions {
  ClientOptions client;
  std::string system;          // empty: no system message
  std::string prompt;          // the first turn; empty: read one
  bool once = false;           // answer `prompt` and end
  bool stats = false;
  std::optional<float> temperature, top_p;
  std::optional<int32_t> top_k;
  std::optional<uint64_t> seed;
  std::optional<uint32_t> max_tokens;
  double timeout_seconds = 0;  // of an answer; 0: none

  // InvalidArgument naming the flag, the value and what is allowed. What sampling allows is the server's to say.
  absl::Status Validate() const;
};

// Adds the flags of `chat`. `options` must outlive parsing.
void AddChatFlags(CLI::App& command, ChatOptions& options);

}  // namespace expertd
