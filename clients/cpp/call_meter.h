// CallMeter: takes the times of one streamed call for the load generator, whatever carries it.
#pragma once

#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "clients/cpp/load_report.h"

namespace expertd {

// Not thread-safe. The call begins when it is made.
class CallMeter {
 public:
  explicit CallMeter(int num_expected_tokens) { record_.gaps.reserve(static_cast<size_t>(num_expected_tokens)); }

  absl::Time start() const { return start_; }
  CallRecord& record() { return record_; }

  // `num_tokens` > 0 came in one message, now.
  void AddTokens(int num_tokens) {
    const absl::Time now = absl::Now();
    const bool is_first = last_token_ == absl::InfinitePast();
    if (is_first) {
      record_.time_to_first_token = absl::ToDoubleSeconds(now - start_);
      --num_tokens;  // further tokens in the first message came together with it
    }
    const double gap = is_first || num_tokens == 0 ? 0 : absl::ToDoubleSeconds(now - last_token_) / num_tokens;
    record_.gaps.insert(record_.gaps.end(), static_cast<size_t>(num_tokens), static_cast<float>(gap));
    last_token_ = now;
  }

  CallRecord End(absl::Status status, std::string reason) {
    record_.status = std::move(status);
    record_.reason = std::move(reason);
    record_.end_to_end = absl::ToDoubleSeconds(absl::Now() - start_);
    return std::move(record_);
  }

 private:
  const absl::Time start_ = absl::Now();
  absl::Time last_token_ = absl::InfinitePast();
  CallRecord record_;
};

}  // namespace expertd
