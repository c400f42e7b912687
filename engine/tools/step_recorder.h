// The engine's steps of one measurement of `expertd bench`, and its rate of decoding.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/request/stats.h"

namespace expertd {

// Keeps the steps of one measurement. Thread-safe: the engine's thread reports to it.
class StepRecorder final : public StatsSink {
 public:
  // Returns the steps since the last call, once they have sampled `num_tokens` tokens: the engine reports a step after
  // the streams have got its tokens.
  std::vector<StepStats> Take(int64_t num_tokens) {
    MutexLock lock(&mutex_);
    while (num_sampled_ < num_tokens) step_ended_.Wait(&mutex_);
    num_sampled_ = 0;
    return std::exchange(steps_, {});
  }
  void OnStep(const StepStats& stats) override {
    if (stats.num_tokens == 0) return;
    MutexLock lock(&mutex_);
    steps_.push_back(stats);
    num_sampled_ += stats.num_sampled_tokens;
    step_ended_.Signal();
  }
  void OnSequenceFinished(const SequenceStats&) override {}
  void OnInterTokenGap(absl::Duration) override {}
  void OnRejected(const std::string&) override {}
  void OnStage(const char*, absl::Duration) override {}

 private:
  Mutex mutex_;
  CondVar step_ended_;
  std::vector<StepStats> steps_ ABSL_GUARDED_BY(mutex_);
  int64_t num_sampled_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Tokens a second: what the pure decode steps with all `batch` sequences sampled, over the wall time that those steps
// span; 0 when there was none.
double DecodeTokensPerSecond(const std::vector<StepStats>& steps, int batch);

// The mean over steps of `phase` of the distinct experts that a sparse layer used; 0 when there was none.
double ExpertsPerLayer(const std::vector<StepStats>& steps, StepPhase phase);

}  // namespace expertd
