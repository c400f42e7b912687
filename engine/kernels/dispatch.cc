// The choice of a table: the only place that asks which CPU this is.
#include "engine/kernels/kernels.h"
#include "engine/kernels/tables.h"

namespace expertd {

std::string_view IsaName(Isa isa) {
  constexpr std::string_view kNames[] = {"scalar", "avx2", "avx2_vnni", "avx512", "avx512_bf16", "amx"};
  return kNames[static_cast<int>(isa)];
}

const Kernels& SelectKernels(const CpuFeatures& cpu, Isa limit) {
  const bool has_avx2 = cpu.avx2 && cpu.fma && cpu.f16c;
  const bool has_avx512 = has_avx2 && cpu.avx512 && cpu.avx512_vnni;
  const bool has_amx = has_avx512 && cpu.avx512_bf16 && cpu.amx_int8 && cpu.amx_bf16;
  if (limit >= Isa::kAmx && has_amx && RequestTilePermission()) return AmxKernels();
  if (limit >= Isa::kAvx512Bf16 && has_avx512 && cpu.avx512_bf16) return Avx512Bf16Kernels();
  if (limit >= Isa::kAvx512 && has_avx512) return Avx512Kernels();
  if (limit >= Isa::kAvx2Vnni && has_avx2 && cpu.avx_vnni) return Avx2VnniKernels();
  if (limit >= Isa::kAvx2 && has_avx2) return Avx2Kernels();
  return ScalarKernels();
}

}  // namespace expertd
