// OutputWriter: committed tokens of one request to text, stop strings, log-probabilities and events on its stream.
// Owned by the engine thread; one per live request.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/request/generation_stream.h"
#include "engine/request/request.h"
#include "engine/request/sequence.h"
#include "engine/request/stats.h"
#include "engine/request/step_plan.h"
#include "engine/output_formats.h"
#include "engine/text/detokenizer.h"
#include "engine/text/reasoning_splitter.h"
#include "engine/text/stop_matcher.h"
#include "engine/text/tokenizer.h"

namespace expertd {

// Not thread-safe.
class OutputWriter {
 public:
  // `tokenizer` may be null (ids only) and outlives the writer. `prompt_text` is what echo shows.
  static absl::StatusOr<std::unique_ptr<OutputWriter>> Create(std::shared_ptr<const Request> request,
                                                              const StopConditions& stop, const Tokenizer* tokenizer,
                                                              const OutputFormats& formats,
                                                              std::shared_ptr<GenerationStream> stream,
                                                              std::string prompt_text);

  // Writes what one step brought `sequence` (already committed): prompt log-probabilities, or a token. Sets
  // `*stop_found` when a stop string ended the text. Call for each planned sequence, in order.
  void WriteStep(const Sequence& sequence, const SequenceResult& result, absl::Time now, bool* stop_found);

  // Writes the end of a candidate whose finish_reason is set: text held back, then its FinishedEvent.
  void WriteFinish(const Sequence& sequence, FinishReason reason, absl::Time now);

  // Writes the summary and closes the stream with OK. Every candidate has finished.
  void Close(absl::Time now);
  // Closes the stream with an error, at any time.
  void Close(const absl::Status& status);

  // Numbers of a candidate for the stats sink; `now` ends its total time.
  SequenceStats StatsOf(const Sequence& sequence, FinishReason reason, absl::Time now) const;

  // Time between the last two tokens of a candidate; nullopt before its second token.
  std::optional<absl::Duration> LastGap(int candidate_index) const { return candidates_[candidate_index].last_gap; }

 private:
  struct Candidate {
    std::optional<Detokenizer> detokenizer;
    std::optional<StopMatcher> stop_matcher;   // used once min_tokens are reached
    // Behind these, in this order; the first from the first token on, when the prompt is known.
    std::optional<ReasoningSplitter> reasoning_splitter;
    std::optional<ToolCallParser> tool_call_parser;
    DeltaEvent delta;                          // not yet pushed
    std::string stop_string;
    absl::Time first_token_time = absl::InfiniteFuture();
    absl::Time last_token_time = absl::InfiniteFuture();
    std::optional<absl::Duration> last_gap;
    int32_t num_output_tokens = 0;
  };

  OutputWriter(std::shared_ptr<const Request> request, const StopConditions& stop, const Tokenizer* tokenizer,
               const OutputFormats& formats, std::shared_ptr<GenerationStream> stream, std::string prompt_text);
  // The special tokens that splitting and parsing need in the text.
  std::vector<TokenId> KeptTokens() const;
  bool IsReasoningOpen(const Sequence& sequence) const;
  void WritePrompt(const Sequence& sequence);
  // Text behind the stop matcher; `is_last`: and what was held back, `is_cut_off` when the model did not end it.
  void AddText(Candidate& candidate, const std::string& text, bool is_last, bool is_cut_off = false);
  void AddAnswer(Candidate& candidate, ToolCallParser::Output output);
  void WriteToken(const Sequence& sequence, const SequenceResult& result, absl::Time now, bool* stop_found);
  void PushDelta(Candidate& candidate);
  int NumReasoningTokens(const Sequence& sequence) const;

  std::shared_ptr<const Request> request_;
  StopConditions stop_;
  const Tokenizer* tokenizer_;
  OutputFormats formats_;
  bool separates_reasoning_, parses_tool_calls_;
  bool calls_once_;  // the output ends with its first call
  std::shared_ptr<GenerationStream> stream_;
  bool writes_text_;
  PromptEvent prompt_;
  bool prompt_written_ = false;
  std::vector<Candidate> candidates_;
  SummaryEvent summary_;
  absl::Time arrival_time_;
};

}  // namespace expertd
