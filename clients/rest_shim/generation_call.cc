#include "clients/rest_shim/generation_call.h"

#include <utility>

namespace expertd::rest {

GenerationCall::GenerationCall(const RestCall& call, v1::GenerateRequest request) : request_(std::move(request)) {
  PrepareContext(call, context_);
}

void GenerationCall::Start(Upstream& upstream, OnEvent on_event, OnEnd on_end) {
  on_event_ = std::move(on_event);
  on_end_ = std::move(on_end);
  self_ = shared_from_this();
  upstream.inference.async()->StreamGenerate(&context_, &request_, this);
  {
    absl::MutexLock lock(&mutex_);
    is_held_ = is_reading_ = true;
    AddHold();
    StartRead(&response_);
  }
  StartCall();
}

void GenerationCall::Next() {
  absl::MutexLock lock(&mutex_);
  if (!is_held_) return;  // cancelled
  is_reading_ = true;
  StartRead(&response_);
}

void GenerationCall::Cancel() {
  const std::shared_ptr<GenerationCall> self = shared_from_this();  // the end may come at once
  context_.TryCancel();
  bool was_held = false;
  {
    absl::MutexLock lock(&mutex_);
    is_cancelled_ = true;
    if (!is_reading_) was_held = std::exchange(is_held_, false);
  }
  if (was_held) RemoveHold();
}

void GenerationCall::OnReadDone(bool ok) {
  bool was_held = false;
  {
    absl::MutexLock lock(&mutex_);
    is_reading_ = false;
    // A cancelled call's events have no reader any more, who would ask for the next.
    if (!ok || is_cancelled_) was_held = std::exchange(is_held_, false);
    if (!ok && !was_held) return;
  }
  if (was_held) return RemoveHold();
  on_event_(response_);
}

void GenerationCall::OnDone(const grpc::Status& status) {
  const std::shared_ptr<GenerationCall> self = std::move(self_);
  on_event_ = nullptr;
  std::exchange(on_end_, nullptr)(status);
}

}  // namespace expertd::rest
