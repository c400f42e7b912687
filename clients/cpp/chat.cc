// `expertd chat`: a conversation with a server in the terminal, streamed over gRPC. Lines are turns; /clear forgets the
// conversation, /exit, end-of-file or Ctrl-C at the prompt ends. Ctrl-C stops the answer that is being written or
// waited for.
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "expertd/v1/inference.grpc.pb.h"
#include "clients/cpp/chat_options.h"
#include "clients/cpp/client.h"
#include "clients/cpp/commands.h"
#include "clients/cpp/conversation.h"
#include "clients/cpp/interrupt.h"
#include "engine/base/flags.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/base/terminal_text.h"
#include "engine/base/utf8.h"

namespace expertd {
namespace {

// What came of one call.
struct Reply {
  std::string text;
  int64_t num_tokens = 0;  // prompt and answer
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  bool was_interrupted = false;
  grpc::Status status;     // OK when interrupted
};

v1::GenerateRequest MakeRequest(const ChatOptions& options, v1::ChatInput input) {
  v1::GenerateRequest request;
  *request.mutable_chat() = std::move(input);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  if (options.temperature) sampling.set_temperature(*options.temperature);
  if (options.top_p) sampling.set_top_p(*options.top_p);
  if (options.top_k) sampling.set_top_k(*options.top_k);
  if (options.seed) sampling.set_seed(*options.seed);
  if (options.max_tokens) request.mutable_stop()->set_max_tokens(*options.max_tokens);
  request.mutable_output()->set_timing(options.stats);
  return request;
}

// A remark beside the answer.
void PrintNote(std::string_view note) { std::cerr << "[" << note << "]\n"; }

void PrintStats(const v1::Summary& summary) {
  const auto seconds = [](const google::protobuf::Duration& d) {
    return static_cast<double>(d.seconds()) + d.nanos() * 1e-9;
  };
  const v1::Usage& usage = summary.usage();
  std::string line = absl::StrFormat("%d tokens in (%d cached), %d out, first after %.1f ms", usage.prompt_tokens(),
                                     usage.cached_prompt_tokens(), usage.completion_tokens(),
                                     seconds(summary.timing().time_to_first_token()) * 1e3);
  if (const double decode = seconds(summary.timing().decode()); decode > 0) {
    absl::StrAppendFormat(&line, ", %.1f tokens/s", (usage.completion_tokens() - 1) / decode);
  }
  PrintNote(line);
}

// One call: sends `input` and prints the answer as it comes.
Reply Ask(const Client& client, const ChatOptions& options, v1::ChatInput input) {
  grpc::ClientContext context;
  client.Prepare(context);
  if (options.timeout_seconds > 0) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(options.timeout_seconds)));
  }
  std::atomic<bool> was_interrupted = false;
  const InterruptWatch watch([&] {
    was_interrupted = true;
    context.TryCancel();
  });
  const auto stub = v1::InferenceService::NewStub(client.channel());
  const auto stream = stub->StreamGenerate(&context, MakeRequest(options, std::move(input)));
  Reply reply;
  std::optional<v1::Summary> summary;
  for (v1::StreamGenerateResponse response; stream->Read(&response);) {
    if (response.has_prompt()) {
      reply.num_tokens += response.prompt().num_tokens();
    } else if (response.has_delta()) {
      reply.num_tokens += response.delta().num_tokens();
      reply.text += response.delta().text();
      std::cout << ForStandardOutput(response.delta().text()) << std::flush;
    } else if (response.has_finished()) {
      reply.finish_reason = response.finished().finish_reason();
    } else if (response.has_summary()) {
      summary = response.summary();
    }
  }
  reply.status = stream->Finish();
  if (reply.status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED && options.timeout_seconds > 0) {
    reply.status = grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED,
                                StrCat("no whole answer within --timeout, ", options.timeout_seconds, " s"));
  }
  if (was_interrupted && reply.status.error_code() == grpc::StatusCode::CANCELLED) {
    reply.was_interrupted = true;
    reply.status = grpc::Status::OK;
  }
  if (!reply.text.empty()) std::cout << std::endl;
  if (options.stats && summary) PrintStats(*summary);
  return reply;
}

void PrintNotes(const Reply& reply, int num_forgotten, int64_t max_model_len) {
  if (num_forgotten > 0) {
    PrintNote(StrCat("to stay within the model's length of ", max_model_len, " tokens, the oldest ",
                     num_forgotten == 1 ? "turn is" : StrCat(num_forgotten, " turns are"), " forgotten"));
  }
  if (reply.was_interrupted) PrintNote(reply.text.empty() ? "stopped before the answer began" : "stopped");
  if (reply.finish_reason == v1::FINISH_REASON_CONTEXT_LENGTH) {
    PrintNote(StrCat("cut off: the conversation has reached the model's length of ", max_model_len, " tokens"));
  }
}

// One turn: answers `line` and adds the exchange to the conversation, which is left alone when there is no answer. When
// it comes near the model's length, or beyond it, its oldest exchanges are forgotten.
absl::Status TakeTurn(const Client& client, const ChatOptions& options, const std::string& line,
                      Conversation& conversation) {
  if (const std::optional<size_t> offset = FindInvalidUtf8(line)) {
    return absl::InvalidArgumentError(StrCat("the line is not UTF-8 at byte ", *offset, "; nothing was sent"));
  }
  const int64_t max_model_len = client.model().max_model_len();
  const int64_t num_for_answer = options.max_tokens ? *options.max_tokens : max_model_len / 4;
  Conversation shortened = conversation;
  int num_forgotten = shortened.Shorten(max_model_len - num_for_answer);
  Reply reply = Ask(client, options, shortened.With(line));
  while (ErrorReason(reply.status) == "CONTEXT_LENGTH_EXCEEDED" && shortened.ForgetOldest()) {
    ++num_forgotten;
    reply = Ask(client, options, shortened.With(line));
  }
  RETURN_IF_ERROR(FromGrpc(reply.status));
  PrintNotes(reply, num_forgotten, max_model_len);
  if (reply.was_interrupted && reply.text.empty()) return absl::OkStatus();
  conversation = std::move(shortened);
  conversation.Add(line, std::move(reply.text), reply.num_tokens);
  return absl::OkStatus();
}

absl::Status RunChat(const CLI::App& command, const ChatOptions& options) {
  RETURN_IF_ERROR(options.Validate());
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options.client));
  Conversation conversation(options.system);
  if (options.once) return TakeTurn(*client, options, options.prompt, conversation);
  CatchInterrupts();
  const bool is_terminal = isatty(STDIN_FILENO) == 1;
  if (is_terminal) {
    std::cout << WithoutControls(client->model().name()) << " at " << options.client.target << "; /clear, /exit\n";
  }
  std::string line = options.prompt;
  for (;;) {
    if (line.empty()) {
      if (is_terminal) std::cout << "> " << std::flush;
      if (!std::getline(std::cin, line)) break;
    }
    if (line == "/exit" || line == "/quit") break;
    if (line == "/clear") {
      conversation.Clear();
    } else if (!line.empty()) {
      const absl::Status status = TakeTurn(*client, options, line, conversation);
      if (!status.ok() && !is_terminal) return status;
      ReportToUser(command, status);
    }
    line.clear();
  }
  if (is_terminal) std::cout << std::endl;
  return absl::OkStatus();
}

}  // namespace

void AddChatCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("chat", "Talk to a server in the terminal");
  auto options = std::make_shared<ChatOptions>();
  AddChatFlags(*command, *options);
  command->callback([=] { *exit_code = ReportToUser(*command, RunChat(*command, *options)); });
}

}  // namespace expertd
