#include "server/stream_reactor.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "engine/base/strings.h"
#include "engine/request/errors.h"
#include "server/message.h"
#include "server/status.h"
#include "server/time.h"

namespace expertd {
namespace {

constexpr absl::Duration kReportedBackpressure = absl::Milliseconds(100);
// A stall is noticed at most this share of the timeout late.
constexpr int kStallChecksPerTimeout = 4;

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamReactor::Start(const GenerationEnvironment& environment,
                                                                 grpc::CallbackServerContext* context,
                                                                 CallGate::Ticket ticket) {
  std::shared_ptr<StreamReactor> reactor(new StreamReactor(environment, context, std::move(ticket)));
  reactor->GenerationCall::Start();
  return reactor.get();
}

void StreamReactor::OnAdmitted() {
  if (environment_.observer != nullptr) environment_.observer->OnStreamOpened();
  {
    absl::MutexLock lock(&mutex_);
    is_admitted_ = true;
    next_stall_check_ = absl::Now() + environment_.config.stream_stall_timeout / kStallChecksPerTimeout;
    environment_.dispatcher.PostAt(next_stall_check_, weak_from_this());
    if (admission_.answer.holds_back()) held_.resize(admission_.request->spec().num_candidates);
  }
  Pump();
}

void StreamReactor::OnRefused(const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    has_finished_ = true;
  }
  NoteEnd(status);
  Finish(ToGrpcStatus(status));
}

void StreamReactor::Pump() {
  Step step;
  {
    absl::MutexLock lock(&mutex_);
    if (!is_admitted_ || is_busy_ || has_finished_) return;
    step = NextStep();
    if (step == Step::kWait) return;
    is_busy_ = step != Step::kFinish;
    has_finished_ = step == Step::kFinish;
    write_start_ = absl::Now();
  }
  Perform(step);
}

void StreamReactor::Perform(Step step) {
  switch (step) {
    case Step::kWait: return;
    case Step::kWrite: return StartWrite(&message_, write_options_);
    case Step::kFinish: {
      absl::Status status;
      {
        absl::MutexLock lock(&mutex_);
        status = end_status_;
      }
      NoteEnd(status);
      return Finish(ToGrpcStatus(status));
    }
  }
}

StreamReactor::Step StreamReactor::NextStep() {
  if (!is_cancelled_ && FillResponse()) {
    const size_t max_bytes = static_cast<size_t>(environment_.config.max_send_message_bytes);
    if (const absl::Status written = WriteMessage(response_, max_bytes, &message_); !written.ok()) {
      AbortWith(written);
      end_status_ = written;
      return Step::kFinish;
    }
    write_options_ = grpc::WriteOptions();
    // Goes out together with what comes next: a message or the status. Not by StartWriteAndFinish, by which the
    // in-process transport of gRPC 1.51 loses the message when its reader is not just then waiting for one.
    if (more_follows_ || response_.has_summary()) write_options_.set_buffer_hint();
    return Step::kWrite;
  }
  // A caller that cancelled waits for nothing; the engine drops the request by itself.
  if (is_cancelled_) {
    end_status_ = abort_status();
    return Step::kFinish;
  }
  if (!admission_.stream->ended()) return Step::kWait;
  end_status_ = admission_.stream->status();
  return Step::kFinish;
}

bool StreamReactor::FillResponse() {
  more_follows_ = false;
  if (!accepted_is_sent_) {
    accepted_is_sent_ = true;
    FillAccepted();
    return true;
  }
  while (outbox_.empty()) {
    std::optional<StreamEvent> event = admission_.stream->TryNext();
    if (!event.has_value()) {
      // At the end of a stream nothing is held back any more.
      if (!ReleaseDueHeld()) return false;
      break;
    }
    if (held_.empty()) {
      more_follows_ = admission_.stream->num_pending() > 0;
      FillFrom(std::move(*event));
      return true;
    }
    Sort(std::move(*event));
  }
  StreamEvent event = std::move(outbox_.front());
  outbox_.pop_front();
  more_follows_ = !outbox_.empty();
  FillFrom(std::move(event));
  return true;
}

void StreamReactor::FillAccepted() {
  const EngineInfo& info = admission_.engine->info();
  v1::Accepted* accepted = response_.mutable_accepted();
  accepted->set_id(admission_.request->id());
  accepted->set_model(info.model_name);
  *accepted->mutable_create_time() = ToProtoTimestamp(admission_.create_time);
  accepted->set_system_fingerprint(info.fingerprint);
  accepted->set_seed(admission_.request->spec().sampling.seed.value_or(0));
  accepted->set_num_candidates(static_cast<uint32_t>(admission_.request->spec().num_candidates));
  for (v1::Warning& warning : admission_.warnings) *accepted->add_warnings() = std::move(warning);
}

void StreamReactor::FillFrom(StreamEvent&& event) {
  if (DeltaEvent* delta = std::get_if<DeltaEvent>(&event)) return FillFromDelta(std::move(*delta));
  response_.clear_event();
  if (PromptEvent* prompt = std::get_if<PromptEvent>(&event)) {
    num_prompt_tokens_ = prompt->num_prompt_tokens;
    num_cached_tokens_ = prompt->num_cached_tokens;
    FillPrompt(std::move(*prompt), admission_.tokenizer, response_.mutable_prompt());
  } else if (FinishedEvent* finished = std::get_if<FinishedEvent>(&event)) {
    FillFinished(std::move(*finished), response_.mutable_finished());
  } else if (SummaryEvent* summary = std::get_if<SummaryEvent>(&event)) {
    num_output_tokens_ = summary->num_output_tokens;
    v1::Summary* proto = response_.mutable_summary();
    FillUsage(*summary, proto->mutable_usage());
    if (admission_.answer.timing) {
      FillTiming(summary->timing, admission_.tokenize_time, proto->mutable_timing());
    }
  }
}

void StreamReactor::FillFromDelta(DeltaEvent&& event) {
  num_output_tokens_ += event.num_tokens;
  if (environment_.observer != nullptr) environment_.observer->OnStreamMessage(event.num_merged);
  if (!response_.has_delta()) response_.clear_event();
  v1::Delta* delta = response_.mutable_delta();
  delta->Clear();  // keeps the memory of the last one
  FillDelta(std::move(event), admission_.tokenizer, delta);
  if (admission_.answer.usage_every_message) {
    FillUsage(num_prompt_tokens_, num_cached_tokens_, num_output_tokens_, delta->mutable_usage());
  }
}

void StreamReactor::Sort(StreamEvent&& event) {
  if (DeltaEvent* delta = std::get_if<DeltaEvent>(&event)) {
    Held& held = held_[delta->candidate_index];
    if (held.delta.empty()) {
      held.delta = std::move(*delta);
    } else {
      MergeDelta(std::move(*delta), held.delta);
    }
    const absl::Time now = absl::Now();
    if (held.delta.num_tokens < admission_.answer.min_tokens_per_message) return;
    if (now >= held.due) {
      ReleaseHeld(held);
      held.due = now + admission_.answer.min_interval;
    } else if (!std::exchange(held.timer_is_set, true)) {
      environment_.dispatcher.PostAt(held.due, weak_from_this());
    }
    return;
  }
  if (const FinishedEvent* finished = std::get_if<FinishedEvent>(&event)) {
    ReleaseHeld(held_[finished->candidate_index]);
  }
  outbox_.push_back(std::move(event));
}

void StreamReactor::ReleaseHeld(Held& held) {
  if (held.delta.empty()) return;
  outbox_.push_back(std::exchange(held.delta, DeltaEvent{}));
}

bool StreamReactor::ReleaseDueHeld() {
  if (held_.empty()) return false;
  const bool ended = admission_.stream->ended();
  const absl::Time now = absl::Now();
  for (Held& held : held_) {
    const bool is_due = now >= held.due && held.delta.num_tokens >= admission_.answer.min_tokens_per_message;
    if (!is_due && !ended) continue;
    held.timer_is_set = false;
    if (held.delta.num_tokens > 0) held.due = now + admission_.answer.min_interval;
    ReleaseHeld(held);
  }
  return !outbox_.empty();
}

void StreamReactor::OnWriteDone(bool ok) {
  if (!ok) HandleCancel();
  absl::Duration waited;
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(+[](bool* is_resetting) { return !*is_resetting; }, &is_resetting_));
    is_busy_ = false;
    waited = absl::Now() - write_start_;
    if (!ok) is_cancelled_ = true;
  }
  if (waited >= kReportedBackpressure && environment_.observer != nullptr) {
    environment_.observer->OnBackpressure(waited);
  }
  Pump();
}

void StreamReactor::OnCancel() {
  HandleCancel();
  {
    absl::MutexLock lock(&mutex_);
    is_cancelled_ = true;
  }
  Pump();
}

void StreamReactor::OnTimer(absl::Time now) {
  const absl::Duration timeout = environment_.config.stream_stall_timeout;
  bool has_stalled = false;
  bool resets = false;
  {
    absl::MutexLock lock(&mutex_);
    if (now >= next_stall_check_) {
      next_stall_check_ = now + timeout / kStallChecksPerTimeout;
      environment_.dispatcher.PostAt(next_stall_check_, weak_from_this());
      has_stalled = is_busy_ && now - write_start_ >= timeout;
    }
    resets = has_stalled && now >= reset_time_;
    is_resetting_ = resets;
  }
  if (resets) {
    // OnWriteDone waits for is_resetting_ to go, and OnDone comes after it: until then the context lives.
    context_->TryCancel();
    absl::MutexLock lock(&mutex_);
    is_resetting_ = false;
    reset_time_ = absl::InfiniteFuture();
  } else if (has_stalled) {
    EndStalledReader(now);
  } else {
    Pump();
  }
}

void StreamReactor::EndStalledReader(absl::Time now) {
  const absl::Duration timeout = environment_.config.stream_stall_timeout;
  const absl::Status status =
      MakeError(absl::StatusCode::kAborted, StrCat("the caller read nothing for ", absl::FormatDuration(timeout)),
                {.reason = std::string(error_reason::kSlowConsumer)});
  {
    absl::MutexLock lock(&mutex_);
    if (!is_busy_ || std::exchange(has_finished_, true)) return;
    // The status goes out behind the outstanding message, should the reader come back. If not, the stream is reset.
    reset_time_ = now + timeout;
  }
  if (environment_.observer != nullptr) environment_.observer->OnBackpressure(timeout);
  AbortWith(status);
  NoteEnd(status);
  Finish(ToGrpcStatus(status));
}

void StreamReactor::OnDone() {
  bool was_admitted;
  {
    absl::MutexLock lock(&mutex_);
    was_admitted = is_admitted_;
  }
  if (was_admitted && environment_.observer != nullptr) environment_.observer->OnStreamClosed();
  Release();
}

}  // namespace expertd
