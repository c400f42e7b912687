// How the C++ clients keep in touch with a server.
#pragma once

#include <grpcpp/support/channel_arguments.h>

namespace expertd {

// A server that is back is found within 5 s, and one whose machine has vanished ends its calls, also those without a
// deadline, within 40 s.
inline void KeepInTouch(grpc::ChannelArguments& arguments) {
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
}

}  // namespace expertd
