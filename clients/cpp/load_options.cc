#include "clients/cpp/load_options.h"

#include <algorithm>

#include "engine/base/flags.h"
#include "engine/base/range_check.h"
#include "engine/base/status_macros.h"

namespace expertd {

absl::Status LoadOptions::Validate() const {
  constexpr int kMany = 1'000'000'000;
  RETURN_IF_ERROR(client.Validate());
  RETURN_IF_ERROR(CheckRange("--concurrency", concurrency, 1, 65536));
  RETURN_IF_ERROR(CheckRange("--num-requests", num_requests, 1, kMany));
  RETURN_IF_ERROR(CheckRange("--input-len", input_len, 1, kMany));
  RETURN_IF_ERROR(CheckRange("--output-len", output_len, 1, kMany));
  RETURN_IF_ERROR(CheckNotNegative("--request-rate", request_rate));
  RETURN_IF_ERROR(CheckNotNegative("--timeout", timeout_seconds));
  return CheckRange("--connections", connections, 0, 1024);
}

int LoadOptions::NumConnections() const {
  constexpr int kCallsPerConnection = 256;
  if (connections > 0) return connections;
  return (std::min(concurrency, num_requests) + kCallsPerConnection - 1) / kCallsPerConnection;
}

void AddLoadFlags(CLI::App& command, LoadOptions& options) {
  AddClientFlags(command, options.client);
  command.add_option("--rest", options.rest_address,
                     "HOST:PORT of REST, to put the load on that; --target still tells of the model [none]");
  command.add_option("--concurrency", options.concurrency, "Calls at once [64]");
  command.add_option("--num-requests", options.num_requests, "Calls in all [256]");
  command.add_option("--input-len", options.input_len, "Prompt tokens [128]");
  command.add_option("--output-len", options.output_len, "Generated tokens [128]");
  command.add_option("--request-rate", options.request_rate,
                     "Calls a second, at random times; 0: as soon as another has ended [0]");
  command.add_option("--timeout", options.timeout_seconds, "Deadline of each call, seconds; 0: none [0]");
  command.add_option("--connections", options.connections, "Connections; 0: one for each 256 calls [0]");
  AddSeedFlag(command, options.seed, "Seed of the prompts [1]");
  command.add_flag("--text,!--no-text", options.text, "Ask for text; --no-text asks for token ids [text]");
  command.add_flag("--json", options.json, "One JSON object");
}

}  // namespace expertd
