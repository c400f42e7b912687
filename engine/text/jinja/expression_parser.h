// The tokens of a template and the grammar of its expressions, which is that of jinja2's parser. The statements in
// parser.cc build upon it.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/jinja.h"
#include "engine/text/jinja/lexer.h"

namespace expertd::jinja {

// Of parameters and of keyword arguments: they are searched one by one.
inline constexpr size_t kMaxNames = 256;

// Reads expressions at the present token. Errors of all methods that return a status: InvalidArgument "line N: what";
// ResourceExhausted when expressions are nested too deeply. For one thread and one template.
class ExpressionParser {
 protected:
  // The last token is kEnd, and stays the current one.
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  using Names = std::initializer_list<std::string_view>;

  // ---- tokens

  const Token& Current() const { return tokens_[position_]; }
  const Token& Look() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  const Token& Next() {
    const Token& token = tokens_[position_];
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }
  bool SkipName(std::string_view name) {
    if (!Current().IsName(name)) return false;
    Next();
    return true;
  }
  bool SkipOperator(std::string_view symbol) {
    if (!Current().IsOperator(symbol)) return false;
    Next();
    return true;
  }
  absl::Status Fail(std::string_view what) const { return SyntaxError(Current().line, what); }
  absl::Status Unexpected(std::string_view expected) const;
  absl::Status ExpectOperator(std::string_view symbol) {
    return SkipOperator(symbol) ? absl::OkStatus() : Unexpected(symbol);
  }
  absl::Status ExpectName(std::string_view name) { return SkipName(name) ? absl::OkStatus() : Unexpected(name); }
  absl::Status Expect(TokenType type);
  absl::StatusOr<std::string> ExpectAnyName() {
    if (Current().type != TokenType::kName) return Unexpected("name");
    return Next().text;
  }

  // ---- nesting

  absl::Status TooDeep() const;

  // Counts one level of the parser's own recursion.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser) : parser_(parser) { ++parser_.nesting_; }
    ~Nesting() { --parser_.nesting_; }
    bool IsTooDeep() const { return parser_.nesting_ > kMaxSourceNesting; }

   private:
    ExpressionParser& parser_;
  };

  // ---- expressions

  struct TupleOptions {
    bool is_simple = false;          // names and literals only
    bool allow_namespace = false;    // `a.b` is a namespace's attribute
    bool with_conditional = true;    // `x if y` is an expression
    bool is_parenthesized = false;   // `()` is a tuple
    std::string_view end_name = "";  // a name that ends the tuple
  };

  // One expression, or several with commas between.
  absl::StatusOr<NodePtr> ParseTuple(const TupleOptions& options);
  absl::StatusOr<NodePtr> ParseExpression();
  // The filters after `node`, which is null for those of a block; `starts_inline` when the first has no '|'.
  absl::StatusOr<NodePtr> ParseFilters(NodePtr node, bool starts_inline = false);

  // ---- targets of assignment

  absl::StatusOr<std::string> ExpectTargetName();
  // `end_names`: at most one name, which ends the target.
  absl::StatusOr<NodePtr> ParseTarget(Names end_names, bool allow_namespace);
  static void SetUse(Node& target, NameNode::Use use);

  size_t position_ = 0;  // of the current token

 private:
  using MathSymbols = std::initializer_list<std::pair<std::string_view, MathOperator>>;

  absl::StatusOr<NodePtr> Finish(NodePtr node) const;

  // In the order of their binding, loosest first.
  bool AtTupleEnd(const TupleOptions& options) const;
  absl::StatusOr<NodePtr> ParseTupleItem(const TupleOptions& options);
  template <typename ParseOperand, typename SkipSeparator>
  absl::StatusOr<NodePtr> ParseChain(NodeKind kind, ParseOperand parse, SkipSeparator skip);
  absl::StatusOr<NodePtr> ParseOr();
  absl::StatusOr<NodePtr> ParseAnd();
  absl::StatusOr<NodePtr> ParseNot();
  std::optional<CompareOperator> SkipCompareOperator();
  absl::StatusOr<NodePtr> ParseComparison();
  std::optional<MathOperator> SkipMathOperator(MathSymbols symbols);
  template <typename ParseOperand>
  absl::StatusOr<NodePtr> ParseMath(MathSymbols symbols, ParseOperand parse);
  absl::StatusOr<NodePtr> ParseSum();
  absl::StatusOr<NodePtr> ParseConcat();
  absl::StatusOr<NodePtr> ParseProduct();
  absl::StatusOr<NodePtr> ParsePower();
  absl::StatusOr<NodePtr> ParseUnary(bool with_filter);
  absl::StatusOr<NodePtr> ParsePrimary(bool allow_namespace);
  absl::StatusOr<NodePtr> ParseNameOrLiteral(bool allow_namespace);
  absl::StatusOr<NodePtr> ParseStrings();
  absl::StatusOr<NodePtr> ParseList();
  absl::StatusOr<NodePtr> ParseDict();
  absl::StatusOr<NodePtr> ParsePostfix(NodePtr node);
  absl::StatusOr<NodePtr> ParseFiltersAndTests(NodePtr node);
  absl::StatusOr<NodePtr> ParseAttribute(NodePtr object);
  absl::StatusOr<NodePtr> ParseSubscript(NodePtr object);
  bool AtSlicePartEnd() const;
  absl::StatusOr<NodePtr> ParseIndex();
  absl::Status ParseKeyword(ArgumentNodes* arguments);
  absl::Status ParseArgument(ArgumentNodes* arguments);
  absl::Status ParseArguments(ArgumentNodes* arguments);
  absl::StatusOr<NodePtr> ParseCall(NodePtr callee);
  absl::StatusOr<std::string> ParseDottedName();
  bool AtTestArgument() const;
  absl::StatusOr<NodePtr> ParseTest(NodePtr operand);

  const std::vector<Token> tokens_;
  int nesting_ = 0;
};

}  // namespace expertd::jinja
