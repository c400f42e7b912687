#include "engine/base/json.h"

#include <algorithm>

#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/base/utf8.h"

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
  std::string shown = DumpJson(value);
  if (shown.size() > 80) shown = shown.substr(0, 77) + "...";
  return absl::InvalidArgumentError(StrCat(key, " is ", shown, "; must be ", expected));
}

// What the library says behind "[json.exception.parse_error.101] parse error at line 1, column 8: ". It quotes the
// text that was parsed.
std::string_view PlainWords(const std::exception& error) {
  constexpr size_t kMaxShown = 200;
  std::string_view what = error.what();
  for (const std::string_view end : {"] ", ": "}) {
    const size_t begin = what.find(end);
    const bool is_place = end == "] " || what.starts_with("parse error at ");
    if (is_place && begin != std::string_view::npos) what.remove_prefix(begin + end.size());
  }
  what = what.substr(0, kMaxShown);
  return what.substr(0, FindInvalidUtf8(what).value_or(what.size()));
}

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, int max_depth) {
  if (const int depth = NestingDepth(text); depth > max_depth) {
    return absl::InvalidArgumentError(StrCat("JSON is nested ", depth, " deep; at most ", max_depth));
  }
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    return absl::InvalidArgumentError(StrCat("not valid JSON at byte ", error.byte, ": ", PlainWords(error)));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(StrCat("not valid JSON: ", PlainWords(error)));
  }
}

std::string DumpJson(const Json& json, int indent) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
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
