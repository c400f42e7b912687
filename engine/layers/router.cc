// The routing rules. Experts are found by passes of argmax, each taking one out, as experts_per_token is small. Used by
// moe.cc; runs on the pool's threads.
#include "engine/layers/router.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/base/log.h"

namespace expertd {
namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();  // below every score, whatever its sign

// Sums of weights that are divided by get this much more, as in the published code: scores may all be zero.
constexpr float kSmallestSum = 1e-20f;

int ArgMax(const float* scores, int num_experts, const Kernels& kernels) { return kernels.argmax(scores, num_experts); }

// Excludes the experts of all groups but the best `num_chosen` of them. scores: [num_experts]; group_score(first, size)
// rates a group.
template <typename Fn>
void KeepBestGroups(float* scores, int num_experts, int num_groups, int num_chosen, const Kernels& kernels,
                    Fn group_score) {
  float group_scores[kMaxExperts];
  const int group_size = num_experts / num_groups;
  for (int g = 0; g < num_groups; ++g) group_scores[g] = group_score(scores + g * group_size, group_size);
  constexpr float kChosen = kExcluded;  // no group is chosen twice
  for (int i = 0; i < num_chosen; ++i) group_scores[ArgMax(group_scores, num_groups, kernels)] = kChosen;
  for (int g = 0; g < num_groups; ++g) {
    if (group_scores[g] != kChosen) std::fill_n(scores + g * group_size, group_size, kExcluded);
  }
}

float SumOfBestTwo(const float* scores, int size) {
  float best = kExcluded, second = kExcluded;
  for (int i = 0; i < size; ++i) {
    if (scores[i] > best) {
      second = std::exchange(best, scores[i]);
    } else if (scores[i] > second) {
      second = scores[i];
    }
  }
  return size == 1 ? best : best + second;
}

// Divides `count` weights by their sum.
void Normalize(float* weights, int count) {
  float sum = 0.0f;
  for (int i = 0; i < count; ++i) sum += weights[i];
  for (int i = 0; i < count; ++i) weights[i] /= sum + kSmallestSum;
}

// What the rules share: the rows, one after another.
class RowRouter : public Router {
 public:
  // per_expert: biases or scales, or empty.
  explicit RowRouter(const MoeSpec& spec, std::vector<float> per_expert = {})
      : num_experts_(spec.num_experts),
        experts_per_token_(spec.experts_per_token),
        per_expert_(std::move(per_expert)) {}

  int experts_per_token() const override { return experts_per_token_; }
  int64_t size_bytes() const override { return static_cast<int64_t>(per_expert_.size() * sizeof(float)); }
  // A pass over the logits for the scores, which costs four, and for each choice.
  int64_t row_work() const override { return int64_t{num_experts_} * (4 + experts_per_token_); }

  void Route(float* logits, int num_rows, int32_t* experts, float* weights, const Kernels& kernels) const override {
    for (int64_t row = 0; row < num_rows; ++row) {
      RouteRow(logits + row * num_experts_, experts + row * experts_per_token_, weights + row * experts_per_token_,
               kernels);
    }
  }

 protected:
  virtual void RouteRow(float* logits, int32_t* experts, float* weights, const Kernels& kernels) const = 0;

  // Takes the best experts out of `scores`, in descending order.
  void TakeBest(float* scores, int32_t* experts, float* chosen_scores, const Kernels& kernels) const {
    for (int i = 0; i < experts_per_token_; ++i) {
      experts[i] = ArgMax(scores, num_experts_, kernels);
      chosen_scores[i] = std::exchange(scores[experts[i]], kExcluded);
    }
  }

  const int num_experts_;
  const int experts_per_token_;
  const std::vector<float> per_expert_;
};

class SoftmaxTopK : public RowRouter {
 public:
  SoftmaxTopK(const MoeSpec& spec, const SoftmaxTopKRouter& rule) : RowRouter(spec), rule_(rule) {}

 protected:
  void RouteRow(float* logits, int32_t* experts, float* weights, const Kernels& kernels) const override {
    kernels.softmax(num_experts_, logits);
    if (rule_.num_chosen_groups < rule_.num_groups) {
      KeepBestGroups(logits, num_experts_, rule_.num_groups, rule_.num_chosen_groups, kernels,
                     [](const float* scores, int size) { return *std::max_element(scores, scores + size); });
    }
    TakeBest(logits, experts, weights, kernels);
    if (rule_.normalizes_top_k) Normalize(weights, experts_per_token_);
    if (rule_.scaling_factor == 1.0) return;
    for (int i = 0; i < experts_per_token_; ++i) weights[i] *= static_cast<float>(rule_.scaling_factor);
  }

 private:
  const SoftmaxTopKRouter rule_;
};

class SigmoidTopK : public RowRouter {
 public:
  SigmoidTopK(const MoeSpec& spec, const SigmoidTopKRouter& rule, std::vector<float> biases)
      : RowRouter(spec, std::move(biases)), rule_(rule) {}

 protected:
  void RouteRow(float* logits, int32_t* experts, float* weights, const Kernels& kernels) const override {
    float choice[kMaxExperts];
    for (int e = 0; e < num_experts_; ++e) {
      logits[e] = 1.0f / (1.0f + std::exp(-logits[e]));
      choice[e] = logits[e] + per_expert_[e];
    }
    if (rule_.num_chosen_groups < rule_.num_groups) {
      KeepBestGroups(choice, num_experts_, rule_.num_groups, rule_.num_chosen_groups, kernels, SumOfBestTwo);
    }
    TakeBest(choice, experts, weights, kernels);
    for (int i = 0; i < experts_per_token_; ++i) weights[i] = logits[experts[i]];
    if (rule_.normalizes_top_k) Normalize(weights, experts_per_token_);
    for (int i = 0; i < experts_per_token_; ++i) weights[i] *= static_cast<float>(rule_.scaling_factor);
  }

 private:
  const SigmoidTopKRouter rule_;
};

class Grouped : public RowRouter {
 public:
  Grouped(const MoeSpec& spec, std::vector<float> scales) : RowRouter(spec, std::move(scales)) {}

 protected:
  void RouteRow(float* logits, int32_t* experts, float* weights, const Kernels& kernels) const override {
    kernels.softmax(num_experts_, logits);
    const int group_size = num_experts_ / experts_per_token_;
    for (int g = 0; g < experts_per_token_; ++g) {
      const int first = g * group_size;
      experts[g] = first + ArgMax(logits + first, group_size, kernels);
      weights[g] = logits[experts[g]] * (per_expert_.empty() ? 1.0f : per_expert_[experts[g]]);
    }
  }
};

}  // namespace

std::unique_ptr<Router> MakeRouter(const MoeSpec& spec, std::vector<float> per_expert) {
  EXPERTD_CHECK(per_expert.empty() || static_cast<int>(per_expert.size()) == spec.num_experts, per_expert.size());
  if (const auto* softmax = std::get_if<SoftmaxTopKRouter>(&spec.router)) {
    return std::make_unique<SoftmaxTopK>(spec, *softmax);
  }
  if (const auto* sigmoid = std::get_if<SigmoidTopKRouter>(&spec.router)) {
    EXPERTD_CHECK(!per_expert.empty(), "no biases");
    return std::make_unique<SigmoidTopK>(spec, *sigmoid, std::move(per_expert));
  }
  return std::make_unique<Grouped>(spec, std::move(per_expert));
}

}  // namespace expertd
