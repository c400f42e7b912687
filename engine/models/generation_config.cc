#include "engine/models/generation_config.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

constexpr int64_t kMaxConfigBytes = 1 << 20;
constexpr size_t kMaxEosTokens = 64;

absl::StatusOr<std::optional<double>> OptionalNumber(const Json& json, std::string_view key, double minimum,
                                                     double maximum) {
  if (JsonFind(json, key) == nullptr) return std::nullopt;
  ASSIGN_OR_RETURN(const double value, JsonNumberOr(json, key, 0.0, minimum, maximum));
  return value;
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> ReadEosTokenIds(const Json& json) {
  std::vector<int32_t> ids;
  const Json* const eos = JsonFind(json, "eos_token_id");
  if (eos == nullptr) return ids;
  if (!eos->is_array()) {
    ASSIGN_OR_RETURN(const int64_t id, JsonInt(json, "eos_token_id", 0, INT32_MAX));
    ids.push_back(static_cast<int32_t>(id));
    return ids;
  }
  if (eos->size() > kMaxEosTokens) {
    return absl::InvalidArgumentError(StrCat("eos_token_id has ", eos->size(), " ids; at most ", kMaxEosTokens));
  }
  for (const Json& element : *eos) {
    const Json holder = {{"eos_token_id", element}};
    ASSIGN_OR_RETURN(const int64_t id, JsonInt(holder, "eos_token_id", 0, INT32_MAX));
    if (std::ranges::find(ids, id) == ids.end()) ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

absl::StatusOr<GenerationDefaults> ParseGenerationConfig(const Json& json) {
  if (!json.is_object()) return absl::InvalidArgumentError("must be a JSON object");
  GenerationDefaults defaults;
  if (JsonFind(json, "do_sample") != nullptr) {
    ASSIGN_OR_RETURN(defaults.do_sample, JsonBoolOr(json, "do_sample", false));
  }
  if (JsonFind(json, "top_k") != nullptr) {
    ASSIGN_OR_RETURN(const int64_t top_k, JsonIntOr(json, "top_k", 0, -1, INT32_MAX));
    defaults.top_k = static_cast<int>(top_k);
  }
  ASSIGN_OR_RETURN(defaults.temperature, OptionalNumber(json, "temperature", 0.0, 100.0));
  ASSIGN_OR_RETURN(defaults.top_p, OptionalNumber(json, "top_p", 0.0, 1.0));
  ASSIGN_OR_RETURN(defaults.min_p, OptionalNumber(json, "min_p", 0.0, 1.0));
  ASSIGN_OR_RETURN(defaults.repetition_penalty,
                   OptionalNumber(json, "repetition_penalty", std::numeric_limits<double>::min(), 100.0));
  ASSIGN_OR_RETURN(defaults.eos_token_ids, ReadEosTokenIds(json));
  return defaults;
}

absl::StatusOr<GenerationDefaults> ReadGenerationConfig(const std::string& dir) {
  const std::string path = dir + "/generation_config.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return GenerationDefaults{};
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path, kMaxConfigBytes));
  absl::StatusOr<GenerationDefaults> defaults = ParseGenerationConfig(json);
  if (defaults.ok()) return defaults;
  return absl::Status(defaults.status().code(), StrCat(path, ": ", ToStdView(defaults.status().message())));
}

}  // namespace expertd
