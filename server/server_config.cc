#include "server/server_config.h"

#include <string_view>

#include "engine/base/range_check.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

absl::Status CheckDuration(std::string_view flag, absl::Duration value, absl::Duration minimum,
                           absl::Duration maximum) {
  if (value >= minimum && value <= maximum) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(flag, " is ", absl::FormatDuration(value), "; must be ",
                                           absl::FormatDuration(minimum), " to ", absl::FormatDuration(maximum)));
}

absl::Status CheckAddresses(const ServerConfig& config) {
  if (config.listen_addresses.empty()) return absl::InvalidArgumentError("--grpc-listen is empty");
  for (const std::string& address : config.listen_addresses) {
    const bool is_unix = address.starts_with("unix:");
    if (address.empty() || (!is_unix && address.find(':') == std::string::npos) || address == "unix:") {
      return absl::InvalidArgumentError(StrCat("--grpc-listen is '", address, "'; must be HOST:PORT or unix:PATH"));
    }
    if (!is_unix && !HasPort(address)) {
      return absl::InvalidArgumentError(StrCat("--grpc-listen is '", address, "'; its port must be 0..65535"));
    }
    if (!config.uses_tls() && !config.allow_plaintext && !IsLocalAddress(address)) {
      return absl::InvalidArgumentError(
          StrCat("--grpc-listen ", address, " can be reached from other machines without TLS; give --ssl-certfile and "
                 "--ssl-keyfile, or --allow-plaintext where a proxy or a closed network protects it"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool HasPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon + 1 == address.size() || address.size() - colon > 6) return false;
  int port = 0;
  for (const char digit : std::string_view(address).substr(colon + 1)) {
    if (digit < '0' || digit > '9') return false;
    port = port * 10 + (digit - '0');
  }
  return port <= 65535;
}

bool IsLocalAddress(const std::string& address) {
  if (address.starts_with("unix:")) return true;
  const std::string host = address.substr(0, address.rfind(':'));
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

absl::Status ServerConfig::Validate() const {
  constexpr absl::Duration kForever = absl::InfiniteDuration();
  constexpr int32_t kMaxBytes = 1 << 30;
  if (tls_cert_file.empty() != tls_key_file.empty()) {
    return absl::InvalidArgumentError("--ssl-certfile and --ssl-keyfile must be given together");
  }
  if (!tls_client_ca_file.empty() && !uses_tls()) {
    return absl::InvalidArgumentError("--ssl-ca-certs needs --ssl-certfile and --ssl-keyfile");
  }
  RETURN_IF_ERROR(CheckAddresses(*this));
  RETURN_IF_ERROR(CheckDuration("--ssl-refresh-interval", tls_refresh_interval, absl::Seconds(1), absl::Hours(24)));
  RETURN_IF_ERROR(CheckRange("--grpc-max-receive-message-bytes", max_receive_message_bytes, 1024, kMaxBytes));
  RETURN_IF_ERROR(CheckRange("--grpc-max-send-message-bytes", max_send_message_bytes, 1024, kMaxBytes));
  RETURN_IF_ERROR(CheckRange("--grpc-max-metadata-bytes", max_metadata_bytes, 1024, 1 << 20));
  RETURN_IF_ERROR(CheckRange("--grpc-max-concurrent-streams", max_streams_per_connection, 1, 1'000'000));
  RETURN_IF_ERROR(CheckRange("--max-live-calls", max_live_calls, 1, 1'000'000));
  // Below the largest request, that one could never be taken.
  RETURN_IF_ERROR(CheckRange("--max-live-request-bytes", max_live_request_bytes, max_receive_message_bytes,
                             int64_t{1} << 40));
  RETURN_IF_ERROR(CheckDuration("--grpc-min-ping-interval", min_ping_interval, absl::Seconds(1), absl::Hours(1)));
  RETURN_IF_ERROR(CheckDuration("--grpc-keepalive-time", keepalive_time, absl::Seconds(1), absl::Hours(24)));
  RETURN_IF_ERROR(CheckDuration("--grpc-keepalive-timeout", keepalive_timeout, absl::Seconds(1), absl::Hours(1)));
  RETURN_IF_ERROR(CheckDuration("--grpc-max-connection-age", max_connection_age, absl::Seconds(1), kForever));
  RETURN_IF_ERROR(
      CheckDuration("--grpc-max-connection-age-grace", max_connection_age_grace, absl::Seconds(1), kForever));
  RETURN_IF_ERROR(CheckDuration("--grpc-handshake-timeout", handshake_timeout, absl::Seconds(1), absl::Hours(1)));
  RETURN_IF_ERROR(
      CheckDuration("--stream-stall-timeout", stream_stall_timeout, absl::Milliseconds(10), absl::Hours(24)));
  return CheckRange("--submit-threads", num_submit_threads, 2, 64);
}

}  // namespace expertd
