#include "engine/platform/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace expertd {
namespace {

TEST(ThreadPoolTest, RunsEveryItemOnce) {
  for (int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    for (int num_items : {0, 1, 2, 3, 7, 1000}) {
      std::vector<std::atomic<int>> runs(num_items);

      pool.ParallelFor(num_items, [&](int item, int) { runs[item].fetch_add(1); });

      EXPECT_TRUE(std::all_of(runs.begin(), runs.end(), [](const auto& count) { return count == 1; }))
          << num_threads << " threads, " << num_items << " items";
    }
  }
}

// Plain memory on purpose: the thread sanitizer would report a loop that is not ordered with the next, or two calls at
// once with one thread index.
TEST(ThreadPoolTest, OrdersLoopsAndGivesEachThreadItsOwnIndex) {
  ThreadPool pool(4);
  std::vector<int> values(64, 0);
  std::vector<int> calls_of_thread(pool.num_threads(), 0);

  for (int loop = 0; loop < 2000; ++loop) {
    pool.ParallelFor(64, [&](int item, int thread) {
      values[item] += values[item] == loop ? 1 : 1000000;
      ++calls_of_thread[thread];
    });
  }

  EXPECT_EQ(values, std::vector<int>(64, 2000));
  EXPECT_EQ(std::accumulate(calls_of_thread.begin(), calls_of_thread.end(), 0), 64 * 2000);
}

TEST(ThreadPoolTest, LetsTheCallerTakePart) {
  ThreadPool pool(3);
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> wrong{0};

  pool.ParallelFor(500, [&](int, int thread) {
    if ((std::this_thread::get_id() == caller) != (thread == 0)) wrong.fetch_add(1);
  });

  EXPECT_EQ(wrong, 0);
}

// Both items must be in progress at once for either to end, so a second thread must have come.
TEST(ThreadPoolTest, WakesItsWorkers) {
  ThreadPool pool(2, {.pin_workers = true});
  for (int loop = 0; loop < 20; ++loop) {
    std::atomic<int> arrived{0};

    pool.ParallelFor(2, [&](int, int) {
      arrived.fetch_add(1);
      while (arrived.load() < 2) std::this_thread::yield();
    });

    EXPECT_EQ(arrived, 2);
  }
}

TEST(ThreadPoolTest, StartsAndStopsWithoutWork) {
  for (int i = 0; i < 50; ++i) {
    ThreadPool pool(3);
    EXPECT_EQ(pool.num_threads(), 3);
  }
}

TEST(ThreadPoolDeathTest, RefusesALoopInsideALoop) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ThreadPool pool(1);
        pool.ParallelFor(1, [&](int, int) { pool.ParallelFor(1, [](int, int) {}); });
      },
      "ParallelFor inside ParallelFor");
}

}  // namespace
}  // namespace expertd
