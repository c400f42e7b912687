// The table for AVX-512 with VNNI and BF16.
#include <immintrin.h>

#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

#define EXPERTD_ISA_NAME "avx512_bf16"

namespace expertd {
namespace {
#include "engine/kernels/simd/table.inl"
}  // namespace

const Kernels& Avx512Bf16Kernels() { return kTable; }

}  // namespace expertd
