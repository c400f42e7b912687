// The table for AVX2 with AVX-VNNI.
#include <immintrin.h>

#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

#define EXPERTD_ISA_NAME "avx2_vnni"

namespace expertd {
namespace {
#include "engine/kernels/simd/table.inl"
}  // namespace

const Kernels& Avx2VnniKernels() { return kTable; }

}  // namespace expertd
