#include "engine/checkpoint/stored_weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/tensor/panel_layout.h"

namespace expertd {
namespace {

class FloatWeight : public StoredWeight {
 public:
  FloatWeight(WeightTensor tensor, int64_t rows, int64_t cols)
      : StoredWeight("float", rows, cols, {tensor}), tensor_(std::move(tensor)) {}

  const WeightTensor* floats() const override { return &tensor_; }

  absl::Status ReadRow(int64_t row, float* out) const override {
    ToFloats(tensor_.dtype, tensor_.data + row * cols() * DTypeBytes(tensor_.dtype), cols(), out);
    return absl::OkStatus();
  }

 private:
  const WeightTensor tensor_;
};

class Fp8Weight : public StoredWeight {
 public:
  Fp8Weight(std::string_view scheme, int64_t rows, int64_t cols, Fp8Blocks blocks, std::vector<WeightTensor> tensors)
      : StoredWeight(scheme, rows, cols, std::move(tensors)), blocks_(std::move(blocks)) {}

  absl::Status ReadRow(int64_t row, float* out) const override {
    ToFloats(blocks_.codes.dtype, blocks_.codes.data + row * cols(), cols(), out);
    const int64_t blocks_per_row = (cols() + blocks_.block_cols - 1) / blocks_.block_cols;
    const float* const scales = blocks_.scales.data() + row / blocks_.block_rows * blocks_per_row;
    for (int64_t block = 0; block < blocks_per_row; ++block) {
      const int64_t end = std::min((block + 1) * blocks_.block_cols, cols());
      for (int64_t k = block * blocks_.block_cols; k < end; ++k) out[k] *= scales[block];
    }
    return absl::OkStatus();
  }

 private:
  const Fp8Blocks blocks_;
};

// Codes of 4 or 8 bits that lie in bytes or words of type Unit: code k in unit index(k), shift(k) bits from its end.
template <typename Unit, typename Index, typename Shift>
void Unpack(const std::byte* data, int bits, Index index, Shift shift, std::vector<uint8_t>& out) {
  for (size_t k = 0; k < out.size(); ++k) {
    Unit unit;
    std::memcpy(&unit, data + index(static_cast<int64_t>(k)) * static_cast<int64_t>(sizeof(unit)), sizeof(unit));
    out[k] = static_cast<uint8_t>(unit >> shift(static_cast<int64_t>(k)) & ((1u << bits) - 1));
  }
}

// Row `row` of [num_rows, out.size()] codes: 0..2^bits - 1, signed ones moved up.
void ReadCodes(const IntegerCodes& from, int64_t num_rows, int64_t row, std::vector<uint8_t>& out) {
  const std::byte* const data = from.codes.data;
  const int bits = from.bits;
  const auto cols = static_cast<int64_t>(out.size());
  // k / codes per word and k % codes per word * bits, without a division for each code.
  const int word_shift = bits == 4 ? 3 : 2;
  const auto word_of = [=](int64_t k) { return k >> word_shift; };
  const auto place_of = [=](int64_t k) { return (k & ((1 << word_shift) - 1)) * bits; };
  switch (from.layout) {
    case CodeLayout::kSignedBytes:
      for (int64_t k = 0; k < cols; ++k) {
        out[k] = static_cast<uint8_t>(std::to_integer<int8_t>(data[row * cols + k]) + (1 << (bits - 1)));
      }
      return;
    case CodeLayout::kSignedRowPairs:
      Unpack<uint8_t>(
          data, bits, [&](int64_t k) { return row / 2 * cols + k; }, [&](int64_t) { return row % 2 * 4; }, out);
      break;
    case CodeLayout::kSignedColumnPairs:
      Unpack<uint8_t>(
          data, bits, [&](int64_t k) { return row * (cols / 2) + k / 2; }, [](int64_t k) { return k % 2 * 4; }, out);
      break;
    case CodeLayout::kColumnBytes:
      Unpack<uint8_t>(
          data, bits, [&](int64_t k) { return k * num_rows + row; }, [](int64_t) { return 0; }, out);
      break;
    case CodeLayout::kColumnRowPairs:
      Unpack<uint8_t>(
          data, bits, [&](int64_t k) { return k * (num_rows / 2) + row / 2; }, [&](int64_t) { return row % 2 * 4; },
          out);
      break;
    case CodeLayout::kWordsAlongRow: {
      const int64_t row_words = word_of(cols - 1) + 1;
      return Unpack<uint32_t>(
          data, bits, [&](int64_t k) { return row * row_words + word_of(k); }, place_of, out);
    }
    case CodeLayout::kWordsAlongColumn:
      return Unpack<uint32_t>(
          data, bits, [&](int64_t k) { return word_of(k) * num_rows + row; }, place_of, out);
    case CodeLayout::kAwqWords:
      return Unpack<uint32_t>(
          data, bits, [&](int64_t k) { return k * (num_rows / 8) + row / 8; },
          [&](int64_t) { return kAwqPlaces[row % 8] * bits; }, out);
  }
  for (uint8_t& code : out) code ^= 1 << (bits - 1);  // signed ones
}

class IntegerWeight : public StoredWeight {
 public:
  IntegerWeight(std::string_view scheme, int64_t rows, int64_t cols, IntegerCodes integers,
                std::vector<WeightTensor> tensors)
      : StoredWeight(scheme, rows, cols, std::move(tensors)), integers_(std::move(integers)) {
    std::vector<float>& zero_points = integers_.zero_points;
    if (std::ranges::all_of(zero_points, [&](float point) { return point == center(); })) zero_points.clear();
    native_format_ = FindNativeFormat();
  }

  std::optional<WeightFormat> native_format() const override { return native_format_; }
  bool has_zero_points() const override { return !integers_.zero_points.empty(); }

  absl::Status ReadRow(int64_t row, float* out) const override {
    std::vector<uint8_t> codes(static_cast<size_t>(cols()));
    ReadCodes(integers_, rows(), row, codes);
    RETURN_IF_ERROR(CheckCodes(codes));
    // A run of inputs of one group at a time: one input where groups are not in order.
    const int64_t run = integers_.group_of.empty() ? integers_.group_size : 1;
    for (int64_t begin = 0; begin < cols(); begin += run) {
      const int64_t group = row * integers_.num_groups + GroupOf(begin);
      const float zero_point = has_zero_points() ? integers_.zero_points[group] : center();
      const float group_scale = integers_.group_scales[group], row_scale = RowScale(row);
      for (int64_t k = begin; k < std::min(begin + run, cols()); ++k) {
        out[k] = (static_cast<float>(codes[k]) - zero_point) * group_scale * row_scale;
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadQuantizedRow(int64_t row, QuantizedRow& out) const override {
    EXPERTD_CHECK(native_format_.has_value(), integers_.name);
    out.codes.resize(static_cast<size_t>(cols()));
    ReadCodes(integers_, rows(), row, out.codes);
    RETURN_IF_ERROR(CheckCodes(out.codes));
    const int64_t begin = row * integers_.num_groups;
    if (native_format_ == WeightFormat::kInt8) {
      out.scale = integers_.group_scales[begin] * RowScale(row);
      return absl::OkStatus();
    }
    std::vector<float> group_scales;
    out.zero_points.clear();
    for (int64_t k = 0; k < cols(); k += kGroupInputs) {
      const int64_t group = begin + GroupOf(k);
      group_scales.push_back(integers_.group_scales[group]);
      if (has_zero_points()) out.zero_points.push_back(static_cast<uint8_t>(integers_.zero_points[group]));
    }
    SplitScales(group_scales, out);
    out.scale *= RowScale(row);
    return absl::OkStatus();
  }

 private:
  std::optional<WeightFormat> FindNativeFormat() const {
    if (!integers_.group_of.empty()) return std::nullopt;
    if (integers_.bits == 8) {
      if (integers_.num_groups > 1 || has_zero_points()) return std::nullopt;
      return WeightFormat::kInt8;
    }
    if (integers_.num_groups > 1 && integers_.group_size % kGroupInputs != 0) return std::nullopt;
    const bool are_codes = std::ranges::all_of(integers_.zero_points, [](float point) {
      return point >= 0.0f && point <= kMaxInt4ZeroPoint && point == std::floor(point);
    });
    return are_codes ? std::optional(WeightFormat::kInt4) : std::nullopt;
  }

  // The code that stands for zero where there are no zero points.
  float center() const { return static_cast<float>(1 << (integers_.bits - 1)); }
  float RowScale(int64_t row) const { return integers_.row_scales.empty() ? 1.0f : integers_.row_scales[row]; }
  int64_t GroupOf(int64_t k) const {
    return integers_.group_of.empty() ? k / integers_.group_size : integers_.group_of[k];
  }

  // Bytes may hold more than 4 bits.
  absl::Status CheckCodes(const std::vector<uint8_t>& codes) const {
    const uint8_t largest = *std::ranges::max_element(codes);
    if (largest < 1 << integers_.bits) return absl::OkStatus();
    return absl::InvalidArgumentError(StrCat("tensor ", ShowName(integers_.name), " has the code ",
                                             static_cast<int8_t>(largest - 8), "; must be -8..7"));
  }

  IntegerCodes integers_;
  std::optional<WeightFormat> native_format_;
};

}  // namespace

absl::Status StoredWeight::ReadQuantizedRow(int64_t, QuantizedRow&) const {
  return absl::InternalError(StrCat("a weight of the scheme ", scheme_, " has no codes"));
}

std::unique_ptr<StoredWeight> MakeFloatWeight(WeightTensor tensor, int64_t rows, int64_t cols) {
  return std::make_unique<FloatWeight>(std::move(tensor), rows, cols);
}

std::unique_ptr<StoredWeight> MakeFp8Weight(std::string_view scheme, int64_t rows, int64_t cols, Fp8Blocks blocks,
                                            std::vector<WeightTensor> tensors) {
  return std::make_unique<Fp8Weight>(scheme, rows, cols, std::move(blocks), std::move(tensors));
}

std::unique_ptr<StoredWeight> MakeIntegerWeight(std::string_view scheme, int64_t rows, int64_t cols,
                                                IntegerCodes integers, std::vector<WeightTensor> tensors) {
  return std::make_unique<IntegerWeight>(scheme, rows, cols, std::move(integers), std::move(tensors));
}

}  // namespace expertd
