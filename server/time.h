// Times between abseil, protobuf and gRPC's clock.
#pragma once

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "absl/time/time.h"

namespace expertd {

// Longest span that a protobuf Duration may hold: 10,000 years.
inline constexpr int64_t kMaxProtoSeconds = 315'576'000'000;

// Clamped to what a Duration may hold.
inline google::protobuf::Duration ToProtoDuration(absl::Duration duration) {
  duration = std::clamp(duration, -absl::Seconds(kMaxProtoSeconds), absl::Seconds(kMaxProtoSeconds));
  google::protobuf::Duration proto;
  absl::Duration rest;
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return proto;
}

inline google::protobuf::Timestamp ToProtoTimestamp(absl::Time time) {
  google::protobuf::Timestamp proto;
  const int64_t seconds = absl::ToUnixSeconds(time);
  proto.set_seconds(seconds);
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
  return proto;
}

// nullopt for a value that the type does not allow: |seconds| or |nanos| too large, or of unlike signs.
inline std::optional<absl::Duration> FromProtoDuration(const google::protobuf::Duration& proto) {
  const int64_t seconds = proto.seconds();
  const int32_t nanos = proto.nanos();
  if (seconds < -kMaxProtoSeconds || seconds > kMaxProtoSeconds) return std::nullopt;
  if (nanos < -999'999'999 || nanos > 999'999'999) return std::nullopt;
  if ((seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0)) return std::nullopt;
  return absl::Seconds(seconds) + absl::Nanoseconds(nanos);
}

// gRPC's deadline of a call; infinite when there is none.
inline absl::Time FromDeadline(std::chrono::system_clock::time_point deadline) {
  return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture() : absl::FromChrono(deadline);
}

}  // namespace expertd
