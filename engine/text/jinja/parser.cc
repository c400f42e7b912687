#include "engine/text/jinja/parser.h"

#include <algorithm>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/expression_parser.h"
#include "engine/text/jinja/lexer.h"

namespace expertd::jinja {
namespace {

// The statements of a template.
class Parser : private ExpressionParser {
 public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  absl::StatusOr<std::unique_ptr<TemplateNode>> Run() {
    auto root = std::make_unique<TemplateNode>();
    ASSIGN_OR_RETURN(root->body, ParseBody({}));
    return root;
  }

 private:
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
