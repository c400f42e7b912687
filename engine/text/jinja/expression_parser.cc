#include "engine/text/jinja/expression_parser.h"

#include <algorithm>
#include <memory>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/jinja.h"

namespace expertd::jinja {
namespace {

std::string Describe(const Token& token) {
  switch (token.type) {
    case TokenType::kData: return "template data / text";
    case TokenType::kBlockBegin: return "begin of statement block";
    case TokenType::kBlockEnd: return "end of statement block";
    case TokenType::kVariableBegin: return "begin of print statement";
    case TokenType::kVariableEnd: return "end of print statement";
    case TokenType::kName:
    case TokenType::kOperator: return token.text;
    case TokenType::kString: return "string";
    case TokenType::kInteger: return "integer";
    case TokenType::kFloat: return "float";
    case TokenType::kEnd: return "end of template";
  }
  return "";
}

bool IsLiteralName(std::string_view name) {
  return name == "true" || name == "false" || name == "none" || name == "True" || name == "False" || name == "None";
}

bool CanAssign(const Node& node) {
  if (node.kind == NodeKind::kName || node.kind == NodeKind::kNamespaceTarget) return true;
  if (node.kind != NodeKind::kTuple) return false;
  const NodeList& items = static_cast<const ListNode&>(node).items;
  return std::all_of(items.begin(), items.end(), [](const NodePtr& item) { return CanAssign(*item); });
}

}  // namespace

absl::Status ExpressionParser::Unexpected(std::string_view expected) const {
  if (Current().type == TokenType::kEnd)
    return Fail(StrCat("unexpected end of template, expected '", expected, "'."));
  return Fail(StrCat("expected token '", expected, "', got '", Describe(Current()), "'"));
}

absl::Status ExpressionParser::Expect(TokenType type) {
  if (Current().type != type) return Unexpected(Describe(Token{type}));
  Next();
  return absl::OkStatus();
}

absl::Status ExpressionParser::TooDeep() const {
  return absl::ResourceExhaustedError(
      StrCat("line ", Current().line, ": the template is nested more than ", kMaxSourceNesting, " deep"));
}

// Every finished expression passes through here, which keeps trees that grow to the left (a.b.c) shallow as well.
absl::StatusOr<NodePtr> ExpressionParser::Finish(NodePtr node) const {
  int depth = 0;
  ForEachChild(*node, [&depth](const Node& child) { depth = std::max(depth, child.depth); });
  node->depth = depth + 1;
  if (node->depth > kMaxSourceNesting) return TooDeep();
  return node;
}

bool ExpressionParser::AtTupleEnd(const TupleOptions& options) const {
  return Current().type == TokenType::kVariableEnd || Current().type == TokenType::kBlockEnd ||
         Current().IsOperator(")") || (!options.end_name.empty() && Current().IsName(options.end_name));
}

absl::StatusOr<NodePtr> ExpressionParser::ParseTupleItem(const TupleOptions& options) {
  if (options.is_simple) return ParsePrimary(options.allow_namespace);
  return options.with_conditional ? ParseExpression() : ParseOr();
}

// One expression, or several with commas between.
absl::StatusOr<NodePtr> ExpressionParser::ParseTuple(const TupleOptions& options) {
  const int line = Current().line;
  NodeList items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) RETURN_IF_ERROR(ExpectOperator(","));
    if (AtTupleEnd(options)) break;
    ASSIGN_OR_RETURN(NodePtr item, ParseTupleItem(options));
    items.push_back(std::move(item));
    if (!Current().IsOperator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) return std::move(items[0]);
    if (!options.is_parenthesized) return Fail(StrCat("Expected an expression, got '", Describe(Current()), "'"));
  }
  return Finish(std::make_unique<ListNode>(NodeKind::kTuple, line, std::move(items)));
}

absl::StatusOr<NodePtr> ExpressionParser::ParseExpression() {
  Nesting nesting(*this);
  if (nesting.IsTooDeep()) return TooDeep();
  const int line = Current().line;
  ASSIGN_OR_RETURN(NodePtr expression, ParseOr());
  while (SkipName("if")) {
    auto node = std::make_unique<ConditionalNode>(line);
    node->then = std::move(expression);
    ASSIGN_OR_RETURN(node->test, ParseOr());
    if (SkipName("else")) {
      ASSIGN_OR_RETURN(node->otherwise, ParseExpression());
    }
    ASSIGN_OR_RETURN(expression, Finish(std::move(node)));
  }
  return expression;
}

// operand (separator operand)*
template <typename ParseOperand, typename SkipSeparator>
absl::StatusOr<NodePtr> ExpressionParser::ParseChain(NodeKind kind, ParseOperand parse, SkipSeparator skip) {
  const int line = Current().line;
  NodeList items;
  do {
    ASSIGN_OR_RETURN(NodePtr item, parse());
    items.push_back(std::move(item));
  } while (skip());
  if (items.size() == 1) return std::move(items[0]);
  return Finish(std::make_unique<ListNode>(kind, line, std::move(items)));
}

absl::StatusOr<NodePtr> ExpressionParser::ParseOr() {
  return ParseChain(
      NodeKind::kOr, [this] { return ParseAnd(); }, [this] { return SkipName("or"); });
}

absl::StatusOr<NodePtr> ExpressionParser::ParseAnd() {
  return ParseChain(
      NodeKind::kAnd, [this] { return ParseNot(); }, [this] { return SkipName("and"); });
}

absl::StatusOr<NodePtr> ExpressionParser::ParseNot() {
  if (!Current().IsName("not")) return ParseComparison();
  Nesting nesting(*this);
  if (nesting.IsTooDeep()) return TooDeep();
  const int line = Next().line;
  ASSIGN_OR_RETURN(NodePtr operand, ParseNot());
  return Finish(std::make_unique<UnaryNode>(line, UnaryOperator::kNot, std::move(operand)));
}

std::optional<CompareOperator> ExpressionParser::SkipCompareOperator() {
  constexpr std::pair<std::string_view, CompareOperator> kSymbols[] = {
      {"==", CompareOperator::kEqual},  {"!=", CompareOperator::kNotEqual},
      {"<", CompareOperator::kLess},    {"<=", CompareOperator::kLessOrEqual},
      {">", CompareOperator::kGreater}, {">=", CompareOperator::kGreaterOrEqual},
  };
  for (const auto& [symbol, op] : kSymbols) {
    if (SkipOperator(symbol)) return op;
  }
  if (SkipName("in")) return CompareOperator::kIn;
  if (Current().IsName("not") && Look().IsName("in")) {
    Next();
    Next();
    return CompareOperator::kNotIn;
  }
  return std::nullopt;
}

absl::StatusOr<NodePtr> ExpressionParser::ParseComparison() {
  const int line = Current().line;
  ASSIGN_OR_RETURN(NodePtr first, ParseSum());
  std::optional<CompareOperator> op = SkipCompareOperator();
  if (!op.has_value()) return first;
  auto node = std::make_unique<ComparisonNode>(line, std::move(first));
  for (; op.has_value(); op = SkipCompareOperator()) {
    ASSIGN_OR_RETURN(NodePtr operand, ParseSum());
    node->rest.emplace_back(*op, std::move(operand));
  }
  return Finish(std::move(node));
}

std::optional<MathOperator> ExpressionParser::SkipMathOperator(MathSymbols symbols) {
  for (const auto& [symbol, op] : symbols) {
    if (SkipOperator(symbol)) return op;
  }
  return std::nullopt;
}

template <typename ParseOperand>
absl::StatusOr<NodePtr> ExpressionParser::ParseMath(MathSymbols symbols, ParseOperand parse) {
  const int line = Current().line;
  ASSIGN_OR_RETURN(NodePtr first, parse());
  std::optional<MathOperator> op = SkipMathOperator(symbols);
  if (!op.has_value()) return first;
  auto node = std::make_unique<MathNode>(line, std::move(first));
  for (; op.has_value(); op = SkipMathOperator(symbols)) {
    ASSIGN_OR_RETURN(NodePtr operand, parse());
    node->rest.emplace_back(*op, std::move(operand));
  }
  return Finish(std::move(node));
}

absl::StatusOr<NodePtr> ExpressionParser::ParseSum() {
  return ParseMath({{"+", MathOperator::kAdd}, {"-", MathOperator::kSubtract}}, [this] { return ParseConcat(); });
}

absl::StatusOr<NodePtr> ExpressionParser::ParseConcat() {
  return ParseChain(
      NodeKind::kConcat, [this] { return ParseProduct(); }, [this] { return SkipOperator("~"); });
}

absl::StatusOr<NodePtr> ExpressionParser::ParseProduct() {
  return ParseMath({{"*", MathOperator::kMultiply},
                    {"/", MathOperator::kDivide},
                    {"//", MathOperator::kFloorDivide},
                    {"%", MathOperator::kModulo}},
                   [this] { return ParsePower(); });
}

// jinja2's power binds from the left, unlike Python's, and weaker than a sign.
absl::StatusOr<NodePtr> ExpressionParser::ParsePower() {
  return ParseMath({{"**", MathOperator::kPower}}, [this] { return ParseUnary(/*with_filter=*/true); });
}

absl::StatusOr<NodePtr> ExpressionParser::ParseUnary(bool with_filter) {
  const int line = Current().line;
  NodePtr node;
  if (Current().IsOperator("-") || Current().IsOperator("+")) {
    Nesting nesting(*this);
    if (nesting.IsTooDeep()) return TooDeep();
    const UnaryOperator op = Next().text == "-" ? UnaryOperator::kNegative : UnaryOperator::kPositive;
    ASSIGN_OR_RETURN(NodePtr operand, ParseUnary(/*with_filter=*/false));
    ASSIGN_OR_RETURN(node, Finish(std::make_unique<UnaryNode>(line, op, std::move(operand))));
  } else {
    ASSIGN_OR_RETURN(node, ParsePrimary(/*allow_namespace=*/false));
  }
  ASSIGN_OR_RETURN(node, ParsePostfix(std::move(node)));
  if (!with_filter) return node;
  return ParseFiltersAndTests(std::move(node));
}

absl::StatusOr<NodePtr> ExpressionParser::ParsePrimary(bool allow_namespace) {
  const Token& token = Current();
  switch (token.type) {
    case TokenType::kName: return ParseNameOrLiteral(allow_namespace);
    case TokenType::kString: return ParseStrings();
    case TokenType::kInteger:
      Next();
      return std::make_unique<ConstantNode>(token.line, Value::Integer(token.integer));
    case TokenType::kFloat: Next(); return std::make_unique<ConstantNode>(token.line, Value::Float(token.number));
    default: break;
  }
  if (SkipOperator("(")) {
    ASSIGN_OR_RETURN(NodePtr node, ParseTuple({.is_parenthesized = true}));
    RETURN_IF_ERROR(ExpectOperator(")"));
    return node;
  }
  if (token.IsOperator("[")) return ParseList();
  if (token.IsOperator("{")) return ParseDict();
  return Fail(StrCat("unexpected '", Describe(token), "'"));
}

absl::StatusOr<NodePtr> ExpressionParser::ParseNameOrLiteral(bool allow_namespace) {
  const Token& token = Next();
  if (IsLiteralName(token.text)) {
    const bool is_none = token.text == "none" || token.text == "None";
    const bool is_true = token.text == "true" || token.text == "True";
    return std::make_unique<ConstantNode>(token.line, is_none ? Value::None() : Value::Bool(is_true));
  }
  if (allow_namespace && SkipOperator(".")) {
    ASSIGN_OR_RETURN(std::string attribute, ExpectAnyName());
    return std::make_unique<NamespaceTargetNode>(token.line, token.text, std::move(attribute));
  }
  return std::make_unique<NameNode>(token.line, token.text, NameNode::Use::kLoad);
}

// Adjacent literals are one string.
absl::StatusOr<NodePtr> ExpressionParser::ParseStrings() {
  const int line = Current().line;
  std::string text;
  while (Current().type == TokenType::kString) text += Next().text;
  return std::make_unique<ConstantNode>(line, Value::Constant(std::move(text)));
}

absl::StatusOr<NodePtr> ExpressionParser::ParseList() {
  const int line = Next().line;
  NodeList items;
  while (!Current().IsOperator("]")) {
    if (!items.empty()) RETURN_IF_ERROR(ExpectOperator(","));
    if (Current().IsOperator("]")) break;
    ASSIGN_OR_RETURN(NodePtr item, ParseExpression());
    items.push_back(std::move(item));
  }
  RETURN_IF_ERROR(ExpectOperator("]"));
  return Finish(std::make_unique<ListNode>(NodeKind::kList, line, std::move(items)));
}

absl::StatusOr<NodePtr> ExpressionParser::ParseDict() {
  auto node = std::make_unique<DictNode>(Next().line);
  while (!Current().IsOperator("}")) {
    if (!node->entries.empty()) RETURN_IF_ERROR(ExpectOperator(","));
    if (Current().IsOperator("}")) break;
    ASSIGN_OR_RETURN(NodePtr key, ParseExpression());
    RETURN_IF_ERROR(ExpectOperator(":"));
    ASSIGN_OR_RETURN(NodePtr value, ParseExpression());
    node->entries.emplace_back(std::move(key), std::move(value));
  }
  RETURN_IF_ERROR(ExpectOperator("}"));
  return Finish(std::move(node));
}

absl::StatusOr<NodePtr> ExpressionParser::ParsePostfix(NodePtr node) {
  while (true) {
    if (Current().IsOperator(".")) {
      ASSIGN_OR_RETURN(node, ParseAttribute(std::move(node)));
    } else if (Current().IsOperator("[")) {
      ASSIGN_OR_RETURN(node, ParseSubscript(std::move(node)));
    } else if (Current().IsOperator("(")) {
      ASSIGN_OR_RETURN(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

absl::StatusOr<NodePtr> ExpressionParser::ParseFiltersAndTests(NodePtr node) {
  while (true) {
    if (Current().IsOperator("|")) {
      ASSIGN_OR_RETURN(node, ParseFilters(std::move(node)));
    } else if (Current().IsName("is")) {
      ASSIGN_OR_RETURN(node, ParseTest(std::move(node)));
    } else if (Current().IsOperator("(")) {
      ASSIGN_OR_RETURN(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

absl::StatusOr<NodePtr> ExpressionParser::ParseAttribute(NodePtr object) {
  const int line = Next().line;
  const Token& token = Next();
  if (token.type == TokenType::kName) {
    return Finish(std::make_unique<AttributeNode>(line, std::move(object), token.text));
  }
  if (token.type != TokenType::kInteger) return SyntaxError(token.line, "expected name or number");
  auto index = std::make_unique<ConstantNode>(token.line, Value::Integer(token.integer));
  return Finish(std::make_unique<ItemNode>(line, std::move(object), std::move(index)));
}

absl::StatusOr<NodePtr> ExpressionParser::ParseSubscript(NodePtr object) {
  const int line = Next().line;
  NodeList indices;
  while (!Current().IsOperator("]")) {
    if (!indices.empty()) RETURN_IF_ERROR(ExpectOperator(","));
    ASSIGN_OR_RETURN(NodePtr index, ParseIndex());
    indices.push_back(std::move(index));
  }
  RETURN_IF_ERROR(ExpectOperator("]"));
  NodePtr index;
  if (indices.size() == 1) {
    index = std::move(indices[0]);
  } else {
    for (const NodePtr& item : indices) {
      if (item->kind == NodeKind::kSlice) return SyntaxError(line, "slices of several dimensions are not supported");
    }
    ASSIGN_OR_RETURN(index, Finish(std::make_unique<ListNode>(NodeKind::kTuple, line, std::move(indices))));
  }
  return Finish(std::make_unique<ItemNode>(line, std::move(object), std::move(index)));
}

bool ExpressionParser::AtSlicePartEnd() const {
  return Current().IsOperator(":") || Current().IsOperator("]") || Current().IsOperator(",");
}

// An index, or a slice start:stop:step.
absl::StatusOr<NodePtr> ExpressionParser::ParseIndex() {
  auto slice = std::make_unique<SliceNode>(Current().line);
  if (!Current().IsOperator(":")) {
    ASSIGN_OR_RETURN(NodePtr index, ParseExpression());
    if (!Current().IsOperator(":")) return index;
    slice->start = std::move(index);
  }
  Next();
  if (!AtSlicePartEnd()) {
    ASSIGN_OR_RETURN(slice->stop, ParseExpression());
  }
  if (SkipOperator(":") && !AtSlicePartEnd()) {
    ASSIGN_OR_RETURN(slice->step, ParseExpression());
  }
  return Finish(std::move(slice));
}

absl::Status ExpressionParser::ParseKeyword(ArgumentNodes* arguments) {
  const int line = Current().line;
  std::string name = Next().text;
  Next();
  for (const auto& [other, value] : arguments->keywords) {
    if (other == name) return SyntaxError(line, StrCat("keyword argument repeated: ", name));
  }
  if (arguments->keywords.size() >= kMaxNames) return Fail("the call has too many keyword arguments");
  ASSIGN_OR_RETURN(NodePtr value, ParseExpression());
  arguments->keywords.emplace_back(std::move(name), std::move(value));
  return absl::OkStatus();
}

absl::Status ExpressionParser::ParseArgument(ArgumentNodes* arguments) {
  const absl::Status invalid = Fail("invalid syntax for function call expression");
  const bool has_extra = arguments->extra_positional != nullptr || arguments->extra_keywords != nullptr;
  if (SkipOperator("*")) {
    if (has_extra) return invalid;
    ASSIGN_OR_RETURN(arguments->extra_positional, ParseExpression());
  } else if (SkipOperator("**")) {
    if (arguments->extra_keywords != nullptr) return invalid;
    ASSIGN_OR_RETURN(arguments->extra_keywords, ParseExpression());
  } else if (Current().type == TokenType::kName && Look().IsOperator("=")) {
    if (arguments->extra_keywords != nullptr) return invalid;
    RETURN_IF_ERROR(ParseKeyword(arguments));
  } else {
    if (has_extra || !arguments->keywords.empty()) return invalid;
    ASSIGN_OR_RETURN(NodePtr value, ParseExpression());
    arguments->positional.push_back(std::move(value));
  }
  return absl::OkStatus();
}

absl::Status ExpressionParser::ParseArguments(ArgumentNodes* arguments) {
  RETURN_IF_ERROR(ExpectOperator("("));
  bool is_first = true;
  while (!Current().IsOperator(")")) {
    if (!is_first) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (Current().IsOperator(")")) break;
    }
    is_first = false;
    RETURN_IF_ERROR(ParseArgument(arguments));
  }
  return ExpectOperator(")");
}

absl::StatusOr<NodePtr> ExpressionParser::ParseCall(NodePtr callee) {
  auto node = std::make_unique<CallNode>(Current().line, std::move(callee));
  RETURN_IF_ERROR(ParseArguments(&node->arguments));
  return Finish(std::move(node));
}

absl::StatusOr<std::string> ExpressionParser::ParseDottedName() {
  ASSIGN_OR_RETURN(std::string name, ExpectAnyName());
  while (SkipOperator(".")) {
    ASSIGN_OR_RETURN(const std::string part, ExpectAnyName());
    StrAppend(&name, ".", part);
  }
  return name;
}

absl::StatusOr<NodePtr> ExpressionParser::ParseFilters(NodePtr node, bool starts_inline) {
  while (Current().IsOperator("|") || starts_inline) {
    if (!starts_inline) Next();
    starts_inline = false;
    const int line = Current().line;
    ASSIGN_OR_RETURN(std::string name, ParseDottedName());
    auto filter = std::make_unique<ApplyNode>(NodeKind::kFilter, line, std::move(node), std::move(name));
    if (Current().IsOperator("(")) RETURN_IF_ERROR(ParseArguments(&filter->arguments));
    ASSIGN_OR_RETURN(node, Finish(std::move(filter)));
  }
  return node;
}

bool ExpressionParser::AtTestArgument() const {
  switch (Current().type) {
    case TokenType::kString:
    case TokenType::kInteger:
    case TokenType::kFloat: return true;
    case TokenType::kName: return !Current().IsName("else") && !Current().IsName("or") && !Current().IsName("and");
    default: return Current().IsOperator("[") || Current().IsOperator("{");
  }
}

absl::StatusOr<NodePtr> ExpressionParser::ParseTest(NodePtr operand) {
  const int line = Next().line;
  const bool is_negated = SkipName("not");
  ASSIGN_OR_RETURN(std::string name, ParseDottedName());
  auto test = std::make_unique<ApplyNode>(NodeKind::kTest, line, std::move(operand), std::move(name));
  if (Current().IsOperator("(")) {
    RETURN_IF_ERROR(ParseArguments(&test->arguments));
  } else if (AtTestArgument()) {
    if (Current().IsName("is")) return Fail("You cannot chain multiple tests with is");
    ASSIGN_OR_RETURN(NodePtr argument, ParsePrimary(/*allow_namespace=*/false));
    ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    test->arguments.positional.push_back(std::move(argument));
  }
  ASSIGN_OR_RETURN(NodePtr node, Finish(std::move(test)));
  if (!is_negated) return node;
  return Finish(std::make_unique<UnaryNode>(line, UnaryOperator::kNot, std::move(node)));
}

absl::StatusOr<std::string> ExpressionParser::ExpectTargetName() {
  ASSIGN_OR_RETURN(std::string name, ExpectAnyName());
  if (IsLiteralName(name)) return Fail("can't assign to 'name'");
  return name;
}

void ExpressionParser::SetUse(Node& target, NameNode::Use use) {
  if (target.kind == NodeKind::kName) static_cast<NameNode&>(target).use = use;
  if (target.kind != NodeKind::kTuple) return;
  for (const NodePtr& item : static_cast<ListNode&>(target).items) SetUse(*item, use);
}

absl::StatusOr<NodePtr> ExpressionParser::ParseTarget(Names end_names, bool allow_namespace) {
  TupleOptions options{.is_simple = true, .allow_namespace = allow_namespace};
  if (end_names.size() > 0) options.end_name = *end_names.begin();
  ASSIGN_OR_RETURN(NodePtr target, ParseTuple(options));
  if (!CanAssign(*target)) return SyntaxError(target->line, "can't assign to this expression");
  SetUse(*target, NameNode::Use::kStore);
  return target;
}

}  // namespace expertd::jinja
