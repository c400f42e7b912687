// WeightReader over the tensors of a checkpoint.
#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/checkpoint/weight_reader.h"

namespace expertd {
namespace {

float ElementAt(const WeightTensor& tensor, int64_t index) {
  if (tensor.dtype == DType::kF32) {
    float value;
    std::memcpy(&value, tensor.data + index * sizeof(value), sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, tensor.data + index * sizeof(bits), sizeof(bits));
  return tensor.dtype == DType::kF16 ? HalfToFloat(bits) : ToFloat(BFloat16{bits});
}

void Convert(const WeightTensor& tensor, int64_t size, DType dtype, AlignedBuffer& out) {
  if (tensor.dtype == dtype) {
    std::memcpy(out.data(), tensor.data, static_cast<size_t>(size * DTypeBytes(dtype)));
  } else if (dtype == DType::kF32) {
    float* const values = out.As<float>().data();
    for (int64_t i = 0; i < size; ++i) values[i] = ElementAt(tensor, i);
  } else {
    BFloat16* const values = out.As<BFloat16>().data();
    for (int64_t i = 0; i < size; ++i) values[i] = ToBFloat16(ElementAt(tensor, i));
  }
}

// [elements of a row, part.num_rows]
std::vector<float> Transposed(const WeightTensor& tensor, const TensorRows& part) {
  const int64_t width = part.shape.back();
  std::vector<float> columns(static_cast<size_t>(width * part.num_rows));
  for (int64_t row = 0; row < part.num_rows; ++row) {
    for (int64_t i = 0; i < width; ++i) {
      columns[i * part.num_rows + row] = ElementAt(tensor, (part.row_begin + row) * width + i);
    }
  }
  return columns;
}

class SourceReader : public WeightReader {
 public:
  SourceReader(const WeightSource& source, WeightFormat format) : WeightReader(format), source_(source) {}

  bool Has(std::string_view tensor) const override { return source_.Has(tensor); }
  int64_t total_bytes() const override { return source_.TotalBytes(); }

  absl::StatusOr<WeightMatrix> Matrix(const MatrixSpec& spec) override {
    ASSIGN_OR_RETURN(WeightMatrixBuilder builder,
                     WeightMatrixBuilder::Create(spec.num_rows(), spec.cols, spec.format.value_or(format())));
    int row = 0;
    for (const TensorRows& part : spec.parts) {
      ASSIGN_OR_RETURN(const WeightTensor tensor, TensorOf(part));
      const int64_t row_bytes = part.shape.back() * DTypeBytes(tensor.dtype);
      const std::byte* const rows = tensor.data + part.row_begin * row_bytes;
      const int num_outputs = part.num_outputs() - part.num_zero_rows;
      if (part.is_transposed) {
        const std::vector<float> columns = Transposed(tensor, part);
        RETURN_IF_ERROR(builder.AddRows(row, columns.data(), DType::kF32, num_outputs));
      } else {
        RETURN_IF_ERROR(builder.AddRows(row, rows, tensor.dtype, num_outputs));
      }
      RETURN_IF_ERROR(builder.AddZeroRows(row + num_outputs, part.num_zero_rows));
      row += part.num_outputs();
      Done(tensor, rows, part.num_rows * row_bytes);
    }
    return builder.Finish();
  }

  absl::StatusOr<std::vector<float>> Vector(std::string_view tensor, int size) override {
    ASSIGN_OR_RETURN(std::vector<float> values, ReadVector(source_, tensor, size));
    CountBytes(size * int64_t{sizeof(float)});
    return values;
  }

  absl::StatusOr<SharedBytes> Table(std::string_view name, int rows, int cols, DType dtype) override {
    const int64_t shape[] = {rows, cols};
    ASSIGN_OR_RETURN(const WeightTensor tensor, GetShaped(source_, name, shape));
    const int64_t size = int64_t{rows} * cols;
    ASSIGN_OR_RETURN(AlignedBuffer table, AlignedBuffer::Allocate(size * DTypeBytes(dtype)));
    Convert(tensor, size, dtype, table);
    Done(tensor, tensor.data, tensor.size_bytes);
    return SharedBytes::Of(std::move(table));
  }

 private:
  absl::StatusOr<WeightTensor> TensorOf(const TensorRows& part) const {
    if (!part.may_be_padded) return GetShaped(source_, part.tensor, part.shape);
    std::vector<int64_t> shape = part.shape;
    if (const auto tensor = source_.Get(part.tensor); tensor.ok() && !tensor->shape.empty()) {
      shape.front() = std::max(shape.front(), tensor->shape.front());
    }
    return GetShaped(source_, part.tensor, shape);
  }

  void Done(const WeightTensor& tensor, const std::byte* data, int64_t size_bytes) {
    CountBytes(size_bytes);
    source_.Release({.shape = {}, .dtype = tensor.dtype, .data = data, .size_bytes = size_bytes});
  }

  const WeightSource& source_;
};

}  // namespace

std::unique_ptr<WeightReader> MakeSourceReader(const WeightSource& source, WeightFormat format) {
  return std::make_unique<SourceReader>(source, format);
}

}  // namespace expertd
