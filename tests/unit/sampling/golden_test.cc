// Against Hugging Face's processors and warpers: tests/golden/sampling/record.py made the expectations.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/base/json.h"
#include "engine/sampling/logits_processor.h"
#include "engine/sampling/sampler.h"
#include "engine/sampling/selection.h"
#include "tests/unit/sampling/support/kernels.h"

namespace expertd {
namespace {

constexpr double kValueTolerance = 1e-5;  // the oracle is float64, the product float32
constexpr float kMasked = -std::numeric_limits<float>::infinity();

// As make_row of record.py.
std::vector<float> MakeRow(const Json& golden) {
  auto state = golden["seed"].get<uint64_t>();
  std::vector<float> row(golden["vocab_size"].get<size_t>());
  for (float& value : row) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto bits = static_cast<int64_t>(state >> 40) - (int64_t{1} << 23);
    value = static_cast<float>(bits) / 0x1p20f * golden["spread"].get<float>();
  }
  return row;
}

const Json& Golden() {
  static const Json* const golden =
      new Json(ReadJsonFile(EXPERTD_SOURCE_DIR "/tests/golden/sampling/expected.json").value());
  return *golden;
}

TEST(SamplingGoldenTest, SelectionKeepsTheTokensThatTheWarpersKeep) {
  ASSERT_EQ(Golden()["selection"].size(), 119u);
  for (const Json& golden : Golden()["selection"]) {
    const std::vector<float> row = MakeRow(golden);
    SamplingParams params;
    params.temperature = golden["temperature"].get<float>();
    params.min_p = golden["min_p"].get<float>();
    params.top_k = golden["top_k"].get<int32_t>();
    params.top_p = golden["top_p"].get<float>();
    const std::string kept = golden["kept"].get<std::string>();

    SamplerScratch scratch(BestKernels());
    const RowSummary summary = SummarizeRow(BestKernels(), row, scratch.block_max);
    const Selection selection = SelectTokens(row, summary.max, params, scratch);

    for (int32_t i = 0; i < static_cast<int32_t>(row.size()); ++i) {
      const int byte = std::stoi(kept.substr(i / 8 * 2, 2), nullptr, 16);
      ASSERT_EQ(!ComesBefore(selection.last, {row[i], i}), ((byte >> (i % 8)) & 1) != 0)
          << "token " << i << " of seed " << golden["seed"];
    }
    for (const Json& entry : golden["probs"]) {
      const auto mass = static_cast<double>(MassOf(selection.scale.Exponent(row[entry[0].get<int32_t>()])));
      const bool is_kept = !ComesBefore(selection.last, {row[entry[0].get<int32_t>()], entry[0].get<int32_t>()});
      ASSERT_NEAR(is_kept ? mass / static_cast<double>(selection.total_mass) : 0.0, entry[1].get<double>(),
                  kValueTolerance)
          << "token " << entry[0] << " of seed " << golden["seed"];
    }
  }
}

template <typename T>
T ValueOr(const Json& golden, const char* key, T fallback) {
  const Json* value = JsonFind(golden, key);
  return value == nullptr ? fallback : value->get<T>();
}

Sequence MakeSequence(const Json& golden) {
  Sequence sequence;
  sequence.tokens = golden["prompt"].get<std::vector<int32_t>>();
  sequence.num_prompt_tokens = sequence.num_tokens();
  for (const Json& token : golden["output"]) sequence.tokens.push_back(token.get<int32_t>());
  SamplingParams& params = sequence.sampling;
  params.repetition_penalty = ValueOr(golden, "repetition_penalty", 1.0f);
  params.frequency_penalty = ValueOr(golden, "frequency_penalty", 0.0f);
  params.presence_penalty = ValueOr(golden, "presence_penalty", 0.0f);
  params.logit_bias = ValueOr(golden, "logit_bias", params.logit_bias);
  params.allowed_token_ids = ValueOr(golden, "allowed_token_ids", params.allowed_token_ids);
  params.bad_words = ValueOr(golden, "bad_words", params.bad_words);
  sequence.stop.min_tokens = ValueOr(golden, "min_tokens", 0);
  sequence.stop.token_ids = ValueOr(golden, "stop_token_ids", sequence.stop.token_ids);
  sequence.eos_token_ids = ValueOr(golden, "eos", sequence.eos_token_ids);
  return sequence;
}

TEST(SamplingGoldenTest, ProcessorsGiveTheLogitsOfTheirOriginals) {
  ASSERT_EQ(Golden()["processors"].size(), 11u);
  for (const Json& golden : Golden()["processors"]) {
    std::vector<float> logits = MakeRow(golden), scratch;
    TokenHistory history;

    ApplyLogitsProcessors(MakeSequence(golden), &history, logits, scratch);

    for (size_t i = 0; i < logits.size(); ++i) {
      const Json& expected = golden["expected"][i];
      if (expected.is_null()) {
        EXPECT_EQ(logits[i], kMasked) << golden["name"] << ", token " << i;
      } else {
        EXPECT_NEAR(logits[i], expected.get<double>(), kValueTolerance) << golden["name"] << ", token " << i;
      }
    }
  }
}

TEST(SamplingGoldenTest, LogprobsAreThoseOfLogSoftmax) {
  ASSERT_EQ(Golden()["logprobs"].size(), 4u);
  for (const Json& golden : Golden()["logprobs"]) {
    SamplerScratch scratch(BestKernels());

    const TokenLogprob result =
        ComputeLogprob(MakeRow(golden), golden["token"].get<int32_t>(), {.top_n = 5}, scratch);

    EXPECT_NEAR(result.logprob, golden["logprob"].get<double>(), kValueTolerance);
    EXPECT_EQ(result.rank, golden["rank"].get<int32_t>());
    ASSERT_EQ(result.top.size(), 5u);
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(result.top[i].first, golden["top"][i][0].get<int32_t>());
      EXPECT_NEAR(result.top[i].second, golden["top"][i][1].get<double>(), kValueTolerance);
    }
  }
}

}  // namespace
}  // namespace expertd
