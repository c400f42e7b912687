// Settings of the server, keys of its callers, and its threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <fstream>
#include <utility>

#include "absl/synchronization/notification.h"
#include "engine/base/strings.h"
#include "server/auth.h"
#include "server/server_config.h"
#include "server/threads.h"

namespace expertd {
namespace {

using ::testing::HasSubstr;

std::string ConfigError(void (*change)(ServerConfig&)) {
  ServerConfig config;
  change(config);
  const absl::Status status = config.Validate();
  EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(ServerConfigTest, DefaultsAreValid) { EXPECT_TRUE(ServerConfig().Validate().ok()); }

TEST(ServerConfigTest, PlaintextBeyondThisMachineMustBeAskedFor) {
  EXPECT_THAT(ConfigError([](ServerConfig& c) { c.listen_addresses = {"0.0.0.0:50051"}; }),
              HasSubstr("--allow-plaintext"));
  EXPECT_THAT(ConfigError([](ServerConfig& c) { c.listen_addresses = {"[::]:50051"}; }),
              HasSubstr("--allow-plaintext"));
  EXPECT_EQ(ConfigError([](ServerConfig& c) {
              c.listen_addresses = {"0.0.0.0:50051"};
              c.allow_plaintext = true;
            }),
            "");
  EXPECT_EQ(ConfigError([](ServerConfig& c) {
              c.listen_addresses = {"0.0.0.0:50051"};
              c.tls_cert_file = "cert.pem";
              c.tls_key_file = "key.pem";
            }),
            "");
  EXPECT_EQ(ConfigError([](ServerConfig& c) { c.listen_addresses = {"[::1]:1", "localhost:2", "unix:/run/e.sock"}; }),
            "");
}

TEST(ServerConfigTest, WrongValuesAreNamedByTheirFlag) {
  EXPECT_THAT(ConfigError([](ServerConfig& c) { c.listen_addresses = {"50051"}; }), HasSubstr("--grpc-listen"));
  EXPECT_THAT(ConfigError([](ServerConfig& c) { c.listen_addresses.clear(); }), HasSubstr("--grpc-listen"));
  EXPECT_THAT(ConfigError([](ServerConfig& c) { c.tls_cert_file = "x"; }), HasSubstr("--ssl-keyfile"));
  EXPECT_THAT(ConfigError([](ServerConfig& c) { c.tls_client_ca_file = "x"; }), HasSubstr("--ssl-ca-certs"));
  EXPECT_EQ(ConfigError([](ServerConfig& c) { c.max_live_calls = 0; }), "--max-live-calls is 0; must be 1..1000000");
  // A budget below the largest request could never take that one.
  EXPECT_EQ(ConfigError([](ServerConfig& c) { c.max_live_request_bytes = 1 << 20; }),
            "--max-live-request-bytes is 1048576; must be 67108864..1099511627776");
  EXPECT_THAT(ConfigError([](ServerConfig& c) { c.stream_stall_timeout = absl::ZeroDuration(); }),
              HasSubstr("--stream-stall-timeout is 0; must be 10ms to 24h"));
  EXPECT_THAT(ConfigError([](ServerConfig& c) { c.keepalive_time = absl::InfiniteDuration(); }),
              HasSubstr("--grpc-keepalive-time"));
  EXPECT_EQ(ConfigError([](ServerConfig& c) { c.max_connection_age = absl::InfiniteDuration(); }), "");
  EXPECT_THAT(ConfigError([](ServerConfig& c) { c.num_submit_threads = 1; }), HasSubstr("--submit-threads is 1"));
}

class KeyFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<KeyRing> Load(const std::string& content) {
    const std::string path = ::testing::TempDir() + "/keys_" + std::to_string(getpid());
    std::ofstream(path) << content;
    return KeyRing::Load(path);
  }
};

TEST_F(KeyFileTest, ReadsKeysBetweenCommentsAndBlanks) {
  const absl::StatusOr<KeyRing> keys = Load("# first\r\n  0123456789abcdef  # team a\r\n\n\tABCDEF0123456789\n");

  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_TRUE(keys->Check("Bearer 0123456789abcdef").ok());
  EXPECT_TRUE(keys->Check("BEARER  ABCDEF0123456789 ").ok());
  EXPECT_FALSE(keys->Check("Bearer 0123456789abcde").ok());
  EXPECT_FALSE(keys->Check("Bearer 0123456789ABCDEF").ok());
  EXPECT_FALSE(keys->Check("Basic 0123456789abcdef").ok());
  EXPECT_FALSE(keys->Check("Bearer").ok());
  EXPECT_FALSE(keys->Check("").ok());
}

TEST_F(KeyFileTest, RefusesFilesThatWouldLetInTheWrongOnes) {
  EXPECT_THAT(Load("").status().message(), HasSubstr("has no key"));
  EXPECT_THAT(Load("# nothing\n").status().message(), HasSubstr("has no key"));
  EXPECT_THAT(Load("0123456789abcdef\nshort\n").status().message(), HasSubstr("line 2"));
  EXPECT_THAT(Load("0123456789abcdef 0123456789abcdef\n").status().message(), HasSubstr("line 1"));
  EXPECT_EQ(KeyRing::Load("/nonexistent/keys").status().code(), absl::StatusCode::kNotFound);
}

TEST(KeyRingTest, WithoutKeysEverybodyGetsIn) {
  EXPECT_FALSE(KeyRing().needs_key());
  EXPECT_TRUE(KeyRing().Check("").ok());
}

TEST(WorkerPoolTest, LargeJobsLeaveAThreadToSmallOnes) {
  WorkerPool pool("test", 2);
  absl::Notification large_may_end, small_done;

  pool.Post(WorkerPool::JobSize::kLarge, [&] { large_may_end.WaitForNotification(); });
  pool.Post(WorkerPool::JobSize::kLarge, [&] { large_may_end.WaitForNotification(); });
  pool.Post(WorkerPool::JobSize::kSmall, [&] { small_done.Notify(); });
  const bool small_was_done = small_done.WaitForNotificationWithTimeout(absl::Seconds(20));
  large_may_end.Notify();

  EXPECT_TRUE(small_was_done);
}

TEST(WorkerPoolTest, StopDoesWhatWasPosted) {
  std::atomic<int> num_done = 0;
  WorkerPool pool("test", 3);
  for (int i = 0; i < 100; ++i) {
    pool.Post(i % 2 == 0 ? WorkerPool::JobSize::kLarge : WorkerPool::JobSize::kSmall, [&] { ++num_done; });
  }

  pool.Stop();

  EXPECT_EQ(num_done, 100);
}

class RecordingTask final : public Dispatcher::Task {
 public:
  void OnReady() override { ready.Notify(); }
  void OnTimer(absl::Time now) override {
    time = now;
    timer.Notify();
  }
  absl::Notification ready, timer;
  absl::Time time;
};

TEST(DispatcherTest, RunsPostedTasksAndTimers) {
  const auto task = std::make_shared<RecordingTask>();
  const auto other = std::make_shared<RecordingTask>();
  Dispatcher dispatcher;
  const absl::Time due = absl::Now() + absl::Milliseconds(20);

  dispatcher.PostAt(absl::Now() + absl::Hours(1), other);
  dispatcher.PostAt(due, task);
  dispatcher.Post(task);

  EXPECT_TRUE(task->ready.WaitForNotificationWithTimeout(absl::Seconds(20)));
  EXPECT_TRUE(task->timer.WaitForNotificationWithTimeout(absl::Seconds(20)));
  EXPECT_GE(task->time, due);
  EXPECT_FALSE(other->timer.HasBeenNotified());
}

TEST(DispatcherTest, TimersOfTheDeadAreDropped) {
  const auto alive = std::make_shared<RecordingTask>();
  auto dead = std::make_shared<RecordingTask>();
  Dispatcher dispatcher;
  dispatcher.PostAt(absl::Now(), std::exchange(dead, nullptr));

  dispatcher.PostAt(absl::Now(), alive);

  EXPECT_TRUE(alive->timer.WaitForNotificationWithTimeout(absl::Seconds(20)));
}

}  // namespace
}  // namespace expertd
