// WeightReader over the tensors of a checkpoint.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/quantized_tensors.h"
#include "engine/checkpoint/weight_reader.h"

namespace expertd {
namespace {

// Rows that are turned into floats at a time: what a panel has.
constexpr int kRowsAtOnce = kPanelColumns;

// The weights that a matrix is made of, by name.
using WeightsByName = std::map<std::string, std::unique_ptr<StoredWeight>, std::less<>>;

// "model.layers.0.mlp.experts.7.up_proj.weight" as what stands before and behind the number; nothing for other names.
struct ExpertName {
  std::string before, behind;
  std::string OfExpert(int expert) const { return StrCat(before, expert, behind); }
};

std::optional<ExpertName> ParseExpertName(std::string_view name) {
  constexpr std::string_view kMark = ".experts.";
  const size_t mark = name.find(kMark);
  if (mark == std::string_view::npos) return std::nullopt;
  const size_t number = mark + kMark.size();
  const size_t end = name.find_first_not_of("0123456789", number);
  if (end == std::string_view::npos || end == number) return std::nullopt;
  return ExpertName{std::string(name.substr(0, number)), std::string(name.substr(end))};
}

// What several weights have in common: `both`, or nothing.
std::optional<WeightFormat> Common(std::optional<WeightFormat> one, std::optional<WeightFormat> other) {
  return one == other ? one : std::nullopt;
}

class SourceReader : public WeightReader {
 public:
  SourceReader(std::unique_ptr<StoredWeights> weights, WeightFormat format, QuantizedWeights quantized)
      : WeightReader(format), weights_(std::move(weights)), quantized_(quantized) {}

  bool Has(std::string_view tensor) const override { return weights_->Has(tensor); }
  int64_t total_bytes() const override { return weights_->source().TotalBytes(); }

  absl::StatusOr<WeightMatrix> Matrix(const MatrixSpec& spec) override {
    ASSIGN_OR_RETURN(const WeightsByName weights, OpenParts(spec));
    ASSIGN_OR_RETURN(const WeightFormat format, FormatOf(spec, weights));
    const bool has_zero_points = format == WeightFormat::kInt4 && std::ranges::any_of(weights, [&](const auto& named) {
                                   return named.second->native_format() == format && named.second->has_zero_points();
                                 });
    ASSIGN_OR_RETURN(WeightMatrixBuilder builder,
                     WeightMatrixBuilder::Create(spec.num_rows(), spec.cols, format, has_zero_points));
    int row = 0;
    for (const TensorRows& part : spec.parts) {
      const StoredWeight& weight = *weights.find(part.tensor)->second;
      RETURN_IF_ERROR(AddPart(weight, part, row, format, builder));
      row += part.num_outputs();
      RETURN_IF_ERROR(builder.AddZeroRows(row - part.num_zero_rows, part.num_zero_rows));
    }
    for (const auto& [name, weight] : weights) {
      RETURN_IF_ERROR(NoteRead(name, weight->scheme(), WeightFormatName(format), weight->rows()));
      if (weight->floats() == nullptr) Release(*weight);
    }
    return builder.Finish();
  }

  absl::StatusOr<std::vector<float>> Vector(std::string_view tensor, int size) override {
    ASSIGN_OR_RETURN(std::vector<float> values, weights_->Vector(tensor, size));
    CountBytes(size * int64_t{sizeof(float)});
    NoteAsked(tensor);
    RETURN_IF_ERROR(CheckBias(tensor, size));
    return values;
  }

  absl::StatusOr<SharedBytes> Table(std::string_view name, int rows, int cols, DType dtype) override {
    const int64_t shape[] = {rows, cols};
    ASSIGN_OR_RETURN(const std::unique_ptr<StoredWeight> weight, weights_->Open(name, shape));
    ASSIGN_OR_RETURN(AlignedBuffer table, AlignedBuffer::Allocate(int64_t{rows} * cols * DTypeBytes(dtype)));
    std::vector<float> values(static_cast<size_t>(cols));
    for (int64_t row = 0; row < rows; ++row) {
      RETURN_IF_ERROR(weight->ReadRow(row, values.data()));
      if (dtype == DType::kF32) {
        std::ranges::copy(values, table.As<float>().begin() + row * cols);
      } else {
        std::ranges::transform(values, table.As<BFloat16>().begin() + row * cols, ToBFloat16);
      }
    }
    for (const WeightTensor& tensor : weight->tensors()) CountBytes(tensor.size_bytes);
    Release(*weight);
    RETURN_IF_ERROR(NoteRead(name, weight->scheme(), DTypeName(dtype), rows));
    return SharedBytes::Of(std::move(table));
  }

  absl::Status Finish() override ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    for (const std::string& bias : biases_) {
      if (asked_.contains(bias)) continue;
      return absl::UnimplementedError(StrCat("the checkpoint has the tensor ", ShowName(bias),
                                             ", which this model's layers do not add; leaving it out would change the "
                                             "model"));
    }
    std::map<std::string, int> counts;
    for (const auto& [name, became] : became_) ++counts[became];
    std::vector<LogField> fields;
    for (const auto& [became, count] : counts) fields.emplace_back(became, count);
    Log(LogLevel::kInfo, "weights_imported", std::span<const LogField>(fields));
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<WeightsByName> OpenParts(const MatrixSpec& spec) const {
    WeightsByName weights;
    for (const TensorRows& part : spec.parts) {
      if (weights.contains(part.tensor)) continue;
      ASSIGN_OR_RETURN(weights[part.tensor], weights_->Open(part.tensor, ShapeOf(part)));
    }
    return weights;
  }

  // The shape to hold the tensor against.
  std::vector<int64_t> ShapeOf(const TensorRows& part) const {
    std::vector<int64_t> shape = part.shape;
    if (!part.may_be_padded) return shape;
    const auto tensor = weights_->source().Get(part.tensor);
    if (tensor.ok() && !tensor->shape.empty()) shape.front() = std::max(shape.front(), tensor->shape.front());
    return shape;
  }

  // The format of a matrix: what the spec or the reader says, unless all its parts, and those of the experts beside it,
  // which a layer takes to be alike, have codes of one kind to keep.
  absl::StatusOr<WeightFormat> FormatOf(const MatrixSpec& spec, const WeightsByName& weights) {
    if (spec.format) return *spec.format;
    if (quantized_ == QuantizedWeights::kConvert || weights.empty()) return format();
    // Codes of columns have no scales of their own.
    if (std::ranges::any_of(spec.parts, &TensorRows::is_transposed)) return format();
    std::optional<WeightFormat> native = weights.begin()->second->native_format();
    for (const auto& [name, weight] : weights) {
      native = Common(native, weight->native_format());
      if (!native) return format();
      ASSIGN_OR_RETURN(const std::optional<WeightFormat> of_experts, FormatOfExperts(name, *weight));
      native = Common(native, of_experts);
    }
    return native.value_or(format());
  }

  // What `weight`, called `name`, and its like in all other experts of the layer have in common.
  absl::StatusOr<std::optional<WeightFormat>> FormatOfExperts(const std::string& name, const StoredWeight& weight)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    const std::optional<ExpertName> expert_name = ParseExpertName(name);
    std::optional<WeightFormat> common = weight.native_format();
    if (!expert_name) return common;
    const std::string pattern = StrCat(expert_name->before, "*", expert_name->behind);
    {
      MutexLock lock(&mutex_);
      const auto known = format_of_experts_.find(pattern);
      if (known != format_of_experts_.end()) return known->second;
    }
    const int64_t shape[] = {weight.rows(), weight.cols()};
    for (int e = 0; common && weights_->Has(expert_name->OfExpert(e)); ++e) {
      ASSIGN_OR_RETURN(const auto expert, weights_->Open(expert_name->OfExpert(e), shape));
      common = Common(common, expert->native_format());
    }
    MutexLock lock(&mutex_);
    format_of_experts_[pattern] = common;
    return common;
  }

  // Packs `part` from row `row` on.
  absl::Status AddPart(const StoredWeight& weight, const TensorRows& part, int row, WeightFormat format,
                       WeightMatrixBuilder& builder) {
    const WeightTensor* const floats = weight.floats();
    if (floats != nullptr && !part.is_transposed) return AddFloats(*floats, weight.cols(), part, row, builder);
    int64_t size_bytes = 0;
    for (const WeightTensor& tensor : weight.tensors()) size_bytes += tensor.size_bytes;
    CountBytes(size_bytes * part.num_rows / weight.rows());
    if (part.is_transposed) return AddTransposed(weight, part, row, builder);
    if (weight.native_format() != format) return AddConverted(weight, part, row, builder);
    QuantizedRow quantized;
    for (int i = 0; i < part.num_rows; ++i) {
      RETURN_IF_ERROR(weight.ReadQuantizedRow(part.row_begin + i, quantized));
      RETURN_IF_ERROR(builder.AddQuantizedRow(row + i, quantized));
    }
    return absl::OkStatus();
  }

  absl::Status AddFloats(const WeightTensor& tensor, int64_t cols, const TensorRows& part, int row,
                         WeightMatrixBuilder& builder) {
    const int64_t row_bytes = cols * DTypeBytes(tensor.dtype), size_bytes = part.num_rows * row_bytes;
    const std::byte* const rows = tensor.data + part.row_begin * row_bytes;
    RETURN_IF_ERROR(builder.AddRows(row, rows, tensor.dtype, part.num_rows));
    CountBytes(size_bytes);
    weights_->source().Release({.shape = {}, .dtype = tensor.dtype, .data = rows, .size_bytes = size_bytes});
    return absl::OkStatus();
  }

  static absl::Status AddConverted(const StoredWeight& weight, const TensorRows& part, int row,
                                   WeightMatrixBuilder& builder) {
    std::vector<float> values(static_cast<size_t>(kRowsAtOnce * weight.cols()));
    for (int begin = 0; begin < part.num_rows; begin += kRowsAtOnce) {
      const int count = std::min(kRowsAtOnce, part.num_rows - begin);
      for (int i = 0; i < count; ++i) {
        RETURN_IF_ERROR(weight.ReadRow(part.row_begin + begin + i, values.data() + i * weight.cols()));
      }
      RETURN_IF_ERROR(builder.AddRows(row + begin, values.data(), DType::kF32, count));
    }
    return absl::OkStatus();
  }

  static absl::Status AddTransposed(const StoredWeight& weight, const TensorRows& part, int row,
                                    WeightMatrixBuilder& builder) {
    std::vector<float> values(static_cast<size_t>(weight.cols()));
    std::vector<float> columns(values.size() * static_cast<size_t>(part.num_rows));  // [cols, part.num_rows]
    for (int64_t i = 0; i < part.num_rows; ++i) {
      RETURN_IF_ERROR(weight.ReadRow(part.row_begin + i, values.data()));
      for (int64_t k = 0; k < weight.cols(); ++k) columns[k * part.num_rows + i] = values[k];
    }
    return builder.AddRows(row, columns.data(), DType::kF32, static_cast<int>(weight.cols()));
  }

  void Release(const StoredWeight& weight) {
    for (const WeightTensor& tensor : weight.tensors()) weights_->source().Release(tensor);
  }

  void NoteAsked(std::string_view tensor) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    asked_.emplace(tensor);
  }

  // Counts what became of a weight, and looks after its bias while its pages are at hand.
  absl::Status NoteRead(std::string_view name, std::string_view scheme, std::string_view became, int64_t rows)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      MutexLock lock(&mutex_);
      if (!became_.emplace(name, StrCat(scheme, "->", became)).second) return absl::OkStatus();
    }
    return CheckBias(name, rows);
  }

  bool IsAsked(const std::string& tensor) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    return asked_.contains(tensor);
  }

  // Remembers the bias of the weight `name` when it has one that nobody asked for yet, unless it is all zeros.
  absl::Status CheckBias(std::string_view name, int64_t rows) ABSL_LOCKS_EXCLUDED(mutex_) {
    const std::optional<std::string> module = ModuleOf(name);
    if (!module || !weights_->Has(*module + ".bias") || IsAsked(*module + ".bias")) return absl::OkStatus();
    ASSIGN_OR_RETURN(const std::vector<float> bias, weights_->Vector(*module + ".bias", rows));
    if (std::ranges::all_of(bias, [](float value) { return value == 0.0f; })) return absl::OkStatus();
    MutexLock lock(&mutex_);
    biases_.insert(*module + ".bias");
    return absl::OkStatus();
  }

  const std::unique_ptr<StoredWeights> weights_;
  const QuantizedWeights quantized_;
  Mutex mutex_;
  std::map<std::string, std::string, std::less<>> became_ ABSL_GUARDED_BY(mutex_);  // name: "scheme->format"
  std::set<std::string> asked_ ABSL_GUARDED_BY(mutex_);                             // vectors
  std::set<std::string> biases_ ABSL_GUARDED_BY(mutex_);                            // of weights that were read
  std::map<std::string, std::optional<WeightFormat>> format_of_experts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<WeightReader> MakeSourceReader(std::unique_ptr<StoredWeights> weights, WeightFormat format,
                                               QuantizedWeights quantized) {
  return std::make_unique<SourceReader>(std::move(weights), format, quantized);
}

std::unique_ptr<WeightReader> MakeSourceReader(const WeightSource& source, WeightFormat format) {
  return MakeSourceReader(std::make_unique<StoredWeights>(source), format);
}

}  // namespace expertd
