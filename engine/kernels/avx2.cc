// The shared bodies compiled for AVX2 and FMA; flags in engine/CMakeLists.txt. All but the table has internal linkage
// (see simd/vector.h).
#include <immintrin.h>

#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

#define EXPERTD_ISA_NAME "avx2"

namespace expertd {
namespace {

#include "engine/kernels/simd/vector.h"
// After the operations that they are written in.
#include "engine/kernels/simd/elementwise.inl"
#include "engine/kernels/simd/matmul.inl"
#include "engine/kernels/simd/attention.inl"
#include "engine/kernels/simd/table.inl"

}  // namespace

const Kernels& Avx2Kernels() { return kTable; }

}  // namespace expertd
