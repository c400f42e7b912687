// `expertd load`: a load generator over gRPC, or over REST. Keeps a number of streamed calls open until a number of
// requests is done (or sends them at a rate), and reports throughput and latency. Prompts are random token ids, so that
// the prefix cache does not help; output has a fixed length.
#include <algorithm>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <grpcpp/support/client_callback.h>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "expertd/v1/inference.grpc.pb.h"
#include "clients/cpp/call_meter.h"
#include "clients/cpp/client.h"
#include "clients/cpp/commands.h"
#include "clients/cpp/load_options.h"
#include "clients/cpp/load_pacing.h"
#include "clients/cpp/load_report.h"
#include "clients/rest_shim/event_streams.h"
#include "engine/base/flags.h"
#include "engine/base/json.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

// Runs calls and collects their records. Thread-safe: gRPC's threads report to it.
class LoadRun {
 public:
  // `rest`: null, or what carries the calls in place of gRPC.
  LoadRun(const Client& client, rest::EventStreams* rest, const LoadOptions& options)
      : client_(client),
        rest_(rest),
        options_(options),
        random_(options.seed),
        pacing_(options.num_requests, options.concurrency, options.request_rate, options.seed + 1) {
    for (int i = 0; i < options.NumConnections(); ++i) {
      stubs_.push_back(v1::InferenceService::NewStub(client.channel(static_cast<size_t>(i))));
    }
  }

  // Returns the records of all requests, in order of their ends.
  std::vector<CallRecord> Run();

 private:
  class Call;

  v1::GenerateRequest NextRequest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the next call at the time `due`, in an open loop as soon as there is room. False when no call is left, or a
  // closed loop is full.
  bool WaitAndClaim(absl::Time due) ABSL_LOCKS_EXCLUDED(mutex_);
  // Starts a call that was claimed.
  void StartCall() ABSL_LOCKS_EXCLUDED(mutex_);
  void StartRestCall(const v1::GenerateRequest& request);
  void OnDone(CallRecord record) ABSL_LOCKS_EXCLUDED(mutex_);

  const Client& client_;
  rest::EventStreams* const rest_;
  const LoadOptions& options_;
  std::vector<std::unique_ptr<v1::InferenceService::Stub>> stubs_;
  Mutex mutex_;
  CondVar call_ended_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  size_t num_stubs_used_ ABSL_GUARDED_BY(mutex_) = 0;
  LoadPacing pacing_ ABSL_GUARDED_BY(mutex_);
  std::vector<CallRecord> records_ ABSL_GUARDED_BY(mutex_);
};

// One call over gRPC in flight; deletes itself when done.
class LoadRun::Call final : public grpc::ClientReadReactor<v1::StreamGenerateResponse> {
 public:
  Call(LoadRun& run, v1::InferenceService::Stub& stub, v1::GenerateRequest request)
      : run_(run), request_(std::move(request)), meter_(run.options_.output_len) {
    run_.client_.Prepare(context_);
    if (run_.options_.timeout_seconds > 0) {
      context_.set_deadline(absl::ToChronoTime(meter_.start() + absl::Seconds(run_.options_.timeout_seconds)));
    }
    stub.async()->StreamGenerate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (response_.has_delta() && response_.delta().num_tokens() > 0) {
      meter_.AddTokens(static_cast<int>(response_.delta().num_tokens()));
    } else if (response_.has_prompt()) {
      meter_.record().num_input_tokens = response_.prompt().num_tokens();
    } else if (response_.has_summary()) {
      meter_.record().num_output_tokens = response_.summary().usage().completion_tokens();
    }
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    run_.OnDone(meter_.End(FromGrpc(status), ErrorReason(status)));
    delete this;
  }

 private:
  LoadRun& run_;
  grpc::ClientContext context_;
  const v1::GenerateRequest request_;
  v1::StreamGenerateResponse response_;
  CallMeter meter_;
};

int64_t CountOf(const Json& usage, std::string_view name) {
  const Json* count = JsonFind(usage, name);
  return count != nullptr && count->is_number_integer() ? count->get<int64_t>() : 0;
}

// The same request as OpenAI's clients send it.
std::string CompletionBody(const v1::GenerateRequest& request, const std::string& model) {
  Json body;
  body["model"] = model;
  body["prompt"] = std::vector<uint32_t>(request.tokens().ids().begin(), request.tokens().ids().end());
  body["temperature"] = 0;
  body["seed"] = request.sampling().seed();
  body["max_tokens"] = request.stop().max_tokens();
  body["ignore_eos"] = true;
  body["stream"] = true;
  body["stream_options"]["include_usage"] = true;
  body["stream_options"]["continuous_usage_stats"] = true;
  return DumpJson(body);
}

void LoadRun::StartRestCall(const v1::GenerateRequest& request) {
  const absl::Duration timeout =
      options_.timeout_seconds > 0 ? absl::Seconds(options_.timeout_seconds) : absl::InfiniteDuration();
  const auto meter = std::make_shared<CallMeter>(options_.output_len);
  rest_->Post(
      "/v1/completions", CompletionBody(request, client_.model().name()), timeout,
      [meter](const Json& event) {
        const Json* usage = JsonFind(event, "usage");
        if (usage == nullptr || !usage->is_object()) return;
        CallRecord& record = meter->record();
        const int64_t num_tokens = CountOf(*usage, "completion_tokens");
        if (num_tokens > record.num_output_tokens) {
          meter->AddTokens(static_cast<int>(num_tokens - record.num_output_tokens));
        }
        record.num_output_tokens = num_tokens;
        record.num_input_tokens = CountOf(*usage, "prompt_tokens");
      },
      [this, meter](const absl::Status& status, const std::string& reason) { OnDone(meter->End(status, reason)); });
}

v1::GenerateRequest LoadRun::NextRequest() {
  v1::GenerateRequest request;
  std::uniform_int_distribution<uint32_t> any_id(0, client_.model().vocab_size() - 1);
  for (int i = 0; i < options_.input_len; ++i) request.mutable_tokens()->add_ids(any_id(random_));
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_seed(options_.seed);
  request.mutable_stop()->set_max_tokens(static_cast<uint32_t>(options_.output_len));
  request.mutable_stop()->set_ignore_eos(true);
  request.mutable_output()->set_text(options_.text);
  request.mutable_output()->set_token_ids(!options_.text);
  return request;
}

void LoadRun::StartCall() {
  v1::GenerateRequest request;
  v1::InferenceService::Stub* stub;
  {
    MutexLock lock(&mutex_);
    request = NextRequest();
    stub = stubs_[num_stubs_used_++ % stubs_.size()].get();
  }
  if (rest_ != nullptr) return StartRestCall(request);
  new Call(*this, *stub, std::move(request));
}

void LoadRun::OnDone(CallRecord record) {
  bool has_claimed = false;
  {
    MutexLock lock(&mutex_);
    records_.push_back(std::move(record));
    has_claimed = pacing_.EndAndClaim();
    call_ended_.SignalAll();
  }
  // Without a claim the run may be over, and this object gone.
  if (has_claimed) StartCall();
}

bool LoadRun::WaitAndClaim(absl::Time due) {
  {
    MutexLock lock(&mutex_);
    if (pacing_.has_started_all()) return false;
  }
  absl::SleepFor(due - absl::Now());
  MutexLock lock(&mutex_);
  while (pacing_.is_open_loop() && !pacing_.has_room()) call_ended_.Wait(&mutex_);
  return pacing_.Claim();
}

std::vector<CallRecord> LoadRun::Run() {
  absl::Time due = absl::Now();
  while (WaitAndClaim(due)) {
    StartCall();
    MutexLock lock(&mutex_);
    due += absl::Seconds(pacing_.NextGapSeconds());
  }
  // A closed loop is full now, and each call that ends starts the next one.
  MutexLock lock(&mutex_);
  while (!pacing_.is_over()) call_ended_.Wait(&mutex_);
  return std::move(records_);
}

absl::Status RunLoad(const LoadOptions& options) {
  RETURN_IF_ERROR(options.Validate());
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options.client, options.NumConnections()));
  const int64_t needed = int64_t{options.input_len} + options.output_len;
  if (needed > client->model().max_model_len()) {
    return absl::InvalidArgumentError(StrCat("--input-len plus --output-len is ", needed, "; the model's length is ",
                                             client->model().max_model_len()));
  }
  const LoadSettings settings = {.concurrency = std::min(options.concurrency, options.num_requests),
                                 .num_requests = options.num_requests};
  std::unique_ptr<rest::EventStreams> rest;
  if (!options.rest_address.empty()) {
    ASSIGN_OR_RETURN(const std::string key, FindApiKey(options.client));
    ASSIGN_OR_RETURN(rest, rest::EventStreams::Create(options.rest_address, key.empty() ? "" : StrCat("Bearer ", key)));
  }
  LoadRun run(*client, rest.get(), options);
  const absl::Time start = absl::Now();
  const std::vector<CallRecord> records = run.Run();
  const Json report = LoadReport(settings, records, absl::ToDoubleSeconds(absl::Now() - start));
  std::cout << (options.json ? DumpJson(report, /*indent=*/2) + "\n" : LoadTable(report)) << std::flush;
  const int num_failed = report["failed"].get<int>();
  if (num_failed > 0) return absl::UnknownError(StrCat(num_failed, " of ", records.size(), " requests failed"));
  return absl::OkStatus();
}

}  // namespace

void AddLoadCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("load", "Put load on a server and measure it");
  auto options = std::make_shared<LoadOptions>();
  AddLoadFlags(*command, *options);
  command->callback([=] { *exit_code = ReportToUser(*command, RunLoad(*options)); });
}

}  // namespace expertd
