// The packed layout of weights: what WeightMatrix writes and the products of kernels/ read, and nothing else knows.
//
// A matrix [rows (outputs), cols (inputs)] is cut into panels of kPanelColumns outputs, which become columns of
// y = x W^T. A panel is one contiguous run of bytes in the order in which a product consumes inputs, so that it streams
// from memory whether one row of x meets it or a thousand. Element (k, c) is input k of output c of the panel:
//   f32   [cols][32]            at k * 32 + c
//   bf16  [inputs / 2][32][2]   inputs = cols rounded up to 32, the depth of an AMX tile; missing ones are zero
//   int8  [32] f32 scales, then [inputs / 4][32][4] codes; inputs = cols rounded up to 64
//         weight = scale * (code - 128)
//   int4  [32] f32 scales, then for each group of 128 inputs
//           [32 steps of 4 inputs][16][4] bytes: output c < 16 of the step in the low half of byte 4 * c + k % 4,
//           output c + 16 in its high half
//           [32] f16 scales
//           [32] u8 zero points, 0..16, and 32 unused bytes, in matrices that have them; otherwise every one is 8
//         weight = scale * group_scale * (code - zero_point)
// Pairs of bf16 and fours of bytes are what the dot-product and tile instructions of x86 take: 16 rows of 64 bytes,
// each 128 bytes from the next, are the tile of 16 outputs. Codes are unsigned, because those instructions multiply
// unsigned by signed bytes, and x is the signed side. Two scales for int4: float16 has the precision of every published
// group scale but not the range, which the outputs' powers of two give back.
// Outputs beyond `rows` in the last panel have scales of zero. Inputs beyond `cols` have weights of zero, but in int4
// with zero points, where x has none to meet them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/tensor/weight_format.h"

namespace expertd {

inline constexpr int kPanelColumns = 32;
inline constexpr int kInt8ZeroPoint = 128;
inline constexpr int kInt4ZeroPoint = 8;
inline constexpr int kMaxInt4ZeroPoint = 16;  // one more than the largest code, as some checkpoints count
inline constexpr int kGroupInputs = 128;

inline constexpr int kPanelScaleBytes = kPanelColumns * 4;
inline constexpr int kInt4StepBytes = kPanelColumns * 4 / 2;  // four inputs of all outputs
inline constexpr int kInt4CodeBytes = kGroupInputs / 4 * kInt4StepBytes;
inline constexpr int kInt4ScaleBytes = kPanelColumns * 2;
inline constexpr int kInt4ZeroPointBytes = 64;

// The packed bytes and what a product must know of them: a plain value, so that kernels, which are compiled for an
// instruction set that the machine may lack, need no function of WeightMatrix.
struct PackedWeights {
  const std::byte* panels = nullptr;  // panel i at panels + i * panel_bytes, aligned to 64 bytes
  int64_t panel_bytes = 0;
  int rows = 0;
  int cols = 0;
  int padded_cols = 0;  // PaddedInputs(format, cols)
  WeightFormat format = WeightFormat::kF32;
  bool has_zero_points = false;  // int4 only
};

// `cols` rounded up to what the format is packed in.
constexpr int64_t PaddedInputs(WeightFormat format, int64_t cols) {
  constexpr int kMultiples[] = {1, 32, 64, kGroupInputs};
  const int64_t multiple = kMultiples[static_cast<int>(format)];
  return (cols + multiple - 1) / multiple * multiple;
}

constexpr int Int4GroupBytes(bool has_zero_points) {
  return kInt4CodeBytes + kInt4ScaleBytes + (has_zero_points ? kInt4ZeroPointBytes : 0);
}

constexpr int64_t PanelBytes(WeightFormat format, int cols, bool has_zero_points = false) {
  const int64_t inputs = PaddedInputs(format, cols);
  switch (format) {
    case WeightFormat::kF32:
      return inputs * kPanelColumns * 4;
    case WeightFormat::kBF16:
      return inputs * kPanelColumns * 2;
    case WeightFormat::kInt8:
      return kPanelScaleBytes + inputs * kPanelColumns;
    case WeightFormat::kInt4:
      return kPanelScaleBytes + inputs / kGroupInputs * Int4GroupBytes(has_zero_points);
  }
  return 0;
}

// Bytes of a matrix [rows, cols].
constexpr int64_t PackedBytes(WeightFormat format, int rows, int cols, bool has_zero_points = false) {
  return (int64_t{rows} + kPanelColumns - 1) / kPanelColumns * PanelBytes(format, cols, has_zero_points);
}

}  // namespace expertd
