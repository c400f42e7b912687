// WeightReader: from a WeightSource to what layers hold - packed matrices in the chosen dtype and vectors of floats.
// Shapes are checked against what the config calls for; source pages are released once packed.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_source.h"
#include "engine/tensor/dtype.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {

// Rows of a source tensor, row-major, [num_rows, cols of the matrix being built].
struct SourceRows {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  int num_rows = 0;
};

// Thread-safe: layers are read in parallel.
class WeightReader {
 public:
  // `stored`: kF32 or kBF16. `source` must outlive the reader.
  WeightReader(const WeightSource& source, DType stored) : source_(source), stored_(stored) {}

  const WeightSource& source() const { return source_; }
  DType stored() const { return stored_; }

  // The tensor `name` of shape [num_rows, cols], unpacked. Errors as GetShaped.
  absl::StatusOr<SourceRows> Rows(std::string_view name, int num_rows, int cols) const;

  // The tensor `name` of shape [count, num_rows, cols] as `count` matrices. Errors as GetShaped.
  absl::StatusOr<std::vector<SourceRows>> StackedRows(std::string_view name, int count, int num_rows, int cols) const;

  // Packs `parts` one under the other. Errors: ResourceExhausted.
  absl::StatusOr<WeightMatrix> Pack(std::span<const SourceRows> parts, int cols, DType stored);
  absl::StatusOr<WeightMatrix> Pack(std::span<const SourceRows> parts, int cols) { return Pack(parts, cols, stored_); }

  // Rows and Pack of one tensor.
  absl::StatusOr<WeightMatrix> Matrix(std::string_view name, int num_rows, int cols, DType stored);
  absl::StatusOr<WeightMatrix> Matrix(std::string_view name, int num_rows, int cols) {
    return Matrix(name, num_rows, cols, stored_);
  }

  absl::StatusOr<std::vector<float>> Vector(std::string_view name, int size);

  // Source bytes packed so far.
  int64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }

  // Counts `rows` as packed and releases its pages: for callers that pack by themselves.
  void Done(const SourceRows& rows, int cols);

 private:
  const WeightSource& source_;
  const DType stored_;
  std::atomic<int64_t> bytes_read_ = 0;
};

}  // namespace expertd
