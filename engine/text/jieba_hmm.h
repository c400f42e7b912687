// The hidden Markov model with which jieba finds words that its dictionary doesn't have: each character is the
// beginning, middle or end of a word or a word of its own (states B, M, E, S). Used by Jieba alone.
// Source: jieba 0.42 (finalseg), with its start and transition probabilities; the emissions come from its prob_emit.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace expertd {

// The characters that jieba takes for Chinese.
inline constexpr char32_t kFirstHan = 0x4E00, kLastHan = 0x9FD5;
inline bool IsHan(char32_t character) { return character >= kFirstHan && character <= kLastHan; }

// Immutable; thread-safe. Holds 670 kB.
class JiebaHmm {
 public:
  // `python`: the text of prob_emit.py, of which only `P={'B': {'\u4e00': -3.65, ...}, ...}` is understood, one
  // dictionary for each of the four states; nothing is executed. Characters outside the Han range are left out. Errors:
  // InvalidArgument that names the line: another form, a value outside -3.14e100..0, a repetition, a missing state.
  static absl::StatusOr<JiebaHmm> Parse(std::string_view python);

  // Appends to `ends` where the words of `characters` end, each plus `origin`: runs of Han characters by the model,
  // runs of ASCII letters and digits (with a decimal fraction and a percent sign) whole, other runs whole. O(n).
  void AppendWordEnds(std::span<const char32_t> characters, size_t origin, std::vector<uint32_t>* ends) const;

 private:
  // In the order of their letters, which decides between equally likely ones.
  enum State { kBegin, kEnd, kMiddle, kSingle };
  static constexpr int kNumStates = 4;

  // The most likely states of a run of Han characters.
  std::vector<State> Viterbi(std::span<const char32_t> run) const;

  using Row = std::array<double, kNumStates>;
  std::vector<Row> emissions_;  // by character from kFirstHan: natural logarithms
};

}  // namespace expertd
