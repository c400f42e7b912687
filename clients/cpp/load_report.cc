#include "clients/cpp/load_report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"

namespace expertd {
namespace {

// Failures alike but for the numbers in their messages are one line of the report.
Json ErrorsReport(const std::vector<CallRecord>& records) {
  struct Group {
    int count = 0;
    std::string example;
  };
  std::map<std::pair<absl::StatusCode, std::string>, Group> groups;
  for (const CallRecord& record : records) {
    if (record.status.ok()) continue;
    Group& group = groups[{record.status.code(), record.reason}];
    if (group.count++ == 0) group.example = std::string(record.status.message());
  }
  Json errors = Json::array();
  for (const auto& [kind, group] : groups) {
    errors.push_back({{"code", absl::StatusCodeToString(kind.first)},
                      {"reason", kind.second},
                      {"count", group.count},
                      {"example", group.example}});
  }
  std::stable_sort(errors.begin(), errors.end(),
                   [](const Json& a, const Json& b) { return a["count"].get<int>() > b["count"].get<int>(); });
  return errors;
}

}  // namespace

Json TimesReport(std::vector<double> seconds) {
  if (seconds.empty()) return {{"mean_ms", 0.0}, {"median_ms", 0.0}, {"p99_ms", 0.0}};
  std::sort(seconds.begin(), seconds.end());
  const double count = static_cast<double>(seconds.size());
  const double sum = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  const auto rank_ms = [&](double q) {
    const size_t rank = static_cast<size_t>(std::ceil(q * count));
    return seconds[std::clamp<size_t>(rank, 1, seconds.size()) - 1] * 1e3;
  };
  return {{"mean_ms", sum / count * 1e3}, {"median_ms", rank_ms(0.5)}, {"p99_ms", rank_ms(0.99)}};
}

Json LoadReport(const LoadSettings& settings, const std::vector<CallRecord>& records, double seconds) {
  std::vector<double> first_token, inter_token, per_output_token, end_to_end;
  int64_t input_tokens = 0, output_tokens = 0;
  int num_completed = 0;
  for (const CallRecord& record : records) {
    if (!record.status.ok()) continue;
    ++num_completed;
    input_tokens += record.num_input_tokens;
    output_tokens += record.num_output_tokens;
    first_token.push_back(record.time_to_first_token);
    end_to_end.push_back(record.end_to_end);
    inter_token.insert(inter_token.end(), record.gaps.begin(), record.gaps.end());
    if (record.num_output_tokens > 1) {
      per_output_token.push_back((record.end_to_end - record.time_to_first_token) /
                                 static_cast<double>(record.num_output_tokens - 1));
    }
  }
  Json report = {{"concurrency", settings.concurrency},
                 {"num_requests", settings.num_requests},
                 {"completed", num_completed},
                 {"failed", static_cast<int>(records.size()) - num_completed},
                 {"duration_seconds", seconds},
                 {"input_tokens", input_tokens},
                 {"output_tokens", output_tokens},
                 {"requests_per_second", num_completed / seconds},
                 {"output_tokens_per_second", static_cast<double>(output_tokens) / seconds},
                 {"total_tokens_per_second", static_cast<double>(input_tokens + output_tokens) / seconds},
                 {"time_to_first_token", TimesReport(std::move(first_token))},
                 {"inter_token", TimesReport(std::move(inter_token))},
                 {"time_per_output_token", TimesReport(std::move(per_output_token))},
                 {"end_to_end", TimesReport(std::move(end_to_end))}};
  if (num_completed < static_cast<int>(records.size())) report["errors"] = ErrorsReport(records);
  return report;
}

std::string LoadTable(const Json& report) {
  std::string table;
  for (const auto& [name, value] : report.items()) {
    if (value.is_number_integer()) absl::StrAppendFormat(&table, "%-26s %12d\n", name, value.get<int64_t>());
    if (value.is_number_float()) absl::StrAppendFormat(&table, "%-26s %12.2f\n", name, value.get<double>());
  }
  absl::StrAppendFormat(&table, "\n%-26s %12s %12s %12s\n", "", "mean ms", "median ms", "p99 ms");
  for (const auto& [name, value] : report.items()) {
    if (!value.is_object()) continue;
    absl::StrAppendFormat(&table, "%-26s %12.2f %12.2f %12.2f\n", name, value["mean_ms"].get<double>(),
                          value["median_ms"].get<double>(), value["p99_ms"].get<double>());
  }
  if (!report.contains("errors")) return table;
  table += "\nfailed\n";
  for (const Json& error : report["errors"]) {
    absl::StrAppendFormat(&table, "%8d x %s, such as: %s\n", error["count"].get<int>(),
                          error["code"].get<std::string>(), error["example"].get<std::string>());
  }
  return table;
}

}  // namespace expertd
