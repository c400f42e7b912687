// What this machine offers to the process: instruction sets, usable processors, memory and its nodes. Read once at
// start by the binary and passed on as values; nothing here is cached or global. All functions are thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace expertd {

// Instruction sets are true only if the processor has them and the operating system saves their registers (XGETBV),
// so that a kernel may use them without further questions.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool f16c = false;
  bool avx_vnni = false;
  bool avx512 = false;  // F, BW, VL and DQ together: the set of every server processor with AVX-512
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool amx_tile = false;  // the processor has tiles; a process must still ask the kernel for permission to use them
  bool amx_bf16 = false;
  bool amx_int8 = false;
  std::string model_name;  // "Intel(R) Xeon(R) ...", or empty where the processor does not say
  int num_cpus = 1;        // UsableCpus()
};

CpuFeatures DetectCpu();

// Asks the system to let this process use AMX tiles, which enlarge what it saves for each thread. False where the
// system refuses or does not know them. Needed once, before the first tile is used; threads inherit it.
bool RequestTilePermission();

// Processors that this process may keep busy: those in its affinity mask, or fewer where a cgroup (v1 or v2) sets a
// quota of processor time (rounded up). At least 1. `root` is put before /proc and /sys, for tests.
int UsableCpus(const std::string& root = "");

// Nodes of memory (NUMA) that serve this process: those with memory it may use and at least one of the CPUs in its
// affinity mask, ascending. {0} where the system does not tell. `root` as above.
std::vector<int> MemoryNodes(const std::string& root = "");

// Bytes; a limit that does not exist or cannot be read is `kUnlimited`.
struct MemoryLimits {
  static constexpr int64_t kUnlimited = INT64_MAX;
  int64_t cgroup_limit = kUnlimited;       // of the cgroup with the least room between this process's and the root
  int64_t cgroup_used = 0;                 // charged to that cgroup, less its reclaimable file cache
  int64_t machine_total = kUnlimited;      // MemTotal
  int64_t machine_available = kUnlimited;  // MemAvailable

  // What the process may still allocate without being killed or swapping: never negative.
  int64_t Available() const;
};

// Reads /proc/meminfo and the files of cgroup v1 or v2 (`root` as above).
MemoryLimits ReadMemoryLimits(const std::string& root = "");

// Resident memory of this process, bytes: now, and the highest so far. 0 where /proc is not mounted.
struct ResidentMemory {
  int64_t current = 0;
  int64_t peak = 0;
};

ResidentMemory ReadResidentMemory();

// Transparent huge pages: what the system grants ("always", "madvise" or "never"; empty where it has none), and the
// bytes of this process that lie on them now. Counting walks the page tables: some milliseconds. `root` as above.
struct HugePages {
  std::string mode;
  int64_t resident_bytes = 0;
};

HugePages ReadHugePages(const std::string& root = "");

}  // namespace expertd
