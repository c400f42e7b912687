// Exposer: the /metrics endpoint, in Prometheus text format, on an address of its own; answers on its own threads, so a
// scrape is quick whatever the engine computes. Adds the process_* series that every exporter has.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace prometheus {
class Registry;
}

namespace expertd {

// Serves until destroyed. Thread-safe.
class Exposer {
 public:
  virtual ~Exposer() = default;

  // The port in use (of interest when 0 was asked for).
  virtual int port() const = 0;

  // Listens on `address` ("0.0.0.0:9464", "[::]:9464"). Errors: Unavailable naming the address (port in use, no right).
  static absl::StatusOr<std::unique_ptr<Exposer>> Start(const std::string& address,
                                                        const std::shared_ptr<prometheus::Registry>& registry);
};

}  // namespace expertd
