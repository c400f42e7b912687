#include "clients/rest_shim/json_fields.h"

#include <cmath>
#include <limits>

#include "clients/rest_shim/errors.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

// As the contract has it for messages and texts, and for numbers (inference.proto).
constexpr int64_t kMaxContainers = 100'000;
constexpr int64_t kMaxStrings = 400'000;
constexpr int64_t kMaxValues = 8'388'608;

absl::Status CheckNumberOfValues(std::string_view body) {
  int64_t num_containers = 0, num_strings = 0, num_values = 0;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (c == '"') {
      ++num_strings;
      for (++i; i < body.size() && body[i] != '"'; ++i) i += body[i] == '\\';
    }
    num_containers += c == '{' || c == '[';
    num_values += c == ',';
  }
  if (num_containers <= kMaxContainers && num_strings <= kMaxStrings && num_values <= kMaxValues) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(StrCat("the body has more than ", kMaxContainers, " objects and arrays, ",
                                           kMaxStrings, " strings or ", kMaxValues, " values"));
}

// The JSON text of a value for an error, not too long.
std::string Shown(const Json& value) {
  constexpr size_t kMaxBytes = 60;
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  std::string text = DumpJson(value);
  if (text.size() > kMaxBytes) text = value.is_string() ? "a string" : "a long number";
  return text;
}

absl::Status WrongType(std::string_view name, const Json& value, std::string_view wanted) {
  return InvalidField(name, StrCat("is ", Shown(value), "; must be ", wanted));
}

// A whole number in [minimum, maximum]; 3.0 is one.
std::optional<int64_t> IntegerOf(const Json& value, int64_t minimum, int64_t maximum) {
  if (!value.is_number()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (!(std::abs(number) <= 9007199254740992.0) || number != std::floor(number)) return std::nullopt;
  }
  const int64_t number = value.get<int64_t>();
  if (number < minimum || number > maximum) return std::nullopt;
  return number;
}

google::protobuf::Value ToValue(const Json& json) {
  google::protobuf::Value value;
  if (json.is_object()) {
    *value.mutable_struct_value() = ToStruct(json);
  } else if (json.is_array()) {
    google::protobuf::ListValue& list = *value.mutable_list_value();
    for (const Json& element : json) *list.add_values() = ToValue(element);
  } else if (json.is_string()) {
    value.set_string_value(json.get<std::string>());
  } else if (json.is_boolean()) {
    value.set_bool_value(json.get<bool>());
  } else if (json.is_number()) {
    value.set_number_value(json.get<double>());
  } else {
    value.set_null_value(google::protobuf::NULL_VALUE);
  }
  return value;
}

}  // namespace

absl::StatusOr<Json> ParseBody(std::string_view body) {
  RETURN_IF_ERROR(CheckNumberOfValues(body));
  ASSIGN_OR_RETURN(Json json, ParseJson(body));
  if (!json.is_object()) return absl::InvalidArgumentError(StrCat("the body is ", Shown(json), "; must be an object"));
  return json;
}

std::string JsonFields::NameOf(std::string_view name) const { return StrCat(place_, name); }

absl::Status JsonFields::Invalid(std::string_view name, std::string_view message) const {
  return InvalidField(NameOf(name), message);
}

absl::StatusOr<std::optional<double>> JsonFields::Number(std::string_view name) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::optional<double>();
  if (!value->is_number()) return WrongType(NameOf(name), *value, "a number");
  return std::optional<double>(value->get<double>());
}

absl::StatusOr<std::optional<int64_t>> JsonFields::Integer(std::string_view name, int64_t minimum,
                                                           int64_t maximum) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::optional<int64_t>();
  const std::optional<int64_t> number = IntegerOf(*value, minimum, maximum);
  if (!number.has_value()) return WrongType(NameOf(name), *value, StrCat("an integer in ", minimum, "..", maximum));
  return number;
}

absl::StatusOr<std::optional<bool>> JsonFields::Bool(std::string_view name) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_boolean()) return WrongType(NameOf(name), *value, "true or false");
  return std::optional<bool>(value->get<bool>());
}

absl::StatusOr<std::optional<std::string>> JsonFields::String(std::string_view name) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return WrongType(NameOf(name), *value, "a string");
  return std::optional<std::string>(value->get<std::string>());
}

absl::StatusOr<std::vector<uint32_t>> JsonFields::TokenIds(std::string_view name) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::vector<uint32_t>();
  return ReadTokenIds(*value, NameOf(name));
}

absl::StatusOr<std::vector<uint32_t>> ReadTokenIds(const Json& array, std::string_view name) {
  if (!array.is_array()) return WrongType(name, array, "an array of token ids");
  std::vector<uint32_t> ids;
  ids.reserve(array.size());
  for (const Json& element : array) {
    const std::optional<int64_t> id = IntegerOf(element, 0, std::numeric_limits<uint32_t>::max());
    if (!id.has_value()) return WrongType(StrCat(name, "[", ids.size(), "]"), element, "a token id");
    ids.push_back(static_cast<uint32_t>(*id));
  }
  return ids;
}

google::protobuf::Struct ToStruct(const Json& object) {
  google::protobuf::Struct fields;
  for (const auto& [name, value] : object.items()) (*fields.mutable_fields())[name] = ToValue(value);
  return fields;
}

}  // namespace expertd::rest
