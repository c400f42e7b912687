#include "engine/structured/regex.h"

#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/structured/pattern_reader.h"

namespace expertd {
namespace {

using Expression = Grammar::Expression;

// As ECMAScript has them.
const std::vector<CodePointRange> kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class RegexReader {
 public:
  RegexReader(std::string_view pattern, Grammar& grammar, const RegexOptions& options)
      : reader_(pattern), grammar_(grammar), options_(options) {}

  absl::StatusOr<Expression> ReadAll() {
    ASSIGN_OR_RETURN(const Expression all, ReadAlternatives(/*nesting=*/0));
    if (!reader_.at_end()) return reader_.Error("a ) has no opening (");
    return all;
  }

 private:
  Expression Characters(const CharacterClass& part) {
    if (options_.add_characters == nullptr) return part.AddTo(grammar_);
    std::vector<CodePointRange> ranges = part.ranges;
    if (part.is_negated) ranges = grammar_.node(part.AddTo(grammar_)).ranges;
    return options_.add_characters(ranges, grammar_);
  }

  Expression Anything() {
    return grammar_.Repeat(Characters({.is_negated = true}), 0, Grammar::kUnbounded);
  }

  // To the end, or to the closing parenthesis. Those of the pattern itself may be anchored.
  absl::StatusOr<Expression> ReadAlternatives(int nesting) {
    if (nesting > PatternReader::kMaxNesting) {
      return reader_.Error(StrCat("groups are nested deeper than ", PatternReader::kMaxNesting));
    }
    std::vector<Expression> alternatives;
    do {
      std::vector<Expression> parts;
      const bool begins = nesting == 0 && reader_.Take("^");
      if (nesting == 0 && options_.is_search && !begins) parts.push_back(Anything());
      bool ends = false;
      while (!ends && !reader_.at_end() && !reader_.LooksAt("|") && !reader_.LooksAt(")")) {
        ends = nesting == 0 && TakeEnd();
        if (ends) break;
        ASSIGN_OR_RETURN(const Expression part, ReadRepeated(nesting));
        parts.push_back(part);
      }
      if (nesting == 0 && options_.is_search && !ends) parts.push_back(Anything());
      alternatives.push_back(grammar_.Sequence(std::move(parts)));
    } while (reader_.Take("|"));
    return grammar_.Choice(std::move(alternatives));
  }

  // A `$` in the last place.
  bool TakeEnd() {
    if (!reader_.LooksAt("$")) return false;
    const std::string_view behind = reader_.rest().substr(1);
    if (!behind.empty() && !behind.starts_with('|')) return false;
    return reader_.Take("$");
  }

  absl::StatusOr<Expression> ReadRepeated(int nesting) {
    ASSIGN_OR_RETURN(const Expression one, ReadOne(nesting));
    if (options_.is_search && reader_.LooksAt("{,")) {
      return reader_.Error("{, is read in different ways; write {0,");
    }
    ASSIGN_OR_RETURN(const std::optional<Repetition> repetition, reader_.ReadRepetition());
    if (!repetition.has_value()) return one;
    reader_.Take("?");  // a lazy one matches the same texts
    if (reader_.LooksAt("+")) return reader_.Error("possessive repetitions are not supported");
    if (reader_.LooksAt("*") || reader_.LooksAt("?") || reader_.LooksAt("{")) {
      return reader_.Error("nothing stands before the repetition");
    }
    return grammar_.Repeat(one, repetition->minimum, repetition->maximum);
  }

  absl::StatusOr<Expression> ReadOne(int nesting) {
    if (reader_.Take("(")) return ReadGroup(nesting);
    if (reader_.Take("[")) {
      ASSIGN_OR_RETURN(const CharacterClass part, reader_.ReadClass());
      return Characters(part);
    }
    if (reader_.Take(".")) return Characters({.ranges = kLineEnds, .is_negated = true});
    if (reader_.Take("\\")) {
      for (const char* boundary : {"b", "B", "A", "Z", "z"}) {
        if (reader_.LooksAt(boundary)) return reader_.Error(StrCat("the escape \\", boundary, " is not supported"));
      }
      ASSIGN_OR_RETURN(const CharacterClass part, reader_.ReadEscape());
      return Characters(part);
    }
    if (reader_.LooksAt("^") || reader_.LooksAt("$")) {
      return reader_.Error("^ and $ are supported at the ends of the pattern and of its alternatives");
    }
    for (const char* mark : {"*", "+", "?", "{"}) {
      if (reader_.LooksAt(mark)) return reader_.Error("nothing stands before the repetition");
    }
    const uint32_t character = reader_.TakeCharacter();
    return Characters({.ranges = {{character, character}}});
  }

  absl::StatusOr<Expression> ReadGroup(int nesting) {
    const size_t begin = reader_.offset();
    if (reader_.Take("?")) {
      const bool is_plain = reader_.Take(":");
      if (!is_plain && (reader_.LooksAt("=") || reader_.LooksAt("!") || reader_.LooksAt("<=") ||
                        reader_.LooksAt("<!"))) {
        return PatternReader::ErrorAt(begin, "look-around is not supported");
      }
      const bool is_named = !is_plain && (reader_.Take("P<") || reader_.Take("<"));
      if (!is_plain && !is_named) return PatternReader::ErrorAt(begin, "this kind of group is not supported");
      if (is_named) {
        const size_t end = reader_.rest().find('>');
        if (end == std::string_view::npos) return PatternReader::ErrorAt(begin, "a group's name has no closing >");
        reader_.Skip(end + 1);
      }
    }
    ASSIGN_OR_RETURN(const Expression group, ReadAlternatives(nesting + 1));
    if (!reader_.Take(")")) return PatternReader::ErrorAt(begin, "a ( has no closing )");
    return group;
  }

  PatternReader reader_;
  Grammar& grammar_;
  const RegexOptions& options_;
};

}  // namespace

absl::StatusOr<Expression> AddRegex(std::string_view pattern, Grammar& grammar, const RegexOptions& options) {
  absl::StatusOr<Expression> all = RegexReader(pattern, grammar, options).ReadAll();
  if (!all.ok()) return absl::InvalidArgumentError(StrCat("pattern: ", ToStdView(all.status().message())));
  return all;
}

}  // namespace expertd
