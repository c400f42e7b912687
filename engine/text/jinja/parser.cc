#include "engine/text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <set>
#include <span>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/jinja.h"
#include "engine/text/jinja/lexer.h"

namespace expertd::jinja {
namespace {

using Names = std::initializer_list<std::string_view>;

// Of parameters and of keyword arguments: they are searched one by one.
constexpr size_t kMaxNames = 256;

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

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  absl::StatusOr<std::unique_ptr<TemplateNode>> Run() {
    auto root = std::make_unique<TemplateNode>();
    ASSIGN_OR_RETURN(root->body, ParseBody({}));
    return root;
  }

 private:
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
  absl::Status Unexpected(std::string_view expected) const {
    if (Current().type == TokenType::kEnd)
      return Fail(StrCat("unexpected end of template, expected '", expected, "'."));
    return Fail(StrCat("expected token '", expected, "', got '", Describe(Current()), "'"));
  }
  absl::Status ExpectOperator(std::string_view symbol) {
    return SkipOperator(symbol) ? absl::OkStatus() : Unexpected(symbol);
  }
  absl::Status ExpectName(std::string_view name) { return SkipName(name) ? absl::OkStatus() : Unexpected(name); }
  absl::Status Expect(TokenType type) {
    if (Current().type != type) return Unexpected(Describe(Token{type}));
    Next();
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> ExpectAnyName() {
    if (Current().type != TokenType::kName) return Unexpected("name");
    return Next().text;
  }

  // ---- nesting

  absl::Status TooDeep() const {
    return absl::ResourceExhaustedError(
        StrCat("line ", Current().line, ": the template is nested more than ", kMaxSourceNesting, " deep"));
  }

  // Counts one level of the parser's own recursion.
  class Nesting {
   public:
    explicit Nesting(Parser& parser) : parser_(parser) { ++parser_.nesting_; }
    ~Nesting() { --parser_.nesting_; }
    bool IsTooDeep() const { return parser_.nesting_ > kMaxSourceNesting; }

   private:
    Parser& parser_;
  };

  // Every finished expression passes through here, which keeps trees that grow to the left (a.b.c) shallow as well.
  absl::StatusOr<NodePtr> Finish(NodePtr node) const {
    int depth = 0;
    ForEachChild(*node, [&depth](const Node& child) { depth = std::max(depth, child.depth); });
    node->depth = depth + 1;
    if (node->depth > kMaxSourceNesting) return TooDeep();
    return node;
  }

  // ---- statements

  bool AtAnyName(std::span<const std::string_view> names) const {
    return std::any_of(names.begin(), names.end(), [this](std::string_view name) { return Current().IsName(name); });
  }

  // Statements up to a tag in `end_tags`, whose name is then the current token; up to the end when it is empty.
  absl::StatusOr<NodeList> ParseBody(std::span<const std::string_view> end_tags) {
    Nesting nesting(*this);
    if (nesting.IsTooDeep()) return TooDeep();
    NodeList body;
    while (Current().type != TokenType::kEnd) {
      const Token& token = Next();
      if (token.type == TokenType::kData) {
        body.push_back(std::make_unique<TextNode>(token.line, token.text));
      } else if (token.type == TokenType::kVariableBegin) {
        const int line = token.line;
        ASSIGN_OR_RETURN(NodePtr value, ParseTuple({}));
        RETURN_IF_ERROR(Expect(TokenType::kVariableEnd));
        body.push_back(std::make_unique<OutputNode>(line, std::move(value)));
      } else {
        if (AtAnyName(end_tags)) return body;
        RETURN_IF_ERROR(ParseStatement(end_tags, &body));
        RETURN_IF_ERROR(Expect(TokenType::kBlockEnd));
      }
    }
    if (!end_tags.empty()) return UnexpectedEnd(end_tags);
    return body;
  }

  std::string Expected(std::span<const std::string_view> end_tags) const {
    std::string names;
    for (std::string_view name : end_tags) StrAppend(&names, names.empty() ? "'" : " or '", name, "'");
    std::string message = StrCat("Jinja was looking for the following tags: ", names, ".");
    if (!open_tags_.empty()) {
      StrAppend(&message, " The innermost block that needs to be closed is '", open_tags_.back(), "'.");
    }
    return message;
  }

  absl::Status UnexpectedEnd(std::span<const std::string_view> end_tags) const {
    return Fail(StrCat("Unexpected end of template. ", Expected(end_tags)));
  }

  // The statements between a tag and its end tag. The end tag's name is the current token.
  absl::StatusOr<NodeList> ParseStatements(Names end_tags) {
    SkipOperator(":");
    RETURN_IF_ERROR(Expect(TokenType::kBlockEnd));
    return ParseBody(std::span(end_tags.begin(), end_tags.size()));
  }

  // As ParseStatements, and takes the name of the end tag.
  absl::StatusOr<NodeList> ParseStatementsAndEnd(std::string_view end_tag) {
    ASSIGN_OR_RETURN(NodeList body, ParseStatements({end_tag}));
    Next();
    return body;
  }

  absl::Status ParseStatement(std::span<const std::string_view> end_tags, NodeList* body) {
    if (Current().type != TokenType::kName) return Fail("tag name expected");
    const std::string tag = Current().text;
    if (tag == "print") return ParsePrint(body);
    open_tags_.push_back(tag);
    ASSIGN_OR_RETURN(NodePtr statement, ParseTag(tag, end_tags));
    open_tags_.pop_back();
    body->push_back(std::move(statement));
    return absl::OkStatus();
  }

  absl::StatusOr<NodePtr> ParseTag(const std::string& tag, std::span<const std::string_view> end_tags) {
    if (tag == "for") return ParseFor();
    if (tag == "if") return ParseIf();
    if (tag == "set") return ParseSet();
    if (tag == "macro") return ParseMacro();
    if (tag == "call") return ParseCallBlock();
    if (tag == "filter") return ParseFilterBlock();
    if (tag == "with") return ParseWith();
    if (tag == "block") return ParseBlock();
    if (tag == "generation") return ParseGeneration();
    if (tag == "break" || tag == "continue") return ParseLoopControl(tag);
    if (tag == "include" || tag == "import" || tag == "from" || tag == "extends") return ParseLoad(tag);
    if (tag == "autoescape") return Fail("the tag 'autoescape' is not supported");
    open_tags_.pop_back();
    std::string message = StrCat("Encountered unknown tag '", tag, "'.");
    if (!end_tags.empty()) StrAppend(&message, " ", Expected(end_tags));
    return Fail(message);
  }

  absl::Status ParsePrint(NodeList* body) {
    const int line = Next().line;
    bool is_first = true;
    while (Current().type != TokenType::kBlockEnd) {
      if (!is_first) RETURN_IF_ERROR(ExpectOperator(","));
      is_first = false;
      ASSIGN_OR_RETURN(NodePtr value, ParseExpression());
      body->push_back(std::make_unique<OutputNode>(line, std::move(value)));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<NodePtr> ParseFor() {
    auto node = std::make_unique<ForNode>(Next().line);
    const size_t target_position = position_;
    ASSIGN_OR_RETURN(node->target, ParseTarget({"in"}, /*allow_namespace=*/false));
    RETURN_IF_ERROR(ExpectName("in"));
    ASSIGN_OR_RETURN(node->iterable, ParseTuple({.with_conditional = false, .end_name = "recursive"}));
    if (SkipName("if")) {
      ASSIGN_OR_RETURN(node->test, ParseExpression());
      const size_t saved = position_;
      position_ = target_position;
      ASSIGN_OR_RETURN(node->test_target, ParseTarget({"in"}, /*allow_namespace=*/false));
      position_ = saved;
    }
    node->is_recursive = SkipName("recursive");
    ++num_loops_;
    auto body = ParseStatements({"endfor", "else"});
    --num_loops_;
    if (!body.ok()) return body.status();
    node->body = *std::move(body);
    if (Next().text == "else") {
      // Here `break` belongs to the loop outside, unless the loop is a function of its own.
      const int saved = num_loops_;
      if (node->is_recursive) num_loops_ = 0;
      ASSIGN_OR_RETURN(node->otherwise, ParseStatementsAndEnd("endfor"));
      num_loops_ = saved;
    }
    return node;
  }

  absl::StatusOr<NodePtr> ParseIf() {
    const int line = Next().line;
    auto root = std::make_unique<IfNode>(line);
    IfNode* node = root.get();
    while (true) {
      ASSIGN_OR_RETURN(node->test, ParseTuple({.with_conditional = false}));
      ASSIGN_OR_RETURN(node->body, ParseStatements({"elif", "else", "endif"}));
      const std::string end = Next().text;
      if (end == "elif") {
        auto elif = std::make_unique<IfNode>(Current().line);
        node = elif.get();
        root->elifs.push_back(std::move(elif));
        continue;
      }
      if (end == "else") {
        ASSIGN_OR_RETURN(root->otherwise, ParseStatementsAndEnd("endif"));
      }
      return root;
    }
  }

  absl::StatusOr<NodePtr> ParseSet() {
    const int line = Next().line;
    ASSIGN_OR_RETURN(NodePtr target, ParseTarget({}, /*allow_namespace=*/true));
    if (SkipOperator("=")) {
      auto node = std::make_unique<SetNode>(line);
      node->target = std::move(target);
      ASSIGN_OR_RETURN(node->value, ParseTuple({}));
      return node;
    }
    auto node = std::make_unique<SetBlockNode>(line);
    node->target = std::move(target);
    ASSIGN_OR_RETURN(node->filter, ParseFilters(nullptr));
    ASSIGN_OR_RETURN(node->body, ParseStatementsAndEnd("endset"));
    return node;
  }

  absl::Status ParseSignature(MacroNode* node) {
    RETURN_IF_ERROR(ExpectOperator("("));
    while (!Current().IsOperator(")")) {
      if (!node->parameters.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      const int line = Current().line;
      ASSIGN_OR_RETURN(std::string name, ExpectTargetName());
      if (SkipOperator("=")) {
        ASSIGN_OR_RETURN(NodePtr value, ParseExpression());
        node->defaults.push_back(std::move(value));
      } else if (!node->defaults.empty()) {
        return Fail("non-default argument follows default argument");
      }
      for (const NodePtr& other : node->parameters) {
        if (static_cast<NameNode&>(*other).name == name) return Fail(StrCat("duplicate argument '", name, "'"));
      }
      if (node->parameters.size() >= kMaxNames) return Fail("the macro has too many parameters");
      node->parameters.push_back(std::make_unique<NameNode>(line, std::move(name), NameNode::Use::kParameter));
    }
    return ExpectOperator(")");
  }

  // The body of a macro: loops outside of it cannot be left from inside.
  absl::Status ParseMacroBody(MacroNode* node, std::string_view end_tag) {
    const int saved = num_loops_;
    num_loops_ = 0;
    ASSIGN_OR_RETURN(node->body, ParseStatementsAndEnd(end_tag));
    num_loops_ = saved;
    return absl::OkStatus();
  }

  absl::StatusOr<NodePtr> ParseMacro() {
    auto node = std::make_unique<MacroNode>(NodeKind::kMacro, Next().line);
    ASSIGN_OR_RETURN(node->name, ExpectTargetName());
    RETURN_IF_ERROR(ParseSignature(node.get()));
    RETURN_IF_ERROR(ParseMacroBody(node.get(), "endmacro"));
    return node;
  }

  absl::StatusOr<NodePtr> ParseCallBlock() {
    auto node = std::make_unique<CallBlockNode>(Next().line);
    if (Current().IsOperator("(")) RETURN_IF_ERROR(ParseSignature(node.get()));
    ASSIGN_OR_RETURN(node->call, ParseExpression());
    if (node->call->kind != NodeKind::kCall) return SyntaxError(node->line, "expected call");
    RETURN_IF_ERROR(ParseMacroBody(node.get(), "endcall"));
    return node;
  }

  absl::StatusOr<NodePtr> ParseGeneration() {
    auto node = std::make_unique<CallBlockNode>(Next().line);
    RETURN_IF_ERROR(ParseMacroBody(node.get(), "endgeneration"));
    return node;
  }

  absl::StatusOr<NodePtr> ParseFilterBlock() {
    auto node = std::make_unique<FilterBlockNode>(Next().line);
    ASSIGN_OR_RETURN(node->filter, ParseFilters(nullptr, /*starts_inline=*/true));
    ASSIGN_OR_RETURN(node->body, ParseStatementsAndEnd("endfilter"));
    return node;
  }

  absl::StatusOr<NodePtr> ParseWith() {
    auto node = std::make_unique<WithNode>(Next().line);
    while (Current().type != TokenType::kBlockEnd) {
      if (!node->targets.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      ASSIGN_OR_RETURN(NodePtr target, ParseTarget({}, /*allow_namespace=*/false));
      SetUse(*target, NameNode::Use::kParameter);
      node->targets.push_back(std::move(target));
      RETURN_IF_ERROR(ExpectOperator("="));
      ASSIGN_OR_RETURN(NodePtr value, ParseExpression());
      node->values.push_back(std::move(value));
    }
    ASSIGN_OR_RETURN(node->body, ParseStatementsAndEnd("endwith"));
    return node;
  }

  absl::StatusOr<NodePtr> ParseBlock() {
    auto node = std::make_unique<BlockNode>(Next().line);
    ASSIGN_OR_RETURN(node->name, ExpectAnyName());
    node->is_scoped = SkipName("scoped");
    node->is_required = SkipName("required");
    const int saved = num_loops_;
    num_loops_ = 0;
    ASSIGN_OR_RETURN(node->body, ParseStatementsAndEnd("endblock"));
    num_loops_ = saved;
    SkipName(node->name);
    if (!block_names_.insert(node->name).second) {
      return SyntaxError(node->line, StrCat("block '", node->name, "' defined twice"));
    }
    return node;
  }

  absl::StatusOr<NodePtr> ParseLoopControl(const std::string& tag) {
    const int line = Next().line;
    if (num_loops_ == 0) return SyntaxError(line, StrCat("'", tag, "' outside loop"));
    return std::make_unique<SimpleNode>(tag == "break" ? NodeKind::kBreak : NodeKind::kContinue, line);
  }

  absl::StatusOr<NodePtr> ParseLoad(const std::string& tag) {
    auto node = std::make_unique<LoadNode>(Next().line, tag);
    ASSIGN_OR_RETURN(node->source, ParseExpression());
    if (tag == "import") {
      RETURN_IF_ERROR(ExpectName("as"));
      ASSIGN_OR_RETURN(std::string name, ExpectTargetName());
      node->names.push_back(std::move(name));
    } else if (tag == "from") {
      RETURN_IF_ERROR(ExpectName("import"));
      RETURN_IF_ERROR(ParseImportedNames(node.get()));
    } else if (tag == "include" && SkipName("ignore")) {
      RETURN_IF_ERROR(ExpectName("missing"));
    }
    if ((Current().IsName("with") || Current().IsName("without")) && Look().IsName("context")) {
      Next();
      Next();
    }
    return node;
  }

  absl::Status ParseImportedNames(LoadNode* node) {
    do {
      ASSIGN_OR_RETURN(std::string name, ExpectTargetName());
      if (SkipName("as")) {
        ASSIGN_OR_RETURN(name, ExpectTargetName());
      }
      node->names.push_back(std::move(name));
    } while (SkipOperator(","));
    return absl::OkStatus();
  }

  // ---- targets of assignment

  static bool IsLiteralName(std::string_view name) {
    return name == "true" || name == "false" || name == "none" || name == "True" || name == "False" || name == "None";
  }

  absl::StatusOr<std::string> ExpectTargetName() {
    ASSIGN_OR_RETURN(std::string name, ExpectAnyName());
    if (IsLiteralName(name)) return Fail("can't assign to 'name'");
    return name;
  }

  static bool CanAssign(const Node& node) {
    if (node.kind == NodeKind::kName || node.kind == NodeKind::kNamespaceTarget) return true;
    if (node.kind != NodeKind::kTuple) return false;
    const NodeList& items = static_cast<const ListNode&>(node).items;
    return std::all_of(items.begin(), items.end(), [](const NodePtr& item) { return CanAssign(*item); });
  }

  static void SetUse(Node& target, NameNode::Use use) {
    if (target.kind == NodeKind::kName) static_cast<NameNode&>(target).use = use;
    if (target.kind != NodeKind::kTuple) return;
    for (const NodePtr& item : static_cast<ListNode&>(target).items) SetUse(*item, use);
  }

  absl::StatusOr<NodePtr> ParseTarget(Names end_names, bool allow_namespace) {
    TupleOptions options{.is_simple = true, .allow_namespace = allow_namespace};
    if (end_names.size() > 0) options.end_name = *end_names.begin();
    ASSIGN_OR_RETURN(NodePtr target, ParseTuple(options));
    if (!CanAssign(*target)) return SyntaxError(target->line, "can't assign to this expression");
    SetUse(*target, NameNode::Use::kStore);
    return target;
  }

  // ---- expressions

  struct TupleOptions {
    bool is_simple = false;          // names and literals only
    bool allow_namespace = false;    // `a.b` is a namespace's attribute
    bool with_conditional = true;    // `x if y` is an expression
    bool is_parenthesized = false;   // `()` is a tuple
    std::string_view end_name = "";  // a name that ends the tuple
  };

  bool AtTupleEnd(const TupleOptions& options) const {
    return Current().type == TokenType::kVariableEnd || Current().type == TokenType::kBlockEnd ||
           Current().IsOperator(")") || (!options.end_name.empty() && Current().IsName(options.end_name));
  }

  absl::StatusOr<NodePtr> ParseTupleItem(const TupleOptions& options) {
    if (options.is_simple) return ParsePrimary(options.allow_namespace);
    return options.with_conditional ? ParseExpression() : ParseOr();
  }

  // One expression, or several with commas between.
  absl::StatusOr<NodePtr> ParseTuple(const TupleOptions& options) {
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

  absl::StatusOr<NodePtr> ParseExpression() {
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
  absl::StatusOr<NodePtr> ParseChain(NodeKind kind, ParseOperand parse, SkipSeparator skip) {
    const int line = Current().line;
    NodeList items;
    do {
      ASSIGN_OR_RETURN(NodePtr item, parse());
      items.push_back(std::move(item));
    } while (skip());
    if (items.size() == 1) return std::move(items[0]);
    return Finish(std::make_unique<ListNode>(kind, line, std::move(items)));
  }

  absl::StatusOr<NodePtr> ParseOr() {
    return ParseChain(
        NodeKind::kOr, [this] { return ParseAnd(); }, [this] { return SkipName("or"); });
  }

  absl::StatusOr<NodePtr> ParseAnd() {
    return ParseChain(
        NodeKind::kAnd, [this] { return ParseNot(); }, [this] { return SkipName("and"); });
  }

  absl::StatusOr<NodePtr> ParseNot() {
    if (!Current().IsName("not")) return ParseComparison();
    Nesting nesting(*this);
    if (nesting.IsTooDeep()) return TooDeep();
    const int line = Next().line;
    ASSIGN_OR_RETURN(NodePtr operand, ParseNot());
    return Finish(std::make_unique<UnaryNode>(line, UnaryOperator::kNot, std::move(operand)));
  }

  std::optional<CompareOperator> SkipCompareOperator() {
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

  absl::StatusOr<NodePtr> ParseComparison() {
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

  using MathSymbols = std::initializer_list<std::pair<std::string_view, MathOperator>>;

  std::optional<MathOperator> SkipMathOperator(MathSymbols symbols) {
    for (const auto& [symbol, op] : symbols) {
      if (SkipOperator(symbol)) return op;
    }
    return std::nullopt;
  }

  template <typename ParseOperand>
  absl::StatusOr<NodePtr> ParseMath(MathSymbols symbols, ParseOperand parse) {
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

  absl::StatusOr<NodePtr> ParseSum() {
    return ParseMath({{"+", MathOperator::kAdd}, {"-", MathOperator::kSubtract}}, [this] { return ParseConcat(); });
  }

  absl::StatusOr<NodePtr> ParseConcat() {
    return ParseChain(
        NodeKind::kConcat, [this] { return ParseProduct(); }, [this] { return SkipOperator("~"); });
  }

  absl::StatusOr<NodePtr> ParseProduct() {
    return ParseMath({{"*", MathOperator::kMultiply},
                      {"/", MathOperator::kDivide},
                      {"//", MathOperator::kFloorDivide},
                      {"%", MathOperator::kModulo}},
                     [this] { return ParsePower(); });
  }

  // jinja2's power binds from the left, unlike Python's, and weaker than a sign.
  absl::StatusOr<NodePtr> ParsePower() {
    return ParseMath({{"**", MathOperator::kPower}}, [this] { return ParseUnary(/*with_filter=*/true); });
  }

  absl::StatusOr<NodePtr> ParseUnary(bool with_filter) {
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

  absl::StatusOr<NodePtr> ParsePrimary(bool allow_namespace) {
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

  absl::StatusOr<NodePtr> ParseNameOrLiteral(bool allow_namespace) {
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
  absl::StatusOr<NodePtr> ParseStrings() {
    const int line = Current().line;
    std::string text;
    while (Current().type == TokenType::kString) text += Next().text;
    return std::make_unique<ConstantNode>(line, Value::Constant(std::move(text)));
  }

  absl::StatusOr<NodePtr> ParseList() {
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

  absl::StatusOr<NodePtr> ParseDict() {
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

  absl::StatusOr<NodePtr> ParsePostfix(NodePtr node) {
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

  absl::StatusOr<NodePtr> ParseFiltersAndTests(NodePtr node) {
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

  absl::StatusOr<NodePtr> ParseAttribute(NodePtr object) {
    const int line = Next().line;
    const Token& token = Next();
    if (token.type == TokenType::kName) {
      return Finish(std::make_unique<AttributeNode>(line, std::move(object), token.text));
    }
    if (token.type != TokenType::kInteger) return SyntaxError(token.line, "expected name or number");
    auto index = std::make_unique<ConstantNode>(token.line, Value::Integer(token.integer));
    return Finish(std::make_unique<ItemNode>(line, std::move(object), std::move(index)));
  }

  absl::StatusOr<NodePtr> ParseSubscript(NodePtr object) {
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

  bool AtSlicePartEnd() const {
    return Current().IsOperator(":") || Current().IsOperator("]") || Current().IsOperator(",");
  }

  // An index, or a slice start:stop:step.
  absl::StatusOr<NodePtr> ParseIndex() {
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

  absl::Status ParseKeyword(ArgumentNodes* arguments) {
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

  absl::Status ParseArgument(ArgumentNodes* arguments) {
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

  absl::Status ParseArguments(ArgumentNodes* arguments) {
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

  absl::StatusOr<NodePtr> ParseCall(NodePtr callee) {
    auto node = std::make_unique<CallNode>(Current().line, std::move(callee));
    RETURN_IF_ERROR(ParseArguments(&node->arguments));
    return Finish(std::move(node));
  }

  absl::StatusOr<std::string> ParseDottedName() {
    ASSIGN_OR_RETURN(std::string name, ExpectAnyName());
    while (SkipOperator(".")) {
      ASSIGN_OR_RETURN(const std::string part, ExpectAnyName());
      StrAppend(&name, ".", part);
    }
    return name;
  }

  absl::StatusOr<NodePtr> ParseFilters(NodePtr node, bool starts_inline = false) {
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

  bool AtTestArgument() const {
    switch (Current().type) {
      case TokenType::kString:
      case TokenType::kInteger:
      case TokenType::kFloat: return true;
      case TokenType::kName: return !Current().IsName("else") && !Current().IsName("or") && !Current().IsName("and");
      default: return Current().IsOperator("[") || Current().IsOperator("{");
    }
  }

  absl::StatusOr<NodePtr> ParseTest(NodePtr operand) {
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

  const std::vector<Token> tokens_;
  size_t position_ = 0;
  int nesting_ = 0;
  int num_loops_ = 0;  // loops that `break` could leave here
  std::vector<std::string> open_tags_;
  std::set<std::string> block_names_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TemplateNode>> ParseTemplate(std::string_view source) {
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace expertd::jinja
