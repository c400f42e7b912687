// The regular expressions of tokenizer.json, which are written for Oniguruma (Ruby syntax), run by PCRE2. The pattern
// is translated where the two would read it differently; what can't be translated is refused by name. Used by
// pre-tokenizers and normalizers.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/tokenizer.h"

namespace expertd {

// PCRE2 spelling (options UTF, UCP, MULTILINE) of an Oniguruma pattern. Differences handled: \s, \w, \h and \u;
// script names; ^ and $ match at every line. Errors: Unimplemented for nested or intersected character classes, (?m),
// and quantifiers that the two read differently.
absl::StatusOr<std::string> TranslateOnigurumaPattern(std::string_view pattern);

// Immutable after compilation; thread-safe.
class TextRegex {
 public:
  // Errors: Unimplemented when the pattern can't be translated or PCRE2 doesn't take it; names the pattern.
  static absl::StatusOr<TextRegex> Compile(std::string_view pattern);
  ~TextRegex();
  TextRegex(TextRegex&&) noexcept;
  TextRegex& operator=(TextRegex&&) noexcept;

  // One thread's working memory for any number of searches. The regex must outlive it.
  class Searcher {
   public:
    explicit Searcher(const TextRegex& regex);
    ~Searcher();
    Searcher(const Searcher&) = delete;
    Searcher& operator=(const Searcher&) = delete;

    // Sets *matches to the successive matches in well-formed `text`, leftmost first, not overlapping; an empty match
    // counts unless it touches the match before it. Errors: ResourceExhausted when a single match takes more steps
    // than a limit that no ordinary text comes near.
    absl::Status FindAll(std::string_view text, std::vector<ByteRange>* matches);

   private:
    struct State;
    // First match at or behind `from`; nullopt when there is none.
    absl::StatusOr<std::optional<ByteRange>> Find(std::string_view text, size_t from);

    const TextRegex& regex_;
    std::unique_ptr<State> state_;
  };

 private:
  struct Code;
  explicit TextRegex(std::unique_ptr<const Code> code);

  std::unique_ptr<const Code> code_;
};

}  // namespace expertd
