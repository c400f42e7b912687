// Counts what this test program allocates, so that tests can tell what a step costs.
#pragma once

#include <cstdint>

namespace expertd::testing {

// False in builds with a sanitizer, which has an allocator of its own.
extern const bool kCountsAllocations;

// Blocks taken from the heap by any thread since the start: by malloc and its kin, and so by operator new.
int64_t NumAllocations();

}  // namespace expertd::testing
