// `expertd generate`: offline generation. All prompts are given to the engine at once, which batches them; results come
// out in the order of the prompts.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "engine/base/json.h"
#include "engine/base/range_check.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/base/terminal_text.h"
#include "engine/engine.h"
#include "engine/engine_flags.h"
#include "engine/request/errors.h"
#include "engine/tools/tools.h"

namespace expertd {
namespace {

struct GenerateOptions {
  EngineConfig engine;
  std::vector<std::string> prompts;
  std::string prompt_file;
  std::vector<int32_t> token_ids;
  bool chat = false;
  bool json = false;
  int num_candidates = 1;
  SamplingOverrides sampling;
  StopOverrides stop;
  std::optional<int> logprobs;
};

struct CandidateOutput {
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprob> logprobs;
  FinishedEvent finished;
};

struct PromptOutput {
  std::vector<CandidateOutput> candidates;
  SummaryEvent summary;
  absl::Status status;
};

RequestInput TextPrompt(std::string text, bool chat) {
  if (!chat) return TextInput{.text = std::move(text)};
  ChatInput input;
  input.messages.push_back({{"role", "user"}, {"content", std::move(text)}});
  return input;
}

// One line of a JSONL prompt file: {"prompt": ...}, {"messages": [...]} or {"token_ids": [...]}, or a JSON string.
absl::StatusOr<RequestInput> ParseJsonPrompt(std::string_view line, bool chat) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(line));
  if (json.is_string()) return TextPrompt(json.get<std::string>(), chat);
  if (const Json* messages = JsonFind(json, "messages"); messages != nullptr && messages->is_array()) {
    ChatInput input;
    input.messages = *messages;
    return input;
  }
  if (const Json* ids = JsonFind(json, "token_ids"); ids != nullptr && ids->is_array()) {
    TokenInput input;
    for (const Json& id : *ids) {
      if (!id.is_number_integer()) return absl::InvalidArgumentError("token_ids holds something else than integers");
      const int64_t value = id.get<int64_t>();
      if (value < 0 || value > INT32_MAX) return absl::InvalidArgumentError(StrCat("token id ", value, " is no id"));
      input.ids.push_back(static_cast<int32_t>(value));
    }
    return input;
  }
  if (const Json* prompt = JsonFind(json, "prompt"); prompt != nullptr && prompt->is_string()) {
    return TextPrompt(prompt->get<std::string>(), chat);
  }
  return absl::InvalidArgumentError("needs \"prompt\", \"messages\" or \"token_ids\"");
}

absl::StatusOr<std::vector<RequestInput>> CollectPrompts(const GenerateOptions& options) {
  std::vector<RequestInput> prompts;
  for (const std::string& text : options.prompts) prompts.push_back(TextPrompt(text, options.chat));
  if (!options.token_ids.empty()) prompts.push_back(TokenInput{.ids = options.token_ids});
  if (!options.prompt_file.empty()) {
    std::ifstream file(options.prompt_file);
    if (!file) return absl::NotFoundError(StrCat("--prompt-file ", options.prompt_file, " cannot be opened"));
    const bool is_jsonl = options.prompt_file.ends_with(".jsonl") || options.prompt_file.ends_with(".json");
    std::string line;
    for (int number = 1; std::getline(file, line); ++number) {
      if (absl::StripAsciiWhitespace(line).empty()) continue;
      if (!is_jsonl) {
        prompts.push_back(TextPrompt(line, options.chat));
        continue;
      }
      absl::StatusOr<RequestInput> prompt = ParseJsonPrompt(line, options.chat);
      if (!prompt.ok()) {
        return absl::InvalidArgumentError(
            StrCat(options.prompt_file, ":", number, ": ", ToStdView(prompt.status().message())));
      }
      prompts.push_back(*std::move(prompt));
    }
  }
  for (const std::string& text : options.prompts) {
    if (text.empty()) return absl::InvalidArgumentError("--prompt is empty; must have at least 1 byte");
  }
  if (prompts.empty()) {
    return absl::InvalidArgumentError("no prompt; give --prompt TEXT, --prompt-file FILE or --token-ids 1,2,3");
  }
  return prompts;
}

std::string_view FinishName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kToolCalls: return "tool_calls";
    case FinishReason::kStopSequence: return "stop_sequence";
    case FinishReason::kMaxTokens: return "max_tokens";
    case FinishReason::kContextLength: return "context_length";
    case FinishReason::kTimeLimit: return "time_limit";
    case FinishReason::kNoValidToken: return "no_valid_token";
    case FinishReason::kGrammarDeadEnd: return "grammar_dead_end";
    case FinishReason::kCancelled: return "cancelled";
    case FinishReason::kError: return "error";
    case FinishReason::kNone: break;
  }
  return "none";
}

// Reads a stream to its end; `print` shows the first candidate's text as it comes.
PromptOutput ReadStream(GenerationStream& stream, int num_candidates, bool print) {
  PromptOutput output;
  output.candidates.resize(num_candidates);
  while (std::optional<StreamEvent> event = stream.Next()) {
    if (auto* delta = std::get_if<DeltaEvent>(&*event)) {
      CandidateOutput& candidate = output.candidates[delta->candidate_index];
      if (print && delta->candidate_index == 0) std::cout << ForStandardOutput(delta->text) << std::flush;
      candidate.text += delta->text;
      candidate.token_ids.insert(candidate.token_ids.end(), delta->token_ids.begin(), delta->token_ids.end());
      candidate.logprobs.insert(candidate.logprobs.end(), delta->logprobs.begin(), delta->logprobs.end());
    } else if (auto* finished = std::get_if<FinishedEvent>(&*event)) {
      output.candidates[finished->candidate_index].finished = *finished;
    } else if (auto* summary = std::get_if<SummaryEvent>(&*event)) {
      output.summary = *summary;
    }
  }
  output.status = stream.status();
  return output;
}

Json LogprobsJson(const std::vector<TokenLogprob>& logprobs) {
  Json list = Json::array();
  for (const TokenLogprob& entry : logprobs) {
    Json top = Json::array();
    for (const auto& [token, logprob] : entry.top) top.push_back({{"token_id", token}, {"logprob", logprob}});
    list.push_back({{"token_id", entry.token}, {"logprob", entry.logprob}, {"rank", entry.rank}, {"top", top}});
  }
  return list;
}

void PrintJson(size_t index, const PromptOutput& output) {
  for (const CandidateOutput& candidate : output.candidates) {
    Json line = {{"index", index}};
    if (output.candidates.size() > 1) line["candidate"] = candidate.finished.candidate_index;
    if (!output.status.ok()) {
      line["error"] = std::string(output.status.message());
    } else {
      const int prompt_tokens = output.summary.num_prompt_tokens;
      const int completion_tokens = candidate.finished.num_output_tokens;
      line["text"] = candidate.text;
      line["token_ids"] = candidate.token_ids;
      line["finish_reason"] = FinishName(candidate.finished.reason);
      line["seed"] = candidate.finished.seed;
      if (!candidate.logprobs.empty()) line["logprobs"] = LogprobsJson(candidate.logprobs);
      line["usage"] = {{"prompt_tokens", prompt_tokens},
                       {"completion_tokens", completion_tokens},
                       {"total_tokens", prompt_tokens + completion_tokens}};
    }
    std::cout << DumpJson(line) << "\n";
  }
  std::cout << std::flush;
}

void PrintText(size_t index, size_t num_prompts, const PromptOutput& output, bool was_streamed) {
  if (was_streamed) {
    std::cout << "\n";
    for (size_t c = 1; c < output.candidates.size(); ++c) {
      std::cout << "--- candidate " << c << "\n" << ForStandardOutput(output.candidates[c].text) << "\n";
    }
    return;
  }
  for (size_t c = 0; c < output.candidates.size(); ++c) {
    if (num_prompts > 1 || c > 0) {
      std::cout << "--- prompt " << index << (c > 0 ? StrCat(", candidate ", c) : "") << "\n";
    }
    std::cout << ForStandardOutput(output.candidates[c].text) << "\n";
  }
}

void ShowProgress(size_t done, size_t total, int64_t num_tokens, absl::Duration elapsed) {
  constexpr size_t kWidth = 30;
  const size_t filled = done * kWidth / total;
  std::cerr << "\r[" << std::string(filled, '#') << std::string(kWidth - filled, '.') << "] " << done << "/" << total
            << " prompts, " << static_cast<int64_t>(num_tokens / std::max(1e-3, absl::ToDoubleSeconds(elapsed)))
            << " tokens/s" << (done == total ? "\n" : "") << std::flush;
}

RequestSpec MakeSpec(RequestInput prompt, const GenerateOptions& options) {
  RequestSpec spec;
  spec.input = std::move(prompt);
  spec.sampling = options.sampling;
  spec.stop = options.stop;
  spec.output.token_ids = true;
  spec.num_candidates = options.num_candidates;
  return spec;
}

// The flag that set a field of the contract: "--top-p" for sampling.top_p. A prompt's field has none.
std::string FlagOfField(const std::string& path) {
  const size_t begin = path.find('.') + 1;
  std::string name = path.substr(begin, path.find('[') - begin);
  if (name == "strings") name = "stop";
  if (name == "ids") name = "token-ids";
  if (!path.starts_with("sampling.") && !path.starts_with("stop.") && name != "token-ids") return path;
  std::replace(name.begin(), name.end(), '_', '-');
  return "--" + name;
}

// Request::Create, whose errors name the flags.
absl::StatusOr<std::shared_ptr<const Request>> CreateRequest(RequestSpec spec, const RequestLimits& limits) {
  absl::StatusOr<std::shared_ptr<const Request>> request = Request::Create(std::move(spec), limits);
  const std::optional<ErrorDetail> detail = GetErrorDetail(request.status());
  if (!detail.has_value() || detail->violations.empty()) return request;
  std::string message;
  for (const auto& [path, description] : detail->violations) {
    StrAppend(&message, message.empty() ? "" : ". ", FlagOfField(path), " ", description);
  }
  return absl::InvalidArgumentError(message);
}

// What a folder must have for this, so that one without it is refused before its weights are read.
void SayWhatIsNeeded(const RequestSpec& spec, EngineConfig& config) {
  const bool is_chat = std::holds_alternative<ChatInput>(spec.input);
  config.needs_chat_template |= is_chat;
  config.needs_tokenizer |= is_chat || std::holds_alternative<TextInput>(spec.input) || !spec.stop.strings.empty();
}

absl::Status RunGenerate(GenerateOptions options) {
  RETURN_IF_ERROR(options.engine.Validate());
  if (options.logprobs && !options.json) return absl::InvalidArgumentError("--logprobs needs --json, which shows them");
  if (options.logprobs) RETURN_IF_ERROR(CheckRange("--logprobs", *options.logprobs, 0, options.engine.max_logprobs));
  ASSIGN_OR_RETURN(std::vector<RequestInput> prompts, CollectPrompts(options));
  if (options.logprobs.has_value()) options.sampling.logprobs = LogprobOptions{.top_n = *options.logprobs};
  std::vector<RequestSpec> specs;
  for (RequestInput& prompt : prompts) {
    specs.push_back(MakeSpec(std::move(prompt), options));
    // What needs no model is checked before any weights are loaded.
    const RequestLimits limits = options.engine.LimitsOfRequests(/*vocab_size=*/INT32_MAX);
    RETURN_IF_ERROR(CreateRequest(specs.back(), limits).status());
    SayWhatIsNeeded(specs.back(), options.engine);
  }
  const int64_t num_sequences = static_cast<int64_t>(specs.size()) * options.num_candidates;
  options.engine.max_num_queued_reqs =
      static_cast<int32_t>(std::clamp<int64_t>(num_sequences, options.engine.max_num_queued_reqs, 1'000'000));
  options.engine.max_num_queued_tokens = INT64_MAX;
  ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, Engine::Create(options.engine, nullptr));

  const absl::Time start = absl::Now();
  std::vector<absl::StatusOr<std::shared_ptr<GenerationStream>>> streams;
  for (RequestSpec& spec : specs) {
    spec.output.text = engine->tokenizer() != nullptr;
    ASSIGN_OR_RETURN(std::shared_ptr<const Request> request,
                     CreateRequest(std::move(spec), engine->request_limits()));
    streams.push_back(engine->Submit(std::move(request)));
    if (!streams.back().ok() && specs.size() == 1) return streams.back().status();
  }
  const bool streams_text = !options.json && specs.size() == 1;
  const bool shows_progress = specs.size() > 1 && isatty(STDERR_FILENO) == 1;
  int64_t num_tokens = 0;
  int num_failed = 0;
  for (size_t i = 0; i < streams.size(); ++i) {
    PromptOutput output;
    if (streams[i].ok()) {
      output = ReadStream(**streams[i], options.num_candidates, streams_text);
    } else {
      output.candidates.resize(options.num_candidates);
      output.status = streams[i].status();
    }
    if (!output.status.ok()) {
      ++num_failed;
      std::cerr << "expertd generate: prompt " << i << ": " << output.status.message() << "\n";
    }
    num_tokens += output.summary.num_output_tokens;
    if (options.json) {
      PrintJson(i, output);
    } else {
      PrintText(i, specs.size(), output, streams_text);
    }
    if (shows_progress) ShowProgress(i + 1, streams.size(), num_tokens, absl::Now() - start);
  }
  if (num_failed > 0) return absl::UnknownError(StrCat(num_failed, " of ", streams.size(), " prompts failed"));
  return absl::OkStatus();
}

}  // namespace

void AddGenerateCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("generate", "Generate text offline from prompts, batched");
  auto options = std::make_shared<GenerateOptions>();
  AddEngineFlags(*command, options->engine);
  command->add_option("--prompt", options->prompts, "A prompt; may be repeated")->allow_extra_args(false);
  command->add_option("--prompt-file", options->prompt_file,
                      "Prompts, one a line; in .jsonl files {\"prompt\": ...}, {\"messages\": [...]} or "
                      "{\"token_ids\": [...]}");
  command->add_option("--token-ids", options->token_ids, "A prompt as ids: 1,2,3")->delimiter(',');
  command->add_flag("--chat", options->chat, "Render each text prompt as a user's message by the chat template");
  command->add_flag("--json", options->json, "One JSON object a line: text, token_ids, finish_reason, usage");
  command->add_option("--n", options->num_candidates, "Candidates for each prompt [1]");
  command->add_option("--max-tokens", options->stop.max_tokens, "Most tokens generated [as many as fit]");
  command->add_option("--min-tokens", options->stop.min_tokens, "Fewest tokens generated [0]");
  command->add_option("--stop", options->stop.strings, "A string that ends the text; may be repeated")
      ->allow_extra_args(false);
  command->add_flag("--ignore-eos", options->stop.ignore_eos, "Go on behind the model's end of text");
  command->add_option("--temperature", options->sampling.temperature, "0 for greedy [the model's]");
  command->add_option("--top-p", options->sampling.top_p, "[the model's]");
  command->add_option("--top-k", options->sampling.top_k, "0 for off [the model's]");
  command->add_option("--min-p", options->sampling.min_p, "[0]");
  command->add_option("--repetition-penalty", options->sampling.repetition_penalty, "[the model's]");
  AddSeedFlag(*command, options->sampling.seed, "The same seed gives the same text [drawn, and printed by --json]");
  command->add_option("--logprobs", options->logprobs, "Log-probabilities of each token and its best rivals (--json)");
  command->callback([=] { *exit_code = ReportToUser(*command, RunGenerate(*options)); });
}

}  // namespace expertd
