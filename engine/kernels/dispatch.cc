#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

namespace expertd {

const Kernels& SelectKernels(const CpuFeatures&, Isa) { return ScalarKernels(); }

}  // namespace expertd
