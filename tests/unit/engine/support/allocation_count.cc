// A program's own malloc takes the place of the C library's for all that it links ("Replacing malloc" in the manual of
// glibc); what the library exports under other names does the work.
#include "tests/unit/engine/support/allocation_count.h"

#include <atomic>
#include <cerrno>
#include <cstddef>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define EXPERTD_COUNTS_ALLOCATIONS 1
#endif

namespace {

std::atomic<int64_t> num_allocations{0};

}  // namespace

#ifdef EXPERTD_COUNTS_ALLOCATIONS
extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}

void* realloc(void* block, size_t size) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(block, size);
}

void* memalign(size_t alignment, size_t size) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = memalign(alignment, size);
  return *block == nullptr ? ENOMEM : 0;
}

}  // extern "C"
#endif

namespace expertd::testing {

#ifdef EXPERTD_COUNTS_ALLOCATIONS
const bool kCountsAllocations = true;
#else
const bool kCountsAllocations = false;
#endif

int64_t NumAllocations() { return num_allocations.load(std::memory_order_relaxed); }

}  // namespace expertd::testing
