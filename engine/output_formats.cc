#include "engine/output_formats.h"

#include <string_view>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

constexpr std::pair<std::string_view, ToolFormat> kToolFormats[] = {
    {"hermes", ToolFormat::kHermes},
    {"deepseek_v3", ToolFormat::kDeepseek},
    {"deepseek_v31", ToolFormat::kDeepseekV31},
    {"pangu", ToolFormat::kPangu},
};

struct ReasoningFormat {
  std::string_view name, open, close;
};
constexpr ReasoningFormat kReasoningFormats[] = {
    {"deepseek_r1", "<think>", "</think>"},
    {"qwen3", "<think>", "</think>"},
    {"pangu", "[unused16]", "[unused17]"},
};

// The vocabulary's marks, unless there is a template and it does not know of them: models that do not think share
// vocabularies with those that do. Pangu's templates say nothing of theirs.
std::optional<ReasoningMarks> FindMarksInUse(const Tokenizer& tokenizer, const ChatTemplate* chat_template) {
  const std::optional<ReasoningMarks> marks = FindReasoningMarks(tokenizer);
  if (!marks.has_value() || chat_template == nullptr) return marks;
  const bool is_pangu = tokenizer.TokenBytes(marks->close) == "[unused17]";
  if (is_pangu || chat_template->tool_source().find("think>") != std::string::npos) return marks;
  return std::nullopt;
}

absl::StatusOr<std::optional<ReasoningMarks>> ReasoningOf(const Tokenizer& tokenizer,
                                                          const ChatTemplate* chat_template, const std::string& name) {
  if (name == "auto") return FindMarksInUse(tokenizer, chat_template);
  for (const ReasoningFormat& format : kReasoningFormats) {
    if (format.name != name) continue;
    const std::optional<TokenId> open = tokenizer.TokenToId(format.open), close = tokenizer.TokenToId(format.close);
    if (open.has_value() && close.has_value()) return ReasoningMarks{*open, *close};
    return absl::InvalidArgumentError(StrCat("--reasoning-parser is ", name, ", but the vocabulary has no tokens ",
                                             format.open, " and ", format.close));
  }
  return std::nullopt;
}

std::optional<ToolFormat> ToolsOf(const ChatTemplate* chat_template, const std::string& name) {
  if (name == "auto") return chat_template == nullptr ? std::nullopt : FindToolFormat(chat_template->tool_source());
  for (const auto& [known, format] : kToolFormats) {
    if (known == name) return format;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<OutputFormats> FindOutputFormats(const Tokenizer& tokenizer, const ChatTemplate* chat_template,
                                                const std::string& reasoning_parser,
                                                const std::string& tool_call_parser) {
  OutputFormats formats;
  ASSIGN_OR_RETURN(formats.reasoning, ReasoningOf(tokenizer, chat_template, reasoning_parser));
  formats.tools = ToolsOf(chat_template, tool_call_parser);
  return formats;
}

std::vector<std::string> ReasoningParserNames() {
  std::vector<std::string> names = {"auto", "none"};
  for (const ReasoningFormat& format : kReasoningFormats) names.emplace_back(format.name);
  return names;
}

std::vector<std::string> ToolCallParserNames() {
  std::vector<std::string> names = {"auto", "none"};
  for (const auto& [name, format] : kToolFormats) names.emplace_back(name);
  return names;
}

}  // namespace expertd
