// Buffers from mmap with huge pages or from the heap, maps of files, and the policy of pages: mmap(2), madvise(2),
// set_mempolicy(2).
#include "engine/platform/memory.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/base/strings.h"

namespace expertd {
namespace {

// From this size on a buffer is mapped by itself, a whole number of huge pages on x86-64 Linux.
constexpr int64_t kMapFromBytes = int64_t{4} << 20;
constexpr int64_t kHugePageBytes = int64_t{2} << 20;

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

absl::Status FileError(const std::string& path, int error) {
  const std::string message = StrCat("cannot read ", path, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::InvalidArgumentError(message);
  }
}

}  // namespace

absl::StatusOr<AlignedBuffer> AlignedBuffer::Allocate(int64_t size_bytes) {
  AlignedBuffer buffer;
  if (size_bytes == 0) return buffer;
  const auto failed = [&] { return absl::ResourceExhaustedError(StrCat("cannot allocate ", size_bytes, " bytes")); };
  if (size_bytes < 0 || size_bytes > INT64_MAX - kHugePageBytes) return failed();
  if (size_bytes >= kMapFromBytes) {
    const int64_t mapped = RoundUp(size_bytes, kHugePageBytes);
    void* data = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return failed();
    madvise(data, mapped, MADV_HUGEPAGE);  // a wish: small pages serve as well
    buffer.data_ = static_cast<std::byte*>(data);
    buffer.mapped_bytes_ = mapped;
  } else {
    void* data = std::aligned_alloc(kAlignment, RoundUp(size_bytes, kAlignment));
    if (data == nullptr) return failed();
    std::memset(data, 0, size_bytes);
    buffer.data_ = static_cast<std::byte*>(data);
  }
  buffer.size_bytes_ = size_bytes;
  return buffer;
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  if (this != &other) {
    Free();
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
    mapped_bytes_ = std::exchange(other.mapped_bytes_, 0);
  }
  return *this;
}

AlignedBuffer::~AlignedBuffer() { Free(); }

void AlignedBuffer::Free() {
  if (mapped_bytes_ > 0) {
    munmap(data_, mapped_bytes_);
  } else {
    std::free(data_);
  }
}

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return FileError(path, errno);
  struct stat facts = {};
  if (fstat(file, &facts) != 0) {
    const int error = errno;
    close(file);
    return FileError(path, error);
  }
  if (!S_ISREG(facts.st_mode)) {
    close(file);
    return absl::InvalidArgumentError(StrCat(path, " is not a regular file"));
  }
  MappedFile mapped;
  if (facts.st_size > 0) {
    void* data = mmap(nullptr, facts.st_size, PROT_READ, MAP_SHARED, file, 0);
    const int error = errno;
    if (data == MAP_FAILED) {
      close(file);
      return FileError(path, error);
    }
    mapped.data_ = static_cast<std::byte*>(data);
    mapped.size_bytes_ = facts.st_size;
  }
  close(file);  // the map keeps the file
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    Unmap();
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

MappedFile::~MappedFile() { Unmap(); }

void MappedFile::Unmap() {
  if (data_ != nullptr) munmap(data_, size_bytes_);
}

namespace {

// madvise on the pages of [offset, offset + size_bytes): all that are touched, or only those wholly inside.
void Advise(std::byte* data, int64_t file_bytes, int64_t offset, int64_t size_bytes, int advice, bool whole_pages) {
  if (data == nullptr || offset < 0 || size_bytes <= 0 || offset >= file_bytes) return;
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t end = offset + std::min(size_bytes, file_bytes - offset);
  const bool reaches_end = end == file_bytes;
  const int64_t first = whole_pages ? RoundUp(offset, page) : offset / page * page;
  const int64_t last = whole_pages && !reaches_end ? end / page * page : end;
  if (first < last) madvise(data + first, last - first, advice);
}

}  // namespace

void MappedFile::WillNeed(int64_t offset, int64_t size_bytes) const {
  Advise(data_, size_bytes_, offset, size_bytes, MADV_WILLNEED, /*whole_pages=*/false);
}

void MappedFile::DontNeed(int64_t offset, int64_t size_bytes) const {
  Advise(data_, size_bytes_, offset, size_bytes, MADV_DONTNEED, /*whole_pages=*/true);
}

// By the raw system calls: libnuma would be a dependency for two of them.
PageInterleaving::PageInterleaving(std::span<const int> nodes) {
  constexpr size_t kBits = 8 * sizeof(unsigned long);
  int mode = MPOL_DEFAULT;
  if (syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) == 0 && mode != MPOL_DEFAULT) return;
  std::vector<unsigned long> mask;
  for (const int node : nodes) {
    const size_t word = static_cast<size_t>(node) / kBits;
    mask.resize(std::max(mask.size(), word + 1));
    mask[word] |= 1ul << (static_cast<size_t>(node) % kBits);
  }
  // The kernel reads one bit less than it is told.
  is_set_ = syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, mask.data(), mask.size() * kBits + 1) == 0;
  if (!is_set_) status_ = absl::PermissionDeniedError(StrCat("pages cannot be interleaved: ", std::strerror(errno)));
}

PageInterleaving::~PageInterleaving() {
  if (is_set_) syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0);
}

}  // namespace expertd
