#include "server/server_state.h"

#include <random>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "engine/base/log.h"
#include "engine/request/errors.h"

namespace expertd {
namespace {

absl::Status Unavailable(std::string_view reason, std::string_view message) {
  return MakeError(absl::StatusCode::kUnavailable, message,
                   {.reason = std::string(reason), .retry_delay = absl::Seconds(1)});
}

std::string RandomId() {
  std::random_device device;
  return absl::StrFormat("%08x%08x", device(), device());
}

}  // namespace

ServerState::ServerState() : start_time_(absl::Now()), instance_id_(RandomId()) {}

void ServerState::SetEngine(Engine* engine) {
  EXPERTD_CHECK(engine != nullptr);
  ready_unix_nanos_ = absl::ToUnixNanos(absl::Now());
  engine_ = engine;
}

absl::StatusOr<Engine*> ServerState::engine() const {
  if (Engine* engine = engine_.load(); engine != nullptr) return engine;
  return Unavailable(error_reason::kNotReady, "the model is being loaded");
}

absl::StatusOr<Engine*> ServerState::engine_for_new_request() const {
  if (is_draining_) return Unavailable(error_reason::kDraining, "the server is stopping");
  return engine();
}

bool ServerState::is_live() const {
  const Engine* engine = engine_.load();
  return engine == nullptr || engine->Load().is_healthy;
}

bool ServerState::is_ready() const {
  const Engine* engine = engine_.load();
  if (engine == nullptr || is_unready_ || is_draining_) return false;
  const EngineLoad load = engine->Load();
  return load.is_healthy && !load.is_draining;
}

}  // namespace expertd
