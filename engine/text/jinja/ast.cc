#include "engine/text/jinja/ast.h"

namespace expertd::jinja {
namespace {

using Visit = std::function<void(Node&)>;

void VisitOne(const NodePtr& node, const Visit& visit) {
  if (node != nullptr) visit(*node);
}

void VisitAll(const NodeList& nodes, const Visit& visit) {
  for (const NodePtr& node : nodes) visit(*node);
}

void VisitArguments(const ArgumentNodes& arguments, const Visit& visit) {
  VisitAll(arguments.positional, visit);
  for (const auto& [name, value] : arguments.keywords) visit(*value);
  VisitOne(arguments.extra_positional, visit);
  VisitOne(arguments.extra_keywords, visit);
}

void VisitExpressionChildren(const Node& node, const Visit& visit) {
  switch (node.kind) {
    case NodeKind::kTuple:
    case NodeKind::kList:
    case NodeKind::kAnd:
    case NodeKind::kOr:
    case NodeKind::kConcat: return VisitAll(static_cast<const ListNode&>(node).items, visit);
    case NodeKind::kDict:
      for (const auto& [key, value] : static_cast<const DictNode&>(node).entries) {
        visit(*key);
        visit(*value);
      }
      return;
    case NodeKind::kMath: {
      const auto& math = static_cast<const MathNode&>(node);
      visit(*math.first);
      for (const auto& [op, operand] : math.rest) visit(*operand);
      return;
    }
    case NodeKind::kUnary: return visit(*static_cast<const UnaryNode&>(node).operand);
    case NodeKind::kComparison: {
      const auto& comparison = static_cast<const ComparisonNode&>(node);
      visit(*comparison.first);
      for (const auto& [op, operand] : comparison.rest) visit(*operand);
      return;
    }
    case NodeKind::kAttribute: return visit(*static_cast<const AttributeNode&>(node).object);
    case NodeKind::kItem:
      visit(*static_cast<const ItemNode&>(node).object);
      return visit(*static_cast<const ItemNode&>(node).index);
    case NodeKind::kSlice: {
      const auto& slice = static_cast<const SliceNode&>(node);
      VisitOne(slice.start, visit);
      VisitOne(slice.stop, visit);
      return VisitOne(slice.step, visit);
    }
    case NodeKind::kCall:
      visit(*static_cast<const CallNode&>(node).callee);
      return VisitArguments(static_cast<const CallNode&>(node).arguments, visit);
    case NodeKind::kFilter:
    case NodeKind::kTest:
      VisitOne(static_cast<const ApplyNode&>(node).operand, visit);
      return VisitArguments(static_cast<const ApplyNode&>(node).arguments, visit);
    case NodeKind::kConditional: {
      const auto& conditional = static_cast<const ConditionalNode&>(node);
      visit(*conditional.test);
      visit(*conditional.then);
      return VisitOne(conditional.otherwise, visit);
    }
    default: return;  // constants and names
  }
}

void VisitMacroChildren(const MacroNode& macro, const Visit& visit) {
  VisitAll(macro.parameters, visit);
  VisitAll(macro.defaults, visit);
  VisitAll(macro.body, visit);
}

}  // namespace

void ForEachChild(const Node& node, const Visit& visit) {
  switch (node.kind) {
    case NodeKind::kOutput: return visit(*static_cast<const OutputNode&>(node).value);
    case NodeKind::kFor: {
      const auto& loop = static_cast<const ForNode&>(node);
      visit(*loop.target);
      visit(*loop.iterable);
      VisitAll(loop.body, visit);
      VisitAll(loop.otherwise, visit);
      return VisitOne(loop.test, visit);
    }
    case NodeKind::kIf: {
      const auto& branch = static_cast<const IfNode&>(node);
      visit(*branch.test);
      VisitAll(branch.body, visit);
      VisitAll(branch.elifs, visit);
      return VisitAll(branch.otherwise, visit);
    }
    case NodeKind::kMacro: return VisitMacroChildren(static_cast<const MacroNode&>(node), visit);
    case NodeKind::kCallBlock:
      VisitOne(static_cast<const CallBlockNode&>(node).call, visit);
      return VisitMacroChildren(static_cast<const MacroNode&>(node), visit);
    case NodeKind::kFilterBlock:
      VisitAll(static_cast<const FilterBlockNode&>(node).body, visit);
      return visit(*static_cast<const FilterBlockNode&>(node).filter);
    case NodeKind::kWith:
      VisitAll(static_cast<const WithNode&>(node).targets, visit);
      VisitAll(static_cast<const WithNode&>(node).values, visit);
      return VisitAll(static_cast<const WithNode&>(node).body, visit);
    case NodeKind::kSet:
      visit(*static_cast<const SetNode&>(node).target);
      return visit(*static_cast<const SetNode&>(node).value);
    case NodeKind::kSetBlock:
      visit(*static_cast<const SetBlockNode&>(node).target);
      VisitOne(static_cast<const SetBlockNode&>(node).filter, visit);
      return VisitAll(static_cast<const SetBlockNode&>(node).body, visit);
    case NodeKind::kBlock: return VisitAll(static_cast<const BlockNode&>(node).body, visit);
    case NodeKind::kLoad: return VisitOne(static_cast<const LoadNode&>(node).source, visit);
    default: return VisitExpressionChildren(node, visit);
  }
}

}  // namespace expertd::jinja
