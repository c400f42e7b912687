// ChatInput of the contract to the JSON that chat templates read: the shape of OpenAI's messages and tools, as the
// templates in model folders expect it (contents as strings, arguments of calls as objects).
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "server/convert.h"
#include "server/status.h"

namespace expertd {
namespace {

constexpr int kMaxMessages = 10'000;
constexpr int kMaxTools = 512;
constexpr size_t kMaxToolNameBytes = 64;
constexpr size_t kMaxTemplateKwargsBytes = 64 << 10;
constexpr int kMaxStructDepth = 16;
constexpr int kMaxJsonDepth = 64;
// Variables and functions that the server gives to templates.
constexpr std::array<std::string_view, 14> kReservedVariables = {
    "messages",  "tools",     "add_generation_prompt", "continue_final_message", "chat_template", "tokenize",
    "bos_token", "eos_token", "pad_token", "unk_token", "raise_exception", "strftime_now", "namespace", "range"};

absl::StatusOr<std::string_view> RoleName(v1::Role role, const std::string& path) {
  switch (role) {
    case v1::ROLE_SYSTEM: return "system";
    case v1::ROLE_DEVELOPER: return "developer";
    case v1::ROLE_USER: return "user";
    case v1::ROLE_ASSISTANT: return "assistant";
    case v1::ROLE_TOOL: return "tool";
    default: return InvalidParameter(path, StrCat("is ", static_cast<int>(role), "; must be a known role"));
  }
}

// Text parts joined by line breaks, as vLLM does for templates that take strings; null when there is no part, so that
// templates can tell a turn that only calls tools.
absl::StatusOr<Json> ContentOf(const v1::Message& message, const std::string& path) {
  if (message.parts().empty()) return Json(nullptr);
  std::string content;
  for (int i = 0; i < message.parts_size(); ++i) {
    const v1::ContentPart& part = message.parts(i);
    const std::string part_path = StrCat(path, ".parts[", i, "]");
    switch (part.part_case()) {
      case v1::ContentPart::kText: break;
      case v1::ContentPart::kImage:
        return UnsupportedFeature(StrCat(part_path, ".image"), "pictures are not supported");
      case v1::ContentPart::kVideo:
        return UnsupportedFeature(StrCat(part_path, ".video"), "films are not supported");
      default: return InvalidParameter(part_path, "is empty; must have text");
    }
    if (i > 0) content.push_back('\n');
    content += part.text();
  }
  return Json(std::move(content));
}

// Finds the first key that an object has twice: of two equal parameters the template would show one, and which one is
// anybody's guess. Takes the parser's events; the text is known to be JSON.
class DuplicateKeyFinder final : public Json::json_sax_t {
 public:
  const std::optional<std::string>& found() const { return found_; }

  bool start_object(size_t) override {
    keys_.emplace_back();
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    return true;
  }
  bool key(std::string& key) override {
    if (!keys_.back().insert(key).second) found_ = key;
    return !found_.has_value();
  }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(Json::number_integer_t) override { return true; }
  bool number_unsigned(Json::number_unsigned_t) override { return true; }
  bool number_float(Json::number_float_t, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(Json::binary_t&) override { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  std::vector<absl::flat_hash_set<std::string>> keys_;  // of the objects that are open
  std::optional<std::string> found_;
};

absl::StatusOr<Json> JsonObjectOf(const std::string& text, const std::string& path) {
  if (text.empty()) return Json::object();
  absl::StatusOr<Json> parsed = ParseJson(text, kMaxJsonDepth);
  if (!parsed.ok()) {
    return InvalidParameter(path, StrCat("is not JSON: ", ToStdView(parsed.status().message())));
  }
  if (!parsed->is_object()) return InvalidParameter(path, "must be a JSON object");
  DuplicateKeyFinder finder;
  Json::sax_parse(text, &finder);
  if (finder.found().has_value()) {
    return InvalidParameter(path, StrCat("has the key '", ToValidUtf8(*finder.found(), kMaxToolNameBytes),
                                         "' twice in one object"));
  }
  return *std::move(parsed);
}

absl::Status CheckToolName(const std::string& name, const std::string& path) {
  const auto allowed = [](char c) {
    const bool is_alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return is_alphanumeric || c == '_' || c == '-' || c == '.';
  };
  if (!name.empty() && name.size() <= kMaxToolNameBytes && std::all_of(name.begin(), name.end(), allowed)) {
    return absl::OkStatus();
  }
  return InvalidParameter(path, StrCat("must be 1..", kMaxToolNameBytes, " characters of [A-Za-z0-9_.-]"));
}

absl::StatusOr<Json> ToolCallsOf(const v1::Message& message, const std::string& path) {
  Json calls = Json::array();
  for (int i = 0; i < message.tool_calls_size(); ++i) {
    const v1::ToolCall& call = message.tool_calls(i);
    const std::string call_path = StrCat(path, ".tool_calls[", i, "]");
    RETURN_IF_ERROR(CheckToolName(call.name(), call_path + ".name"));
    ASSIGN_OR_RETURN(Json arguments, JsonObjectOf(call.arguments_json(), call_path + ".arguments_json"));
    Json entry = Json::object();
    if (!call.id().empty()) entry["id"] = call.id();
    entry["type"] = "function";
    entry["function"] = Json::object();
    entry["function"]["name"] = call.name();
    entry["function"]["arguments"] = std::move(arguments);
    calls.push_back(std::move(entry));
  }
  return calls;
}

absl::StatusOr<Json> MessageOf(const v1::Message& message, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string_view role, RoleName(message.role(), path + ".role"));
  const bool is_assistant = message.role() == v1::ROLE_ASSISTANT;
  if (!is_assistant && message.tool_calls_size() > 0) {
    return InvalidParameter(path + ".tool_calls", "is allowed for role ASSISTANT only");
  }
  if (!is_assistant && !message.reasoning().empty()) {
    return InvalidParameter(path + ".reasoning", "is allowed for role ASSISTANT only");
  }
  if (message.role() != v1::ROLE_TOOL && !message.tool_call_id().empty()) {
    return InvalidParameter(path + ".tool_call_id", "is allowed for role TOOL only");
  }
  if (message.parts().empty() && !(is_assistant && message.tool_calls_size() > 0)) {
    return InvalidParameter(path + ".parts", "is empty");
  }
  Json json = Json::object();
  json["role"] = std::string(role);
  ASSIGN_OR_RETURN(json["content"], ContentOf(message, path));
  if (!message.name().empty()) json["name"] = message.name();
  if (!message.tool_call_id().empty()) json["tool_call_id"] = message.tool_call_id();
  if (!message.reasoning().empty()) json["reasoning_content"] = message.reasoning();
  if (message.tool_calls_size() > 0) {
    ASSIGN_OR_RETURN(json["tool_calls"], ToolCallsOf(message, path));
  }
  return json;
}

// Null when there is none, or none may be used.
absl::StatusOr<Json> ToolsOf(const v1::ChatInput& chat) {
  if (chat.tools_size() > kMaxTools) {
    return InvalidParameter("chat.tools", StrCat("has ", chat.tools_size(), " entries; at most ", kMaxTools));
  }
  Json tools = Json::array();
  for (int i = 0; i < chat.tools_size(); ++i) {
    const std::string path = StrCat("chat.tools[", i, "].function");
    if (!chat.tools(i).has_function()) return InvalidParameter(path, "is missing");
    const v1::FunctionTool& function = chat.tools(i).function();
    RETURN_IF_ERROR(CheckToolName(function.name(), path + ".name"));
    ASSIGN_OR_RETURN(Json parameters,
                     JsonObjectOf(function.parameters_json_schema(), path + ".parameters_json_schema"));
    Json entry = Json::object();
    entry["type"] = "function";
    entry["function"] = Json::object();
    entry["function"]["name"] = function.name();
    if (!function.description().empty()) entry["function"]["description"] = function.description();
    entry["function"]["parameters"] = std::move(parameters);
    tools.push_back(std::move(entry));
  }
  if (tools.empty() || chat.tool_choice().mode() == v1::ToolChoice::MODE_NONE) return Json(nullptr);
  return tools;
}

absl::StatusOr<ToolUse> ToolUseOf(const v1::ChatInput& chat) {
  const v1::ToolChoice& choice = chat.tool_choice();
  ToolUse use;
  use.only_tool = choice.function_name();
  use.is_required = choice.has_function_name() || choice.mode() == v1::ToolChoice::MODE_REQUIRED;
  use.is_single = chat.has_parallel_tool_calls() && !chat.parallel_tool_calls();
  if (use.is_required && chat.tools().empty()) return InvalidParameter("chat.tool_choice", "needs tools");
  bool is_known = !choice.has_function_name();
  for (const v1::Tool& tool : chat.tools()) {
    const v1::FunctionTool& function = tool.function();
    if (function.strict()) use.strict_tools.push_back(function.name());
    is_known = is_known || function.name() == choice.function_name();
  }
  if (is_known) return use;
  return InvalidParameter("chat.tool_choice.function_name",
                          StrCat("is '", ToValidUtf8(choice.function_name(), kMaxToolNameBytes),
                                 "'; must be the name of one of chat.tools"));
}

absl::StatusOr<Json> ToJson(const google::protobuf::Value& value, int depth);

absl::StatusOr<Json> ToJson(const google::protobuf::Struct& object, int depth) {
  if (depth > kMaxStructDepth) {
    return InvalidParameter("chat.template_kwargs", StrCat("is nested deeper than ", kMaxStructDepth));
  }
  // A protobuf map has no order; templates that print an object must not print it differently each time.
  std::map<std::string_view, const google::protobuf::Value*> fields;
  for (const auto& [name, value] : object.fields()) fields[name] = &value;
  Json json = Json::object();
  for (const auto& [name, value] : fields) {
    ASSIGN_OR_RETURN(json[std::string(name)], ToJson(*value, depth + 1));
  }
  return json;
}

absl::StatusOr<Json> ToJson(const google::protobuf::Value& value, int depth) {
  constexpr double kMaxExactInteger = 9007199254740992.0;  // 2^53
  switch (value.kind_case()) {
    case google::protobuf::Value::kBoolValue: return Json(value.bool_value());
    case google::protobuf::Value::kStringValue: return Json(value.string_value());
    case google::protobuf::Value::kNumberValue: {
      const double number = value.number_value();
      if (!std::isfinite(number)) return InvalidParameter("chat.template_kwargs", "has a number that isn't finite");
      if (number == std::floor(number) && std::fabs(number) <= kMaxExactInteger) {
        return Json(static_cast<int64_t>(number));  // templates print 3, not 3.0
      }
      return Json(number);
    }
    case google::protobuf::Value::kStructValue: return ToJson(value.struct_value(), depth);
    case google::protobuf::Value::kListValue: {
      if (depth > kMaxStructDepth) {
        return InvalidParameter("chat.template_kwargs", StrCat("is nested deeper than ", kMaxStructDepth));
      }
      Json list = Json::array();
      for (const google::protobuf::Value& element : value.list_value().values()) {
        ASSIGN_OR_RETURN(Json json, ToJson(element, depth + 1));
        list.push_back(std::move(json));
      }
      return list;
    }
    default: return Json(nullptr);
  }
}

std::string_view EffortName(v1::ReasoningEffort effort) {
  switch (effort) {
    case v1::REASONING_EFFORT_NONE: return "none";
    case v1::REASONING_EFFORT_MINIMAL: return "minimal";
    case v1::REASONING_EFFORT_LOW: return "low";
    case v1::REASONING_EFFORT_MEDIUM: return "medium";
    case v1::REASONING_EFFORT_HIGH: return "high";
    default: return "";
  }
}

absl::StatusOr<Json> TemplateKwargsOf(const v1::ChatInput& chat) {
  if (chat.template_kwargs().ByteSizeLong() > kMaxTemplateKwargsBytes) {
    return InvalidParameter("chat.template_kwargs", StrCat("is larger than ", kMaxTemplateKwargsBytes, " bytes"));
  }
  for (const auto& [name, value] : chat.template_kwargs().fields()) {
    if (std::find(kReservedVariables.begin(), kReservedVariables.end(), name) != kReservedVariables.end()) {
      return InvalidParameter(StrCat("chat.template_kwargs.", ToValidUtf8(name, 64)), "is the server's own variable");
    }
  }
  ASSIGN_OR_RETURN(Json kwargs, ToJson(chat.template_kwargs(), 0));
  if (const std::string_view effort = EffortName(chat.reasoning_effort()); !effort.empty()) {
    if (kwargs.contains("reasoning_effort")) {
      return InvalidParameter("chat.reasoning_effort", "is given by chat.template_kwargs too");
    }
    kwargs["reasoning_effort"] = std::string(effort);
  }
  return kwargs;
}

}  // namespace

absl::StatusOr<ChatInput> ToChatInput(const v1::ChatInput& chat) {
  if (chat.messages().empty() || chat.messages_size() > kMaxMessages) {
    return InvalidParameter("chat.messages",
                            StrCat("has ", chat.messages_size(), " entries; must have 1..", kMaxMessages));
  }
  if (chat.has_chat_template()) {
    return UnsupportedFeature("chat.chat_template", "templates are taken from the model's folder only");
  }
  if (chat.continue_final_message() && chat.add_generation_prompt()) {
    return InvalidParameter("chat.continue_final_message", "excludes chat.add_generation_prompt");
  }
  ChatInput input;
  for (int i = 0; i < chat.messages_size(); ++i) {
    ASSIGN_OR_RETURN(Json message, MessageOf(chat.messages(i), StrCat("chat.messages[", i, "]")));
    input.messages.push_back(std::move(message));
  }
  ASSIGN_OR_RETURN(input.tools, ToolsOf(chat));
  ASSIGN_OR_RETURN(input.tool_use, ToolUseOf(chat));
  ASSIGN_OR_RETURN(input.template_kwargs, TemplateKwargsOf(chat));
  input.continue_final_message = chat.continue_final_message();
  input.add_generation_prompt =
      chat.has_add_generation_prompt() ? chat.add_generation_prompt() : !input.continue_final_message;
  return input;
}

}  // namespace expertd
