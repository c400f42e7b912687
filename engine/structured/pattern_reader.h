// What the readers of regular expressions and of EBNF have in common: a cursor over UTF-8 text, classes of characters,
// escapes, counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/structured/grammar.h"

namespace expertd {

// `[...]` without the brackets. Which characters a class has besides those of its ranges: none, as they stand there.
struct CharacterClass {
  std::vector<CodePointRange> ranges;
  bool is_negated = false;

  Grammar::Expression AddTo(Grammar& grammar) const {
    return is_negated ? grammar.OtherCharacters(ranges) : grammar.Characters(ranges);
  }
};

// How often; `maximum` may be Grammar::kUnbounded.
struct Repetition {
  int minimum = 1;
  int maximum = 1;
};

// Reads UTF-8 text from the front. Not thread-safe. Errors: InvalidArgument with the offset in bytes.
class PatternReader {
 public:
  static constexpr int kMaxNesting = 64;
  static constexpr int kMaxCount = 100'000;

  // `text` is valid UTF-8.
  explicit PatternReader(std::string_view text) : text_(text) {}

  bool at_end() const { return offset_ == text_.size(); }
  size_t offset() const { return offset_; }
  std::string_view rest() const { return text_.substr(offset_); }
  bool LooksAt(std::string_view text) const { return rest().starts_with(text); }
  // Takes `text` when it comes next.
  bool Take(std::string_view text);
  // Takes one character; not at the end.
  uint32_t TakeCharacter();
  void Skip(size_t num_bytes) { offset_ += num_bytes; }

  // Behind a backslash: the characters of \n \r \t \f \v \0 \a? \xHH \uHHHH \u{H...} \UHHHHHHHH, \d \w \s \D \W \S (of
  // ASCII, but that nothing which somebody takes for a space is outside \s), and of any punctuation, which stands for
  // itself. `is_negated`: the class that the escape is part of.
  absl::StatusOr<CharacterClass> ReadEscape(bool is_negated = false);
  // Behind the opening bracket, to the closing one.
  absl::StatusOr<CharacterClass> ReadClass();
  // `*`, `+`, `?`, `{m}`, `{m,}` or `{m,n}`, if one of them comes next.
  absl::StatusOr<std::optional<Repetition>> ReadRepetition();

  absl::Status Error(std::string_view message) const { return ErrorAt(offset_, message); }
  static absl::Status ErrorAt(size_t offset, std::string_view message);

 private:
  absl::StatusOr<uint32_t> ReadHex(size_t num_digits);
  absl::StatusOr<int> ReadCount();

  std::string_view text_;
  size_t offset_ = 0;
};

}  // namespace expertd
