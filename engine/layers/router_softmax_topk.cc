// The routing of Mixtral, Qwen-MoE and others: softmax over all experts, then the best few. They are found by passes of
// argmax over the probabilities, each taking one out, as experts_per_token is small. Used by moe.cc through router.h;
// runs on the pool's threads.
#include <utility>

#include "engine/layers/router.h"

namespace expertd {
namespace {

class SoftmaxTopK : public Router {
 public:
  SoftmaxTopK(const SoftmaxTopKRouter& spec, int experts_per_token, WeightMatrix gate)
      : spec_(spec), experts_per_token_(experts_per_token), gate_(std::move(gate)) {}

  int num_experts() const override { return gate_.rows(); }
  int experts_per_token() const override { return experts_per_token_; }
  int64_t size_bytes() const override { return gate_.size_bytes(); }
  int64_t row_work() const override {
    // The product by whole panels, and a pass over the probabilities for the softmax and for each choice.
    return int64_t{gate_.num_panels()} * kPanelColumns * (gate_.cols() + 4 + experts_per_token_);
  }

  void Route(const float* x, int num_rows, float* scratch, int32_t* experts, float* weights,
             const Kernels& kernels) const override {
    kernels.matmul(InputRows::Floats(x, gate_.cols()), num_rows, gate_.packed(), /*bias=*/nullptr, 0, num_experts(),
                   scratch, num_experts());
    for (int64_t row = 0; row < num_rows; ++row) {
      float* const probabilities = scratch + row * num_experts();
      kernels.softmax(num_experts(), probabilities);
      Choose(probabilities, experts + row * experts_per_token_, weights + row * experts_per_token_, kernels);
    }
  }

 private:
  void Choose(float* probabilities, int32_t* experts, float* weights, const Kernels& kernels) const {
    constexpr float kTaken = -1.0f;  // below every probability
    float sum = 0.0f;
    for (int i = 0; i < experts_per_token_; ++i) {
      experts[i] = kernels.argmax(probabilities, num_experts());
      weights[i] = probabilities[experts[i]];
      sum += weights[i];
      probabilities[experts[i]] = kTaken;
    }
    if (!spec_.normalizes_top_k) return;
    for (int i = 0; i < experts_per_token_; ++i) weights[i] /= sum;
  }

  const SoftmaxTopKRouter spec_;
  const int experts_per_token_;
  const WeightMatrix gate_;
};

}  // namespace

std::unique_ptr<Router> MakeSoftmaxTopKRouter(const SoftmaxTopKRouter& spec, int experts_per_token, WeightMatrix gate) {
  return std::make_unique<SoftmaxTopK>(spec, experts_per_token, std::move(gate));
}

}  // namespace expertd
