// The interpreter's expressions: what a node of an expression is worth. Statements are in interpreter.cc.
#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/interpreter.h"

namespace expertd::jinja {

// Names and constants are most of what is evaluated, and nest nothing.
absl::StatusOr<Value> Interpreter::Evaluate(const Node& node) {
  RETURN_IF_ERROR(runtime_.Spend(1));
  if (node.kind == NodeKind::kConstant) return static_cast<const ConstantNode&>(node).value;
  if (node.kind == NodeKind::kName) return EvaluateName(static_cast<const NameNode&>(node));
  Level level(runtime_);
  RETURN_IF_ERROR(level.status());
  return EvaluateLevel(node);
}

absl::StatusOr<Value> Interpreter::EvaluateLevel(const Node& node) {
  switch (node.kind) {
    case NodeKind::kTuple: {
      ASSIGN_OR_RETURN(std::vector<Value> items, EvaluateItems(static_cast<const ListNode&>(node).items));
      return runtime_.NewTuple(std::move(items));
    }
    case NodeKind::kList: {
      ASSIGN_OR_RETURN(std::vector<Value> items, EvaluateItems(static_cast<const ListNode&>(node).items));
      return runtime_.NewList(std::move(items));
    }
    case NodeKind::kDict: return EvaluateDict(static_cast<const DictNode&>(node));
    case NodeKind::kMath: return EvaluateMath(static_cast<const MathNode&>(node));
    case NodeKind::kUnary: {
      const auto& unary = static_cast<const UnaryNode&>(node);
      ASSIGN_OR_RETURN(const Value operand, Evaluate(*unary.operand));
      return ApplyUnary(runtime_, unary.op, operand);
    }
    case NodeKind::kAnd:
    case NodeKind::kOr: return EvaluateAndOr(static_cast<const ListNode&>(node));
    case NodeKind::kConcat: return EvaluateConcat(static_cast<const ListNode&>(node));
    case NodeKind::kComparison: return EvaluateComparison(static_cast<const ComparisonNode&>(node));
    case NodeKind::kAttribute: {
      const auto& attribute = static_cast<const AttributeNode&>(node);
      ASSIGN_OR_RETURN(const Value object, Evaluate(*attribute.object));
      return GetAttribute(runtime_, object, attribute.name);
    }
    case NodeKind::kItem: return EvaluateItem(static_cast<const ItemNode&>(node));
    case NodeKind::kCall: return EvaluateCall(static_cast<const CallNode&>(node), nullptr);
    case NodeKind::kFilter:
    case NodeKind::kTest: return EvaluateApply(static_cast<const ApplyNode&>(node), nullptr);
    case NodeKind::kConditional: return EvaluateConditional(static_cast<const ConditionalNode&>(node));
    default: EXPERTD_CHECK(false, "not an expression");
  }
}

absl::StatusOr<Value> Interpreter::EvaluateName(const NameNode& node) {
  const Value& value = Slot(node.ref);
  return value.is_missing() ? runtime_.NewUndefined(StrCat("'", node.name, "' is undefined")) : value;
}

absl::StatusOr<std::vector<Value>> Interpreter::EvaluateItems(const NodeList& nodes) {
  std::vector<Value> items;
  items.reserve(nodes.size());
  for (const NodePtr& node : nodes) {
    ASSIGN_OR_RETURN(Value item, Evaluate(*node));
    items.push_back(std::move(item));
  }
  return items;
}

absl::StatusOr<Value> Interpreter::EvaluateDict(const DictNode& node) {
  DictBuilder builder(&runtime_);
  for (const auto& [key_node, value_node] : node.entries) {
    ASSIGN_OR_RETURN(Value key, Evaluate(*key_node));
    ASSIGN_OR_RETURN(Value value, Evaluate(*value_node));
    RETURN_IF_ERROR(builder.Set(std::move(key), std::move(value)));
  }
  return std::move(builder).Build();
}

absl::StatusOr<Value> Interpreter::EvaluateMath(const MathNode& node) {
  ASSIGN_OR_RETURN(Value left, Evaluate(*node.first));
  for (const auto& [op, operand] : node.rest) {
    ASSIGN_OR_RETURN(const Value right, Evaluate(*operand));
    ASSIGN_OR_RETURN(left, ApplyMath(runtime_, op, left, right));
  }
  return left;
}

absl::StatusOr<Value> Interpreter::EvaluateAndOr(const ListNode& node) {
  Value value;
  for (const NodePtr& item : node.items) {
    ASSIGN_OR_RETURN(value, Evaluate(*item));
    if (item == node.items.back()) break;
    ASSIGN_OR_RETURN(const bool is_true, Truth(runtime_, value));
    if (is_true == (node.kind == NodeKind::kOr)) break;
  }
  return value;
}

absl::StatusOr<Value> Interpreter::EvaluateConcat(const ListNode& node) {
  ASSIGN_OR_RETURN(const std::vector<Value> items, EvaluateItems(node.items));
  std::string text;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(const std::string part, Str(runtime_, item));
    RETURN_IF_ERROR(runtime_.CanAllocate(static_cast<int64_t>(text.size() + part.size())));
    text += part;
  }
  return runtime_.NewString(std::move(text));
}

absl::StatusOr<Value> Interpreter::EvaluateComparison(const ComparisonNode& node) {
  ASSIGN_OR_RETURN(Value left, Evaluate(*node.first));
  for (const auto& [op, operand] : node.rest) {
    ASSIGN_OR_RETURN(Value right, Evaluate(*operand));
    ASSIGN_OR_RETURN(const bool holds, ApplyComparison(runtime_, op, left, right));
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

absl::StatusOr<Value> Interpreter::EvaluateItem(const ItemNode& node) {
  ASSIGN_OR_RETURN(const Value object, Evaluate(*node.object));
  if (node.index->kind != NodeKind::kSlice) {
    ASSIGN_OR_RETURN(const Value index, Evaluate(*node.index));
    return GetItem(runtime_, object, index);
  }
  const auto& slice = static_cast<const SliceNode&>(*node.index);
  const auto bound = [this](const NodePtr& part) -> absl::StatusOr<Value> {
    return part == nullptr ? Value::None() : Evaluate(*part);
  };
  ASSIGN_OR_RETURN(const Value start, bound(slice.start));
  ASSIGN_OR_RETURN(const Value stop, bound(slice.stop));
  ASSIGN_OR_RETURN(const Value step, bound(slice.step));
  return GetSlice(runtime_, object, start, stop, step);
}

absl::Status Interpreter::ExpandKeywords(const Node& node, CallArguments* arguments) {
  ASSIGN_OR_RETURN(const Value extra, Evaluate(node));
  if (!extra.is_dict()) {
    return TypeError(StrCat("argument after ** must be a mapping, not ", TypeName(extra)));
  }
  for (const auto& [key, value] : extra.dict().entries) {
    if (!key.is_string()) return TypeError("keywords must be strings");
    for (const auto& [name, other] : arguments->keywords) {
      if (name == key.text()) return TypeError(StrCat("got multiple values for keyword argument '", name, "'"));
    }
    arguments->keywords.emplace_back(key.text(), value);
    RETURN_IF_ERROR(runtime_.Spend(1 + static_cast<int64_t>(arguments->keywords.size()) / 8));
  }
  return absl::OkStatus();
}

absl::StatusOr<CallArguments> Interpreter::EvaluateArguments(const ArgumentNodes& nodes) {
  CallArguments arguments;
  ASSIGN_OR_RETURN(arguments.positional, EvaluateItems(nodes.positional));
  for (const auto& [name, node] : nodes.keywords) {
    ASSIGN_OR_RETURN(Value value, Evaluate(*node));
    arguments.keywords.emplace_back(name, std::move(value));
  }
  if (nodes.extra_positional != nullptr) {
    ASSIGN_OR_RETURN(const Value extra, Evaluate(*nodes.extra_positional));
    ASSIGN_OR_RETURN(std::vector<Value> items, ToVector(runtime_, extra));
    for (Value& item : items) arguments.positional.push_back(std::move(item));
  }
  if (nodes.extra_keywords != nullptr) RETURN_IF_ERROR(ExpandKeywords(*nodes.extra_keywords, &arguments));
  return arguments;
}

absl::StatusOr<Value> Interpreter::EvaluateCall(const CallNode& node, const Value* caller) {
  ASSIGN_OR_RETURN(const Value callee, Evaluate(*node.callee));
  ASSIGN_OR_RETURN(CallArguments arguments, EvaluateArguments(node.arguments));
  if (caller != nullptr) arguments.keywords.emplace_back("caller", *caller);
  runtime_.line = node.line;
  return CallValue(runtime_, callee, std::move(arguments));
}

absl::StatusOr<Value> Interpreter::EvaluateApply(const ApplyNode& node, const Value* block_text) {
  const bool is_filter = node.kind == NodeKind::kFilter;
  const Builtin builtin = is_filter ? FindFilter(node.name) : FindTest(node.name);
  if (builtin == nullptr) {
    return absl::InvalidArgumentError(StrCat("No ", is_filter ? "filter" : "test", " named '", node.name, "' found."));
  }
  Value operand;
  if (node.operand == nullptr) {
    operand = *block_text;
  } else if (node.operand->kind == NodeKind::kFilter) {  // a chain of filters, which may end in the block's text
    ASSIGN_OR_RETURN(operand, EvaluateApply(static_cast<const ApplyNode&>(*node.operand), block_text));
  } else {
    ASSIGN_OR_RETURN(operand, Evaluate(*node.operand));
  }
  ASSIGN_OR_RETURN(CallArguments arguments, EvaluateArguments(node.arguments));
  arguments.positional.insert(arguments.positional.begin(), std::move(operand));
  RETURN_IF_ERROR(runtime_.Spend(1));
  runtime_.line = node.line;
  return builtin(runtime_, arguments);
}

absl::StatusOr<Value> Interpreter::EvaluateConditional(const ConditionalNode& node) {
  ASSIGN_OR_RETURN(const Value test, Evaluate(*node.test));
  ASSIGN_OR_RETURN(const bool is_true, Truth(runtime_, test));
  if (is_true) return Evaluate(*node.then);
  if (node.otherwise != nullptr) return Evaluate(*node.otherwise);
  return runtime_.NewUndefined(
      StrCat("the inline if-expression on line ", node.line, " evaluated to false and no else section was defined."));
}

}  // namespace expertd::jinja
