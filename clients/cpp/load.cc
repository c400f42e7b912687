// `expertd load`: a load generator over gRPC. Keeps a number of StreamGenerate calls open until a number of requests is
// done (or sends them at a rate), and reports throughput and latency. Prompts are random token ids, so that the prefix
// cache does not help; output has a fixed length.
#include <algorithm>
#include <cmath>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <grpcpp/support/client_callback.h>
#include <nlohmann/json.hpp>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "expertd/v1/inference.grpc.pb.h"
#include "clients/cpp/client.h"
#include "clients/cpp/commands.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

struct LoadOptions {
  ClientOptions client;
  int concurrency = 64;
  int num_requests = 256;
  int input_len = 128;
  int output_len = 128;
  double request_rate = 0;      // requests/s; 0: as soon as another has ended
  double timeout_seconds = 0;
  int connections = 0;          // 0: one for each 256 calls at once
  uint64_t seed = 1;
  bool text = true;
  bool json = false;
};

// What one call measured. Times in seconds.
struct CallRecord {
  bool ok = false;
  std::string error;            // reason and message
  double time_to_first_token = 0;
  double end_to_end = 0;
  std::vector<float> gaps;      // one per token after the first; tokens that came in one message share its gap evenly
  int64_t num_input_tokens = 0;
  int64_t num_output_tokens = 0;
};

// Runs calls and collects their records. Thread-safe: gRPC's threads report to it.
class LoadRun {
 public:
  LoadRun(const Client& client, const LoadOptions& options)
      : client_(client), options_(options), random_(options.seed) {
    for (int i = 0; i < std::max(1, options.connections); ++i) {
      stubs_.push_back(v1::InferenceService::NewStub(client.channel(static_cast<size_t>(i))));
    }
  }

  // Returns the records of all requests, in order of their ends.
  std::vector<CallRecord> Run();

 private:
  class Call;

  v1::GenerateRequest NextRequest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the next request to start; false when all have been started.
  bool Claim() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Starts a request that was claimed.
  void StartCall() ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDone(CallRecord record) ABSL_LOCKS_EXCLUDED(mutex_);

  const Client& client_;
  const LoadOptions& options_;
  std::vector<std::unique_ptr<v1::InferenceService::Stub>> stubs_;
  Mutex mutex_;
  CondVar call_ended_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  size_t num_stubs_used_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_started_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_open_ ABSL_GUARDED_BY(mutex_) = 0;
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
    record_.ok = status.ok();
    if (!status.ok()) record_.error = std::string(FromGrpc(status).message());
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

bool LoadRun::Claim() {
  if (num_started_ >= options_.num_requests) return false;
  ++num_started_;
  ++num_open_;
  return true;
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
    --num_open_;
    has_claimed = options_.request_rate <= 0 && Claim();
    call_ended_.SignalAll();
  }
  // Without a claim the run may be over, and this object gone.
  if (has_claimed) StartCall();
}

std::vector<CallRecord> LoadRun::Run() {
  // Open loop: exponential gaps (a Poisson process), at most `concurrency` calls open. Closed loop: no gaps for the
  // first `concurrency` calls; each that ends starts another.
  std::mt19937_64 random(options_.seed + 1);
  std::exponential_distribution<double> gap(std::max(options_.request_rate, 1e-9));
  const bool is_open_loop = options_.request_rate > 0;
  const int num_to_start = is_open_loop ? options_.num_requests : std::min(options_.concurrency, options_.num_requests);
  absl::Time next = absl::Now();
  for (int i = 0; i < num_to_start; ++i) {
    if (is_open_loop) {
      absl::SleepFor(next - absl::Now());
      next += absl::Seconds(gap(random));
    }
    bool has_claimed = false;
    {
      MutexLock lock(&mutex_);
      while (is_open_loop && num_open_ >= options_.concurrency) call_ended_.Wait(&mutex_);
      has_claimed = Claim();
    }
    if (has_claimed) StartCall();
  }
  MutexLock lock(&mutex_);
  while (num_open_ > 0 || num_started_ < options_.num_requests) call_ended_.Wait(&mutex_);
  return std::move(records_);
}

// Mean, median and 99th percentile (nearest rank), in milliseconds.
nlohmann::ordered_json Distribution(std::vector<double> seconds) {
  if (seconds.empty()) return {{"mean_ms", 0.0}, {"median_ms", 0.0}, {"p99_ms", 0.0}};
  std::sort(seconds.begin(), seconds.end());
  double sum = 0;
  for (double value : seconds) sum += value;
  const auto rank = [&](double q) {
    const size_t index = static_cast<size_t>(std::ceil(q * static_cast<double>(seconds.size())));
    return seconds[std::clamp<size_t>(index, 1, seconds.size()) - 1] * 1e3;
  };
  return {
      {"mean_ms", sum / static_cast<double>(seconds.size()) * 1e3}, {"median_ms", rank(0.5)}, {"p99_ms", rank(0.99)}};
}

nlohmann::ordered_json Report(const LoadOptions& options, const std::vector<CallRecord>& records, double seconds) {
  std::vector<double> first_token, inter_token, per_output_token, end_to_end;
  std::map<std::string, int> errors;
  int64_t input_tokens = 0, output_tokens = 0;
  int num_completed = 0;
  for (const CallRecord& record : records) {
    if (!record.ok) {
      ++errors[record.error];
      continue;
    }
    ++num_completed;
    input_tokens += record.num_input_tokens;
    output_tokens += record.num_output_tokens;
    first_token.push_back(record.time_to_first_token);
    end_to_end.push_back(record.end_to_end);
    inter_token.insert(inter_token.end(), record.gaps.begin(), record.gaps.end());
    if (record.num_output_tokens > 1) {
      per_output_token.push_back((record.end_to_end - record.time_to_first_token) /
                                 static_cast<double>(record.num_output_tokens - 1));
    }
  }
  nlohmann::ordered_json report = {
      {"concurrency", options.concurrency},
      {"num_requests", options.num_requests},
      {"completed", num_completed},
      {"failed", static_cast<int>(records.size()) - num_completed},
      {"duration_seconds", seconds},
      {"input_tokens", input_tokens},
      {"output_tokens", output_tokens},
      {"requests_per_second", num_completed / seconds},
      {"output_tokens_per_second", static_cast<double>(output_tokens) / seconds},
      {"total_tokens_per_second", static_cast<double>(input_tokens + output_tokens) / seconds},
      {"time_to_first_token", Distribution(std::move(first_token))},
      {"inter_token", Distribution(std::move(inter_token))},
      {"time_per_output_token", Distribution(std::move(per_output_token))},
      {"end_to_end", Distribution(std::move(end_to_end))}};
  for (const auto& [error, count] : errors) report["errors"][error] = count;
  return report;
}

void PrintTable(const nlohmann::ordered_json& report) {
  for (const auto& [name, value] : report.items()) {
    if (value.is_number_integer()) std::cout << absl::StrFormat("%-26s %12d\n", name, value.get<int64_t>());
    if (value.is_number_float()) std::cout << absl::StrFormat("%-26s %12.2f\n", name, value.get<double>());
  }
  std::cout << absl::StrFormat("%-26s %12s %12s %12s\n", "", "mean ms", "median ms", "p99 ms");
  for (const auto& [name, value] : report.items()) {
    if (!value.is_object() || !value.contains("mean_ms")) continue;
    std::cout << absl::StrFormat("%-26s %12.2f %12.2f %12.2f\n", name, value["mean_ms"].get<double>(),
                                 value["median_ms"].get<double>(), value["p99_ms"].get<double>());
  }
  if (report.contains("errors")) {
    for (const auto& [error, count] : report["errors"].items()) {
      std::cout << absl::StrFormat("%6d x %s\n", count.get<int>(), error);
    }
  }
}

absl::Status RunLoad(LoadOptions options) {
  if (options.concurrency < 1 || options.num_requests < 1 || options.input_len < 1 || options.output_len < 1) {
    return absl::InvalidArgumentError(
        "--concurrency, --num-requests, --input-len and --output-len must be at least 1");
  }
  if (!(options.request_rate >= 0) || !(options.timeout_seconds >= 0) || options.connections < 0 ||
      options.connections > 1024) {
    return absl::InvalidArgumentError(
        "--request-rate and --timeout must not be negative, and --connections must be 0..1024");
  }
  options.concurrency = std::min(options.concurrency, options.num_requests);
  if (options.concurrency > 65536) {
    return absl::InvalidArgumentError(StrCat("--concurrency is ", options.concurrency, "; must be 1..65536"));
  }
  if (options.connections == 0) options.connections = (options.concurrency + 255) / 256;
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options.client, options.connections));
  const int64_t needed = int64_t{options.input_len} + options.output_len;
  if (needed > client->model().max_model_len()) {
    return absl::InvalidArgumentError(StrCat("--input-len plus --output-len is ", needed, "; the model's length is ",
                                             client->model().max_model_len()));
  }
  LoadRun run(*client, options);
  const absl::Time start = absl::Now();
  const std::vector<CallRecord> records = run.Run();
  const nlohmann::ordered_json report = Report(options, records, absl::ToDoubleSeconds(absl::Now() - start));
  if (options.json) {
    std::cout << report.dump(2) << std::endl;
  } else {
    PrintTable(report);
  }
  if (report["failed"] != 0) return absl::UnknownError(StrCat(report["failed"].get<int>(), " requests failed"));
  return absl::OkStatus();
}

}  // namespace

void AddLoadCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("load", "Put load on a server and measure it");
  auto options = std::make_shared<LoadOptions>();
  AddClientFlags(*command, options->client);
  command->add_option("--concurrency", options->concurrency, "Calls at once [64]");
  command->add_option("--num-requests", options->num_requests, "Calls in all [256]");
  command->add_option("--input-len", options->input_len, "Prompt tokens [128]");
  command->add_option("--output-len", options->output_len, "Generated tokens [128]");
  command->add_option("--request-rate", options->request_rate,
                      "Calls a second, at random times; 0: as soon as another has ended [0]");
  command->add_option("--timeout", options->timeout_seconds, "Deadline of each call, seconds; 0: none [0]");
  command->add_option("--connections", options->connections, "Connections; 0: one for each 256 calls [0]");
  command->add_option("--seed", options->seed, "Seed of the prompts [1]");
  command->add_flag("--text,!--no-text", options->text, "Ask for text; --no-text asks for token ids [text]");
  command->add_flag("--json", options->json, "One JSON object");
  command->callback([=] {
    const absl::Status status = RunLoad(*options);
    if (!status.ok()) std::cerr << "expertd load: " << status.message() << "\n";
    *exit_code = status.ok() ? 0 : 1;
  });
}

}  // namespace expertd
