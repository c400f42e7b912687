#include "engine/base/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

namespace expertd {

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int64_t DescriptorLimit() {
  constexpr rlim_t kMost = 1 << 20;
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<int64_t>(std::min(limit.rlim_cur, kMost)) : 1024;
}

}  // namespace expertd
