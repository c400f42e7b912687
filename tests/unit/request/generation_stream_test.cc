#include "engine/request/generation_stream.h"

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/strings.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;

DeltaEvent Delta(int32_t candidate, std::string text, int32_t token) {
  DeltaEvent delta;
  delta.candidate_index = candidate;
  delta.text = std::move(text);
  delta.token_ids = {token};
  delta.logprobs = {{.token = token, .logprob = -1.0f, .rank = 1}};
  delta.num_tokens = 1;
  return delta;
}

FinishedEvent Finished(int32_t candidate) {
  FinishedEvent finished;
  finished.candidate_index = candidate;
  finished.reason = FinishReason::kStop;
  return finished;
}

// One letter for each event that waits: p, d0, f0, s.
std::string Drain(GenerationStream& stream) {
  std::string seen;
  while (const std::optional<StreamEvent> event = stream.TryNext()) {
    if (std::holds_alternative<PromptEvent>(*event)) StrAppend(&seen, "p ");
    if (const auto* delta = std::get_if<DeltaEvent>(&*event)) {
      StrAppend(&seen, "d", delta->candidate_index, "(", delta->text, ") ");
    }
    if (const auto* end = std::get_if<FinishedEvent>(&*event)) StrAppend(&seen, "f", end->candidate_index, " ");
    if (std::holds_alternative<SummaryEvent>(*event)) StrAppend(&seen, "s ");
  }
  return seen;
}

TEST(GenerationStreamTest, GivesEventsInOrderThenTheStatus) {
  GenerationStream stream;
  stream.Push(PromptEvent());
  stream.Push(Delta(0, "a", 1));
  stream.Push(Finished(0));
  stream.Push(SummaryEvent());
  stream.Close(absl::OkStatus());

  const bool ended_before = stream.ended();
  const std::string events = Drain(stream);

  EXPECT_FALSE(ended_before);
  EXPECT_EQ(events, "p d0(a) f0 s ");
  EXPECT_TRUE(stream.ended());
  EXPECT_EQ(stream.status(), absl::OkStatus());
  EXPECT_FALSE(stream.Next().has_value());
}

TEST(GenerationStreamTest, MergesDeltasOfACandidateWhileTheReaderIsSlow) {
  GenerationStream stream;
  stream.Push(Delta(0, "He", 1));
  stream.Push(Delta(1, "Good ", 2));
  stream.Push(Delta(0, "llo", 3));
  stream.Push(Delta(0, "!", 4));

  const std::optional<StreamEvent> event = stream.TryNext();
  const DeltaEvent& delta = std::get<DeltaEvent>(*event);

  EXPECT_EQ(delta.candidate_index, 0);
  EXPECT_EQ(delta.text, "Hello!");
  EXPECT_THAT(delta.token_ids, ElementsAre(1, 3, 4));
  EXPECT_EQ(delta.logprobs.size(), 3u);
  EXPECT_EQ(delta.num_tokens, 3);
  EXPECT_EQ(delta.num_merged, 2);
  EXPECT_EQ(Drain(stream), "d1(Good ) ");
}

TEST(GenerationStreamTest, DoesNotMergeIntoWhatWasTaken) {
  GenerationStream stream;
  stream.Push(Delta(0, "a", 1));
  const std::string first = Drain(stream);
  stream.Push(Delta(0, "b", 2));

  EXPECT_EQ(first, "d0(a) ");
  EXPECT_EQ(Drain(stream), "d0(b) ");
}

TEST(GenerationStreamTest, DoesNotMergeAcrossAnotherKindOfEvent) {
  GenerationStream stream;
  stream.Push(Delta(0, "a", 1));
  stream.Push(Delta(1, "x", 2));
  stream.Push(Finished(1));
  stream.Push(Delta(0, "b", 3));

  EXPECT_EQ(Drain(stream), "d0(a) d1(x) f1 d0(b) ");
}

TEST(GenerationStreamTest, WaitingEventsAreBoundedByTheCandidates) {
  GenerationStream stream;
  stream.Push(PromptEvent());
  for (int token = 0; token < 10'000; ++token) stream.Push(Delta(token % 4, "x", token));

  EXPECT_EQ(stream.num_pending(), 5);
}

TEST(GenerationStreamTest, AnErrorMayFollowOutputAndIsSeenAfterIt) {
  GenerationStream stream;
  stream.Push(Delta(0, "a", 1));
  stream.Close(absl::UnavailableError("the engine has failed"));
  stream.Push(Delta(0, "b", 1));  // is dropped

  EXPECT_EQ(Drain(stream), "d0(a) ");
  EXPECT_TRUE(stream.ended());
  EXPECT_EQ(stream.status(), absl::UnavailableError("the engine has failed"));
}

TEST(GenerationStreamTest, CallsBackOncePerEmptyAnswer) {
  GenerationStream stream;
  int num_calls = 0;
  stream.SetReadyCallback([&] { ++num_calls; });

  stream.Push(PromptEvent());  // nobody waits yet
  const int before = num_calls;
  Drain(stream);
  stream.Push(Delta(0, "a", 1));
  stream.Push(Delta(0, "b", 2));
  const int after_two = num_calls;
  Drain(stream);
  stream.Close(absl::OkStatus());
  const int after_close = num_calls;
  Drain(stream);

  EXPECT_EQ(before, 0);
  EXPECT_EQ(after_two, 1);
  EXPECT_EQ(after_close, 2);
  EXPECT_EQ(num_calls, 2);
}

TEST(GenerationStreamTest, NoCallComesAfterTheCallbackIsTakenAway) {
  GenerationStream stream;
  int num_calls = 0;
  stream.SetReadyCallback([&] { ++num_calls; });
  Drain(stream);

  stream.SetReadyCallback(nullptr);
  stream.Push(PromptEvent());

  EXPECT_EQ(num_calls, 0);
}

TEST(GenerationStreamTest, TheCallbackMayTakeALockUnderWhichTheConsumerReads) {
  // Two threads, each with both locks in its own order: a deadlock if the callback ran under the stream's lock.
  GenerationStream stream;
  std::mutex consumer_mutex;
  int num_wakes = 0;
  stream.SetReadyCallback([&] {
    std::lock_guard lock(consumer_mutex);
    ++num_wakes;
  });
  std::thread producer([&] {
    for (int i = 0; i < 20'000; ++i) stream.Push(Delta(0, "x", i));
    stream.Close(absl::OkStatus());
  });

  int64_t num_tokens = 0;
  while (!stream.ended()) {
    std::lock_guard lock(consumer_mutex);
    const std::optional<StreamEvent> event = stream.TryNext();
    if (event.has_value()) num_tokens += std::get<DeltaEvent>(*event).num_tokens;
  }
  producer.join();

  EXPECT_EQ(num_tokens, 20'000);
}

TEST(GenerationStreamTest, ABlockedReaderGetsEveryToken) {
  GenerationStream stream;
  std::thread producer([&] {
    for (int i = 0; i < 50'000; ++i) stream.Push(Delta(i % 3, StrCat(i % 10), i));
    for (int c = 0; c < 3; ++c) stream.Push(Finished(c));
    stream.Close(absl::OkStatus());
  });

  std::vector<std::vector<int32_t>> tokens(3);
  int num_finished = 0;
  while (const std::optional<StreamEvent> event = stream.Next()) {
    if (const auto* delta = std::get_if<DeltaEvent>(&*event)) {
      std::vector<int32_t>& of_candidate = tokens[static_cast<size_t>(delta->candidate_index)];
      of_candidate.insert(of_candidate.end(), delta->token_ids.begin(), delta->token_ids.end());
    }
    if (std::holds_alternative<FinishedEvent>(*event)) ++num_finished;
  }
  producer.join();

  EXPECT_EQ(num_finished, 3);
  for (int c = 0; c < 3; ++c) {
    ASSERT_EQ(tokens[c].size(), c < 2 ? 16'667u : 16'666u);
    for (size_t i = 0; i < tokens[c].size(); ++i) ASSERT_EQ(tokens[c][i], static_cast<int32_t>(3 * i) + c);
  }
}

TEST(GenerationStreamTest, AReaderByCallbackLosesNoWakeup) {
  // The reader sleeps whenever TryNext has nothing and only the callback wakes it: a lost call would hang the test.
  for (int round = 0; round < 200; ++round) {
    GenerationStream stream;
    std::mutex mutex;
    std::condition_variable woken;
    int num_wakes = 0;
    stream.SetReadyCallback([&] {
      std::lock_guard lock(mutex);
      ++num_wakes;
      woken.notify_one();
    });
    std::thread producer([&] {
      for (int i = 0; i < 100; ++i) stream.Push(Delta(0, "x", i));
      stream.Close(absl::OkStatus());
    });

    int num_tokens = 0;
    while (true) {
      if (const std::optional<StreamEvent> event = stream.TryNext()) {
        num_tokens += std::get<DeltaEvent>(*event).num_tokens;
        continue;
      }
      if (stream.ended()) break;
      std::unique_lock lock(mutex);
      while (num_wakes == 0) woken.wait(lock);
      num_wakes = 0;
    }
    stream.SetReadyCallback(nullptr);
    producer.join();

    ASSERT_EQ(num_tokens, 100);
  }
}

}  // namespace
}  // namespace expertd
