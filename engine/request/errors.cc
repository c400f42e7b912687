// The detail travels as one payload of the status, written as JSON: statuses are copied between threads and folders,
// and payloads are what absl::Status carries through all of them.

#include "engine/request/errors.h"

#include <utility>

#include "absl/strings/cord.h"
#include "engine/base/json.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

constexpr std::string_view kPayloadUrl = "expertd/error-detail";

using Pairs = std::vector<std::pair<std::string, std::string>>;

Json PairsToJson(const Pairs& pairs) {
  Json list = Json::array();
  for (const auto& [first, second] : pairs) list.push_back(Json::array({first, second}));
  return list;
}

Pairs PairsFromJson(const Json& json, std::string_view key) {
  Pairs pairs;
  const Json* list = JsonFind(json, key);
  if (list == nullptr || !list->is_array()) return pairs;
  for (const Json& pair : *list) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) continue;
    pairs.emplace_back(pair[0].get<std::string>(), pair[1].get<std::string>());
  }
  return pairs;
}

}  // namespace

absl::Status MakeError(absl::StatusCode code, std::string_view message, const ErrorDetail& detail) {
  absl::Status status(code, ToAbslView(message));
  Json json = {{"reason", detail.reason},
               {"metadata", PairsToJson(detail.metadata)},
               {"violations", PairsToJson(detail.violations)}};
  if (detail.retry_delay.has_value()) json["retryDelayNs"] = absl::ToInt64Nanoseconds(*detail.retry_delay);
  // Bytes that aren't UTF-8 (from a caller's text) are replaced: writing must not fail.
  status.SetPayload(ToAbslView(kPayloadUrl), absl::Cord(json.dump(-1, ' ', false, Json::error_handler_t::replace)));
  return status;
}

std::optional<ErrorDetail> GetErrorDetail(const absl::Status& status) {
  const auto payload = status.GetPayload(ToAbslView(kPayloadUrl));
  if (!payload.has_value()) return std::nullopt;
  const absl::StatusOr<Json> json = ParseJson(std::string(*payload));
  if (!json.ok() || !json->is_object()) return std::nullopt;  // someone else's payload under our name
  ErrorDetail detail;
  detail.reason = JsonStringOr(*json, "reason", "").value_or("");
  detail.metadata = PairsFromJson(*json, "metadata");
  detail.violations = PairsFromJson(*json, "violations");
  const Json* delay = JsonFind(*json, "retryDelayNs");
  if (delay != nullptr && delay->is_number_integer()) detail.retry_delay = absl::Nanoseconds(delay->get<int64_t>());
  return detail;
}

}  // namespace expertd
