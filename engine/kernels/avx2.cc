// The table for AVX2, FMA and F16C.
#include <immintrin.h>

#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

#define EXPERTD_ISA_NAME "avx2"

namespace expertd {
namespace {
#include "engine/kernels/simd/table.inl"
}  // namespace

const Kernels& Avx2Kernels() { return kTable; }

}  // namespace expertd
