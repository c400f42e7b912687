#include "engine/structured/ebnf.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/structured/pattern_reader.h"

namespace expertd {
namespace {

using Expression = Grammar::Expression;

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

class EbnfReader {
 public:
  EbnfReader(std::string_view text, Grammar& grammar) : text_(text), reader_(text), grammar_(grammar) {}

  absl::StatusOr<Grammar::Expression> ReadAll() {
    SkipBlanks(/*and_lines=*/true);
    while (!reader_.at_end()) {
      if (absl::Status status = ReadRule(); !status.ok()) return status;
      SkipBlanks(/*and_lines=*/true);
    }
    for (const auto& [name, rule] : rules_) {
      if (!rule.is_defined) return ErrorAt(rule.offset, StrCat("there is no rule '", name, "'"));
    }
    const auto root = rules_.find("root");
    if (root == rules_.end()) return absl::InvalidArgumentError("grammar: there is no rule 'root'");
    return grammar_.Call(root->second.rule);
  }

 private:
  struct RuleInfo {
    Grammar::Rule rule = 0;
    size_t offset = 0;  // where it was first named
    bool is_defined = false;
  };

  absl::Status ErrorAt(size_t offset, std::string_view message) const {
    const std::string_view before = text_.substr(0, offset);
    const size_t line = static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
    const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
    return absl::InvalidArgumentError(
        StrCat("grammar, line ", line + 1, ", column ", offset - line_begin + 1, ": ", message));
  }
  absl::Status Error(std::string_view message) const { return ErrorAt(reader_.offset(), message); }

  // Blanks and comments; line breaks too where a rule may go on behind them.
  void SkipBlanks(bool and_lines) {
    for (;;) {
      if (reader_.LooksAt("#")) {
        const size_t end = reader_.rest().find('\n');
        reader_.Skip(end == std::string_view::npos ? reader_.rest().size() : end);
      } else if (!reader_.Take(" ") && !reader_.Take("\t") && !(and_lines && TakeLineBreak())) {
        return;
      }
    }
  }

  bool TakeLineBreak() { return reader_.Take("\n") || reader_.Take("\r"); }

  std::string_view TakeName() {
    const std::string_view rest = reader_.rest();
    const size_t size = static_cast<size_t>(std::find_if_not(rest.begin(), rest.end(), IsNameCharacter) - rest.begin());
    reader_.Skip(size);
    return rest.substr(0, size);
  }

  RuleInfo& RuleOf(std::string_view name, size_t offset) {
    const auto [found, is_new] = rules_.try_emplace(std::string(name));
    if (is_new) found->second = {.rule = grammar_.AddRule(std::string(name)), .offset = offset};
    return found->second;
  }

  absl::Status ReadRule() {
    const size_t begin = reader_.offset();
    const std::string_view name = TakeName();
    if (name.empty()) return Error("the name of a rule is missing");
    SkipBlanks(/*and_lines=*/true);
    if (!reader_.Take("::=")) return Error(StrCat("::= is missing behind '", name, "'"));
    RuleInfo& info = RuleOf(name, begin);
    if (std::exchange(info.is_defined, true)) return ErrorAt(begin, StrCat("the rule '", name, "' is defined twice"));
    const Grammar::Rule rule = info.rule;
    SkipBlanks(/*and_lines=*/true);
    ASSIGN_OR_RETURN(const Expression body, ReadAlternatives(/*nesting=*/0));
    grammar_.DefineRule(rule, body);
    if (!reader_.at_end() && !reader_.LooksAt("\n") && !reader_.LooksAt("\r")) {
      return Error("this belongs to no rule");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Expression> ReadAlternatives(int nesting) {
    if (nesting > PatternReader::kMaxNesting) {
      return Error(StrCat("groups are nested deeper than ", PatternReader::kMaxNesting));
    }
    std::vector<Expression> alternatives;
    for (;;) {
      ASSIGN_OR_RETURN(const Expression alternative, ReadSequence(nesting));
      alternatives.push_back(alternative);
      if (!TakeBar(nesting)) break;
    }
    return grammar_.Choice(std::move(alternatives));
  }

  // A `|`, which may stand at the beginning of the next line.
  bool TakeBar(int nesting) {
    const PatternReader before = reader_;
    SkipBlanks(/*and_lines=*/true);
    if (reader_.Take("|")) {
      SkipBlanks(/*and_lines=*/true);
      return true;
    }
    if (nesting == 0) reader_ = before;
    return false;
  }

  absl::StatusOr<Expression> ReadSequence(int nesting) {
    std::vector<Expression> parts;
    for (;;) {
      SkipBlanks(/*and_lines=*/nesting > 0);
      if (reader_.at_end() || reader_.LooksAt("|") || reader_.LooksAt(")") || reader_.LooksAt("\n") ||
          reader_.LooksAt("\r")) {
        return grammar_.Sequence(std::move(parts));
      }
      ASSIGN_OR_RETURN(const Expression one, ReadOne(nesting));
      absl::StatusOr<std::optional<Repetition>> repetition = reader_.ReadRepetition();
      if (!repetition.ok()) return Located(repetition.status());
      parts.push_back(repetition->has_value() ? grammar_.Repeat(one, (*repetition)->minimum, (*repetition)->maximum)
                                              : one);
    }
  }

  absl::StatusOr<Expression> ReadOne(int nesting) {
    const size_t begin = reader_.offset();
    if (reader_.LooksAt("\"") || reader_.LooksAt("'")) return ReadText();
    if (reader_.Take(".")) return grammar_.OtherCharacters({});
    if (reader_.Take("[")) {
      absl::StatusOr<CharacterClass> part = reader_.ReadClass();
      if (!part.ok()) return Located(part.status());
      return part->AddTo(grammar_);
    }
    if (reader_.Take("(")) {
      SkipBlanks(/*and_lines=*/true);
      ASSIGN_OR_RETURN(const Expression group, ReadAlternatives(nesting + 1));
      if (!reader_.Take(")")) return ErrorAt(begin, "a ( has no closing )");
      return group;
    }
    const std::string_view name = TakeName();
    if (name.empty()) return Error("expected a text, a class, a group or the name of a rule");
    return grammar_.Call(RuleOf(name, begin).rule);
  }

  absl::StatusOr<Expression> ReadText() {
    const size_t begin = reader_.offset();
    const std::string_view quote = reader_.Take("\"") ? "\"" : "'";
    if (quote == "'") reader_.Skip(1);
    std::vector<Expression> parts;
    size_t plain_begin = reader_.offset();
    const auto end_plain = [&] {
      parts.push_back(grammar_.Bytes(text_.substr(plain_begin, reader_.offset() - plain_begin)));
    };
    while (!reader_.LooksAt(quote)) {
      if (reader_.at_end() || reader_.LooksAt("\n")) return ErrorAt(begin, "a text has no closing quote");
      if (!reader_.LooksAt("\\")) {
        reader_.TakeCharacter();
        continue;
      }
      end_plain();
      reader_.Skip(1);
      absl::StatusOr<CharacterClass> part = reader_.ReadEscape();
      if (!part.ok()) return Located(part.status());
      parts.push_back(part->AddTo(grammar_));
      plain_begin = reader_.offset();
    }
    end_plain();
    reader_.Skip(1);
    return grammar_.Sequence(std::move(parts));
  }

  // An error of the PatternReader, with line and column.
  absl::Status Located(const absl::Status& status) const { return Error(ToStdView(status.message())); }

  std::string_view text_;
  PatternReader reader_;
  Grammar& grammar_;
  absl::flat_hash_map<std::string, RuleInfo> rules_;
};

}  // namespace

absl::StatusOr<Grammar::Expression> AddEbnf(std::string_view text, Grammar& grammar) {
  return EbnfReader(text, grammar).ReadAll();
}

}  // namespace expertd
