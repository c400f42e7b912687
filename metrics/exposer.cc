#include "metrics/exposer.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <utility>
#include <vector>

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/registry.h>

#include "absl/time/clock.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total_pages = 0, resident_pages = 0;
  file >> total_pages >> resident_pages;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

int CountOpenDescriptors() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  int count = -1;  // the one just opened
  while (const dirent* entry = readdir(directory)) count += entry->d_name[0] != '.';
  closedir(directory);
  return count;
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// The series of a process, read at each scrape.
class ProcessCollector final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override {
    return {
        Family("process_resident_memory_bytes", "Resident memory.", prometheus::MetricType::Gauge,
               static_cast<double>(ResidentBytes())),
        Family("process_cpu_seconds_total", "CPU time, user and system.", prometheus::MetricType::Counter,
               CpuSeconds()),
        Family("process_open_fds", "Open file descriptors.", prometheus::MetricType::Gauge, CountOpenDescriptors()),
        Family("process_start_time_seconds", "Unix time at which the process started serving metrics.",
               prometheus::MetricType::Gauge, start_time_),
    };
  }

 private:
  static prometheus::MetricFamily Family(const char* name, const char* help, prometheus::MetricType type,
                                         double value) {
    prometheus::MetricFamily family{name, help, type, {}};
    prometheus::ClientMetric metric;
    (type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    family.metric.push_back(std::move(metric));
    return family;
  }

  const double start_time_ = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
};

class ExposerImpl final : public Exposer {
 public:
  ExposerImpl(const std::string& address, const std::shared_ptr<prometheus::Registry>& registry)
      : process_(std::make_shared<ProcessCollector>()), registry_(registry), exposer_(address, /*num_threads=*/2) {
    exposer_.RegisterCollectable(registry_);
    exposer_.RegisterCollectable(process_);
  }
  int port() const override { return exposer_.GetListeningPorts().empty() ? 0 : exposer_.GetListeningPorts().front(); }

 private:
  std::shared_ptr<ProcessCollector> process_;
  std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Exposer exposer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Exposer>> Exposer::Start(const std::string& address,
                                                        const std::shared_ptr<prometheus::Registry>& registry) {
  try {
    return std::make_unique<ExposerImpl>(address, registry);
  } catch (const std::exception&) {  // the library's words are about itself
    return absl::UnavailableError(
        StrCat("the metrics endpoint can't listen on ", address, ": in use, not of this machine, or forbidden"));
  }
}

}  // namespace expertd
