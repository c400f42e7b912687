// The routing of Mixtral, Qwen-MoE and others: softmax over all experts, then the best few. They are found by passes of
// argmax over the probabilities, each taking one out, as experts_per_token is small. Used by moe.cc through router.h;
// runs on the pool's threads.
#include "engine/layers/router.h"

namespace expertd {
namespace {

class SoftmaxTopK : public Router {
 public:
  SoftmaxTopK(const SoftmaxTopKRouter& spec, int num_experts, int experts_per_token)
      : spec_(spec), num_experts_(num_experts), experts_per_token_(experts_per_token) {}

  int experts_per_token() const override { return experts_per_token_; }
  // A pass over the probabilities for the softmax, which costs four, and for each choice.
  int64_t row_work() const override { return int64_t{num_experts_} * (4 + experts_per_token_); }

  void Route(float* logits, int num_rows, int32_t* experts, float* weights, const Kernels& kernels) const override {
    for (int64_t row = 0; row < num_rows; ++row) {
      float* const probabilities = logits + row * num_experts_;
      kernels.softmax(num_experts_, probabilities);
      Choose(probabilities, experts + row * experts_per_token_, weights + row * experts_per_token_, kernels);
    }
  }

 private:
  void Choose(float* probabilities, int32_t* experts, float* weights, const Kernels& kernels) const {
    constexpr float kTaken = -1.0f;  // below every probability
    float sum = 0.0f;
    for (int i = 0; i < experts_per_token_; ++i) {
      experts[i] = kernels.argmax(probabilities, num_experts_);
      weights[i] = probabilities[experts[i]];
      sum += weights[i];
      probabilities[experts[i]] = kTaken;
    }
    if (!spec_.normalizes_top_k) return;
    for (int i = 0; i < experts_per_token_; ++i) weights[i] /= sum;
  }

  const SoftmaxTopKRouter spec_;
  const int num_experts_;
  const int experts_per_token_;
};

}  // namespace

std::unique_ptr<Router> MakeSoftmaxTopKRouter(const SoftmaxTopKRouter& spec, int num_experts, int experts_per_token) {
  return std::make_unique<SoftmaxTopK>(spec, num_experts, experts_per_token);
}

}  // namespace expertd
