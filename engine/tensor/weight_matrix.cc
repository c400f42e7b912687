#include "engine/tensor/weight_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/tensor/quantize.h"
#include "engine/tensor/random_weights.h"

namespace expertd {
namespace {

// Inputs that are packed at a time: all rows of a panel read a cache line or two each, and what they write, some
// kilobytes, stays in the first-level cache.
constexpr int kBlockInputs = 32;

struct F32Source {
  using Element = float;
  static float Read(float value) { return value; }
};
struct F16Source {
  using Element = uint16_t;
  static float Read(uint16_t bits) { return HalfToFloat(bits); }
};
struct BF16Source {
  using Element = uint16_t;
  static float Read(uint16_t bits) { return ToFloat(BFloat16{bits}); }
};

// Element (k, c) of a panel, for each stored type.
struct F32Panel {
  using Element = float;
  static int64_t Index(int64_t k, int c) { return k * kPanelColumns + c; }
  static float Write(float value) { return value; }
  static float Read(float value) { return value; }
};
struct BF16Panel {
  using Element = uint16_t;
  static int64_t Index(int64_t k, int c) { return k / 2 * (2 * kPanelColumns) + 2 * c + k % 2; }
  static uint16_t Write(float value) { return ToBFloat16(value).bits; }
  static float Read(uint16_t bits) { return ToFloat(BFloat16{bits}); }
};

// Packs rows of a source into columns [column_begin, column_begin + num_rows) of one panel.
template <typename Source, typename Panel>
void PackColumns(const std::byte* rows, int64_t row_bytes, int num_rows, int cols, int column_begin, std::byte* panel) {
  using SourceElement = typename Source::Element;
  auto* out = reinterpret_cast<typename Panel::Element*>(panel);
  for (int block = 0; block < cols; block += kBlockInputs) {
    const int num_inputs = std::min(kBlockInputs, cols - block);
    for (int row = 0; row < num_rows; ++row) {
      SourceElement values[kBlockInputs];  // by memcpy, as files align nothing
      std::memcpy(values, rows + row * row_bytes + block * sizeof(SourceElement), num_inputs * sizeof(SourceElement));
      for (int i = 0; i < num_inputs; ++i) {
        out[Panel::Index(block + i, column_begin + row)] = Panel::Write(Source::Read(values[i]));
      }
    }
  }
}

// Reads a row of a source as floats.
template <typename Source>
void ReadRow(const std::byte* row, int cols, float* out) {
  for (int k = 0; k < cols; ++k) {
    typename Source::Element element;
    std::memcpy(&element, row + k * sizeof(element), sizeof(element));
    out[k] = Source::Read(element);
  }
}

void ReadRow(const std::byte* row, DType source, int cols, float* out) {
  switch (source) {
    case DType::kF32:
      return ReadRow<F32Source>(row, cols, out);
    case DType::kF16:
      return ReadRow<F16Source>(row, cols, out);
    case DType::kBF16:
      return ReadRow<BF16Source>(row, cols, out);
  }
}

// The scale of a column of an int8 or int4 panel.
void StoreScale(float scale, int column, std::byte* panel) { reinterpret_cast<float*>(panel)[column] = scale; }
float LoadScale(const std::byte* panel, int column) { return reinterpret_cast<const float*>(panel)[column]; }

// Where the codes of a step of four inputs of one output lie.
int64_t Int8Offset(int64_t step, int column) { return kPanelScaleBytes + (step * kPanelColumns + column) * 4; }
int64_t Int4GroupOffset(int64_t group, bool has_zero_points) {
  return kPanelScaleBytes + group * Int4GroupBytes(has_zero_points);
}
int64_t Int4Offset(int64_t step, int column) { return step * kInt4StepBytes + column % (kPanelColumns / 2) * 4; }
int HalfOfByte(int column) { return column < kPanelColumns / 2 ? 0 : 4; }

void PackInt8Column(std::span<const float> weights, int column, std::byte* panel) {
  std::vector<uint8_t> codes(static_cast<size_t>(PaddedInputs(WeightFormat::kInt8, static_cast<int>(weights.size()))),
                             uint8_t{kInt8ZeroPoint});
  StoreScale(QuantizeInt8(weights, std::span(codes).first(weights.size())), column, panel);
  for (size_t step = 0; step < codes.size() / 4; ++step) {
    std::memcpy(panel + Int8Offset(static_cast<int64_t>(step), column), codes.data() + 4 * step, 4);
  }
}

void PackInt4Column(std::span<const float> weights, int column, std::byte* panel) {
  const size_t num_groups = (weights.size() + kGroupInputs - 1) / kGroupInputs;
  std::vector<uint8_t> codes(num_groups * kGroupInputs, uint8_t{kInt4ZeroPoint});
  std::vector<uint16_t> group_scales(num_groups);
  StoreScale(QuantizeInt4(weights, std::span(codes).first(weights.size()), group_scales), column, panel);
  for (size_t group = 0; group < num_groups; ++group) {
    std::byte* const out = panel + Int4GroupOffset(static_cast<int64_t>(group), /*has_zero_points=*/false);
    for (int k = 0; k < kGroupInputs; ++k) {
      out[Int4Offset(k / 4, column) + k % 4] |= std::byte{codes[group * kGroupInputs + k]} << HalfOfByte(column);
    }
    std::memcpy(out + kInt4CodeBytes + 2 * column, &group_scales[group], 2);
  }
}

void UnpackInt8Column(const std::byte* panel, int column, int cols, float* out) {
  const float scale = LoadScale(panel, column);
  for (int k = 0; k < cols; ++k) {
    const int code = std::to_integer<int>(panel[Int8Offset(k / 4, column) + k % 4]);
    out[k] = scale * static_cast<float>(code - kInt8ZeroPoint);
  }
}

void UnpackInt4Column(const PackedWeights& packed, const std::byte* panel, int column, float* out) {
  const float scale = LoadScale(panel, column);
  for (int k = 0; k < packed.cols; ++k) {
    const std::byte* const group = panel + Int4GroupOffset(k / kGroupInputs, packed.has_zero_points);
    uint16_t half;
    std::memcpy(&half, group + kInt4CodeBytes + 2 * column, 2);
    const std::byte* const zero_points = group + kInt4CodeBytes + kInt4ScaleBytes;
    const int zero_point = packed.has_zero_points ? std::to_integer<int>(zero_points[column]) : kInt4ZeroPoint;
    const std::byte pair = group[Int4Offset(k % kGroupInputs / 4, column) + k % 4];
    const int code = std::to_integer<int>(pair >> HalfOfByte(column)) & 15;
    out[k] = scale * HalfToFloat(half) * static_cast<float>(code - zero_point);
  }
}

using PackFunction = void (*)(const std::byte*, int64_t, int, int, int, std::byte*);

PackFunction SelectPack(DType source, WeightFormat format) {
  const bool f32 = format == WeightFormat::kF32;
  switch (source) {
    case DType::kF32:
      return f32 ? PackColumns<F32Source, F32Panel> : PackColumns<F32Source, BF16Panel>;
    case DType::kF16:
      return f32 ? PackColumns<F16Source, F32Panel> : PackColumns<F16Source, BF16Panel>;
    case DType::kBF16:
      return f32 ? PackColumns<BF16Source, F32Panel> : PackColumns<BF16Source, BF16Panel>;
  }
  return nullptr;
}

template <typename Panel>
void UnpackColumn(const std::byte* panel, int column, int cols, float* out) {
  const auto* elements = reinterpret_cast<const typename Panel::Element*>(panel);
  for (int k = 0; k < cols; ++k) out[k] = Panel::Read(elements[Panel::Index(k, column)]);
}

}  // namespace

PackedWeights PackedShape(WeightFormat format, int rows, int cols) {
  return {.panel_bytes = PanelBytes(format, cols),
          .rows = rows,
          .cols = cols,
          .padded_cols = static_cast<int>(PaddedInputs(format, cols)),
          .format = format};
}

absl::StatusOr<WeightMatrix> WeightMatrix::Pack(const void* row_major, DType source, int rows, int cols,
                                                WeightFormat format) {
  ASSIGN_OR_RETURN(WeightMatrixBuilder builder, WeightMatrixBuilder::Create(rows, cols, format));
  RETURN_IF_ERROR(builder.AddRows(0, row_major, source, rows));
  return builder.Finish();
}

WeightMatrix WeightMatrix::Over(PackedWeights packed, SharedBytes bytes) {
  WeightMatrix matrix;
  matrix.packed_ = packed;
  matrix.packed_.panels = bytes.data;
  matrix.bytes_ = std::move(bytes);
  return matrix;
}

void WeightMatrix::CopyRow(int row, float* out) const {
  const std::byte* const panel = packed_.panels + row / kPanelColumns * packed_.panel_bytes;
  const int column = row % kPanelColumns;
  switch (packed_.format) {
    case WeightFormat::kF32:
      return UnpackColumn<F32Panel>(panel, column, cols(), out);
    case WeightFormat::kBF16:
      return UnpackColumn<BF16Panel>(panel, column, cols(), out);
    case WeightFormat::kInt8:
      return UnpackInt8Column(panel, column, cols(), out);
    case WeightFormat::kInt4:
      return UnpackInt4Column(packed_, panel, column, out);
  }
}

absl::StatusOr<WeightMatrixBuilder> WeightMatrixBuilder::Create(int rows, int cols, WeightFormat format) {
  if (rows <= 0 || cols <= 0) {
    return absl::InvalidArgumentError(StrCat("a weight of ", rows, " x ", cols, " is empty"));
  }
  const int64_t padded_cols = PaddedInputs(format, cols);
  WeightMatrixBuilder builder;
  const int64_t num_panels = (int64_t{rows} + kPanelColumns - 1) / kPanelColumns;
  builder.packed_ = PackedShape(format, rows, cols);
  const int64_t panel_bytes = builder.packed_.panel_bytes;
  if (padded_cols > std::numeric_limits<int>::max() ||
      panel_bytes > std::numeric_limits<int64_t>::max() / num_panels) {
    return absl::ResourceExhaustedError(StrCat("a weight of ", rows, " x ", cols, " exceeds any memory"));
  }
  ASSIGN_OR_RETURN(builder.buffer_, AlignedBuffer::Allocate(num_panels * panel_bytes));
  return builder;
}

std::byte* WeightMatrixBuilder::PanelOf(int row) {
  return buffer_.data() + row / kPanelColumns * packed_.panel_bytes;
}

absl::Status WeightMatrixBuilder::CheckRows(int row_begin, int num_rows) const {
  if (row_begin >= 0 && num_rows >= 0 && num_rows <= packed_.rows - row_begin) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("rows ", row_begin, " to ", int64_t{row_begin} + num_rows,
                                           " of a weight with ", packed_.rows, " rows"));
}

absl::Status WeightMatrixBuilder::AddZeroRows(int row_begin, int num_rows) {
  RETURN_IF_ERROR(CheckRows(row_begin, num_rows));
  rows_added_ += num_rows;
  return absl::OkStatus();
}

void WeightMatrixBuilder::FillRandom(uint64_t seed) {
  const float spread = 1.0f / std::sqrt(static_cast<float>(packed_.cols));
  for (int row = 0; row < packed_.rows; row += kPanelColumns) {
    FillRandomPanel(seed + static_cast<uint64_t>(row), spread, packed_, PanelOf(row));
  }
  rows_added_ = packed_.rows;
}

absl::Status WeightMatrixBuilder::AddRows(int row_begin, const void* row_major, DType source, int num_rows,
                                          int64_t source_row_stride) {
  RETURN_IF_ERROR(CheckRows(row_begin, num_rows));
  const int64_t stride = source_row_stride == 0 ? packed_.cols : source_row_stride;
  const int64_t row_bytes = stride * DTypeBytes(source);
  const auto* const rows = static_cast<const std::byte*>(row_major);
  if (IsInteger(packed_.format)) {
    const auto pack = packed_.format == WeightFormat::kInt8 ? PackInt8Column : PackInt4Column;
    std::vector<float> weights(static_cast<size_t>(packed_.cols));
    for (int i = 0; i < num_rows; ++i) {
      ReadRow(rows + i * row_bytes, source, packed_.cols, weights.data());
      pack(weights, (row_begin + i) % kPanelColumns, PanelOf(row_begin + i));
    }
  } else {
    const PackFunction pack = SelectPack(source, packed_.format);
    for (int done = 0; done < num_rows;) {
      const int column = (row_begin + done) % kPanelColumns;
      const int count = std::min(kPanelColumns - column, num_rows - done);
      pack(rows + done * row_bytes, row_bytes, count, packed_.cols, column, PanelOf(row_begin + done));
      done += count;
    }
  }
  rows_added_ += num_rows;
  return absl::OkStatus();
}

absl::StatusOr<WeightMatrix> WeightMatrixBuilder::Finish() {
  if (rows_added_ < packed_.rows) {
    return absl::FailedPreconditionError(
        StrCat("only ", rows_added_, " of ", packed_.rows, " rows of a weight were given"));
  }
  return WeightMatrix::Over(std::exchange(packed_, {}), SharedBytes::Of(std::move(buffer_)));
}

}  // namespace expertd
