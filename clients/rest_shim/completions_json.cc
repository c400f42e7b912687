#include "clients/rest_shim/completions_json.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "clients/rest_shim/answer_json.h"
#include "clients/rest_shim/errors.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/base/utf8.h"

namespace expertd::rest {
namespace {

constexpr size_t kMaxCopiedBytes = 64 << 20;  // of what the requests of several prompts have in common
constexpr uint32_t kDefaultMaxTokens = 16;  // OpenAI's, for this endpoint alone
constexpr std::string_view kPromptForms = "must be a string, an array of strings, token ids, or arrays of token ids";

absl::Status ReadTokens(const Json& ids, std::string_view name, v1::GenerateRequest& request) {
  ASSIGN_OR_RETURN(const std::vector<uint32_t> tokens, ReadTokenIds(ids, name));
  request.mutable_tokens()->mutable_ids()->Add(tokens.begin(), tokens.end());
  return absl::OkStatus();
}

// `shared` once per prompt.
absl::StatusOr<std::vector<v1::GenerateRequest>> ReadPrompts(const JsonFields& fields,
                                                             const v1::GenerateRequest& shared) {
  const Json* prompt = fields.Find("prompt");
  if (prompt == nullptr) return fields.Invalid("prompt", "is missing");
  std::vector<v1::GenerateRequest> requests;
  if (prompt->is_string()) {
    requests.push_back(shared);
    requests.back().mutable_text()->set_text(prompt->get<std::string>());
    return requests;
  }
  if (!prompt->is_array()) return fields.Invalid("prompt", kPromptForms);
  if (prompt->empty()) return fields.Invalid("prompt", "is an empty array");
  if (prompt->front().is_number()) {
    requests.push_back(shared);
    RETURN_IF_ERROR(ReadTokens(*prompt, "prompt", requests.back()));
    return requests;
  }
  if (prompt->size() > kMaxPrompts) {
    return fields.Invalid("prompt", StrCat("has ", prompt->size(), " prompts; at most ", kMaxPrompts));
  }
  if (prompt->size() * shared.ByteSizeLong() > kMaxCopiedBytes) {
    return fields.Invalid("prompt", StrCat("has ", prompt->size(), " prompts, which all share the other members; these "
                                           "have ", shared.ByteSizeLong(), " bytes, too many for that"));
  }
  for (const Json& element : *prompt) {
    if (element.type() != prompt->front().type()) return fields.Invalid("prompt", kPromptForms);
    const std::string name = StrCat("prompt[", requests.size(), "]");
    requests.push_back(shared);
    if (element.is_string()) {
      requests.back().mutable_text()->set_text(element.get<std::string>());
    } else {
      RETURN_IF_ERROR(ReadTokens(element, name, requests.back()));
    }
  }
  return requests;
}

// add_special_tokens and truncate_prompt_tokens mean something for texts alone.
absl::Status ReadTextOptions(const JsonFields& fields, std::vector<v1::GenerateRequest>& requests) {
  ASSIGN_OR_RETURN(const std::optional<bool> add_special, fields.Bool("add_special_tokens"));
  ASSIGN_OR_RETURN(const std::optional<int64_t> truncate, fields.Integer("truncate_prompt_tokens", 1, INT32_MAX));
  for (v1::GenerateRequest& request : requests) {
    if (!request.has_text()) {
      if (truncate.has_value()) return fields.Invalid("truncate_prompt_tokens", "needs prompts of text");
      continue;
    }
    if (add_special.has_value()) request.mutable_text()->set_add_special_tokens(*add_special);
    if (truncate.has_value()) request.mutable_text()->set_truncate_to(static_cast<uint32_t>(*truncate));
  }
  return absl::OkStatus();
}

absl::Status ReadOutput(const JsonFields& fields, v1::OutputOptions& output) {
  ASSIGN_OR_RETURN(const std::optional<bool> echo, fields.Bool("echo"));
  ASSIGN_OR_RETURN(const std::optional<int64_t> logprobs, fields.Integer("logprobs", 0, UINT32_MAX));
  if (echo.value_or(false)) output.set_echo(true);
  if (!logprobs.has_value()) return absl::OkStatus();
  output.mutable_logprobs()->set_top_n(static_cast<uint32_t>(*logprobs));
  if (echo.value_or(false)) output.mutable_prompt_logprobs()->set_top_n(static_cast<uint32_t>(*logprobs));
  return absl::OkStatus();
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// Bytes that are no text of their own are written out, as OpenAI does it: tokens that differ must not share a name.
std::string TokenName(std::string_view bytes) {
  if (!FindInvalidUtf8(bytes).has_value()) return std::string(bytes);
  std::string name = "bytes:";
  for (const char byte : bytes) {
    char hex[5];
    std::snprintf(hex, sizeof(hex), "\\x%02x", static_cast<unsigned char>(byte));
    name += hex;
  }
  return name;
}

}  // namespace

absl::StatusOr<std::vector<v1::GenerateRequest>> ReadCompletionRequests(const Json& body) {
  const JsonFields fields(body);
  v1::GenerateRequest shared;
  RETURN_IF_ERROR(ReadSharedFields(fields, shared));
  if (!shared.stop().has_max_tokens()) shared.mutable_stop()->set_max_tokens(kDefaultMaxTokens);
  ASSIGN_OR_RETURN(const std::optional<std::string> suffix, fields.String("suffix"));
  if (!suffix.value_or("").empty()) return fields.Invalid("suffix", "is not supported");
  RETURN_IF_ERROR(ReadOutput(fields, *shared.mutable_output()));
  ASSIGN_OR_RETURN(std::vector<v1::GenerateRequest> requests, ReadPrompts(fields, shared));
  RETURN_IF_ERROR(ReadTextOptions(fields, requests));
  return requests;
}

void LegacyLogprobs::AddEntry(const std::string& text, size_t num_characters, Json logprob, Json top) {
  tokens_.push_back(text);
  token_logprobs_.push_back(std::move(logprob));
  top_logprobs_.push_back(std::move(top));
  text_offsets_.push_back(offset_);
  offset_ += num_characters;
}

void LegacyLogprobs::AddPrompt(const v1::PromptInfo& prompt) {
  // The first token's text is what those of the others leave of the prompt.
  size_t num_bytes = 0;
  for (const v1::TokenLogprob& token : prompt.logprobs()) num_bytes += token.text_bytes().size();
  const std::string& text = prompt.text();
  const std::string first = text.substr(0, text.size() - std::min(text.size(), num_bytes));
  AddEntry(TokenName(first), CountCharacters(first), Json(), Json());
  for (const v1::TokenLogprob& token : prompt.logprobs()) Add(token);
}

void LegacyLogprobs::Add(const v1::TokenLogprob& token) {
  Json top = Json::object();
  for (const v1::TopLogprob& other : token.top()) top[TokenName(other.text_bytes())] = LogprobJson(other.logprob());
  // The token itself is always among them: readers look for it there.
  const std::string name = TokenName(token.text_bytes());
  top[name] = LogprobJson(token.logprob());
  AddEntry(name, CountCharacters(token.text_bytes()), LogprobJson(token.logprob()), std::move(top));
}

Json LegacyLogprobs::ToJson() const {
  Json json;
  json["tokens"] = tokens_;
  json["token_logprobs"] = token_logprobs_;
  json["top_logprobs"] = top_logprobs_;
  json["text_offset"] = text_offsets_;
  return json;
}

Json CompletionJson(std::string_view request_id, const std::vector<v1::GenerateResponse>& responses) {
  Json choices = Json::array();
  v1::Usage usage;
  for (const v1::GenerateResponse& response : responses) {
    AddUsage(response.usage(), usage);
    for (const v1::Candidate& candidate : response.candidates()) {
      LegacyLogprobs logprobs;
      // Who has the prompt's text and log-probabilities has those of the prompt; of one token there are none.
      if (!response.prompt().text().empty()) logprobs.AddPrompt(response.prompt());
      for (const v1::TokenLogprob& token : candidate.logprobs()) logprobs.Add(token);
      Json choice;
      choice["index"] = choices.size();
      choice["text"] = response.prompt().text() + candidate.text();  // the first is empty without echo
      choice["logprobs"] = candidate.logprobs().empty() ? Json() : logprobs.ToJson();
      AddFinish(candidate, choice);
      choices.push_back(std::move(choice));
    }
  }
  Json json = AnswerHead("cmpl-", "text_completion", responses.front());
  json["id"] = StrCat("cmpl-", request_id);
  json["choices"] = std::move(choices);
  json["usage"] = UsageJson(usage);
  return json;
}

Json CompletionChunkJson(std::string_view request_id, const v1::Accepted& accepted) {
  Json json = AnswerHead("cmpl-", "text_completion", accepted);
  json["id"] = StrCat("cmpl-", request_id);
  return json;
}

Json CompletionDeltaJson(uint32_t index, std::string text, Json logprobs) {
  Json choice;
  choice["index"] = index;
  choice["text"] = std::move(text);
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = Json();
  return choice;
}

Json CompletionEndJson(uint32_t index, std::string text, const v1::Finished& finished) {
  Json choice;
  choice["index"] = index;
  choice["text"] = std::move(text);
  choice["logprobs"] = Json();
  AddFinish(finished, choice);
  return choice;
}

}  // namespace expertd::rest
