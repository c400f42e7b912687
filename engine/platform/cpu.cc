// Processor and memory facts from CPUID, /proc, /sys and the cgroup file systems (cgroups(7), proc(5), numa(7)).
#include "engine/platform/cpu.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <vector>

namespace expertd {
namespace {

// ---- CPUID ----

struct CpuidResult {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidResult Cpuid(unsigned leaf, unsigned subleaf) {
  CpuidResult result;
  if (!__get_cpuid_count(leaf, subleaf, &result.eax, &result.ebx, &result.ecx, &result.edx)) return {};
  return result;
}

bool Bit(unsigned word, int index) { return (word >> index & 1u) != 0; }

// The register states that the operating system saves (XCR0); 0 where it does not say.
uint64_t SavedStates(const CpuidResult& leaf1) {
  if (!Bit(leaf1.ecx, 27)) return 0;  // OSXSAVE
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

std::string ModelName() {
  unsigned highest = __get_cpuid_max(0x80000000u, nullptr);
  if (highest < 0x80000004u) return "";
  char brand[49] = {};
  for (unsigned i = 0; i < 3; ++i) {
    const CpuidResult part = Cpuid(0x80000002u + i, 0);
    const unsigned words[4] = {part.eax, part.ebx, part.ecx, part.edx};
    std::memcpy(brand + 16 * i, words, sizeof(words));
  }
  std::string_view name(brand);
  while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
  while (!name.empty() && name.back() == ' ') name.remove_suffix(1);
  return std::string(name);
}

// ---- small text files ----

// The content, or nothing when the file cannot be read.
std::optional<std::string> ReadText(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) return std::nullopt;
  return text;
}

std::optional<int64_t> ParseInt(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<int64_t> ReadInt(const std::string& path) {
  const std::optional<std::string> text = ReadText(path);
  return text ? ParseInt(*text) : std::nullopt;
}

// The number behind `key` at the start of a line of `text` ("MemTotal:   16 kB", "inactive_file 42").
std::optional<int64_t> FindField(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    if (line.starts_with(key)) return ParseInt(line.substr(key.size()));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return std::nullopt;
}

// The text behind `key` at the start of a line, without blanks around it.
std::string FindText(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.starts_with(key)) {
      line.remove_prefix(std::min(line.find_first_not_of(" \t", key.size()), line.size()));
      return std::string(line);
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return "";
}

// ---- lists of CPUs and nodes ----

// Whole numbers from `first` to `last`.
struct IdRange {
  int64_t first = 0;
  int64_t last = 0;
};

// "0-3,8,10-11" as ranges; what is malformed is left out.
std::vector<IdRange> ParseIdList(std::string_view text) {
  std::vector<IdRange> ranges;
  while (!text.empty()) {
    const size_t end = std::min(text.find(','), text.size());
    const std::string_view item = text.substr(0, end);
    const size_t dash = item.find('-');
    const std::optional<int64_t> first = ParseInt(item.substr(0, dash));
    const std::optional<int64_t> last = dash == std::string_view::npos ? first : ParseInt(item.substr(dash + 1));
    if (first && last && *first >= 0 && *first <= *last) ranges.push_back({*first, *last});
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return ranges;
}

bool Overlap(const std::vector<IdRange>& a, const std::vector<IdRange>& b) {
  return std::any_of(a.begin(), a.end(), [&b](const IdRange& x) {
    return std::any_of(b.begin(), b.end(), [&x](const IdRange& y) { return x.first <= y.last && y.first <= x.last; });
  });
}

// ---- cgroups ----

// The directories that govern one controller for this process, from its own cgroup up to the root. In a container the
// path of /proc/self/cgroup may not exist under the mount; its existing ancestors, at least the root, still count.
struct CgroupDirectories {
  bool is_v2 = false;
  std::vector<std::string> paths;
};

std::vector<std::string> PathsToRoot(const std::string& mount, std::string path) {
  std::vector<std::string> paths;
  while (!path.empty() && path != "/") {
    paths.push_back(mount + path);
    path.resize(path.rfind('/'));
  }
  paths.push_back(mount);
  return paths;
}

bool HasController(std::string_view list, std::string_view controller) {
  while (!list.empty()) {
    const size_t end = std::min(list.find(','), list.size());
    if (list.substr(0, end) == controller) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

CgroupDirectories FindCgroup(const std::string& root, std::string_view controller) {
  const std::string mount = root + "/sys/fs/cgroup";
  CgroupDirectories found{/*is_v2=*/true, PathsToRoot(mount, "")};
  std::istringstream lines(ReadText(root + "/proc/self/cgroup").value_or(""));
  for (std::string line; std::getline(lines, line);) {  // hierarchy:controllers:path
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (!path.starts_with('/')) continue;
    if (HasController(controllers, controller)) {  // v1 serves this controller, whatever v2 does
      return {/*is_v2=*/false, PathsToRoot(mount + "/" + std::string(controller), path)};
    }
    if (controllers.empty()) found.paths = PathsToRoot(mount, path);
  }
  return found;
}

// Processors that the quota of the cgroup at `path` amounts to, rounded up.
std::optional<int64_t> CpuQuota(const std::string& path, bool is_v2) {
  std::optional<int64_t> quota, period;
  if (is_v2) {  // "max 100000" or "150000 100000"
    const std::string text = ReadText(path + "/cpu.max").value_or("");
    const size_t blank = text.find(' ');
    if (blank == std::string::npos) return std::nullopt;
    quota = ParseInt(std::string_view(text).substr(0, blank));
    period = ParseInt(std::string_view(text).substr(blank));
  } else {
    quota = ReadInt(path + "/cpu.cfs_quota_us");
    period = ReadInt(path + "/cpu.cfs_period_us");
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return (*quota + *period - 1) / *period;
}

// Limit and use of the cgroup at `path`, bytes.
std::optional<std::pair<int64_t, int64_t>> MemoryOfCgroup(const std::string& path, bool is_v2) {
  // v1 reports "no limit" as the largest multiple of a page.
  constexpr int64_t kNoLimit = int64_t{1} << 60;
  const std::optional<int64_t> limit = ReadInt(path + (is_v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  if (!limit || *limit < 0 || *limit >= kNoLimit) return std::nullopt;
  const int64_t charged = ReadInt(path + (is_v2 ? "/memory.current" : "/memory.usage_in_bytes")).value_or(0);
  const std::string stat = ReadText(path + "/memory.stat").value_or("");
  const int64_t reclaimable = FindField(stat, is_v2 ? "inactive_file " : "total_inactive_file ").value_or(0);
  return std::pair(*limit, std::max<int64_t>(charged - reclaimable, 0));
}

int CpusInAffinityMask() {
  for (int capacity = 1024; capacity <= 1 << 18; capacity *= 2) {  // the system refuses masks shorter than its own
    cpu_set_t* mask = CPU_ALLOC(capacity);
    if (mask == nullptr) break;
    const size_t size = CPU_ALLOC_SIZE(capacity);
    CPU_ZERO_S(size, mask);
    const int count = sched_getaffinity(0, size, mask) == 0 ? CPU_COUNT_S(size, mask) : 0;
    CPU_FREE(mask);
    if (count > 0) return count;
  }
  return std::max<int>(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

}  // namespace

CpuFeatures DetectCpu() {
  const CpuidResult leaf1 = Cpuid(1, 0);
  const CpuidResult leaf7 = Cpuid(7, 0);
  const CpuidResult leaf7_1 = Cpuid(7, 1);
  const uint64_t states = SavedStates(leaf1);
  const bool ymm = (states & 0x6) == 0x6;           // SSE and AVX
  const bool zmm = ymm && (states & 0xe0) == 0xe0;  // opmask, upper halves, upper registers
  const bool tiles = (states & 0x60000) == 0x60000;  // tile configuration and data

  CpuFeatures cpu;
  cpu.avx2 = ymm && Bit(leaf1.ecx, 28) && Bit(leaf7.ebx, 5);
  cpu.fma = ymm && Bit(leaf1.ecx, 12);
  cpu.f16c = ymm && Bit(leaf1.ecx, 29);
  cpu.avx_vnni = cpu.avx2 && Bit(leaf7_1.eax, 4);
  cpu.avx512 = zmm && Bit(leaf7.ebx, 16) && Bit(leaf7.ebx, 17) && Bit(leaf7.ebx, 30) && Bit(leaf7.ebx, 31);
  cpu.avx512_vnni = cpu.avx512 && Bit(leaf7.ecx, 11);
  cpu.avx512_bf16 = cpu.avx512 && Bit(leaf7_1.eax, 5);
  cpu.amx_tile = tiles && Bit(leaf7.edx, 24);
  cpu.amx_bf16 = cpu.amx_tile && Bit(leaf7.edx, 22);
  cpu.amx_int8 = cpu.amx_tile && Bit(leaf7.edx, 25);
  cpu.model_name = ModelName();
  cpu.num_cpus = UsableCpus();
  return cpu;
}

bool RequestTilePermission() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  constexpr long kTileData = 18;               // the state component of XCR0
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

int UsableCpus(const std::string& root) {
  int64_t cpus = CpusInAffinityMask();
  const CgroupDirectories cgroup = FindCgroup(root, "cpu");
  for (const std::string& path : cgroup.paths) {
    if (const std::optional<int64_t> quota = CpuQuota(path, cgroup.is_v2)) cpus = std::min(cpus, *quota);
  }
  return static_cast<int>(std::max<int64_t>(cpus, 1));
}

int64_t MemoryLimits::Available() const {
  const int64_t in_cgroup = cgroup_limit == kUnlimited ? kUnlimited : cgroup_limit - cgroup_used;
  return std::max<int64_t>(0, std::min(in_cgroup, machine_available));
}

MemoryLimits ReadMemoryLimits(const std::string& root) {
  MemoryLimits limits;
  const std::string meminfo = ReadText(root + "/proc/meminfo").value_or("");
  if (const auto kib = FindField(meminfo, "MemTotal:")) limits.machine_total = *kib * 1024;
  if (const auto kib = FindField(meminfo, "MemAvailable:")) limits.machine_available = *kib * 1024;
  const CgroupDirectories cgroup = FindCgroup(root, "memory");
  int64_t least_room = MemoryLimits::kUnlimited;
  for (const std::string& path : cgroup.paths) {
    const auto memory = MemoryOfCgroup(path, cgroup.is_v2);
    if (!memory || memory->first - memory->second >= least_room) continue;
    least_room = memory->first - memory->second;
    limits.cgroup_limit = memory->first;
    limits.cgroup_used = memory->second;
  }
  return limits;
}

std::vector<int> MemoryNodes(const std::string& root) {
  constexpr int64_t kMaxNodes = 1024;  // of Linux on any architecture
  const std::string folder = root + "/sys/devices/system/node/";
  const std::string status = ReadText(root + "/proc/self/status").value_or("");
  const std::vector<IdRange> cpus = ParseIdList(FindText(status, "Cpus_allowed_list:"));
  const std::vector<IdRange> allowed = ParseIdList(FindText(status, "Mems_allowed_list:"));
  std::vector<int> nodes;
  for (const IdRange& range : ParseIdList(ReadText(folder + "has_memory").value_or(""))) {
    for (int64_t node = range.first; node <= std::min(range.last, kMaxNodes - 1); ++node) {
      const std::string cpulist = folder + "node" + std::to_string(node) + "/cpulist";
      const std::vector<IdRange> local = ParseIdList(ReadText(cpulist).value_or(""));
      if (Overlap({{node, node}}, allowed) && Overlap(local, cpus)) nodes.push_back(static_cast<int>(node));
    }
  }
  return nodes.empty() ? std::vector<int>{0} : nodes;
}

HugePages ReadHugePages(const std::string& root) {
  HugePages pages;
  const std::string mode = ReadText(root + "/sys/kernel/mm/transparent_hugepage/enabled").value_or("");
  const size_t open = mode.find('['), close = mode.find(']');  // "always [madvise] never"
  if (open < close && close != std::string::npos) pages.mode = mode.substr(open + 1, close - open - 1);
  const std::string smaps = ReadText(root + "/proc/self/smaps_rollup").value_or("");
  for (const char* field : {"AnonHugePages:", "FilePmdMapped:"}) {
    pages.resident_bytes += FindField(smaps, field).value_or(0) * 1024;
  }
  return pages;
}

ResidentMemory ReadResidentMemory() {
  const std::string status = ReadText("/proc/self/status").value_or("");
  return {FindField(status, "VmRSS:").value_or(0) * 1024, FindField(status, "VmHWM:").value_or(0) * 1024};
}

}  // namespace expertd
