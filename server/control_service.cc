#include "server/control_service.h"

#include <utility>

#include "absl/time/clock.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/base/version.h"
#include "engine/request/errors.h"
#include "server/build_commit.h"
#include "server/convert.h"
#include "server/status.h"
#include "server/time.h"

namespace expertd {
namespace {

constexpr uint32_t kSchemaRevision = 2;
constexpr int kMaxAborts = 1024;
constexpr size_t kMaxReasonBytes = 256;
constexpr absl::Duration kDefaultInterval = absl::Seconds(1);
constexpr absl::Duration kMinInterval = absl::Milliseconds(100);
constexpr absl::Duration kMaxInterval = absl::Seconds(60);

void FillServerInfo(const EngineInfo& info, const ServerState& state, v1::GetServerInfoResponse* response) {
  response->set_version(kVersion);
  response->set_git_commit(BuildCommit());
  response->set_instance_id(state.instance_id());
  *response->mutable_start_time() = ToProtoTimestamp(state.start_time());
  response->set_schema_revision(kSchemaRevision);
  response->set_model(info.model_name);
  response->set_architecture(info.architecture);
  response->set_system_fingerprint(info.fingerprint);
  response->set_isa(info.isa);
  response->set_cpu_model(info.cpu_model);
  response->set_num_threads(static_cast<uint32_t>(info.num_threads));
  response->set_weights_dtype(info.weights_dtype);
  response->set_kv_cache_dtype(info.kv_cache_dtype);
  response->set_weight_bytes(info.weight_bytes);
  response->set_kv_cache_bytes(info.kv_cache_bytes);
  response->set_kv_bytes_per_token(info.kv_bytes_per_token);
  response->set_block_size(static_cast<uint32_t>(info.block_size));
  response->set_num_kv_blocks(static_cast<uint32_t>(info.num_kv_blocks));
  response->set_max_model_len(static_cast<uint32_t>(info.max_model_len));
  response->set_max_num_seqs(static_cast<uint32_t>(info.max_num_seqs));
  response->set_max_num_batched_tokens(static_cast<uint32_t>(info.max_num_batched_tokens));
  *response->mutable_load_time() = ToProtoDuration(info.load_time);
}

v1::AbortOutcome ToProto(AbortOutcome outcome) {
  switch (outcome) {
    case AbortOutcome::kAborted: return v1::ABORT_OUTCOME_ABORTED;
    case AbortOutcome::kAlreadyFinished: return v1::ABORT_OUTCOME_ALREADY_FINISHED;
    case AbortOutcome::kNotFound: return v1::ABORT_OUTCOME_NOT_FOUND_TOMBSTONED;
  }
  return v1::ABORT_OUTCOME_UNSPECIFIED;
}

absl::Status CheckAborts(const v1::AbortRequestRequest& request) {
  const int count = request.request_ids_size();
  if (count < 1 || count > kMaxAborts) {
    return InvalidParameter("request_ids", StrCat("has ", count, " entries; must have 1..", kMaxAborts));
  }
  for (int i = 0; i < count; ++i) {
    // What no request can be called, no request will come with; a tombstone for it would only take room.
    if (IsRequestId(request.request_ids(i))) continue;
    return InvalidParameter(StrCat("request_ids[", i, "]"),
                            StrCat("must be 1..", kMaxRequestIdBytes, " characters of [A-Za-z0-9._:-]"));
  }
  if (request.reason().size() > kMaxReasonBytes) {
    return InvalidParameter("reason", StrCat("has ", request.reason().size(), " bytes; at most ", kMaxReasonBytes));
  }
  return absl::OkStatus();
}

void Abort(Engine& engine, const v1::AbortRequestRequest& request, v1::AbortRequestResponse* response) {
  const absl::Status status =
      MakeError(absl::StatusCode::kCancelled,
                request.reason().empty() ? "aborted by AbortRequest" : StrCat("aborted: ", request.reason()),
                {.reason = std::string(error_reason::kAbortedByAdmin)});
  for (const std::string& id : request.request_ids()) {
    v1::AbortResult* result = response->add_results();
    result->set_request_id(id);
    result->set_outcome(ToProto(engine.Abort(id, status)));
  }
  LogInfo("requests_aborted", {{"count", request.request_ids_size()},
                               {"first", request.request_ids(0)},
                               {"why", request.reason()}});
}

absl::StatusOr<absl::Duration> ReadInterval(const v1::WatchLoadRequest& request) {
  if (!request.has_interval()) return kDefaultInterval;
  const std::optional<absl::Duration> interval = FromProtoDuration(request.interval());
  if (!interval.has_value() || *interval < kMinInterval || *interval > kMaxInterval) {
    return InvalidParameter("interval", "must be 0.1 s to 60 s");
  }
  return *interval;
}

}  // namespace

// One WatchLoad call: a message, then the timer, then the next. Its turn is either with gRPC (a write is in flight) or
// with the timer.
class ControlService::LoadWatch final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                                        public Dispatcher::Task,
                                        public std::enable_shared_from_this<LoadWatch> {
 public:
  LoadWatch(ControlService& service, absl::Duration interval, CallGate::Ticket ticket)
      : service_(service), interval_(interval), ticket_(std::move(ticket)) {}

  void Send() {
    absl::MutexLock lock(&mutex_);
    if (is_busy_ || is_ending_) return;
    is_busy_ = true;
    v1::WatchLoadResponse response;
    service_.FillLoadNow(response.mutable_load());
    message_ = WriteMessage(response);
    StartWrite(&message_);
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
    service_.dispatcher_.PostAt(absl::Now() + interval_, weak_from_this());
  }

  void OnTimer(absl::Time) override { Send(); }
  void OnCancel() override { End(absl::CancelledError("the caller cancelled")); }
  void OnDone() override { service_.RemoveWatch(shared_from_this()); }

 private:
  ControlService& service_;
  const absl::Duration interval_;
  absl::Mutex mutex_;
  CallGate::Ticket ticket_ ABSL_GUARDED_BY(mutex_);
  bool is_busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_ending_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ByteBuffer message_ ABSL_GUARDED_BY(mutex_);
};

void ControlService::FillLoadNow(v1::Load* load) const {
  const absl::StatusOr<Engine*> engine = state_.engine();
  // While the model loads there is nothing to do and nobody to do it.
  FillLoad(engine.ok() ? (*engine)->Load() : EngineLoad{}, absl::Now(), load);
  load->set_num_live_calls(static_cast<uint32_t>(gate_.num_live()));
  if (state_.is_draining()) load->set_draining(true);
}

grpc::ServerUnaryReactor* ControlService::GetServerInfo(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request, grpc::ByteBuffer* answer) {
  return AnswerUnary<v1::GetServerInfoRequest, v1::GetServerInfoResponse>(
      gate_, {context, request, answer}, "expertd.v1.ControlService/GetServerInfo", CallGate::Access::kKey,
      [this](const v1::GetServerInfoRequest&, v1::GetServerInfoResponse* response) -> absl::Status {
        ASSIGN_OR_RETURN(const Engine* engine, state_.engine());
        FillServerInfo(engine->info(), state_, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ControlService::GetLoad(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* answer) {
  return AnswerUnary<v1::GetLoadRequest, v1::GetLoadResponse>(
      gate_, {context, request, answer}, "expertd.v1.ControlService/GetLoad", CallGate::Access::kKey,
      [this](const v1::GetLoadRequest&, v1::GetLoadResponse* response) -> absl::Status {
        RETURN_IF_ERROR(state_.engine().status());
        FillLoadNow(response->mutable_load());
        return absl::OkStatus();
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ControlService::WatchLoad(grpc::CallbackServerContext* context,
                                                                      const grpc::ByteBuffer* request) {
  using Refusing = RefusingReactor<grpc::ServerWriteReactor<grpc::ByteBuffer>>;
  CallGate::Ticket ticket =
      gate_.Admit(*context, "expertd.v1.ControlService/WatchLoad", CallGate::Access::kKey, request);
  v1::WatchLoadRequest wanted;
  if (ticket.status().ok()) ticket.set_status(ticket.TakeRequest().Read(&wanted, kMaxShortRequestBytes));
  const absl::StatusOr<absl::Duration> interval = ReadInterval(wanted);
  if (ticket.status().ok()) ticket.set_status(interval.status());
  if (!ticket.status().ok()) return new Refusing(ticket.status());

  const auto watch = std::make_shared<LoadWatch>(*this, *interval, std::move(ticket));
  if (AddWatch(watch)) {
    watch->Send();
    return watch.get();
  }
  return new Refusing(state_.engine_for_new_request().status());
}

grpc::ServerUnaryReactor* ControlService::AbortRequest(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request, grpc::ByteBuffer* answer) {
  return AnswerUnary<v1::AbortRequestRequest, v1::AbortRequestResponse>(
      gate_, {context, request, answer}, "expertd.v1.ControlService/AbortRequest", CallGate::Access::kKey,
      [this](const v1::AbortRequestRequest& wanted, v1::AbortRequestResponse* response) -> absl::Status {
        ASSIGN_OR_RETURN(Engine * engine, state_.engine());
        RETURN_IF_ERROR(CheckAborts(wanted));
        Abort(*engine, wanted, response);
        return absl::OkStatus();
      });
}

bool ControlService::AddWatch(const std::shared_ptr<LoadWatch>& watch) {
  absl::MutexLock lock(&mutex_);
  if (!watches_ended_) watches_.insert(watch);
  return !watches_ended_;
}

void ControlService::RemoveWatch(const std::shared_ptr<LoadWatch>& watch) {
  absl::MutexLock lock(&mutex_);
  watches_.erase(watch);
}

void ControlService::EndWatches() {
  std::unordered_set<std::shared_ptr<LoadWatch>> watches;
  {
    absl::MutexLock lock(&mutex_);
    watches_ended_ = true;
    watches = watches_;
  }
  const absl::Status status = MakeError(absl::StatusCode::kUnavailable, "the server is stopping",
                                        {.reason = std::string(error_reason::kDraining)});
  for (const std::shared_ptr<LoadWatch>& watch : watches) watch->End(status);
}

}  // namespace expertd
