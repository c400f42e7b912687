// FrontDoor: a further way into `expertd serve` beside gRPC. server/main.cc brings it along (it is the REST shim, which
// this folder may not know); `serve` opens and closes it.
#pragma once

#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <grpcpp/channel.h>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace expertd {

class FrontDoor {
 public:
  virtual ~FrontDoor() = default;

  // Adds its flags to those of `serve`.
  virtual void AddFlags(CLI::App& command) = 0;

  // Checks what the flags have set. `allow_plaintext`: --allow-plaintext was given. Errors: InvalidArgument.
  virtual absl::Status Validate(bool allow_plaintext) = 0;

  // Listens, and sends all requests through `channel`. `metrics_address` is where /metrics is, as HOST:PORT; empty: it
  // is nowhere. Errors: Unavailable.
  virtual absl::Status Open(const std::shared_ptr<grpc::Channel>& channel, const std::string& metrics_address) = 0;

  // Lets answers that are on their way end for up to `timeout`. After Open, once.
  virtual void Close(absl::Duration timeout) = 0;
};

}  // namespace expertd
