// Typed, Status-returning reads over nlohmann::json. Nothing here throws; every error names the key and the value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/json_object.h"

namespace expertd {

// Object keys keep the order of the file (chat templates and schemas depend on it).
using Json = nlohmann::basic_json<JsonObject>;

// Parses strict JSON. A key that an object gives twice keeps its first place and its last value, as Python's reader has
// it. Errors: InvalidArgument with the byte offset; nesting deeper than `max_depth` is refused before any value is
// built, so that hostile files cannot exhaust the stack.
absl::StatusOr<Json> ParseJson(std::string_view text, int max_depth = 64);

// `json` as text, on one line or indented. What is not UTF-8 is replaced (the library's own default is to throw).
std::string DumpJson(const Json& json, int indent = -1);

// Reads a whole file of at most `max_bytes` and parses it. Errors: NotFound, InvalidArgument (message names the path).
absl::StatusOr<Json> ReadJsonFile(const std::string& path, int64_t max_bytes = int64_t{256} << 20);

// Typed reads of `object[key]`. A missing or null key returns `fallback` for the ...Or forms and InvalidArgument for
// the others; a value of another type or outside [minimum, maximum] is InvalidArgument.
absl::StatusOr<int64_t> JsonInt(const Json& object, std::string_view key, int64_t minimum, int64_t maximum);
absl::StatusOr<int64_t> JsonIntOr(const Json& object, std::string_view key, int64_t fallback, int64_t minimum,
                                  int64_t maximum);
absl::StatusOr<double> JsonNumberOr(const Json& object, std::string_view key, double fallback, double minimum,
                                    double maximum);
absl::StatusOr<bool> JsonBoolOr(const Json& object, std::string_view key, bool fallback);
absl::StatusOr<std::string> JsonStringOr(const Json& object, std::string_view key, std::string_view fallback);

// `object[key]` when `object` is an object that has a non-null `key`; otherwise nullptr.
const Json* JsonFind(const Json& object, std::string_view key);

}  // namespace expertd
