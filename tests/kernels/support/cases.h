// What the kernel tests share: seeded numbers, the fast tables that this CPU runs, and comparison by bits.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/kernels/kernels.h"

namespace expertd {

// Independent normal numbers; the same for the same seed.
inline std::vector<float> RandomFloats(int64_t count, uint32_t seed, float scale = 1.0f) {
  std::mt19937 bits(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(bits);
  return values;
}

inline WeightMatrix MakeWeights(const std::vector<float>& values, int rows, int cols, DType stored) {
  auto packed = WeightMatrix::Pack(values.data(), DType::kF32, rows, cols, stored);
  EXPECT_TRUE(packed.ok()) << packed.status();
  return *std::move(packed);
}

inline const Kernels& Reference() { return SelectKernels(DetectCpu(), Isa::kScalar); }

inline uint32_t Bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// The index of the first element whose bits differ, or -1.
inline int64_t FirstDifference(const float* a, const float* b, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (Bits(a[i]) != Bits(b[i])) return i;
  }
  return -1;
}

inline int64_t FirstDifference(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() ? FirstDifference(a.data(), b.data(), static_cast<int64_t>(a.size())) : 0;
}

// Runs each test for every table beyond the reference; skipped, and said so, where the CPU lacks the instruction set.
class KernelsTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    const Kernels& selected = SelectKernels(DetectCpu(), GetParam());
    const std::string wanted = IsaName(GetParam());
    if (selected.isa != wanted) GTEST_SKIP() << "this CPU does not run " << wanted;
    kernels_ = &selected;
  }

  const Kernels& kernels() const { return *kernels_; }

 public:
  static std::string IsaName(Isa isa) {
    return isa == Isa::kAvx512 ? "avx512" : isa == Isa::kAvx2 ? "avx2" : "scalar";
  }

 private:
  const Kernels* kernels_ = nullptr;
};

}  // namespace expertd

#define EXPERTD_FOR_EVERY_ISA(suite)                                                                    \
  INSTANTIATE_TEST_SUITE_P(AllIsas, suite, testing::Values(Isa::kScalar, Isa::kAvx2, Isa::kAvx512), \
                           [](const auto& info) { return KernelsTest::IsaName(info.param); })
