// ForwardContext: what arithmetic may use during a step - kernels, threads, scratch memory. Passed as an argument all
// the way down; there is no global.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "engine/platform/memory.h"

namespace expertd {

struct Kernels;
class ThreadPool;

// Scratch memory of one step: a stack of typed, uninitialized arrays. When a step needs more than ever before, chunks
// are added; once everything is given back they become one, so steady steps allocate nothing.
// Thread-safety: none. Take and Scope belong to the thread that runs the step; workers write to what it took.
class ScratchArena {
 public:
  ScratchArena() = default;
  ScratchArena(const ScratchArena&) = delete;
  ScratchArena& operator=(const ScratchArena&) = delete;

  // Gives back, when it ends, whatever was taken during its life. Scopes nest.
  class Scope {
   public:
    explicit Scope(ScratchArena& arena);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    ScratchArena& arena_;
    const size_t chunk_;
    const int64_t used_;
  };

  // `count` >= 0 uninitialized elements, aligned to 64 bytes, valid until the enclosing Scope ends (there must be one).
  template <typename T>
  T* Take(int64_t count) {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);
    return static_cast<T*>(TakeBytes(count * static_cast<int64_t>(sizeof(T))));
  }

  // Makes room for `size_bytes` in all, so that steps up to that size allocate nothing. No scope may be open.
  // Errors: ResourceExhausted. Without it, a step that finds no memory to grow stops the process.
  absl::Status Reserve(int64_t size_bytes);

  int64_t capacity_bytes() const;

 private:
  void* TakeBytes(int64_t size_bytes);
  void Rewind(size_t chunk, int64_t used);

  std::vector<AlignedBuffer> chunks_;
  size_t chunk_ = 0;  // where the next array is taken from
  int64_t used_ = 0;  // bytes used of that chunk
  int depth_ = 0;     // open scopes
};

// What a forward pass counts on the way.
struct ForwardCounters {
  int64_t moe_layers = 0;        // sparse layers computed
  int64_t activated_experts = 0; // sum over them of the experts that any row went to
};

struct ForwardContext {
  const Kernels& kernels;
  ThreadPool& pool;
  ScratchArena& scratch;
  ForwardCounters counters = {};  // written by the thread that runs the step
};

}  // namespace expertd
