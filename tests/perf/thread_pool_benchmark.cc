// What a loop over the pool costs when its items do nothing: handing out, waking and gathering. A decode step crosses
// it some hundred times. Run by hand on a machine with as many idle CPUs as threads.
#include <benchmark/benchmark.h>

#include <chrono>

#include "engine/platform/thread_pool.h"

namespace expertd {
namespace {

// Loop after loop, as in a forward pass: the workers spin in between.
void BM_EmptyLoop(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)), {.pin_workers = state.range(1) != 0});
  for (auto _ : state) pool.ParallelFor(pool.num_threads(), [](int, int) {});
}
BENCHMARK(BM_EmptyLoop)->ArgNames({"threads", "pinned"})->Args({1, 0})->Args({2, 0})->Args({2, 1})->UseRealTime();

// A loop after a pause as long as the scheduling between two steps (200 us), in which the workers went to sleep.
void BM_EmptyLoopAfterAPause(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  ThreadPool pool(static_cast<int>(state.range(0)), {.pin_workers = state.range(1) != 0});
  for (auto _ : state) {
    const Clock::time_point pause_end = Clock::now() + std::chrono::microseconds(200);
    while (Clock::now() < pause_end) continue;
    const Clock::time_point start = Clock::now();
    pool.ParallelFor(pool.num_threads(), [](int, int) {});
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
  }
}
BENCHMARK(BM_EmptyLoopAfterAPause)->ArgNames({"threads", "pinned"})->Args({2, 0})->Args({2, 1})->UseManualTime()
    ->Iterations(2000);

}  // namespace
}  // namespace expertd

BENCHMARK_MAIN();
