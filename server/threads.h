// The server's own threads: a bounded pool for work that may take long (templates, tokenizing), and one dispatcher that
// carries outputs from the engine to the transport and keeps the time for all calls.
#pragma once

#include <deque>
#include <memory>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace expertd {

// Starts a thread whose name (up to 15 characters) shows in ps, top and debuggers.
std::thread StartThread(const std::string& name, absl::AnyInvocable<void()> body);

// Keeps the allocator from growing its thresholds with the largest block ever freed (mallopt(3), "dynamic mmap
// threshold"): it would keep up to 64 MiB of free memory in the arena of every thread, where malloc_trim does not
// reach. For the whole process; call it before there is load.
void BoundFreeMemory();

// Thread-safe. Each live call posts at most one job, so the cap on live calls bounds the queue. After the last large
// job of several, free memory goes back to the system.
class WorkerPool {
 public:
  // Large jobs never take the last free thread, so that small ones don't wait behind them.
  enum class JobSize { kSmall, kLarge };

  // `num_threads` is 2 or more.
  WorkerPool(const std::string& name, int num_threads);
  ~WorkerPool() { Stop(); }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Jobs of a size run in the order they came. A job must not throw.
  void Post(JobSize size, absl::AnyInvocable<void()> job);

  // Does what was posted, then joins. What is posted later is dropped. Not from two threads at once.
  void Stop();

 private:
  using Job = absl::AnyInvocable<void()>;

  void Run();
  bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  const int max_large_running_;
  absl::Mutex mutex_;
  std::deque<Job> small_ ABSL_GUARDED_BY(mutex_);
  std::deque<Job> large_ ABSL_GUARDED_BY(mutex_);
  int num_large_running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// Thread-safe. One thread serves all streams: a step of the engine makes many streams ready at once, and one wake-up
// serves them all.
class Dispatcher {
 public:
  class Task {
   public:
    virtual ~Task() = default;
    // Both run on the dispatcher's thread, quickly.
    virtual void OnReady() {}
    virtual void OnTimer(absl::Time now) { static_cast<void>(now); }
  };

  Dispatcher();
  ~Dispatcher() { Stop(); }
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // Calls task->OnReady() soon.
  void Post(std::shared_ptr<Task> task);
  // Calls task->OnTimer() at or soon after `time`, if the task still lives.
  void PostAt(absl::Time time, std::weak_ptr<Task> task);

  // Joins; what is still posted is dropped. Not from two threads at once.
  void Stop();

 private:
  struct Timer {
    absl::Time time;
    std::weak_ptr<Task> task;
    bool operator>(const Timer& other) const { return time > other.time; }
  };

  void Run();

  absl::Mutex mutex_;
  absl::CondVar wake_;
  std::vector<std::shared_ptr<Task>> ready_ ABSL_GUARDED_BY(mutex_);
  std::priority_queue<Timer, std::vector<Timer>, std::greater<Timer>> timers_ ABSL_GUARDED_BY(mutex_);
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace expertd
