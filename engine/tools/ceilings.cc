#include "engine/tools/ceilings.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>

#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/platform/memory.h"

namespace expertd {
namespace {

constexpr int64_t kReadBytes = int64_t{512} << 20;
constexpr int kReadRounds = 6;
constexpr double kProductSeconds = 0.15;

// The sum of the words of a range, in four streams far apart, which is what keeps memory busiest.
uint64_t ReadAll(const uint64_t* from, int64_t num_words) {
  constexpr int kStreams = 4;
  const int64_t length = num_words / kStreams / 8 * 8;
  uint64_t sums[8] = {};
  for (int64_t i = 0; i < length; i += 8) {
    for (int stream = 0; stream < kStreams; ++stream) {
      const uint64_t* const line = from + stream * length + i;
      for (int word = 0; word < 8; ++word) sums[word] += line[word];
    }
  }
  uint64_t sum = 0;
  for (const uint64_t part : sums) sum += part;
  return sum;
}

absl::StatusOr<double> MeasureReads(ThreadPool& pool) {
  ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::Allocate(kReadBytes));
  std::memset(buffer.data(), 1, static_cast<size_t>(kReadBytes));
  const int num_threads = pool.num_threads();
  const int64_t words = kReadBytes / 8 / num_threads;
  std::atomic<uint64_t> sink = 0;
  double best = 0.0;
  for (int round = 0; round < kReadRounds; ++round) {
    const absl::Time start = absl::Now();
    pool.ParallelFor(num_threads, [&](int part, int) {
      sink += ReadAll(buffer.As<const uint64_t>().data() + part * words, words);
    });
    best = std::max(best, static_cast<double>(kReadBytes) / absl::ToDoubleSeconds(absl::Now() - start));
  }
  return best;
}

double MeasureProducts(const Kernels& kernels, InputForm form, ThreadPool& pool) {
  // As many steps as take the wanted time, found by doubling.
  for (int64_t num_steps = 1 << 14;; num_steps *= 2) {
    std::atomic<int64_t> operations = 0;
    const absl::Time start = absl::Now();
    pool.ParallelFor(pool.num_threads(), [&](int, int) { operations += kernels.run_products(form, num_steps); });
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    if (seconds >= kProductSeconds) return static_cast<double>(operations) / seconds;
  }
}

}  // namespace

double Ceilings::Operations(InputForm form) const {
  return form == InputForm::kInt8 ? int8_operations : form == InputForm::kBF16 ? bf16_operations : float_operations;
}

absl::StatusOr<Ceilings> MeasureCeilings(const Kernels& kernels, ThreadPool& pool) {
  Ceilings ceilings;
  ASSIGN_OR_RETURN(ceilings.read_bytes, MeasureReads(pool));
  ceilings.float_operations = MeasureProducts(kernels, InputForm::kF32, pool);
  ceilings.bf16_operations = MeasureProducts(kernels, kernels.bf16_input, pool);
  ceilings.int8_operations = MeasureProducts(kernels, InputForm::kInt8, pool);
  return ceilings;
}

}  // namespace expertd
