// Finds stop strings in streamed text and holds back text that could be the beginning of one. Linear in the text:
// Aho and Corasick, "Efficient string matching: an aid to bibliographic search" (CACM 1975). Used by the output side
// of each sequence, behind the detokenizer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace expertd {

// State of one sequence's output: not thread-safe. Copyable; copies share the immutable automaton.
class StopMatcher {
 public:
  static constexpr int kMaxStopStrings = 16;
  static constexpr size_t kMaxStopStringBytes = 1024;

  struct Options {
    bool include_stop_in_output = false;  // emit the stop string too, instead of cutting in front of it
  };

  struct Result {
    std::string text;               // safe to send: no stop string can begin in it (whole UTF-8 if the input is)
    std::optional<int> stop_index;  // which stop string ended the text; nothing more is to be fed
  };

  // An empty list is allowed and matches nothing. Errors: InvalidArgument for more than kMaxStopStrings, an empty stop
  // string, or one longer than kMaxStopStringBytes.
  static absl::StatusOr<StopMatcher> Create(const std::vector<std::string>& stop_strings, Options options);
  static absl::StatusOr<StopMatcher> Create(const std::vector<std::string>& stop_strings);

  // Adds output text (any split, even within a character). The stop string that is complete first, reading byte by
  // byte, wins; of several that end at the same byte the longest (which begins first). After a match further calls
  // return nothing.
  Result Append(std::string_view text);

  // End of output without a match: returns what was held back.
  std::string Flush();

  bool is_matched() const { return is_matched_; }
  size_t num_held_bytes() const { return held_.size(); }

 private:
  struct Automaton;
  StopMatcher(std::shared_ptr<const Automaton> automaton, Options options);

  std::shared_ptr<const Automaton> automaton_;
  Options options_;
  uint16_t state_ = 0;  // of the automaton
  bool is_matched_ = false;
  std::string held_;  // longest suffix of the text so far that is a proper prefix of a stop string
};

}  // namespace expertd
