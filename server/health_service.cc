#include "server/health_service.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include "engine/base/strings.h"
#include "engine/request/errors.h"
#include "server/status.h"

namespace expertd {
namespace {

constexpr std::array<std::string_view, 4> kServices = {"expertd.v1.InferenceService", "expertd.v1.TokenizerService",
                                                       "expertd.v1.ModelService", "expertd.v1.ControlService"};

}  // namespace

// One Watch call: at most one write in flight; a change meanwhile is sent behind it.
class HealthService::HealthWatch final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                                         public std::enable_shared_from_this<HealthWatch> {
 public:
  HealthWatch(HealthService& service, std::string name, CallGate::Ticket ticket)
      : service_(service), name_(std::move(name)), ticket_(std::move(ticket)) {}

  void Update() {
    absl::MutexLock lock(&mutex_);
    WriteIfChanged();
  }

  void End(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(is_ending_, true)) return;
    ticket_.set_status(status);
    if (!is_busy_) Finish(ToGrpcStatus(status));
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    is_busy_ = false;
    if (!ok && !is_ending_) {
      is_ending_ = true;
      ticket_.set_status(absl::CancelledError("the caller went away"));
    }
    if (is_ending_) return Finish(ToGrpcStatus(ticket_.status()));
    WriteIfChanged();
  }

  void OnCancel() override { End(absl::CancelledError("the caller cancelled")); }

  void OnDone() override {
    const std::shared_ptr<HealthWatch> self = shared_from_this();
    absl::MutexLock lock(&service_.mutex_);
    service_.watches_.erase(self);
  }

 private:
  void WriteIfChanged() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (is_busy_ || is_ending_) return;
    const Response::ServingStatus status = service_.StatusOf(name_);
    if (status == sent_) return;
    sent_ = status;
    is_busy_ = true;
    Response response;
    response.set_status(status);
    message_ = WriteMessage(response);
    StartWrite(&message_);
  }

  HealthService& service_;
  const std::string name_;
  absl::Mutex mutex_;
  CallGate::Ticket ticket_ ABSL_GUARDED_BY(mutex_);
  bool is_busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Response::ServingStatus> sent_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer message_ ABSL_GUARDED_BY(mutex_);
};

HealthService::Response::ServingStatus HealthService::StatusOf(std::string_view service) const {
  const auto serving = [](bool is_serving) { return is_serving ? Response::SERVING : Response::NOT_SERVING; };
  if (service.empty() || service == "liveness") return serving(state_.is_live());
  if (service == "startup") return serving(state_.is_started());
  if (service == "readiness" || std::find(kServices.begin(), kServices.end(), service) != kServices.end()) {
    return serving(state_.is_ready());
  }
  return Response::SERVICE_UNKNOWN;
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                               grpc::ByteBuffer* answer) {
  return AnswerUnary<Request, Response>(
      gate_, {context, request, answer}, "grpc.health.v1.Health/Check", CallGate::Access::kOpen,
      [this](const Request& wanted, Response* response) -> absl::Status {
        const Response::ServingStatus status = StatusOf(wanted.service());
        if (status == Response::SERVICE_UNKNOWN) {
          const std::string message = StrCat("no service '", ToValidUtf8(wanted.service(), 100), "'");
          ErrorDetail detail{.reason = std::string(error_reason::kInvalidParameter)};
          detail.violations.emplace_back("service", message);
          return MakeError(absl::StatusCode::kNotFound, message, detail);
        }
        response->set_status(status);
        return absl::OkStatus();
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* HealthService::Watch(grpc::CallbackServerContext* context,
                                                                 const grpc::ByteBuffer* request) {
  using Refusing = RefusingReactor<grpc::ServerWriteReactor<grpc::ByteBuffer>>;
  CallGate::Ticket ticket = gate_.Admit(*context, "grpc.health.v1.Health/Watch", CallGate::Access::kOpen, request);
  Request wanted;
  if (ticket.status().ok()) ticket.set_status(ticket.TakeRequest().Read(&wanted, kMaxShortRequestBytes));
  if (!ticket.status().ok()) return new Refusing(ticket.status());
  const auto watch = std::make_shared<HealthWatch>(*this, wanted.service(), std::move(ticket));
  {
    absl::MutexLock lock(&mutex_);
    if (watches_ended_) return new Refusing(absl::UnavailableError("the server is stopping"));
    watches_.insert(watch);
  }
  watch->Update();
  return watch.get();
}

void HealthService::Refresh() {
  std::unordered_set<std::shared_ptr<HealthWatch>> watches;
  {
    absl::MutexLock lock(&mutex_);
    watches = watches_;
  }
  for (const std::shared_ptr<HealthWatch>& watch : watches) watch->Update();
}

void HealthService::EndWatches() {
  std::unordered_set<std::shared_ptr<HealthWatch>> watches;
  {
    absl::MutexLock lock(&mutex_);
    watches_ended_ = true;
    watches = watches_;
  }
  const absl::Status status = absl::UnavailableError("the server is stopping");
  for (const std::shared_ptr<HealthWatch>& watch : watches) watch->End(status);
}

}  // namespace expertd
