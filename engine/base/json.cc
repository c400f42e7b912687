#include "engine/base/json.h"

#include <algorithm>

#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

// Depth of the deepest bracket outside strings; malformed text is left to the parser.
int NestingDepth(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

absl::Status WrongType(std::string_view key, std::string_view expected, const Json& value) {
  std::string shown = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shown.size() > 80) shown = shown.substr(0, 77) + "...";
  return absl::InvalidArgumentError(StrCat(key, " is ", shown, "; must be ", expected));
}

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, int max_depth) {
  if (const int depth = NestingDepth(text); depth > max_depth) {
    return absl::InvalidArgumentError(StrCat("JSON is nested ", depth, " deep; at most ", max_depth));
  }
  try {
    return Json::parse(text);
  } catch (const std::exception& error) {
    constexpr size_t kMaxShown = 200;  // the message quotes the text
    return absl::InvalidArgumentError(StrCat("not valid JSON: ", std::string_view(error.what()).substr(0, kMaxShown)));
  }
}

absl::StatusOr<Json> ReadJsonFile(const std::string& path, int64_t max_bytes) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, max_bytes));
  absl::StatusOr<Json> parsed = ParseJson(text);
  if (!parsed.ok()) {
    return absl::Status(parsed.status().code(), StrCat(path, ": ", parsed.status().message()));
  }
  return parsed;
}

const Json* JsonFind(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<int64_t> JsonInt(const Json& object, std::string_view key, int64_t minimum, int64_t maximum) {
  const Json* value = JsonFind(object, key);
  if (value == nullptr) return absl::InvalidArgumentError(StrCat(key, " is missing"));
  return JsonIntOr(object, key, 0, minimum, maximum);
}

absl::StatusOr<int64_t> JsonIntOr(const Json& object, std::string_view key, int64_t fallback, int64_t minimum,
                                  int64_t maximum) {
  const Json* value = JsonFind(object, key);
  if (value == nullptr) return fallback;
  const bool fits = value->is_number_integer() &&
                    !(value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
  if (!fits || value->get<int64_t>() < minimum || value->get<int64_t>() > maximum) {
    return WrongType(key, StrCat("an integer in ", minimum, "..", maximum), *value);
  }
  return value->get<int64_t>();
}

absl::StatusOr<double> JsonNumberOr(const Json& object, std::string_view key, double fallback, double minimum,
                                    double maximum) {
  const Json* value = JsonFind(object, key);
  if (value == nullptr) return fallback;
  if (!value->is_number() || !(value->get<double>() >= minimum) || !(value->get<double>() <= maximum)) {
    return WrongType(key, StrCat("a number in ", minimum, "..", maximum), *value);
  }
  return value->get<double>();
}

absl::StatusOr<bool> JsonBoolOr(const Json& object, std::string_view key, bool fallback) {
  const Json* value = JsonFind(object, key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return WrongType(key, "true or false", *value);
  return value->get<bool>();
}

absl::StatusOr<std::string> JsonStringOr(const Json& object, std::string_view key, std::string_view fallback) {
  const Json* value = JsonFind(object, key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) return WrongType(key, "a string", *value);
  return value->get<std::string>();
}

}  // namespace expertd
