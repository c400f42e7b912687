#include "engine/platform/cpu.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace expertd {
namespace {

using ::testing::ElementsAre;

// A directory with some files of /proc and /sys, removed at the end.
class FakeRoot {
 public:
  FakeRoot() {
    std::string pattern = testing::TempDir() + "/rootXXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  FakeRoot(FakeRoot&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  ~FakeRoot() {
    if (!path_.empty()) std::filesystem::remove_all(path_);
  }

  void Write(const std::string& file, const std::string& text) {
    const std::filesystem::path path = path_ + file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

constexpr int64_t kGiB = int64_t{1} << 30;

TEST(CpuTest, KnowsThisMachine) {
  const CpuFeatures cpu = DetectCpu();

  EXPECT_GE(cpu.num_cpus, 1);
  EXPECT_TRUE(!cpu.avx512 || (cpu.avx2 && cpu.fma));
  EXPECT_TRUE(!cpu.amx_int8 || cpu.amx_tile);
#if defined(__GLIBC__)
  EXPECT_EQ(cpu.avx2, __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(cpu.avx512, __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                            __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0);
#endif
}

TEST(CpuTest, HonoursTheQuotaOfCgroupV2) {
  FakeRoot root;
  root.Write("/proc/self/cgroup", "0::/pods/one\n");
  root.Write("/sys/fs/cgroup/pods/one/cpu.max", "max 100000\n");
  root.Write("/sys/fs/cgroup/pods/cpu.max", "50000 100000\n");

  EXPECT_EQ(UsableCpus(root.path()), 1);
}

TEST(CpuTest, HonoursTheQuotaOfCgroupV1SeenFromInsideAContainer) {
  FakeRoot root;
  root.Write("/proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n");
  root.Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  root.Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");

  EXPECT_EQ(UsableCpus(root.path()), 1);
}

// Whole CPUs have room for a fraction of one, and there is no pool without a thread.
TEST(CpuTest, RoundsFractionsOfACpuUp) {
  const int all = UsableCpus("/nonexistent");
  for (const auto& [quota, cpus] : {std::pair("10000", 1), std::pair("99999", 1), std::pair("100001", 2),
                                    std::pair("150000", 2), std::pair("1000000000", all)}) {
    FakeRoot v1, v2;
    v1.Write("/proc/self/cgroup", "4:cpu,cpuacct:/\n");
    v1.Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota);
    v1.Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
    v2.Write("/proc/self/cgroup", "0::/\n");
    v2.Write("/sys/fs/cgroup/cpu.max", std::string(quota) + " 100000\n");

    EXPECT_EQ(UsableCpus(v1.path()), std::min(cpus, all)) << quota;
    EXPECT_EQ(UsableCpus(v2.path()), std::min(cpus, all)) << quota;
  }
}

TEST(CpuTest, CountsItsAffinityWithoutAnyQuota) {
  FakeRoot root;
  root.Write("/proc/self/cgroup", "4:cpu,cpuacct:/\n");
  root.Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  root.Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");

  EXPECT_EQ(UsableCpus(root.path()), UsableCpus("/nonexistent"));
}

TEST(MemoryLimitsTest, TakesTheCgroupWithTheLeastRoom) {
  FakeRoot root;
  root.Write("/proc/meminfo", "MemTotal:       67108864 kB\nMemFree: 1 kB\nMemAvailable:   50331648 kB\n");
  root.Write("/proc/self/cgroup", "0::/pods/one\n");
  root.Write("/sys/fs/cgroup/pods/one/memory.max", "34359738368\n");
  root.Write("/sys/fs/cgroup/pods/one/memory.current", "4294967296\n");
  root.Write("/sys/fs/cgroup/pods/one/memory.stat", "anon 5\ninactive_file 3221225472\n");
  root.Write("/sys/fs/cgroup/pods/memory.max", "42949672960\n");
  root.Write("/sys/fs/cgroup/pods/memory.current", "32212254720\n");

  const MemoryLimits limits = ReadMemoryLimits(root.path());

  EXPECT_EQ(limits.machine_total, 64 * kGiB);
  EXPECT_EQ(limits.machine_available, 48 * kGiB);
  EXPECT_EQ(limits.cgroup_limit, 40 * kGiB);  // 10 GiB of room; the inner one has 32 - (4 - 3) = 31
  EXPECT_EQ(limits.cgroup_used, 30 * kGiB);
  EXPECT_EQ(limits.Available(), 10 * kGiB);
}

TEST(MemoryLimitsTest, ReadsCgroupV1) {
  FakeRoot root;
  root.Write("/proc/meminfo", "MemTotal: 67108864 kB\nMemAvailable: 50331648 kB\n");
  root.Write("/proc/self/cgroup", "9:memory:/docker/abc\n");
  root.Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "8589934592\n");
  root.Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "3221225472\n");
  root.Write("/sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 1073741824\n");

  const MemoryLimits limits = ReadMemoryLimits(root.path());

  EXPECT_EQ(limits.cgroup_limit, 8 * kGiB);
  EXPECT_EQ(limits.cgroup_used, 2 * kGiB);
  EXPECT_EQ(limits.Available(), 6 * kGiB);
}

TEST(MemoryLimitsTest, TakesNoLimitForUnlimited) {
  for (const char* text : {"max\n", "9223372036854771712\n", "nonsense", ""}) {
    FakeRoot root;
    root.Write("/proc/meminfo", "MemAvailable: 1048576 kB\n");
    root.Write("/proc/self/cgroup", "0::/\n");
    root.Write("/sys/fs/cgroup/memory.max", text);

    const MemoryLimits limits = ReadMemoryLimits(root.path());

    EXPECT_EQ(limits.cgroup_limit, MemoryLimits::kUnlimited) << text;
    EXPECT_EQ(limits.Available(), kGiB) << text;
  }
}

TEST(MemoryLimitsTest, IsNeverNegative) {
  MemoryLimits limits;
  limits.cgroup_limit = 5;
  limits.cgroup_used = 7;

  EXPECT_EQ(limits.Available(), 0);
}

// Two sockets of four CPUs and a node of memory alone; node 3 has no memory.
FakeRoot FourNodes(const std::string& cpus, const std::string& mems) {
  FakeRoot root;
  root.Write("/proc/self/status", "Name:\texpertd\nCpus_allowed:\tff\nCpus_allowed_list:\t" + cpus +
                                      "\nMems_allowed:\t7\nMems_allowed_list:\t" + mems + "\n");
  root.Write("/sys/devices/system/node/has_memory", "0-2\n");
  root.Write("/sys/devices/system/node/node0/cpulist", "0-1,4-5\n");
  root.Write("/sys/devices/system/node/node1/cpulist", "2-3,6-7\n");
  root.Write("/sys/devices/system/node/node2/cpulist", "\n");
  root.Write("/sys/devices/system/node/node3/cpulist", "8\n");
  return root;
}

TEST(MemoryNodesTest, AreThoseOfTheCpusThatMayBeUsed) {
  EXPECT_THAT(MemoryNodes(FourNodes("0-8", "0-3").path()), ElementsAre(0, 1));
  EXPECT_THAT(MemoryNodes(FourNodes("4", "0-3").path()), ElementsAre(0));
  EXPECT_THAT(MemoryNodes(FourNodes("1,7", "0-3").path()), ElementsAre(0, 1));
  EXPECT_THAT(MemoryNodes(FourNodes("3,6", "0-3").path()), ElementsAre(1));
}

TEST(MemoryNodesTest, LeaveOutThoseWhoseMemoryIsForbidden) {
  EXPECT_THAT(MemoryNodes(FourNodes("0-7", "1").path()), ElementsAre(1));
}

TEST(MemoryNodesTest, AreOneWhereTheSystemDoesNotTell) {
  FakeRoot nonsense = FourNodes("0-7", "0-3");
  nonsense.Write("/sys/devices/system/node/has_memory", "-,5-2,x,99999999999999999999\n");

  EXPECT_THAT(MemoryNodes("/nonexistent"), ElementsAre(0));
  EXPECT_THAT(MemoryNodes(nonsense.path()), ElementsAre(0));
}

TEST(MemoryNodesTest, ThereIsOneHereAtLeast) { EXPECT_FALSE(MemoryNodes().empty()); }

TEST(HugePagesTest, TellTheModeAndWhatLiesOnThem) {
  FakeRoot root;
  root.Write("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  root.Write("/proc/self/smaps_rollup", "Rss:  9000 kB\nAnonHugePages:  4096 kB\nShmemPmdMapped: 7 kB\n"
                                        "FilePmdMapped:  2048 kB\n");

  const HugePages pages = ReadHugePages(root.path());

  EXPECT_EQ(pages.mode, "madvise");
  EXPECT_EQ(pages.resident_bytes, 6 << 20);
  EXPECT_EQ(ReadHugePages("/nonexistent").mode, "");
  EXPECT_EQ(ReadHugePages("/nonexistent").resident_bytes, 0);
}

TEST(ResidentMemoryTest, GrowsByWhatIsWritten) {
  const ResidentMemory before = ReadResidentMemory();

  std::vector<char> written(64 << 20, 'x');

  const ResidentMemory after = ReadResidentMemory();
  EXPECT_EQ(written[12345], 'x');
  EXPECT_GE(after.current, before.current + (60 << 20));
  EXPECT_GE(after.peak, after.current - (1 << 20));
}

}  // namespace
}  // namespace expertd
