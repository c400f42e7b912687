#include "clients/rest_shim/chat_json.h"

#include <array>
#include <string>
#include <utility>

#include "clients/rest_shim/answer_json.h"
#include "clients/rest_shim/errors.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

constexpr std::array<std::pair<std::string_view, v1::Role>, 5> kRoles = {{{"system", v1::ROLE_SYSTEM},
                                                                          {"developer", v1::ROLE_DEVELOPER},
                                                                          {"user", v1::ROLE_USER},
                                                                          {"assistant", v1::ROLE_ASSISTANT},
                                                                          {"tool", v1::ROLE_TOOL}}};

constexpr std::array<std::pair<std::string_view, v1::ReasoningEffort>, 5> kEfforts = {
    {{"none", v1::REASONING_EFFORT_NONE},
     {"minimal", v1::REASONING_EFFORT_MINIMAL},
     {"low", v1::REASONING_EFFORT_LOW},
     {"medium", v1::REASONING_EFFORT_MEDIUM},
     {"high", v1::REASONING_EFFORT_HIGH}}};

// The value of one of `names`; an error that lists them when it is none. `fallback` when the member is absent.
template <typename Enum, size_t kCount>
absl::StatusOr<Enum> ReadEnum(const JsonFields& fields, std::string_view name, Enum fallback,
                              const std::array<std::pair<std::string_view, Enum>, kCount>& names) {
  ASSIGN_OR_RETURN(const std::optional<std::string> text, fields.String(name));
  if (!text.has_value()) return fallback;
  std::string wanted;
  for (const auto& [known, value] : names) {
    if (*text == known) return value;
    StrAppend(&wanted, wanted.empty() ? "" : ", ", known);
  }
  return fields.Invalid(name, StrCat("must be one of ", wanted));
}

// {"url": "data:image/png;base64,..."}: the server says which kinds of pictures it takes.
absl::Status ReadImage(const JsonFields& part, v1::ContentPart& content) {
  const Json* image = part.Find("image_url");
  if (image == nullptr || !image->is_object()) return part.Invalid("image_url", "must be an object with url");
  ASSIGN_OR_RETURN(std::optional<std::string> url, JsonFields(*image, part.NameOf("image_url.")).String("url"));
  if (!url.has_value()) return part.Invalid("image_url.url", "is missing");
  if (url->starts_with("data:")) {
    content.mutable_image()->set_data_uri(*std::move(url));
  } else {
    content.mutable_image()->set_url(*std::move(url));
  }
  return absl::OkStatus();
}

absl::Status ReadPart(const JsonFields& part, v1::ContentPart& content) {
  ASSIGN_OR_RETURN(const std::optional<std::string> type, part.String("type"));
  if (type == "image_url") return ReadImage(part, content);
  if (type != "text" && type != "refusal") return part.Invalid("type", "must be text, refusal or image_url");
  ASSIGN_OR_RETURN(std::optional<std::string> text, part.String(*type));
  if (!text.has_value()) return part.Invalid(*type, "is missing");
  content.set_text(*std::move(text));
  return absl::OkStatus();
}

// A string, or an array of parts.
absl::Status ReadContent(const JsonFields& fields, v1::Message& message) {
  const Json* content = fields.Find("content");
  if (content == nullptr) return absl::OkStatus();
  if (content->is_string()) {
    message.add_parts()->set_text(content->get<std::string>());
    return absl::OkStatus();
  }
  if (!content->is_array()) return fields.Invalid("content", "must be a string or an array of parts");
  for (const Json& part : *content) {
    const std::string name = fields.NameOf(StrCat("content[", message.parts_size(), "]"));
    if (!part.is_object()) return InvalidField(name, "must be an object");
    RETURN_IF_ERROR(ReadPart(JsonFields(part, name + "."), *message.add_parts()));
  }
  return absl::OkStatus();
}

// {"id", "type": "function", "function": {"name", "arguments"}}.
absl::Status ReadToolCalls(const JsonFields& fields, v1::Message& message) {
  const Json* calls = fields.Find("tool_calls");
  if (calls == nullptr) return absl::OkStatus();
  if (!calls->is_array()) return fields.Invalid("tool_calls", "must be an array");
  for (const Json& json : *calls) {
    const std::string name = StrCat("tool_calls[", message.tool_calls_size(), "]");
    const Json* function = JsonFind(json, "function");
    if (function == nullptr || !function->is_object()) return fields.Invalid(name, "must have a function");
    const JsonFields inner(*function, fields.NameOf(name + ".function."));
    v1::ToolCall& call = *message.add_tool_calls();
    ASSIGN_OR_RETURN(const std::optional<std::string> id, JsonFields(json, fields.NameOf(name + ".")).String("id"));
    ASSIGN_OR_RETURN(const std::optional<std::string> function_name, inner.String("name"));
    ASSIGN_OR_RETURN(const std::optional<std::string> arguments, inner.String("arguments"));
    call.set_id(id.value_or(""));
    call.set_name(function_name.value_or(""));
    call.set_arguments_json(arguments.value_or(""));
  }
  return absl::OkStatus();
}

absl::Status ReadMessage(const JsonFields& fields, v1::Message& message) {
  if (!fields.Has("role")) return fields.Invalid("role", "is missing");
  ASSIGN_OR_RETURN(const v1::Role role, ReadEnum(fields, "role", v1::ROLE_UNSPECIFIED, kRoles));
  message.set_role(role);
  RETURN_IF_ERROR(ReadContent(fields, message));
  RETURN_IF_ERROR(ReadToolCalls(fields, message));
  ASSIGN_OR_RETURN(const std::optional<std::string> name, fields.String("name"));
  ASSIGN_OR_RETURN(const std::optional<std::string> tool_call_id, fields.String("tool_call_id"));
  // Two names are about: that of DeepSeek and vLLM, and that of newer servers.
  ASSIGN_OR_RETURN(const std::optional<std::string> reasoning_content, fields.String("reasoning_content"));
  ASSIGN_OR_RETURN(const std::optional<std::string> reasoning, fields.String("reasoning"));
  message.set_name(name.value_or(""));
  message.set_tool_call_id(tool_call_id.value_or(""));
  message.set_reasoning(reasoning_content.value_or(reasoning.value_or("")));
  return absl::OkStatus();
}

absl::Status ReadMessages(const JsonFields& fields, v1::ChatInput& chat) {
  const Json* messages = fields.Find("messages");
  if (messages == nullptr) return fields.Invalid("messages", "is missing");
  if (!messages->is_array()) return fields.Invalid("messages", "must be an array");
  for (const Json& message : *messages) {
    const std::string name = fields.NameOf(StrCat("messages[", chat.messages_size(), "]"));
    if (!message.is_object()) return InvalidField(name, "must be an object");
    RETURN_IF_ERROR(ReadMessage(JsonFields(message, name + "."), *chat.add_messages()));
  }
  return absl::OkStatus();
}

// {"type": "function", "function": {"name", "description", "parameters", "strict"}}.
absl::Status ReadTools(const JsonFields& fields, v1::ChatInput& chat) {
  const Json* tools = fields.Find("tools");
  if (tools == nullptr) return absl::OkStatus();
  if (!tools->is_array()) return fields.Invalid("tools", "must be an array");
  for (const Json& tool : *tools) {
    const std::string place = StrCat("tools[", chat.tools_size(), "]");
    const Json* json = JsonFind(tool, "function");
    if (json == nullptr || !json->is_object()) return fields.Invalid(place, "must have a function");
    const JsonFields inner(*json, fields.NameOf(place + ".function."));
    v1::FunctionTool& function = *chat.add_tools()->mutable_function();
    ASSIGN_OR_RETURN(const std::optional<std::string> name, inner.String("name"));
    ASSIGN_OR_RETURN(const std::optional<std::string> description, inner.String("description"));
    ASSIGN_OR_RETURN(const std::optional<bool> strict, inner.Bool("strict"));
    function.set_name(name.value_or(""));
    function.set_description(description.value_or(""));
    if (const Json* parameters = inner.Find("parameters"); parameters != nullptr) {
      if (!parameters->is_object()) return inner.Invalid("parameters", "must be an object");
      function.set_parameters_json_schema(DumpJson(*parameters));
    }
    if (strict.has_value()) function.set_strict(*strict);
  }
  return absl::OkStatus();
}

// "auto", "none", "required", or {"type": "function", "function": {"name"}}.
absl::Status ReadToolChoice(const JsonFields& fields, v1::ChatInput& chat) {
  const Json* choice = fields.Find("tool_choice");
  if (choice == nullptr) return absl::OkStatus();
  if (const Json* function = JsonFind(*choice, "function"); function != nullptr) {
    const JsonFields inner(*function, fields.NameOf("tool_choice.function."));
    ASSIGN_OR_RETURN(const std::optional<std::string> name, inner.String("name"));
    chat.mutable_tool_choice()->set_function_name(name.value_or(""));
    return absl::OkStatus();
  }
  constexpr std::array<std::pair<std::string_view, v1::ToolChoice::Mode>, 3> kModes = {
      {{"auto", v1::ToolChoice::MODE_AUTO},
       {"none", v1::ToolChoice::MODE_NONE},
       {"required", v1::ToolChoice::MODE_REQUIRED}}};
  ASSIGN_OR_RETURN(const v1::ToolChoice::Mode mode,
                   ReadEnum(fields, "tool_choice", v1::ToolChoice::MODE_UNSPECIFIED, kModes));
  chat.mutable_tool_choice()->set_mode(mode);
  return absl::OkStatus();
}

// `logprobs` asks for the tokens' own, `top_logprobs` for so many beside each.
absl::Status ReadLogprobs(const JsonFields& fields, v1::OutputOptions& output) {
  ASSIGN_OR_RETURN(const std::optional<bool> logprobs, fields.Bool("logprobs"));
  ASSIGN_OR_RETURN(const std::optional<int64_t> top, fields.Integer("top_logprobs", 0, UINT32_MAX));
  if (!logprobs.value_or(false)) {
    if (top.value_or(0) > 0) return fields.Invalid("top_logprobs", "needs logprobs to be true");
    return absl::OkStatus();
  }
  output.mutable_logprobs()->set_top_n(static_cast<uint32_t>(top.value_or(0)));
  return absl::OkStatus();
}

// One entry of choices[].logprobs.content.
Json TokenJson(const v1::TokenLogprob& token) {
  Json json;
  json["token"] = token.text();
  json["logprob"] = LogprobJson(token.logprob());
  json["bytes"] = BytesJson(token.text_bytes());
  Json top = Json::array();
  for (const v1::TopLogprob& other : token.top()) {
    Json entry;
    entry["token"] = other.text();
    entry["logprob"] = LogprobJson(other.logprob());
    entry["bytes"] = BytesJson(other.text_bytes());
    top.push_back(std::move(entry));
  }
  json["top_logprobs"] = std::move(top);
  return json;
}

// Null for output without log-probabilities.
template <typename Output>
Json LogprobsJson(const Output& output) {
  if (output.logprobs().empty()) return Json();
  Json content = Json::array();
  for (const v1::TokenLogprob& token : output.logprobs()) content.push_back(TokenJson(token));
  Json json;
  json["content"] = std::move(content);
  json["refusal"] = Json();
  return json;
}

Json ToolCallJson(const v1::ToolCall& call) {
  Json function;
  function["name"] = call.name();
  function["arguments"] = call.arguments_json();
  Json json;
  json["id"] = call.id();
  json["type"] = "function";
  json["function"] = std::move(function);
  return json;
}

// A piece of a call: the first has its id and name, those that follow only arguments.
Json ToolCallPieceJson(const v1::ToolCall& call) {
  Json json;
  json["index"] = call.index();
  Json function;
  if (!call.id().empty()) {
    json["id"] = call.id();
    json["type"] = "function";
    function["name"] = call.name();
  }
  function["arguments"] = call.arguments_json();
  json["function"] = std::move(function);
  return json;
}

Json MessageJson(const v1::Candidate& candidate) {
  Json message;
  message["role"] = "assistant";
  const bool has_only_calls = candidate.text().empty() && !candidate.tool_calls().empty();
  message["content"] = has_only_calls ? Json() : Json(candidate.text());
  message["refusal"] = Json();
  if (!candidate.reasoning().empty()) message["reasoning_content"] = candidate.reasoning();
  if (!candidate.tool_calls().empty()) {
    Json calls = Json::array();
    for (const v1::ToolCall& call : candidate.tool_calls()) calls.push_back(ToolCallJson(call));
    message["tool_calls"] = std::move(calls);
  }
  return message;
}

// Members that would change the answer, and are not to be had here. Others that are not known are ignored: OpenAI's
// clients send many that only its own service has a use for.
absl::Status RefuseUnsupported(const JsonFields& fields) {
  if (const Json* functions = fields.Find("functions"); functions != nullptr && !functions->empty()) {
    return fields.Invalid("functions", "is not supported; give them as tools");
  }
  if (fields.Has("web_search_options")) return fields.Invalid("web_search_options", "is not supported");
  const Json* modalities = fields.Find("modalities");
  if (modalities != nullptr && *modalities != Json::array({"text"})) {
    return fields.Invalid("modalities", "must be [\"text\"]");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::ChatInput> ReadChat(const JsonFields& fields) {
  v1::ChatInput chat;
  RETURN_IF_ERROR(ReadMessages(fields, chat));
  RETURN_IF_ERROR(ReadTools(fields, chat));
  RETURN_IF_ERROR(ReadToolChoice(fields, chat));
  ASSIGN_OR_RETURN(const std::optional<bool> parallel, fields.Bool("parallel_tool_calls"));
  // Clients send it without tools, too, where it means nothing.
  if (parallel.has_value() && chat.tools_size() > 0) chat.set_parallel_tool_calls(*parallel);
  ASSIGN_OR_RETURN(std::optional<std::string> chat_template, fields.String("chat_template"));
  if (chat_template.has_value()) chat.set_chat_template(*std::move(chat_template));
  if (const Json* variables = fields.Find("chat_template_kwargs"); variables != nullptr) {
    if (!variables->is_object()) return fields.Invalid("chat_template_kwargs", "must be an object");
    *chat.mutable_template_kwargs() = ToStruct(*variables);
  }
  ASSIGN_OR_RETURN(const std::optional<bool> add_prompt, fields.Bool("add_generation_prompt"));
  if (add_prompt.has_value()) chat.set_add_generation_prompt(*add_prompt);
  ASSIGN_OR_RETURN(const std::optional<bool> continues, fields.Bool("continue_final_message"));
  if (continues.has_value()) chat.set_continue_final_message(*continues);
  if (fields.Has("reasoning_effort")) {
    ASSIGN_OR_RETURN(const v1::ReasoningEffort effort,
                     ReadEnum(fields, "reasoning_effort", v1::REASONING_EFFORT_UNSPECIFIED, kEfforts));
    chat.set_reasoning_effort(effort);
  }
  return chat;
}

absl::StatusOr<v1::GenerateRequest> ReadChatRequest(const Json& body) {
  const JsonFields fields(body);
  v1::GenerateRequest request;
  RETURN_IF_ERROR(RefuseUnsupported(fields));
  RETURN_IF_ERROR(ReadSharedFields(fields, request));
  ASSIGN_OR_RETURN(*request.mutable_chat(), ReadChat(fields));
  RETURN_IF_ERROR(ReadLogprobs(fields, *request.mutable_output()));
  // What a model does not mark stays in the text.
  request.mutable_output()->set_separate_reasoning(true);
  request.mutable_output()->set_parse_tool_calls(request.chat().tools_size() > 0);
  return request;
}

Json ChatCompletionJson(const v1::GenerateResponse& response) {
  Json choices = Json::array();
  for (const v1::Candidate& candidate : response.candidates()) {
    Json choice;
    choice["index"] = candidate.index();
    choice["message"] = MessageJson(candidate);
    choice["logprobs"] = LogprobsJson(candidate);
    AddFinish(candidate, choice);
    choices.push_back(std::move(choice));
  }
  Json json = AnswerHead("chatcmpl-", "chat.completion", response);
  json["choices"] = std::move(choices);
  json["usage"] = UsageJson(response.usage());
  return json;
}

Json ChatChunkJson(const v1::Accepted& accepted) {
  return AnswerHead("chatcmpl-", "chat.completion.chunk", accepted);
}

Json ChatDeltaJson(const v1::Delta& delta, bool is_first) {
  Json piece = Json::object();
  if (is_first) piece["role"] = "assistant";
  if (is_first || !delta.text().empty()) piece["content"] = delta.text();
  if (!delta.reasoning().empty()) piece["reasoning_content"] = delta.reasoning();
  if (!delta.tool_calls().empty()) {
    Json calls = Json::array();
    for (const v1::ToolCall& call : delta.tool_calls()) calls.push_back(ToolCallPieceJson(call));
    piece["tool_calls"] = std::move(calls);
  }
  Json choice;
  choice["index"] = delta.index();
  choice["delta"] = std::move(piece);
  choice["logprobs"] = LogprobsJson(delta);
  choice["finish_reason"] = Json();
  return choice;
}

Json ChatEndJson(const v1::Finished& finished, bool is_first) {
  Json piece = Json::object();
  if (is_first) {
    piece["role"] = "assistant";
    piece["content"] = "";
  }
  Json choice;
  choice["index"] = finished.index();
  choice["delta"] = std::move(piece);
  choice["logprobs"] = Json();
  AddFinish(finished, choice);
  return choice;
}

}  // namespace expertd::rest
