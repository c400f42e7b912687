#include "engine/structured/json_schema.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/container/flat_hash_map.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/structured/json_text.h"
#include "engine/structured/regex.h"
#include "engine/structured/schema_merge.h"

namespace expertd {
namespace {

using Expression = Grammar::Expression;

constexpr int kMaxCount = 100'000;       // of characters, elements, properties
constexpr int kMaxSchemas = 20'000;      // read in all, merged ones too
constexpr int kMaxEnumValues = 20'000;   // in all

// Keywords that say nothing about what is valid.
constexpr std::array<std::string_view, 17> kAnnotations = {
    "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$comment",
    "$schema", "$defs", "definitions", "contentMediaType", "contentEncoding", "strict", "$id",
    "discriminator"};

// Which type a keyword speaks of.
struct TypedKeyword {
  std::string_view keyword, type;
};
constexpr std::array<TypedKeyword, 23> kTypedKeywords = {{
    {"properties", "object"}, {"required", "object"}, {"additionalProperties", "object"},
    {"minProperties", "object"}, {"maxProperties", "object"}, {"unevaluatedProperties", "object"},
    {"propertyNames", "object"}, {"items", "array"}, {"prefixItems", "array"}, {"additionalItems", "array"},
    {"minItems", "array"}, {"maxItems", "array"}, {"uniqueItems", "array"}, {"unevaluatedItems", "array"},
    {"minLength", "string"}, {"maxLength", "string"}, {"pattern", "string"}, {"format", "string"},
    {"minimum", "number"}, {"maximum", "number"}, {"exclusiveMinimum", "number"}, {"exclusiveMaximum", "number"},
    {"multipleOf", "number"},
}};
constexpr std::array<std::string_view, 7> kOtherKeywords = {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"};

constexpr std::array<std::string_view, 6> kTypes = {"object", "array", "string", "number", "boolean", "null"};

// What `format` stands for: regular expressions of texts that every validator takes.
struct Format {
  std::string_view name, pattern;
};
#define EXPERTD_DATE                                                                    \
  "(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})-"                               \
  "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"        \
  "|02-(0[1-9]|1[0-9]|2[0-8]))"
#define EXPERTD_TIME \
  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define EXPERTD_HOURS \
  "T([0-9]{1,4}S|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?)"
#define EXPERTD_BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define EXPERTD_LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?"
constexpr std::array<Format, 10> kFormats = {{
    {"date", EXPERTD_DATE},
    {"time", EXPERTD_TIME},
    {"date-time", EXPERTD_DATE "T" EXPERTD_TIME},
    {"duration", "P([0-9]{1,4}W|([0-9]{1,4}D|[0-9]{1,4}M([0-9]{1,4}D)?|[0-9]{1,4}Y([0-9]{1,4}M([0-9]{1,4}D)?)?)"
                 "(" EXPERTD_HOURS ")?|" EXPERTD_HOURS ")"},
    {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
    {"email", "[A-Za-z0-9_+-]{1,20}(\\.[A-Za-z0-9_+-]{1,20}){0,2}@" EXPERTD_LABEL "(\\." EXPERTD_LABEL "){1,4}"},
    {"hostname", EXPERTD_LABEL "(\\." EXPERTD_LABEL "){0,4}"},
    {"ipv4", EXPERTD_BYTE "(\\." EXPERTD_BYTE "){3}"},
    {"ipv6", "([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}"},
    {"uri", "[a-z][a-z0-9+.-]{1,15}://" EXPERTD_LABEL "(\\." EXPERTD_LABEL "){0,4}(:[0-9]{1,4})?"
            "(/[A-Za-z0-9_.~-]{0,40}){0,8}(\\?[A-Za-z0-9_.~=&-]{0,80})?(#[A-Za-z0-9_.~-]{0,40})?"},
}};
#undef EXPERTD_DATE
#undef EXPERTD_TIME
#undef EXPERTD_HOURS
#undef EXPERTD_BYTE
#undef EXPERTD_LABEL

absl::Status ErrorAt(std::string_view pointer, std::string_view message) {
  return absl::InvalidArgumentError(StrCat("schema at ", pointer.empty() ? "#" : pointer, ": ", message));
}

// The fewest and the most characters of a text of `expression`, which has neither rules nor open ends.
std::pair<int, int> LengthsOf(const Grammar& grammar, Expression expression) {
  const Grammar::Node& node = grammar.node(expression);
  const int num_bytes = static_cast<int>(node.bytes.size());
  if (node.kind == Grammar::Kind::kBytes) return {num_bytes, num_bytes};
  if (node.kind == Grammar::Kind::kCharacters) return {1, 1};
  const bool is_choice = node.kind == Grammar::Kind::kChoice;
  std::pair<int, int> lengths = is_choice ? LengthsOf(grammar, node.operands.front()) : std::pair(0, 0);
  for (const Expression operand : node.operands) {
    const auto [fewest, most] = LengthsOf(grammar, operand);
    if (is_choice) lengths = {std::min(lengths.first, fewest), std::max(lengths.second, most)};
    else if (node.kind == Grammar::Kind::kRepeat) lengths = {fewest * node.minimum, most * node.maximum};
    else lengths = {lengths.first + fewest, lengths.second + most};
  }
  return lengths;
}

bool IsOfType(const Json& value, std::string_view type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "integer") {
    return value.is_number_integer() || (value.is_number_float() && std::trunc(value.get<double>()) == value);
  }
  return value.is_number();
}

class SchemaReader {
 public:
  SchemaReader(const Json& root, Grammar& grammar) : root_(root), resolver_(root), grammar_(grammar), text_(grammar) {}

  absl::StatusOr<Expression> ReadAll() {
    const Expression start = grammar_.Call(RuleOf("#", root_));
    // A referenced schema is read when all that refer to it may have its rule already.
    while (!open_.empty()) {
      const auto [rule, pointer, schema] = open_.back();
      open_.pop_back();
      ASSIGN_OR_RETURN(const Expression body, Read(*schema, pointer));
      grammar_.DefineRule(rule, body);
    }
    return start;
  }

 private:
  struct OpenRule {
    Grammar::Rule rule;
    std::string pointer;
    const Json* schema;
  };

  Grammar::Rule RuleOf(const std::string& pointer, const Json& schema) {
    const auto [found, is_new] = rules_.try_emplace(pointer, 0);
    if (is_new) {
      found->second = grammar_.AddRule(pointer);
      open_.push_back({found->second, pointer, &schema});
    }
    return found->second;
  }

  absl::StatusOr<Expression> Read(const Json& schema, const std::string& pointer) {
    if (schema.is_boolean()) return schema.get<bool>() ? text_.AnyValue() : grammar_.Nothing();
    if (!schema.is_object()) return ErrorAt(pointer, "a schema is an object or a boolean");
    // References within merged schemas can go round.
    const absl::Cleanup leave = [this] { --depth_; };
    if (++depth_ > 2 * kMaxSchemaDepth) return ErrorAt(pointer, "schemas are nested too deep, or allOf goes round");
    if (++num_schemas_ > kMaxSchemas) return ErrorAt(pointer, StrCat("there are more than ", kMaxSchemas, " schemas"));
    RETURN_IF_ERROR(CheckKeywords(schema, pointer));
    if (const Json* reference = JsonFind(schema, "$ref"); reference != nullptr) {
      return ReadReference(schema, *reference, pointer);
    }
    for (const char* keyword : {"allOf", "anyOf", "oneOf"}) {
      if (schema.contains(keyword)) return ReadBranches(schema, keyword, pointer);
    }
    if (schema.contains("const") || schema.contains("enum")) return ReadValues(schema, pointer);
    ASSIGN_OR_RETURN(const std::vector<std::string> types, TypesOf(schema, pointer));
    std::vector<Expression> choices;
    for (const std::string& type : types) {
      ASSIGN_OR_RETURN(const Expression choice, ReadType(type, schema, pointer));
      choices.push_back(choice);
    }
    return grammar_.Choice(std::move(choices));
  }

  absl::Status CheckKeywords(const Json& schema, const std::string& pointer) const {
    for (const auto& [keyword, value] : schema.items()) {
      const auto is_it = [&](const auto& known) {
        if constexpr (requires { known.keyword; }) return known.keyword == keyword;
        else return known == keyword;
      };
      if (keyword == "$id" && &schema != &root_) return ErrorAt(pointer, "$id is supported at the root alone");
      if (std::any_of(kAnnotations.begin(), kAnnotations.end(), is_it)) continue;
      if (std::any_of(kOtherKeywords.begin(), kOtherKeywords.end(), is_it)) continue;
      if (std::any_of(kTypedKeywords.begin(), kTypedKeywords.end(), is_it)) continue;
      return ErrorAt(pointer, StrCat("the keyword '", keyword, "' is not supported"));
    }
    return absl::OkStatus();
  }

  // ---- References and combinations.

  absl::StatusOr<Expression> ReadReference(const Json& schema, const Json& reference, const std::string& pointer) {
    std::string target;
    absl::StatusOr<const Json*> found = resolver_.Resolve(reference, &target);
    if (!found.ok()) return ErrorAt(pointer, ToStdView(found.status().message()));
    if (!HasAssertions(schema, "$ref")) return grammar_.Call(RuleOf(target, **found));
    ASSIGN_OR_RETURN(const Json* merged, Merge(Without(schema, "$ref"), **found, pointer));
    return Read(*merged, pointer);
  }

  absl::StatusOr<Expression> ReadBranches(const Json& schema, const std::string& keyword, const std::string& pointer) {
    const Json& branches = schema.at(keyword);
    const std::string here = StrCat(pointer, "/", keyword);
    if (!branches.is_array() || branches.empty()) return ErrorAt(here, "needs an array of schemas");
    const Json base = Without(schema, keyword);
    const bool has_base = HasAssertions(schema, keyword);
    if (keyword == "allOf") {
      const Json* merged = Own(base);
      for (size_t i = 0; i < branches.size(); ++i) {
        ASSIGN_OR_RETURN(merged, Merge(*merged, branches[i], StrCat(here, "/", i)));
      }
      return Read(*merged, pointer);
    }
    if (keyword == "oneOf") RETURN_IF_ERROR(CheckDisjoint(branches, here));
    std::vector<Expression> choices;
    for (size_t i = 0; i < branches.size(); ++i) {
      const std::string branch = StrCat(here, "/", i);
      const Json* merged = &branches[i];
      if (has_base) {
        ASSIGN_OR_RETURN(merged, Merge(base, branches[i], branch));
      }
      ASSIGN_OR_RETURN(const Expression choice, Read(*merged, branch));
      choices.push_back(choice);
    }
    return grammar_.Choice(std::move(choices));
  }

  // Whether `schema` says more than `keyword` and annotations.
  static bool HasAssertions(const Json& schema, std::string_view keyword) {
    for (const auto& [key, value] : schema.items()) {
      const bool is_annotation = std::find(kAnnotations.begin(), kAnnotations.end(), key) != kAnnotations.end();
      if (key != keyword && !is_annotation) return true;
    }
    return false;
  }

  static Json Without(const Json& schema, const std::string& keyword) {
    Json rest = schema;
    rest.erase(keyword);
    return rest;
  }

  const Json* Own(Json schema) {
    owned_.push_back(std::make_unique<Json>(std::move(schema)));
    return owned_.back().get();
  }

  // What both say together.
  absl::StatusOr<const Json*> Merge(const Json& a, const Json& b, const std::string& pointer) {
    num_schemas_ += 10;  // copies are dear
    if (num_schemas_ > kMaxSchemas) return ErrorAt(pointer, StrCat("there are more than ", kMaxSchemas, " schemas"));
    absl::StatusOr<Json> merged = MergeSchemas(a, b, resolver_, budget_);
    if (!merged.ok()) return ErrorAt(pointer, ToStdView(merged.status().message()));
    return Own(*std::move(merged));
  }

  absl::Status CheckDisjoint(const Json& branches, const std::string& pointer) {
    for (size_t i = 0; i < branches.size(); ++i) {
      for (size_t j = 0; j < branches.size(); ++j) {
        constexpr int64_t kStepsOfPair = 4;
        if (!budget_.Spend(kStepsOfPair)) return ErrorAt(pointer, "to tell branches apart takes too long; use anyOf");
        if (i != j && !ExcludesMatchesOf(branches[j], branches[i])) {
          return ErrorAt(pointer, StrCat("what matches branch ", i, " may match branch ", j,
                                         " too; give them different types, or a required property with different "
                                         "values of const, or use anyOf"));
        }
      }
    }
    return absl::OkStatus();
  }

  // Whether no text that is made for `made_for` validates against `other`.
  bool ExcludesMatchesOf(const Json& other_schema, const Json& made_for_schema) {
    const Json& other = resolver_.Follow(other_schema);
    const Json& made_for = resolver_.Follow(made_for_schema);
    if (!other.is_object() || !made_for.is_object()) return false;
    if (HaveDisjointValues(made_for, other)) return true;
    budget_.Spend(16);  // what follows, about
    const absl::StatusOr<std::vector<std::string>> types = TypesOf(made_for, "");
    const std::vector<std::string> other_types = DeclaredTypes(other);
    if (types.ok() && !other_types.empty() && !made_for.contains("enum") && !made_for.contains("const")) {
      const auto overlaps = [&](const std::string& type) {
        return std::any_of(other_types.begin(), other_types.end(), [&](const std::string& t) {
          return t == type || (t == "number" && type == "integer") || (t == "integer" && type == "number");
        });
      };
      if (std::none_of(types->begin(), types->end(), overlaps)) return true;
    }
    // A property that all made texts have, whose values the other does not allow.
    if (!types.ok() || *types != std::vector<std::string>{"object"}) return false;
    const Json* required = JsonFind(made_for, "required");
    const Json* properties = JsonFind(made_for, "properties");
    const Json* other_properties = JsonFind(other, "properties");
    if (required == nullptr || !required->is_array()) return false;
    budget_.Spend(static_cast<int64_t>(required->size()));
    for (const Json& name : *required) {
      if (!name.is_string()) return false;
      const std::string& key = name.get_ref<const std::string&>();
      const Json* mine = properties == nullptr ? nullptr : JsonFind(*properties, key);
      const Json* theirs = other_properties == nullptr ? nullptr : JsonFind(*other_properties, key);
      const Json* additional = JsonFind(other, "additionalProperties");
      if (theirs == nullptr && additional != nullptr && additional->is_boolean() && !additional->get<bool>()) {
        return true;
      }
      if (mine != nullptr && theirs != nullptr &&
          HaveDisjointValues(resolver_.Follow(*mine), resolver_.Follow(*theirs))) {
        return true;
      }
    }
    return false;
  }

  // Of const or enum; they live in `schema`.
  static std::span<const Json> ValuesOf(const Json& schema) {
    if (!schema.is_object()) return {};
    if (const auto found = schema.find("const"); found != schema.end()) return {&*found, 1};
    const Json* values = JsonFind(schema, "enum");
    if (values == nullptr || !values->is_array()) return {};
    return values->get_ref<const Json::array_t&>();
  }

  bool HaveDisjointValues(const Json& a, const Json& b) {
    const std::span<const Json> x = ValuesOf(a), y = ValuesOf(b);
    const size_t num_pairs = x.size() * y.size();
    if (num_pairs == 0 || num_pairs > 1'000'000) return false;
    budget_.Spend(static_cast<int64_t>(num_pairs));
    return std::none_of(x.begin(), x.end(), [&](const Json& value) {
      return std::find(y.begin(), y.end(), value) != y.end();
    });
  }

  // ---- Values and types.

  absl::StatusOr<Expression> ReadValues(const Json& schema, const std::string& pointer) {
    const bool is_const = schema.contains("const");
    const std::string keyword = is_const ? "const" : "enum";
    if (is_const && schema.contains("enum")) {
      const Json& both = schema.at("enum");
      const bool is_in = both.is_array() && std::find(both.begin(), both.end(), schema.at("const")) != both.end();
      if (!is_in) return ErrorAt(pointer, "const is none of the values of enum");
    }
    for (const auto& [key, value] : schema.items()) {
      const bool is_typed = std::any_of(kTypedKeywords.begin(), kTypedKeywords.end(),
                                        [&](const TypedKeyword& typed) { return typed.keyword == key; });
      if (is_typed) return ErrorAt(pointer, StrCat(key, " beside ", keyword, " is not supported"));
    }
    if (!is_const && !schema.at("enum").is_array()) return ErrorAt(pointer, "enum needs an array");
    const std::span<const Json> values = ValuesOf(schema);
    const std::vector<std::string> types = DeclaredTypes(schema);
    num_values_ += static_cast<int>(values.size());
    if (num_values_ > kMaxEnumValues) {
      return ErrorAt(pointer, StrCat("enums have more than ", kMaxEnumValues, " values"));
    }
    std::vector<Expression> choices;
    for (const Json& value : values) {
      const bool fits = types.empty() || std::any_of(types.begin(), types.end(),
                                                     [&](const std::string& type) { return IsOfType(value, type); });
      if (fits) choices.push_back(grammar_.Bytes(DumpJson(value)));
    }
    if (choices.empty()) return ErrorAt(pointer, StrCat("no value of ", keyword, " is of its type"));
    return grammar_.Choice(std::move(choices));
  }

  // `type`, as it stands; empty without.
  static std::vector<std::string> DeclaredTypes(const Json& schema) {
    const Json* type = JsonFind(schema, "type");
    if (type == nullptr) return {};
    if (type->is_string()) return {type->get<std::string>()};
    std::vector<std::string> types;
    if (!type->is_array()) return types;
    for (const Json& one : *type) {
      if (one.is_string()) types.push_back(one.get<std::string>());
    }
    return types;
  }

  // Those of `type`, else those that the other keywords speak of, else all.
  absl::StatusOr<std::vector<std::string>> TypesOf(const Json& schema, const std::string& pointer) const {
    if (const Json* type = JsonFind(schema, "type"); type != nullptr) {
      std::vector<std::string> types = DeclaredTypes(schema);
      if (types.empty() || (type->is_array() && types.size() != type->size())) {
        return ErrorAt(pointer, StrCat("type is ", DumpJson(*type), "; must be a name or an array of names"));
      }
      for (const std::string& name : types) {
        if (name != "integer" && std::find(kTypes.begin(), kTypes.end(), name) == kTypes.end()) {
          return ErrorAt(pointer, StrCat("the type '", name, "' is unknown"));
        }
      }
      const bool has_number = std::find(types.begin(), types.end(), "number") != types.end();
      if (has_number) std::erase(types, "integer");
      return types;
    }
    std::vector<std::string> types;
    for (const TypedKeyword& typed : kTypedKeywords) {
      const bool is_new = std::find(types.begin(), types.end(), typed.type) == types.end();
      if (is_new && schema.contains(std::string(typed.keyword))) types.emplace_back(typed.type);
    }
    if (types.empty()) types.assign(kTypes.begin(), kTypes.end());
    return types;
  }

  absl::StatusOr<Expression> ReadType(const std::string& type, const Json& schema, const std::string& pointer) {
    if (type == "object") return ReadObject(schema, pointer);
    if (type == "array") return ReadArray(schema, pointer);
    if (type == "string") return ReadString(schema, pointer);
    if (type == "boolean") return text_.Boolean();
    if (type == "null") return text_.Null();
    return ReadNumber(schema, pointer, type == "integer");
  }

  // `schema[keyword]` in 0..kMaxCount; `fallback` without.
  absl::StatusOr<int> ReadCount(const Json& schema, const char* keyword, int fallback,
                                const std::string& pointer) const {
    const Json* value = JsonFind(schema, keyword);
    if (value == nullptr) return fallback;
    const bool is_count = value->is_number() && IsOfType(*value, "integer") && value->get<double>() >= 0;
    if (!is_count) return ErrorAt(pointer, StrCat(keyword, " is ", DumpJson(*value), "; must be a whole number"));
    if (value->get<double>() > kMaxCount) {
      return ErrorAt(pointer, StrCat(keyword, " is ", DumpJson(*value), "; at most ", kMaxCount, " is supported"));
    }
    return static_cast<int>(value->get<double>());
  }

  // ---- Strings and numbers.

  absl::StatusOr<Expression> ReadString(const Json& schema, const std::string& pointer) {
    const Json* pattern = JsonFind(schema, "pattern");
    const Json* format = JsonFind(schema, "format");
    const bool has_length = schema.contains("minLength") || schema.contains("maxLength");
    if (pattern != nullptr && (format != nullptr || has_length)) {
      return ErrorAt(pointer, "only one of pattern, format and a length limit is supported");
    }
    ASSIGN_OR_RETURN(const int minimum, ReadCount(schema, "minLength", 0, pointer));
    ASSIGN_OR_RETURN(const int maximum, ReadCount(schema, "maxLength", Grammar::kUnbounded, pointer));
    if (maximum != Grammar::kUnbounded && maximum < minimum) return ErrorAt(pointer, "maxLength is below minLength");
    if (pattern != nullptr) {
      if (!pattern->is_string()) return ErrorAt(pointer, "pattern needs a string");
      absl::StatusOr<Expression> value =
          text_.StringOfPattern(pattern->get_ref<const std::string&>(), /*is_search=*/true);
      if (!value.ok()) return ErrorAt(pointer, ToStdView(value.status().message()));
      return value;
    }
    if (format != nullptr) {
      const auto found = std::find_if(kFormats.begin(), kFormats.end(),
                                      [&](const Format& known) { return *format == std::string(known.name); });
      if (found == kFormats.end()) {
        return ErrorAt(pointer, StrCat("the format ", DumpJson(*format), " is not supported"));
      }
      if (has_length) {
        Grammar alone;
        ASSIGN_OR_RETURN(const Expression text, AddRegex(found->pattern, alone));
        const auto [fewest, most] = LengthsOf(alone, text);
        if (fewest < minimum || (maximum != Grammar::kUnbounded && most > maximum)) {
          return ErrorAt(pointer, StrCat("format ", found->name, " is written with ", fewest, " to ", most,
                                         " characters; a narrower length limit beside it is not supported"));
        }
      }
      return text_.StringOfPattern(found->pattern, /*is_search=*/false);
    }
    return text_.String(minimum, maximum);
  }

  absl::StatusOr<std::optional<Decimal>> ReadBound(const Json& schema, const char* keyword, bool is_minimum,
                                                   const std::string& pointer) const {
    const Json* value = JsonFind(schema, keyword);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number()) return ErrorAt(pointer, StrCat(keyword, " is ", DumpJson(*value), "; must be a number"));
    std::optional<Decimal> bound = Decimal::Parse(DumpJson(*value));
    // What lies beyond all numbers that are written bounds them as well at the last of them.
    constexpr int64_t kLast = Decimal::kMaxDigits - 1;
    const double number = value->get<double>();
    if (!bound.has_value() && is_minimum && number < -static_cast<double>(kLast)) bound = Decimal{.digits = -kLast};
    if (!bound.has_value() && !is_minimum && number > static_cast<double>(kLast)) bound = Decimal{.digits = kLast};
    if (!bound.has_value()) {
      return ErrorAt(pointer, StrCat(keyword, " is ", DumpJson(*value), "; up to 15 digits and ", Decimal::kMaxScale,
                                     " decimals are supported"));
    }
    return bound;
  }

  static bool IsBelow(const Decimal& a, const Decimal& b) {
    const auto value = [](const Decimal& d) {
      long double result = static_cast<long double>(d.digits);
      for (int i = 0; i < d.scale; ++i) result /= 10;
      return result;
    };
    return value(a) < value(b);
  }

  absl::StatusOr<NumberBounds> ReadBounds(const Json& schema, const std::string& pointer) const {
    NumberBounds bounds;
    ASSIGN_OR_RETURN(bounds.minimum, ReadBound(schema, "minimum", /*is_minimum=*/true, pointer));
    ASSIGN_OR_RETURN(bounds.maximum, ReadBound(schema, "maximum", /*is_minimum=*/false, pointer));
    ASSIGN_OR_RETURN(const std::optional<Decimal> above, ReadBound(schema, "exclusiveMinimum", true, pointer));
    ASSIGN_OR_RETURN(const std::optional<Decimal> below, ReadBound(schema, "exclusiveMaximum", false, pointer));
    if (above.has_value() && (!bounds.minimum.has_value() || !IsBelow(*above, *bounds.minimum))) {
      bounds.minimum = above;
      bounds.excludes_minimum = true;
    }
    if (below.has_value() && (!bounds.maximum.has_value() || !IsBelow(*bounds.maximum, *below))) {
      bounds.maximum = below;
      bounds.excludes_maximum = true;
    }
    return bounds;
  }

  absl::StatusOr<Expression> ReadNumber(const Json& schema, const std::string& pointer, bool is_integer) {
    ASSIGN_OR_RETURN(const NumberBounds bounds, ReadBounds(schema, pointer));
    if (const Json* divisor = JsonFind(schema, "multipleOf"); divisor != nullptr) {
      const bool is_whole = divisor->is_number() && IsOfType(*divisor, "integer");
      const double value = is_whole ? divisor->get<double>() : 0;
      const bool is_bounded = bounds.minimum.has_value() || bounds.maximum.has_value();
      if (value < 1 || value > JsonText::kMaxDivisor || (value != 1 && is_bounded)) {
        return ErrorAt(pointer, StrCat("multipleOf is ", DumpJson(*divisor), "; whole numbers of 1..",
                                       JsonText::kMaxDivisor, " are supported, without bounds beside them"));
      }
      if (value != 1) return text_.Multiple(static_cast<int>(value));
      is_integer = true;
    }
    const Expression number = is_integer ? text_.Integer(bounds) : text_.Number(bounds);
    const bool is_impossible = number == grammar_.Nothing() && !grammar_.is_too_large();
    if (is_impossible) return ErrorAt(pointer, "no number is within the bounds");
    return number;
  }

  // ---- Arrays.

  absl::StatusOr<Expression> ReadArray(const Json& schema, const std::string& pointer) {
    if (const Json* unique = JsonFind(schema, "uniqueItems"); unique != nullptr && *unique != false) {
      return ErrorAt(pointer, "uniqueItems is not supported");
    }
    if (const Json* value = JsonFind(schema, "unevaluatedItems"); value != nullptr && *value != false) {
      return ErrorAt(pointer, "unevaluatedItems is supported as false alone");
    }
    ASSIGN_OR_RETURN(const int minimum, ReadCount(schema, "minItems", 0, pointer));
    ASSIGN_OR_RETURN(const int maximum, ReadCount(schema, "maxItems", Grammar::kUnbounded, pointer));
    if (maximum != Grammar::kUnbounded && maximum < minimum) return ErrorAt(pointer, "maxItems is below minItems");
    // Draft 7 has `items` and `additionalItems` for what is now `prefixItems` and `items`.
    const Json* items = JsonFind(schema, "items");
    const bool is_draft_7 = items != nullptr && items->is_array();
    const Json* prefix = is_draft_7 ? items : JsonFind(schema, "prefixItems");
    const Json* rest = is_draft_7 ? JsonFind(schema, "additionalItems") : items;
    if (prefix != nullptr && !prefix->is_array()) return ErrorAt(pointer, "prefixItems needs an array");

    std::vector<Expression> first;
    for (size_t i = 0; prefix != nullptr && i < prefix->size(); ++i) {
      ASSIGN_OR_RETURN(const Expression element,
                       Read((*prefix)[i], StrCat(pointer, is_draft_7 ? "/items/" : "/prefixItems/", i)));
      first.push_back(element);
    }
    // Behind a prefix, others come only where they are allowed in so many words.
    Expression other = grammar_.Nothing();
    if (rest != nullptr) {
      ASSIGN_OR_RETURN(other, Read(*rest, StrCat(pointer, is_draft_7 ? "/additionalItems" : "/items")));
    } else if (first.empty() || static_cast<size_t>(minimum) > first.size()) {
      other = text_.AnyValue();
    }
    return text_.Array(Elements(first, other, minimum, maximum));
  }

  // Elements with commas between them, and the blanks behind the last; `first` come first, then `other`.
  Expression Elements(const std::vector<Expression>& first, Expression other, int minimum, int maximum) {
    const int num_first = static_cast<int>(first.size());
    const auto at_least = [](int count, int taken) { return std::max(0, count - taken); };
    // From the back, what may follow so many elements.
    const int num_before = num_first == 0 ? 1 : num_first;
    const int most = maximum == Grammar::kUnbounded ? maximum : at_least(maximum, num_before);
    Expression tail = grammar_.Repeat(grammar_.Sequence({text_.Comma(), other}), at_least(minimum, num_before), most);
    if (num_first == 0) {
      tail = grammar_.Sequence({other, tail});
    } else {
      for (int i = num_first - 1; i >= 0; --i) {
        if (i > 0 && maximum != Grammar::kUnbounded && i >= maximum) {
          tail = grammar_.Empty();
          continue;
        }
        const Expression element = first[static_cast<size_t>(i)];
        tail = grammar_.Sequence({element, tail});
        if (i == 0) break;
        tail = grammar_.Sequence({text_.Comma(), tail});
        if (i >= minimum) tail = grammar_.Optional(tail);
      }
    }
    if (maximum == 0) return grammar_.Empty();
    const Expression some = grammar_.Sequence({tail, text_.Blanks()});
    return minimum == 0 ? grammar_.Optional(some) : some;
  }

  // ---- Objects.

  absl::StatusOr<Expression> ReadObject(const Json& schema, const std::string& pointer) {
    if (const Json* value = JsonFind(schema, "unevaluatedProperties"); value != nullptr && *value != false) {
      return ErrorAt(pointer, "unevaluatedProperties is supported as false alone");
    }
    if (const Json* names = JsonFind(schema, "propertyNames"); names != nullptr) {
      const bool says_nothing = *names == true || (names->is_object() && !HasAssertions(*names, "type") &&
                                                   DeclaredTypes(*names) == std::vector<std::string>{"string"});
      if (!says_nothing) return ErrorAt(pointer, "propertyNames is supported as {\"type\": \"string\"} alone");
    }
    static const Json kNone = Json::object();
    const Json* properties = JsonFind(schema, "properties");
    if (properties == nullptr) properties = &kNone;
    if (!properties->is_object()) return ErrorAt(pointer, "properties needs an object");
    const Json* additional = JsonFind(schema, "additionalProperties");
    const bool allows_others = additional != nullptr ? *additional != false : properties->empty();

    std::vector<std::string> names;
    for (const auto& [name, value] : properties->items()) names.push_back(name);
    ASSIGN_OR_RETURN(const std::set<std::string> required, ReadRequired(schema, pointer));
    for (const std::string& name : required) {
      if (!properties->contains(name)) names.push_back(name);
    }
    if (names.size() > kMaxCount) return ErrorAt(pointer, StrCat("there are more than ", kMaxCount, " properties"));

    std::vector<Property> members;
    for (const std::string& name : names) {
      Expression value = text_.AnyValue();
      if (const auto found = properties->find(name); found != properties->end()) {
        ASSIGN_OR_RETURN(value, Read(*found, StrCat(pointer, "/properties/", EscapedForPointer(name))));
      } else if (additional != nullptr) {
        ASSIGN_OR_RETURN(value, Read(*additional, StrCat(pointer, "/additionalProperties")));
      }
      // A member that can't be had is left out, where it may be.
      members.push_back({Once(text_.Member(text_.StringValue(name), value)), required.contains(name)});
    }
    Expression other = grammar_.Nothing();
    if (allows_others) {
      Expression value = text_.AnyValue();
      if (additional != nullptr) {
        ASSIGN_OR_RETURN(value, Read(*additional, StrCat(pointer, "/additionalProperties")));
      }
      other = Once(text_.Member(text_.OtherString(names), value));
    }
    return ReadMembers(schema, pointer, members, other);
  }

  struct Property {
    Expression member;
    bool is_required;
  };

  // As a rule, since it is used twice.
  Expression Once(Expression expression) {
    const Grammar::Rule rule = grammar_.AddRule("member");
    grammar_.DefineRule(rule, expression);
    return grammar_.Call(rule);
  }

  absl::StatusOr<std::set<std::string>> ReadRequired(const Json& schema, const std::string& pointer) const {
    std::set<std::string> required;
    const Json* names = JsonFind(schema, "required");
    if (names == nullptr) return required;
    if (!names->is_array()) return ErrorAt(pointer, "required needs an array of names");
    for (const Json& name : *names) {
      if (!name.is_string()) return ErrorAt(pointer, "required needs an array of names");
      required.insert(name.get<std::string>());
    }
    return required;
  }

  absl::StatusOr<Expression> ReadMembers(const Json& schema, const std::string& pointer,
                                         const std::vector<Property>& members, Expression other) {
    ASSIGN_OR_RETURN(const int minimum, ReadCount(schema, "minProperties", 0, pointer));
    ASSIGN_OR_RETURN(const int maximum, ReadCount(schema, "maxProperties", Grammar::kUnbounded, pointer));
    const int num_required = static_cast<int>(
        std::count_if(members.begin(), members.end(), [](const Property& member) { return member.is_required; }));
    // Other members may have one name, so that two of them may be one property.
    const bool needs_one = minimum > num_required;
    if (needs_one && (minimum > 1 || !members.empty())) {
      return ErrorAt(pointer,
                     "minProperties is supported up to the number of required properties, and as 1 without any");
    }
    int max_others = Grammar::kUnbounded;
    if (maximum != Grammar::kUnbounded) {
      max_others = maximum - static_cast<int>(members.size());
      if (max_others < 0) return ErrorAt(pointer, "maxProperties is supported from the number of properties on");
    }
    // Behind the properties: further ones, each behind a comma; or the first of all.
    const Expression behind = grammar_.Repeat(grammar_.Sequence({text_.Comma(), other}), 0, max_others);
    Expression alone = grammar_.Empty();
    if (max_others != 0) {
      const int more = max_others == Grammar::kUnbounded ? max_others : max_others - 1;
      alone = grammar_.Sequence({other, grammar_.Repeat(grammar_.Sequence({text_.Comma(), other}), 0, more),
                                 text_.Blanks()});
      if (!needs_one) alone = grammar_.Optional(alone);
    } else if (needs_one) {
      return ErrorAt(pointer, "minProperties is above maxProperties");
    }
    // From the back: what follows when there was a member before (`after`), and when there was none (`first`).
    Expression after = grammar_.Sequence({behind, text_.Blanks()});
    Expression first = alone;
    for (size_t i = members.size(); i-- > 0;) {
      const Property& property = members[i];
      after = Once(after);
      const Expression begins = grammar_.Sequence({property.member, after});
      first = property.is_required ? begins : grammar_.Choice({begins, first});
      const Expression goes_on = grammar_.Sequence({text_.Comma(), property.member});
      after = grammar_.Sequence({property.is_required ? goes_on : grammar_.Optional(goes_on), after});
    }
    return text_.Object(first);
  }

  const Json& root_;
  const SchemaResolver resolver_;
  Grammar& grammar_;
  JsonText text_;
  absl::flat_hash_map<std::string, Grammar::Rule> rules_;  // by pointer
  std::vector<OpenRule> open_;
  std::vector<std::unique_ptr<Json>> owned_;  // merged schemas
  SchemaBudget budget_;
  int num_schemas_ = 0, num_values_ = 0, depth_ = 0;
};

}  // namespace

absl::StatusOr<Expression> AddJsonSchema(const Json& schema, Grammar& grammar) {
  return SchemaReader(schema, grammar).ReadAll();
}

Expression AddJsonObject(Grammar& grammar) { return JsonText(grammar).AnyObject(); }

}  // namespace expertd
