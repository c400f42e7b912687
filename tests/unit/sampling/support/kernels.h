// The kernels that the sampling tests run on, and one mass of theirs.
#pragma once

#include <cstdint>

#include "engine/kernels/kernels.h"
#include "engine/platform/cpu.h"

namespace expertd {

inline const Kernels& BestKernels() {
  static const Kernels& kernels = SelectKernels(DetectCpu());  // asking the CPU takes long on virtual machines
  return kernels;
}

inline uint64_t MassOf(float exponent) {
  uint64_t mass = 0;
  BestKernels().logit_masses(&exponent, 1, LogitsScale{}, &mass);
  return mass;
}

}  // namespace expertd
