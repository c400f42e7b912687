// A fork-join pool for the forward pass: one caller (the engine thread) and its workers run the items of one loop at a
// time. Between loops workers spin for some tens of microseconds, which covers the gaps within a forward pass, and
// then sleep, so that an idle server costs nothing and the other threads of a small machine are not starved.
#pragma once

#include <memory>

#include "absl/functional/function_ref.h"

namespace expertd {

struct ThreadPoolOptions {
  // Pins worker i to the i-th usable CPU when the process has at least as many CPUs as the pool has threads. The
  // calling thread is never pinned: it belongs to its owner.
  bool pin_workers = false;
};

// The threads of a pool where a user asked for `asked` of them: 0 takes one for each of `num_cpus`.
constexpr int NumPoolThreads(int asked, int num_cpus) { return asked > 0 ? asked : num_cpus; }

// Owned by one thread at a time: ParallelFor must not be called concurrently nor from inside its own items.
class ThreadPool {
 public:
  // `num_threads` >= 1 counts the caller, so num_threads - 1 workers are started.
  explicit ThreadPool(int num_threads, ThreadPoolOptions options = {});
  ~ThreadPool();  // joins the workers
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  // Calls fn(item, thread) once for each item in [0, num_items); `thread` in [0, num_threads()) is 0 for the caller and
  // is never in two calls at once, so it may index per-thread scratch. Threads claim items one by one in ascending
  // order. Returns when all have finished; what they wrote is visible to the caller. Allocates nothing. `fn` must not
  // throw. With num_items <= 1 or one thread everything runs on the caller.
  void ParallelFor(int num_items, absl::FunctionRef<void(int item, int thread)> fn);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace expertd
