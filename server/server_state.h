// ServerState: what all services ask of the process: the engine, once it stands, and whether new requests are taken.
#pragma once

#include <atomic>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"

namespace expertd {

// Thread-safe.
class ServerState {
 public:
  ServerState();

  // Called once, when the model is loaded. `engine` outlives the server.
  void SetEngine(Engine* engine);
  // Readiness goes off; requests are still taken.
  void SetUnready() { is_unready_ = true; }
  // And requests are refused.
  void SetDraining() { is_draining_ = true; }

  // Unavailable NOT_READY while the model loads.
  absl::StatusOr<Engine*> engine() const;
  // As engine(), and Unavailable DRAINING once the server drains.
  absl::StatusOr<Engine*> engine_for_new_request() const;

  bool is_live() const;      // false after the engine failed: the process should be restarted
  bool is_started() const { return engine_.load() != nullptr; }
  bool is_ready() const;     // new requests are taken
  bool is_draining() const { return is_draining_; }

  const std::string& instance_id() const { return instance_id_; }
  absl::Time start_time() const { return start_time_; }                                        // of the process
  absl::Time ready_time() const { return absl::FromUnixNanos(ready_unix_nanos_.load()); }      // of the engine

 private:
  std::atomic<Engine*> engine_{nullptr};
  std::atomic<bool> is_unready_{false};
  std::atomic<bool> is_draining_{false};
  std::atomic<int64_t> ready_unix_nanos_{0};
  const absl::Time start_time_;
  const std::string instance_id_;
};

}  // namespace expertd
