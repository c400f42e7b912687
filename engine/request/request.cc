#include "engine/request/request.h"

#include <array>
#include <cmath>
#include <optional>
#include <random>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/base/strings.h"
#include "engine/base/utf8.h"
#include "engine/request/errors.h"

namespace expertd {
namespace {

constexpr int kMaxJsonDepth = 64;
constexpr int32_t kMaxIdBytes = 128;

// Collects what is wrong, in the order of the contract's fields.
class Violations {
 public:
  // `description` goes on from the path: "is 0; must be 1 or more".
  void Add(std::string path, std::string description) {
    if (++num_found_ <= Request::kMaxViolations) found_.emplace_back(std::move(path), std::move(description));
  }

  absl::Status ToStatus() {
    if (num_found_ == 0) return absl::OkStatus();
    std::string message;
    for (const auto& [path, description] : found_) {
      StrAppend(&message, message.empty() ? "" : ". ", path, " ", description);
    }
    if (const int num_more = num_found_ - static_cast<int>(found_.size()); num_more > 0) {
      StrAppend(&message, ". And ", num_more, " more");
    }
    ErrorDetail detail{.reason = std::string(error_reason::kInvalidParameter)};
    detail.violations = std::move(found_);
    return MakeError(absl::StatusCode::kInvalidArgument, message, detail);
  }

 private:
  std::vector<std::pair<std::string, std::string>> found_;
  int num_found_ = 0;
};

void CheckUtf8(const std::string& path, std::string_view text, Violations& violations) {
  if (const std::optional<size_t> offset = FindInvalidUtf8(text)) {
    violations.Add(path, StrCat("is not UTF-8 at byte ", *offset));
  }
}

// NaN fails every comparison, so it is outside any range.
void CheckRange(const std::string& path, const std::optional<float>& value, float lowest, float highest,
                Violations& violations) {
  if (!value.has_value() || (*value >= lowest && *value <= highest)) return;
  violations.Add(path, StrCat("is ", *value, "; must be ", lowest, "..", highest));
}

void CheckRangeAbove(const std::string& path, const std::optional<float>& value, float above, float highest,
                     Violations& violations) {
  if (!value.has_value() || (*value > above && *value <= highest)) return;
  violations.Add(path, StrCat("is ", *value, "; must be above ", above, ", up to ", highest));
}

void CheckTokenId(const std::string& path, int32_t id, const RequestLimits& limits, Violations& violations) {
  if (id >= 0 && id < limits.vocab_size) return;
  violations.Add(path, StrCat("is ", id, "; must be 0..", limits.vocab_size - 1));
}

void CheckTokenIds(const std::string& path, const std::vector<int32_t>& ids, const RequestLimits& limits,
                   Violations& violations) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= limits.vocab_size) CheckTokenId(StrCat(path, "[", i, "]"), ids[i], limits, violations);
  }
}

// Whether a list is short enough for its elements to be looked at.
bool CheckCount(const std::string& path, size_t count, int64_t limit, Violations& violations) {
  if (count <= static_cast<size_t>(limit)) return true;
  violations.Add(path, StrCat("has ", count, " entries; must have at most ", limit));
  return false;
}

void CheckTexts(const std::string& path, const std::vector<std::string>& texts, int32_t max_bytes,
                Violations& violations) {
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string element = StrCat(path, "[", i, "]");
    if (texts[i].empty() || texts[i].size() > static_cast<size_t>(max_bytes)) {
      violations.Add(element, StrCat("has ", texts[i].size(), " bytes; must have 1..", max_bytes));
    } else {
      CheckUtf8(element, texts[i], violations);
    }
  }
}

void CheckId(const std::string& id, Violations& violations) {
  if (id.size() > kMaxIdBytes) {
    violations.Add("request_id", StrCat("has ", id.size(), " bytes; must have 1..", kMaxIdBytes));
    return;
  }
  for (size_t i = 0; i < id.size(); ++i) {
    const char c = id[i];
    const bool is_alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (is_alphanumeric || std::string_view("._:-").find(c) != std::string_view::npos) continue;
    violations.Add("request_id", StrCat("has the byte ", static_cast<int>(static_cast<uint8_t>(c)), " at ", i,
                                        "; must be of [A-Za-z0-9._:-]"));
    return;
  }
}

void CheckText(const TextInput& input, const RequestLimits& limits, Violations& violations) {
  if (input.text.empty()) {
    violations.Add("text.text", "is empty; must have at least 1 byte");
  } else if (input.text.size() > static_cast<size_t>(limits.max_prompt_bytes)) {
    violations.Add("text.text", StrCat("has ", input.text.size(), " bytes; must have 1..", limits.max_prompt_bytes));
  } else {
    CheckUtf8("text.text", input.text, violations);
  }
  if (input.truncate_to < 0) {
    violations.Add("text.truncate_to", StrCat("is ", input.truncate_to, "; must be 1 or more"));
  }
}

void CheckTokens(const TokenInput& input, const RequestLimits& limits, Violations& violations) {
  const int64_t max_ids = limits.max_prompt_bytes / static_cast<int64_t>(sizeof(int32_t));
  if (input.ids.empty()) {
    violations.Add("tokens.ids", "is empty; must have at least 1 entry");
  } else if (CheckCount("tokens.ids", input.ids.size(), max_ids, violations)) {
    CheckTokenIds("tokens.ids", input.ids, limits, violations);
  }
}

// Checks depth and UTF-8 of `json`; returns the bytes of all its texts, keys included. Walks with a stack of its own,
// since depth is the caller's.
int64_t CheckJson(const std::string& path, const Json& json, Violations& violations) {
  int64_t num_bytes = 0;
  std::vector<std::pair<const Json*, int>> open = {{&json, 1}};
  bool is_utf8 = true;
  while (!open.empty()) {
    const auto [value, depth] = open.back();
    open.pop_back();
    if (depth > kMaxJsonDepth) {
      violations.Add(path, StrCat("is nested deeper than ", kMaxJsonDepth));
      return num_bytes;
    }
    if (value->is_string()) {
      const std::string& text = value->get_ref<const std::string&>();
      num_bytes += static_cast<int64_t>(text.size());
      is_utf8 = is_utf8 && !FindInvalidUtf8(text);
    } else if (value->is_array()) {
      for (const Json& element : *value) open.emplace_back(&element, depth + 1);
    } else if (value->is_object()) {
      for (const auto& [key, element] : value->items()) {
        num_bytes += static_cast<int64_t>(key.size());
        is_utf8 = is_utf8 && !FindInvalidUtf8(key);
        open.emplace_back(&element, depth + 1);
      }
    }
  }
  if (!is_utf8) violations.Add(path, "holds text that is not UTF-8");
  return num_bytes;
}

int64_t CheckMessages(const Json& messages, const RequestLimits& limits, Violations& violations) {
  if (!messages.is_array() || messages.empty()) {
    violations.Add("chat.messages", "is empty; must have at least 1 entry");
    return 0;
  }
  if (!CheckCount("chat.messages", messages.size(), limits.max_messages, violations)) return 0;
  int64_t num_bytes = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string path = StrCat("chat.messages[", i, "]");
    const Json* role = JsonFind(messages[i], "role");
    if (role == nullptr || !role->is_string() || role->get_ref<const std::string&>().empty()) {
      violations.Add(StrCat(path, ".role"), "is missing");
    }
    num_bytes += CheckJson(path, messages[i], violations);
  }
  return num_bytes;
}

void CheckTemplateKwargs(const Json& kwargs, const RequestLimits& limits, Violations& violations) {
  if (kwargs.is_null()) return;
  if (!kwargs.is_object()) {
    violations.Add("chat.template_kwargs", "is not an object");
    return;
  }
  const int64_t num_bytes = CheckJson("chat.template_kwargs", kwargs, violations);
  if (num_bytes > limits.max_template_kwargs_bytes) {
    violations.Add("chat.template_kwargs",
                   StrCat("has ", num_bytes, " bytes; must have at most ", limits.max_template_kwargs_bytes));
  }
  for (const char* name : {"messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template"}) {
    if (kwargs.contains(name)) {
      violations.Add(StrCat("chat.template_kwargs.", name), "is the template's own; use the field of the request");
    }
  }
}

void CheckChat(const ChatInput& input, const RequestLimits& limits, Violations& violations) {
  int64_t num_bytes = CheckMessages(input.messages, limits, violations);
  if (!input.tools.is_null() && !input.tools.is_array()) {
    violations.Add("chat.tools", "is not a list");
  } else if (CheckCount("chat.tools", input.tools.size(), limits.max_tools, violations)) {
    num_bytes += CheckJson("chat.tools", input.tools, violations);
  }
  if (num_bytes > limits.max_prompt_bytes) {
    violations.Add("chat", StrCat("has ", num_bytes, " bytes of text; must have at most ", limits.max_prompt_bytes));
  }
  CheckTemplateKwargs(input.template_kwargs, limits, violations);
  if (input.continue_final_message && input.add_generation_prompt) {
    violations.Add("chat.continue_final_message", "is true; must be false with chat.add_generation_prompt");
  }
}

void CheckLogitBias(const std::vector<std::pair<int32_t, float>>& bias, const RequestLimits& limits,
                    Violations& violations) {
  if (!CheckCount("sampling.logit_bias", bias.size(), limits.max_logit_bias, violations)) return;
  absl::flat_hash_map<int32_t, size_t> first_of;
  for (size_t i = 0; i < bias.size(); ++i) {
    const std::string path = StrCat("sampling.logit_bias[", i, "]");
    const auto [first, is_first] = first_of.emplace(bias[i].first, i);
    if (!is_first) {
      violations.Add(StrCat(path, ".token_id"), StrCat("is ", bias[i].first, "; entry ", first->second,
                                                       " has it already; must be there once"));
    }
    CheckTokenId(StrCat(path, ".token_id"), bias[i].first, limits, violations);
    CheckRange(StrCat(path, ".bias"), bias[i].second, -100, 100, violations);
  }
}

void CheckSampling(const SamplingOverrides& sampling, int32_t num_candidates, const RequestLimits& limits,
                   Violations& violations) {
  CheckRange("sampling.temperature", sampling.temperature, 0, 2, violations);
  CheckRangeAbove("sampling.top_p", sampling.top_p, 0, 1, violations);
  if (sampling.top_k.has_value() && *sampling.top_k < -1) {
    violations.Add("sampling.top_k", StrCat("is ", *sampling.top_k, "; must be 1 or more, or 0 or -1 for off"));
  }
  CheckRange("sampling.min_p", sampling.min_p, 0, 1, violations);
  CheckRangeAbove("sampling.repetition_penalty", sampling.repetition_penalty, 0, 10, violations);
  CheckRange("sampling.frequency_penalty", sampling.frequency_penalty, -2, 2, violations);
  CheckRange("sampling.presence_penalty", sampling.presence_penalty, -2, 2, violations);
  if (num_candidates < 1 || num_candidates > limits.max_num_candidates) {
    violations.Add("sampling.n", StrCat("is ", num_candidates, "; must be 1..", limits.max_num_candidates));
  }
  CheckLogitBias(sampling.logit_bias, limits, violations);
  if (CheckCount("sampling.allowed_token_ids", sampling.allowed_token_ids.size(), limits.vocab_size, violations)) {
    CheckTokenIds("sampling.allowed_token_ids", sampling.allowed_token_ids, limits, violations);
  }
  if (CheckCount("sampling.bad_words", sampling.bad_words.size(), limits.max_bad_words, violations)) {
    CheckTexts("sampling.bad_words", sampling.bad_words, limits.max_bad_word_bytes, violations);
  }
}

void CheckStop(const StopOverrides& stop, const RequestLimits& limits, Violations& violations) {
  if (stop.max_tokens.has_value() && *stop.max_tokens < 1) {
    violations.Add("stop.max_tokens", StrCat("is ", *stop.max_tokens, "; must be 1 or more"));
  }
  if (stop.min_tokens < 0) {
    violations.Add("stop.min_tokens", StrCat("is ", stop.min_tokens, "; must be 0 or more"));
  } else if (stop.max_tokens.has_value() && *stop.max_tokens >= 1 && stop.min_tokens > *stop.max_tokens) {
    violations.Add("stop.min_tokens",
                   StrCat("is ", stop.min_tokens, "; must be at most stop.max_tokens, ", *stop.max_tokens));
  }
  if (CheckCount("stop.strings", stop.strings.size(), limits.max_stop_strings, violations)) {
    CheckTexts("stop.strings", stop.strings, limits.max_stop_string_bytes, violations);
  }
  if (CheckCount("stop.token_ids", stop.token_ids.size(), limits.max_stop_token_ids, violations)) {
    CheckTokenIds("stop.token_ids", stop.token_ids, limits, violations);
  }
  if (stop.time_limit <= absl::ZeroDuration()) {
    violations.Add("stop.time_limit", StrCat("is ", absl::FormatDuration(stop.time_limit), "; must be above 0"));
  }
}

void CheckLogprobs(const std::string& path, const std::optional<LogprobOptions>& options, const RequestLimits& limits,
                   Violations& violations) {
  if (!options.has_value()) return;
  if (options->top_n < 0 || options->top_n > limits.max_logprobs) {
    violations.Add(StrCat(path, ".top_n"), StrCat("is ", options->top_n, "; must be 0..", limits.max_logprobs));
  }
  if (options->top_n > 0 && !options->token_ids.empty()) {
    violations.Add(StrCat(path, ".only_ids"), StrCat("is set; must not be, with ", path, ".top_n"));
  }
  // Each asked id is a column of the answer as each of the top ones is.
  if (CheckCount(StrCat(path, ".only_ids.ids"), options->token_ids.size(), limits.max_logprobs, violations)) {
    CheckTokenIds(StrCat(path, ".only_ids.ids"), options->token_ids, limits, violations);
  }
  if (options->start < 0) violations.Add(StrCat(path, ".start"), StrCat("is ", options->start, "; must be 0 or more"));
}

void CheckOutput(const RequestSpec& spec, const RequestLimits& limits, Violations& violations) {
  CheckLogprobs("output.logprobs", spec.sampling.logprobs, limits, violations);
  if (spec.sampling.logprobs.has_value() && spec.sampling.logprobs->start > 0) {
    violations.Add("output.logprobs.start",
                   StrCat("is ", spec.sampling.logprobs->start, "; is for output.prompt_logprobs only"));
  }
  CheckLogprobs("output.prompt_logprobs", spec.sampling.prompt_logprobs, limits, violations);
  if (spec.output.echo && !spec.output.text && !spec.output.token_ids) {
    violations.Add("output.echo", "is true; needs output.text or output.token_ids");
  }
}

void CheckScheduling(const SchedulingOptions& scheduling, Violations& violations) {
  if (scheduling.priority < -100 || scheduling.priority > 100) {
    violations.Add("scheduling.priority", StrCat("is ", scheduling.priority, "; must be -100..100"));
  }
  if (scheduling.queue_timeout <= absl::ZeroDuration()) {
    violations.Add("scheduling.queue_timeout",
                   StrCat("is ", absl::FormatDuration(scheduling.queue_timeout), "; must be above 0"));
  }
}

void CheckCache(const CacheOptions& cache, const RequestLimits& limits, Violations& violations) {
  if (cache.salt.size() > static_cast<size_t>(limits.max_salt_bytes)) {
    violations.Add("cache.salt",
                   StrCat("has ", cache.salt.size(), " bytes; must have at most ", limits.max_salt_bytes));
  } else {
    CheckUtf8("cache.salt", cache.salt, violations);
  }
}

void CheckConstraint(const std::optional<ConstraintSpec>& constraint, const RequestLimits& limits,
                     Violations& violations) {
  if (!constraint.has_value()) return;
  size_t num_bytes = constraint->text.size();
  for (const std::string& choice : constraint->choices) num_bytes += choice.size();
  if (num_bytes > static_cast<size_t>(limits.max_constraint_bytes)) {
    violations.Add("structured", StrCat("has ", num_bytes, " bytes; must have at most ", limits.max_constraint_bytes));
    return;
  }
  CheckUtf8("structured", constraint->text, violations);
  if (constraint->kind != ConstraintSpec::Kind::kChoices) return;
  const std::vector<std::string>& choices = constraint->choices;
  if (choices.empty() || choices.size() > static_cast<size_t>(limits.max_choices)) {
    violations.Add("structured.choices.values",
                   StrCat("has ", choices.size(), " elements; must have 1..", limits.max_choices));
  }
  for (size_t i = 0; i < choices.size(); ++i) {
    const std::string path = StrCat("structured.choices.values[", i, "]");
    if (choices[i].empty()) violations.Add(path, "is empty");
    CheckUtf8(path, choices[i], violations);
  }
}

std::string MakeId() {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::random_device random;
  std::string id = "gen-";
  for (int word = 0; word < 4; ++word) {
    const uint32_t bits = random();
    for (int shift = 28; shift >= 0; shift -= 4) id.push_back(kDigits[(bits >> shift) & 15]);
  }
  return id;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Request>> Request::Create(RequestSpec spec, const RequestLimits& limits) {
  Violations violations;
  if (const auto* text = std::get_if<TextInput>(&spec.input)) CheckText(*text, limits, violations);
  if (const auto* tokens = std::get_if<TokenInput>(&spec.input)) CheckTokens(*tokens, limits, violations);
  if (const auto* chat = std::get_if<ChatInput>(&spec.input)) CheckChat(*chat, limits, violations);
  CheckSampling(spec.sampling, spec.num_candidates, limits, violations);
  CheckStop(spec.stop, limits, violations);
  CheckOutput(spec, limits, violations);
  CheckConstraint(spec.constraint, limits, violations);
  CheckScheduling(spec.scheduling, violations);
  CheckCache(spec.cache, limits, violations);
  CheckId(spec.id, violations);
  if (absl::Status status = violations.ToStatus(); !status.ok()) return status;
  if (spec.id.empty()) spec.id = MakeId();
  return std::shared_ptr<const Request>(new Request(std::move(spec)));
}

}  // namespace expertd
