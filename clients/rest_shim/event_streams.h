// EventStreams: streamed requests to a REST server, as the load generator sends them: each on a connection of its own,
// its server-sent events handed out as they come.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/json.h"

namespace expertd::rest {

// Thread-safe.
class EventStreams {
 public:
  // Called on a thread of this object's own; must not block.
  using OnEvent = std::function<void(const Json& event)>;
  // Once, after the last event. `reason` of an error in our own spelling ("QUEUE_FULL"); empty: the server gave none.
  using OnEnd = std::function<void(absl::Status status, std::string reason)>;

  // `address`: HOST:PORT, the value of --rest. `authorization`: sent with each request; may be empty. Errors:
  // InvalidArgument.
  static absl::StatusOr<std::unique_ptr<EventStreams>> Create(const std::string& address, std::string authorization);

  // What is still open ends without a word.
  virtual ~EventStreams() = default;

  // Posts JSON. `timeout`: of all of it; infinite: none.
  virtual void Post(const std::string& path, std::string body, absl::Duration timeout, OnEvent on_event,
                    OnEnd on_end) = 0;
};

}  // namespace expertd::rest
