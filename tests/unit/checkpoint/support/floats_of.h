// Tensors of fp32 as values, for tests of sources.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "engine/checkpoint/weight_source.h"

namespace expertd {

// The values of the tensor `name`; none, and a failure of the test, when it cannot be had.
inline std::vector<float> FloatsOf(const WeightSource& source, std::string_view name) {
  const auto tensor = source.Get(name);
  EXPECT_TRUE(tensor.ok()) << tensor.status();
  if (!tensor.ok()) return {};
  std::vector<float> values(static_cast<size_t>(tensor->size_bytes) / sizeof(float));
  std::memcpy(values.data(), tensor->data, static_cast<size_t>(tensor->size_bytes));
  return values;
}

}  // namespace expertd
