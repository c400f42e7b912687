// The tree of a parsed template. The parser builds it, the scope pass (scope.h) fills in where each variable lives, and
// the interpreter walks it. Chains such as a + b + c are one node each, so that depth is nesting and not length.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/text/jinja/value.h"

namespace expertd::jinja {

enum class NodeKind {
  // expressions
  kConstant,
  kName,
  kNamespaceTarget,
  kTuple,
  kList,
  kDict,
  kMath,
  kUnary,
  kAnd,
  kOr,
  kConcat,
  kComparison,
  kAttribute,
  kItem,
  kSlice,
  kCall,
  kFilter,
  kTest,
  kConditional,
  // statements
  kText,
  kOutput,
  kFor,
  kIf,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kSet,
  kSetBlock,
  kBlock,
  kLoad,
  kBreak,
  kContinue,
};

struct Node {
  Node(NodeKind kind, int line) : kind(kind), line(line) {}
  virtual ~Node() = default;
  const NodeKind kind;
  const int line;
  int depth = 1;
};
using NodePtr = std::unique_ptr<Node>;
using NodeList = std::vector<NodePtr>;

// Where a variable lives: `num_hops` functions outwards from the running one (a function is the template, a macro, a
// block, a recursive loop or a loop's condition), then a slot of its activation.
struct VariableRef {
  int num_hops = 0;
  int slot = -1;
};

// What is done with a variable when its scope is entered.
struct ScopeLoad {
  enum class Source { kParameter, kContext, kAlias, kUndefined };
  int slot = -1;
  Source source = Source::kUndefined;
  std::string name;   // kContext: the name to resolve
  VariableRef alias;  // kAlias: the variable of the outer scope whose value it starts with
};
using ScopeLoads = std::vector<ScopeLoad>;

struct ConstantNode : Node {
  ConstantNode(int line, Value value) : Node(NodeKind::kConstant, line), value(std::move(value)) {}
  const Value value;
};

struct NameNode : Node {
  enum class Use { kLoad, kStore, kParameter };
  NameNode(int line, std::string name, Use use) : Node(NodeKind::kName, line), name(std::move(name)), use(use) {}
  const std::string name;
  Use use;
  VariableRef ref;
  bool is_exported = false;  // a store at the top level, seen by blocks through the context
};

// `ns.attribute` on the left of an assignment.
struct NamespaceTargetNode : Node {
  NamespaceTargetNode(int line, std::string name, std::string attribute)
      : Node(NodeKind::kNamespaceTarget, line), name(std::move(name)), attribute(std::move(attribute)) {}
  const std::string name;
  const std::string attribute;
  VariableRef ref;
};

// kTuple, kList, kAnd, kOr, kConcat; as a tuple also a target of assignment.
struct ListNode : Node {
  ListNode(NodeKind kind, int line, NodeList items) : Node(kind, line), items(std::move(items)) {}
  NodeList items;
};

struct DictNode : Node {
  explicit DictNode(int line) : Node(NodeKind::kDict, line) {}
  std::vector<std::pair<NodePtr, NodePtr>> entries;
};

enum class MathOperator { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };

// first op operand op operand ..., from the left.
struct MathNode : Node {
  MathNode(int line, NodePtr first) : Node(NodeKind::kMath, line), first(std::move(first)) {}
  NodePtr first;
  std::vector<std::pair<MathOperator, NodePtr>> rest;
};

enum class UnaryOperator { kNot, kNegative, kPositive };

struct UnaryNode : Node {
  UnaryNode(int line, UnaryOperator op, NodePtr operand)
      : Node(NodeKind::kUnary, line), op(op), operand(std::move(operand)) {}
  const UnaryOperator op;
  NodePtr operand;
};

enum class CompareOperator { kEqual, kNotEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual, kIn, kNotIn };

struct ComparisonNode : Node {
  ComparisonNode(int line, NodePtr first) : Node(NodeKind::kComparison, line), first(std::move(first)) {}
  NodePtr first;
  std::vector<std::pair<CompareOperator, NodePtr>> rest;
};

struct AttributeNode : Node {
  AttributeNode(int line, NodePtr object, std::string name)
      : Node(NodeKind::kAttribute, line), object(std::move(object)), name(std::move(name)) {}
  NodePtr object;
  const std::string name;
};

struct ItemNode : Node {
  ItemNode(int line, NodePtr object, NodePtr index)
      : Node(NodeKind::kItem, line), object(std::move(object)), index(std::move(index)) {}
  NodePtr object;
  NodePtr index;  // a SliceNode for object[a:b]
};

struct SliceNode : Node {
  explicit SliceNode(int line) : Node(NodeKind::kSlice, line) {}
  NodePtr start, stop, step;  // null where left out
};

struct ArgumentNodes {
  NodeList positional;
  std::vector<std::pair<std::string, NodePtr>> keywords;
  NodePtr extra_positional;  // *args, or null
  NodePtr extra_keywords;    // **kwargs, or null
};

struct CallNode : Node {
  CallNode(int line, NodePtr callee) : Node(NodeKind::kCall, line), callee(std::move(callee)) {}
  NodePtr callee;
  ArgumentNodes arguments;
};

// kFilter and kTest.
struct ApplyNode : Node {
  ApplyNode(NodeKind kind, int line, NodePtr operand, std::string name)
      : Node(kind, line), operand(std::move(operand)), name(std::move(name)) {}
  NodePtr operand;  // null: the text of the enclosing filter or set block
  const std::string name;
  ArgumentNodes arguments;
};

struct ConditionalNode : Node {
  explicit ConditionalNode(int line) : Node(NodeKind::kConditional, line) {}
  NodePtr test, then, otherwise;  // `otherwise` may be null
};

// ---- statements

struct TextNode : Node {
  TextNode(int line, std::string text) : Node(NodeKind::kText, line), text(std::move(text)) {}
  const std::string text;
};

struct OutputNode : Node {
  OutputNode(int line, NodePtr value) : Node(NodeKind::kOutput, line), value(std::move(value)) {}
  NodePtr value;
};

struct ForNode : Node {
  explicit ForNode(int line) : Node(NodeKind::kFor, line) {}
  NodePtr target, iterable;
  NodePtr test_target;  // a copy of `target` in the scope of the test
  NodePtr test;         // null without `if`
  NodeList body, otherwise;
  bool is_recursive = false;
  // Filled in by the scope pass.
  bool has_loop_variable = false;
  VariableRef loop_variable;
  ScopeLoads body_loads, otherwise_loads, test_loads;
  int num_test_slots = 0;       // the test is a function of its own
  int num_recursive_slots = 0;  // so is a recursive loop
};

struct IfNode : Node {
  explicit IfNode(int line) : Node(NodeKind::kIf, line) {}
  NodePtr test;
  NodeList body;
  NodeList elifs;  // IfNodes without elifs and otherwise
  NodeList otherwise;
};

// A macro, and the body of a call block (which is an unnamed macro called `caller`).
struct MacroNode : Node {
  MacroNode(NodeKind kind, int line) : Node(kind, line) {}
  std::string name;
  NodeList parameters;  // NameNodes
  NodeList defaults;    // of the last parameters
  NodeList body;
  // Filled in by the scope pass.
  VariableRef ref;
  bool is_exported = false;
  ScopeLoads loads;
  int num_slots = 0;
  bool has_caller = false;
  int caller_slot = -1, kwargs_slot = -1, varargs_slot = -1;  // -1: not used by the body
};

struct CallBlockNode : MacroNode {
  explicit CallBlockNode(int line) : MacroNode(NodeKind::kCallBlock, line) {}
  NodePtr call;  // a CallNode; null for the tag `generation`, which renders its body in place
};

struct FilterBlockNode : Node {
  explicit FilterBlockNode(int line) : Node(NodeKind::kFilterBlock, line) {}
  NodePtr filter;
  NodeList body;
  ScopeLoads loads;
};

struct WithNode : Node {
  explicit WithNode(int line) : Node(NodeKind::kWith, line) {}
  NodeList targets, values;
  NodeList body;
  ScopeLoads loads;
};

struct SetNode : Node {
  explicit SetNode(int line) : Node(NodeKind::kSet, line) {}
  NodePtr target, value;
};

struct SetBlockNode : Node {
  explicit SetBlockNode(int line) : Node(NodeKind::kSetBlock, line) {}
  NodePtr target;
  NodePtr filter;  // null without
  NodeList body;
  ScopeLoads loads;
};

struct BlockNode : Node {
  explicit BlockNode(int line) : Node(NodeKind::kBlock, line) {}
  std::string name;
  bool is_scoped = false;
  bool is_required = false;
  NodeList body;
  // Filled in by the scope pass.
  ScopeLoads loads;
  int num_slots = 0;
  int self_slot = -1, super_slot = -1;
  std::vector<std::pair<std::string, VariableRef>> scoped_variables;
};

// include, import, from ... import, extends: parsed, and refused when rendered, since there is nothing to load from.
struct LoadNode : Node {
  LoadNode(int line, std::string tag) : Node(NodeKind::kLoad, line), tag(std::move(tag)) {}
  const std::string tag;
  NodePtr source;
  std::vector<std::string> names;  // the variables it would set
};

struct SimpleNode : Node {  // kBreak, kContinue
  using Node::Node;
};

struct TemplateNode {
  NodeList body;
  // Filled in by the scope pass.
  ScopeLoads loads;
  int num_slots = 0;
  int self_slot = -1;
  std::vector<const BlockNode*> blocks;
};

// Calls `visit` with each child that is there, in jinja2's order.
void ForEachChild(const Node& node, const std::function<void(Node&)>& visit);

}  // namespace expertd::jinja
