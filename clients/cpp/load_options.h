// The command line of `expertd load`.
#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "clients/cpp/client.h"

namespace expertd {

struct LoadOptions {
  ClientOptions client;
  std::string rest_address;     // HOST:PORT of REST, which then carries the calls; empty: gRPC does
  int concurrency = 64;         // calls open at once
  int num_requests = 256;
  int input_len = 128;          // tokens of each prompt
  int output_len = 128;         // tokens of each answer
  double request_rate = 0;      // calls/s; 0: as soon as another has ended
  double timeout_seconds = 0;   // of each call; 0: none
  int connections = 0;          // 0: one for each 256 calls at once
  uint64_t seed = 1;            // of the prompts, and of the times of an open loop
  bool text = true;             // ask for text; otherwise for token ids
  bool json = false;

  // InvalidArgument naming the flag, the value and what is allowed.
  absl::Status Validate() const;

  // Connections to open: `connections`, or one for each 256 calls at once.
  int NumConnections() const;
};

// Adds the flags of `load`. `options` must outlive parsing.
void AddLoadFlags(CLI::App& command, LoadOptions& options);

}  // namespace expertd
