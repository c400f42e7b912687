// What the kernel tests share: seeded numbers, the fast tables that this CPU runs, and comparison by bits.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/kernels/kernels.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {

// Independent normal numbers; the same for the same seed.
inline std::vector<float> RandomFloats(int64_t count, uint32_t seed, float scale = 1.0f) {
  std::mt19937 bits(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(bits);
  return values;
}

inline WeightMatrix MakeWeights(const std::vector<float>& values, int rows, int cols, WeightFormat format) {
  auto packed = WeightMatrix::Pack(values.data(), DType::kF32, rows, cols, format);
  EXPECT_TRUE(packed.ok()) << packed.status();
  return *std::move(packed);
}

// An int4 matrix with zero points, which quantizing never makes but checkpoints bring: random codes, scales and zero
// points, laid out as panel_layout.h says. Inputs beyond `cols` are codes equal to their zero point.
inline WeightMatrix MakeWeightsWithZeroPoints(int rows, int cols, uint32_t seed) {
  std::mt19937 bits(seed);
  PackedWeights packed = {.panel_bytes = PanelBytes(WeightFormat::kInt4, cols, /*has_zero_points=*/true),
                          .rows = rows,
                          .cols = cols,
                          .padded_cols = static_cast<int>(PaddedInputs(WeightFormat::kInt4, cols)),
                          .format = WeightFormat::kInt4,
                          .has_zero_points = true};
  const int num_panels = (rows + kPanelColumns - 1) / kPanelColumns;
  AlignedBuffer buffer = *AlignedBuffer::Allocate(num_panels * packed.panel_bytes);
  for (int row = 0; row < rows; ++row) {
    const int c = row % kPanelColumns;
    std::byte* const panel = buffer.data() + row / kPanelColumns * packed.panel_bytes;
    reinterpret_cast<float*>(panel)[c] = bits() % 2 == 0 ? 0.25f : 0.125f;
    for (int begin = 0; begin < packed.padded_cols; begin += kGroupInputs) {
      std::byte* const group = panel + kPanelScaleBytes + begin / kGroupInputs * Int4GroupBytes(true);
      const unsigned zero_point = bits() % 16;
      const uint16_t scale = FloatToHalf(0.01f * static_cast<float>(1 + bits() % 200));
      std::memcpy(group + kInt4CodeBytes + 2 * c, &scale, 2);
      group[kInt4CodeBytes + kInt4ScaleBytes + c] = static_cast<std::byte>(zero_point);
      for (int k = 0; k < kGroupInputs; ++k) {
        const unsigned code = begin + k < cols ? bits() % 16 : zero_point;
        group[k / 4 * kInt4StepBytes + c % 16 * 4 + k % 4] |= static_cast<std::byte>(c < 16 ? code : code << 4);
      }
    }
  }
  return WeightMatrix::Over(packed, SharedBytes::Of(std::move(buffer)));
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

// Rows of floats in the form that products with weights of a format take.
class Input {
 public:
  // x: [num_rows, cols], row stride x_stride. Rows of the form lie further apart than they must.
  Input(const Kernels& kernels, WeightFormat format, const float* x, int64_t x_stride, int num_rows, int cols) {
    const InputForm form = InputFormOf(format, kernels);
    if (form == InputForm::kF32) {
      rows_ = InputRows::Floats(x, x_stride);
      return;
    }
    const int64_t stride = PaddedInputs(WeightFormat::kInt4, cols) + 64;
    bytes_.assign(num_rows * stride * 2, 0x55);
    rows_ = {.form = form, .data = bytes_.data(), .stride = stride};
    if (form == InputForm::kBF16) {
      auto* const values = reinterpret_cast<BFloat16*>(bytes_.data());
      for (int row = 0; row < num_rows; ++row) {
        kernels.round_to_bf16(x + row * x_stride, cols, values + row * stride);
      }
      return;
    }
    scales_.resize(num_rows);
    const int64_t sums_stride = 1 + (cols + kGroupInputs - 1) / kGroupInputs;
    sums_.resize(num_rows * sums_stride);
    for (int row = 0; row < num_rows; ++row) {
      kernels.quantize(x + row * x_stride, cols, reinterpret_cast<int8_t*>(bytes_.data()) + row * stride, &scales_[row],
                       sums_.data() + row * sums_stride);
    }
    rows_.scales = scales_.data();
    rows_.sums = sums_.data();
    rows_.sums_stride = sums_stride;
  }

  const InputRows& rows() const { return rows_; }

 private:
  std::vector<uint8_t> bytes_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
  InputRows rows_;
};

// The AMX table with its tiles in memory; needs AVX-512 with BF16.
const Kernels& EmulatedAmxKernels();

// Runs each test for every table beyond the reference; skipped, and said so, where the CPU lacks the instruction set.
// Where only AMX is missing, its table runs with emulated tiles.
class KernelsTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    const CpuFeatures cpu = DetectCpu();
    const Kernels& selected = SelectKernels(cpu, GetParam());
    if (GetParam() == Isa::kAmx && selected.isa == IsaName(Isa::kAvx512Bf16)) {
      kernels_ = &EmulatedAmxKernels();
      return;
    }
    if (selected.isa != IsaName(GetParam())) GTEST_SKIP() << "this CPU does not run " << IsaName(GetParam());
    kernels_ = &selected;
  }

  const Kernels& kernels() const { return *kernels_; }

 private:
  const Kernels* kernels_ = nullptr;
};

}  // namespace expertd

#define EXPERTD_FOR_EVERY_ISA(suite)                                                                       \
  INSTANTIATE_TEST_SUITE_P(AllIsas, suite,                                                                 \
                           testing::Values(Isa::kScalar, Isa::kAvx2, Isa::kAvx2Vnni, Isa::kAvx512,         \
                                           Isa::kAvx512Bf16, Isa::kAmx),                                   \
                           [](const auto& info) { return std::string(IsaName(info.param)); })
