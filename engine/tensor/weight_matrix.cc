#include "engine/tensor/weight_matrix.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

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

int64_t PanelBytes(int cols, DType stored) {
  const int64_t inputs = stored == DType::kF32 ? cols : (int64_t{cols} + 1) / 2 * 2;
  return inputs * kPanelColumns * DTypeBytes(stored);
}

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

using PackFunction = void (*)(const std::byte*, int64_t, int, int, int, std::byte*);

PackFunction SelectPack(DType source, DType stored) {
  const bool f32 = stored == DType::kF32;
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

absl::StatusOr<WeightMatrix> WeightMatrix::Pack(const void* row_major, DType source, int rows, int cols, DType stored) {
  ASSIGN_OR_RETURN(WeightMatrixBuilder builder, WeightMatrixBuilder::Create(rows, cols, stored));
  RETURN_IF_ERROR(builder.AddRows(0, row_major, source, rows));
  return builder.Finish();
}

PackedWeights WeightMatrix::packed() const { return {buffer_.data(), panel_bytes_, rows_, cols_, dtype_}; }

void WeightMatrix::CopyRow(int row, float* out) const {
  const std::byte* panel = buffer_.data() + row / kPanelColumns * panel_bytes_;
  const auto unpack = dtype_ == DType::kF32 ? UnpackColumn<F32Panel> : UnpackColumn<BF16Panel>;
  unpack(panel, row % kPanelColumns, cols_, out);
}

absl::StatusOr<WeightMatrixBuilder> WeightMatrixBuilder::Create(int rows, int cols, DType stored) {
  if (rows <= 0 || cols <= 0) {
    return absl::InvalidArgumentError(StrCat("a weight of ", rows, " x ", cols, " is empty"));
  }
  if (stored != DType::kF32 && stored != DType::kBF16) {
    return absl::InvalidArgumentError(StrCat("weights are not stored as ", DTypeName(stored)));
  }
  WeightMatrixBuilder builder;
  WeightMatrix& matrix = builder.matrix_;
  matrix.rows_ = rows;
  matrix.cols_ = cols;
  matrix.dtype_ = stored;
  matrix.panel_bytes_ = PanelBytes(cols, stored);
  if (matrix.panel_bytes_ > std::numeric_limits<int64_t>::max() / matrix.num_panels()) {
    return absl::ResourceExhaustedError(StrCat("a weight of ", rows, " x ", cols, " exceeds any memory"));
  }
  ASSIGN_OR_RETURN(matrix.buffer_, AlignedBuffer::Allocate(matrix.num_panels() * matrix.panel_bytes_));
  return builder;
}

absl::Status WeightMatrixBuilder::AddRows(int row_begin, const void* row_major, DType source, int num_rows,
                                          int64_t source_row_stride) {
  if (row_begin < 0 || num_rows < 0 || num_rows > matrix_.rows_ - row_begin) {
    return absl::InvalidArgumentError(StrCat("rows ", row_begin, " to ", int64_t{row_begin} + num_rows,
                                             " of a weight with ", matrix_.rows_, " rows"));
  }
  const PackFunction pack = SelectPack(source, matrix_.dtype_);
  const int64_t stride = source_row_stride == 0 ? matrix_.cols_ : source_row_stride;
  const int64_t row_bytes = stride * DTypeBytes(source);
  const auto* rows = static_cast<const std::byte*>(row_major);
  for (int done = 0; done < num_rows;) {
    const int row = row_begin + done;
    const int column = row % kPanelColumns;
    const int count = std::min(kPanelColumns - column, num_rows - done);
    std::byte* panel = matrix_.buffer_.data() + row / kPanelColumns * matrix_.panel_bytes_;
    pack(rows + done * row_bytes, row_bytes, count, matrix_.cols_, column, panel);
    done += count;
  }
  rows_added_ += num_rows;
  return absl::OkStatus();
}

absl::StatusOr<WeightMatrix> WeightMatrixBuilder::Finish() {
  if (rows_added_ < matrix_.rows_) {
    return absl::FailedPreconditionError(
        StrCat("only ", rows_added_, " of ", matrix_.rows_, " rows of a weight were given"));
  }
  return std::exchange(matrix_, WeightMatrix());
}

}  // namespace expertd
