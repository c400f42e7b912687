// The ceilings of this machine, measured in a few seconds: what the memory delivers and what the units multiply when
// nothing else limits them. Benchmarks hold their figures against these, of the same run.
#pragma once

#include "absl/status/statusor.h"
#include "engine/kernels/kernels.h"
#include "engine/platform/thread_pool.h"

namespace expertd {

// All threads of the pool together, a second.
struct Ceilings {
  double read_bytes = 0.0;        // from memory, beyond the caches
  double float_operations = 0.0;  // multiplications and additions, by InputForm
  double bf16_operations = 0.0;
  double int8_operations = 0.0;

  double Operations(InputForm form) const;
};

// Errors: ResourceExhausted, as it reads 512 MiB of its own.
absl::StatusOr<Ceilings> MeasureCeilings(const Kernels& kernels, ThreadPool& pool);

}  // namespace expertd
