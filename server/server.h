// Server: the gRPC side of the process, from listening to the last answer. Made and started before the model loads, so
// that probes find somebody; SetEngine opens it to requests; Drain closes it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/request/rpc_stats.h"
#include "server/server_config.h"

namespace expertd {

// Thread-safe, but for construction and destruction.
class Server {
 public:
  // Checks `config`, reads keys and certificates, listens on all addresses and answers calls (NOT_READY until
  // SetEngine). `observer` may be null and outlives the server. Errors: InvalidArgument and NotFound for settings and
  // files; Unavailable when an address can't be listened on.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerConfig& config, RpcObserver* observer);

  // Stops at once: Drain with zero timeouts, unless it has drained.
  virtual ~Server() = default;

  // Takes requests from now on. Once. `engine` outlives the server.
  virtual void SetEngine(Engine* engine) = 0;

  // Ends well: readiness off; after `drain_delay` (in which routers learn of it, and requests are still taken) clients
  // get GOAWAY and nobody can connect any more. New requests inside the process get UNAVAILABLE DRAINING; those that
  // reach gRPC at the very moment of GOAWAY it ends itself, CANCELLED without details. Running ones go on for up to
  // `shutdown_timeout`, then end with UNAVAILABLE. Blocks until all is over. Once; later calls return when the first
  // has.
  virtual void Drain(absl::Duration shutdown_timeout, absl::Duration drain_delay) = 0;

  // Blocks until Drain is over.
  virtual void Wait() = 0;

  // Addresses that it listens on; a port given as 0 is the one that was taken.
  virtual const std::vector<std::string>& addresses() const = 0;

  // A channel inside the process, for the REST shim: same path, no socket.
  virtual std::shared_ptr<grpc::Channel> InProcessChannel() = 0;
};

}  // namespace expertd
