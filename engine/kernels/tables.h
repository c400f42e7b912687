// The tables, one per source of this folder. Only dispatch.cc calls these: a table runs only on a CPU that has its
// instruction set.
#pragma once

#include "engine/kernels/kernels.h"

namespace expertd {

const Kernels& ScalarKernels();
const Kernels& Avx2Kernels();
const Kernels& Avx2VnniKernels();
const Kernels& Avx512Kernels();
const Kernels& Avx512Bf16Kernels();
const Kernels& AmxKernels();

}  // namespace expertd
