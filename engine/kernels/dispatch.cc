// The choice of a table: the only place that asks which CPU this is.
#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

namespace expertd {

const Kernels& SelectKernels(const CpuFeatures& cpu, Isa limit) {
  if (limit >= Isa::kAvx512 && cpu.avx512) return Avx512Kernels();
  if (limit >= Isa::kAvx2 && cpu.avx2 && cpu.fma && cpu.f16c) return Avx2Kernels();
  return ScalarKernels();
}

}  // namespace expertd
