#include "engine/text/chat_template.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/lexer.h"
#include "engine/text/jinja/unicode.h"
#include "engine/text/tokenizer_files.h"

namespace expertd {
namespace {

// What continuing a message means for a template is found out by writing a mark behind the message's content.
constexpr std::string_view kContinueMark = "CONTINUE_FINAL_MESSAGE_TAG ";

// Older names under which messages carry the reasoning of a model; the first one given is used.
constexpr const char* kReasoningNames[] = {"reasoning_content", "thinking", "reasoning"};

constexpr std::string_view kReservedVariables[] = {
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template",
    "tokenize",
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
};

// The tokenizer class of Pangu Pro MoE and openPangu.
constexpr std::string_view kPanguTokenizer = "PanguTokenizer";

// Their layout, for folders that bring none: no newline between turns, an empty system turn where there is no other.
// How its models are told of tools isn't published, so a chat with tools needs a template that says so.
constexpr const char* kPanguTemplate = R"({{- bos_token -}}
{%- if tools -%}
  {{- raise_exception('the built-in chat layout has no tools; the model needs a chat template') -}}
{%- endif -%}
{%- if messages[0]['role'] != 'system' %}{{ '[unused9]系统：[unused10]' }}{% endif -%}
{%- set names = {'system': '系统', 'user': '用户', 'assistant': '助手', 'tool': '工具', 'function': '方法'} -%}
{%- for message in messages -%}
  {%- set missing = 'calls' if message['tool_calls'] else message['role'] -%}
  {%- if missing not in names %}{{ raise_exception('the built-in chat layout has no ' ~ missing) }}{% endif -%}
  {{- '[unused9]' ~ names[message['role']] ~ '：' -}}
  {%- if message['content'] is string -%}
    {{- message['content'] -}}
  {%- else -%}
    {%- for part in message['content'] %}{{ part['text'] }}{% endfor -%}
  {%- endif -%}
  {{- '[unused10]' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '[unused9]助手：' }}{% endif -%})";

std::string_view Stripped(std::string_view text) { return jinja::StripSpace(text, jinja::StripSides::kBoth); }

// Whether the template treats a message without content apart: `message['content'] is none`, `content is not none`.
bool AsksForNoContent(const std::string& source) {
  const absl::StatusOr<std::vector<jinja::Token>> tokens = jinja::Tokenize(source);
  if (!tokens.ok()) return false;
  for (auto token = tokens->begin(); token != tokens->end(); ++token) {
    using jinja::TokenType;
    if ((token->type != TokenType::kName && token->type != TokenType::kString) || token->text != "content") continue;
    auto next = token + 1;  // the last token is none of those skipped here
    if (next->IsOperator("]")) ++next;
    if (!next->IsName("is")) continue;
    ++next;
    if (next->IsName("not")) ++next;
    if (next->IsName("none")) return true;
  }
  return false;
}

bool HasOnlyCalls(const Json& message) {
  const Json* calls = JsonFind(message, "tool_calls");
  return calls != nullptr && calls->is_array() && !calls->empty() && JsonFind(message, "content") == nullptr;
}

// A message as templates are to see it: without nulls, with its reasoning under the names they read, and with
// `content_of_calls` where there are only calls.
absl::StatusOr<Json> NormalizeMessage(const Json& message, size_t index, const Json& content_of_calls) {
  if (!message.is_object()) {
    return absl::InvalidArgumentError(StrCat("messages[", index, "] must be an object, not ", message.type_name()));
  }
  const Json* reasoning = nullptr;
  for (const char* name : kReasoningNames) {
    if (reasoning == nullptr) reasoning = JsonFind(message, name);
  }
  Json result = Json::object();
  if (reasoning != nullptr) result["thinking"] = *reasoning;
  for (const auto& [name, value] : message.items()) {
    if (!value.is_null()) result[name] = value;
  }
  if (reasoning != nullptr) result["reasoning_content"] = *reasoning;
  if (HasOnlyCalls(message)) result["content"] = content_of_calls;
  return result;
}

absl::StatusOr<Json> NormalizeMessages(const Json& messages, const Json& content_of_calls) {
  if (!messages.is_array() || messages.empty()) {
    return absl::InvalidArgumentError("messages must be an array of at least one message");
  }
  Json result = Json::array();
  for (const Json& message : messages) {
    ASSIGN_OR_RETURN(Json normalized, NormalizeMessage(message, result.size(), content_of_calls));
    result.push_back(std::move(normalized));
  }
  return result;
}

// Puts the mark behind the text of the last message; gives that text.
absl::StatusOr<std::string> MarkFinalMessage(Json& messages) {
  Json& message = messages.back();
  if (!message.contains("content")) {
    return absl::InvalidArgumentError("continue_final_message is set but the final message has no content to continue");
  }
  Json* text = &message["content"];
  if (text->is_array()) {
    const auto part = std::find_if(text->rbegin(), text->rend(), [](const Json& candidate) {
      return candidate.is_object() && candidate.contains("text");
    });
    if (part == text->rend()) {
      return absl::InvalidArgumentError(
          "continue_final_message is set but there is no text to continue in the final message");
    }
    text = &(*part)["text"];
  }
  if (!text->is_string()) {
    return absl::InvalidArgumentError("continue_final_message is set but the final message's content is not text");
  }
  const auto original = text->get<std::string>();
  *text = StrCat(original, kContinueMark);
  return original;
}

// Cuts a rendered chat at the mark, which the template may have stripped of its blank.
absl::StatusOr<std::string> CutAtMark(std::string rendered, std::string_view final_text) {
  const std::string_view mark = Stripped(kContinueMark);
  const size_t at = rendered.rfind(mark);
  if (at == rendered.npos || rendered.find(Stripped(final_text)) == rendered.npos) {
    return absl::InvalidArgumentError(
        "continue_final_message is set but the final message does not appear in the chat after applying the chat "
        "template; the template may delete a part of it");
  }
  const bool keeps_blank = std::string_view(rendered).substr(at, kContinueMark.size()) == kContinueMark;
  rendered.resize(at);
  if (!keeps_blank) rendered.resize(jinja::StripSpace(rendered, jinja::StripSides::kRight).size());
  return rendered;
}

absl::Status AddCallerVariables(const Json& kwargs, Json& variables) {
  if (kwargs.is_null()) return absl::OkStatus();
  if (!kwargs.is_object()) {
    return absl::InvalidArgumentError(StrCat("chat template arguments must be an object, not ", kwargs.type_name()));
  }
  for (const auto& [name, value] : kwargs.items()) {
    if (std::find(std::begin(kReservedVariables), std::end(kReservedVariables), name) != std::end(kReservedVariables)) {
      return absl::InvalidArgumentError(StrCat("chat template argument ", name, " is set by the server"));
    }
    variables[name] = value;
  }
  return absl::OkStatus();
}

void AddSpecialTokens(const SpecialTokens& tokens, Json& variables) {
  const std::pair<const char*, const std::string*> named[] = {{"bos_token", &tokens.bos_token},
                                                              {"eos_token", &tokens.eos_token},
                                                              {"pad_token", &tokens.pad_token},
                                                              {"unk_token", &tokens.unk_token}};
  for (const auto& [name, token] : named) {
    if (!token->empty()) variables[name] = *token;
  }
}

struct Sources {
  std::string path;  // for messages
  std::string main;
  std::string for_tools;
};

// `chat_template` of a JSON file: a text, or a list of named ones. Nothing when the file has none.
absl::StatusOr<std::optional<Sources>> SourcesFromJson(const std::string& path) {
  if (!FileExists(path)) return std::nullopt;
  ASSIGN_OR_RETURN(const Json config, ReadJsonFile(path));
  const Json* entry = JsonFind(config, "chat_template");
  if (entry == nullptr) return std::nullopt;
  Sources sources{.path = path};
  if (entry->is_string()) {
    sources.main = entry->get<std::string>();
    return sources;
  }
  if (!entry->is_array())
    return absl::InvalidArgumentError(StrCat(path, ": chat_template must be a string or an array"));
  bool has_default = false;
  for (const Json& named : *entry) {
    ASSIGN_OR_RETURN(const std::string name, JsonStringOr(named, "name", ""));
    ASSIGN_OR_RETURN(std::string source, JsonStringOr(named, "template", ""));
    if (name == "tool_use") sources.for_tools = source;
    if (name == "default" || (!has_default && entry->size() == 1)) {
      has_default = true;
      sources.main = std::move(source);
    }
  }
  if (!has_default) return absl::InvalidArgumentError(StrCat(path, ": chat_template has none named default"));
  return sources;
}

absl::StatusOr<Sources> FindSources(const std::string& model_dir) {
  if (const std::string path = model_dir + "/chat_template.jinja"; FileExists(path)) {
    Sources sources{.path = path};
    ASSIGN_OR_RETURN(sources.main, ReadTextFile(path));
    const std::string tools_path = model_dir + "/additional_chat_templates/tool_use.jinja";
    if (FileExists(tools_path)) {
      ASSIGN_OR_RETURN(sources.for_tools, ReadTextFile(tools_path));
    }
    return sources;
  }
  for (const char* name : {"/tokenizer_config.json", "/chat_template.json"}) {
    ASSIGN_OR_RETURN(std::optional<Sources> sources, SourcesFromJson(model_dir + name));
    if (sources.has_value()) return *std::move(sources);
  }
  return absl::NotFoundError(StrCat(model_dir, " has no chat template"));
}

}  // namespace

ChatTemplate::ChatTemplate(Variant main, std::unique_ptr<Variant> for_tools, SpecialTokens tokens,
                           std::string tool_source)
    : main_(std::move(main)),
      for_tools_(std::move(for_tools)),
      tool_source_(std::move(tool_source)),
      tokens_(std::move(tokens)) {}

absl::StatusOr<ChatTemplate::Variant> ChatTemplate::ParseVariant(const std::string& source) {
  ASSIGN_OR_RETURN(jinja::Template parsed, jinja::Template::Parse(source));
  return Variant{std::move(parsed), AsksForNoContent(source)};
}

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(const std::string& source, SpecialTokens tokens,
                                                 const std::string& tool_source) {
  ASSIGN_OR_RETURN(Variant main, ParseVariant(source));
  std::unique_ptr<Variant> for_tools;
  if (!tool_source.empty()) {
    ASSIGN_OR_RETURN(Variant parsed, ParseVariant(tool_source));
    for_tools = std::make_unique<Variant>(std::move(parsed));
  }
  return ChatTemplate(std::move(main), std::move(for_tools), std::move(tokens),
                      tool_source.empty() ? source : tool_source);
}

absl::StatusOr<std::string> ChatTemplate::Render(const Json& messages, const Json* tools, const Json& kwargs,
                                                 const ChatRenderOptions& options) const {
  if (options.continue_final_message && options.add_generation_prompt) {
    return absl::InvalidArgumentError("continue_final_message and add_generation_prompt exclude each other");
  }
  const bool has_tools = tools != nullptr && !tools->is_null();
  const Variant& chosen = has_tools && for_tools_ != nullptr ? *for_tools_ : main_;
  const Json content_of_calls = chosen.asks_for_no_content ? Json(nullptr) : Json("");
  Json variables = Json::object();
  AddSpecialTokens(tokens_, variables);
  variables["documents"] = nullptr;
  RETURN_IF_ERROR(AddCallerVariables(kwargs, variables));
  ASSIGN_OR_RETURN(variables["messages"], NormalizeMessages(messages, content_of_calls));
  variables["tools"] = has_tools ? *tools : Json(nullptr);
  variables["add_generation_prompt"] = options.add_generation_prompt;
  std::string final_text;
  if (options.continue_final_message) {
    ASSIGN_OR_RETURN(final_text, MarkFinalMessage(variables["messages"]));
  }
  jinja::RenderOptions render_options;
  render_options.clock = options.clock;
  ASSIGN_OR_RETURN(std::string rendered, chosen.parsed.Render(variables, render_options));
  if (!std::string_view(rendered).starts_with(opening_)) rendered.insert(0, opening_);
  if (!options.continue_final_message) return rendered;
  return CutAtMark(std::move(rendered), final_text);
}

absl::StatusOr<ChatTemplate> LoadChatTemplate(const std::string& model_dir) {
  ASSIGN_OR_RETURN(const TokenizerSettings settings, ReadTokenizerSettings(model_dir));
  const bool is_pangu = settings.tokenizer_class == kPanguTokenizer;
  absl::StatusOr<Sources> sources = FindSources(model_dir);
  if (absl::IsNotFound(sources.status()) && is_pangu) {
    sources = Sources{.path = StrCat(model_dir, " (built-in template)"), .main = kPanguTemplate, .for_tools = ""};
  }
  if (!sources.ok()) return sources.status();
  SpecialTokens tokens{settings.bos.value_or(is_pangu ? "<s>" : ""), settings.eos.value_or(""),
                       settings.pad.value_or(""), settings.unk.value_or("")};
  const std::string bos = tokens.bos_token;
  absl::StatusOr<ChatTemplate> parsed = ChatTemplate::Parse(sources->main, std::move(tokens), sources->for_tools);
  if (!parsed.ok()) return Annotate(sources->path, parsed.status());
  if (is_pangu && settings.add_bos_token.value_or(true)) parsed->opening_ = bos;
  return parsed;
}

}  // namespace expertd
