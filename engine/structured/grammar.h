// Grammar: the texts that a structured output may be, as a context-free grammar over bytes. Built by the readers of
// JSON schemas, regular expressions and EBNF; what reads it is automaton.h.
//
// An expression is an index into the grammar; expressions refer to earlier ones and to rules, and only rules may be
// recursive. Building neither fails nor checks: a grammar that has outgrown kMaxExpressions says so by is_too_large(),
// and takes nothing more.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace expertd {

// Code points from `first` to `last`, both included.
struct CodePointRange {
  uint32_t first = 0;
  uint32_t last = 0;

  friend bool operator==(const CodePointRange&, const CodePointRange&) = default;
};

// Not thread-safe while it is built.
class Grammar {
 public:
  using Expression = int32_t;
  using Rule = int32_t;

  static constexpr int kUnbounded = -1;
  static constexpr int kMaxExpressions = 1 << 20;
  static constexpr uint32_t kMaxCodePoint = 0x10FFFF;

  enum class Kind : uint8_t {
    kNothing,     // no text at all
    kBytes,       // these bytes; none: the empty text
    kCharacters,  // one character of some ranges, in UTF-8
    kSequence,    // one operand after the other
    kChoice,      // one of the operands
    kRepeat,      // the operand from `minimum` to `maximum` times
    kRule,        // what a rule stands for
    kToken,       // one token of the vocabulary, by its id: for special tokens, which no bytes match, and marks
  };

  struct Node {
    Kind kind = Kind::kNothing;
    std::string bytes;                    // kBytes
    std::vector<CodePointRange> ranges;   // kCharacters; sorted, apart, without surrogates
    std::vector<Expression> operands;     // kSequence, kChoice, kRepeat (one)
    int minimum = 0, maximum = 0;         // kRepeat; maximum may be kUnbounded
    int32_t index = 0;                    // kRule: the rule; kToken: the token
  };

  struct RuleNode {
    std::string name;  // for messages
    Expression body = 0;  // kNothing until DefineRule
  };

  Grammar();

  Expression Nothing() const { return 0; }
  Expression Empty() const { return 1; }
  Expression Bytes(std::string_view bytes);
  // In any order; may overlap. Surrogates and what lies beyond kMaxCodePoint are left out.
  Expression Characters(std::vector<CodePointRange> ranges);
  // Every character that `ranges` leaves out.
  Expression OtherCharacters(std::vector<CodePointRange> ranges);
  Expression Sequence(std::vector<Expression> operands);
  Expression Choice(std::vector<Expression> operands);
  // 0 <= minimum, and minimum <= maximum or maximum is kUnbounded.
  Expression Repeat(Expression operand, int minimum, int maximum);
  Expression Optional(Expression operand) { return Repeat(operand, 0, 1); }
  Expression Token(int32_t token);

  // A rule that is to be defined later, so that others, and its own body, can call it.
  Rule AddRule(std::string name);
  void DefineRule(Rule rule, Expression body) { rules_[static_cast<size_t>(rule)].body = body; }
  Expression Call(Rule rule);

  // The whole output. Default: Nothing.
  void SetStart(Expression start) { start_ = start; }

  Expression start() const { return start_; }
  const Node& node(Expression expression) const { return nodes_[static_cast<size_t>(expression)]; }
  const RuleNode& rule(Rule rule) const { return rules_[static_cast<size_t>(rule)]; }
  int num_expressions() const { return static_cast<int>(nodes_.size()); }
  std::span<const RuleNode> rules() const { return rules_; }
  bool is_too_large() const { return is_too_large_; }

 private:
  Expression Add(Node node);

  std::vector<Node> nodes_;
  std::vector<RuleNode> rules_;
  Expression start_ = 0;
  bool is_too_large_ = false;
};

}  // namespace expertd
