// How many files and sockets the process may have open.
#pragma once

#include <cstdint>

namespace expertd {

// Raises the limit to the most that the system grants. To be called before threads start.
void RaiseDescriptorLimit();

// The limit as it is.
int64_t DescriptorLimit();

}  // namespace expertd
