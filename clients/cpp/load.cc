// `expertd load`: a load generator over gRPC. Keeps a number of StreamGenerate calls open until a number of requests is
// done (or sends them at a rate), and reports throughput and latency. Prompts are random token ids, so that the prefix
// cache does not help; output has a fixed length.
#include <algorithm>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <grpcpp/support/client_callback.h>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "expertd/v1/inference.grpc.pb.h"
#include "clients/cpp/client.h"
#include "clients/cpp/commands.h"
#include "clients/cpp/load_options.h"
#include "clients/cpp/load_pacing.h"
#include "clients/cpp/load_report.h"
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
  LoadRun(const Client& client, const LoadOptions& options)
      : client_(client),
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
  void OnDone(CallRecord record) ABSL_LOCKS_EXCLUDED(mutex_);

  const Client& client_;
  const LoadOptions& options_;
  std::vector<std::unique_ptr<v1::InferenceService::Stub>> stubs_;
  Mutex mutex_;
  CondVar call_ended_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  size_t num_stubs_used_ ABSL_GUARDED_BY(mutex_) = 0;
  LoadPacing pacing_ ABSL_GUARDED_BY(mutex_);
  std::vector<CallRecord> records_ ABSL_GUARDED_BY(mutex_);
};

// One call in flight; deletes itself when done.
class LoadRun::Call final : public grpc::ClientReadReactor<v1::StreamGenerateResponse> {
 public:
  Call(LoadRun& run, v1::InferenceService::Stub& stub, v1::GenerateRequest request)
      : run_(run), request_(std::move(request)), start_(absl::Now()) {
    run_.client_.Prepare(context_);
    if (run_.options_.timeout_seconds > 0) {
      context_.set_deadline(absl::ToChronoTime(start_ + absl::Seconds(run_.options_.timeout_seconds)));
    }
    record_.gaps.reserve(static_cast<size_t>(run_.options_.output_len));
    stub.async()->StreamGenerate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (response_.has_delta() && response_.delta().num_tokens() > 0) {
      OnTokens(static_cast<int>(response_.delta().num_tokens()), absl::Now());
    } else if (response_.has_prompt()) {
      record_.num_input_tokens = response_.prompt().num_tokens();
    } else if (response_.has_summary()) {
      record_.num_output_tokens = response_.summary().usage().completion_tokens();
    }
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    record_.status = FromGrpc(status);
    record_.reason = ErrorReason(status);
    record_.end_to_end = absl::ToDoubleSeconds(absl::Now() - start_);
    run_.OnDone(std::move(record_));
    delete this;
  }

 private:
  void OnTokens(int num_tokens, absl::Time now) {
    if (last_token_ == absl::InfinitePast()) {
      record_.time_to_first_token = absl::ToDoubleSeconds(now - start_);
      last_token_ = now;
      --num_tokens;  // further tokens in the first message came together with it
      record_.gaps.insert(record_.gaps.end(), static_cast<size_t>(num_tokens), 0.0f);
      return;
    }
    const float gap = static_cast<float>(absl::ToDoubleSeconds(now - last_token_) / num_tokens);
    record_.gaps.insert(record_.gaps.end(), static_cast<size_t>(num_tokens), gap);
    last_token_ = now;
  }

  LoadRun& run_;
  grpc::ClientContext context_;
  const v1::GenerateRequest request_;
  v1::StreamGenerateResponse response_;
  const absl::Time start_;
  absl::Time last_token_ = absl::InfinitePast();
  CallRecord record_;
};

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
  LoadRun run(*client, options);
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
