#include "clients/cpp/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>

#include "engine/base/mutex.h"

namespace expertd {
namespace {

// Long enough for any machine; reached only by a broken watch.
constexpr absl::Duration kForever = absl::Seconds(60);

class InterruptTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { CatchInterrupts(); }
};

TEST_F(InterruptTest, CallsBackOnAnotherThread) {
  Notification called;
  std::thread::id caller;

  InterruptWatch watch([&] {
    caller = std::this_thread::get_id();
    called.Notify();
  });
  raise(SIGINT);

  ASSERT_TRUE(called.WaitForNotificationWithTimeout(kForever));
  EXPECT_NE(caller, std::this_thread::get_id());
}

TEST_F(InterruptTest, CountsNothingThatCameBefore) {
  std::atomic<int> num_calls = 0;
  raise(SIGINT);

  { InterruptWatch watch([&] { ++num_calls; }); }

  EXPECT_EQ(num_calls, 0);
}

TEST_F(InterruptTest, CallsNothingAfterItsEnd) {
  std::atomic<int> num_calls = 0;

  { InterruptWatch watch([&] { ++num_calls; }); }
  raise(SIGINT);

  EXPECT_EQ(num_calls, 0);
}

}  // namespace
}  // namespace expertd
