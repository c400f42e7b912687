// A `pattern` of tokenizer.json: {"Regex": ...} or {"String": ...}. Used by the Split pre-tokenizer and the Replace
// normalizer.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/text/text_regex.h"

namespace expertd {

// Immutable; thread-safe.
class TextPattern {
 public:
  // Reads `owner["pattern"]`; errors begin with `what` and are those of TextRegex::Compile, or InvalidArgument.
  static absl::StatusOr<TextPattern> Parse(const Json& owner, std::string_view what);
  static absl::StatusOr<TextPattern> FromRegex(std::string_view regex);
  // `literal` is not empty.
  static TextPattern FromString(std::string literal);

  // One thread's working memory. The pattern must outlive it.
  class Searcher {
   public:
    explicit Searcher(const TextPattern& pattern);
    // As TextRegex::Searcher::FindAll.
    absl::Status FindAll(std::string_view text, std::vector<ByteRange>* matches);

   private:
    const TextPattern& pattern_;
    std::optional<TextRegex::Searcher> regex_;
  };

 private:
  std::optional<TextRegex> regex_;
  std::string literal_;
};

}  // namespace expertd
