// Checkpoints of integer codes packed in 32-bit words, as two families of quantizers write them. Both store weights
// with the inputs first, [k, n] for the map y = x W^T of W [n, k].
//   GPTQ  X.qweight i32 [k * bits / 32, n]: codes along the inputs; X.qzeros [groups, n * bits / 32]; X.scales
//         [groups, n]; X.g_idx [k], the group of each input
//   AWQ   X.qweight i32 [k, n / 8]: codes along the outputs, in the order of kAwqPlaces; X.qzeros [groups, n / 8] in
//         the same order; X.scales [groups, n], in no other order than the outputs'
#include <array>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/quantized_tensors.h"
#include "engine/checkpoint/stored_weights.h"

namespace expertd {
namespace {

constexpr int64_t kMaxGroup = 1 << 20;

class WordWeights : public StoredWeights {
 public:
  using StoredWeights::StoredWeights;

  bool Has(std::string_view name) const override { return source().Has(name) || IsPacked(name); }

  absl::StatusOr<std::unique_ptr<StoredWeight>> Open(std::string_view name,
                                                     std::span<const int64_t> shape) const override {
    if (!IsPacked(name) || shape.size() != 2) return StoredWeights::Open(name, shape);
    return OpenPacked(*ModuleOf(name), shape[0], shape[1]);
  }

 protected:
  virtual absl::StatusOr<std::unique_ptr<StoredWeight>> OpenPacked(const std::string& module, int64_t rows,
                                                                   int64_t cols) const = 0;

  // X.scales [groups, rows], turned.
  absl::Status ReadScales(const std::string& module, int64_t rows, int64_t cols, int64_t group_size,
                          IntegerCodes& integers, std::vector<WeightTensor>& tensors) const {
    ASSIGN_OR_RETURN(const Grid grid, ReadGrid(source(), module + ".scales"));
    RETURN_IF_ERROR(CheckGrid(grid, grid.rows, rows));
    integers.num_groups = grid.rows;
    ASSIGN_OR_RETURN(integers.group_size, GroupSize(cols, grid.rows, group_size, grid.name));
    integers.group_scales.resize(grid.values.size());
    for (int64_t group = 0; group < grid.rows; ++group) {
      for (int64_t row = 0; row < rows; ++row) {
        integers.group_scales[row * grid.rows + group] = grid.values[group * rows + row];
      }
    }
    tensors.push_back(grid.tensor);
    return absl::OkStatus();
  }

  // X.qzeros, one code per group and output; place(i) is that of the i-th of the outputs in a word.
  template <typename Place>
  absl::Status ReadZeroPoints(const std::string& module, int64_t rows, int added, Place place, IntegerCodes& integers,
                              std::vector<WeightTensor>& tensors) const {
    const int64_t per_word = 32 / integers.bits, row_words = rows / per_word;
    ASSIGN_OR_RETURN(const WeightTensor tensor, GetTyped(source(), module + ".qzeros", {DType::kI32},
                                                         std::array{integers.num_groups, row_words}));
    integers.zero_points.resize(static_cast<size_t>(rows * integers.num_groups));
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t group = 0; group < integers.num_groups; ++group) {
        const int64_t word = group * row_words + row / per_word;
        const uint32_t code = CodeOfWord(tensor, word, place(static_cast<int>(row % per_word)), integers.bits);
        integers.zero_points[row * integers.num_groups + group] = static_cast<float>(static_cast<int>(code) + added);
      }
    }
    tensors.push_back(tensor);
    return absl::OkStatus();
  }

  // Words are whole.
  static absl::Status CheckMultiple(const std::string& name, std::string_view what, int64_t size, int64_t per_word) {
    if (size % per_word == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " is packed, but its ", size, " ", what,
                                             " are no multiple of ", per_word));
  }

 private:
  bool IsPacked(std::string_view name) const {
    const std::optional<std::string> module = ModuleOf(name);
    return module && source().Has(*module + ".qweight");
  }
};

class GptqWeights : public WordWeights {
 public:
  GptqWeights(const WeightSource& source, int64_t bits, int64_t group_size, int added_to_zeros)
      : WordWeights(source), bits_(static_cast<int>(bits)), group_size_(group_size), added_to_zeros_(added_to_zeros) {}

 protected:
  absl::StatusOr<std::unique_ptr<StoredWeight>> OpenPacked(const std::string& module, int64_t rows,
                                                           int64_t cols) const override {
    IntegerCodes integers = {.layout = CodeLayout::kWordsAlongColumn, .bits = bits_, .name = module + ".qweight"};
    const int64_t per_word = 32 / bits_;
    RETURN_IF_ERROR(CheckMultiple(integers.name, "inputs", cols, per_word));
    RETURN_IF_ERROR(CheckMultiple(integers.name, "outputs", rows, per_word));
    ASSIGN_OR_RETURN(integers.codes,
                     GetTyped(source(), integers.name, {DType::kI32}, std::array{cols / per_word, rows}));
    std::vector<WeightTensor> tensors = {integers.codes};
    RETURN_IF_ERROR(ReadScales(module, rows, cols, group_size_, integers, tensors));
    const auto place = [](int i) { return i; };
    RETURN_IF_ERROR(ReadZeroPoints(module, rows, added_to_zeros_, place, integers, tensors));
    RETURN_IF_ERROR(ReadGroupOfInputs(source(), module + ".g_idx", cols, integers));
    return MakeIntegerWeight(bits_ == 4 ? "gptq_int4" : "gptq_int8", rows, cols, std::move(integers),
                             std::move(tensors));
  }

 private:
  const int bits_;
  const int64_t group_size_;
  const int added_to_zeros_;
};

class AwqWeights : public WordWeights {
 public:
  AwqWeights(const WeightSource& source, int64_t group_size) : WordWeights(source), group_size_(group_size) {}

 protected:
  absl::StatusOr<std::unique_ptr<StoredWeight>> OpenPacked(const std::string& module, int64_t rows,
                                                           int64_t cols) const override {
    IntegerCodes integers = {.layout = CodeLayout::kAwqWords, .bits = 4, .name = module + ".qweight"};
    RETURN_IF_ERROR(CheckMultiple(integers.name, "outputs", rows, 8));
    ASSIGN_OR_RETURN(integers.codes, GetTyped(source(), integers.name, {DType::kI32}, std::array{cols, rows / 8}));
    std::vector<WeightTensor> tensors = {integers.codes};
    RETURN_IF_ERROR(ReadScales(module, rows, cols, group_size_, integers, tensors));
    const auto place = [](int i) { return kAwqPlaces[i]; };
    RETURN_IF_ERROR(ReadZeroPoints(module, rows, /*added=*/0, place, integers, tensors));
    return MakeIntegerWeight("awq_int4", rows, cols, std::move(integers), std::move(tensors));
  }

 private:
  const int64_t group_size_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StoredWeights>> MakeGptqWeights(const Json& config, const WeightSource& source) {
  ASSIGN_OR_RETURN(const int64_t bits, JsonInt(config, "bits", 1, 32));
  ASSIGN_OR_RETURN(const int64_t group_size, JsonIntOr(config, "group_size", -1, -1, kMaxGroup));
  ASSIGN_OR_RETURN(const size_t format, ReadChoice(config, "checkpoint_format", {"gptq", "gptq_v2"}));
  if (bits != 4 && bits != 8) {
    return absl::UnimplementedError(StrCat("bits of quantization_config is ", bits, "; supported are 4 and 8"));
  }
  // The first format stores zero points less one. One of 15 (none is in symmetric checkpoints) stands for 16 here; some
  // old kernels took it for 0.
  return std::make_unique<GptqWeights>(source, bits, group_size, format == 0 ? 1 : 0);
}

absl::StatusOr<std::unique_ptr<StoredWeights>> MakeAwqWeights(const Json& config, const WeightSource& source) {
  // The library's own files spell these keys otherwise than those of the Hugging Face folders.
  ASSIGN_OR_RETURN(const int64_t w_bit, JsonIntOr(config, "w_bit", 4, 1, 32));
  ASSIGN_OR_RETURN(const int64_t bits, JsonIntOr(config, "bits", w_bit, 1, 32));
  ASSIGN_OR_RETURN(const int64_t q_group_size, JsonIntOr(config, "q_group_size", -1, -1, kMaxGroup));
  ASSIGN_OR_RETURN(const int64_t group_size, JsonIntOr(config, "group_size", q_group_size, -1, kMaxGroup));
  RETURN_IF_ERROR(ReadChoice(config, "version", {"gemm", "GEMM"}).status());
  if (bits != 4) return absl::UnimplementedError(StrCat("bits of quantization_config is ", bits, "; supported is 4"));
  return std::make_unique<AwqWeights>(source, group_size);
}

}  // namespace expertd
