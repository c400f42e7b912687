// A WeightSource of fp32 tensors in memory.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/base/strings.h"
#include "engine/checkpoint/weight_source.h"

namespace expertd {

class MemorySource : public WeightSource {
 public:
  void Add(const std::string& name, std::vector<int64_t> shape, std::vector<float> values) {
    tensors_[name] = {std::move(shape), std::move(values)};
  }

  bool Has(std::string_view name) const override { return tensors_.contains(std::string(name)); }

  absl::StatusOr<WeightTensor> Get(std::string_view name) const override {
    const auto found = tensors_.find(std::string(name));
    if (found == tensors_.end()) return absl::NotFoundError(StrCat("tensor ", name, " is missing"));
    const auto& [shape, values] = found->second;
    return WeightTensor{shape, DType::kF32, reinterpret_cast<const std::byte*>(values.data()),
                        static_cast<int64_t>(values.size() * sizeof(float))};
  }

  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const auto& named : tensors_) names.push_back(named.first);
    return names;
  }

  int64_t TotalBytes() const override {
    int64_t total = 0;
    for (const auto& named : tensors_) total += static_cast<int64_t>(named.second.second.size() * sizeof(float));
    return total;
  }

  void Release(const WeightTensor&) const override {}

 private:
  std::map<std::string, std::pair<std::vector<int64_t>, std::vector<float>>> tensors_;
};

}  // namespace expertd
