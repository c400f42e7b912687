// The table for AVX-512 F, BW, DQ, VL and VNNI.
#include <immintrin.h>

#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

#define EXPERTD_ISA_NAME "avx512"

namespace expertd {
namespace {
#include "engine/kernels/simd/table.inl"
}  // namespace

const Kernels& Avx512Kernels() { return kTable; }

}  // namespace expertd
