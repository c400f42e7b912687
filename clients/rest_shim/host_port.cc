#include "clients/rest_shim/host_port.h"

#include "absl/strings/numbers.h"
#include "engine/base/strings.h"

namespace expertd::rest {

absl::StatusOr<HostPort> ParseHostPort(std::string_view flag, std::string_view address) {
  std::string_view rest = address;
  if (constexpr std::string_view kScheme = "http://"; rest.starts_with(kScheme)) rest.remove_prefix(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const size_t colon = rest.rfind(':');
  HostPort parsed;
  if (colon != std::string_view::npos) {
    parsed = {.host = std::string(rest.substr(0, colon)), .port = std::string(rest.substr(colon + 1))};
  }
  const bool is_ipv6 = parsed.host.starts_with('[') && parsed.host.ends_with(']');
  if (is_ipv6) parsed.host = parsed.host.substr(1, parsed.host.size() - 2);
  int port = -1;
  const bool is_port = absl::SimpleAtoi(parsed.port, &port) && port >= 0 && port <= 65535;
  const bool has_more = parsed.host.find('/') != std::string::npos ||
                        (!is_ipv6 && parsed.host.find(':') != std::string::npos);
  if (parsed.host.empty() || !is_port || has_more) {
    return absl::InvalidArgumentError(StrCat(flag, " is '", address, "'; must be HOST:PORT"));
  }
  return parsed;
}

}  // namespace expertd::rest
