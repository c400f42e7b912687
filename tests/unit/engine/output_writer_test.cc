#include "engine/output_writer.h"

#include <gtest/gtest.h>

#include <memory>
#include <variant>

#include "tests/unit/text/support/fake_tokenizer.h"

namespace expertd {
namespace {

const FakeTokenizer kTokenizer({{"<think>", true}, {"</think>", true}, {"\n"}, {"so"}, {"<tool_call>", true},
                                {R"({"name": "f", "arguments": {"a": 1}})"}, {"</tool_call>", true},
                                {R"({"name": "f", "arguments": {"a": )"}});
const OutputFormats kFormats = {.reasoning = ReasoningMarks{0, 1}, .tools = ToolFormat::kHermes};

struct Written {
  DeltaEvent output;  // joined
  FinishReason reason = FinishReason::kMaxTokens;
  SummaryEvent summary;
};

// What is written for the first candidate of a request whose candidates all have these tokens, up to a stop.
Written Write(RequestSpec spec, const std::vector<TokenId>& prompt, const std::vector<TokenId>& output,
              const Tokenizer* tokenizer = &kTokenizer, FinishReason reason = FinishReason::kStop) {
  const auto stream = std::make_shared<GenerationStream>();
  const int num_candidates = spec.num_candidates;
  const auto writer =
      *OutputWriter::Create(*Request::Create(std::move(spec), {.vocab_size = 7}), StopConditions(), tokenizer,
                            tokenizer == nullptr ? OutputFormats() : kFormats, stream, "");
  for (int i = 0; i < num_candidates; ++i) {
    Sequence sequence;
    sequence.candidate_index = i;
    sequence.num_prompt_tokens = static_cast<int32_t>(prompt.size());
    sequence.tokens = prompt;
    bool stop_found = false;
    for (size_t at = 0; at < output.size() && !stop_found; ++at) {
      sequence.tokens.push_back(output[at]);
      SequenceResult result;
      result.token = output[at];
      writer->WriteStep(sequence, result, absl::Now(), &stop_found);
    }
    writer->WriteFinish(sequence, reason, absl::Now());
  }
  writer->Close(absl::Now());
  Written written;
  while (auto event = stream->TryNext()) {
    if (auto* last = std::get_if<SummaryEvent>(&*event)) written.summary = *last;
    if (auto* end = std::get_if<FinishedEvent>(&*event); end != nullptr && end->candidate_index == 0) {
      written.reason = end->reason;
    }
    auto* delta = std::get_if<DeltaEvent>(&*event);
    if (delta != nullptr && delta->candidate_index == 0) MergeDelta(std::move(*delta), written.output);
  }
  return written;
}

SummaryEvent SummaryOf(std::vector<TokenId> prompt, const std::vector<TokenId>& output, const Tokenizer* tokenizer,
                       int num_candidates = 1) {
  RequestSpec spec;
  spec.input = TokenInput{prompt};
  spec.num_candidates = num_candidates;
  return Write(std::move(spec), prompt, output, tokenizer).summary;
}

RequestSpec ChatSpec() {
  RequestSpec spec;
  ChatInput chat;
  chat.messages = *ParseJson(R"([{"role": "user", "content": "?"}])");
  chat.tools = *ParseJson(R"([{"type": "function", "function": {"name": "f", "parameters": {}}}])");
  spec.input = std::move(chat);
  spec.output.separate_reasoning = true;
  spec.output.parse_tool_calls = true;
  return spec;
}

TEST(OutputWriterTest, SeparatesReasoningAndCallsFromTheAnswer) {
  const Written written = Write(ChatSpec(), {3}, {0, 2, 3, 1, 2, 3, 4, 2, 5, 2, 6});

  EXPECT_EQ(written.output.reasoning, "so");
  EXPECT_EQ(written.output.text, "so");
  ASSERT_EQ(written.output.tool_calls.size(), 1u);
  EXPECT_EQ(written.output.tool_calls[0].name, "f");
  EXPECT_EQ(written.output.tool_calls[0].arguments, R"({"a": 1})");
  EXPECT_TRUE(written.output.tool_calls[0].id.starts_with("call_"));
  EXPECT_EQ(written.output.num_tokens, 11);
  EXPECT_EQ(written.reason, FinishReason::kToolCalls);
  EXPECT_EQ(written.summary.num_reasoning_tokens, 2);
}

TEST(OutputWriterTest, CallsHaveIdsOfTheirOwn) {
  const Written written = Write(ChatSpec(), {3}, {4, 5, 6, 4, 5, 6});

  ASSERT_EQ(written.output.tool_calls.size(), 2u);
  EXPECT_NE(written.output.tool_calls[0].id, written.output.tool_calls[1].id);
}

TEST(OutputWriterTest, TheSpaceBehindAPromptOfTextStays) {
  const FakeTokenizer tokenizer({{"<s>", true}, {" a"}}, /*strips_leading_space=*/true);
  RequestSpec text, chat = ChatSpec(), prefilled = ChatSpec();
  text.input = TextInput{.text = "a"};
  chat.output = prefilled.output = {};
  std::get<ChatInput>(prefilled.input).continue_final_message = true;
  std::get<ChatInput>(prefilled.input).add_generation_prompt = false;

  EXPECT_EQ(Write(text, {0, 1}, {1, 1}, &tokenizer).output.text, " a a");
  EXPECT_EQ(Write(text, {0}, {1, 1}, &tokenizer).output.text, "a a");
  EXPECT_EQ(Write(chat, {0, 1}, {1, 1}, &tokenizer).output.text, "a a");
  EXPECT_EQ(Write(prefilled, {0, 1}, {1, 1}, &tokenizer).output.text, " a a");
}

TEST(OutputWriterTest, APromptMayHaveOpenedReasoning) {
  const Written written = Write(ChatSpec(), {3, 0, 2}, {3, 1, 3});

  EXPECT_EQ(written.output.reasoning, "so");
  EXPECT_EQ(written.output.text, "so");
  EXPECT_EQ(written.reason, FinishReason::kStop);
}

TEST(OutputWriterTest, AnOutputCutOffInACallSaysWhatCutIt) {
  const Written written = Write(ChatSpec(), {3}, {4, 5}, &kTokenizer, FinishReason::kMaxTokens);

  EXPECT_EQ(written.output.tool_calls.size(), 1u);
  EXPECT_EQ(written.reason, FinishReason::kMaxTokens);
}

TEST(OutputWriterTest, AStopStringInACallLeavesNoCallToMake) {
  for (const FinishReason reason : {FinishReason::kStopSequence, FinishReason::kStop}) {
    const Written written = Write(ChatSpec(), {3}, {4, 7}, &kTokenizer, reason);

    EXPECT_EQ(written.output.tool_calls[0].arguments, R"({"a": )");
    EXPECT_EQ(written.reason, reason);
  }
}

TEST(OutputWriterTest, OneCallEndsTheOutputWhereOneIsAllowed) {
  RequestSpec spec = ChatSpec();
  std::get<ChatInput>(spec.input).tool_use.is_single = true;
  const Written written = Write(std::move(spec), {3}, {4, 5, 6, 4, 5, 6});

  EXPECT_EQ(written.output.tool_calls.size(), 1u);
  EXPECT_EQ(written.output.num_tokens, 2);
}

TEST(OutputWriterTest, WhoDoesNotAskGetsTheTextAsItIs) {
  RequestSpec spec = ChatSpec();
  spec.output = {.skip_special_tokens = false};
  const Written written = Write(std::move(spec), {3}, {0, 3, 1, 4, 5, 6});

  EXPECT_EQ(written.output.text,
            R"(<think>so</think><tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>)");
  EXPECT_TRUE(written.output.tool_calls.empty());
  EXPECT_EQ(written.reason, FinishReason::kStop);
}

TEST(OutputWriterTest, WithoutToolsNothingIsACall) {
  RequestSpec spec = ChatSpec();
  std::get<ChatInput>(spec.input).tools = nullptr;
  const Written written = Write(std::move(spec), {3}, {3, 5});

  EXPECT_EQ(written.output.text, R"(so{"name": "f", "arguments": {"a": 1}})");
}

TEST(MergeDeltaTest, KeepsEverything) {
  DeltaEvent earlier{.text = "a", .reasoning = "x", .token_ids = {1}, .num_tokens = 1, .num_merged = 2};
  earlier.logprobs.resize(1);
  earlier.tool_calls = {{.index = 0, .id = "call_0", .name = "f", .arguments = "{"}};
  DeltaEvent later{.text = "b", .reasoning = "y", .token_ids = {2, 3}, .num_tokens = 2, .num_merged = 1};
  later.logprobs.resize(2);
  later.tool_calls = {{.index = 0, .arguments = "}"}, {.index = 1, .id = "call_1", .name = "g"}};

  MergeDelta(std::move(later), earlier);

  EXPECT_EQ(earlier.text, "ab");
  EXPECT_EQ(earlier.reasoning, "xy");
  EXPECT_EQ(earlier.token_ids, (std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(earlier.logprobs.size(), 3u);
  EXPECT_EQ(earlier.num_tokens, 3);
  EXPECT_EQ(earlier.num_merged, 4);
  ASSERT_EQ(earlier.tool_calls.size(), 2u);
  EXPECT_EQ(earlier.tool_calls[0].arguments, "{}");
  EXPECT_EQ(earlier.tool_calls[1].name, "g");
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
