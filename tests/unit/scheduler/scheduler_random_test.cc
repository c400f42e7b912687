// The scheduler against a simulated KV cache, through thousands of random lives: every row that a plan computes writes
// what it stands for into its slot, and every row reads all slots in front of it. A block that is shared wrongly, taken
// too early or reused while stale shows as a slot that holds another text.

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/strings.h"
#include "engine/scheduler/scheduler.h"

namespace expertd {
namespace {

constexpr int32_t kVocabSize = 16;

uint64_t Mix(uint64_t state, uint64_t value) {
  state = (state ^ value) * 0x9E3779B97F4A7C15u;
  return state ^ (state >> 29);
}

// A sequence and, for each position, what its keys and values stand for: salt and all tokens up to there.
struct Life {
  Sequence sequence;
  std::vector<uint64_t> contents;

  uint64_t ContentAt(int32_t position) {
    while (static_cast<int32_t>(contents.size()) <= position) {
      uint64_t state = contents.empty() ? 1 : contents.back();
      if (contents.empty()) {
        for (const char c : sequence.cache_salt) state = Mix(state, static_cast<uint8_t>(c));
      }
      contents.push_back(Mix(state, static_cast<uint64_t>(sequence.tokens[contents.size()]) + 1));
    }
    return contents[static_cast<size_t>(position)];
  }
};

// One random life of a scheduler.
class World {
 public:
  explicit World(uint64_t seed) : random_(seed), config_(MakeConfig()), scheduler_(config_) {
    slots_.resize(static_cast<size_t>(config_.num_blocks) * config_.block_size);
    for (std::vector<int32_t>& text : texts_) {
      for (int i = 0; i < 64; ++i) text.push_back(Below(kVocabSize));
    }
  }

  // Random operations, then steps until nothing is left. Everything is checked after each of them.
  void Live(int num_operations) {
    for (int i = 0; i < num_operations && !testing::Test::HasFatalFailure(); ++i) {
      switch (Below(20)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
          Add();
          break;
        case 5:
          FinishRandom();
          break;
        case 6:
          now_ += absl::Milliseconds(Below(30'000));
          break;
        default:
          Step();
      }
      CheckState();
    }
    // The first in order always computes a row and is not thrown back, so work is bounded by the sum of lengths.
    const int64_t most_steps = 2 * int64_t{scheduler_.max_length()} * static_cast<int64_t>(live_.size()) + 10;
    for (int64_t i = 0; i < most_steps && !live_.empty() && !testing::Test::HasFatalFailure(); ++i) {
      Step();
      CheckState();
    }
    if (testing::Test::HasFatalFailure()) return;
    ASSERT_TRUE(live_.empty()) << live_.size() << " sequences starve";
    ASSERT_EQ(scheduler_.stats().num_blocks_used, 0);
  }

  const std::vector<int64_t>& log() const { return log_; }
  const SchedulerStats stats() const { return scheduler_.stats(); }
  int64_t num_shared_reads() const { return num_shared_reads_; }
  int64_t num_finished() const { return num_finished_; }

 private:
  int32_t Below(int32_t bound) { return static_cast<int32_t>(random_() % static_cast<uint64_t>(bound)); }
  bool OneIn(int32_t count) { return Below(count) == 0; }

  SchedulerConfig MakeConfig() {
    SchedulerConfig config;
    config.max_num_seqs = 1 + Below(7);
    config.max_num_batched_tokens = 1 + Below(OneIn(2) ? 8 : 40);
    config.max_prefill_chunk = OneIn(2) ? 0 : 1 + Below(10);
    config.block_size = 1 + Below(6);
    config.num_blocks = 4 + Below(OneIn(2) ? 10 : 50);
    config.max_model_len = 3 + Below(60);
    config.enable_prefix_caching = !OneIn(8);
    config.priority_ageing =
        std::array{absl::ZeroDuration(), absl::Seconds(1), absl::Seconds(10), absl::InfiniteDuration()}[Below(4)];
    return config;
  }

  void Add() {
    Life& life = *live_.emplace(next_id_, std::make_unique<Life>()).first->second;
    Sequence& sequence = life.sequence;
    sequence.id = next_id_++;
    // Some prompts begin alike: cut from one of few texts, some with an ending of their own.
    const int32_t num_tokens = 1 + Below(scheduler_.max_length() - 1);
    const int32_t num_common = OneIn(4) ? Below(num_tokens + 1) : num_tokens;
    const std::vector<int32_t>& text = texts_[static_cast<size_t>(Below(3))];
    for (int32_t i = 0; i < num_tokens; ++i) {
      sequence.tokens.push_back(i < num_common ? text[static_cast<size_t>(i)] : Below(kVocabSize));
    }
    sequence.num_prompt_tokens = num_tokens;
    sequence.stop.max_tokens = 1 + Below(30);
    sequence.stop.min_tokens = Below(1 + sequence.stop.max_tokens / 2);
    sequence.eos_token_ids = {0};
    sequence.cache_salt = std::array{"", "", "a", "b"}[static_cast<size_t>(Below(4))];
    sequence.bypass_prefix_cache = OneIn(10);
    sequence.needs_prompt_logits = OneIn(10);
    sequence.priority = Below(5) - 2;
    sequence.arrival_time = now_;
    if (OneIn(10)) sequence.deadline = now_ + absl::Milliseconds(Below(100'000));
    if (OneIn(10)) sequence.soft_deadline = now_ + absl::Milliseconds(Below(100'000));
    if (OneIn(10)) sequence.queue_deadline = now_ + absl::Milliseconds(Below(100'000));
    scheduler_.Add(&sequence);
  }

  void FinishRandom() {
    if (live_.empty()) return;
    auto it = live_.begin();
    std::advance(it, Below(static_cast<int32_t>(live_.size())));
    Finish(&it->second->sequence, FinishReason::kCancelled);
  }

  void Finish(Sequence* sequence, FinishReason reason) {
    scheduler_.Finish(sequence, reason);
    ASSERT_EQ(sequence->state, SequenceState::kFinished);
    ASSERT_EQ(sequence->finish_reason, reason);
    ASSERT_TRUE(sequence->blocks.empty());
    ++num_finished_;
    live_.erase(sequence->id);
  }

  void Step() {
    now_ += absl::Milliseconds(50);
    for (Sequence* sequence : scheduler_.Expired(now_)) Finish(sequence, FinishReason::kTimeLimit);
    FinishEnded();
    const std::map<uint64_t, SequenceState> states = States();
    const bool has_work = scheduler_.HasWork();
    const StepPlan plan = scheduler_.Plan(now_);
    ASSERT_EQ(plan.empty(), !has_work);
    CheckPlan(plan, states);
    if (testing::Test::HasFatalFailure()) return;
    scheduler_.Commit(plan, Compute(plan));
    if (!OneIn(5)) FinishEnded();  // else they stay for a while, as when their text waits to be written
  }

  void FinishEnded() {
    std::vector<Sequence*> ended;
    for (const auto& [id, life] : live_) {
      if (life->sequence.finish_reason != FinishReason::kNone) ended.push_back(&life->sequence);
    }
    for (Sequence* sequence : ended) Finish(sequence, sequence->finish_reason);
  }

  std::map<uint64_t, SequenceState> States() const {
    std::map<uint64_t, SequenceState> states;
    for (const auto& [id, life] : live_) states[id] = life->sequence.state;
    return states;
  }

  // A place in the order, computed anew: smaller is in front.
  std::tuple<absl::Duration, int32_t, uint64_t> PlaceOf(const Sequence& sequence) const {
    const absl::Duration arrival = sequence.arrival_time - absl::UnixEpoch();
    if (config_.priority_ageing == absl::ZeroDuration()) return {arrival, 0, sequence.id};
    if (config_.priority_ageing == absl::InfiniteDuration()) {
      return {absl::ZeroDuration(), -sequence.priority, sequence.id};
    }
    return {arrival - sequence.priority * config_.priority_ageing, -sequence.priority, sequence.id};
  }

  void CheckPlan(const StepPlan& plan, const std::map<uint64_t, SequenceState>& states) {
    int32_t num_tokens = 0;
    const Sequence* previous = nullptr;
    std::set<const Sequence*> planned;
    for (const auto& [sequence, num_rows, samples] : plan.sequences) {
      log_.insert(log_.end(), {static_cast<int64_t>(sequence->id), num_rows, samples});
      ASSERT_TRUE(planned.insert(sequence).second);
      ASSERT_EQ(sequence->state, SequenceState::kRunning);
      ASSERT_EQ(sequence->finish_reason, FinishReason::kNone);
      ASSERT_GE(num_rows, 1);
      ASSERT_LE(sequence->num_computed_tokens + num_rows, sequence->num_tokens());
      ASSERT_EQ(samples, sequence->num_computed_tokens + num_rows == sequence->num_tokens());
      ASSERT_TRUE(config_.max_prefill_chunk == 0 || num_rows <= config_.max_prefill_chunk);
      ASSERT_EQ(sequence->blocks.size(), NumBlocks(sequence->num_computed_tokens + num_rows));
      ASSERT_TRUE(previous == nullptr || PlaceOf(*previous) < PlaceOf(*sequence));
      previous = sequence;
      num_tokens += num_rows;
    }
    ASSERT_EQ(plan.num_tokens, num_tokens);
    ASSERT_LE(num_tokens, config_.max_num_batched_tokens);
    ASSERT_LE(static_cast<int32_t>(plan.sequences.size()), config_.max_num_seqs);
    for (const Sequence* sequence : plan.preempted) {
      log_.push_back(-static_cast<int64_t>(sequence->id));
      ASSERT_EQ(states.at(sequence->id), SequenceState::kRunning);
      ASSERT_EQ(sequence->state, SequenceState::kWaiting);
      ASSERT_EQ(sequence->num_computed_tokens, 0);
      ASSERT_TRUE(sequence->blocks.empty());
      ASSERT_FALSE(planned.contains(sequence));
    }
    CheckOrder(plan, states, planned);
  }

  // Who waits is behind all that were admitted; who was preempted is behind all that go on; who decodes is planned.
  void CheckOrder(const StepPlan& plan, const std::map<uint64_t, SequenceState>& states,
                  const std::set<const Sequence*>& planned) {
    for (const auto& [id, life] : live_) {
      const Sequence& sequence = life->sequence;
      if (sequence.finish_reason != FinishReason::kNone) continue;
      const bool was_waiting = states.at(id) == SequenceState::kWaiting;
      const bool is_waiting = sequence.state == SequenceState::kWaiting;
      if (!was_waiting && !is_waiting && sequence.num_tokens() - sequence.num_computed_tokens == 1) {
        ASSERT_TRUE(planned.contains(&sequence));
      }
      if (!is_waiting) continue;
      for (const Sequence* other : planned) {
        const bool was_admitted = states.at(other->id) == SequenceState::kWaiting;
        if (was_admitted || !was_waiting) {
          ASSERT_LT(PlaceOf(*other), PlaceOf(sequence));
        }
        ASSERT_FALSE(was_admitted && !plan.preempted.empty());
      }
    }
  }

  size_t NumBlocks(int32_t num_tokens) const {
    return static_cast<size_t>((num_tokens + config_.block_size - 1) / config_.block_size);
  }

  uint64_t& Slot(const Sequence& sequence, int32_t position) {
    const int32_t block = sequence.blocks[static_cast<size_t>(position / config_.block_size)].id();
    return slots_[static_cast<size_t>(block * config_.block_size + position % config_.block_size)];
  }

  // What a model would do: all rows write, then all rows read what is in front of them; the last one gives a token.
  StepResult Compute(const StepPlan& plan) {
    const std::map<int32_t, int> holders = Holders();
    for (const auto& [sequence, num_rows, samples] : plan.sequences) {
      Life& life = *live_.at(sequence->id);
      for (int32_t p = sequence->num_computed_tokens; p < sequence->num_computed_tokens + num_rows; ++p) {
        EXPECT_EQ(holders.at(sequence->blocks[static_cast<size_t>(p / config_.block_size)].id()), 1)
            << "writes into a shared block";
        Slot(*sequence, p) = life.ContentAt(p);
      }
    }
    StepResult result;
    for (const auto& [sequence, num_rows, samples] : plan.sequences) {
      Life& life = *live_.at(sequence->id);
      for (int32_t p = 0; p < sequence->num_computed_tokens + num_rows; ++p) {
        EXPECT_EQ(Slot(*sequence, p), life.ContentAt(p)) << "sequence " << sequence->id << " position " << p;
      }
      for (const BlockRef& block : sequence->blocks) num_shared_reads_ += holders.at(block.id()) > 1;
      SequenceResult& of_sequence = result.sequences.emplace_back();
      if (!samples) continue;
      const uint64_t content = life.ContentAt(sequence->num_tokens() - 1);
      of_sequence.no_valid_token = content % 101 == 0;
      of_sequence.token = of_sequence.no_valid_token ? -1 : static_cast<int32_t>((content >> 20) % kVocabSize);
    }
    return result;
  }

  std::map<int32_t, int> Holders() const {
    std::map<int32_t, int> holders;
    for (const auto& [id, life] : live_) {
      for (const BlockRef& block : life->sequence.blocks) ++holders[block.id()];
    }
    return holders;
  }

  void CheckState() {
    if (testing::Test::HasFatalFailure()) return;
    int32_t num_running = 0, num_waiting = 0;
    int64_t num_waiting_tokens = 0;
    absl::Time oldest = absl::InfiniteFuture();
    std::vector<uint64_t> expired;
    for (const auto& [id, life] : live_) {
      const Sequence& sequence = life->sequence;
      ASSERT_LE(sequence.num_computed_tokens, sequence.num_tokens());
      ASSERT_EQ(sequence.blocks.size(), NumBlocks(sequence.num_computed_tokens));
      if (sequence.state == SequenceState::kWaiting) {
        ++num_waiting;
        num_waiting_tokens += sequence.num_tokens();
        oldest = std::min(oldest, sequence.arrival_time);
      } else {
        ++num_running;
      }
      const bool in_queue = sequence.first_scheduled_time == absl::InfiniteFuture();
      const absl::Time deadline = std::min({sequence.deadline, sequence.soft_deadline,
                                            in_queue ? sequence.queue_deadline : absl::InfiniteFuture()});
      if (deadline <= now_ && sequence.finish_reason == FinishReason::kNone) expired.push_back(id);
    }
    const SchedulerStats stats = scheduler_.stats();
    ASSERT_EQ(stats.num_running, num_running);
    ASSERT_LE(stats.num_running, config_.max_num_seqs);
    ASSERT_EQ(stats.num_waiting, num_waiting);
    ASSERT_EQ(stats.num_waiting_tokens, num_waiting_tokens);
    ASSERT_EQ(stats.oldest_arrival, oldest);
    ASSERT_EQ(stats.num_blocks_used, static_cast<int32_t>(Holders().size()));
    ASSERT_EQ(stats.num_blocks_used + stats.num_blocks_free, config_.num_blocks);
    std::vector<uint64_t> reported;
    for (const Sequence* sequence : scheduler_.Expired(now_)) reported.push_back(sequence->id);
    std::ranges::sort(reported);
    ASSERT_EQ(reported, expired);
  }

  std::mt19937_64 random_;
  const SchedulerConfig config_;
  std::map<uint64_t, std::unique_ptr<Life>> live_;  // outlives the scheduler
  Scheduler scheduler_;
  std::array<std::vector<int32_t>, 3> texts_;
  std::vector<uint64_t> slots_;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  uint64_t next_id_ = 1;
  std::vector<int64_t> log_;
  int64_t num_shared_reads_ = 0;
  int64_t num_finished_ = 0;
};

TEST(SchedulerRandomTest, EverySequenceReadsItsOwnTextAndEnds) {
  int64_t num_preemptions = 0, num_hits = 0, num_recomputed = 0, num_shared_reads = 0, num_finished = 0;

  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE(StrCat("seed ", seed));
    World world(seed);
    world.Live(200);
    if (HasFailure()) return;
    num_preemptions += world.stats().num_preemptions;
    num_hits += world.stats().prefix_hit_tokens;
    num_recomputed += world.stats().recomputed_tokens;
    num_shared_reads += world.num_shared_reads();
    num_finished += world.num_finished();
  }

  // The lives were eventful enough to mean something.
  EXPECT_GT(num_preemptions, 1000);
  EXPECT_GT(num_hits, 10'000);
  EXPECT_GT(num_recomputed, 1000);
  EXPECT_GT(num_shared_reads, 100'000);
  EXPECT_GT(num_finished, 50'000);
  RecordProperty("preemptions", std::to_string(num_preemptions));
}

TEST(SchedulerRandomTest, TheSameOperationsGiveTheSamePlans) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(StrCat("seed ", seed));
    World first(seed), second(seed);
    first.Live(200);
    second.Live(200);
    if (HasFailure()) return;
    EXPECT_GT(first.log().size(), 10u);
    ASSERT_EQ(first.log(), second.log());
  }
}

TEST(SchedulerRandomTest, AStreamOfUrgentRequestsDoesNotStarveAModestOne) {
  // Given one seat's worth of blocks, and two urgent requests for each that can be served.
  SchedulerConfig config;
  config.max_num_seqs = 2;
  config.max_num_batched_tokens = 16;
  config.block_size = 4;
  config.num_blocks = 8;
  config.priority_ageing = absl::Seconds(10);
  std::deque<Sequence> sequences;  // outlive the scheduler
  Scheduler scheduler(config);
  const auto add = [&](int32_t priority, absl::Time now) -> Sequence& {
    Sequence& sequence = sequences.emplace_back();
    sequence.id = sequences.size();
    sequence.tokens.assign(12, static_cast<int32_t>(sequences.size()));
    sequence.num_prompt_tokens = 12;
    sequence.stop.max_tokens = 8;
    sequence.priority = priority;
    sequence.arrival_time = now;
    scheduler.Add(&sequence);
    return sequence;
  };
  absl::Time now = absl::UnixEpoch();
  const Sequence& modest = add(-3, now);

  // When they keep coming: three urgent ones each second, one step each 100 ms.
  int num_steps = 0;
  for (; modest.state != SequenceState::kFinished && num_steps < 2000; ++num_steps) {
    now += absl::Milliseconds(100);
    if (num_steps % 3 == 0) add(3, now);
    const StepPlan plan = scheduler.Plan(now);
    StepResult result;
    for (const PlannedSequence& planned : plan.sequences) {
      result.sequences.emplace_back().token = planned.samples ? 7 : -1;
    }
    scheduler.Commit(plan, result);
    for (const PlannedSequence& planned : plan.sequences) {
      if (planned.sequence->finish_reason != FinishReason::kNone) {
        scheduler.Finish(planned.sequence, planned.sequence->finish_reason);
      }
    }
  }

  // Then six levels, worth 60 s, pass; what arrived in that time goes first, and nothing after it.
  EXPECT_EQ(modest.finish_reason, FinishReason::kMaxTokens);
  EXPECT_LT(num_steps, 2000);
  EXPECT_GT(scheduler.stats().num_waiting, 0);
}

}  // namespace
}  // namespace expertd
