#include "clients/rest_shim/sse.h"

#include "engine/base/strings.h"

namespace expertd::rest {

void SseStream::Start() {
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers = {{"cache-control", "no-cache"},
                  {"x-accel-buffering", "no"},  // nginx would collect the events
                  {"x-request-id", call_.request_id}};
  call_.exchange->StartStream(std::move(head), /*keepalive=*/": ping\n\n");
}

void SseStream::Send(const Json& event, std::function<void()> on_written) {
  Push({.text = StrCat("data: ", DumpJson(event), "\n\n"), .on_written = std::move(on_written)});
}

void SseStream::End() { Push({.text = "data: [DONE]\n\n", .is_last = true}); }

void SseStream::Drop() {
  std::deque<Piece> dropped;  // destroyed without the lock: its callbacks hold others
  absl::MutexLock lock(&mutex_);
  is_dropped_ = true;
  dropped.swap(pieces_);
}

void SseStream::Push(Piece piece) {
  absl::MutexLock lock(&mutex_);
  if (is_dropped_ || has_ended_) return;
  has_ended_ = piece.is_last;
  pieces_.push_back(std::move(piece));
  if (pieces_.size() == 1) WriteNext();
}

void SseStream::WriteNext() {
  call_.exchange->Write(pieces_.front().text, [self = shared_from_this()] { self->OnWritten(); });
}

void SseStream::OnWritten() {
  Piece written;
  {
    absl::MutexLock lock(&mutex_);
    if (is_dropped_) return;
    written = std::move(pieces_.front());
    pieces_.pop_front();
    if (!pieces_.empty()) WriteNext();
  }
  if (written.is_last) call_.exchange->EndStream();
  if (written.on_written != nullptr) written.on_written();
}

}  // namespace expertd::rest
