// Renders a resolved template: walks the tree, keeps the variables of each running function, and collects the text.
// One interpreter serves one rendering on one thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/runtime.h"
#include "engine/text/jinja/value.h"

namespace expertd::jinja {

// The variables of one running function. Macros made in it refer to it and to those outside of it, so that it then
// lives until the end of the rendering.
struct Activation {
  Activation(Runtime& runtime, int num_slots, Activation* parent)
      : runtime(runtime), slots(static_cast<size_t>(num_slots)), parent(parent) {
    runtime.Charge(SizeBytes(num_slots));
  }
  ~Activation() { runtime.Charge(-SizeBytes(static_cast<int>(slots.size()))); }
  Activation(const Activation&) = delete;
  Activation& operator=(const Activation&) = delete;
  static int64_t SizeBytes(int num_slots) { return (num_slots + 1) * static_cast<int64_t>(sizeof(Value)); }

  Runtime& runtime;
  std::vector<Value> slots;
  Activation* const parent;
  bool is_pinned = false;
};

class LoopObject;

class Interpreter {
 public:
  // `variables` is a dict.
  Interpreter(Runtime& runtime, const TemplateNode& root, Value variables)
      : runtime_(runtime), root_(root), variables_(std::move(variables)) {}

  absl::StatusOr<std::string> Run();

  // The next three serve the objects that templates hold: macros, loops and blocks.
  absl::StatusOr<Value> InvokeMacro(const MacroNode& macro, Activation* home, CallArguments arguments);
  absl::StatusOr<Value> RunRecursiveLoop(const ForNode& node, Activation* home, const Value& iterable, int depth);
  absl::StatusOr<Value> RenderBlock(const BlockNode& node);

  // Whether `item` of a loop passes the loop's `if`; `activation` belongs to that condition.
  absl::StatusOr<bool> TestLoopItem(const ForNode& node, Activation* activation, const Value& item);

  const BlockNode* FindBlock(std::string_view name) const;

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  // What blocks see beyond the variables of the caller.
  using Exports = std::map<std::string, Value, std::less<>>;

  class FunctionScope;  // runs in an activation of its own
  class Capture;        // collects the text of a part

  // Pays for an activation. Call it before one is made.
  absl::Status CanActivate(int num_slots);

  // ---- statements
  absl::StatusOr<Flow> ExecuteAll(const NodeList& nodes);
  absl::StatusOr<Flow> Execute(const Node& node);
  absl::StatusOr<Flow> ExecuteIf(const IfNode& node);
  absl::StatusOr<Flow> ExecuteFor(const ForNode& node);
  absl::StatusOr<Flow> RunLoop(const ForNode& node, Activation* home, Value iterable, int depth);
  absl::StatusOr<Flow> RunLoopBody(const ForNode& node, Iterator& items, bool* has_completed);
  absl::StatusOr<Flow> ExecuteWith(const WithNode& node);
  absl::StatusOr<Flow> ExecuteFilterBlock(const FilterBlockNode& node);
  absl::StatusOr<Flow> ExecuteSetBlock(const SetBlockNode& node);
  absl::Status ExecuteSet(const SetNode& node);
  absl::Status ExecuteOutput(const OutputNode& node);
  absl::Status ExecuteMacro(const MacroNode& node);
  absl::Status ExecuteCallBlock(const CallBlockNode& node);
  absl::Status ExecuteBlock(const BlockNode& node);
  absl::Status Append(std::string_view text);
  absl::Status AppendValue(const Value& value);

  // ---- variables
  Value& Slot(const VariableRef& ref);
  void EnterScope(const ScopeLoads& loads);
  void LeaveScope(const ScopeLoads& loads);
  Value ResolveInContext(std::string_view name);
  absl::Status Assign(const Node& target, Value value);
  absl::Status Unpack(const ListNode& target, const Value& value);
  absl::Status CheckNamespaceTargets(const Node& target);
  absl::StatusOr<Value> MakeMacro(const MacroNode& node);
  absl::Status BindMacroArguments(const MacroNode& macro, CallArguments arguments);
  absl::Status BindSpecialArguments(const MacroNode& macro, bool found_caller, CallArguments arguments);
  static void Pin(Activation* activation);

  // ---- expressions
  absl::StatusOr<Value> Evaluate(const Node& node);
  absl::StatusOr<Value> EvaluateLevel(const Node& node);
  absl::StatusOr<Value> EvaluateName(const NameNode& node);
  absl::StatusOr<std::vector<Value>> EvaluateItems(const NodeList& nodes);
  absl::StatusOr<Value> EvaluateDict(const DictNode& node);
  absl::StatusOr<Value> EvaluateMath(const MathNode& node);
  absl::StatusOr<Value> EvaluateAndOr(const ListNode& node);
  absl::StatusOr<Value> EvaluateConcat(const ListNode& node);
  absl::StatusOr<Value> EvaluateComparison(const ComparisonNode& node);
  absl::StatusOr<Value> EvaluateItem(const ItemNode& node);
  absl::StatusOr<Value> EvaluateCall(const CallNode& node, const Value* caller);
  absl::StatusOr<Value> EvaluateApply(const ApplyNode& node, const Value* block_text);
  absl::StatusOr<Value> EvaluateConditional(const ConditionalNode& node);
  absl::StatusOr<CallArguments> EvaluateArguments(const ArgumentNodes& nodes);
  absl::Status ExpandKeywords(const Node& node, CallArguments* arguments);

  Runtime& runtime_;
  const TemplateNode& root_;
  const Value variables_;
  Exports exports_;
  const Exports* scoped_ = nullptr;  // of a scoped block: the variables round it
  Activation* current_ = nullptr;
  std::vector<std::unique_ptr<Activation>> pinned_;
  std::string* output_ = nullptr;
  int64_t open_output_bytes_ = 0;  // of all texts being collected
};

}  // namespace expertd::jinja
