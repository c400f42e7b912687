#include "engine/tool_call_constraint.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/strings.h"
#include "engine/request/errors.h"

namespace expertd {
namespace {

absl::Status Unsupported(std::string_view message) {
  return MakeError(absl::StatusCode::kUnimplemented, message,
                   {.reason = std::string(error_reason::kUnsupportedFeature)});
}

// `text`, cut at the marks that are tokens of the vocabulary.
ToolCallForm::Pieces PiecesOf(std::string_view text, ToolFormat format, const Tokenizer& tokenizer) {
  ToolCallForm::Pieces pieces;
  while (!text.empty()) {
    size_t begin = text.size();
    std::string_view first;
    for (const std::string_view mark : MarksOf(format)) {
      const size_t at = text.find(mark);
      if (at >= begin || !tokenizer.TokenToId(mark).has_value()) continue;
      begin = at;
      first = mark;
    }
    if (begin > 0) pieces.push_back({.text = std::string(text.substr(0, begin))});
    if (!first.empty()) pieces.push_back({.token = *tokenizer.TokenToId(first)});
    text.remove_prefix(begin + first.size());
  }
  return pieces;
}

}  // namespace

absl::StatusOr<std::optional<ToolCallConstraint>> MakeToolCallConstraint(const ChatInput& chat, bool has_form,
                                                                         std::optional<ToolFormat> format,
                                                                         const Tokenizer& tokenizer) {
  if (chat.tools.is_null()) return std::nullopt;
  const ToolUse& use = chat.tool_use;
  const bool is_needed = use.is_required || !use.strict_tools.empty();
  if (!is_needed && (!has_form || !format.has_value())) return std::nullopt;
  const std::string_view wanted =
      use.is_required ? "a call of a tool can't be required" : "calls of tools can't be held to their schemas (strict)";
  if (!format.has_value()) {
    return Unsupported(StrCat(wanted, ": the chat template shows no form of calls that is known"));
  }
  ToolCallConstraint constraint;
  ToolCallForm& form = constraint.form;
  const ToolCallLayout layout = LayoutOf(*format);
  form.open = PiecesOf(layout.open, *format, tokenizer);
  form.before_name = PiecesOf(layout.before_name, *format, tokenizer);
  form.after_name = PiecesOf(layout.after_name, *format, tokenizer);
  form.after_arguments = PiecesOf(layout.after_arguments, *format, tokenizer);
  form.between = PiecesOf(layout.between, *format, tokenizer);
  form.close = PiecesOf(layout.close, *format, tokenizer);
  form.is_single = use.is_single || !use.only_tool.empty();
  for (const Json& tool : chat.tools) {
    const Json& function = tool["function"];
    const std::string name = function["name"].get<std::string>();
    if (!use.only_tool.empty() && name != use.only_tool) continue;
    const bool is_strict =
        std::find(use.strict_tools.begin(), use.strict_tools.end(), name) != use.strict_tools.end();
    form.tools.push_back({.name = name, .schema = ""});
    if (use.is_required || is_strict) form.tools.back().schema = DumpJson(function["parameters"]);
  }
  if (use.is_required || has_form) return constraint;
  constraint.trigger_token = (form.open.empty() ? form.before_name : form.open).front().token;
  if (constraint.trigger_token >= 0) return constraint;
  return Unsupported(StrCat(wanted, ": the vocabulary has no token that begins a call"));
}

}  // namespace expertd
