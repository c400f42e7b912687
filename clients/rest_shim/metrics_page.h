// /metrics, passed on from the server's own metrics address.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "clients/rest_shim/upstream.h"

namespace expertd::rest {

// Thread-safe, but for construction and destruction.
class MetricsPage {
 public:
  // Pages from http://ADDRESS/metrics, where `address`, the value of --metrics-target, is HOST:PORT. It is asked anew
  // for each call. Errors: InvalidArgument.
  static absl::StatusOr<std::unique_ptr<MetricsPage>> Create(const std::string& address);

  // Calls that wait for a page are dropped.
  virtual ~MetricsPage() = default;

  // Answers with the page, or 503 when there is none within seconds.
  virtual void Answer(const RestCall& call) = 0;
};

}  // namespace expertd::rest
