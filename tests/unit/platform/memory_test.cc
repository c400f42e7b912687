#include "engine/platform/memory.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/platform/cpu.h"

namespace expertd {
namespace {

using testing::HasSubstr;

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content) {
    std::string pattern = testing::TempDir() + "/fileXXXXXX";
    close(mkstemp(pattern.data()));
    path_ = pattern;
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TemporaryFile() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string_view TextOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.data()), static_cast<size_t>(file.size_bytes())};
}

TEST(AlignedBufferTest, IsZeroedAndAlignedWhateverItsSize) {
  for (int64_t size : {int64_t{1}, int64_t{63}, int64_t{4096}, int64_t{5 << 20}}) {
    const auto buffer = AlignedBuffer::Allocate(size);

    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(buffer->size_bytes(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % AlignedBuffer::kAlignment, 0u);
    EXPECT_TRUE(std::all_of(buffer->data(), buffer->data() + size, [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST(AlignedBufferTest, OfNoBytesHasNoData) {
  const auto buffer = AlignedBuffer::Allocate(0);

  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(buffer->data(), nullptr);
  EXPECT_TRUE(buffer->As<float>().empty());
}

TEST(AlignedBufferTest, ReportsWhatCannotBeAllocated) {
  for (int64_t size : {int64_t{-1}, int64_t{1} << 60, INT64_MAX}) {
    const absl::Status status = AlignedBuffer::Allocate(size).status();

    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << size;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(size)));
  }
}

TEST(AlignedBufferTest, MovesItsBytes) {
  AlignedBuffer first = *AlignedBuffer::Allocate(16);
  first.As<float>()[3] = 2.5f;

  AlignedBuffer second = std::move(first);
  AlignedBuffer third = *AlignedBuffer::Allocate(8 << 20);
  third = std::move(second);

  EXPECT_EQ(third.As<float>().size(), 4u);
  EXPECT_EQ(third.As<float>()[3], 2.5f);
  EXPECT_EQ(second.data(), nullptr);  // NOLINT: moved-from is empty by contract
}

TEST(MappedFileTest, ShowsTheBytesOfAFile) {
  const TemporaryFile file(std::string("abc\0def", 7));

  const auto mapped = MappedFile::Open(file.path());

  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_EQ(TextOf(*mapped), std::string_view("abc\0def", 7));
}

TEST(MappedFileTest, MapsAnEmptyFileToNothing) {
  const TemporaryFile file("");

  const auto mapped = MappedFile::Open(file.path());

  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_TRUE(mapped->bytes().empty());
}

TEST(MappedFileTest, NamesTheFileThatCannotBeRead) {
  const absl::Status missing = MappedFile::Open("/nonexistent/model.safetensors").status();
  const absl::Status folder = MappedFile::Open("/").status();

  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("/nonexistent/model.safetensors"));
  EXPECT_EQ(folder.code(), absl::StatusCode::kInvalidArgument);
}

TEST(MappedFileTest, KeepsItsBytesThroughMovesAndHints) {
  const std::string content(300000, 'm');
  const TemporaryFile file(content);
  MappedFile first = *MappedFile::Open(file.path());

  MappedFile second = std::move(first);
  second.WillNeed(0, second.size_bytes());
  second.DontNeed(100, 200000);
  second.WillNeed(-5, 10);
  second.DontNeed(250000, INT64_MAX);

  EXPECT_EQ(TextOf(second), content);
  EXPECT_EQ(first.data(), nullptr);  // NOLINT: moved-from is empty by contract
}

// The policy of the calling thread, as linux/mempolicy.h numbers it; -1 where the system does not tell.
int PagePolicy() {
  int mode = -1;
  return syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) == 0 ? mode : -1;
}

TEST(PageInterleavingTest, HoldsForThisThreadAndForGoodForThoseItStarts) {
  if (PagePolicy() != MPOL_DEFAULT) GTEST_SKIP() << "the test runs under a policy of its own, or may not ask for it";
  std::promise<void> scope_has_ended;
  std::future<int> of_started_thread;
  {
    const PageInterleaving interleaving(MemoryNodes());
    if (!interleaving.status().ok()) GTEST_SKIP() << interleaving.status();

    EXPECT_EQ(PagePolicy(), MPOL_INTERLEAVE);
    of_started_thread = std::async(std::launch::async, [ended = scope_has_ended.get_future()]() {
      ended.wait();
      return PagePolicy();
    });
  }
  scope_has_ended.set_value();

  EXPECT_EQ(PagePolicy(), MPOL_DEFAULT);
  EXPECT_EQ(of_started_thread.get(), MPOL_INTERLEAVE);
}

TEST(PageInterleavingTest, LeavesAPolicyThatIsThereAlready) {
  unsigned long nodes = 1ul << MemoryNodes().front();
  if (PagePolicy() != MPOL_DEFAULT || syscall(SYS_set_mempolicy, MPOL_PREFERRED, &nodes, 65) != 0) {
    GTEST_SKIP() << "the system lets no policy be set";
  }

  { const PageInterleaving interleaving(MemoryNodes()); }
  const int after = PagePolicy();
  syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0);

  EXPECT_EQ(after, MPOL_PREFERRED);
}

TEST(PageInterleavingTest, TellsWhyItIsRefused) {
  if (PagePolicy() != MPOL_DEFAULT) GTEST_SKIP() << "the test runs under a policy of its own, or may not ask for it";

  const PageInterleaving interleaving(std::vector<int>{1023});  // not of this machine

  EXPECT_EQ(interleaving.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(PagePolicy(), MPOL_DEFAULT);
}

}  // namespace
}  // namespace expertd
