// `expertd chat`: a conversation with a server in the terminal, streamed over gRPC. Lines are turns; /clear forgets the
// conversation, /exit, end-of-file or Ctrl-C at the prompt ends. Ctrl-C stops the answer that is being written.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "expertd/v1/inference.grpc.pb.h"
#include "clients/cpp/client.h"
#include "clients/cpp/commands.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

struct ChatOptions {
  ClientOptions client;
  std::string system;
  std::string prompt;
  bool once = false;
  bool stats = false;
  std::optional<float> temperature, top_p;
  std::optional<int32_t> top_k;
  std::optional<uint64_t> seed;
  std::optional<uint32_t> max_tokens;
  double timeout_seconds = 0;
};

// Set by Ctrl-C while an answer streams; the reading loop cancels the call when it sees it.
std::atomic<bool> interrupted{false};
void OnInterrupt(int) { interrupted.store(true, std::memory_order_relaxed); }

v1::Message MakeMessage(v1::Role role, std::string text) {
  v1::Message message;
  message.set_role(role);
  message.add_parts()->set_text(std::move(text));
  return message;
}

v1::GenerateRequest MakeRequest(const ChatOptions& options, const v1::ChatInput& conversation) {
  v1::GenerateRequest request;
  *request.mutable_chat() = conversation;
  v1::SamplingParams& sampling = *request.mutable_sampling();
  if (options.temperature) sampling.set_temperature(*options.temperature);
  if (options.top_p) sampling.set_top_p(*options.top_p);
  if (options.top_k) sampling.set_top_k(*options.top_k);
  if (options.seed) sampling.set_seed(*options.seed);
  if (options.max_tokens) request.mutable_stop()->set_max_tokens(*options.max_tokens);
  request.mutable_output()->set_timing(options.stats);
  return request;
}

// What the terminal shows never contains control characters of the model's making.
void PrintText(const std::string& text) {
  for (unsigned char c : text) {
    if ((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t') std::cout << static_cast<char>(c);
  }
  std::cout << std::flush;
}

void PrintStats(const v1::Summary& summary) {
  const auto seconds = [](const google::protobuf::Duration& d) {
    return static_cast<double>(d.seconds()) + d.nanos() * 1e-9;
  };
  const double decode = seconds(summary.timing().decode());
  std::cerr << "[" << summary.usage().prompt_tokens() << " tokens in (" << summary.usage().cached_prompt_tokens()
            << " cached), " << summary.usage().completion_tokens() << " out, first after "
            << seconds(summary.timing().time_to_first_token()) * 1e3 << " ms";
  if (decode > 0) std::cerr << ", " << (summary.usage().completion_tokens() - 1) / decode << " tokens/s";
  std::cerr << "]\n";
}

// One turn: sends the conversation, prints the answer as it comes and returns it whole.
absl::StatusOr<std::string> Answer(const Client& client, const ChatOptions& options,
                                   const v1::ChatInput& conversation) {
  grpc::ClientContext context;
  client.Prepare(context);
  if (options.timeout_seconds > 0) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(options.timeout_seconds)));
  }
  const auto stub = v1::InferenceService::NewStub(client.channel());
  const auto stream = stub->StreamGenerate(&context, MakeRequest(options, conversation));
  interrupted = false;
  std::string answer;
  v1::StreamGenerateResponse response;
  while (stream->Read(&response)) {
    if (response.has_delta()) {
      answer += response.delta().text();
      PrintText(response.delta().text());
    }
    if (response.has_summary() && options.stats) {
      std::cout << std::endl;
      PrintStats(response.summary());
    }
    if (interrupted) context.TryCancel();
  }
  const grpc::Status status = stream->Finish();
  std::cout << std::endl;
  if (status.error_code() == grpc::StatusCode::CANCELLED && interrupted) return answer;
  RETURN_IF_ERROR(FromGrpc(status));
  return answer;
}

absl::Status RunChat(const ChatOptions& options) {
  if (options.once && options.prompt.empty()) return absl::InvalidArgumentError("--once needs --prompt TEXT");
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options.client));
  v1::ChatInput conversation;
  const auto start_over = [&] {
    conversation.clear_messages();
    if (!options.system.empty()) *conversation.add_messages() = MakeMessage(v1::ROLE_SYSTEM, options.system);
  };
  start_over();
  if (options.once) {
    *conversation.add_messages() = MakeMessage(v1::ROLE_USER, options.prompt);
    return Answer(*client, options, conversation).status();
  }
  struct sigaction on_interrupt = {};  // no SA_RESTART: Ctrl-C ends the wait for a line
  on_interrupt.sa_handler = OnInterrupt;
  sigaction(SIGINT, &on_interrupt, nullptr);
  const bool is_terminal = isatty(STDIN_FILENO) == 1;
  if (is_terminal) std::cout << client->model().name() << " at " << options.client.target << "; /clear, /exit\n";
  std::string line = options.prompt;
  for (;;) {
    if (line.empty()) {
      if (is_terminal) std::cout << "> " << std::flush;
      if (!std::getline(std::cin, line)) break;
    }
    if (line == "/exit" || line == "/quit") break;
    if (line == "/clear") {
      start_over();
    } else if (!line.empty()) {
      *conversation.add_messages() = MakeMessage(v1::ROLE_USER, line);
      absl::StatusOr<std::string> answer = Answer(*client, options, conversation);
      if (answer.ok()) {
        *conversation.add_messages() = MakeMessage(v1::ROLE_ASSISTANT, *std::move(answer));
      } else {
        conversation.mutable_messages()->RemoveLast();
        std::cerr << "expertd chat: " << answer.status().message() << "\n";
        if (!is_terminal) return answer.status();
      }
    }
    line.clear();
  }
  return absl::OkStatus();
}

}  // namespace

void AddChatCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("chat", "Talk to a server in the terminal");
  auto options = std::make_shared<ChatOptions>();
  AddClientFlags(*command, options->client);
  command->add_option("--prompt", options->prompt, "The first turn");
  command->add_flag("--once", options->once, "Answer --prompt and end");
  command->add_option("--system", options->system, "The system message");
  command->add_flag("--stats", options->stats, "Show tokens and times after each answer");
  command->add_option("--temperature", options->temperature, "0 for greedy [the model's]");
  command->add_option("--top-p", options->top_p, "[the model's]");
  command->add_option("--top-k", options->top_k, "0 for off [the model's]");
  command->add_option("--seed", options->seed, "[drawn by the server]");
  command->add_option("--max-tokens", options->max_tokens, "Most tokens of an answer [as many as fit]");
  command->add_option("--timeout", options->timeout_seconds, "Seconds for an answer; 0: no limit [0]");
  command->callback([=] {
    const absl::Status status = RunChat(*options);
    if (!status.ok()) std::cerr << "expertd chat: " << status.message() << "\n";
    *exit_code = status.ok() ? 0 : 1;
  });
}

}  // namespace expertd
