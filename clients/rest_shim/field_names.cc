#include "clients/rest_shim/field_names.h"

#include <utility>

#include "absl/strings/str_replace.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

// The first that a field begins with counts; what follows it is kept.
constexpr std::pair<std::string_view, std::string_view> kBeginnings[] = {
    {"text.truncate_to", "truncate_prompt_tokens"},
    {"text.add_special_tokens", "add_special_tokens"},
    {"text.text", "prompt"},
    {"text", "prompt"},
    {"tokens.ids", "prompt"},
    {"tokens", "prompt"},
    {"chat.template_kwargs", "chat_template_kwargs"},
    {"chat.tool_choice.function_name", "tool_choice.function.name"},
    {"stop.strings", "stop"},
    {"stop.token_ids", "stop_token_ids"},
    {"stop.include_stop_in_output", "include_stop_str_in_output"},
    {"output.logprobs.top_n", "logprobs"},
    {"output.prompt_logprobs.top_n", "logprobs"},
    {"structured.choices.values", "structured_outputs.choice"},
    {"structured.choices", "structured_outputs.choice"},
    {"structured.regex", "structured_outputs.regex"},
    {"structured.grammar", "structured_outputs.grammar"},
    {"structured.json_schema", "response_format"},
    {"structured", "response_format"},
    {"cache.salt", "cache_salt"},
};

constexpr std::string_view kGroups[] = {"sampling.", "stop.", "output.", "chat.", "scheduling."};

// Whether `field` is `path`, or a part of it.
bool IsWithin(std::string_view field, std::string_view path) {
  if (!field.starts_with(path)) return false;
  const std::string_view rest = field.substr(path.size());
  return rest.empty() || rest.starts_with('.') || rest.starts_with('[');
}

}  // namespace

std::string RestNameOf(std::string_view field) {
  for (const auto& [path, name] : kBeginnings) {
    if (IsWithin(field, path)) return StrCat(name, field.substr(path.size()));
  }
  for (const std::string_view group : kGroups) {
    if (!field.starts_with(group)) continue;
    field.remove_prefix(group.size());
    break;
  }
  const bool is_of_chat = field.starts_with("messages[") || field.starts_with("tools[");
  if (!is_of_chat) return std::string(field);
  std::string name(field);
  if (const size_t call = name.find(".tool_calls["); call != std::string::npos) {
    const size_t end = name.find(']', call);
    if (end != std::string::npos && end + 1 < name.size()) name.insert(end + 1, ".function");
  }
  return absl::StrReplaceAll(name, {{".parts", ".content"},
                                    {".image", ".image_url"},
                                    {".arguments_json", ".arguments"},
                                    {".parameters_json_schema", ".parameters"}});
}

}  // namespace expertd::rest
