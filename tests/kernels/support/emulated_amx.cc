// The AMX table with its tiles emulated, so that all but the instructions themselves is tested where there are none.
#include <immintrin.h>

#include "engine/kernels/kernels.h"

#define EXPERTD_ISA_NAME "amx"
#define EXPERTD_TILES
#define EXPERTD_EMULATE_TILES

namespace expertd {
namespace {
#include "engine/kernels/simd/table.inl"
}  // namespace

const Kernels& EmulatedAmxKernels() { return kTable; }

}  // namespace expertd
