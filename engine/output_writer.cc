#include "engine/output_writer.h"

#include <algorithm>
#include <random>
#include <span>
#include <utility>
#include <variant>

#include "absl/strings/str_format.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace expertd {
namespace {

absl::Duration Between(absl::Time from, absl::Time to) {
  if (from == absl::InfiniteFuture() || to == absl::InfiniteFuture() || to < from) return absl::ZeroDuration();
  return to - from;
}

// Null when there are none.
const ChatInput* ChatWithTools(const Request& request) {
  const auto* chat = std::get_if<ChatInput>(&request.spec().input);
  return chat != nullptr && !chat->tools.is_null() ? chat : nullptr;
}

// The output goes on where the prompt ends, and is no message of its own.
bool ContinuesText(const Request& request) {
  const auto* chat = std::get_if<ChatInput>(&request.spec().input);
  return chat == nullptr || chat->continue_final_message;
}

// "call_" and 24 hexadecimal digits. At random: callers put calls of many answers into one conversation.
std::string MakeCallId() {
  std::random_device device;
  return absl::StrFormat("call_%08x%08x%08x", device(), device(), device());
}

}  // namespace

absl::StatusOr<std::unique_ptr<OutputWriter>> OutputWriter::Create(std::shared_ptr<const Request> request,
                                                                   const StopConditions& stop,
                                                                   const Tokenizer* tokenizer,
                                                                   const OutputFormats& formats,
                                                                   std::shared_ptr<GenerationStream> stream,
                                                                   std::string prompt_text) {
  std::unique_ptr<OutputWriter> writer(
      new OutputWriter(std::move(request), stop, tokenizer, formats, std::move(stream), std::move(prompt_text)));
  if (stop.strings.empty()) return writer;
  ASSIGN_OR_RETURN(const StopMatcher matcher,
                   StopMatcher::Create(stop.strings, {.include_stop_in_output = stop.include_stop_in_output}));
  for (Candidate& candidate : writer->candidates_) candidate.stop_matcher = matcher;
  return writer;
}

OutputWriter::OutputWriter(std::shared_ptr<const Request> request, const StopConditions& stop,
                           const Tokenizer* tokenizer, const OutputFormats& formats,
                           std::shared_ptr<GenerationStream> stream, std::string prompt_text)
    : request_(std::move(request)),
      stop_(stop),
      tokenizer_(tokenizer),
      formats_(formats),
      separates_reasoning_(request_->spec().output.separate_reasoning && formats.reasoning.has_value()),
      parses_tool_calls_(request_->spec().output.parse_tool_calls && formats.tools.has_value() &&
                         ChatWithTools(*request_) != nullptr),
      calls_once_(parses_tool_calls_ && ChatWithTools(*request_)->tool_use.is_single),
      stream_(std::move(stream)),
      // Stop strings are found in the text, so they need it even where the caller does not.
      writes_text_(request_->spec().output.text && tokenizer != nullptr) {
  prompt_.text = std::move(prompt_text);
  candidates_.resize(static_cast<size_t>(request_->spec().num_candidates));
  for (size_t i = 0; i < candidates_.size(); ++i) {
    candidates_[i].delta.candidate_index = static_cast<int32_t>(i);
    if (tokenizer != nullptr && (writes_text_ || !stop.strings.empty())) {
      candidates_[i].detokenizer.emplace(*tokenizer, request_->spec().output.skip_special_tokens, KeptTokens());
    }
    if (parses_tool_calls_) candidates_[i].tool_call_parser.emplace(*formats_.tools);
  }
}

std::vector<TokenId> OutputWriter::KeptTokens() const {
  std::vector<TokenId> kept;
  if (separates_reasoning_) kept = {formats_.reasoning->open, formats_.reasoning->close};
  if (!parses_tool_calls_) return kept;
  for (const std::string_view mark : MarksOf(*formats_.tools)) {
    if (const std::optional<TokenId> token = tokenizer_->TokenToId(mark)) kept.push_back(*token);
  }
  return kept;
}

bool OutputWriter::IsReasoningOpen(const Sequence& sequence) const {
  const auto prompt = std::span(sequence.tokens).first(static_cast<size_t>(sequence.num_prompt_tokens));
  return EndsInReasoning(*tokenizer_, *formats_.reasoning, prompt);
}

void OutputWriter::AddText(Candidate& candidate, const std::string& text, bool is_last, bool is_cut_off) {
  if (!writes_text_) return;
  ReasoningSplitter::Output output{.reasoning = "", .text = text};
  if (candidate.reasoning_splitter.has_value()) {
    output = candidate.reasoning_splitter->Append(text);
    if (is_last) {
      const ReasoningSplitter::Output rest = candidate.reasoning_splitter->Flush();
      output.reasoning += rest.reasoning;
      output.text += rest.text;
    }
  }
  candidate.delta.reasoning += output.reasoning;
  if (!candidate.tool_call_parser.has_value()) {
    candidate.delta.text += output.text;
    return;
  }
  AddAnswer(candidate, candidate.tool_call_parser->Append(output.text));
  if (is_last) AddAnswer(candidate, candidate.tool_call_parser->Flush(is_cut_off));
}

void OutputWriter::AddAnswer(Candidate& candidate, ToolCallParser::Output output) {
  candidate.delta.text += output.text;
  for (ToolCallPiece& piece : output.calls) {
    ToolCallEvent event{.index = piece.index, .name = std::move(piece.name), .arguments = std::move(piece.arguments)};
    if (!event.name.empty()) event.id = MakeCallId();
    DeltaEvent addition;
    addition.tool_calls.push_back(std::move(event));
    addition.num_merged = -1;  // part of the same delta
    MergeDelta(std::move(addition), candidate.delta);
  }
}

void OutputWriter::WriteStep(const Sequence& sequence, const SequenceResult& result, absl::Time now,
                             bool* stop_found) {
  *stop_found = false;
  if (sequence.candidate_index == 0 && !prompt_written_) {
    prompt_.logprobs.insert(prompt_.logprobs.end(), result.prompt_logprobs.begin(), result.prompt_logprobs.end());
  }
  if (result.token < 0) return;
  if (!prompt_written_) WritePrompt(sequence);
  WriteToken(sequence, result, now, stop_found);
}

void OutputWriter::WritePrompt(const Sequence& sequence) {
  prompt_written_ = true;
  arrival_time_ = sequence.arrival_time;
  prompt_.num_prompt_tokens = sequence.num_prompt_tokens;
  prompt_.num_cached_tokens = sequence.num_cached_tokens;
  summary_.num_prompt_tokens = sequence.num_prompt_tokens;
  summary_.num_cached_tokens = sequence.num_cached_tokens;
  if (request_->spec().output.token_ids) {
    prompt_.token_ids.assign(sequence.tokens.begin(), sequence.tokens.begin() + sequence.num_prompt_tokens);
  }
  stream_->Push(std::move(prompt_));
}

void OutputWriter::WriteToken(const Sequence& sequence, const SequenceResult& result, absl::Time now,
                              bool* stop_found) {
  Candidate& candidate = candidates_[sequence.candidate_index];
  if (candidate.num_output_tokens++ == 0) {
    candidate.first_token_time = now;
    if (candidate.detokenizer.has_value() && ContinuesText(*request_) && sequence.num_prompt_tokens > 0) {
      candidate.detokenizer->ContinueAfter(sequence.tokens[static_cast<size_t>(sequence.num_prompt_tokens) - 1]);
    }
    if (separates_reasoning_) {
      candidate.reasoning_splitter.emplace(std::string(tokenizer_->TokenBytes(formats_.reasoning->open)),
                                           std::string(tokenizer_->TokenBytes(formats_.reasoning->close)),
                                           IsReasoningOpen(sequence));
    }
  } else {
    candidate.last_gap = now - candidate.last_token_time;
  }
  candidate.last_token_time = now;

  candidate.delta.num_tokens += 1;
  if (request_->spec().output.token_ids) candidate.delta.token_ids.push_back(result.token);
  if (result.has_logprob) candidate.delta.logprobs.push_back(result.logprob);

  // The token that ends a text is not part of it, unless the caller wants its stop tokens shown.
  const bool is_end =
      sequence.stop_token >= 0 && (sequence.finish_reason == FinishReason::kStop || !stop_.include_stop_in_output);
  if (candidate.detokenizer.has_value() && !is_end) {
    std::string text = candidate.detokenizer->Append(result.token);
    if (candidate.stop_matcher.has_value() && candidate.num_output_tokens >= stop_.min_tokens) {
      StopMatcher::Result matched = candidate.stop_matcher->Append(text);
      text = std::move(matched.text);
      if (matched.stop_index.has_value()) {
        candidate.stop_string = stop_.strings[static_cast<size_t>(*matched.stop_index)];
        *stop_found = true;
      }
    }
    AddText(candidate, text, /*is_last=*/false);
    if (calls_once_ && candidate.tool_call_parser->num_ended_calls() > 0) *stop_found = true;
  }
  const DeltaEvent& delta = candidate.delta;
  const bool has_text = !delta.text.empty() || !delta.reasoning.empty() || !delta.tool_calls.empty();
  if (has_text || !delta.token_ids.empty() || !delta.logprobs.empty()) PushDelta(candidate);
}

void OutputWriter::PushDelta(Candidate& candidate) {
  DeltaEvent next;
  next.candidate_index = candidate.delta.candidate_index;
  stream_->Push(std::exchange(candidate.delta, std::move(next)));
}

int OutputWriter::NumReasoningTokens(const Sequence& sequence) const {
  if (!formats_.reasoning.has_value()) return 0;
  const auto output = std::span(sequence.tokens).subspan(static_cast<size_t>(sequence.num_prompt_tokens));
  return CountReasoningTokens(*tokenizer_, *formats_.reasoning, IsReasoningOpen(sequence), output);
}

void OutputWriter::WriteFinish(const Sequence& sequence, FinishReason reason, absl::Time now) {
  if (!prompt_written_) WritePrompt(sequence);
  Candidate& candidate = candidates_[sequence.candidate_index];
  std::string rest;
  if (candidate.detokenizer.has_value() && candidate.stop_string.empty()) {
    rest = candidate.detokenizer->Flush();
    if (candidate.stop_matcher.has_value() && candidate.num_output_tokens >= stop_.min_tokens) {
      rest = candidate.stop_matcher->Append(rest).text + candidate.stop_matcher->Flush();
    }
  }
  const bool is_cut_off = reason != FinishReason::kStop;
  AddText(candidate, rest, /*is_last=*/true, is_cut_off);
  if (!candidate.delta.empty()) PushDelta(candidate);

  FinishedEvent finished;
  finished.candidate_index = sequence.candidate_index;
  const auto& calls = candidate.tool_call_parser;
  const bool has_calls = calls.has_value() && calls->num_calls() > 0 && calls->num_ended_calls() == calls->num_calls();
  const bool is_stop = reason == FinishReason::kStop || reason == FinishReason::kStopSequence;
  finished.reason = has_calls && is_stop ? FinishReason::kToolCalls : reason;
  finished.stop_string = candidate.stop_string;
  finished.stop_token = candidate.stop_string.empty() ? sequence.stop_token : -1;
  finished.num_output_tokens = candidate.num_output_tokens;
  finished.seed = sequence.sampling.seed;
  stream_->Push(std::move(finished));

  const SequenceStats stats = StatsOf(sequence, reason, now);
  summary_.num_output_tokens += candidate.num_output_tokens;
  summary_.num_reasoning_tokens += NumReasoningTokens(sequence);
  RequestTiming& timing = summary_.timing;
  if (sequence.candidate_index == 0) {
    timing.queue = stats.queue_time;
    timing.prefill = stats.prefill_time;
    timing.time_to_first_token = stats.time_to_first_token;
  }
  timing.decode = std::max(timing.decode, stats.decode_time);
  timing.num_preemptions += sequence.num_preemptions;
}

void OutputWriter::Close(absl::Time now) {
  summary_.timing.total = Between(arrival_time_, now);
  stream_->Push(summary_);
  stream_->Close(absl::OkStatus());
}

void OutputWriter::Close(const absl::Status& status) { stream_->Close(status); }

SequenceStats OutputWriter::StatsOf(const Sequence& sequence, FinishReason reason, absl::Time now) const {
  const Candidate& candidate = candidates_[sequence.candidate_index];
  SequenceStats stats;
  stats.reason = reason;
  if (sequence.candidate_index == 0) {
    stats.num_prompt_tokens = sequence.num_prompt_tokens;
    stats.num_cached_tokens = sequence.num_cached_tokens;
  }
  stats.num_output_tokens = candidate.num_output_tokens;
  stats.queue_time = Between(sequence.arrival_time, std::min(sequence.first_scheduled_time, now));
  stats.prefill_time = Between(sequence.first_scheduled_time, candidate.first_token_time);
  stats.time_to_first_token = Between(sequence.arrival_time, candidate.first_token_time);
  stats.decode_time = Between(candidate.first_token_time, candidate.last_token_time);
  stats.total_time = Between(sequence.arrival_time, now);
  stats.num_preemptions = sequence.num_preemptions;
  return stats;
}

}  // namespace expertd
