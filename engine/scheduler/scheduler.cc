#include "engine/scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include "engine/base/log.h"

namespace expertd {
namespace {

// From the last to the first, so that a chain of cached blocks is evicted from its end.
void FreeBlocks(Sequence& sequence) {
  while (!sequence.blocks.empty()) sequence.blocks.pop_back();
}

int32_t NumUncomputed(const Sequence& sequence) { return sequence.num_tokens() - sequence.num_computed_tokens; }

absl::Time NextDeadline(const Sequence& sequence) {
  const absl::Time running = std::min(sequence.deadline, sequence.soft_deadline);
  const bool was_admitted = sequence.first_scheduled_time != absl::InfiniteFuture();
  return was_admitted ? running : std::min(running, sequence.queue_deadline);
}

int32_t MaxLength(const SchedulerConfig& config) {
  const int64_t capacity = int64_t{config.num_blocks} * config.block_size;
  const int64_t limit = config.max_model_len > 0 ? config.max_model_len : INT32_MAX;
  return static_cast<int32_t>(std::min(capacity, limit));
}

bool Contains(const std::vector<int32_t>& ids, int32_t id) { return std::ranges::find(ids, id) != ids.end(); }

// Why `token`, the last of the sequence, ends it.
FinishReason ReasonToEnd(const Sequence& sequence, int32_t token, int32_t max_length) {
  // The sampler masks what would end the text before min_tokens; should such a token come all the same, it is text.
  if (sequence.num_output_tokens() >= sequence.stop.min_tokens) {
    if (!sequence.stop.ignore_eos && Contains(sequence.eos_token_ids, token)) return FinishReason::kStop;
    if (Contains(sequence.stop.token_ids, token)) return FinishReason::kStopSequence;
  }
  if (sequence.num_output_tokens() >= sequence.stop.max_tokens) return FinishReason::kMaxTokens;
  if (sequence.num_tokens() >= max_length) return FinishReason::kContextLength;
  return FinishReason::kNone;
}

}  // namespace

Scheduler::Scheduler(const SchedulerConfig& config)
    : config_(config),
      // With a row for each, every sequence that decodes can do so in every step.
      max_running_(std::min(config.max_num_seqs, config.max_num_batched_tokens)),
      max_length_(MaxLength(config)),
      pool_(config.num_blocks),
      prefix_cache_(&pool_, config.block_size) {
  EXPERTD_CHECK(max_running_ > 0, "max_num_seqs is ", config.max_num_seqs, ", max_num_batched_tokens ",
                config.max_num_batched_tokens);
}

Scheduler::~Scheduler() {
  for (const auto& [sequence, entry] : entries_) FreeBlocks(*entry->sequence);
}

void Scheduler::Add(Sequence* sequence) {
  EXPERTD_CHECK(sequence->state == SequenceState::kWaiting, "sequence ", sequence->id);
  EXPERTD_CHECK(sequence->num_tokens() > 0 && sequence->num_tokens() < max_length_, "sequence ", sequence->id, " has ",
                sequence->num_tokens(), " tokens of at most ", max_length_);
  auto entry = std::make_unique<Entry>();
  entry->sequence = sequence;
  entry->rank = RankOf(*sequence);
  Entry* const added = entry.get();
  const bool is_new = entries_.emplace(sequence, std::move(entry)).second;
  EXPERTD_CHECK(is_new, "sequence ", sequence->id, " is queued already");
  EnterWaiting(added);
  FileDeadline(added);
}

StepPlan Scheduler::Plan(absl::Time now, StepPlan reused) {
  StepPlan plan = std::move(reused);
  plan.sequences.clear();
  plan.num_tokens = 0;
  plan.preempted.clear();
  const int32_t budget = ShareBudget();
  ReserveBlocks(&plan);
  // Blocks that had to be taken from one sequence are not given to the next one at once.
  if (plan.preempted.empty()) AdmitWaiting(now, budget);
  plan.sequences.reserve(running_.size());
  for (const Entry* entry : running_) {
    if (entry->num_planned_rows == 0) continue;
    const bool samples = entry->num_planned_rows == NumUncomputed(*entry->sequence);
    plan.sequences.push_back({entry->sequence, entry->num_planned_rows, samples});
    plan.num_tokens += entry->num_planned_rows;
  }
  return plan;
}

void Scheduler::Commit(const StepPlan& plan, const StepResult& result) {
  EXPERTD_CHECK(plan.sequences.size() == result.sequences.size(), plan.sequences.size(), " planned, ",
                result.sequences.size(), " results");
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const auto found = entries_.find(plan.sequences[i].sequence);
    if (found == entries_.end()) continue;
    Entry& entry = *found->second;
    Sequence& sequence = *entry.sequence;
    sequence.num_computed_tokens += plan.sequences[i].num_tokens;
    EXPERTD_CHECK(sequence.num_computed_tokens <= sequence.num_tokens(), "sequence ", sequence.id);
    // What a broken step left in the cache must not reach other requests.
    if (!result.sequences[i].has_nan) PublishBlocks(entry);
    if (!plan.sequences[i].samples) continue;
    sequence.finish_reason = AppendToken(sequence, result.sequences[i]);
    if (sequence.finish_reason != FinishReason::kNone) {
      --num_unfinished_running_;
      UnfileDeadline(&entry);
    }
  }
}

void Scheduler::Finish(Sequence* sequence, FinishReason reason) {
  const auto found = entries_.find(sequence);
  if (found == entries_.end()) return;
  Entry* const entry = found->second.get();
  if (sequence->state == SequenceState::kWaiting) {
    LeaveWaiting(entry);
  } else {
    std::erase(running_, entry);
    if (sequence->finish_reason == FinishReason::kNone) --num_unfinished_running_;
  }
  UnfileDeadline(entry);
  FreeBlocks(*sequence);
  sequence->state = SequenceState::kFinished;
  sequence->finish_reason = reason;
  entries_.erase(found);
}

std::vector<Sequence*> Scheduler::Expired(absl::Time now) const {
  std::vector<Sequence*> expired;
  for (const Entry* entry : by_deadline_) {
    if (entry->next_deadline > now) break;
    expired.push_back(entry->sequence);
  }
  return expired;
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats;
  stats.num_running = static_cast<int32_t>(running_.size());
  stats.num_waiting = static_cast<int32_t>(waiting_.size());
  stats.num_waiting_tokens = num_waiting_tokens_;
  if (!waiting_arrivals_.empty()) stats.oldest_arrival = *waiting_arrivals_.begin();
  stats.num_blocks_used = pool_.num_used();
  stats.num_blocks_free = pool_.num_free();
  stats.num_blocks_cached = pool_.num_free_findable();
  stats.num_preemptions = num_preemptions_;
  stats.prefix_queried_tokens = prefix_queried_tokens_;
  stats.prefix_hit_tokens = prefix_hit_tokens_;
  stats.recomputed_tokens = recomputed_tokens_;
  return stats;
}

Scheduler::Rank Scheduler::RankOf(const Sequence& sequence) const {
  if (config_.priority_ageing == absl::InfiniteDuration()) {
    return {absl::UnixEpoch(), -sequence.priority, sequence.id};
  }
  if (config_.priority_ageing <= absl::ZeroDuration()) return {sequence.arrival_time, 0, sequence.id};
  return {sequence.arrival_time - config_.priority_ageing * sequence.priority, -sequence.priority, sequence.id};
}

int32_t Scheduler::NumBlocks(int32_t num_tokens) const {
  return (num_tokens + config_.block_size - 1) / config_.block_size;
}

int32_t Scheduler::NumRowsWanted(const Sequence& sequence, int32_t budget) const {
  const int32_t num_rows = std::min(NumUncomputed(sequence), budget);
  return config_.max_prefill_chunk > 0 ? std::min(num_rows, config_.max_prefill_chunk) : num_rows;
}

bool Scheduler::ReadsPrefixCache(const Sequence& sequence) const {
  return config_.enable_prefix_caching && !sequence.bypass_prefix_cache && !sequence.needs_prompt_logits;
}

PrefixView Scheduler::ViewOf(Entry& entry) const {
  return {entry.sequence->tokens, entry.sequence->cache_salt, &entry.keys};
}

void Scheduler::EnterWaiting(Entry* entry) {
  const bool is_new = waiting_.insert(entry).second;
  EXPERTD_CHECK(is_new, "sequence id ", entry->sequence->id, " is not unique");
  waiting_arrivals_.insert(entry->sequence->arrival_time);
  num_waiting_tokens_ += entry->sequence->num_tokens();
}

void Scheduler::LeaveWaiting(Entry* entry) {
  waiting_.erase(entry);
  waiting_arrivals_.erase(waiting_arrivals_.find(entry->sequence->arrival_time));
  num_waiting_tokens_ -= entry->sequence->num_tokens();
}

void Scheduler::FileDeadline(Entry* entry) {
  entry->next_deadline = NextDeadline(*entry->sequence);
  if (entry->next_deadline != absl::InfiniteFuture()) by_deadline_.insert(entry);
}

void Scheduler::UnfileDeadline(Entry* entry) { by_deadline_.erase(entry); }

int32_t Scheduler::ShareBudget() {
  int32_t budget = config_.max_num_batched_tokens;
  for (Entry* entry : running_) {
    const bool decodes = NumUncomputed(*entry->sequence) == 1 && entry->sequence->finish_reason == FinishReason::kNone;
    entry->num_planned_rows = decodes ? 1 : 0;
    budget -= entry->num_planned_rows;
  }
  for (Entry* entry : running_) {
    if (entry->num_planned_rows > 0 || entry->sequence->finish_reason != FinishReason::kNone) continue;
    entry->num_planned_rows = NumRowsWanted(*entry->sequence, budget);
    budget -= entry->num_planned_rows;
  }
  return budget;
}

void Scheduler::ReserveBlocks(StepPlan* plan) {
  for (size_t i = 0; i < running_.size();) {
    Sequence& sequence = *running_[i]->sequence;
    if (GrowBlocks(sequence, sequence.num_computed_tokens + running_[i]->num_planned_rows)) {
      ++i;
      continue;
    }
    // Those in front of i have their blocks and are never touched. The last one may be i itself: then it waits.
    size_t last = running_.size() - 1;
    while (last > i && running_[last]->sequence->finish_reason != FinishReason::kNone) --last;
    Preempt(last, plan);
  }
}

void Scheduler::AdmitWaiting(absl::Time now, int32_t budget) {
  if (waiting_.empty()) return;
  int32_t num_reserved_blocks = 0;  // that running sequences will need for the tokens they know
  const auto num_missing_blocks = [this](const Sequence& sequence) {
    return std::max(0, NumBlocks(sequence.num_tokens()) - static_cast<int32_t>(sequence.blocks.size()));
  };
  for (const Entry* entry : running_) num_reserved_blocks += num_missing_blocks(*entry->sequence);
  while (!waiting_.empty() && budget > 0 && static_cast<int32_t>(running_.size()) < max_running_) {
    Entry* const entry = *waiting_.begin();
    if (!FitsBesideRunning(*entry, num_reserved_blocks)) return;
    StartRunning(entry, now);
    Sequence& sequence = *entry->sequence;
    entry->num_planned_rows = NumRowsWanted(sequence, budget);
    budget -= entry->num_planned_rows;
    const bool has_blocks = GrowBlocks(sequence, sequence.num_computed_tokens + entry->num_planned_rows);
    EXPERTD_CHECK(has_blocks, "sequence ", sequence.id, ", ", pool_.num_free(), " blocks free");
    num_reserved_blocks += num_missing_blocks(sequence);
  }
}

bool Scheduler::FitsBesideRunning(Entry& entry, int32_t num_reserved_blocks) const {
  const PrefixCache::Hit hit =
      ReadsPrefixCache(*entry.sequence) ? prefix_cache_.Find(ViewOf(entry)) : PrefixCache::Hit();
  const int32_t num_available = pool_.num_free() - hit.num_free_blocks - num_reserved_blocks;
  const int32_t num_new = NumBlocks(entry.sequence->num_tokens()) - hit.num_blocks;
  // A block for each running sequence to grow by, but little of a small pool: what is admitted now should not be thrown
  // out again within the next few steps. Alone, a sequence has all blocks, and Add saw that it fits.
  const int32_t num_spare = std::min(static_cast<int32_t>(running_.size()), 1 + config_.num_blocks / 32);
  return num_new + num_spare <= num_available || running_.empty();
}

void Scheduler::StartRunning(Entry* entry, absl::Time now) {
  Sequence& sequence = *entry->sequence;
  LeaveWaiting(entry);
  running_.insert(std::ranges::upper_bound(running_, entry, InOrder()), entry);
  ++num_unfinished_running_;
  sequence.state = SequenceState::kRunning;
  if (ReadsPrefixCache(sequence)) sequence.blocks = prefix_cache_.Match(ViewOf(*entry));
  entry->num_published_blocks = static_cast<int32_t>(sequence.blocks.size());
  sequence.num_computed_tokens = entry->num_published_blocks * config_.block_size;
  recomputed_tokens_ += std::max(0, std::exchange(entry->num_lost_tokens, 0) - sequence.num_computed_tokens);
  if (sequence.first_scheduled_time != absl::InfiniteFuture()) return;
  UnfileDeadline(entry);
  sequence.first_scheduled_time = now;
  FileDeadline(entry);  // without the queue's
  sequence.num_cached_tokens = sequence.num_computed_tokens;
  // Once a request: its other candidates find what the first has just computed, which says nothing of the cache's use.
  if (ReadsPrefixCache(sequence) && sequence.candidate_index == 0) {
    prefix_queried_tokens_ += sequence.num_prompt_tokens;
    prefix_hit_tokens_ += sequence.num_cached_tokens;
  }
}

bool Scheduler::GrowBlocks(Sequence& sequence, int32_t num_tokens) {
  const size_t num_blocks = static_cast<size_t>(NumBlocks(num_tokens));
  while (sequence.blocks.size() < num_blocks) {
    BlockRef block = pool_.Take();
    if (block.empty()) return false;
    sequence.blocks.push_back(std::move(block));
  }
  return true;
}

void Scheduler::Preempt(size_t running_index, StepPlan* plan) {
  Entry* const entry = running_[running_index];
  Sequence& sequence = *entry->sequence;
  running_.erase(running_.begin() + static_cast<ptrdiff_t>(running_index));
  --num_unfinished_running_;
  FreeBlocks(sequence);
  // What a preemption during recompute finds missing was counted as recomputed when it was admitted.
  entry->num_lost_tokens = std::exchange(sequence.num_computed_tokens, 0);
  entry->num_published_blocks = 0;
  entry->num_planned_rows = 0;
  sequence.state = SequenceState::kWaiting;
  ++sequence.num_preemptions;
  ++num_preemptions_;
  EnterWaiting(entry);
  plan->preempted.push_back(&sequence);
}

void Scheduler::PublishBlocks(Entry& entry) {
  Sequence& sequence = *entry.sequence;
  if (!config_.enable_prefix_caching || sequence.bypass_prefix_cache) return;
  while ((entry.num_published_blocks + 1) * config_.block_size <= sequence.num_computed_tokens) {
    prefix_cache_.Publish(ViewOf(entry), entry.num_published_blocks++, sequence.blocks);
  }
}

FinishReason Scheduler::AppendToken(Sequence& sequence, const SequenceResult& result) const {
  if (result.no_valid_token) {
    return sequence.constraint.has_value() ? FinishReason::kGrammarDeadEnd : FinishReason::kNoValidToken;
  }
  if (result.token < 0) return FinishReason::kError;
  sequence.tokens.push_back(result.token);
  const FinishReason reason = ReasonToEnd(sequence, result.token, max_length_);
  if (reason == FinishReason::kStop || reason == FinishReason::kStopSequence) {
    sequence.stop_token = result.token;
  } else if (sequence.constraint.has_value()) {
    sequence.constraint->Advance(result.token);
    if (sequence.constraint->must_end()) return FinishReason::kStop;
  }
  return reason;
}

}  // namespace expertd
