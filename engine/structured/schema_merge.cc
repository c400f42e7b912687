#include "engine/structured/schema_merge.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

constexpr int kMaxMergeDepth = 64;
constexpr int kMaxReferences = 64;  // one behind the other

absl::Status Error(std::string_view message) { return absl::InvalidArgumentError(std::string(message)); }

// A token of a JSON pointer in a fragment: %XX, then ~1 and ~0.
std::string Unescaped(std::string_view token) {
  std::string bytes;
  for (size_t i = 0; i < token.size(); ++i) {
    int byte = 0;
    if (token[i] == '%' && i + 2 < token.size() && absl::SimpleHexAtoi(ToAbslView(token.substr(i + 1, 2)), &byte)) {
      bytes += static_cast<char>(byte);
      i += 2;
    } else {
      bytes += token[i];
    }
  }
  std::string result;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const bool is_escape = bytes[i] == '~' && i + 1 < bytes.size() && (bytes[i + 1] == '0' || bytes[i + 1] == '1');
    result += is_escape ? (bytes[++i] == '0' ? '~' : '/') : bytes[i];
  }
  return result;
}

// Objects, arrays and what they hold, all in all.
int64_t CountValues(const Json& json) {
  int64_t count = 1;
  if (json.is_structured()) {
    for (const Json& element : json) count += CountValues(element);
  }
  return count;
}

absl::Status BudgetError() { return Error("to merge these schemas takes too long; use fewer or smaller ones"); }

absl::StatusOr<Json> MergeAt(const Json& a, const Json& b, const SchemaResolver& resolver, SchemaBudget& budget,
                             int depth);

absl::StatusOr<Json> MergeTypes(const Json& a, const Json& b) {
  const auto names = [](const Json& type) { return type.is_array() ? type : Json::array({type}); };
  Json both = Json::array();
  for (const Json& x : names(a)) {
    for (const Json& y : names(b)) {
      const bool is_integer = (x == "integer" && y == "number") || (x == "number" && y == "integer");
      if (x == y) both.push_back(x);
      else if (is_integer) both.push_back("integer");
    }
  }
  if (both.empty()) return Error(StrCat("no type is both ", DumpJson(a), " and ", DumpJson(b)));
  return both;
}

// Both have it, with different values.
absl::StatusOr<Json> MergeValues(const std::string& keyword, const Json& a, const Json& b,
                                 const SchemaResolver& resolver, SchemaBudget& budget, int depth) {
  const auto is_any = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), keyword) != names.end();
  };
  if (keyword == "type") return MergeTypes(a, b);
  if (is_any({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})) {
    return a.is_number() && b.is_number() && a.get<double>() < b.get<double>() ? b : a;
  }
  if (is_any({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})) {
    return a.is_number() && b.is_number() && a.get<double>() > b.get<double>() ? b : a;
  }
  const bool has_lists = a.is_array() && b.is_array();
  if (has_lists && is_any({"required", "enum"}) && !budget.Spend(static_cast<int64_t>(a.size() * b.size()))) {
    return BudgetError();
  }
  if (keyword == "required" && has_lists) {
    Json both = a;
    for (const Json& name : b) {
      if (std::find(a.begin(), a.end(), name) == a.end()) both.push_back(name);
    }
    return both;
  }
  if (keyword == "enum" && has_lists) {
    Json both = Json::array();
    for (const Json& value : a) {
      if (std::find(b.begin(), b.end(), value) != b.end()) both.push_back(value);
    }
    return both;
  }
  if (keyword == "properties" && a.is_object() && b.is_object()) {
    Json both = a;
    for (const auto& [name, schema] : b.items()) {
      if (!a.contains(name)) {
        both[name] = schema;
        continue;
      }
      ASSIGN_OR_RETURN(Json merged, MergeAt(a.at(name), schema, resolver, budget, depth + 1));
      both[name] = std::move(merged);
    }
    return both;
  }
  if (keyword == "items" && !a.is_array() && !b.is_array()) return MergeAt(a, b, resolver, budget, depth + 1);
  if (keyword == "allOf" && has_lists) {
    Json both = a;
    for (const Json& schema : b) both.push_back(schema);
    return both;
  }
  if (is_any({"title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly",
              "$comment", "$schema", "$id", "$defs", "definitions", "contentMediaType", "contentEncoding", "strict",
              "discriminator"})) {
    return a;
  }
  return Error(StrCat("two different values of '", keyword, "' can't be merged"));
}

// `additionalProperties` speaks of the properties beside it in its own schema: other ones must not come to it.
absl::Status CheckProperties(const Json& a, const Json& b) {
  const Json* additional = JsonFind(a, "additionalProperties");
  if (additional == nullptr || *additional == true) return absl::OkStatus();
  const Json* mine = JsonFind(a, "properties");
  const Json* theirs = JsonFind(b, "properties");
  if (theirs == nullptr || !theirs->is_object()) return absl::OkStatus();
  for (const auto& [name, schema] : theirs->items()) {
    if (mine == nullptr || !mine->contains(name)) {
      return Error(StrCat("additionalProperties of one schema speaks of the property '", name, "' of another"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> MergeAt(const Json& first, const Json& second, const SchemaResolver& resolver,
                             SchemaBudget& budget, int depth) {
  if (!budget.Spend(SchemaBudget::kStepsOfCopy * (CountValues(first) + CountValues(second)))) return BudgetError();
  if (depth > kMaxMergeDepth) return Error(StrCat("schemas to be merged are nested deeper than ", kMaxMergeDepth));
  if (first == second) return first;
  if (first.is_boolean()) return first.get<bool>() ? second : first;
  if (second.is_boolean()) return second.get<bool>() ? first : second;
  if (!first.is_object() || !second.is_object()) return Error("a schema is an object or a boolean");
  const auto resolved = [&](const Json& schema) -> absl::StatusOr<Json> {
    const Json* reference = JsonFind(schema, "$ref");
    if (reference == nullptr) return schema;
    std::string pointer;
    ASSIGN_OR_RETURN(const Json* target, resolver.Resolve(*reference, &pointer));
    Json rest = schema;
    rest.erase("$ref");
    return MergeAt(rest, *target, resolver, budget, depth + 1);
  };
  ASSIGN_OR_RETURN(Json merged, resolved(first));
  ASSIGN_OR_RETURN(const Json b, resolved(second));
  if (merged.is_boolean() || b.is_boolean()) return MergeAt(merged, b, resolver, budget, depth + 1);
  for (const char* keyword : {"items", "prefixItems", "additionalItems"}) {
    const bool is_tuple = merged.contains("prefixItems") || b.contains("prefixItems") ||
                          (merged.contains("items") && merged.at("items").is_array()) ||
                          (b.contains("items") && b.at("items").is_array());
    if (is_tuple && b.contains(keyword) && merged.contains("items") != b.contains("items")) {
      return Error(StrCat("'", keyword, "' of one schema speaks of the elements of another"));
    }
  }
  RETURN_IF_ERROR(CheckProperties(merged, b));
  RETURN_IF_ERROR(CheckProperties(b, merged));
  const Json a = merged;
  for (const auto& [keyword, value] : b.items()) {
    if (!a.contains(keyword)) {
      merged[keyword] = value;
    } else if (a.at(keyword) != value) {
      ASSIGN_OR_RETURN(Json both, MergeValues(keyword, a.at(keyword), value, resolver, budget, depth));
      merged[keyword] = std::move(both);
    }
  }
  return merged;
}

}  // namespace

std::string EscapedForPointer(std::string_view token) {
  std::string escaped;
  for (const char c : token) {
    if (c == '~') escaped += "~0";
    else if (c == '/') escaped += "~1";
    else escaped += c;
  }
  return escaped;
}

absl::StatusOr<const Json*> SchemaResolver::Resolve(const Json& reference, std::string* pointer) const {
  if (!reference.is_string()) return Error(StrCat("$ref is ", DumpJson(reference), "; must be a string"));
  const std::string& text = reference.get_ref<const std::string&>();
  if (text != "#" && !text.starts_with("#/")) {
    return Error(StrCat("$ref '", text, "' is not supported: only '#' and '#/...' lead somewhere"));
  }
  const Json* at = &root_;
  *pointer = "#";
  std::string_view rest = std::string_view(text).substr(1);
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('/', 1), rest.size());
    const std::string token = Unescaped(rest.substr(1, end - 1));
    size_t index = 0;
    if (at->is_object() && at->contains(token)) {
      at = &at->at(token);
    } else if (at->is_array() && absl::SimpleAtoi(token, &index) && index < at->size()) {
      at = &(*at)[index];
    } else {
      return Error(StrCat("$ref '", text, "' leads nowhere"));
    }
    pointer->append("/").append(EscapedForPointer(token));
    rest.remove_prefix(end);
  }
  return at;
}

const Json& SchemaResolver::Follow(const Json& schema) const {
  const Json* at = &schema;
  for (int i = 0; i < kMaxReferences; ++i) {
    const Json* reference = at->is_object() && at->size() == 1 ? JsonFind(*at, "$ref") : nullptr;
    if (reference == nullptr) return *at;
    std::string pointer;
    const absl::StatusOr<const Json*> target = Resolve(*reference, &pointer);
    if (!target.ok()) return schema;
    at = *target;
  }
  return schema;
}

absl::StatusOr<Json> MergeSchemas(const Json& a, const Json& b, const SchemaResolver& resolver, SchemaBudget& budget) {
  return MergeAt(a, b, resolver, budget, /*depth=*/0);
}

}  // namespace expertd
