#include "engine/engine.h"

#include <pthread.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/clock.h"
#include "engine/base/log.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/loader.h"
#include "engine/output_writer.h"
#include "engine/prompt_builder.h"
#include "engine/request/errors.h"
#include "engine/runner/model_runner.h"
#include "engine/scheduler/scheduler.h"

namespace expertd {
namespace {

// An abort may overtake its request; the late one is refused for this long.
constexpr absl::Duration kTombstoneLife = absl::Seconds(60);
constexpr size_t kMaxRememberedIds = 8192;

absl::Status EngineError(absl::StatusCode code, std::string_view reason, std::string message,
                         std::optional<absl::Duration> retry_delay = std::nullopt) {
  ErrorDetail detail{.reason = std::string(reason)};
  detail.retry_delay = retry_delay;
  return MakeError(code, message, detail);
}

absl::Status DeadlineError(std::string message) {
  return EngineError(absl::StatusCode::kDeadlineExceeded, error_reason::kDeadline, std::move(message));
}

// One request between Submit and its stream's end. Owned by the engine thread once it has left the mailbox.
struct LiveRequest {
  std::shared_ptr<const Request> request;
  std::vector<std::unique_ptr<Sequence>> sequences;  // by candidate
  std::unique_ptr<OutputWriter> writer;
  int num_unfinished = 0;
  absl::Duration write_time;  // tokens to text, stop strings, events
  // Candidates beyond the first wait until the first has computed the prompt, and then share its blocks.
  bool siblings_wait = false;
};

// Tokens a second over windows of at least a second; read by GetLoad.
class RateMeter {
 public:
  void Add(absl::Time now, int64_t tokens) {
    tokens_ += tokens;
    const absl::Duration window = now - window_start_;
    if (window < absl::Seconds(1)) return;
    rate_ = window > absl::Seconds(10) ? 0.0 : static_cast<double>(tokens_) / absl::ToDoubleSeconds(window);
    tokens_ = 0;
    window_start_ = now;
  }
  double rate() const { return rate_; }

 private:
  absl::Time window_start_ = absl::InfinitePast();
  int64_t tokens_ = 0;
  double rate_ = 0;
};

// Ids that have ended or were aborted before they came, oldest forgotten first.
class RememberedIds {
 public:
  void Insert(const std::string& id, absl::Time until) {
    until_[id] = until;
    order_.push_back(id);
    while (order_.size() > kMaxRememberedIds) {
      until_.erase(order_.front());
      order_.pop_front();
    }
  }
  bool Contains(const std::string& id, absl::Time now) const {
    const auto it = until_.find(id);
    return it != until_.end() && it->second > now;
  }

 private:
  absl::flat_hash_map<std::string, absl::Time> until_;
  std::deque<std::string> order_;
};

SchedulerConfig MakeSchedulerConfig(const EngineConfig& config, const EngineInfo& info) {
  SchedulerConfig scheduler;
  scheduler.max_num_seqs = config.max_num_seqs;
  scheduler.max_num_batched_tokens = config.max_num_batched_tokens;
  scheduler.max_prefill_chunk = config.max_prefill_chunk;
  scheduler.block_size = info.block_size;
  scheduler.num_blocks = info.num_kv_blocks;
  scheduler.max_model_len = info.max_model_len;
  scheduler.enable_prefix_caching = config.enable_prefix_caching;
  scheduler.priority_ageing = config.priority_ageing;
  return scheduler;
}

// Null without a tokenizer. Special tokens belong to no text.
std::unique_ptr<ConstraintCompiler> MakeConstraintCompiler(const LoadedModel& loaded) {
  const Tokenizer* tokenizer = loaded.tokenizer.get();
  if (tokenizer == nullptr) return nullptr;
  return std::make_unique<ConstraintCompiler>(loaded.info.vocab_size, [tokenizer](int32_t token) -> std::string_view {
    return tokenizer->IsSpecial(token) ? std::string_view() : tokenizer->TokenBytes(token);
  });
}

PromptBuilder MakePromptBuilder(const LoadedModel& loaded, ConstraintCompiler* constraint_compiler) {
  PromptBuilderOptions options;
  options.tokenizer = loaded.tokenizer.get();
  options.chat_template = loaded.chat_template.get();
  options.defaults = loaded.generation_defaults;
  options.constraint_compiler = constraint_compiler;
  options.tool_format = loaded.output_formats.tools;
  options.vocab_size = loaded.info.vocab_size;
  options.max_model_len = loaded.info.max_model_len;
  return PromptBuilder(std::move(options));
}

class EngineImpl final : public Engine {
 public:
  EngineImpl(const EngineConfig& config, LoadedModel loaded, StatsSink* stats)
      : config_(config),
        loaded_(std::move(loaded)),
        constraint_compiler_(MakeConstraintCompiler(loaded_)),
        prompt_builder_(MakePromptBuilder(loaded_, constraint_compiler_.get())),
        stats_(stats),
        scheduler_(MakeSchedulerConfig(config, loaded_.info)),
        runner_(*loaded_.model, *loaded_.kv_cache, *loaded_.kernels, *loaded_.pool),
        thread_([this] { RunLoop(); }) {}

  ~EngineImpl() override {
    {
      MutexLock lock(&mutex_);
      is_stopping_ = true;
      mailbox_filled_.Signal();
    }
    thread_.join();
  }

  absl::StatusOr<std::shared_ptr<GenerationStream>> Submit(std::shared_ptr<const Request> request) override;
  AbortOutcome Abort(std::string_view request_id, absl::Status status) override;
  absl::StatusOr<RenderedChat> RenderChat(const ChatInput& chat) const override {
    return prompt_builder_.RenderChat(chat);
  }

  void StartDraining() override {
    MutexLock lock(&mutex_);
    is_draining_ = true;
    load_.is_draining = true;
  }
  bool WaitUntilIdle(absl::Duration timeout) override {
    const absl::Time deadline = timeout == absl::InfiniteDuration() ? absl::InfiniteFuture() : absl::Now() + timeout;
    MutexLock lock(&mutex_);
    while (!live_ids_.empty()) {
      if (idle_.WaitWithDeadline(&mutex_, deadline)) break;
    }
    return live_ids_.empty();
  }

  EngineLoad Load() const override {
    MutexLock lock(&mutex_);
    EngineLoad load = load_;
    load.num_waiting += static_cast<int32_t>(num_mailed_sequences_);
    load.num_waiting_tokens += num_mailed_tokens_;
    return load;
  }
  const EngineInfo& info() const override { return loaded_.info; }
  RequestLimits request_limits() const override { return config_.LimitsOfRequests(loaded_.info.vocab_size); }
  const Tokenizer* tokenizer() const override { return loaded_.tokenizer.get(); }
  const ChatTemplate* chat_template() const override { return loaded_.chat_template.get(); }

 private:
  // A live request as other threads know it.
  struct LiveId {
    std::optional<absl::Status> aborted_with;  // set when it was aborted before it reached the mailbox
    bool is_mailed = false;
  };

  // ---- Any thread.
  void CountRejected(const char* reason) const {
    if (stats_ != nullptr) stats_->OnRejected(reason);
  }
  void ReportBuild(const RequestInput& input, absl::Duration template_time, absl::Duration build_time) const;
  absl::Status ReserveId(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Mail(std::unique_ptr<LiveRequest> live) ABSL_LOCKS_EXCLUDED(mutex_);
  void ReleaseId(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status CheckDeadline(const Request& request, int64_t num_prompt_tokens) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::unique_ptr<LiveRequest>> MakeLiveRequest(std::shared_ptr<const Request> request,
                                                               BuiltPrompt prompt,
                                                               std::shared_ptr<GenerationStream> stream) const;

  // Where the form of an output need not hold yet: in reasoning that is split off, and before calls of tools.
  std::optional<ConstraintPrelude> PreludeOf(const RequestSpec& spec, const BuiltPrompt& prompt) const;

  // ---- Engine thread.
  void RunLoop();
  // False when the engine is to stop. Blocks while there is nothing to do.
  bool TakeMailbox();
  void Admit(std::unique_ptr<LiveRequest> live);
  void ExpireDeadlines(absl::Time now);
  void Step();
  void WriteOutputs(const StepPlan& plan, const StepResult& result, absl::Time now);
  // Queues the candidates that waited for the first one's prompt.
  void AddSiblings(LiveRequest& live);
  void FinishSequence(LiveRequest& live, Sequence& sequence, FinishReason reason, absl::Time now);
  void FailRequest(LiveRequest& live, const absl::Status& status);
  void FailAll(const absl::Status& status);
  void EndRequest(LiveRequest& live);
  void ReportStep(const StepPlan& plan, int32_t num_prefill_rows, double experts_per_layer, absl::Time start,
                  absl::Time end);

  const EngineConfig config_;
  LoadedModel loaded_;
  const std::unique_ptr<ConstraintCompiler> constraint_compiler_;  // null without a tokenizer
  const PromptBuilder prompt_builder_;
  StatsSink* const stats_;

  // Engine thread only. Sequences outlive the scheduler, which holds pointers to them.
  absl::flat_hash_map<std::string, std::unique_ptr<LiveRequest>> live_;
  Scheduler scheduler_;
  ModelRunner runner_;
  absl::flat_hash_map<const Sequence*, LiveRequest*> live_by_sequence_;
  StepPlan plan_;      // of the step under way; their memory serves the next one
  StepResult result_;
  RateMeter decode_rate_, prefill_rate_;
  bool was_idle_ = true;

  mutable Mutex mutex_;
  CondVar mailbox_filled_;
  CondVar idle_;  // live_ids_ has become empty
  std::vector<std::unique_ptr<LiveRequest>> mailed_requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<std::string, absl::Status>> mailed_aborts_ ABSL_GUARDED_BY(mutex_);
  int64_t num_mailed_sequences_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_mailed_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<std::string, LiveId> live_ids_ ABSL_GUARDED_BY(mutex_);
  RememberedIds finished_ids_ ABSL_GUARDED_BY(mutex_);
  RememberedIds tombstones_ ABSL_GUARDED_BY(mutex_);
  EngineLoad load_ ABSL_GUARDED_BY(mutex_);
  double best_prefill_rate_ ABSL_GUARDED_BY(mutex_) = 0;  // tokens/s of the fastest step so far; 0: not known
  bool is_draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_failed_ ABSL_GUARDED_BY(mutex_) = false;

  uint64_t next_sequence_id_ = 1;  // engine thread

  std::thread thread_;  // last: starts when all else stands
};

absl::StatusOr<std::shared_ptr<GenerationStream>> EngineImpl::Submit(std::shared_ptr<const Request> request) {
  RETURN_IF_ERROR(ReserveId(request->id()));
  const absl::Time start = absl::Now();
  absl::StatusOr<BuiltPrompt> prompt = prompt_builder_.Build(*request);
  absl::Status status = prompt.status();
  if (status.ok()) ReportBuild(request->spec().input, prompt->template_time, absl::Now() - start);
  if (status.ok()) status = CheckDeadline(*request, static_cast<int64_t>(prompt->tokens.size()));
  auto stream = std::make_shared<GenerationStream>();
  if (status.ok()) {
    absl::StatusOr<std::unique_ptr<LiveRequest>> live = MakeLiveRequest(request, *std::move(prompt), stream);
    status = live.ok() ? Mail(*std::move(live)) : live.status();
  }
  if (!status.ok()) {
    ReleaseId(request->id());
    return status;
  }
  return stream;
}

void EngineImpl::ReportBuild(const RequestInput& input, absl::Duration template_time,
                             absl::Duration build_time) const {
  if (stats_ == nullptr || std::holds_alternative<TokenInput>(input)) return;
  if (std::holds_alternative<ChatInput>(input)) stats_->OnStage("template", template_time);
  stats_->OnStage("tokenize", build_time - template_time);
}

absl::Status EngineImpl::ReserveId(const std::string& id) {
  MutexLock lock(&mutex_);
  if (has_failed_) {
    return EngineError(absl::StatusCode::kUnavailable, error_reason::kEngineFailure, "the engine has failed");
  }
  if (is_draining_ || is_stopping_) {
    CountRejected("draining");
    return EngineError(absl::StatusCode::kUnavailable, error_reason::kDraining, "the server is shutting down",
                       absl::Seconds(1));
  }
  if (tombstones_.Contains(id, absl::Now())) {
    return EngineError(absl::StatusCode::kCancelled, error_reason::kAbortedByAdmin,
                       StrCat("request ", id, " was aborted before it arrived"));
  }
  if (!live_ids_.try_emplace(id).second) {
    return EngineError(absl::StatusCode::kAlreadyExists, error_reason::kDuplicateRequestId,
                       StrCat("a request with id ", id, " is still running"));
  }
  return absl::OkStatus();
}

void EngineImpl::ReleaseId(const std::string& id) {
  MutexLock lock(&mutex_);
  live_ids_.erase(id);
  if (live_ids_.empty()) idle_.SignalAll();
}

absl::Status EngineImpl::CheckDeadline(const Request& request, int64_t num_prompt_tokens) {
  const absl::Time deadline = request.spec().scheduling.deadline;
  if (deadline == absl::InfiniteFuture()) return absl::OkStatus();
  const absl::Duration left = deadline - absl::Now();
  if (left <= absl::ZeroDuration()) return DeadlineError("the deadline passed before the request was admitted");
  MutexLock lock(&mutex_);
  if (best_prefill_rate_ <= 0) return absl::OkStatus();
  // Optimistic on purpose: the fastest step seen so far, so that only what surely fails is refused.
  const int64_t tokens_ahead = load_.num_waiting_tokens + num_mailed_tokens_ + num_prompt_tokens;
  const absl::Duration estimate = absl::Seconds(static_cast<double>(tokens_ahead) / best_prefill_rate_);
  if (estimate <= left) return absl::OkStatus();
  CountRejected("deadline_unmeetable");
  ErrorDetail detail{.reason = std::string(error_reason::kDeadline)};
  detail.metadata = {{"estimatedMs", StrCat(absl::ToInt64Milliseconds(estimate))},
                     {"remainingMs", StrCat(absl::ToInt64Milliseconds(left))},
                     {"limit", "deadline_unmeetable"}};
  return MakeError(absl::StatusCode::kDeadlineExceeded,
                   StrCat("the deadline cannot be met: queue and prompt need about ", absl::FormatDuration(estimate),
                          ", ", absl::FormatDuration(left), " are left"),
                   detail);
}

std::optional<ConstraintPrelude> EngineImpl::PreludeOf(const RequestSpec& spec, const BuiltPrompt& prompt) const {
  const std::optional<ReasoningMarks>& marks = loaded_.output_formats.reasoning;
  const bool may_reason = spec.output.separate_reasoning && marks.has_value() &&
                          !EndsBehindReasoning(*loaded_.tokenizer, *marks, prompt.tokens);
  if (!may_reason && prompt.constraint_trigger < 0) return std::nullopt;
  ConstraintPrelude prelude{.trigger_token = prompt.constraint_trigger};
  if (!may_reason) return prelude;
  prelude.open_token = marks->open;
  prelude.close_token = marks->close;
  prelude.is_open = EndsInReasoning(*loaded_.tokenizer, *marks, prompt.tokens);
  for (const std::string_view blank : {"\n", "\n\n", "Ċ", "ĊĊ", "<0x0A>"}) {
    if (const auto token = loaded_.tokenizer->TokenToId(blank)) prelude.blank_tokens.push_back(*token);
  }
  return prelude;
}

absl::StatusOr<std::unique_ptr<LiveRequest>> EngineImpl::MakeLiveRequest(
    std::shared_ptr<const Request> request, BuiltPrompt prompt, std::shared_ptr<GenerationStream> stream) const {
  const RequestSpec& spec = request->spec();
  const absl::Time now = absl::Now();
  auto live = std::make_unique<LiveRequest>();
  live->request = request;
  ASSIGN_OR_RETURN(live->writer, OutputWriter::Create(request, prompt.stop, loaded_.tokenizer.get(),
                                                      loaded_.output_formats, std::move(stream),
                                                      std::move(prompt.text)));
  for (int i = 0; i < spec.num_candidates; ++i) {
    auto sequence = std::make_unique<Sequence>();
    sequence->request = request;
    sequence->candidate_index = i;
    sequence->sampling = prompt.sampling;
    sequence->sampling.seed = CandidateSeed(prompt.sampling.seed, i);
    sequence->stop = prompt.stop;
    sequence->eos_token_ids = loaded_.eos_token_ids;
    if (prompt.constraint != nullptr) sequence->constraint.emplace(prompt.constraint, PreludeOf(spec, prompt));
    sequence->tokens = prompt.tokens;
    sequence->num_prompt_tokens = static_cast<int32_t>(prompt.tokens.size());
    sequence->cache_salt = spec.cache.salt;
    sequence->bypass_prefix_cache = spec.cache.bypass_prefix_cache;
    // The prompt is the same for all candidates: its log-probabilities are computed once.
    if (i > 0) sequence->sampling.prompt_logprobs.reset();
    sequence->needs_prompt_logits = sequence->sampling.prompt_logprobs.has_value();
    sequence->priority = spec.scheduling.priority;
    sequence->arrival_time = now;
    sequence->deadline = spec.scheduling.deadline;
    sequence->queue_deadline = now + spec.scheduling.queue_timeout;
    sequence->soft_deadline = now + spec.stop.time_limit;
    live->sequences.push_back(std::move(sequence));
  }
  live->num_unfinished = spec.num_candidates;
  live->siblings_wait = spec.num_candidates > 1 && config_.enable_prefix_caching && !spec.cache.bypass_prefix_cache &&
                        static_cast<int32_t>(prompt.tokens.size()) > loaded_.info.block_size;
  return live;
}

absl::Status EngineImpl::Mail(std::unique_ptr<LiveRequest> live) {
  const int64_t num_sequences = static_cast<int64_t>(live->sequences.size());
  const int64_t num_tokens = num_sequences * live->sequences[0]->num_tokens();
  MutexLock lock(&mutex_);
  LiveId& id = live_ids_[live->request->id()];
  if (id.aborted_with.has_value()) return *id.aborted_with;
  // All that is here, against all that may run or wait: between two reports a sequence may already run that is still
  // counted as waiting, but none is counted twice or missed.
  const int64_t here = load_.num_running + load_.num_waiting + num_mailed_sequences_ + num_sequences;
  const int64_t waiting_tokens = load_.num_waiting_tokens + num_mailed_tokens_ + num_tokens;
  const bool too_many = here > int64_t{config_.max_num_seqs} + config_.max_num_queued_reqs;
  if (too_many || waiting_tokens > config_.max_num_queued_tokens) {
    const char* limit = too_many ? "queue_full" : "queue_tokens_full";
    CountRejected(limit);
    ErrorDetail detail{.reason = std::string(error_reason::kQueueFull)};
    detail.metadata = {{"limit", limit},
                       {"maximum", too_many ? StrCat(config_.max_num_queued_reqs)
                                            : StrCat(config_.max_num_queued_tokens)}};
    detail.retry_delay = absl::Seconds(1);
    return MakeError(absl::StatusCode::kResourceExhausted,
                     too_many ? StrCat("the queue is full: ", config_.max_num_queued_reqs, " requests wait")
                              : StrCat("the queue is full: more than ", config_.max_num_queued_tokens, " tokens wait"),
                     detail);
  }
  id.is_mailed = true;
  num_mailed_sequences_ += num_sequences;
  num_mailed_tokens_ += num_tokens;
  mailed_requests_.push_back(std::move(live));
  mailbox_filled_.Signal();
  return absl::OkStatus();
}

AbortOutcome EngineImpl::Abort(std::string_view request_id, absl::Status status) {
  const std::string id(request_id);
  MutexLock lock(&mutex_);
  const auto it = live_ids_.find(id);
  if (it != live_ids_.end()) {
    if (it->second.is_mailed) {
      mailed_aborts_.emplace_back(id, std::move(status));
      mailbox_filled_.Signal();
    } else {
      it->second.aborted_with = std::move(status);
    }
    return AbortOutcome::kAborted;
  }
  if (finished_ids_.Contains(id, absl::Now())) return AbortOutcome::kAlreadyFinished;
  tombstones_.Insert(id, absl::Now() + kTombstoneLife);
  return AbortOutcome::kNotFound;
}

void EngineImpl::RunLoop() {
  pthread_setname_np(pthread_self(), "engine");
  while (TakeMailbox()) {
    ExpireDeadlines(absl::Now());
    if (scheduler_.HasWork()) Step();
  }
  FailAll(EngineError(absl::StatusCode::kUnavailable, error_reason::kDraining, "the server is shutting down"));
}

bool EngineImpl::TakeMailbox() {
  std::vector<std::unique_ptr<LiveRequest>> requests;
  std::vector<std::pair<std::string, absl::Status>> aborts;
  const bool has_work = scheduler_.HasWork();
  if (!has_work && !was_idle_) {
    was_idle_ = true;
    const absl::Time now = absl::Now();
    ReportStep(StepPlan(), 0, 0.0, now, now);
  }
  {
    MutexLock lock(&mutex_);
    while (!has_work && mailed_requests_.empty() && mailed_aborts_.empty() && !is_stopping_) {
      mailbox_filled_.Wait(&mutex_);
    }
    if (is_stopping_) return false;
    requests.swap(mailed_requests_);
    aborts.swap(mailed_aborts_);
    // They count as waiting until the next report of the scheduler's own numbers.
    load_.num_waiting += static_cast<int32_t>(num_mailed_sequences_);
    load_.num_waiting_tokens += num_mailed_tokens_;
    num_mailed_sequences_ = 0;
    num_mailed_tokens_ = 0;
  }
  for (std::unique_ptr<LiveRequest>& live : requests) Admit(std::move(live));
  for (auto& [id, status] : aborts) {
    if (const auto it = live_.find(id); it != live_.end()) FailRequest(*it->second, status);
  }
  return true;
}

void EngineImpl::Admit(std::unique_ptr<LiveRequest> live) {
  was_idle_ = false;
  for (const std::unique_ptr<Sequence>& sequence : live->sequences) {
    sequence->id = next_sequence_id_++;
    live_by_sequence_[sequence.get()] = live.get();
    if (sequence->candidate_index == 0 || !live->siblings_wait) scheduler_.Add(sequence.get());
  }
  const std::string& id = live->request->id();
  live_[id] = std::move(live);
}

void EngineImpl::ExpireDeadlines(absl::Time now) {
  for (Sequence* sequence : scheduler_.Expired(now)) {
    const auto it = live_by_sequence_.find(sequence);
    if (it == live_by_sequence_.end()) continue;  // its request has just ended with a sibling's deadline
    LiveRequest& live = *it->second;
    if (now >= sequence->deadline) {
      FailRequest(live, DeadlineError(StrCat("the deadline passed after ", sequence->num_output_tokens(), " tokens")));
    } else if (now >= sequence->soft_deadline) {
      FinishSequence(live, *sequence, FinishReason::kTimeLimit, now);
    } else {
      CountRejected("queue_timeout");
      FailRequest(live, EngineError(absl::StatusCode::kDeadlineExceeded, error_reason::kQueueTimeout,
                                    "the request waited in the queue longer than its queue_timeout",
                                    absl::Seconds(1)));
    }
  }
}

void EngineImpl::Step() {
  const absl::Time start = absl::Now();
  plan_ = scheduler_.Plan(start, std::move(plan_));
  const StepPlan& plan = plan_;
  if (plan.empty()) {
    FailAll(EngineError(absl::StatusCode::kInternal, error_reason::kEngineFailure,
                        "the scheduler found no step for the work it has"));
    return;
  }
  int32_t num_prefill_rows = 0;
  for (const PlannedSequence& planned : plan.sequences) {
    if (planned.sequence->num_computed_tokens < planned.sequence->num_prompt_tokens) {
      num_prefill_rows += planned.num_tokens;
    }
  }
  absl::StatusOr<StepResult> result = runner_.Run(plan, std::move(result_));
  if (!result.ok()) {
    LogError("step_failed", {{"status", result.status().ToString()}, {"tokens", plan.num_tokens}});
    {
      MutexLock lock(&mutex_);
      has_failed_ = true;
      load_.is_healthy = false;
    }
    FailAll(EngineError(absl::StatusCode::kUnavailable, error_reason::kEngineFailure, "the engine has failed"));
    return;
  }
  result_ = *std::move(result);
  scheduler_.Commit(plan, result_);
  const absl::Time end = absl::Now();
  WriteOutputs(plan, result_, end);
  ReportStep(plan, num_prefill_rows, result_.experts_per_layer, start, end);
}

void EngineImpl::WriteOutputs(const StepPlan& plan, const StepResult& result, absl::Time now) {
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    Sequence& sequence = *plan.sequences[i].sequence;
    const auto it = live_by_sequence_.find(&sequence);
    if (it == live_by_sequence_.end()) continue;  // its request has just failed with a sibling
    LiveRequest& live = *it->second;
    if (result.sequences[i].has_nan) {
      FailRequest(live, EngineError(absl::StatusCode::kInternal, error_reason::kEngineFailure,
                                    "the model computed logits that are not numbers"));
      continue;
    }
    bool stop_found = false;
    const absl::Time start = absl::Now();
    live.writer->WriteStep(sequence, result.sequences[i], now, &stop_found);
    live.write_time += absl::Now() - start;
    if (stats_ != nullptr && result.sequences[i].token >= 0) {
      if (const auto gap = live.writer->LastGap(sequence.candidate_index)) stats_->OnInterTokenGap(*gap);
    }
    if (live.siblings_wait && result.sequences[i].token >= 0) {
      AddSiblings(live);
    }
    const FinishReason reason = stop_found ? FinishReason::kStopSequence : sequence.finish_reason;
    if (reason != FinishReason::kNone) FinishSequence(live, sequence, reason, now);
  }
}

void EngineImpl::AddSiblings(LiveRequest& live) {
  live.siblings_wait = false;
  for (size_t c = 1; c < live.sequences.size(); ++c) scheduler_.Add(live.sequences[c].get());
}

void EngineImpl::FinishSequence(LiveRequest& live, Sequence& sequence, FinishReason reason, absl::Time now) {
  scheduler_.Finish(&sequence, reason);
  runner_.Forget(sequence.id);
  live.writer->WriteFinish(sequence, reason, now);
  if (stats_ != nullptr) stats_->OnSequenceFinished(live.writer->StatsOf(sequence, reason, now));
  if (--live.num_unfinished > 0) {
    if (live.siblings_wait) {  // the first candidate ended before a token: the others run on their own
      AddSiblings(live);
    }
    return;
  }
  live.writer->Close(now);
  EndRequest(live);
}

void EngineImpl::FailRequest(LiveRequest& live, const absl::Status& status) {
  const absl::Time now = absl::Now();
  const FinishReason reason = status.code() == absl::StatusCode::kCancelled ? FinishReason::kCancelled
                                                                            : FinishReason::kError;
  for (const std::unique_ptr<Sequence>& sequence : live.sequences) {
    if (sequence->state == SequenceState::kFinished) continue;
    const bool was_added = sequence->candidate_index == 0 || !live.siblings_wait;
    if (was_added) scheduler_.Finish(sequence.get(), reason);
    runner_.Forget(sequence->id);
    if (stats_ != nullptr) {
      SequenceStats stats = live.writer->StatsOf(*sequence, reason, now);
      stats.code = status.code();
      stats_->OnSequenceFinished(stats);
    }
  }
  live.writer->Close(status);
  EndRequest(live);
}

void EngineImpl::FailAll(const absl::Status& status) {
  while (!live_.empty()) FailRequest(*live_.begin()->second, status);
  std::vector<std::unique_ptr<LiveRequest>> mailed;
  {
    MutexLock lock(&mutex_);
    mailed.swap(mailed_requests_);
    num_mailed_sequences_ = 0;
    num_mailed_tokens_ = 0;
  }
  for (std::unique_ptr<LiveRequest>& live : mailed) {
    live->writer->Close(status);
    ReleaseId(live->request->id());
  }
}

void EngineImpl::EndRequest(LiveRequest& live) {
  if (stats_ != nullptr) stats_->OnStage("detokenize", live.write_time);
  for (const std::unique_ptr<Sequence>& sequence : live.sequences) live_by_sequence_.erase(sequence.get());
  const std::string id = live.request->id();
  live_.erase(id);
  MutexLock lock(&mutex_);
  live_ids_.erase(id);
  if (live_ids_.empty()) idle_.SignalAll();
  finished_ids_.Insert(id, absl::Now() + kTombstoneLife);
}

void EngineImpl::ReportStep(const StepPlan& plan, int32_t num_prefill_rows, double experts_per_layer, absl::Time start,
                            absl::Time end) {
  const SchedulerStats scheduler = scheduler_.stats();
  const int32_t num_empty_blocks = scheduler.num_blocks_free - scheduler.num_blocks_cached;
  const int32_t num_decode_rows = plan.num_tokens - num_prefill_rows;
  decode_rate_.Add(end, num_decode_rows);
  prefill_rate_.Add(end, num_prefill_rows);
  {
    MutexLock lock(&mutex_);
    load_.num_running = scheduler.num_running;
    load_.num_waiting = scheduler.num_waiting;
    load_.num_waiting_tokens = scheduler.num_waiting_tokens;
    load_.blocks_free = num_empty_blocks;
    load_.blocks_used = scheduler.num_blocks_used;
    load_.blocks_cached = scheduler.num_blocks_cached;
    load_.prefix_queried_tokens = scheduler.prefix_queried_tokens;
    load_.prefix_hit_tokens = scheduler.prefix_hit_tokens;
    load_.decode_tokens_per_second = decode_rate_.rate();
    load_.prefill_tokens_per_second = prefill_rate_.rate();
    if (num_prefill_rows > 0 && num_decode_rows == 0 && end > start) {
      best_prefill_rate_ = std::max(best_prefill_rate_, num_prefill_rows / absl::ToDoubleSeconds(end - start));
    }
  }
  if (stats_ == nullptr) return;
  StepStats stats;
  stats.end_time = end;
  stats.duration = end - start;
  stats.phase = num_prefill_rows == 0 ? StepPhase::kDecode
                                      : (num_decode_rows == 0 ? StepPhase::kPrefill : StepPhase::kMixed);
  stats.num_tokens = plan.num_tokens;
  stats.experts_per_layer = experts_per_layer;
  stats.num_sequences = static_cast<int32_t>(plan.sequences.size());
  for (const PlannedSequence& planned : plan.sequences) stats.num_sampled_tokens += planned.samples ? 1 : 0;
  stats.num_running = scheduler.num_running;
  stats.num_waiting = scheduler.num_waiting;
  stats.num_waiting_tokens = scheduler.num_waiting_tokens;
  if (scheduler.num_waiting > 0) stats.oldest_waiting = end - scheduler.oldest_arrival;
  stats.blocks_free = num_empty_blocks;
  stats.blocks_used = scheduler.num_blocks_used;
  stats.blocks_cached = scheduler.num_blocks_cached;
  stats.preemptions_total = scheduler.num_preemptions;
  stats.prefix_queried_tokens_total = scheduler.prefix_queried_tokens;
  stats.prefix_hit_tokens_total = scheduler.prefix_hit_tokens;
  stats.recomputed_tokens_total = scheduler.recomputed_tokens;
  stats_->OnStep(stats);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineConfig& config, StatsSink* stats) {
  ASSIGN_OR_RETURN(LoadedModel loaded, LoadModelFolder(config));
  return std::make_unique<EngineImpl>(config, std::move(loaded), stats);
}

}  // namespace expertd
