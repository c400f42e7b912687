#include "server/generate_reactor.h"

#include <utility>

#include "server/message.h"
#include "server/status.h"
#include "server/time.h"

namespace expertd {

grpc::ServerUnaryReactor* GenerateReactor::Start(const GenerationEnvironment& environment,
                                                 grpc::CallbackServerContext* context,
                                                 grpc::ByteBuffer* answer, CallGate::Ticket ticket) {
  std::shared_ptr<GenerateReactor> reactor(new GenerateReactor(environment, context, answer, std::move(ticket)));
  reactor->GenerationCall::Start();
  return reactor.get();
}

void GenerateReactor::OnAdmitted() {
  {
    absl::MutexLock lock(&mutex_);
    is_admitted_ = true;
    const EngineInfo& info = admission_.engine->info();
    response_.set_id(admission_.request->id());
    response_.set_model(info.model_name);
    *response_.mutable_create_time() = ToProtoTimestamp(admission_.create_time);
    response_.set_system_fingerprint(info.fingerprint);
    for (v1::Warning& warning : admission_.warnings) *response_.add_warnings() = std::move(warning);
    for (int i = 0; i < admission_.request->spec().num_candidates; ++i) {
      response_.add_candidates()->set_index(static_cast<uint32_t>(i));
    }
  }
  Collect();
}

void GenerateReactor::Collect() {
  {
    absl::MutexLock lock(&mutex_);
    if (!is_admitted_ || has_finished_) return;
    while (std::optional<StreamEvent> event = admission_.stream->TryNext()) Add(std::move(*event));
    if (!admission_.stream->ended()) return;
  }
  End(admission_.stream->status());
}

void GenerateReactor::Add(StreamEvent&& event) {
  if (PromptEvent* prompt = std::get_if<PromptEvent>(&event)) {
    num_prompt_tokens_ = prompt->num_prompt_tokens;
    FillPrompt(std::move(*prompt), admission_.tokenizer, response_.mutable_prompt());
  } else if (DeltaEvent* delta = std::get_if<DeltaEvent>(&event)) {
    num_output_tokens_ += delta->num_tokens;
    v1::Candidate* candidate = response_.mutable_candidates(delta->candidate_index);
    AppendDelta(std::move(*delta), admission_.tokenizer, candidate);
  } else if (FinishedEvent* finished = std::get_if<FinishedEvent>(&event)) {
    v1::Candidate* candidate = response_.mutable_candidates(finished->candidate_index);
    SetFinished(std::move(*finished), candidate);
  } else if (SummaryEvent* summary = std::get_if<SummaryEvent>(&event)) {
    FillUsage(*summary, response_.mutable_usage());
    if (admission_.answer.timing) {
      FillTiming(summary->timing, admission_.tokenize_time, response_.mutable_timing());
    }
  }
}

void GenerateReactor::OnCancel() {
  HandleCancel();
  {
    absl::MutexLock lock(&mutex_);
    // Not admitted yet: the worker sees the cancellation and ends the call.
    if (!is_admitted_) return;
  }
  End(abort_status());
}

void GenerateReactor::End(absl::Status status) {
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(has_finished_, true)) return;
    if (status.ok()) {
      status = WriteMessage(response_, static_cast<size_t>(environment_.config.max_send_message_bytes), answer_);
    }
    response_.Clear();
  }
  NoteEnd(status);
  Finish(ToGrpcStatus(status));
}

}  // namespace expertd
