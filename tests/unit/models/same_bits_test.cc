// The promise of design section 3: a row's logits are the same bits whatever the chunks, the company, the threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "tests/unit/models/support/model_harness.h"

namespace expertd {
namespace {

std::vector<int32_t> Tokens(int count, int seed) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back((7 * i * i + seed * i + 13 * seed) % 96);
  return tokens;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Numbers {
  WeightFormat weights;
  KvFormat kv;
  Isa isa;
};

class SameBitsTest : public testing::TestWithParam<std::tuple<std::string, Numbers>> {
 protected:
  SameBitsTest() : model_(LoadForTest(GoldenFolder(std::get<0>(GetParam())), numbers().weights)) {}

  Numbers numbers() const { return std::get<1>(GetParam()); }
  ModelHarness::Options With(int num_threads, int block_size = 16) const {
    return {.kv_format = numbers().kv,
            .num_threads = num_threads,
            .block_size = block_size,
            .isa_limit = numbers().isa};
  }
  // As long as the model takes, at most 150.
  std::vector<int32_t> LongPrompt(int seed) const {
    return Tokens(static_cast<int>(std::min<int64_t>(150, model_->config().max_positions())), seed);
  }
  std::vector<float> WholePrompt(const std::vector<int32_t>& prompt) const {
    return ModelHarness(*model_, With(1)).Run(prompt, 1000);
  }

  const std::unique_ptr<Model> model_;
};

TEST_P(SameBitsTest, HoweverThePromptIsCut) {
  const std::vector<int32_t> prompt = LongPrompt(5);
  const std::vector<float> whole = WholePrompt(prompt);

  ModelHarness harness(*model_, With(1));

  EXPECT_TRUE(SameBits(harness.Run(prompt, 1), whole));
  EXPECT_TRUE(SameBits(harness.Run(prompt, 7), whole));
  EXPECT_TRUE(SameBits(harness.Run(prompt, 64), whole));
}

TEST_P(SameBitsTest, WithAnyNumberOfThreads) {
  const std::vector<int32_t> prompt = LongPrompt(3);
  const std::vector<float> whole = WholePrompt(prompt);

  EXPECT_TRUE(SameBits(ModelHarness(*model_, With(2)).Run(prompt, 1000), whole));
  EXPECT_TRUE(SameBits(ModelHarness(*model_, With(5)).Run(prompt, 1000), whole));
  EXPECT_TRUE(SameBits(ModelHarness(*model_, With(3)).Run(prompt, 11), whole));
}

TEST_P(SameBitsTest, AmidOtherSequences) {
  const std::vector<int32_t> prompt = Tokens(40, 9);
  const std::vector<float> whole = WholePrompt(prompt);
  ModelHarness harness(*model_, With(2));
  const int vocab = model_->config().vocab_size;
  const int first = harness.NewSequence(), ours = harness.NewSequence(), last = harness.NewSequence();

  std::vector<float> logits;
  for (int begin = 0; begin < 40; begin += 5) {
    // Neighbours of other lengths, one of them a long prompt at once.
    const std::vector<int32_t> before = Tokens(begin == 10 ? 90 : 1, begin), after = Tokens(3, begin + 1);
    const std::vector<float> all =
        harness.Step({{first, before}, {ours, {prompt.begin() + begin, prompt.begin() + begin + 5}}, {last, after}});
    const auto begin_logits = all.begin() + static_cast<int64_t>(before.size()) * vocab;
    logits.insert(logits.end(), begin_logits, begin_logits + 5 * vocab);
  }

  EXPECT_TRUE(SameBits(logits, whole));
}

TEST_P(SameBitsTest, AsOneOfManyThatDecode) {
  const std::vector<int32_t> prompt = Tokens(24, 2);
  const std::vector<float> whole = WholePrompt(prompt);
  ModelHarness harness(*model_, With(2));
  const int vocab = model_->config().vocab_size;
  std::vector<int> sequences;
  for (int i = 0; i < 64; ++i) sequences.push_back(harness.NewSequence());

  std::vector<float> logits;
  for (int position = 0; position < 24; ++position) {
    std::vector<ModelHarness::Feed> feeds;
    for (int i = 0; i < 64; ++i) {
      feeds.push_back({sequences[i], {i == 33 ? prompt[position] : (i * 5 + position) % 96}});
    }
    const std::vector<float> all = harness.Step(feeds);
    logits.insert(logits.end(), all.begin() + 33 * vocab, all.begin() + 34 * vocab);
  }

  EXPECT_TRUE(SameBits(logits, whole));
}

TEST_P(SameBitsTest, WhicheverRowsAskForLogits) {
  const std::vector<int32_t> prompt = Tokens(60, 4);
  const std::vector<float> whole = WholePrompt(prompt);
  ModelHarness harness(*model_, With(2));
  const int64_t vocab = model_->config().vocab_size;
  const int silent = harness.NewSequence(), ours = harness.NewSequence();

  EXPECT_TRUE(harness.Step({{ours, {prompt.begin(), prompt.begin() + 50}, /*wants_logits=*/false}}).empty());
  const std::vector<float> tail =
      harness.Step({{silent, Tokens(30, 1), /*wants_logits=*/false}, {ours, {prompt.begin() + 50, prompt.end()}}});

  EXPECT_TRUE(SameBits(tail, {whole.begin() + 50 * vocab, whole.end()}));
}

std::string ParamName(const testing::TestParamInfo<SameBitsTest::ParamType>& info) {
  const Numbers numbers = std::get<1>(info.param);
  return std::get<0>(info.param) + "_" + std::string(WeightFormatName(numbers.weights)) + "_" +
         std::string(KvFormatName(numbers.kv)) + "_" +
         std::string(IsaName(numbers.isa));
}

INSTANTIATE_TEST_SUITE_P(All, SameBitsTest,
                         testing::Combine(
                             testing::ValuesIn(GoldenNames()),
                             testing::Values(Numbers{WeightFormat::kF32, KvFormat::kF32, Isa::kAmx},
                                             Numbers{WeightFormat::kBF16, KvFormat::kBF16, Isa::kAmx},
                                             Numbers{WeightFormat::kBF16, KvFormat::kBF16, Isa::kAvx512},
                                             Numbers{WeightFormat::kBF16, KvFormat::kBF16, Isa::kAvx2},
                                             Numbers{WeightFormat::kF32, KvFormat::kBF16, Isa::kScalar},
                                             Numbers{WeightFormat::kInt8, KvFormat::kBF16, Isa::kAmx},
                                             Numbers{WeightFormat::kInt8, KvFormat::kBF16, Isa::kAvx2},
                                             Numbers{WeightFormat::kBF16, KvFormat::kInt8, Isa::kAmx},
                                             Numbers{WeightFormat::kF32, KvFormat::kInt8, Isa::kAvx2},
                                             Numbers{WeightFormat::kInt4, KvFormat::kBF16, Isa::kAmx},
                                             Numbers{WeightFormat::kInt4, KvFormat::kBF16, Isa::kAvx2Vnni})),
                         ParamName);

}  // namespace
}  // namespace expertd
