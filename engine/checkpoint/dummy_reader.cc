// WeightReader without a checkpoint: random weights of the right shapes.
#include <functional>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/tensor/random_weights.h"

namespace expertd {
namespace {

uint64_t SeedOf(std::string_view name) { return std::hash<std::string_view>()(name); }

class DummyReader : public WeightReader {
 public:
  using WeightReader::WeightReader;

  // Optional tensors are absent: layers then ask for the usual ones.
  bool Has(std::string_view) const override { return false; }
  int64_t total_bytes() const override { return 0; }

  absl::StatusOr<WeightMatrix> Matrix(const MatrixSpec& spec) override {
    ASSIGN_OR_RETURN(WeightMatrixBuilder builder,
                     WeightMatrixBuilder::Create(spec.num_rows(), spec.cols, spec.format.value_or(format())));
    builder.FillRandom(SeedOf(spec.name));
    return builder.Finish();
  }

  absl::StatusOr<std::vector<float>> Vector(std::string_view tensor, int size) override {
    return std::vector<float>(static_cast<size_t>(size), tensor.ends_with("bias") ? 0.0f : 1.0f);
  }

  absl::StatusOr<SharedBytes> Table(std::string_view tensor, int rows, int cols, DType dtype) override {
    ASSIGN_OR_RETURN(AlignedBuffer table, AlignedBuffer::Allocate(int64_t{rows} * cols * DTypeBytes(dtype)));
    FillRandom(SeedOf(tensor), dtype, /*spread=*/1.0f, {table.data(), static_cast<size_t>(table.size_bytes())});
    return SharedBytes::Of(std::move(table));
  }
};

}  // namespace

std::unique_ptr<WeightReader> MakeDummyReader(WeightFormat format) { return std::make_unique<DummyReader>(format); }

}  // namespace expertd
