#include "clients/run_batch/batch_run.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::batch {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(200);
constexpr absl::Duration kMaxRetryDelay = absl::Seconds(30);

std::string HeaderOf(const rest::HttpResponse& response, std::string_view name) {
  for (const auto& [key, value] : response.headers) {
    if (key == name) return value;
  }
  return "";
}

// The server may take the same request later.
bool IsTurnedAway(const rest::HttpResponse& response) { return response.status == 429 || response.status == 503; }

std::string MessageOf(const Json& body) {
  const Json* error = JsonFind(body, "error");
  const Json* message = error == nullptr ? nullptr : JsonFind(*error, "message");
  return message != nullptr && message->is_string() ? message->get<std::string>() : "it does not say why";
}

int64_t OutputTokensOf(const Json& body) {
  const Json* usage = JsonFind(body, "usage");
  const Json* tokens = usage == nullptr ? nullptr : JsonFind(*usage, "completion_tokens");
  return tokens != nullptr && tokens->is_number_integer() ? tokens->get<int64_t>() : 0;
}

}  // namespace

// A request of the file as the routes see it: one whole answer comes, on any thread.
class BatchRun::Exchange final : public rest::HttpExchange, public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(BatchRun& run, Retry attempt) : run_(run), attempt_(std::move(attempt)) {
    request_.method = "POST";
    request_.path = attempt_.request.url;
    request_.content_type = "application/json";
    request_.authorization = run.options_.authorization;
    request_.body = attempt_.request.body;
  }
  ~Exchange() override {
    if (!has_answer_) run_.OnAnswer(*this, nullptr);
  }

  const rest::HttpRequest& request() const override { return request_; }
  std::string TakeBody() override { return std::move(request_.body); }
  void Send(rest::HttpResponse response) override {
    has_answer_ = true;
    run_.OnAnswer(*this, &response);
  }
  // Streams are refused when the file is read.
  void StartStream(rest::HttpResponse, std::string) override {}
  void Write(std::string, std::function<void()>) override {}
  void EndStream() override {}

  void SetOnGone(std::function<void()> on_gone) override {
    MutexLock lock(&mutex_);
    on_gone_ = std::move(on_gone);
  }
  void Cancel() {
    std::function<void()> on_gone;
    {
      MutexLock lock(&mutex_);
      on_gone = on_gone_;
    }
    if (on_gone) on_gone();
  }

  Retry& attempt() { return attempt_; }

 private:
  BatchRun& run_;
  Retry attempt_;
  rest::HttpRequest request_;
  bool has_answer_ = false;
  Mutex mutex_;
  std::function<void()> on_gone_ ABSL_GUARDED_BY(mutex_);
};

BatchRun::BatchRun(BatchInput input, BatchOutput output, rest::HttpHandler handler, BatchRunOptions options)
    : input_(std::move(input)),
      handler_(std::move(handler)),
      options_(std::move(options)),
      output_(std::move(output)) {}

BatchProgress BatchRun::progress() const {
  MutexLock lock(&mutex_);
  return progress_;
}

absl::Status BatchRun::Run(const std::function<bool(const BatchProgress&)>& on_tick) {
  const absl::Status status = Feed(on_tick);
  if (!status.ok()) CancelAll();
  MutexLock lock(&mutex_);
  while (progress_.num_running > 0) changed_.Wait(&mutex_);
  return status;
}

absl::Status BatchRun::Feed(const std::function<bool(const BatchProgress&)>& on_tick) {
  absl::Time next_tick = absl::Now();
  for (;;) {
    if (absl::Now() >= next_tick) {
      if (!on_tick(progress())) return absl::CancelledError("interrupted");
      next_tick = absl::Now() + kTick;
    }
    bool has_room;
    {
      MutexLock lock(&mutex_);
      RETURN_IF_ERROR(failure_);
      const bool has_stalled = !retries_.empty() && progress_.num_running == 0;
      if (has_stalled && absl::Now() - stalled_since_ > options_.patience) {
        return absl::UnavailableError(StrCat("the server has turned requests away for ",
                                             absl::FormatDuration(options_.patience), ": ", last_refusal_));
      }
      has_room = progress_.num_running < options_.concurrency;
    }
    if (has_room) {
      ASSIGN_OR_RETURN(std::optional<Retry> next, NextRequest());
      if (next.has_value()) {
        Start(*std::move(next));
        continue;
      }
    }
    MutexLock lock(&mutex_);
    if (is_input_read_ && retries_.empty() && progress_.num_running == 0) return failure_;
    absl::Time wake_up = next_tick;
    for (const Retry& retry : retries_) wake_up = std::min(wake_up, retry.due);
    // A retry that is due already waits for room.
    changed_.WaitWithDeadline(&mutex_, has_room ? wake_up : next_tick);
  }
}

absl::StatusOr<std::optional<BatchRun::Retry>> BatchRun::NextRequest() {
  {
    MutexLock lock(&mutex_);
    const auto due = std::min_element(retries_.begin(), retries_.end(),
                                      [](const Retry& a, const Retry& b) { return a.due < b.due; });
    if (due != retries_.end()) {
      // While some are turned away, new ones would be too.
      if (due->due > absl::Now()) return std::nullopt;
      Retry retry = std::move(*due);
      retries_.erase(due);
      return retry;
    }
  }
  while (!is_input_read_) {
    Retry fresh;
    bool has_request = num_read_ < options_.num_requests;
    if (has_request) {
      ASSIGN_OR_RETURN(has_request, input_.Next(&fresh.request));
    }
    is_input_read_ = !has_request;
    ++num_read_;
    MutexLock lock(&mutex_);
    if (has_request && !output_.HasAnswer(fresh.request.custom_id)) return fresh;
  }
  return std::nullopt;
}

void BatchRun::Start(Retry attempt) {
  auto exchange = std::make_shared<Exchange>(*this, std::move(attempt));
  {
    MutexLock lock(&mutex_);
    ++progress_.num_running;
    running_.insert(exchange.get());
  }
  handler_(std::move(exchange));
}

void BatchRun::OnAnswer(Exchange& exchange, const rest::HttpResponse* response) {
  MutexLock lock(&mutex_);
  running_.erase(&exchange);
  --progress_.num_running;
  changed_.SignalAll();
  Retry& attempt = exchange.attempt();
  const absl::StatusOr<Json> body =
      response == nullptr ? absl::InternalError("a request was dropped") : ParseJson(response->body, 128);
  if (!body.ok()) {
    failure_.Update(body.status());
  } else if (response->status == 401 || response->status == 403) {
    failure_.Update(absl::UnauthenticatedError(MessageOf(*body)));
  } else if (response->status == 499 && is_cancelling_) {
    // To be asked again by the next run.
  } else if (IsTurnedAway(*response)) {
    last_refusal_ = MessageOf(*body);
    if (progress_.num_running == 0) stalled_since_ = std::min(stalled_since_, absl::Now());
    absl::Duration delay = options_.first_retry_delay * (1 << std::min(attempt.num_attempts, 10));
    int64_t milliseconds;
    if (absl::SimpleAtoi(HeaderOf(*response, "retry-after-ms"), &milliseconds)) {
      delay = absl::Milliseconds(milliseconds);
    }
    retries_.push_back({absl::Now() + std::min(delay, kMaxRetryDelay), std::move(attempt.request),
                        attempt.num_attempts + 1});
  } else if (failure_.ok()) {
    failure_ = output_.Append({.custom_id = attempt.request.custom_id,
                               .request_id = HeaderOf(*response, "x-request-id"),
                               .status = response->status,
                               .body = response->body});
    if (!failure_.ok()) return;
    stalled_since_ = absl::InfiniteFuture();
    ++progress_.num_answered;
    if (response->status != 200) ++progress_.num_refused;
    progress_.num_output_tokens += OutputTokensOf(*body);
  }
}

void BatchRun::CancelAll() {
  std::vector<std::shared_ptr<Exchange>> running;
  {
    MutexLock lock(&mutex_);
    is_cancelling_ = true;
    for (Exchange* exchange : running_) {
      if (auto live = exchange->weak_from_this().lock()) running.push_back(std::move(live));
    }
  }
  for (const auto& exchange : running) exchange->Cancel();
}

}  // namespace expertd::batch
