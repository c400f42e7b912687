// A model's output as reasoning and answer, split at the marks between them while the text arrives. Behind the
// detokenizer and the stop matcher of each sequence, before the parser of tool calls.
#pragma once

#include <string>
#include <string_view>

namespace expertd {

// State of one sequence's output. Not thread-safe; copyable.
class ReasoningSplitter {
 public:
  struct Output {
    std::string reasoning, text;
  };

  // The texts of the two marks. `is_open`: the prompt has opened reasoning already.
  ReasoningSplitter(std::string open_mark, std::string close_mark, bool is_open);

  // Adds output text, in any split. Reasoning may stand before the answer, once: an answer that speaks of the marks has
  // them as text. Marks go, and line breaks beside them: behind both, and (kMaxHeldBlanks at
  // most) before the closing one. What may be the beginning of a mark is held back.
  Output Append(std::string_view text);

  // The end of the output: what was held back.
  Output Flush();

 private:
  void Write(std::string_view text, Output* output);

  std::string open_mark_, close_mark_;
  bool is_reasoning_;
  bool may_open_;      // nothing but blanks came
  bool follows_mark_;  // nothing but line breaks came since
  std::string held_;
};

}  // namespace expertd
