#include "engine/models/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/strings.h"

namespace expertd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(GenerationConfigTest, ReadsTheAdviceOfAModel) {
  const Json json = *ParseJson(R"({"do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.0,
      "repetition_penalty": 1.05, "eos_token_id": [151645, 151643], "pad_token_id": 151643})");

  const auto defaults = ParseGenerationConfig(json);

  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_EQ(defaults->do_sample, true);
  EXPECT_EQ(defaults->temperature, 0.7);
  EXPECT_EQ(defaults->top_p, 0.8);
  EXPECT_EQ(defaults->top_k, 20);
  EXPECT_EQ(defaults->min_p, 0.0);
  EXPECT_EQ(defaults->repetition_penalty, 1.05);
  EXPECT_THAT(defaults->eos_token_ids, ElementsAre(151645, 151643));
}

TEST(GenerationConfigTest, LeavesAbsentFieldsUnset) {
  const auto defaults = ParseGenerationConfig(*ParseJson(R"({"temperature": null})"));

  EXPECT_FALSE(defaults->do_sample.has_value());
  EXPECT_FALSE(defaults->temperature.has_value());
  EXPECT_FALSE(defaults->top_k.has_value());
  EXPECT_THAT(defaults->eos_token_ids, IsEmpty());
}

TEST(GenerationConfigTest, IsEmptyWithoutAFile) {
  const auto defaults = ReadGenerationConfig("/nonexistent");

  ASSERT_TRUE(defaults.ok());
  EXPECT_FALSE(defaults->top_p.has_value());
}

TEST(GenerationConfigTest, NamesTheKeyAndTheAbsurdValue) {
  const auto error = [](const char* text) {
    return std::string(ToStdView(ParseGenerationConfig(*ParseJson(text)).status().message()));
  };

  EXPECT_THAT(error(R"({"temperature": -1})"), HasSubstr("temperature is -1"));
  EXPECT_THAT(error(R"({"top_p": 1.5})"), HasSubstr("top_p is 1.5"));
  EXPECT_THAT(error(R"({"top_k": "many"})"), HasSubstr("top_k is \"many\""));
  EXPECT_THAT(error(R"({"repetition_penalty": 0})"), HasSubstr("repetition_penalty is 0"));
  EXPECT_THAT(error(R"({"eos_token_id": -1})"), HasSubstr("eos_token_id is -1"));
  EXPECT_THAT(error("[]"), HasSubstr("must be a JSON object"));
}

}  // namespace
}  // namespace expertd
