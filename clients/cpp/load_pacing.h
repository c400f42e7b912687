// When the calls of a load run start. Closed loop: `concurrency` calls are open, and each that ends makes room for
// another. Open loop: calls are due at the random times of a Poisson process, whatever the server does, but at most
// `concurrency` are open; one that must wait for room starts late, and those behind it follow as soon as they can.
#pragma once

#include <cstdint>
#include <random>

namespace expertd {

// Not thread-safe.
class LoadPacing {
 public:
  // `request_rate`: calls a second, 0 for a closed loop. `seed` decides the times of an open loop.
  LoadPacing(int num_requests, int concurrency, double request_rate, uint64_t seed)
      : num_requests_(num_requests), concurrency_(concurrency), rate_(request_rate), random_(seed) {}

  bool is_open_loop() const { return rate_ > 0; }
  bool has_room() const { return num_open_ < concurrency_; }
  bool has_started_all() const { return num_started_ == num_requests_; }
  bool is_over() const { return has_started_all() && num_open_ == 0; }

  // Takes a call to start. False, when there is no room or no call is left.
  bool Claim() {
    if (!has_room() || has_started_all()) return false;
    ++num_started_;
    ++num_open_;
    return true;
  }

  // A call has ended. True when another was claimed in its place, as a closed loop has it.
  bool EndAndClaim() {
    --num_open_;
    return !is_open_loop() && Claim();
  }

  // Seconds from one call's time to the next one's; 0 in a closed loop.
  double NextGapSeconds() {
    if (!is_open_loop()) return 0;
    return std::exponential_distribution<double>(rate_)(random_);
  }

 private:
  const int num_requests_;
  const int concurrency_;
  const double rate_;
  std::mt19937_64 random_;
  int num_started_ = 0;
  int num_open_ = 0;
};

}  // namespace expertd
