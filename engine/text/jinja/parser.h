// Turns a template into its tree with the grammar of jinja2's parser, the loop controls and the `generation` tag.
#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/text/jinja/ast.h"

namespace expertd::jinja {

// Parses `source` (valid UTF-8). Variables are not resolved yet. Errors: InvalidArgument "line N: what".
absl::StatusOr<std::unique_ptr<TemplateNode>> ParseTemplate(std::string_view source);

}  // namespace expertd::jinja
