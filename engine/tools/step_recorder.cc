#include "engine/tools/step_recorder.h"

#include <algorithm>

namespace expertd {

double DecodeTokensPerSecond(const std::vector<StepStats>& steps, int batch) {
  int64_t num_tokens = 0;
  absl::Time first = absl::InfiniteFuture(), last = absl::InfinitePast();
  for (const StepStats& step : steps) {
    if (step.phase != StepPhase::kDecode || step.num_sequences != batch) continue;
    num_tokens += step.num_sampled_tokens;
    first = std::min(first, step.end_time - step.duration);
    last = std::max(last, step.end_time);
  }
  return num_tokens > 0 ? static_cast<double>(num_tokens) / absl::ToDoubleSeconds(last - first) : 0.0;
}

double ExpertsPerLayer(const std::vector<StepStats>& steps, StepPhase phase) {
  double sum = 0.0;
  int count = 0;
  for (const StepStats& step : steps) {
    if (step.phase != phase) continue;
    sum += step.experts_per_layer;
    ++count;
  }
  return count > 0 ? sum / count : 0.0;
}

}  // namespace expertd
