// The table for AMX with int8 and bf16, on top of AVX-512.
#include <immintrin.h>

#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

#define EXPERTD_ISA_NAME "amx"
#define EXPERTD_TILES

namespace expertd {
namespace {
#include "engine/kernels/simd/table.inl"
}  // namespace

const Kernels& AmxKernels() { return kTable; }

}  // namespace expertd
