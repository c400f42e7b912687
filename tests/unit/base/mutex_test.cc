#include "engine/base/mutex.h"

#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace expertd {
namespace {

TEST(MutexTest, LetsOneThreadInAtATime) {
  Mutex mutex;
  int count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 1000; ++j) {
        MutexLock lock(&mutex);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(count, 4000);
}

TEST(CondVarTest, TellsThatTheDeadlinePassed) {
  Mutex mutex;
  CondVar condition;
  MutexLock lock(&mutex);

  EXPECT_TRUE(condition.WaitWithDeadline(&mutex, absl::InfinitePast()));
  EXPECT_TRUE(condition.WaitWithTimeout(&mutex, absl::Milliseconds(1)));
}

TEST(NotificationTest, WakesItsWaiters) {
  Notification notification;
  std::thread waiter([&] { notification.WaitForNotification(); });
  const bool before = notification.WaitForNotificationWithTimeout(absl::ZeroDuration());

  notification.Notify();
  waiter.join();

  EXPECT_FALSE(before);
  EXPECT_TRUE(notification.HasBeenNotified());
  EXPECT_TRUE(notification.WaitForNotificationWithTimeout(absl::InfiniteDuration()));
}

}  // namespace
}  // namespace expertd
