#include "engine/text/text_pattern.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {

absl::StatusOr<TextPattern> TextPattern::Parse(const Json& owner, std::string_view what) {
  const Json* pattern = JsonFind(owner, "pattern");
  if (pattern == nullptr) return absl::InvalidArgumentError(StrCat(what, " has no pattern"));
  ASSIGN_OR_RETURN(const std::string regex, JsonStringOr(*pattern, "Regex", ""));
  if (!regex.empty()) {
    absl::StatusOr<TextPattern> compiled = FromRegex(regex);
    if (!compiled.ok()) {
      return absl::Status(compiled.status().code(), StrCat(what, ": ", ToStdView(compiled.status().message())));
    }
    return compiled;
  }
  ASSIGN_OR_RETURN(std::string literal, JsonStringOr(*pattern, "String", ""));
  if (literal.empty()) return absl::InvalidArgumentError(StrCat(what, " has neither a Regex nor a String pattern"));
  return FromString(std::move(literal));
}

absl::StatusOr<TextPattern> TextPattern::FromRegex(std::string_view regex) {
  TextPattern pattern;
  ASSIGN_OR_RETURN(pattern.regex_, TextRegex::Compile(regex));
  return pattern;
}

TextPattern TextPattern::FromString(std::string literal) {
  TextPattern pattern;
  pattern.literal_ = std::move(literal);
  return pattern;
}

TextPattern::Searcher::Searcher(const TextPattern& pattern) : pattern_(pattern) {
  if (pattern.regex_) regex_.emplace(*pattern.regex_);
}

absl::Status TextPattern::Searcher::FindAll(std::string_view text, std::vector<ByteRange>* matches) {
  if (regex_) return regex_->FindAll(text, matches);
  matches->clear();
  const std::string& literal = pattern_.literal_;
  for (size_t at = text.find(literal); at != std::string_view::npos; at = text.find(literal, at + literal.size())) {
    matches->push_back({at, at + literal.size()});
  }
  return absl::OkStatus();
}

}  // namespace expertd
