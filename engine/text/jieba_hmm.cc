#include "engine/text/jieba_hmm.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "absl/status/status.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

// jieba's logarithm of zero. Finite, so that what isn't in the table can still be compared.
constexpr double kImpossible = -3.14e100;

// Reads the one form of Python text that prob_emit.py has.
class PythonReader {
 public:
  explicit PythonReader(std::string_view text) : rest_(text) {}

  bool Take(std::string_view token) {
    SkipBlanks();
    if (rest_.substr(0, token.size()) != token) return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  bool AtEnd() {
    SkipBlanks();
    return rest_.empty();
  }
  absl::Status Expect(std::string_view token) { return Take(token) ? absl::OkStatus() : Wrong(StrCat("no ", token)); }

  // A character written as '\u4e00'.
  absl::StatusOr<char32_t> Character() {
    RETURN_IF_ERROR(Expect("'\\u"));
    uint32_t code = 0;
    const char* const four_on = rest_.data() + std::min<size_t>(rest_.size(), 4);
    const auto [end, error] = std::from_chars(rest_.data(), four_on, code, 16);
    if (error != std::errc() || end != rest_.data() + 4) return Wrong("no four hexadecimal digits behind \\u");
    rest_.remove_prefix(4);
    RETURN_IF_ERROR(Expect("'"));
    return static_cast<char32_t>(code);
  }

  absl::StatusOr<double> LogProbability() {
    SkipBlanks();
    double value = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc()) return Wrong("no number");
    if (!(value >= kImpossible && value <= 0)) return Wrong("the logarithm of a probability is not in -3.14e100..0");
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return value;
  }

  absl::Status Wrong(std::string_view what) const {
    return absl::InvalidArgumentError(StrCat("line ", line_number_, ": ", what));
  }

 private:
  void SkipBlanks() {
    const size_t size = std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size());
    line_number_ += static_cast<int>(std::count(rest_.begin(), rest_.begin() + static_cast<ptrdiff_t>(size), '\n'));
    rest_.remove_prefix(size);
  }

  std::string_view rest_;
  int line_number_ = 1;
};

bool IsAsciiDigit(char32_t c) { return c >= '0' && c <= '9'; }
bool IsAsciiWord(char32_t c) { return IsAsciiDigit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

// First index from `from` on whose character isn't (or, for `wanted` false, is) of the kind.
template <typename Kind>
size_t RunEnd(std::span<const char32_t> characters, size_t from, Kind kind, bool wanted = true) {
  while (from < characters.size() && kind(characters[from]) == wanted) ++from;
  return from;
}

// End of [a-zA-Z0-9]+(?:\.\d+)?%? at `from`, where a letter or digit stands. jieba's \d means all of Unicode's digits,
// but only ASCII's come this far.
size_t AsciiWordEnd(std::span<const char32_t> characters, size_t from) {
  size_t end = RunEnd(characters, from, IsAsciiWord);
  if (end < characters.size() && characters[end] == '.') {
    const size_t fraction_end = RunEnd(characters, end + 1, IsAsciiDigit);
    if (fraction_end > end + 1) end = fraction_end;
  }
  if (end < characters.size() && characters[end] == '%') ++end;
  return end;
}

}  // namespace

absl::StatusOr<JiebaHmm> JiebaHmm::Parse(std::string_view python) {
  constexpr std::string_view kNames[kNumStates] = {"'B'", "'E'", "'M'", "'S'"};
  JiebaHmm hmm;
  hmm.emissions_.assign(kLastHan - kFirstHan + 1, Row{kImpossible, kImpossible, kImpossible, kImpossible});
  std::vector<std::array<bool, kNumStates>> is_given(hmm.emissions_.size());
  PythonReader reader(python);
  reader.Take("from __future__ import unicode_literals");
  RETURN_IF_ERROR(reader.Expect("P"));
  RETURN_IF_ERROR(reader.Expect("="));
  RETURN_IF_ERROR(reader.Expect("{"));
  std::array<bool, kNumStates> has_state{};
  for (int i = 0; i < kNumStates; ++i) {
    if (i > 0) {
      RETURN_IF_ERROR(reader.Expect(","));
    }
    const auto name = std::find_if(kNames, kNames + kNumStates, [&](auto candidate) { return reader.Take(candidate); });
    const auto state = static_cast<size_t>(name - kNames);
    if (state == kNumStates || has_state[state]) return reader.Wrong("no state B, M, E or S that is new");
    has_state[state] = true;
    RETURN_IF_ERROR(reader.Expect(":"));
    RETURN_IF_ERROR(reader.Expect("{"));
    do {
      ASSIGN_OR_RETURN(const char32_t character, reader.Character());
      RETURN_IF_ERROR(reader.Expect(":"));
      ASSIGN_OR_RETURN(const double value, reader.LogProbability());
      if (!IsHan(character)) continue;
      const size_t index = character - kFirstHan;
      if (is_given[index][state]) return reader.Wrong("a character is given twice");
      is_given[index][state] = true;
      hmm.emissions_[index][state] = value;
    } while (reader.Take(","));
    RETURN_IF_ERROR(reader.Expect("}"));
  }
  RETURN_IF_ERROR(reader.Expect("}"));
  if (!reader.AtEnd()) return reader.Wrong("something behind the table");
  return hmm;
}

std::vector<JiebaHmm::State> JiebaHmm::Viterbi(std::span<const char32_t> run) const {
  constexpr Row kStart = {-0.26268660809250016, kImpossible, kImpossible, -1.4652633398537678};
  // From state (row) to state (column); those that can't follow each other are not looked up.
  constexpr double kNever = kImpossible;
  constexpr Row kTransitions[kNumStates] = {
      {kNever, -0.510825623765990, -0.916290731874155, kNever},     // B
      {-0.5897149736854513, kNever, kNever, -0.8085250474669937},   // E
      {kNever, -0.33344856811948514, -1.2603623820268226, kNever},  // M
      {-0.7211965654669841, kNever, kNever, -0.6658631448798212},   // S
  };
  // Which two states can stand before one, in the order of their letters: of equal sums the later state wins.
  constexpr State kBefore[kNumStates][2] = {{kEnd, kSingle}, {kBegin, kMiddle}, {kBegin, kMiddle}, {kEnd, kSingle}};

  Row best;
  for (size_t state = 0; state < kNumStates; ++state) {
    best[state] = kStart[state] + emissions_[run[0] - kFirstHan][state];
  }
  std::vector<std::array<uint8_t, kNumStates>> came_from(run.size());
  for (size_t t = 1; t < run.size(); ++t) {
    const Row& emission = emissions_[run[t] - kFirstHan];
    Row next;
    for (size_t state = 0; state < kNumStates; ++state) {
      const auto [first, second] = kBefore[state];
      const double from_first = best[first] + kTransitions[first][state] + emission[state];
      const double from_second = best[second] + kTransitions[second][state] + emission[state];
      came_from[t][state] = from_second >= from_first ? second : first;
      next[state] = std::max(from_first, from_second);
    }
    best = next;
  }
  std::vector<State> states(run.size());
  State state = best[kSingle] >= best[kEnd] ? kSingle : kEnd;
  for (size_t t = run.size(); t-- > 0; state = static_cast<State>(came_from[t][state])) states[t] = state;
  return states;
}

void JiebaHmm::AppendWordEnds(std::span<const char32_t> characters, size_t origin, std::vector<uint32_t>* ends) const {
  for (size_t begin = 0, end; begin < characters.size(); begin = end) {
    if (IsHan(characters[begin])) {
      end = RunEnd(characters, begin, IsHan);
      const std::vector<State> states = Viterbi(characters.subspan(begin, end - begin));
      // The last state is E or S, and B or S follows those: words leave no gap.
      for (size_t i = 0; i < states.size(); ++i) {
        if (states[i] == kEnd || states[i] == kSingle) ends->push_back(static_cast<uint32_t>(origin + begin + i + 1));
      }
      continue;
    }
    const auto ends_other_run = [](char32_t c) { return IsHan(c) || IsAsciiWord(c); };
    end = IsAsciiWord(characters[begin]) ? AsciiWordEnd(characters, begin)
                                         : RunEnd(characters, begin, ends_other_run, /*wanted=*/false);
    ends->push_back(static_cast<uint32_t>(origin + end));
  }
}

}  // namespace expertd
