#include "clients/rest_shim/generations.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "clients/rest_shim/answer_json.h"
#include "clients/rest_shim/generation_call.h"
#include "clients/rest_shim/sse.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

// Several generations need an id each: "chat-7" becomes "chat-7-0", "chat-7-1" ... One alone has its call's.
void NameRequest(const RestCall& call, size_t index, size_t count, v1::GenerateRequest& request) {
  constexpr size_t kMaxStem = 120;  // leaves room for the number in the 128 bytes of an id
  if (count > 1) request.set_request_id(StrCat(call.request_id.substr(0, kMaxStem), "-", index));
}

// Unary calls under way together. Kept by their callbacks.
class WholeGenerations final : public std::enable_shared_from_this<WholeGenerations> {
 public:
  using OnAnswers = std::function<void(const RestCall&, const std::vector<v1::GenerateResponse>&)>;

  WholeGenerations(RestCall call, std::vector<v1::GenerateRequest> requests, OnAnswers on_answers)
      : call_(std::move(call)), requests_(std::move(requests)), on_answers_(std::move(on_answers)),
        responses_(requests_.size()), num_left_(requests_.size()) {
    for (size_t i = 0; i < requests_.size(); ++i) {
      NameRequest(call_, i, requests_.size(), requests_[i]);
      contexts_.push_back(std::make_unique<grpc::ClientContext>());
      PrepareContext(call_, *contexts_.back());
    }
  }

  void Start(Upstream& upstream) {
    call_.exchange->SetOnGone([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->CancelAll();
    });
    for (size_t i = 0; i < requests_.size(); ++i) {
      upstream.inference.async()->Generate(
          contexts_[i].get(), &requests_[i], &responses_[i],
          [self = shared_from_this()](const grpc::Status& status) { self->OnEnd(status); });
    }
  }

 private:
  void CancelAll() {
    for (const auto& context : contexts_) context->TryCancel();
  }

  void OnEnd(const grpc::Status& status) {
    bool is_first_failure = false, is_last = false;
    {
      absl::MutexLock lock(&mutex_);
      is_first_failure = !status.ok() && !std::exchange(has_failed_, true);
      is_last = --num_left_ == 0 && !has_failed_;
    }
    if (is_first_failure) {
      call_.SendError(RestErrorOf(status));
      CancelAll();
    }
    if (is_last) on_answers_(call_, responses_);
  }

  const RestCall call_;
  std::vector<v1::GenerateRequest> requests_;
  const OnAnswers on_answers_;
  std::vector<v1::GenerateResponse> responses_;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts_;
  absl::Mutex mutex_;
  size_t num_left_ ABSL_GUARDED_BY(mutex_);
  bool has_failed_ ABSL_GUARDED_BY(mutex_) = false;
};

// Streaming calls whose events go to one HTTP stream. Kept by the calls until they end.
class StreamedGenerations final : public std::enable_shared_from_this<StreamedGenerations> {
 public:
  StreamedGenerations(RestCall call, const StreamChoice& choice, std::vector<StreamedGeneration> generations)
      : call_(std::move(call)), choice_(choice), sse_(std::make_shared<SseStream>(call_)),
        num_left_(generations.size()) {
    for (size_t i = 0; i < generations.size(); ++i) {
      v1::GenerateRequest& request = generations[i].request;
      NameRequest(call_, i, generations.size(), request);
      if (choice_.continuous_usage) request.mutable_output()->mutable_stream()->set_usage_every_message(true);
      streams_.push_back(std::make_shared<GenerationCall>(call_, std::move(request)));
      chunks_.push_back(std::move(generations[i].chunks));
    }
  }

  void Start(Upstream& upstream) {
    call_.exchange->SetOnGone([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->OnGone();
    });
    for (size_t i = 0; i < streams_.size(); ++i) {
      streams_[i]->Start(
          upstream,
          [self = shared_from_this(), i](const v1::StreamGenerateResponse& event) { self->OnEvent(i, event); },
          [self = shared_from_this()](const grpc::Status& status) { self->OnEnd(status); });
    }
  }

 private:
  void OnGone() {
    sse_->Drop();
    for (const auto& stream : streams_) stream->Cancel();
  }

  void OnEvent(size_t index, const v1::StreamGenerateResponse& event) {
    const std::shared_ptr<GenerationCall> stream = streams_[index];
    if (event.has_accepted()) StartOnce();
    const std::optional<Json> chunk = chunks_[index]->ChunkOf(event);
    if (!NoteEvent(event) || !chunk.has_value()) return stream->Next();
    sse_->Send(*chunk, [stream] { stream->Next(); });
  }

  // False when the answer is an error already.
  bool NoteEvent(const v1::StreamGenerateResponse& event) {
    absl::MutexLock lock(&mutex_);
    if (event.has_summary()) AddUsage(event.summary().usage(), usage_);
    return !has_failed_;
  }

  // Not before the server has taken a request: until then an error can still have its own HTTP status.
  void StartOnce() {
    absl::MutexLock lock(&mutex_);
    if (!has_failed_ && !std::exchange(has_started_, true)) sse_->Start();
  }

  void OnEnd(const grpc::Status& status) {
    bool is_first_failure = false, is_last = false, has_started = false;
    {
      absl::MutexLock lock(&mutex_);
      is_first_failure = !status.ok() && !std::exchange(has_failed_, true);
      is_last = --num_left_ == 0 && !has_failed_;
      has_started = has_started_;
    }
    if (is_first_failure) Fail(status, has_started);
    if (is_last) EndWell();
  }

  void Fail(const grpc::Status& status, bool has_started) {
    for (const auto& stream : streams_) stream->Cancel();
    if (!has_started) return call_.SendError(RestErrorOf(status));
    sse_->Send(ErrorJson(RestErrorOf(status)));
    sse_->End();
  }

  void EndWell() {
    v1::Usage usage;
    {
      absl::MutexLock lock(&mutex_);
      usage = usage_;
    }
    if (choice_.include_usage) sse_->Send(chunks_.front()->UsageChunk(usage));
    sse_->End();
  }

  const RestCall call_;
  const StreamChoice choice_;
  const std::shared_ptr<SseStream> sse_;
  std::vector<std::shared_ptr<GenerationCall>> streams_;
  std::vector<std::unique_ptr<ChunkMaker>> chunks_;
  absl::Mutex mutex_;
  size_t num_left_ ABSL_GUARDED_BY(mutex_);
  bool has_started_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_failed_ ABSL_GUARDED_BY(mutex_) = false;
  v1::Usage usage_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

void GenerateWhole(Upstream& upstream, const RestCall& call, std::vector<v1::GenerateRequest> requests,
                   std::function<void(const RestCall&, const std::vector<v1::GenerateResponse>&)> on_answers) {
  std::make_shared<WholeGenerations>(call, std::move(requests), std::move(on_answers))->Start(upstream);
}

void GenerateStream(Upstream& upstream, const RestCall& call, const StreamChoice& choice,
                    std::vector<StreamedGeneration> generations) {
  std::make_shared<StreamedGenerations>(call, choice, std::move(generations))->Start(upstream);
}

}  // namespace expertd::rest
