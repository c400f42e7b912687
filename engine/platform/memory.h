// Large memory: aligned buffers that report failure instead of throwing, read-only maps of files, and the nodes that
// pages come from. Used for weights, the KV cache and scratch. Buffers and maps are move-only values; concurrent reads
// are safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace expertd {

// Zeroed memory, aligned to a cache line; large buffers come straight from the operating system on huge pages where it
// grants them (and their pages become resident when first written).
class AlignedBuffer {
 public:
  static constexpr int64_t kAlignment = 64;

  // `size_bytes` >= 0; a buffer of 0 bytes has data() == nullptr. Errors: ResourceExhausted, naming the size.
  static absl::StatusOr<AlignedBuffer> Allocate(int64_t size_bytes);

  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  int64_t size_bytes() const { return size_bytes_; }

  // The buffer as elements of T (a type without invariants: numbers); a remainder of less than one T is left out.
  template <typename T>
  std::span<T> As() {
    return {reinterpret_cast<T*>(data_), static_cast<size_t>(size_bytes_) / sizeof(T)};
  }
  template <typename T>
  std::span<const T> As() const {
    return {reinterpret_cast<const T*>(data_), static_cast<size_t>(size_bytes_) / sizeof(T)};
  }

 private:
  void Free();

  std::byte* data_ = nullptr;
  int64_t size_bytes_ = 0;
  int64_t mapped_bytes_ = 0;  // 0: from the heap
};

// A whole file, mapped read-only. A file that is cut short by another process while mapped ends this one by SIGBUS:
// that is the nature of maps; model folders are not edited while served.
class MappedFile {
 public:
  // Errors: NotFound, PermissionDenied, InvalidArgument (not a regular file), ResourceExhausted; all name the path.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::byte* data() const { return data_; }
  int64_t size_bytes() const { return size_bytes_; }
  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_bytes_)}; }

  // Tells the system that [offset, offset + size_bytes) will be read soon, or is not needed any more in this process
  // (the page cache may keep it). Hints: out-of-range parts are ignored.
  void WillNeed(int64_t offset, int64_t size_bytes) const;
  void DontNeed(int64_t offset, int64_t size_bytes) const;

 private:
  void Unmap();

  std::byte* data_ = nullptr;
  int64_t size_bytes_ = 0;
};

// Bytes to read that an owner keeps alive: a buffer, or a file that several hold parts of. A value that is copied
// cheaply; the bytes are not.
struct SharedBytes {
  const std::byte* data = nullptr;
  int64_t size_bytes = 0;
  std::shared_ptr<const void> owner;

  static SharedBytes Of(AlignedBuffer buffer) {
    auto owner = std::make_shared<const AlignedBuffer>(std::move(buffer));
    return {owner->data(), owner->size_bytes(), owner};
  }
};

// While it lives, pages that the calling thread is the first to touch come from the given nodes in turn; for threads
// that it starts meanwhile that holds for good. To be made before the pool is, and kept while a model is loaded: any
// thread of the pool may compute any part of a product, so no node is the right one for a weight, and all of them
// together serve it fastest. It is the policy of threads and not of mappings, because pages read from files into the
// page cache follow that one too (set_mempolicy(2)). A policy that the process was started with (numactl) is left as
// it is.
class PageInterleaving {
 public:
  explicit PageInterleaving(std::span<const int> nodes);
  ~PageInterleaving();
  PageInterleaving(const PageInterleaving&) = delete;
  PageInterleaving& operator=(const PageInterleaving&) = delete;

  // PermissionDenied where the system refuses, as containers without CAP_SYS_NICE often do: pages then come from
  // wherever they are first touched.
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
  bool is_set_ = false;
};

}  // namespace expertd
