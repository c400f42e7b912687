#include "clients/rest_shim/structured_json.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

// A schema as an object, or as the text of one.
absl::Status ReadSchema(const JsonFields& fields, std::string_view name, v1::StructuredOutput& structured) {
  const Json& schema = *fields.Find(name);
  if (!schema.is_string() && !schema.is_object() && !schema.is_boolean()) {
    return fields.Invalid(name, "must be a JSON schema");
  }
  structured.set_json_schema(schema.is_string() ? schema.get<std::string>() : DumpJson(schema));
  return absl::OkStatus();
}

absl::Status ReadChoices(const JsonFields& fields, std::string_view name, v1::StructuredOutput& structured) {
  const Json& choices = *fields.Find(name);
  if (!choices.is_array()) return fields.Invalid(name, "must be an array of strings");
  for (const Json& choice : choices) {
    if (!choice.is_string()) return fields.Invalid(name, "must be an array of strings");
    structured.mutable_choices()->add_values(choice.get<std::string>());
  }
  return absl::OkStatus();
}

// {"type": "text" | "json_object"}, or {"type": "json_schema", "json_schema": {"name", "schema", "strict"}}.
absl::Status ReadResponseFormat(const Json& format, v1::GenerateRequest& request) {
  const JsonFields fields(format, "response_format.");
  ASSIGN_OR_RETURN(const std::optional<std::string> type, fields.String("type"));
  if (type == "text") return absl::OkStatus();
  if (type == "json_object") {
    request.mutable_structured()->mutable_json_object();
    return absl::OkStatus();
  }
  if (type != "json_schema") return fields.Invalid("type", "must be text, json_object or json_schema");
  const Json* named = fields.Find("json_schema");
  if (named == nullptr || !named->is_object()) return fields.Invalid("json_schema", "must be an object with a schema");
  const JsonFields inner(*named, "response_format.json_schema.");
  if (!inner.Has("schema")) return inner.Invalid("schema", "is missing");
  return ReadSchema(inner, "schema", *request.mutable_structured());
}

// vLLM's fields: those of `structured_outputs`, and the older ones beside the others, which begin with `prefix`.
absl::Status ReadGuided(const JsonFields& fields, std::string_view prefix, v1::GenerateRequest& request) {
  const auto begin = [&](std::string_view name) -> absl::Status {
    if (!request.has_structured()) return absl::OkStatus();
    return fields.Invalid(name, "asks for a form beside another that is asked for");
  };
  const std::string json = StrCat(prefix, "json"), regex = StrCat(prefix, "regex");
  const std::string choice = StrCat(prefix, "choice"), grammar = StrCat(prefix, "grammar");
  if (fields.Has(json)) {
    RETURN_IF_ERROR(begin(json));
    RETURN_IF_ERROR(ReadSchema(fields, json, *request.mutable_structured()));
  }
  if (fields.Has(choice)) {
    RETURN_IF_ERROR(begin(choice));
    RETURN_IF_ERROR(ReadChoices(fields, choice, *request.mutable_structured()));
  }
  ASSIGN_OR_RETURN(std::optional<std::string> pattern, fields.String(regex));
  if (pattern.has_value()) {
    RETURN_IF_ERROR(begin(regex));
    request.mutable_structured()->set_regex(*std::move(pattern));
  }
  ASSIGN_OR_RETURN(std::optional<std::string> rules, fields.String(grammar));
  if (rules.has_value()) {
    RETURN_IF_ERROR(begin(grammar));
    request.mutable_structured()->set_grammar(*std::move(rules));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadStructured(const JsonFields& fields, v1::GenerateRequest& request) {
  if (const Json* format = fields.Find("response_format"); format != nullptr) {
    RETURN_IF_ERROR(ReadResponseFormat(*format, request));
  }
  RETURN_IF_ERROR(ReadGuided(fields, "guided_", request));
  const Json* outputs = fields.Find("structured_outputs");
  if (outputs == nullptr) return absl::OkStatus();
  if (!outputs->is_object()) return fields.Invalid("structured_outputs", "must be an object");
  const JsonFields inner(*outputs, fields.NameOf("structured_outputs."));
  constexpr std::array<std::string_view, 5> kKnown = {"json", "json_object", "regex", "choice", "grammar"};
  // vLLM's, of how and not of what.
  constexpr std::array<std::string_view, 5> kWithoutEffect = {
      "backend", "disable_any_whitespace", "disable_fallback", "disable_additional_properties", "whitespace_pattern"};
  for (const auto& [name, value] : outputs->items()) {
    const auto is_name = [&](std::string_view known) { return known == name; };
    if (std::any_of(kKnown.begin(), kKnown.end(), is_name) || value.is_null()) continue;
    if (std::any_of(kWithoutEffect.begin(), kWithoutEffect.end(), is_name)) continue;
    return inner.Invalid(name, "is not supported; json, json_object, regex, choice and grammar are");
  }
  ASSIGN_OR_RETURN(const std::optional<bool> any_object, inner.Bool("json_object"));
  if (any_object.value_or(false)) {
    if (request.has_structured()) return inner.Invalid("json_object", "asks for a form beside another");
    request.mutable_structured()->mutable_json_object();
  }
  return ReadGuided(inner, "", request);
}

}  // namespace expertd::rest
