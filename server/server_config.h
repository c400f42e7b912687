// ServerConfig: every setting of the gRPC server, its flag, its default and its check. Filled from flags by main.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace expertd {

struct ServerConfig {
  // --grpc-listen, repeated: HOST:PORT ([::1]:50051 for IPv6; port 0 takes a free one) or unix:PATH.
  std::vector<std::string> listen_addresses = {"127.0.0.1:50051"};
  bool allow_plaintext = false;                // --allow-plaintext: no TLS on other addresses than loopback and unix:
  std::string tls_cert_file;                   // --ssl-certfile: PEM chain; with tls_key_file turns TLS on
  std::string tls_key_file;                    // --ssl-keyfile
  std::string tls_client_ca_file;              // --ssl-ca-certs: clients must show a certificate that it signed
  absl::Duration tls_refresh_interval = absl::Seconds(60);  // --ssl-refresh-interval: files are read again so often
  std::string api_key_file;                    // --api-key-file: one key a line, # comments; empty: no keys needed
  bool enable_reflection = true;               // --enable-reflection
  bool reflection_needs_key = true;            // --reflection-needs-key, where keys are needed
  bool log_requests = false;                   // --enable-log-requests: a line per generation; never its texts

  int32_t max_receive_message_bytes = 64 << 20;  // --grpc-max-receive-message-bytes
  int32_t max_send_message_bytes = 64 << 20;     // --grpc-max-send-message-bytes
  int32_t max_metadata_bytes = 16 << 10;         // --grpc-max-metadata-bytes, of one call's headers
  int32_t max_streams_per_connection = 1024;     // --grpc-max-concurrent-streams
  int32_t max_live_calls = 4096;                 // --max-live-calls, of all connections; beyond: RESOURCE_EXHAUSTED
  // --max-live-request-bytes: of requests that have arrived and are not with the engine yet; beyond:
  // RESOURCE_EXHAUSTED.
  int64_t max_live_request_bytes = 256 << 20;

  // A client may ping so often, also without calls: a long prefill sends nothing for a while.
  absl::Duration min_ping_interval = absl::Seconds(10);       // --grpc-min-ping-interval
  // A peer that vanished without a word holds blocks of the cache for no longer than the sum of these two.
  absl::Duration keepalive_time = absl::Seconds(30);          // --grpc-keepalive-time
  absl::Duration keepalive_timeout = absl::Seconds(10);       // --grpc-keepalive-timeout
  // Connections are closed at this age (±10 %), so that clients spread over new replicas; calls get the grace to end.
  absl::Duration max_connection_age = absl::Minutes(30);      // --grpc-max-connection-age; infinite allowed
  absl::Duration max_connection_age_grace = absl::Hours(1);   // --grpc-max-connection-age-grace; infinite allowed
  absl::Duration handshake_timeout = absl::Seconds(10);       // --grpc-handshake-timeout

  absl::Duration stream_stall_timeout = absl::Seconds(30);    // --stream-stall-timeout: a reader that takes nothing
  int32_t num_submit_threads = 2;                             // --submit-threads: templates and tokenizing; 2 or more

  // InvalidArgument naming the flag, the value and what is allowed.
  absl::Status Validate() const;

  bool uses_tls() const { return !tls_cert_file.empty(); }
};

// Whether `address` ends in `:PORT` with a port in 0..65535.
bool HasPort(const std::string& address);

// Whether only this machine can reach `address` ("127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/x").
bool IsLocalAddress(const std::string& address);

}  // namespace expertd
