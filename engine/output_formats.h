// OutputFormats: what a model's output is made of beside the answer - reasoning and calls of tools - and how it marks
// them. Found once for a model folder.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/chat_template.h"
#include "engine/text/reasoning_marks.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tool_call_parser.h"

namespace expertd {

struct OutputFormats {
  std::optional<ReasoningMarks> reasoning;  // nullopt: the model does not reason aloud
  std::optional<ToolFormat> tools;          // nullopt: it calls no tools, or in a form that is not known
};

// As `reasoning_parser` and `tool_call_parser` name them: "auto" (marks that the vocabulary has and the chat template
// speaks of; the template may be null), "none", or a format, by vLLM's names. Errors: InvalidArgument for marks that
// `tokenizer` does not have.
absl::StatusOr<OutputFormats> FindOutputFormats(const Tokenizer& tokenizer, const ChatTemplate* chat_template,
                                                const std::string& reasoning_parser,
                                                const std::string& tool_call_parser);

// The names that the flags take.
std::vector<std::string> ReasoningParserNames();
std::vector<std::string> ToolCallParserNames();

}  // namespace expertd
