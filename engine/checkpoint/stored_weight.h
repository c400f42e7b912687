// StoredWeight: one weight [rows, cols] of a linear map as a checkpoint stores it: floats, 8-bit floats with a scale
// per block, or small integers with scales and zero points, whatever they are packed in. Made by StoredWeights, read by
// the source reader.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "engine/checkpoint/weight_source.h"
#include "engine/tensor/quantize.h"
#include "engine/tensor/weight_format.h"

namespace expertd {

// Looks into the WeightSource, which must outlive it. Immutable; concurrent calls are safe.
class StoredWeight {
 public:
  // `scheme`: a literal, as counted in the log. `tensors`: all that the weight consists of.
  StoredWeight(std::string_view scheme, int64_t rows, int64_t cols, std::vector<WeightTensor> tensors)
      : scheme_(scheme), rows_(rows), cols_(cols), tensors_(std::move(tensors)) {}
  virtual ~StoredWeight() = default;

  std::string_view scheme() const { return scheme_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  const std::vector<WeightTensor>& tensors() const { return tensors_; }

  // kInt8 or kInt4 when the stored codes and scales fit that format as they are.
  virtual std::optional<WeightFormat> native_format() const { return std::nullopt; }
  // Of an int4 weight: whether any zero point is other than kInt4ZeroPoint.
  virtual bool has_zero_points() const { return false; }

  // The tensor itself when it holds floats [rows, cols]; null otherwise.
  virtual const WeightTensor* floats() const { return nullptr; }

  // Writes row `row` as `cols` floats, what it stands for. Errors: InvalidArgument (a code out of its range).
  virtual absl::Status ReadRow(int64_t row, float* out) const = 0;

  // The codes and scales of row `row`, for a matrix in native_format(), which must be there. Errors: as ReadRow.
  virtual absl::Status ReadQuantizedRow(int64_t row, QuantizedRow& out) const;

 private:
  const std::string_view scheme_;
  const int64_t rows_, cols_;
  const std::vector<WeightTensor> tensors_;
};

// Floats as they are: `tensor` has rows * cols elements of a float type.
std::unique_ptr<StoredWeight> MakeFloatWeight(WeightTensor tensor, int64_t rows, int64_t cols);

// 8-bit floats: weight[r, c] = codes[r, c] * scales[r / block_rows, c / block_cols].
struct Fp8Blocks {
  WeightTensor codes;  // f8_e4m3 [rows, cols]
  int64_t block_rows = 0, block_cols = 0;
  std::vector<float> scales;  // [ceil(rows / block_rows), ceil(cols / block_cols)]
};
std::unique_ptr<StoredWeight> MakeFp8Weight(std::string_view scheme, int64_t rows, int64_t cols, Fp8Blocks blocks,
                                            std::vector<WeightTensor> tensors);

// Where the code of element (row, col) lies; n rows, k cols. Words are little-endian and filled from their low bits on.
enum class CodeLayout {
  kSignedBytes,        // i8 [n, k], also for codes of 4 bits
  kSignedRowPairs,     // i8 [n / 2, k]: row r / 2, even rows in the low half
  kSignedColumnPairs,  // i8 [n, k / 2]: column c / 2, even columns in the low half
  kWordsAlongRow,      // i32 [n, ceil(k * bits / 32)]
  kWordsAlongColumn,   // i32 [k * bits / 32, n]
  kColumnBytes,        // i8 [k, n]
  kColumnRowPairs,     // i8 [k, n / 2]: row r / 2, even rows in the low half
  kAwqWords,           // i32 [k, n / 8]: code 2i of a word's eight at place i, code 2i + 1 at place 4 + i
};

// Place in an AWQ word of each of the eight codes that follow one another.
inline constexpr std::array<int, 8> kAwqPlaces = {0, 4, 1, 5, 2, 6, 3, 7};

// Integers: weight[r, c] = (code[r, c] - zero_points[r, g]) * group_scales[r, g] * row_scales[r], g = GroupOf(c), where
// codes count from 0: signed ones are moved up by half their range.
struct IntegerCodes {
  CodeLayout layout = CodeLayout::kSignedBytes;
  int bits = 8;  // 4 or 8
  WeightTensor codes;
  std::string name;  // of the codes' tensor, for messages
  int64_t num_groups = 1;
  int64_t group_size = 0;            // inputs of a group
  std::vector<float> row_scales;     // [rows]; none: 1
  std::vector<float> group_scales;   // [rows, num_groups]
  std::vector<float> zero_points;    // [rows, num_groups]; none: half the range
  std::vector<int32_t> group_of;     // [cols]; none: c / group_size
};
std::unique_ptr<StoredWeight> MakeIntegerWeight(std::string_view scheme, int64_t rows, int64_t cols,
                                                IntegerCodes integers, std::vector<WeightTensor> tensors);

}  // namespace expertd
