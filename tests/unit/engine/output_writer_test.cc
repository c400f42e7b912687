#include "engine/output_writer.h"

#include <gtest/gtest.h>

#include <memory>
#include <variant>

#include "tests/unit/text/support/fake_tokenizer.h"

namespace expertd {
namespace {

const FakeTokenizer kTokenizer({{"<think>"}, {"</think>"}, {"\n"}, {"so"}});

// The summary of a request whose candidates all have these tokens.
SummaryEvent SummaryOf(std::vector<TokenId> prompt, const std::vector<TokenId>& output, const Tokenizer* tokenizer,
                       int num_candidates = 1) {
  RequestSpec spec;
  spec.input = TokenInput{prompt};
  spec.num_candidates = num_candidates;
  const auto stream = std::make_shared<GenerationStream>();
  const auto writer =
      *OutputWriter::Create(*Request::Create(spec, {.vocab_size = 4}), StopConditions(), tokenizer, stream, "");
  for (int i = 0; i < num_candidates; ++i) {
    Sequence sequence;
    sequence.candidate_index = i;
    sequence.num_prompt_tokens = static_cast<int32_t>(prompt.size());
    sequence.tokens = prompt;
    for (const TokenId token : output) {
      bool stop_found;
      sequence.tokens.push_back(token);
      SequenceResult result;
      result.token = token;
      writer->WriteStep(sequence, result, absl::Now(), &stop_found);
    }
    writer->WriteFinish(sequence, FinishReason::kMaxTokens, absl::Now());
  }
  writer->Close(absl::Now());
  SummaryEvent summary;
  while (auto event = stream->TryNext()) {
    if (auto* last = std::get_if<SummaryEvent>(&*event)) summary = *last;
  }
  return summary;
}

TEST(OutputWriterTest, CountsTheTokensOfReasoning) {
  EXPECT_EQ(SummaryOf({3}, {0, 2, 3, 1, 3}, &kTokenizer).num_reasoning_tokens, 2);
  EXPECT_EQ(SummaryOf({3, 0, 2}, {3, 3, 3, 1, 3}, &kTokenizer).num_reasoning_tokens, 3);  // opened by the prompt
  EXPECT_EQ(SummaryOf({0, 3}, {3, 3}, &kTokenizer).num_reasoning_tokens, 0);
  EXPECT_EQ(SummaryOf({3}, {0, 3, 1}, &kTokenizer, /*num_candidates=*/2).num_reasoning_tokens, 2);
  EXPECT_EQ(SummaryOf({3}, {0, 3, 1}, nullptr).num_reasoning_tokens, 0);
  EXPECT_EQ(SummaryOf({3}, {0, 3, 1}, &kTokenizer).num_output_tokens, 3);
}

}  // namespace
}  // namespace expertd
