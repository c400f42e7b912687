#include "clients/run_batch/run_batch_command.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "clients/cpp/client.h"
#include "clients/rest_shim/routes.h"
#include "clients/run_batch/batch_run.h"
#include "engine/base/flags.h"
#include "engine/base/range_check.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::batch {
namespace {

struct RunBatchOptions {
  ClientOptions client;
  std::string input, output;
  int concurrency = 128;
  double patience_seconds = 300;
};

// Ctrl-C and SIGTERM, looked for where it suits. Made before any other thread.
class EndSignals {
 public:
  EndSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  bool HaveCome() {
    const timespec now = {};
    has_come_ = has_come_ || sigtimedwait(&signals_, nullptr, &now) > 0;
    return has_come_;
  }

 private:
  sigset_t signals_;
  bool has_come_ = false;
};

// The ids of all requests; reads the whole file, to refuse it before anything is sent.
absl::StatusOr<absl::flat_hash_set<std::string>> ReadIds(const std::string& path) {
  ASSIGN_OR_RETURN(BatchInput input, BatchInput::Open(path));
  absl::flat_hash_set<std::string> ids;
  for (BatchRequest request;;) {
    ASSIGN_OR_RETURN(const bool has_request, input.Next(&request));
    if (!has_request) return ids;
    if (!ids.insert(request.custom_id).second) {
      return absl::InvalidArgumentError(StrCat(path, ": two requests have the custom_id '", request.custom_id, "'"));
    }
  }
}

// A bar on a terminal; elsewhere a line now and then.
class ProgressDisplay {
 public:
  ProgressDisplay(int64_t num_requests, int64_t num_before)
      : num_requests_(num_requests), num_before_(num_before), is_terminal_(isatty(STDERR_FILENO) == 1) {}

  void Show(const BatchProgress& progress) {
    const absl::Duration pause = is_terminal_ ? absl::ZeroDuration() : absl::Seconds(10);
    if (absl::Now() < last_shown_ + pause) return;
    last_shown_ = absl::Now();
    std::cerr << (is_terminal_ ? "\r\033[K" + Bar(progress) + " " : "") << Line(progress)
              << (is_terminal_ ? "" : "\n") << std::flush;
  }
  void End() const {
    if (is_terminal_) std::cerr << "\r\033[K" << std::flush;
  }

  std::string Line(const BatchProgress& progress) const {
    const double seconds = std::max(1e-3, absl::ToDoubleSeconds(absl::Now() - start_));
    const int64_t num_done = num_before_ + progress.num_answered;
    std::string line = absl::StrFormat("%d/%d answered, %d with an error, %.1f output tokens/s", num_done,
                                       num_requests_, progress.num_refused,
                                       static_cast<double>(progress.num_output_tokens) / seconds);
    if (progress.num_answered > 0 && num_done < num_requests_) {
      const double left = seconds * static_cast<double>(num_requests_ - num_done) /
                          static_cast<double>(progress.num_answered);
      line += absl::StrFormat(", about %s left", absl::FormatDuration(absl::Seconds(static_cast<int64_t>(left) + 1)));
    }
    return line;
  }

 private:
  std::string Bar(const BatchProgress& progress) const {
    constexpr size_t kWidth = 24;
    const int64_t num_done = num_before_ + progress.num_answered;
    const double share = static_cast<double>(num_done) / static_cast<double>(std::max<int64_t>(1, num_requests_));
    const auto filled = static_cast<size_t>(share * kWidth);
    return "[" + std::string(filled, '=') + std::string(kWidth - filled, ' ') + "]";
  }

  const int64_t num_requests_, num_before_;
  const bool is_terminal_;
  const absl::Time start_ = absl::Now();
  absl::Time last_shown_ = absl::InfinitePast();
};

absl::Status RunBatchFiles(const RunBatchOptions& options) {
  RETURN_IF_ERROR(options.client.Validate());
  RETURN_IF_ERROR(CheckRange("--concurrency", options.concurrency, 1, 4096));
  RETURN_IF_ERROR(CheckNotNegative("--retry-timeout", options.patience_seconds));
  std::error_code ignored;
  if (std::filesystem::equivalent(options.input, options.output, ignored)) {
    return absl::InvalidArgumentError(StrCat("--output-file ", options.output, " is the input"));
  }
  ASSIGN_OR_RETURN(const absl::flat_hash_set<std::string> ids, ReadIds(options.input));
  ASSIGN_OR_RETURN(BatchInput input, BatchInput::Open(options.input));
  EndSignals end_signals;
  ASSIGN_OR_RETURN(const std::string key, FindApiKey(options.client));
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options.client, /*num_channels=*/1,
                                                                        [&] { return end_signals.HaveCome(); }));
  rest::Upstream upstream(client->channel());
  ASSIGN_OR_RETURN(BatchOutput output, BatchOutput::Open(options.output));
  const auto num_requests = static_cast<int64_t>(ids.size());
  const auto is_answered = [&](const std::string& id) { return output.HasAnswer(id); };
  const int64_t num_before = std::count_if(ids.begin(), ids.end(), is_answered);
  const int64_t num_refused_before = output.num_refused();
  if (num_before > 0) std::cerr << options.output << " has " << num_before << " answers already\n";
  ProgressDisplay display(num_requests, num_before);
  BatchRun run(std::move(input), std::move(output), rest::MakeRoutes(upstream, nullptr),
               {.num_requests = num_requests,
                .concurrency = options.concurrency,
                .authorization = key.empty() ? "" : StrCat("Bearer ", key),
                .patience = absl::Seconds(options.patience_seconds)});
  const absl::Status status = run.Run([&](const BatchProgress& progress) {
    display.Show(progress);
    return !end_signals.HaveCome();
  });
  display.End();
  const BatchProgress progress = run.progress();
  std::cout << display.Line(progress) << std::endl;
  if (const int64_t num_refused = num_refused_before + progress.num_refused; num_refused > 0) {
    std::cerr << num_refused << " answers of " << options.output
              << " are errors (response.status_code); to ask again, remove their lines and run the same command\n";
  }
  if (status.ok() && num_before + progress.num_answered < num_requests) {
    return absl::InternalError(StrCat(options.input, " has changed: it had ", num_requests, " requests"));
  }
  if (status.ok()) return status;
  return absl::Status(status.code(), StrCat(ToStdView(status.message()), "; the same command goes on from here"));
}

}  // namespace

void AddRunBatchCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("run-batch", "Answer a file of requests in OpenAI's batch format");
  auto options = std::make_shared<RunBatchOptions>();
  command->add_option("-i,--input-file", options->input, "Requests, one JSON object a line")->required();
  command
      ->add_option("-o,--output-file", options->output,
                   "Answers, errors included, in the order in which they come; one that exists is gone on with")
      ->required();
  AddClientFlags(*command, options->client);
  command->add_option("--concurrency", options->concurrency, "Requests at once [128]");
  command->add_option("--retry-timeout", options->patience_seconds,
                      "Give up when the server turned requests away for so many seconds [300]");
  command->callback([=] { *exit_code = ReportToUser(*command, RunBatchFiles(*options)); });
}

}  // namespace expertd::batch
