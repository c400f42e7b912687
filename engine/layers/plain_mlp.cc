#include "engine/layers/plain_mlp.h"

#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/layers/input_rows.h"
#include "engine/layers/linear.h"
#include "engine/layers/work_split.h"

namespace expertd {
namespace {

class PlainMlp : public FeedForward {
 public:
  PlainMlp(Linear up, Gelu gelu, Linear down) : up_(std::move(up)), gelu_(gelu), down_(std::move(down)) {}

  int64_t size_bytes() const override { return up_.size_bytes() + down_.size_bytes(); }

  InputNeeds input_needs(const Kernels& kernels) const override { return {.form = up_.input_form(kernels)}; }

  void AddTo(const LayerInput& x, int num_rows, float* residual, ForwardContext& context) const override {
    ScratchArena::Scope scope(context.scratch);
    const int64_t width = up_.num_outputs();
    float* const activated = context.scratch.Take<float>(num_rows * width);
    up_.Forward(x.rows, num_rows, activated, width, context);
    Activate(num_rows * width, activated, context);
    down_.AddTo(activated, width, num_rows, residual, context);
  }

 private:
  // In place. An element's bits do not depend on where it lies, so that the cut may go through rows.
  void Activate(int64_t size, float* x, ForwardContext& context) const {
    constexpr int64_t kPiece = 1024;
    constexpr int64_t kElementWork = 8;  // in multiply-adds of a product
    const auto activate = gelu_ == Gelu::kErf ? context.kernels.gelu_erf : context.kernels.gelu_tanh;
    const int num_pieces = static_cast<int>(CeilDiv(size, kPiece));
    ParallelRows(context.pool, num_pieces, kPiece * kElementWork, [&](int begin, int end, int) {
      float* const first = x + begin * kPiece;
      activate(first, std::min(end * kPiece, size) - begin * kPiece, first);
    });
  }

  const Linear up_;
  const Gelu gelu_;
  const Linear down_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FeedForward>> LoadPlainMlp(const PlainSpec& spec, int hidden_size,
                                                          const PlainMlpNames& names, WeightReader& reader) {
  ASSIGN_OR_RETURN(Linear up, LoadLinear({names.up, spec.intermediate_size, /*has_bias=*/true}, hidden_size, reader));
  ASSIGN_OR_RETURN(Linear down,
                   LoadLinear({names.down, hidden_size, /*has_bias=*/true}, spec.intermediate_size, reader));
  return std::make_unique<PlainMlp>(std::move(up), spec.gelu, std::move(down));
}

}  // namespace expertd
