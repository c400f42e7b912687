#include "engine/tools/ceilings.h"

#include <gtest/gtest.h>

#include "engine/platform/cpu.h"

namespace expertd {
namespace {

TEST(CeilingsTest, CountsTheOperationsOfEveryTable) {
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx2Vnni, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    const Kernels& kernels = SelectKernels(DetectCpu(), isa);
    for (const InputForm form : {InputForm::kF32, kernels.bf16_input, InputForm::kInt8}) {
      const int64_t one = kernels.run_products(form, 1);

      EXPECT_GT(one, 0) << kernels.isa;
      EXPECT_EQ(kernels.run_products(form, 0), 0) << kernels.isa;
      EXPECT_EQ(kernels.run_products(form, 7), 7 * one) << kernels.isa;
    }
  }
}

TEST(CeilingsTest, ChoosesTheCeilingByTheFormOfTheInput) {
  const Ceilings ceilings = {.read_bytes = 1, .float_operations = 2, .bf16_operations = 3, .int8_operations = 4};

  EXPECT_EQ(ceilings.Operations(InputForm::kF32), 2);
  EXPECT_EQ(ceilings.Operations(InputForm::kBF16), 3);
  EXPECT_EQ(ceilings.Operations(InputForm::kInt8), 4);
}

}  // namespace
}  // namespace expertd
