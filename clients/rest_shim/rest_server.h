// RestServer: OpenAI's HTTP interface in front of a gRPC server, which may be another process's (`expertd rest`) or the
// same one's (`expertd serve`). It holds no state of its own: keys, limits and errors are the server's.
#pragma once

#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <grpcpp/channel.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace expertd::rest {

struct RestConfig {
  std::string host = "127.0.0.1";  // --host: a name or an address
  int port = 8000;                 // --port; 0 takes a free one
  std::string metrics_address;     // HOST:PORT that /metrics comes from; empty: there is no /metrics
  bool allow_plaintext = false;    // listen on hosts beyond this machine: the shim has no TLS of its own

  // InvalidArgument naming the flag, the value and what is allowed.
  absl::Status Validate() const;
};

// Adds --host and --port. `config` must outlive parsing.
void AddRestFlags(CLI::App& command, RestConfig& config);

// Thread-safe, but for construction and destruction.
class RestServer {
 public:
  // Listens, and answers from `channel`, whether a server is there yet or not. Errors: Unavailable when the address
  // can't be listened on.
  static absl::StatusOr<std::unique_ptr<RestServer>> Start(const RestConfig& config,
                                                           const std::shared_ptr<grpc::Channel>& channel);

  // Stops at once.
  virtual ~RestServer() = default;

  // HOST:PORT that it listens on.
  virtual const std::string& address() const = 0;

  // Takes no further connection; lets running requests end for up to `timeout`, then cancels them. Blocks. Once.
  virtual void Stop(absl::Duration timeout) = 0;
};

}  // namespace expertd::rest
