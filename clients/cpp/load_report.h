// What a load run measured, as JSON and as a table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/json.h"

namespace expertd {

// What one call measured. Times in seconds.
struct CallRecord {
  absl::Status status;
  std::string reason;           // of a failure, as errors.proto lists them; empty when the server gave none
  double time_to_first_token = 0;
  double end_to_end = 0;
  std::vector<float> gaps;      // one per token after the first; tokens that came in one message share its gap evenly
  int64_t num_input_tokens = 0;
  int64_t num_output_tokens = 0;
};

// The settings that the report repeats.
struct LoadSettings {
  int concurrency = 0;
  int num_requests = 0;
};

// Mean, median and 99th percentile (nearest rank) of times in seconds, as {"mean_ms", "median_ms", "p99_ms"}; zeros
// when there are none.
Json TimesReport(std::vector<double> seconds);

// Counts, rates over `seconds` (above 0), and times of the calls that ended well, then "errors" if there were any: one
// {"code", "reason", "count", "example"} for each code and reason, the most frequent first; the example is a message.
Json LoadReport(const LoadSettings& settings, const std::vector<CallRecord>& records, double seconds);

// `report` of LoadReport as lines for a reader.
std::string LoadTable(const Json& report);

}  // namespace expertd
