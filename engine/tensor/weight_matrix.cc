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

// Packs rows of type `source` into columns [column_begin, column_begin + num_rows) of one panel.
template <typename Panel>
void PackColumns(const std::byte* rows, DType source, int64_t row_bytes, int num_rows, int cols, int column_begin,
                 std::byte* panel) {
  auto* out = reinterpret_cast<typename Panel::Element*>(panel);
  for (int block = 0; block < cols; block += kBlockInputs) {
    const int num_inputs = std::min(kBlockInputs, cols - block);
    for (int row = 0; row < num_rows; ++row) {
      float values[kBlockInputs];
      ToFloats(source, rows + row * row_bytes + block * DTypeBytes(source), num_inputs, values);
      for (int i = 0; i < num_inputs; ++i) {
        out[Panel::Index(block + i, column_begin + row)] = Panel::Write(values[i]);
      }
    }
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

void PackInt8Column(const QuantizedRow& row, int column, std::byte* panel) {
  StoreScale(row.scale, column, panel);
  const int num_inputs = static_cast<int>(row.codes.size());
  for (int k = 0; k < PaddedInputs(WeightFormat::kInt8, num_inputs); ++k) {
    panel[Int8Offset(k / 4, column) + k % 4] = std::byte{k < num_inputs ? row.codes[k] : uint8_t{kInt8ZeroPoint}};
  }
}

void PackInt4Column(const QuantizedRow& row, bool has_zero_points, int column, std::byte* panel) {
  StoreScale(row.scale, column, panel);
  const int num_inputs = static_cast<int>(row.codes.size());
  for (size_t group = 0; group < row.group_scales.size(); ++group) {
    std::byte* const out = panel + Int4GroupOffset(static_cast<int64_t>(group), has_zero_points);
    const uint8_t zero_point = row.zero_points.empty() ? uint8_t{kInt4ZeroPoint} : row.zero_points[group];
    const int begin = static_cast<int>(group) * kGroupInputs;
    for (int k = 0; k < kGroupInputs; ++k) {
      const int code = begin + k < num_inputs ? row.codes[begin + k] : std::min<int>(zero_point, 15);
      out[Int4Offset(k / 4, column) + k % 4] |= static_cast<std::byte>(code << HalfOfByte(column));
    }
    std::memcpy(out + kInt4CodeBytes + 2 * column, &row.group_scales[group], 2);
    if (has_zero_points) out[kInt4CodeBytes + kInt4ScaleBytes + column] = std::byte{zero_point};
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

template <typename Panel>
void UnpackColumn(const std::byte* panel, int column, int cols, float* out) {
  const auto* elements = reinterpret_cast<const typename Panel::Element*>(panel);
  for (int k = 0; k < cols; ++k) out[k] = Panel::Read(elements[Panel::Index(k, column)]);
}

}  // namespace

PackedWeights PackedShape(WeightFormat format, int rows, int cols, bool has_zero_points) {
  return {.panel_bytes = PanelBytes(format, cols, has_zero_points),
          .rows = rows,
          .cols = cols,
          .padded_cols = static_cast<int>(PaddedInputs(format, cols)),
          .format = format,
          .has_zero_points = has_zero_points};
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

absl::StatusOr<WeightMatrixBuilder> WeightMatrixBuilder::Create(int rows, int cols, WeightFormat format,
                                                                bool has_zero_points) {
  if (rows <= 0 || cols <= 0) {
    return absl::InvalidArgumentError(StrCat("a weight of ", rows, " x ", cols, " is empty"));
  }
  const int64_t padded_cols = PaddedInputs(format, cols);
  WeightMatrixBuilder builder;
  const int64_t num_panels = (int64_t{rows} + kPanelColumns - 1) / kPanelColumns;
  builder.packed_ = PackedShape(format, rows, cols, has_zero_points);
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
    std::vector<float> weights(static_cast<size_t>(packed_.cols));
    QuantizedRow quantized;
    for (int i = 0; i < num_rows; ++i) {
      ToFloats(source, rows + i * row_bytes, packed_.cols, weights.data());
      (packed_.format == WeightFormat::kInt8 ? QuantizeInt8 : QuantizeInt4)(weights, quantized);
      StoreRow(row_begin + i, quantized);
    }
  } else {
    const auto pack = packed_.format == WeightFormat::kF32 ? PackColumns<F32Panel> : PackColumns<BF16Panel>;
    for (int done = 0; done < num_rows;) {
      const int column = (row_begin + done) % kPanelColumns;
      const int count = std::min(kPanelColumns - column, num_rows - done);
      pack(rows + done * row_bytes, source, row_bytes, count, packed_.cols, column, PanelOf(row_begin + done));
      done += count;
    }
  }
  rows_added_ += num_rows;
  return absl::OkStatus();
}

absl::Status WeightMatrixBuilder::AddQuantizedRow(int row, const QuantizedRow& quantized) {
  RETURN_IF_ERROR(CheckRows(row, 1));
  const bool is_int4 = packed_.format == WeightFormat::kInt4;
  const size_t num_groups = is_int4 ? static_cast<size_t>(packed_.padded_cols) / kGroupInputs : 0;
  if (!IsInteger(packed_.format) || quantized.codes.size() != static_cast<size_t>(packed_.cols) ||
      quantized.group_scales.size() != num_groups ||
      !(quantized.zero_points.empty() || (packed_.has_zero_points && quantized.zero_points.size() == num_groups))) {
    return absl::InvalidArgumentError(StrCat("a row of ", quantized.codes.size(), " codes, ",
                                             quantized.group_scales.size(), " groups and ",
                                             quantized.zero_points.size(), " zero points for a weight of ",
                                             packed_.cols, " ", WeightFormatName(packed_.format), " inputs"));
  }
  StoreRow(row, quantized);
  ++rows_added_;
  return absl::OkStatus();
}

void WeightMatrixBuilder::StoreRow(int row, const QuantizedRow& quantized) {
  if (packed_.format == WeightFormat::kInt8) {
    PackInt8Column(quantized, row % kPanelColumns, PanelOf(row));
  } else {
    PackInt4Column(quantized, packed_.has_zero_points, row % kPanelColumns, PanelOf(row));
  }
}

absl::StatusOr<WeightMatrix> WeightMatrixBuilder::Finish() {
  if (rows_added_ < packed_.rows) {
    return absl::FailedPreconditionError(
        StrCat("only ", rows_added_, " of ", packed_.rows, " rows of a weight were given"));
  }
  return WeightMatrix::Over(std::exchange(packed_, {}), SharedBytes::Of(std::move(buffer_)));
}

}  // namespace expertd
