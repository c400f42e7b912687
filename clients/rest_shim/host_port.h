// Addresses of HTTP servers, as flags have them.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace expertd::rest {

struct HostPort {
  std::string host;  // without the brackets of an IPv6 address
  std::string port;  // 0..65535
};

// Reads HOST:PORT, also as "http://HOST:PORT/". Errors: InvalidArgument, which names `flag` and the address.
absl::StatusOr<HostPort> ParseHostPort(std::string_view flag, std::string_view address);

}  // namespace expertd::rest
