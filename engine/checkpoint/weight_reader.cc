#include "engine/checkpoint/weight_reader.h"

#include "engine/base/status_macros.h"

namespace expertd {

absl::StatusOr<SourceRows> WeightReader::Rows(std::string_view name, int num_rows, int cols) const {
  const int64_t shape[] = {num_rows, cols};
  ASSIGN_OR_RETURN(const WeightTensor tensor, GetShaped(source_, name, shape));
  return SourceRows{tensor.data, tensor.dtype, num_rows};
}

absl::StatusOr<std::vector<SourceRows>> WeightReader::StackedRows(std::string_view name, int count, int num_rows,
                                                                  int cols) const {
  const int64_t shape[] = {count, num_rows, cols};
  ASSIGN_OR_RETURN(const WeightTensor tensor, GetShaped(source_, name, shape));
  std::vector<SourceRows> matrices(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    const int64_t offset_bytes = int64_t{i} * num_rows * cols * DTypeBytes(tensor.dtype);
    matrices[i] = {tensor.data + offset_bytes, tensor.dtype, num_rows};
  }
  return matrices;
}

absl::StatusOr<WeightMatrix> WeightReader::Pack(std::span<const SourceRows> parts, int cols, DType stored) {
  int num_rows = 0;
  for (const SourceRows& part : parts) num_rows += part.num_rows;
  ASSIGN_OR_RETURN(WeightMatrixBuilder builder, WeightMatrixBuilder::Create(num_rows, cols, stored));
  int row = 0;
  for (const SourceRows& part : parts) {
    RETURN_IF_ERROR(builder.AddRows(row, part.data, part.dtype, part.num_rows));
    row += part.num_rows;
    Done(part, cols);
  }
  return builder.Finish();
}

absl::StatusOr<WeightMatrix> WeightReader::Matrix(std::string_view name, int num_rows, int cols, DType stored) {
  ASSIGN_OR_RETURN(const SourceRows rows, Rows(name, num_rows, cols));
  return Pack({&rows, 1}, cols, stored);
}

absl::StatusOr<std::vector<float>> WeightReader::Vector(std::string_view name, int size) {
  ASSIGN_OR_RETURN(std::vector<float> values, ReadVector(source_, name, size));
  bytes_read_.fetch_add(size * int64_t{sizeof(float)}, std::memory_order_relaxed);
  return values;
}

void WeightReader::Done(const SourceRows& rows, int cols) {
  const int64_t size_bytes = int64_t{rows.num_rows} * cols * DTypeBytes(rows.dtype);
  bytes_read_.fetch_add(size_bytes, std::memory_order_relaxed);
  source_.Release({.shape = {}, .dtype = rows.dtype, .data = rows.data, .size_bytes = size_bytes});
}

}  // namespace expertd
