// The shared bodies compiled for AVX-512 (F, BW, VL, DQ); flags in engine/CMakeLists.txt. All but the table has
// internal linkage (see simd/vector.h).
#include <immintrin.h>

#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

#define EXPERTD_ISA_NAME "avx512"

namespace expertd {
namespace {

#include "engine/kernels/simd/vector.h"
// After the operations that they are written in.
#include "engine/kernels/simd/elementwise.inl"
#include "engine/kernels/simd/matmul.inl"
#include "engine/kernels/simd/attention.inl"
#include "engine/kernels/simd/table.inl"

}  // namespace

const Kernels& Avx512Kernels() { return kTable; }

}  // namespace expertd
