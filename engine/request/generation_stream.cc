#include "engine/request/generation_stream.h"

#include <iterator>
#include <utility>

#include "engine/base/log.h"

namespace expertd {
namespace {

template <typename T>
void Append(std::vector<T>& to, std::vector<T>&& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

void MergeDelta(DeltaEvent&& later, DeltaEvent& earlier) {
  earlier.text += later.text;
  earlier.reasoning += later.reasoning;
  for (ToolCallEvent& piece : later.tool_calls) {
    if (!earlier.tool_calls.empty() && earlier.tool_calls.back().index == piece.index) {
      earlier.tool_calls.back().arguments += piece.arguments;
    } else {
      earlier.tool_calls.push_back(std::move(piece));
    }
  }
  Append(earlier.token_ids, std::move(later.token_ids));
  Append(earlier.logprobs, std::move(later.logprobs));
  earlier.num_tokens += later.num_tokens;
  earlier.num_merged += later.num_merged + 1;
}

void GenerationStream::Push(StreamEvent event) {
  bool calls_back;
  {
    std::lock_guard lock(mutex_);
    if (status_.has_value()) return;
    if (!MergeIntoPending(event)) events_.push_back(std::move(event));
    calls_back = Wake();
  }
  if (calls_back) CallBack();
}

void GenerationStream::Close(absl::Status status) {
  bool calls_back;
  {
    std::lock_guard lock(mutex_);
    EXPERTD_CHECK(!status_.has_value(), "closed as ", status_->ToString(), ", then as ", status.ToString());
    status_ = std::move(status);
    calls_back = Wake();
  }
  if (calls_back) CallBack();
}

std::optional<StreamEvent> GenerationStream::TryNext() {
  std::lock_guard lock(mutex_);
  std::optional<StreamEvent> event = TakeFirst();
  consumer_waits_ = !event.has_value() && !status_.has_value();
  return event;
}

std::optional<StreamEvent> GenerationStream::Next() {
  std::unique_lock lock(mutex_);
  while (events_.empty() && !status_.has_value()) ready_.wait(lock);
  return TakeFirst();
}

bool GenerationStream::ended() const {
  std::lock_guard lock(mutex_);
  return status_.has_value() && events_.empty();
}

absl::Status GenerationStream::status() const {
  std::lock_guard lock(mutex_);
  return status_.value_or(absl::OkStatus());
}

void GenerationStream::SetReadyCallback(std::function<void()> on_ready) {
  std::lock_guard lock(callback_mutex_);
  on_ready_ = std::move(on_ready);
}

int GenerationStream::num_pending() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(events_.size());
}

bool GenerationStream::MergeIntoPending(StreamEvent& event) {
  auto* next = std::get_if<DeltaEvent>(&event);
  if (next == nullptr) return false;
  // Only deltas may be passed on the way back: they are of other candidates, whose order among each other says nothing.
  for (auto pending = events_.rbegin(); pending != events_.rend(); ++pending) {
    auto* delta = std::get_if<DeltaEvent>(&*pending);
    if (delta == nullptr) return false;
    if (delta->candidate_index != next->candidate_index) continue;
    MergeDelta(std::move(*next), *delta);
    return true;
  }
  return false;
}

std::optional<StreamEvent> GenerationStream::TakeFirst() {
  if (events_.empty()) return std::nullopt;
  StreamEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

bool GenerationStream::Wake() {
  ready_.notify_one();
  return std::exchange(consumer_waits_, false);
}

void GenerationStream::CallBack() {
  std::lock_guard lock(callback_mutex_);
  if (on_ready_) on_ready_();
}

}  // namespace expertd
