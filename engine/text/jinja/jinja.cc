#include "engine/text/jinja/jinja.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/parser.h"
#include "engine/text/jinja/runtime.h"
#include "engine/text/jinja/scope.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {

Template::Template(std::unique_ptr<const TemplateNode> root) : root_(std::move(root)) {}
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

absl::StatusOr<Template> Template::Parse(std::string_view source) {
  if (static_cast<int64_t>(source.size()) > kMaxSourceBytes) {
    return absl::ResourceExhaustedError(
        StrCat("the template has ", source.size(), " bytes; at most ", kMaxSourceBytes, " are allowed"));
  }
  if (!IsValidUtf8(source)) return absl::InvalidArgumentError("the template is not valid UTF-8");
  ASSIGN_OR_RETURN(std::unique_ptr<TemplateNode> root, ParseTemplate(source));
  RETURN_IF_ERROR(ResolveScopes(*root));
  return Template(std::move(root));
}

absl::StatusOr<std::string> Template::Render(const Json& variables, const RenderOptions& options) const {
  if (!variables.is_object()) return absl::InvalidArgumentError("the variables of a template must be a JSON object");
  ASSIGN_OR_RETURN(Value values, FromJson(variables));
  Runtime runtime(options);
  absl::StatusOr<std::string> text = Interpreter(runtime, *root_, std::move(values)).Run();
  if (text.ok() || runtime.was_raised) return text;
  return absl::Status(text.status().code(), StrCat("line ", runtime.line, ": ", ToStdView(text.status().message())));
}

}  // namespace expertd::jinja
