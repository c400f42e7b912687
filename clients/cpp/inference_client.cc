#include "clients/cpp/inference_client.h"

#include <algorithm>
#include <random>
#include <set>

#include <grpcpp/create_channel.h>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/cord.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "clients/cpp/channel_arguments.h"

namespace expertd {
namespace {

constexpr char kDetailsPayload[] = "type.googleapis.com/google.rpc.Status";

absl::Status StatusOf(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (!status.error_details().empty()) result.SetPayload(kDetailsPayload, absl::Cord(status.error_details()));
  return result;
}

// What gRPC itself ends calls with that reach a server while it begins to stop.
bool IsBareCancel(const absl::Status& status) {
  return status.code() == absl::StatusCode::kCancelled && !status.GetPayload(kDetailsPayload).has_value();
}

std::shared_ptr<grpc::Channel> MakeChannel(const InferenceClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(256 << 20);  // log-probabilities of a long prompt pass gRPC's 4 MiB
  KeepInTouch(arguments);
  const auto credentials = options.credentials != nullptr ? options.credentials : grpc::InsecureChannelCredentials();
  return grpc::CreateCustomChannel(options.target, credentials, arguments);
}

void AppendDelta(const v1::Delta& delta, v1::Candidate& candidate) {
  candidate.mutable_text()->append(delta.text());
  candidate.mutable_reasoning()->append(delta.reasoning());
  candidate.mutable_token_ids()->MergeFrom(delta.token_ids());
  candidate.mutable_logprobs()->MergeFrom(delta.logprobs());
  candidate.set_num_tokens(candidate.num_tokens() + delta.num_tokens());
  for (const v1::ToolCall& piece : delta.tool_calls()) {
    if (static_cast<int>(piece.index()) < candidate.tool_calls_size()) {
      candidate.mutable_tool_calls(static_cast<int>(piece.index()))
          ->mutable_arguments_json()
          ->append(piece.arguments_json());
    } else {
      *candidate.add_tool_calls() = piece;
    }
  }
}

// Null when the server speaks of a candidate that it has not announced.
v1::Candidate* CandidateAt(uint32_t index, v1::GenerateResponse& response) {
  return static_cast<int>(index) < response.candidates_size() ? response.mutable_candidates(static_cast<int>(index))
                                                              : nullptr;
}

// Adds an event to the answer that Generate would have given.
void AddEvent(v1::StreamGenerateResponse& event, v1::GenerateResponse& response) {
  if (event.has_accepted()) {
    const v1::Accepted& accepted = event.accepted();
    response.set_id(accepted.id());
    response.set_model(accepted.model());
    *response.mutable_create_time() = accepted.create_time();
    response.set_system_fingerprint(accepted.system_fingerprint());
    *response.mutable_warnings() = accepted.warnings();
    for (uint32_t i = 0; i < accepted.num_candidates(); ++i) response.add_candidates()->set_index(i);
  } else if (event.has_prompt()) {
    *response.mutable_prompt() = std::move(*event.mutable_prompt());
  } else if (event.has_delta()) {
    if (v1::Candidate* candidate = CandidateAt(event.delta().index(), response)) AppendDelta(event.delta(), *candidate);
  } else if (event.has_finished()) {
    const v1::Finished& finished = event.finished();
    v1::Candidate* candidate = CandidateAt(finished.index(), response);
    if (candidate == nullptr) return;
    candidate->set_finish_reason(finished.finish_reason());
    if (finished.has_stop_match()) *candidate->mutable_stop_match() = finished.stop_match();
    if (finished.has_seed()) candidate->set_seed(finished.seed());
  } else if (event.has_summary()) {
    *response.mutable_usage() = event.summary().usage();
    if (event.summary().has_timing()) *response.mutable_timing() = event.summary().timing();
  }
}

}  // namespace

CallError ErrorOf(const absl::Status& status) {
  CallError error;
  google::rpc::Status wire;
  const auto payload = status.GetPayload(kDetailsPayload);
  if (!payload.has_value() || !wire.ParseFromString(std::string(*payload))) return error;
  for (const google::protobuf::Any& detail : wire.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info)) {
      error.reason = info.reason();
      error.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (detail.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        error.violations.emplace_back(violation.field(), violation.description());
      }
    } else if (detail.UnpackTo(&retry)) {
      error.retry_delay = absl::Seconds(retry.retry_delay().seconds()) + absl::Nanoseconds(retry.retry_delay().nanos());
    }
  }
  return error;
}

struct CallCanceller::State {
  absl::Mutex mutex;
  bool is_cancelled ABSL_GUARDED_BY(mutex) = false;
  std::set<grpc::ClientContext*> contexts ABSL_GUARDED_BY(mutex);
};

CallCanceller::CallCanceller() : state_(std::make_shared<State>()) {}

void CallCanceller::Cancel() const {
  absl::MutexLock lock(&state_->mutex);
  state_->is_cancelled = true;
  for (grpc::ClientContext* context : state_->contexts) context->TryCancel();
}

// How often, and until when, a call may be tried.
class InferenceClient::Attempts {
 public:
  Attempts(const RetryPolicy& policy, absl::Duration timeout)
      : policy_(policy), deadline_(absl::Now() + timeout), num_left_(policy.attempts - 1), pause_(policy.initial) {}

  absl::Time deadline() const { return deadline_; }

  // The pause before the next attempt; nullopt: there is none.
  std::optional<absl::Duration> PauseAfter(const absl::Status& status) {
    if (status.code() != absl::StatusCode::kUnavailable || num_left_-- <= 0) return std::nullopt;
    thread_local std::mt19937_64 random{std::random_device{}()};
    const double share = std::uniform_real_distribution<double>(0.5, 1.0)(random);
    const absl::Duration pause = std::max(pause_ * share, ErrorOf(status).retry_delay.value_or(absl::ZeroDuration()));
    pause_ = std::min(pause_ * policy_.factor, policy_.maximum);
    if (absl::Now() + pause >= deadline_) return std::nullopt;
    return pause;
  }

 private:
  const RetryPolicy policy_;
  const absl::Time deadline_;
  int num_left_;
  absl::Duration pause_;
};

absl::StatusOr<std::unique_ptr<InferenceClient>> InferenceClient::Create(InferenceClientOptions options) {
  const auto can_be_sent = [](char c) { return c > ' ' && c <= '~'; };
  if (!std::all_of(options.api_key.begin(), options.api_key.end(), can_be_sent)) {
    return absl::InvalidArgumentError("api_key is not printable ASCII without blanks");
  }
  return std::unique_ptr<InferenceClient>(new InferenceClient(std::move(options)));
}

InferenceClient::InferenceClient(InferenceClientOptions options)
    : options_(std::move(options)),
      channel_(MakeChannel(options_)),
      inference_(channel_),
      tokenizer_(channel_),
      model_(channel_),
      control_(channel_) {}

absl::Status InferenceClient::Run(const CallOptions& options,
                                  const std::function<grpc::Status(grpc::ClientContext&)>& call,
                                  const bool* has_begun) const {
  Attempts attempts(options_.retry, options.timeout.value_or(options_.timeout));
  const CallCanceller canceller = options.canceller.value_or(CallCanceller());
  CallCanceller::State& state = *canceller.state_;
  for (;;) {
    grpc::ClientContext context;
    if (attempts.deadline() != absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(attempts.deadline()));
    if (!options_.api_key.empty()) context.AddMetadata("authorization", "Bearer " + options_.api_key);
    {
      absl::MutexLock lock(&state.mutex);
      if (state.is_cancelled) return absl::CancelledError("cancelled");
      state.contexts.insert(&context);
    }
    // Also when the caller's own code throws.
    const absl::Cleanup forget = [&] {
      absl::MutexLock lock(&state.mutex);
      state.contexts.erase(&context);
    };
    absl::Status status = StatusOf(call(context));
    absl::MutexLock lock(&state.mutex);
    if (IsBareCancel(status) && !state.is_cancelled) {
      status = absl::UnavailableError("the server cancelled the call without a reason: it may be stopping");
    }
    if (status.ok() || (has_begun != nullptr && *has_begun)) return status;
    const std::optional<absl::Duration> pause = attempts.PauseAfter(status);
    if (!pause.has_value()) return status;
    state.mutex.AwaitWithTimeout(absl::Condition(&state.is_cancelled), *pause);
  }
}

absl::StatusOr<v1::GenerateResponse> InferenceClient::Generate(const v1::GenerateRequest& request,
                                                               const CallOptions& options) {
  v1::GenerateResponse response;
  const absl::Status status = Run(options, [&](grpc::ClientContext& context) {
    return inference_.Generate(&context, request, &response);
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::GenerateResponse> InferenceClient::Stream(const v1::GenerateRequest& request,
                                                             const std::function<bool(const v1::Delta&)>& on_delta,
                                                             const CallOptions& options) {
  v1::GenerateResponse response;
  bool has_begun = false, wants_more = true;
  const absl::Status status = Run(
      options,
      [&](grpc::ClientContext& context) {
        const auto reader = inference_.StreamGenerate(&context, request);
        for (v1::StreamGenerateResponse event; reader->Read(&event);) {
          has_begun = true;
          if (event.has_delta() && wants_more && !on_delta(event.delta())) {
            wants_more = false;
            context.TryCancel();
          }
          AddEvent(event, response);
        }
        return reader->Finish();
      },
      &has_begun);
  if (!wants_more) return absl::CancelledError("cancelled by the caller");
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<std::vector<uint32_t>> InferenceClient::Tokenize(const std::string& text, const CallOptions& options) {
  v1::TokenizeRequest request;
  request.add_texts(text);
  v1::TokenizeResponse response;
  const absl::Status status = Run(options, [&](grpc::ClientContext& context) {
    return tokenizer_.Tokenize(&context, request, &response);
  });
  if (!status.ok()) return status;
  if (response.results_size() != 1) return absl::InternalError("the server answers for another number of texts");
  return std::vector<uint32_t>(response.results(0).ids().begin(), response.results(0).ids().end());
}

absl::StatusOr<std::string> InferenceClient::Detokenize(const std::vector<uint32_t>& ids, const CallOptions& options) {
  v1::DetokenizeRequest request;
  request.add_sequences()->mutable_ids()->Add(ids.begin(), ids.end());
  v1::DetokenizeResponse response;
  const absl::Status status = Run(options, [&](grpc::ClientContext& context) {
    return tokenizer_.Detokenize(&context, request, &response);
  });
  if (!status.ok()) return status;
  if (response.texts_size() != 1) return absl::InternalError("the server answers for another number of sequences");
  return response.texts(0);
}

absl::StatusOr<v1::Model> InferenceClient::GetModel(const std::string& name, const CallOptions& options) {
  v1::GetModelRequest request;
  request.set_name(name);
  v1::GetModelResponse response;
  const absl::Status status =
      Run(options, [&](grpc::ClientContext& context) { return model_.GetModel(&context, request, &response); });
  if (!status.ok()) return status;
  return response.model();
}

absl::StatusOr<v1::GetServerInfoResponse> InferenceClient::GetServerInfo(const CallOptions& options) {
  v1::GetServerInfoResponse response;
  const absl::Status status = Run(
      options, [&](grpc::ClientContext& context) { return control_.GetServerInfo(&context, {}, &response); });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::Load> InferenceClient::GetLoad(const CallOptions& options) {
  v1::GetLoadResponse response;
  const absl::Status status =
      Run(options, [&](grpc::ClientContext& context) { return control_.GetLoad(&context, {}, &response); });
  if (!status.ok()) return status;
  return response.load();
}

v1::GenerateRequest TextRequest(std::string text) {
  v1::GenerateRequest request;
  request.mutable_text()->set_text(std::move(text));
  return request;
}

v1::GenerateRequest ChatRequest(std::string user_text) {
  v1::GenerateRequest request;
  v1::Message& message = *request.mutable_chat()->add_messages();
  message.set_role(v1::ROLE_USER);
  message.add_parts()->set_text(std::move(user_text));
  request.mutable_output()->set_separate_reasoning(true);
  return request;
}

}  // namespace expertd
