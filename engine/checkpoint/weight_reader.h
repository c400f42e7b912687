// WeightReader: what layers are loaded through. A layer says which matrix it wants, as rows of the checkpoint's
// tensors; the reader hands it over packed in the wanted format, wherever it comes from.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/checkpoint/stored_weights.h"
#include "engine/checkpoint/weight_source.h"
#include "engine/platform/memory.h"
#include "engine/tensor/dtype.h"
#include "engine/tensor/weight_format.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {

// Rows of one tensor, whose last dimension is the columns and whose others are counted as rows.
struct TensorRows {
  std::string tensor;
  std::vector<int64_t> shape;  // of the whole tensor, as config.json calls for
  int64_t row_begin = 0;
  int num_rows = 0;
  int num_zero_rows = 0;       // to follow
  bool may_be_padded = false;  // the tensor may have more rows than `shape` says; they are left out
  bool is_transposed = false;  // the rows are the columns of the part, which has as many rows as they have elements

  int num_outputs() const { return (is_transposed ? static_cast<int>(shape.back()) : num_rows) + num_zero_rows; }

  static TensorRows All(std::string tensor, int rows, int cols) { return {std::move(tensor), {rows, cols}, 0, rows}; }
};

// A matrix as a layer holds it: parts one under the other.
struct MatrixSpec {
  std::string name;  // its own, whatever tensors it is made of
  int cols = 0;
  std::vector<TensorRows> parts;
  std::optional<WeightFormat> format;  // unless said, the reader's or the checkpoint's own (QuantizedWeights)

  int num_rows() const {
    int count = 0;
    for (const TensorRows& part : parts) count += part.num_outputs();
    return count;
  }
};

// Thread-safe: layers are read in parallel.
class WeightReader {
 public:
  explicit WeightReader(WeightFormat format) : format_(format) {}
  virtual ~WeightReader() = default;

  // How matrices of floats are held that do not say otherwise.
  WeightFormat format() const { return format_; }

  // Whether the checkpoint has a tensor of that name.
  virtual bool Has(std::string_view tensor) const = 0;

  // Errors: NotFound, InvalidArgument (another shape), Unimplemented (element type), ResourceExhausted; all name the
  // tensor.
  virtual absl::StatusOr<WeightMatrix> Matrix(const MatrixSpec& spec) = 0;

  // A vector, in fp32. Errors: as Matrix.
  virtual absl::StatusOr<std::vector<float>> Vector(std::string_view tensor, int size) = 0;

  // The bias "X.bias" of the weight "X.weight" where no config calls for one: suppressing outliers before weights are
  // quantized shifts what norms yield, and gives the linear maps behind them biases that undo it. Empty where the
  // checkpoint has none, or one of zeros. To be asked for before the weight, of whose codes it may have to be made.
  // Errors: as Matrix.
  absl::StatusOr<std::vector<float>> OptionalBias(std::string_view weight, int size);

  // The tensor [rows, cols] as it is, row by row, in `dtype` (kF32 or kBF16). Errors: as Matrix.
  virtual absl::StatusOr<SharedBytes> Table(std::string_view tensor, int rows, int cols, DType dtype) = 0;

  // To be called when all has been read. Errors: Unimplemented when the checkpoint has a bias, other than of zeros, of
  // a weight that was read, but nobody asked for it: without it the model would be another one.
  virtual absl::Status Finish() { return absl::OkStatus(); }

  // The bytes to read in all, and those read so far.
  virtual int64_t total_bytes() const = 0;
  int64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }

 protected:
  void CountBytes(int64_t size_bytes) { bytes_read_.fetch_add(size_bytes, std::memory_order_relaxed); }

 private:
  const WeightFormat format_;
  std::atomic<int64_t> bytes_read_ = 0;
};

// Reads the tensors of `weights` and packs them; pages of their source are released once packed. Finish logs what
// became of how many weights of each form.
std::unique_ptr<WeightReader> MakeSourceReader(std::unique_ptr<StoredWeights> weights, WeightFormat format,
                                               QuantizedWeights quantized = QuantizedWeights::kKeep);

// As above, of a checkpoint of floats. `source` must outlive the reader.
std::unique_ptr<WeightReader> MakeSourceReader(const WeightSource& source, WeightFormat format);

// Reads nothing: random weights with a mean of zero and a variance that keeps activations at their size, ones for
// norms and zeros for biases; the same for the same names. For benchmarks of models whose weights are not at hand.
std::unique_ptr<WeightReader> MakeDummyReader(WeightFormat format);

}  // namespace expertd
