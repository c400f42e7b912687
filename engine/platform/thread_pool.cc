// The pool's state is one counter of unclaimed items, which all threads count down, and one of finished items, for
// which the caller waits. So the caller never waits for a worker that took nothing: one that sleeps, or lost its CPU to
// another thread, delays nobody. Waiting is spinning, then std::atomic::wait (a futex).
#include "engine/platform/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <system_error>
#include <thread>
#include <vector>

#include "engine/base/log.h"

namespace expertd {
namespace {

using Clock = std::chrono::steady_clock;

// A loop of a forward pass follows the one before after a few microseconds; a step follows the one before after
// sampling and scheduling, which takes longer than it is polite to spin on a machine shared with the server's threads.
constexpr std::chrono::microseconds kLongestSpin{60};
constexpr std::chrono::microseconds kShortestSpin{4};

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spins until `done()` or until `limit` has passed; returns whether it was done.
template <typename Condition>
bool SpinUntil(std::chrono::nanoseconds limit, Condition done) {
  constexpr int kPausesPerLook = 32;  // reading the clock costs as much as some pauses
  const Clock::time_point end = Clock::now() + limit;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (done()) return true;
      Pause();
    }
  } while (Clock::now() < end);
  return done();
}

void NameThread(std::thread& thread, int index) {
  char name[16];  // the longest that Linux takes
  std::snprintf(name, sizeof(name), "compute-%d", index % 1000);
  pthread_setname_np(thread.native_handle(), name);
}

// Pins to the `index`-th CPU of the process, unless it has fewer than `num_threads`. Failure leaves it unpinned.
void PinThread(std::thread& thread, int index, int num_threads) {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (sched_getaffinity(0, sizeof(usable), &usable) != 0 || CPU_COUNT(&usable) < num_threads) return;
  int seen = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &usable) || seen++ != index) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(thread.native_handle(), sizeof(one), &one);
    return;
  }
}

}  // namespace

struct ThreadPool::State {
  using Function = absl::FunctionRef<void(int, int)>;

  // Written by the caller before it publishes `unclaimed`, read by a thread after it has claimed an item.
  const Function* function = nullptr;
  int num_items = 0;

  // Apart from each other: workers spin on `loops` and claim from `unclaimed`, the caller spins on `finished`.
  alignas(64) std::atomic<int> unclaimed{0};
  alignas(64) std::atomic<uint32_t> loops{0};  // changes when there is something to do
  alignas(64) std::atomic<int> finished{0};
  alignas(64) std::atomic<bool> in_loop{false};
  std::atomic<bool> stopping{false};

  int num_threads = 1;
  std::vector<std::thread> workers;

  // Runs items until none is left to claim.
  void RunItems(int thread);
  void Work(int thread);
};

void ThreadPool::State::RunItems(int thread) {
  int done = 0;
  int remaining = unclaimed.load(std::memory_order_relaxed);
  while (remaining > 0) {
    // Acquire: whoever claims an item of a loop sees its function, even if it woke up for an earlier loop.
    if (!unclaimed.compare_exchange_weak(remaining, remaining - 1, std::memory_order_acquire,
                                         std::memory_order_relaxed)) {
      continue;
    }
    (*function)(num_items - remaining, thread);
    ++done;
    remaining = unclaimed.load(std::memory_order_relaxed);
    // The caller cannot begin another loop before `done` is reported, so `remaining` still counts this one.
  }
  if (done > 0) {
    finished.fetch_add(done, std::memory_order_release);
    if (thread != 0) finished.notify_one();
  }
}

void ThreadPool::State::Work(int thread) {
  std::chrono::nanoseconds spin = kLongestSpin;
  uint32_t seen = 0;
  while (true) {
    const bool came_soon = SpinUntil(spin, [&] { return loops.load(std::memory_order_acquire) != seen; });
    // Adapts to the work: a worker that spun in vain spins less the next time.
    spin = came_soon ? std::min<std::chrono::nanoseconds>(spin * 2, kLongestSpin)
                     : std::max<std::chrono::nanoseconds>(spin / 2, kShortestSpin);
    if (!came_soon) loops.wait(seen, std::memory_order_acquire);
    seen = loops.load(std::memory_order_acquire);
    if (stopping.load(std::memory_order_relaxed)) return;
    RunItems(thread);
  }
}

ThreadPool::ThreadPool(int num_threads, ThreadPoolOptions options) : state_(std::make_unique<State>()) {
  EXPERTD_CHECK(num_threads >= 1, "num_threads=", num_threads);
  state_->num_threads = num_threads;
  state_->workers.reserve(num_threads - 1);
  for (int thread = 1; thread < num_threads; ++thread) {
    try {
      state_->workers.emplace_back([state = state_.get(), thread] { state->Work(thread); });
    } catch (const std::system_error& error) {
      // Fewer threads do the same work, only slower.
      LogWarning("thread_pool_short", {{"wanted", num_threads}, {"started", thread}, {"reason", error.what()}});
      break;
    }
    NameThread(state_->workers.back(), thread);
    if (options.pin_workers) PinThread(state_->workers.back(), thread, num_threads);
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true, std::memory_order_relaxed);
  state_->loops.fetch_add(1, std::memory_order_release);
  state_->loops.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::num_threads() const { return state_->num_threads; }

void ThreadPool::ParallelFor(int num_items, absl::FunctionRef<void(int item, int thread)> fn) {
  State& state = *state_;
  EXPERTD_CHECK(!state.in_loop.exchange(true, std::memory_order_acquire), "ParallelFor inside ParallelFor");
  if (num_items <= 1 || state.workers.empty()) {
    for (int item = 0; item < num_items; ++item) fn(item, 0);
  } else {
    state.function = &fn;
    state.num_items = num_items;
    state.finished.store(0, std::memory_order_relaxed);
    state.unclaimed.store(num_items, std::memory_order_release);
    state.loops.fetch_add(1, std::memory_order_release);
    state.loops.notify_all();
    state.RunItems(0);
    const auto all_finished = [&] { return state.finished.load(std::memory_order_acquire) == num_items; };
    while (!SpinUntil(kLongestSpin, all_finished)) {
      const int finished = state.finished.load(std::memory_order_acquire);
      if (finished != num_items) state.finished.wait(finished, std::memory_order_acquire);
    }
  }
  state.in_loop.store(false, std::memory_order_release);
}

}  // namespace expertd
