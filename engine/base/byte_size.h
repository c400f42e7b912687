// Amounts of memory for a reader.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/str_format.h"

namespace expertd {

// "1.50 GiB", or "12.25 MiB" below one GiB.
inline std::string ByteSize(int64_t bytes) {
  constexpr double kMib = 1 << 20, kGib = 1 << 30;
  const double size = static_cast<double>(bytes);
  return size < kGib ? absl::StrFormat("%.2f MiB", size / kMib) : absl::StrFormat("%.2f GiB", size / kGib);
}

}  // namespace expertd
