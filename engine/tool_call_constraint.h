// What a request says of its tools - that one must be called, which one, that calls follow their schemas - as a
// constraint on the output.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "engine/request/request.h"
#include "engine/structured/tool_call_form.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tool_call_parser.h"

namespace expertd {

struct ToolCallConstraint {
  ToolCallForm form;
  int32_t trigger_token = -1;  // the form begins where this token is written; -1: with the output
};

// nullopt: the model may call what it likes as it likes, or there are no tools. `has_form`: whether the output must
// have a form of its own, in whose place calls may stand. `format`: nullopt when the model's is not known. Errors:
// Unimplemented UNSUPPORTED_FEATURE when the form that is needed is not known, or its marks are no tokens of the
// vocabulary where one must tell the beginning of a call.
absl::StatusOr<std::optional<ToolCallConstraint>> MakeToolCallConstraint(const ChatInput& chat, bool has_form,
                                                                         std::optional<ToolFormat> format,
                                                                         const Tokenizer& tokenizer);

}  // namespace expertd
