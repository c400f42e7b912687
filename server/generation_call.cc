#include "server/generation_call.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/request/errors.h"
#include "server/status.h"
#include "server/time.h"

namespace expertd {
void GenerationRegistry::Add(GenerationCall* call) {
  absl::MutexLock lock(&mutex_);
  calls_.insert(call);
}

void GenerationRegistry::Remove(GenerationCall* call) {
  absl::MutexLock lock(&mutex_);
  calls_.erase(call);
}

void GenerationRegistry::AbortAll(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  for (GenerationCall* call : calls_) call->AbortWith(status);
}

bool GenerationRegistry::WaitUntilEmpty(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(
                                     +[](std::unordered_set<GenerationCall*>* calls) { return calls->empty(); },
                                     &calls_),
                                 timeout);
}

GenerationCall::GenerationCall(const GenerationEnvironment& environment, grpc::CallbackServerContext* context,
                               CallGate::Ticket ticket)
    : environment_(environment),
      context_(context),
      start_(ticket.start()),
      deadline_(FromDeadline(context->deadline())),
      metadata_request_id_(FindMetadata(*context, "x-request-id")),
      ticket_(std::move(ticket)) {}

void GenerationCall::Start() {
  self_ = shared_from_this();
  environment_.registry.Add(this);
  HeldRequest held;
  {
    absl::MutexLock lock(&mutex_);
    held = ticket_.TakeRequest();
  }
  const auto size = held.may_be_large() ? WorkerPool::JobSize::kLarge : WorkerPool::JobSize::kSmall;
  environment_.workers.Post(size, [self = self_, held = std::move(held)]() mutable {
    std::exchange(self, nullptr)->Admit(std::move(held));
  });
}

void GenerationCall::Release() {
  environment_.registry.Remove(this);
  // The engine may hold the stream a while longer; it must not wake anybody any more.
  if (admission_.stream != nullptr) admission_.stream->SetReadyCallback(nullptr);
  std::shared_ptr<GenerationCall> self = std::move(self_);
}

void GenerationCall::Admit(HeldRequest held) {
  // What was read of the request goes with TryAdmit: from then on the engine has what it needs.
  absl::Status status = CatchAll([&] { return TryAdmit(std::exchange(held, HeldRequest())); });
  if (!status.ok()) return OnRefused(status);
  {
    absl::MutexLock lock(&mutex_);
    is_submitted_ = true;
    if (abort_status_.has_value()) admission_.engine->Abort(admission_.request->id(), *abort_status_);
  }
  OnAdmitted();
}

absl::StatusOr<ConvertedRequest> GenerationCall::Convert(const v1::GenerateRequest& request,
                                                         const RequestLimits& limits) {
  ASSIGN_OR_RETURN(ConvertedRequest converted, ToRequestSpec(request, limits));
  if (converted.spec.id.empty() && !metadata_request_id_.empty()) {
    if (IsRequestId(metadata_request_id_)) {
      converted.spec.id = metadata_request_id_;
    } else {
      v1::Warning warning;
      warning.set_field("x-request-id");
      warning.set_message("not 1..128 characters of [A-Za-z0-9._:-]; the server made another id");
      converted.warnings.push_back(std::move(warning));
    }
  }
  converted.spec.scheduling.deadline = deadline_;
  return converted;
}

absl::Status GenerationCall::TryAdmit(HeldRequest held) {
  const absl::Time start = absl::Now();
  v1::GenerateRequest request;
  const absl::Status read = held.Read(&request);
  // An id that is the caller's own comes back even when the request is refused.
  const std::string& wanted_id = request.request_id().empty() ? metadata_request_id_ : request.request_id();
  if (IsRequestId(wanted_id)) context_->AddInitialMetadata("x-request-id", wanted_id);
  {
    absl::MutexLock lock(&mutex_);
    if (IsRequestId(wanted_id)) wanted_id_ = wanted_id;
    user_ = request.user();
    if (abort_status_.has_value()) return *abort_status_;
  }
  RETURN_IF_ERROR(read);
  ASSIGN_OR_RETURN(Engine * engine, environment_.state.engine_for_new_request());
  RETURN_IF_ERROR(CheckModelName(request.model(), engine->info().model_name));
  const RequestLimits limits = engine->request_limits();
  ASSIGN_OR_RETURN(ConvertedRequest converted, Convert(request, limits));
  ASSIGN_OR_RETURN(admission_.request, Request::Create(std::move(converted.spec), limits));
  if (environment_.observer != nullptr) environment_.observer->OnValidated(absl::Now() - start);
  if (!IsRequestId(wanted_id)) context_->AddInitialMetadata("x-request-id", admission_.request->id());
  ASSIGN_OR_RETURN(admission_.stream, engine->Submit(admission_.request));
  admission_.engine = engine;
  admission_.answer = converted.answer;
  admission_.warnings = std::move(converted.warnings);
  admission_.create_time = absl::Now();
  admission_.tokenize_time = admission_.create_time - start;
  admission_.tokenizer = engine->tokenizer();
  // A weak hold: the stream may outlive the call in the engine, and the call must not outlive itself in the stream.
  admission_.stream->SetReadyCallback([weak = weak_from_this(), &dispatcher = environment_.dispatcher] {
    if (std::shared_ptr<GenerationCall> call = weak.lock()) dispatcher.Post(std::move(call));
  });
  return absl::OkStatus();
}

void GenerationCall::AbortWith(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (has_ended_ || abort_status_.has_value()) return;
  abort_status_ = status;
  // A request that has ended may have passed its id on to a new one.
  if (is_submitted_ && !admission_.stream->ended()) admission_.engine->Abort(admission_.request->id(), status);
}

absl::Status GenerationCall::abort_status() {
  absl::MutexLock lock(&mutex_);
  return abort_status_.value_or(absl::CancelledError("the caller cancelled"));
}

bool GenerationCall::IsAtDeadline() const {
  if (deadline_ == absl::InfiniteFuture()) return false;
  // The caller's clock ends the call sooner than ours: gRPC sends the time that is left rounded up, by a hundredth at
  // most, and the request was on its way for a while.
  const absl::Duration slack = absl::Milliseconds(10) + (deadline_ - start_) / 100;
  return absl::Now() >= deadline_ - slack;
}

void GenerationCall::HandleCancel() {
  if (IsAtDeadline()) {
    AbortWith(MakeError(absl::StatusCode::kDeadlineExceeded, "the call's deadline passed",
                        {.reason = std::string(error_reason::kDeadline)}));
  } else {
    AbortWith(MakeError(absl::StatusCode::kCancelled, "the caller cancelled",
                        {.reason = std::string(error_reason::kClientCancelled)}));
  }
}

void GenerationCall::NoteEnd(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (has_ended_) return;
  has_ended_ = true;
  ticket_.set_status(status);
  if (!environment_.config.log_requests) return;
  LogInfo("generation_ended",
          {{"request_id", admission_.request == nullptr ? wanted_id_ : admission_.request->id()},
           {"user", user_},
           {"code", absl::StatusCodeToString(status.code())},
           {"reason", ErrorReasonOf(status)},
           {"prompt_tokens", num_prompt_tokens_},
           {"output_tokens", num_output_tokens_},
           {"seconds", absl::ToDoubleSeconds(absl::Now() - ticket_.start())}});
}

}  // namespace expertd
