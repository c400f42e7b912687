#include "engine/prompt_builder.h"

#include <algorithm>
#include <array>
#include <random>
#include <string_view>
#include <utility>

#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/request/errors.h"
#include "engine/tool_call_constraint.h"

namespace expertd {
namespace {

// Put inside a special token's text while the template runs, so that the text is found again and known to be the
// caller's. A noncharacter: no text has a use for it.
constexpr std::string_view kGuard = "\xEF\xB7\x90";  // U+FDD0

absl::Status Unsupported(std::string_view message) {
  return MakeError(absl::StatusCode::kUnimplemented, message,
                   {.reason = std::string(error_reason::kUnsupportedFeature)});
}

absl::Status InvalidField(std::string field, const std::string& message) {
  ErrorDetail detail{.reason = std::string(error_reason::kInvalidParameter)};
  detail.violations.emplace_back(std::move(field), message);
  return MakeError(absl::StatusCode::kInvalidArgument, message, detail);
}

// The contract's field that a constraint comes from.
std::string_view FieldOf(ConstraintSpec::Kind kind) {
  switch (kind) {
    case ConstraintSpec::Kind::kJsonSchema: return "structured.json_schema";
    case ConstraintSpec::Kind::kJsonObject: return "structured.json_object";
    case ConstraintSpec::Kind::kRegex: return "structured.regex";
    case ConstraintSpec::Kind::kGrammar: return "structured.grammar";
    case ConstraintSpec::Kind::kChoices: return "structured.choices";
    case ConstraintSpec::Kind::kToolCalls: return "chat.tools";
  }
  return "structured";
}

// `text` with kGuard behind the first byte of every special token written in it; sets `*found` if there was one.
std::string GuardText(std::string_view text, const std::vector<std::string>& specials, bool* found) {
  const auto may_begin = [&](char c) {
    return std::any_of(specials.begin(), specials.end(), [c](const std::string& special) { return special[0] == c; });
  };
  std::array<bool, 256> begins{};
  for (int c = 0; c < 256; ++c) begins[c] = may_begin(static_cast<char>(c));
  std::string guarded;
  guarded.reserve(text.size());
  while (!text.empty()) {
    if (!begins[static_cast<unsigned char>(text.front())]) {
      guarded.push_back(text.front());
      text.remove_prefix(1);
      continue;
    }
    const auto match = std::find_if(specials.begin(), specials.end(),
                                    [&](const std::string& special) { return text.starts_with(special); });
    guarded.push_back(text.front());
    text.remove_prefix(1);
    if (match != specials.end()) {
      guarded.append(kGuard);
      *found = true;
    }
  }
  return guarded;
}

// The same for all strings inside messages or tools (contents, parts, names, calls), keys too: those of arguments are a
// model's words. ParseJson bounds the depth.
void GuardStrings(Json& value, const std::vector<std::string>& specials, bool* found) {
  if (value.is_string()) {
    std::string guarded = GuardText(value.get_ref<const std::string&>(), specials, found);
    value = std::move(guarded);
  } else if (value.is_object()) {
    Json guarded = Json::object();
    for (const auto& [key, element] : value.items()) {
      GuardStrings(element, specials, found);
      guarded[GuardText(key, specials, found)] = std::move(element);
    }
    value = std::move(guarded);
  } else if (value.is_array()) {
    for (Json& element : value) GuardStrings(element, specials, found);
  }
}

uint64_t RandomSeed() {
  std::random_device device;
  // 53 bits: every language that reads JSON gets the seed back exactly.
  return ((static_cast<uint64_t>(device()) << 32) | device()) & ((uint64_t{1} << 53) - 1);
}

}  // namespace

PromptBuilder::PromptBuilder(PromptBuilderOptions options) : options_(std::move(options)) {
  if (options_.tokenizer == nullptr) return;
  for (int id = 0; id < options_.tokenizer->vocab_size(); ++id) {
    if (!options_.tokenizer->IsSpecial(id)) continue;
    if (std::string_view text = options_.tokenizer->TokenBytes(id); text.size() > 1) special_texts_.emplace_back(text);
  }
  std::sort(special_texts_.begin(), special_texts_.end(),
            [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
}

absl::StatusOr<RenderedChat> PromptBuilder::RenderChat(const ChatInput& chat) const {
  if (options_.tokenizer == nullptr) return Unsupported("the model folder has no tokenizer; send token ids");
  if (options_.chat_template == nullptr) {
    return Unsupported("the model folder has no chat template; send text or token ids");
  }
  const absl::Time start = absl::Now();
  bool guarded = false;
  Json messages = chat.messages;
  GuardStrings(messages, special_texts_, &guarded);
  Json tools = chat.tools;
  GuardStrings(tools, special_texts_, &guarded);
  const ChatRenderOptions render_options{.add_generation_prompt = chat.add_generation_prompt,
                                         .continue_final_message = chat.continue_final_message};
  absl::StatusOr<std::string> text = options_.chat_template->Render(
      messages, tools.is_null() ? nullptr : &tools, chat.template_kwargs, render_options);
  if (!text.ok()) {
    return InvalidField("chat", StrCat("chat template: ", ToStdView(text.status().message())));
  }
  const EncodeOptions trusted{.add_special_tokens = false, .parse_special_tokens = true};
  RenderedChat rendered;
  rendered.template_time = absl::Now() - start;
  if (!guarded) {
    ASSIGN_OR_RETURN(rendered.tokens, options_.tokenizer->Encode(*text, trusted));
    rendered.text = *std::move(text);
    return rendered;
  }
  // Pieces between guards are the template's; the guarded special tokens are encoded as plain text.
  const EncodeOptions plain{.add_special_tokens = false, .parse_special_tokens = false};
  std::string_view rest = *text;
  while (!rest.empty()) {
    const size_t guard = rest.find(kGuard);
    std::string_view trusted_part = guard == std::string_view::npos ? rest : rest.substr(0, guard - 1);
    ASSIGN_OR_RETURN(std::vector<int32_t> ids, options_.tokenizer->Encode(trusted_part, trusted));
    rendered.tokens.insert(rendered.tokens.end(), ids.begin(), ids.end());
    rendered.text.append(trusted_part);
    if (guard == std::string_view::npos) break;
    std::string special(1, rest[guard - 1]);
    rest.remove_prefix(guard + kGuard.size());
    for (const std::string& candidate : special_texts_) {
      if (candidate[0] == special[0] && rest.starts_with(std::string_view(candidate).substr(1))) {
        rest.remove_prefix(candidate.size() - 1);
        special = candidate;
        break;
      }
    }
    ASSIGN_OR_RETURN(ids, options_.tokenizer->Encode(special, plain));
    rendered.tokens.insert(rendered.tokens.end(), ids.begin(), ids.end());
    rendered.text.append(special);
  }
  return rendered;
}

absl::StatusOr<std::vector<int32_t>> PromptBuilder::Encode(const TextInput& input) const {
  if (options_.tokenizer == nullptr) return Unsupported("the model folder has no tokenizer; send token ids");
  ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                   options_.tokenizer->Encode(input.text, {.add_special_tokens = input.add_special_tokens}));
  if (input.truncate_to > 0 && ids.size() > static_cast<size_t>(input.truncate_to)) {
    ids.erase(ids.begin(), ids.end() - input.truncate_to);
  }
  return ids;
}

absl::StatusOr<std::shared_ptr<Constraint>> PromptBuilder::Compile(const ConstraintSpec& spec) const {
  if (options_.constraint_compiler == nullptr) {
    return Unsupported("structured output needs a tokenizer; the model folder has none");
  }
  absl::StatusOr<std::shared_ptr<Constraint>> constraint = options_.constraint_compiler->Compile(spec);
  if (constraint.ok()) return constraint;
  const std::string_view message = ToStdView(constraint.status().message());
  if (absl::IsResourceExhausted(constraint.status())) {
    return MakeError(absl::StatusCode::kResourceExhausted, message,
                     {.reason = std::string(error_reason::kTooManyBytes)});
  }
  const std::string_view field = FieldOf(spec.kind);
  ErrorDetail detail{.reason = std::string(error_reason::kInvalidConstraint)};
  detail.violations.emplace_back(field, message);
  return MakeError(absl::StatusCode::kInvalidArgument, StrCat(field, ": ", message), detail);
}

absl::Status PromptBuilder::AddConstraint(const RequestSpec& spec, BuiltPrompt& built) const {
  std::optional<ConstraintSpec> wanted = spec.constraint;
  const auto* chat = std::get_if<ChatInput>(&spec.input);
  if (chat != nullptr && options_.tokenizer != nullptr) {
    ASSIGN_OR_RETURN(std::optional<ToolCallConstraint> calls,
                     MakeToolCallConstraint(*chat, wanted.has_value(), options_.tool_format, *options_.tokenizer));
    if (calls.has_value()) {
      if (!wanted.has_value()) wanted.emplace();
      if (!spec.constraint.has_value() || chat->tool_use.is_required) wanted->kind = ConstraintSpec::Kind::kToolCalls;
      wanted->tool_calls = std::move(calls->form);
      built.constraint_trigger = calls->trigger_token;
    }
  }
  if (!wanted.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(built.constraint, Compile(*wanted));
  return absl::OkStatus();
}

absl::StatusOr<SamplingParams> PromptBuilder::ResolveSampling(const SamplingOverrides& overrides) const {
  const GenerationDefaults& defaults = options_.defaults;
  const bool greedy_by_default = defaults.do_sample.has_value() && !*defaults.do_sample;
  SamplingParams params;
  params.temperature = overrides.temperature.value_or(
      greedy_by_default ? 0.0f : static_cast<float>(defaults.temperature.value_or(1.0)));
  params.top_p = overrides.top_p.value_or(static_cast<float>(defaults.top_p.value_or(1.0)));
  params.top_k = std::max(0, overrides.top_k.value_or(defaults.top_k.value_or(0)));
  params.min_p = overrides.min_p.value_or(static_cast<float>(defaults.min_p.value_or(0.0)));
  params.repetition_penalty =
      overrides.repetition_penalty.value_or(static_cast<float>(defaults.repetition_penalty.value_or(1.0)));
  params.presence_penalty = overrides.presence_penalty.value_or(0.0f);
  params.frequency_penalty = overrides.frequency_penalty.value_or(0.0f);
  params.seed = overrides.seed.has_value() ? *overrides.seed : RandomSeed();
  params.logit_bias = overrides.logit_bias;
  params.allowed_token_ids = overrides.allowed_token_ids;
  params.logprobs = overrides.logprobs;
  params.prompt_logprobs = overrides.prompt_logprobs;
  if (overrides.bad_words.empty()) return params;
  if (options_.tokenizer == nullptr) return Unsupported("bad_words need a tokenizer; the model folder has none");
  for (const std::string& word : overrides.bad_words) {
    // As it stands at the start of a text, and as it stands after another word.
    std::vector<std::vector<int32_t>> forms;
    for (const std::string& form : {word, StrCat(" ", word)}) {
      ASSIGN_OR_RETURN(std::vector<int32_t> ids, options_.tokenizer->Encode(form, {.add_special_tokens = false}));
      if (!ids.empty() && std::find(forms.begin(), forms.end(), ids) == forms.end()) forms.push_back(std::move(ids));
    }
    params.bad_words.insert(params.bad_words.end(), forms.begin(), forms.end());
  }
  return params;
}

absl::StatusOr<StopConditions> PromptBuilder::ResolveStop(const StopOverrides& overrides,
                                                          int64_t num_prompt_tokens) const {
  const int64_t room = options_.max_model_len - num_prompt_tokens;
  const int64_t wanted = overrides.max_tokens.value_or(static_cast<int32_t>(std::max<int64_t>(room, 1)));
  if (room < 1 || wanted > room) {
    ErrorDetail detail{.reason = std::string(error_reason::kContextLengthExceeded)};
    detail.metadata = {{"promptTokens", StrCat(num_prompt_tokens)},
                       {"maxTokens", overrides.max_tokens.has_value() ? StrCat(wanted) : ""},
                       {"maxModelLen", StrCat(options_.max_model_len)}};
    const std::string requested =
        overrides.max_tokens.has_value()
            ? StrCat(" tokens and ", wanted, " more were requested (", num_prompt_tokens + wanted, " in all).")
            : " tokens and leaves no room for an answer.";
    return MakeError(absl::StatusCode::kInvalidArgument,
                     StrCat("This model's maximum context length is ", options_.max_model_len,
                            " tokens. However, the prompt has ", num_prompt_tokens, requested),
                     detail);
  }
  StopConditions stop;
  stop.max_tokens = overrides.max_tokens.value_or(StopConditions::kNoLimit);
  stop.min_tokens = overrides.min_tokens;
  if (stop.min_tokens > wanted) {
    return InvalidField("stop.min_tokens", StrCat("stop.min_tokens is ", stop.min_tokens, "; only ", wanted,
                                                  " tokens fit behind this prompt"));
  }
  stop.strings = overrides.strings;
  stop.token_ids = overrides.token_ids;
  stop.include_stop_in_output = overrides.include_stop_in_output;
  stop.ignore_eos = overrides.ignore_eos;
  return stop;
}

absl::StatusOr<BuiltPrompt> PromptBuilder::Build(const Request& request) const {
  const RequestSpec& spec = request.spec();
  BuiltPrompt built;
  if (const auto* chat = std::get_if<ChatInput>(&spec.input)) {
    ASSIGN_OR_RETURN(RenderedChat rendered, RenderChat(*chat));
    built.tokens = std::move(rendered.tokens);
    built.template_time = rendered.template_time;
    if (spec.output.echo) built.text = std::move(rendered.text);
  } else if (const auto* text = std::get_if<TextInput>(&spec.input)) {
    ASSIGN_OR_RETURN(built.tokens, Encode(*text));
    if (spec.output.echo) built.text = text->text;
  } else {
    built.tokens = std::get<TokenInput>(spec.input).ids;
    if (spec.output.echo && options_.tokenizer != nullptr) {
      built.text = options_.tokenizer->Decode(built.tokens, spec.output.skip_special_tokens);
    }
  }
  if (built.tokens.empty()) return InvalidField("input", "the prompt has no tokens; at least one is needed");
  for (int32_t id : built.tokens) {
    if (id < 0 || id >= options_.vocab_size) {
      return InvalidField("input", StrCat("token id ", id, " is outside the model's vocabulary; must be 0..",
                                          options_.vocab_size - 1));
    }
  }
  if (!spec.stop.strings.empty() && options_.tokenizer == nullptr) {
    return Unsupported("stop strings need a tokenizer; the model folder has none");
  }
  ASSIGN_OR_RETURN(built.stop, ResolveStop(spec.stop, static_cast<int64_t>(built.tokens.size())));
  ASSIGN_OR_RETURN(built.sampling, ResolveSampling(spec.sampling));
  RETURN_IF_ERROR(AddConstraint(spec, built));
  return built;
}

}  // namespace expertd
