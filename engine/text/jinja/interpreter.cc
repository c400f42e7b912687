#include "engine/text/jinja/interpreter.h"

#include <utility>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/loop.h"

namespace expertd::jinja {
namespace {

class MacroObject final : public Object {
 public:
  MacroObject(Runtime* runtime, Interpreter* interpreter, const MacroNode* node, Activation* home)
      : Object(runtime, 64, 1), interpreter_(interpreter), node_(node), home_(home) {}

  std::string TypeName() const override { return "jinja2.runtime.Macro"; }
  absl::StatusOr<std::string> Repr(Runtime&) override {
    return node_->kind == NodeKind::kMacro ? StrCat("<Macro ", ReprOfString(node_->name), ">")
                                           : std::string("<Macro anonymous>");
  }
  bool IsCallable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime&, CallArguments arguments) override {
    return interpreter_->InvokeMacro(*node_, home_, std::move(arguments));
  }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override {
    if (name == "name") {
      if (node_->kind != NodeKind::kMacro) return Value::None();
      ASSIGN_OR_RETURN(Value text, runtime.NewString(node_->name));
      return text;
    }
    if (name == "catch_kwargs") return Value::Bool(node_->kwargs_slot >= 0);
    if (name == "catch_varargs") return Value::Bool(node_->varargs_slot >= 0);
    if (name == "caller") return Value::Bool(node_->has_caller);
    if (name != "arguments") return std::nullopt;
    std::vector<Value> names;
    for (const NodePtr& parameter : node_->parameters) {
      ASSIGN_OR_RETURN(Value text, runtime.NewString(static_cast<const NameNode&>(*parameter).name));
      names.push_back(std::move(text));
    }
    ASSIGN_OR_RETURN(Value tuple, runtime.NewTuple(std::move(names)));
    return tuple;
  }

 private:
  Interpreter* const interpreter_;
  const MacroNode* const node_;
  Activation* const home_;
};

// The variable `self`: its attributes are the template's blocks.
class SelfObject final : public Object {
 public:
  SelfObject(Runtime* runtime, Interpreter* interpreter) : Object(runtime, 16, 1), interpreter_(interpreter) {}
  std::string TypeName() const override { return "jinja2.runtime.TemplateReference"; }
  absl::StatusOr<std::string> Repr(Runtime&) override { return std::string("<TemplateReference None>"); }
  absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name) override {
    const BlockNode* block = interpreter_->FindBlock(name);
    if (block == nullptr) return std::nullopt;
    Interpreter* interpreter = interpreter_;
    ASSIGN_OR_RETURN(Value function,
                     NewFunction(runtime, block->name, [interpreter, block](Runtime&, const CallArguments&) {
                       return interpreter->RenderBlock(*block);
                     }));
    return function;
  }

 private:
  Interpreter* const interpreter_;
};

// The items of a loop that pass its `if`.
class FilteredIterator final : public Iterator {
 public:
  FilteredIterator(Runtime& runtime, Interpreter* interpreter, const ForNode* node, Activation* home, IteratorPtr items)
      : interpreter_(interpreter),
        node_(node),
        activation_(runtime, node->num_test_slots, home),
        items_(std::move(items)) {}

  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override {
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Value> item, items_->Next(runtime));
      if (!item.has_value()) return item;
      ASSIGN_OR_RETURN(const bool passes, interpreter_->TestLoopItem(*node_, &activation_, *item));
      if (passes) return item;
    }
  }

 private:
  Interpreter* const interpreter_;
  const ForNode* const node_;
  Activation activation_;
  IteratorPtr items_;
};

// Lets RunLoopBody walk a LoopObject as it walks any items.
class LoopIterator final : public Iterator {
 public:
  explicit LoopIterator(LoopObject& loop) : loop_(loop) {}
  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override { return loop_.Advance(runtime); }

 private:
  LoopObject& loop_;
};

std::optional<Value> TakeKeyword(CallArguments& arguments, std::string_view name) {
  for (auto it = arguments.keywords.begin(); it != arguments.keywords.end(); ++it) {
    if (it->first != name) continue;
    Value value = std::move(it->second);
    arguments.keywords.erase(it);
    return value;
  }
  return std::nullopt;
}

}  // namespace

// Runs in a new activation until the end of the C++ scope.
class Interpreter::FunctionScope {
 public:
  FunctionScope(Interpreter& interpreter, int num_slots, Activation* parent)
      : interpreter_(interpreter),
        activation_(std::make_unique<Activation>(interpreter.runtime_, num_slots, parent)),
        caller_(std::exchange(interpreter.current_, activation_.get())) {}
  ~FunctionScope() {
    interpreter_.current_ = caller_;
    if (activation_->is_pinned) interpreter_.pinned_.push_back(std::move(activation_));
  }

 private:
  Interpreter& interpreter_;
  std::unique_ptr<Activation> activation_;
  Activation* const caller_;
};

// Collects what is rendered until the end of the C++ scope.
class Interpreter::Capture {
 public:
  explicit Capture(Interpreter& interpreter)
      : interpreter_(interpreter), outer_(std::exchange(interpreter.output_, &text_)) {}
  ~Capture() {
    interpreter_.output_ = outer_;
    interpreter_.open_output_bytes_ -= taken_bytes_ + static_cast<int64_t>(text_.size());
  }
  absl::StatusOr<Value> Take() {
    taken_bytes_ = static_cast<int64_t>(text_.size());
    return interpreter_.runtime_.NewString(std::exchange(text_, {}));
  }

 private:
  Interpreter& interpreter_;
  std::string* const outer_;
  std::string text_;
  int64_t taken_bytes_ = 0;
};

absl::StatusOr<std::string> Interpreter::Run() {
  std::string text;
  output_ = &text;
  RETURN_IF_ERROR(CanActivate(root_.num_slots));
  FunctionScope scope(*this, root_.num_slots, nullptr);
  EnterScope(root_.loads);
  if (root_.self_slot >= 0) {
    ASSIGN_OR_RETURN(current_->slots[static_cast<size_t>(root_.self_slot)], runtime_.NewObject<SelfObject>(this));
  }
  RETURN_IF_ERROR(ExecuteAll(root_.body).status());
  return text;
}

const BlockNode* Interpreter::FindBlock(std::string_view name) const {
  for (const BlockNode* block : root_.blocks) {
    if (block->name == name) return block;
  }
  return nullptr;
}

absl::Status Interpreter::CanActivate(int num_slots) {
  RETURN_IF_ERROR(runtime_.Spend(1 + num_slots));
  return runtime_.CanAllocate(Activation::SizeBytes(num_slots));
}

// ---- statements

absl::Status Interpreter::Append(std::string_view text) {
  const auto size_bytes = static_cast<int64_t>(text.size());
  RETURN_IF_ERROR(runtime_.SpendBytes(size_bytes));
  open_output_bytes_ += size_bytes;
  if (open_output_bytes_ > runtime_.options().limits.max_output_bytes) {
    return absl::ResourceExhaustedError(
        StrCat("the template renders more than ", runtime_.options().limits.max_output_bytes, " bytes"));
  }
  output_->append(text);
  return absl::OkStatus();
}

// Text that a filter or a call left for the output; Python joins it, and can join only strings.
absl::Status Interpreter::AppendValue(const Value& value) {
  if (!value.is_string()) {
    return TypeError(StrCat("sequence item: expected str instance, ", TypeName(value), " found"));
  }
  return Append(value.text());
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecuteAll(const NodeList& nodes) {
  for (const NodePtr& node : nodes) {
    ASSIGN_OR_RETURN(const Flow flow, Execute(*node));
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Execute(const Node& node) {
  RETURN_IF_ERROR(runtime_.Spend(1));
  Level level(runtime_);
  RETURN_IF_ERROR(level.status());
  runtime_.line = node.line;
  absl::Status status;
  switch (node.kind) {
    case NodeKind::kText: status = Append(static_cast<const TextNode&>(node).text); break;
    case NodeKind::kOutput: status = ExecuteOutput(static_cast<const OutputNode&>(node)); break;
    case NodeKind::kSet: status = ExecuteSet(static_cast<const SetNode&>(node)); break;
    case NodeKind::kMacro: status = ExecuteMacro(static_cast<const MacroNode&>(node)); break;
    case NodeKind::kCallBlock: status = ExecuteCallBlock(static_cast<const CallBlockNode&>(node)); break;
    case NodeKind::kBlock: status = ExecuteBlock(static_cast<const BlockNode&>(node)); break;
    case NodeKind::kLoad:
      return TypeError(StrCat("the tag '", static_cast<const LoadNode&>(node).tag,
                              "' needs other templates, and there are none to load"));
    case NodeKind::kIf: return ExecuteIf(static_cast<const IfNode&>(node));
    case NodeKind::kFor: return ExecuteFor(static_cast<const ForNode&>(node));
    case NodeKind::kWith: return ExecuteWith(static_cast<const WithNode&>(node));
    case NodeKind::kFilterBlock: return ExecuteFilterBlock(static_cast<const FilterBlockNode&>(node));
    case NodeKind::kSetBlock: return ExecuteSetBlock(static_cast<const SetBlockNode&>(node));
    case NodeKind::kBreak: return Flow::kBreak;
    case NodeKind::kContinue: return Flow::kContinue;
    default: EXPERTD_CHECK(false, "not a statement");
  }
  if (!status.ok()) return status;
  return Flow::kNormal;
}

absl::Status Interpreter::ExecuteOutput(const OutputNode& node) {
  ASSIGN_OR_RETURN(const Value value, Evaluate(*node.value));
  if (value.is_string()) return Append(value.text());
  ASSIGN_OR_RETURN(const std::string text, Str(runtime_, value));
  return Append(text);
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecuteIf(const IfNode& node) {
  ASSIGN_OR_RETURN(Value test, Evaluate(*node.test));
  ASSIGN_OR_RETURN(bool is_true, Truth(runtime_, test));
  if (is_true) return ExecuteAll(node.body);
  for (const NodePtr& child : node.elifs) {
    const auto& elif = static_cast<const IfNode&>(*child);
    runtime_.line = elif.line;
    ASSIGN_OR_RETURN(test, Evaluate(*elif.test));
    ASSIGN_OR_RETURN(is_true, Truth(runtime_, test));
    if (is_true) return ExecuteAll(elif.body);
  }
  return ExecuteAll(node.otherwise);
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecuteFor(const ForNode& node) {
  ASSIGN_OR_RETURN(Value iterable, Evaluate(*node.iterable));
  if (!node.is_recursive) return RunLoop(node, current_, std::move(iterable), 0);
  Pin(current_);  // the loop may be called after this function has ended
  ASSIGN_OR_RETURN(const Value text, RunRecursiveLoop(node, current_, iterable, 0));
  RETURN_IF_ERROR(AppendValue(text));
  return Flow::kNormal;
}

absl::StatusOr<Value> Interpreter::RunRecursiveLoop(const ForNode& node, Activation* home, const Value& iterable,
                                                    int depth) {
  Level level(runtime_);
  RETURN_IF_ERROR(level.status());
  RETURN_IF_ERROR(CanActivate(node.num_recursive_slots));
  FunctionScope scope(*this, node.num_recursive_slots, home);
  Capture capture(*this);
  RETURN_IF_ERROR(RunLoop(node, home, iterable, depth).status());
  return capture.Take();
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunLoop(const ForNode& node, Activation* home, Value iterable,
                                                       int depth) {
  ASSIGN_OR_RETURN(IteratorPtr items, Iterate(runtime_, iterable));
  if (node.test != nullptr) {
    RETURN_IF_ERROR(CanActivate(node.num_test_slots));
    items = std::make_unique<FilteredIterator>(runtime_, this, &node, home, std::move(items));
    iterable = Value::None();  // a filtered loop has no length beforehand
  }
  absl::StatusOr<Flow> flow = Flow::kNormal;
  bool has_completed = false;
  if (node.has_loop_variable) {
    ASSIGN_OR_RETURN(Value loop, runtime_.NewObject<LoopObject>(std::move(iterable), std::move(items), this,
                                                                node.is_recursive ? &node : nullptr, home, depth));
    auto& object = static_cast<LoopObject&>(loop.object());
    Slot(node.loop_variable) = loop;
    LoopIterator iterator(object);
    flow = RunLoopBody(node, iterator, &has_completed);
    object.Finish();
    Slot(node.loop_variable) = Value();
    if (loop.shared().use_count() > 1) runtime_.KeepUntilEnd(std::static_pointer_cast<Object>(loop.shared()));
  } else {
    flow = RunLoopBody(node, *items, &has_completed);
  }
  if (!flow.ok() || has_completed || node.otherwise.empty()) return flow;
  EnterScope(node.otherwise_loads);
  flow = ExecuteAll(node.otherwise);
  LeaveScope(node.otherwise_loads);
  return flow;
}

// `has_completed` becomes true when an iteration reaches the end of the body: `else` runs unless one has.
absl::StatusOr<Interpreter::Flow> Interpreter::RunLoopBody(const ForNode& node, Iterator& items, bool* has_completed) {
  while (true) {
    ASSIGN_OR_RETURN(std::optional<Value> item, items.Next(runtime_));
    if (!item.has_value()) break;
    RETURN_IF_ERROR(Assign(*node.target, *std::move(item)));
    EnterScope(node.body_loads);
    ASSIGN_OR_RETURN(const Flow flow, ExecuteAll(node.body));
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNormal) *has_completed = true;
  }
  LeaveScope(node.body_loads);
  return Flow::kNormal;
}

absl::StatusOr<bool> Interpreter::TestLoopItem(const ForNode& node, Activation* activation, const Value& item) {
  Activation* const caller = std::exchange(current_, activation);
  EnterScope(node.test_loads);
  const auto test = [&]() -> absl::StatusOr<bool> {
    RETURN_IF_ERROR(Assign(*node.test_target, item));
    ASSIGN_OR_RETURN(const Value value, Evaluate(*node.test));
    return Truth(runtime_, value);
  };
  absl::StatusOr<bool> result = test();
  current_ = caller;
  return result;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecuteWith(const WithNode& node) {
  EnterScope(node.loads);
  for (size_t i = 0; i < node.targets.size(); ++i) {
    ASSIGN_OR_RETURN(Value value, Evaluate(*node.values[i]));
    RETURN_IF_ERROR(Assign(*node.targets[i], std::move(value)));
  }
  ASSIGN_OR_RETURN(const Flow flow, ExecuteAll(node.body));
  LeaveScope(node.loads);
  return flow;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecuteFilterBlock(const FilterBlockNode& node) {
  EnterScope(node.loads);
  Value text;
  {
    Capture capture(*this);
    ASSIGN_OR_RETURN(const Flow flow, ExecuteAll(node.body));
    if (flow != Flow::kNormal) return flow;
    ASSIGN_OR_RETURN(text, capture.Take());
  }
  ASSIGN_OR_RETURN(const Value value, EvaluateApply(static_cast<const ApplyNode&>(*node.filter), &text));
  LeaveScope(node.loads);
  RETURN_IF_ERROR(AppendValue(value));
  return Flow::kNormal;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecuteSetBlock(const SetBlockNode& node) {
  EnterScope(node.loads);
  Value value;
  {
    Capture capture(*this);
    ASSIGN_OR_RETURN(const Flow flow, ExecuteAll(node.body));
    if (flow != Flow::kNormal) return flow;
    ASSIGN_OR_RETURN(value, capture.Take());
  }
  if (node.filter != nullptr) {
    ASSIGN_OR_RETURN(value, EvaluateApply(static_cast<const ApplyNode&>(*node.filter), &value));
  }
  RETURN_IF_ERROR(Assign(*node.target, std::move(value)));
  LeaveScope(node.loads);
  return Flow::kNormal;
}

absl::Status Interpreter::ExecuteSet(const SetNode& node) {
  RETURN_IF_ERROR(CheckNamespaceTargets(*node.target));
  ASSIGN_OR_RETURN(Value value, Evaluate(*node.value));
  return Assign(*node.target, std::move(value));
}

absl::Status Interpreter::ExecuteMacro(const MacroNode& node) {
  ASSIGN_OR_RETURN(Value macro, MakeMacro(node));
  if (node.is_exported) exports_[node.name] = macro;
  Slot(node.ref) = std::move(macro);
  return absl::OkStatus();
}

absl::Status Interpreter::ExecuteCallBlock(const CallBlockNode& node) {
  if (node.call == nullptr) {
    ASSIGN_OR_RETURN(const Value text, InvokeMacro(node, current_, {}));
    return AppendValue(text);
  }
  ASSIGN_OR_RETURN(const Value caller, MakeMacro(node));
  ASSIGN_OR_RETURN(const Value text, EvaluateCall(static_cast<const CallNode&>(*node.call), &caller));
  return AppendValue(text);
}

absl::Status Interpreter::ExecuteBlock(const BlockNode& node) {
  if (node.is_required) return absl::InvalidArgumentError(StrCat("Required block '", node.name, "' not found"));
  Exports scoped;
  if (node.is_scoped && scoped_ != nullptr) scoped = *scoped_;
  RETURN_IF_ERROR(runtime_.Spend(static_cast<int64_t>(scoped.size() + node.scoped_variables.size()) * 4));
  for (const auto& [name, ref] : node.scoped_variables) {
    if (const Value& value = Slot(ref); !value.is_missing()) scoped[name] = value;
  }
  const Exports* const outer = scoped_;
  if (node.is_scoped) scoped_ = &scoped;
  absl::StatusOr<Value> text = RenderBlock(node);
  scoped_ = outer;
  if (!text.ok()) return text.status();
  return AppendValue(*text);
}

absl::StatusOr<Value> Interpreter::RenderBlock(const BlockNode& node) {
  Level level(runtime_);
  RETURN_IF_ERROR(level.status());
  RETURN_IF_ERROR(CanActivate(node.num_slots));
  FunctionScope scope(*this, node.num_slots, nullptr);
  Capture capture(*this);
  EnterScope(node.loads);
  if (node.self_slot >= 0) {
    ASSIGN_OR_RETURN(current_->slots[static_cast<size_t>(node.self_slot)], runtime_.NewObject<SelfObject>(this));
  }
  if (node.super_slot >= 0) {
    current_->slots[static_cast<size_t>(node.super_slot)] =
        runtime_.NewUndefined(StrCat("there is no parent block called '", node.name, "'."));
  }
  RETURN_IF_ERROR(ExecuteAll(node.body).status());
  return capture.Take();
}

// ---- variables

Value& Interpreter::Slot(const VariableRef& ref) {
  Activation* activation = current_;
  for (int i = 0; i < ref.num_hops; ++i) activation = activation->parent;
  return activation->slots[static_cast<size_t>(ref.slot)];
}

void Interpreter::EnterScope(const ScopeLoads& loads) {
  // An exhausted budget shows at the next statement.
  runtime_.Spend(static_cast<int64_t>(loads.size()) * 2).IgnoreError();
  for (const ScopeLoad& load : loads) {
    Value& slot = current_->slots[static_cast<size_t>(load.slot)];
    switch (load.source) {
      case ScopeLoad::Source::kParameter: break;
      case ScopeLoad::Source::kContext: slot = ResolveInContext(load.name); break;
      case ScopeLoad::Source::kAlias: slot = Value(Slot(load.alias)); break;
      case ScopeLoad::Source::kUndefined: slot = Value(); break;
    }
  }
}

void Interpreter::LeaveScope(const ScopeLoads& loads) {
  for (const ScopeLoad& load : loads) current_->slots[static_cast<size_t>(load.slot)] = Value();
}

Value Interpreter::ResolveInContext(std::string_view name) {
  if (scoped_ != nullptr) {
    if (const auto it = scoped_->find(name); it != scoped_->end()) return it->second;
  }
  if (const auto it = exports_.find(name); it != exports_.end()) return it->second;
  if (const Value* value = DictFind(variables_.dict(), name)) return *value;
  absl::StatusOr<std::optional<Value>> global = FindGlobal(runtime_, name);
  return global.ok() && global->has_value() ? **global : Value();
}

absl::Status Interpreter::CheckNamespaceTargets(const Node& target) {
  if (target.kind == NodeKind::kNamespaceTarget &&
      !IsNamespace(Slot(static_cast<const NamespaceTargetNode&>(target).ref))) {
    return absl::InvalidArgumentError("cannot assign attribute on non-namespace object");
  }
  if (target.kind != NodeKind::kTuple) return absl::OkStatus();
  for (const NodePtr& item : static_cast<const ListNode&>(target).items) RETURN_IF_ERROR(CheckNamespaceTargets(*item));
  return absl::OkStatus();
}

absl::Status Interpreter::Assign(const Node& target, Value value) {
  switch (target.kind) {
    case NodeKind::kName: {
      const auto& name = static_cast<const NameNode&>(target);
      if (name.is_exported) exports_[name.name] = value;
      Slot(name.ref) = std::move(value);
      return absl::OkStatus();
    }
    case NodeKind::kNamespaceTarget: {
      const auto& attribute = static_cast<const NamespaceTargetNode&>(target);
      return SetNamespaceAttribute(Slot(attribute.ref), attribute.attribute, std::move(value));
    }
    default: return Unpack(static_cast<const ListNode&>(target), value);
  }
}

absl::Status Interpreter::Unpack(const ListNode& target, const Value& value) {
  if (!IsIterable(value)) return TypeError(StrCat("cannot unpack non-iterable ", TypeName(value), " object"));
  ASSIGN_OR_RETURN(IteratorPtr iterator, Iterate(runtime_, value));
  std::vector<Value> items;
  while (items.size() <= target.items.size()) {
    ASSIGN_OR_RETURN(std::optional<Value> item, iterator->Next(runtime_));
    if (!item.has_value()) break;
    items.push_back(*std::move(item));
  }
  const size_t num_targets = target.items.size();
  if (items.size() > num_targets) return ValueError(StrCat("too many values to unpack (expected ", num_targets, ")"));
  if (items.size() < num_targets) {
    return ValueError(StrCat("not enough values to unpack (expected ", num_targets, ", got ", items.size(), ")"));
  }
  for (size_t i = 0; i < num_targets; ++i) RETURN_IF_ERROR(Assign(*target.items[i], std::move(items[i])));
  return absl::OkStatus();
}

// ---- macros

void Interpreter::Pin(Activation* activation) {
  for (; activation != nullptr && !activation->is_pinned; activation = activation->parent) {
    activation->is_pinned = true;
  }
}

absl::StatusOr<Value> Interpreter::MakeMacro(const MacroNode& node) {
  Pin(current_);
  return runtime_.NewObject<MacroObject>(this, &node, current_);
}

absl::StatusOr<Value> Interpreter::InvokeMacro(const MacroNode& macro, Activation* home, CallArguments arguments) {
  Level level(runtime_);
  RETURN_IF_ERROR(level.status());
  RETURN_IF_ERROR(CanActivate(macro.num_slots));
  FunctionScope scope(*this, macro.num_slots, home);
  Capture capture(*this);
  EnterScope(macro.loads);
  RETURN_IF_ERROR(BindMacroArguments(macro, std::move(arguments)));
  RETURN_IF_ERROR(ExecuteAll(macro.body).status());
  return capture.Take();
}

absl::Status Interpreter::BindMacroArguments(const MacroNode& macro, CallArguments arguments) {
  const size_t num_parameters = macro.parameters.size();
  RETURN_IF_ERROR(runtime_.Spend(static_cast<int64_t>(num_parameters * arguments.keywords.size()) / 4));
  bool found_caller = false;
  std::vector<bool> is_given(num_parameters, true);
  for (size_t i = 0; i < num_parameters; ++i) {
    const auto& parameter = static_cast<const NameNode&>(*macro.parameters[i]);
    if (parameter.name == "caller") found_caller = true;
    if (i < arguments.positional.size()) {
      Slot(parameter.ref) = arguments.positional[i];
    } else if (std::optional<Value> value = TakeKeyword(arguments, parameter.name)) {
      Slot(parameter.ref) = *std::move(value);
    } else {
      is_given[i] = false;
    }
  }
  RETURN_IF_ERROR(BindSpecialArguments(macro, found_caller, std::move(arguments)));
  for (size_t i = 0; i < num_parameters; ++i) {
    if (is_given[i]) continue;
    const auto& parameter = static_cast<const NameNode&>(*macro.parameters[i]);
    if (i + macro.defaults.size() >= num_parameters) {
      ASSIGN_OR_RETURN(Slot(parameter.ref), Evaluate(*macro.defaults[i + macro.defaults.size() - num_parameters]));
    } else {
      Slot(parameter.ref) = runtime_.NewUndefined(StrCat("parameter '", parameter.name, "' was not provided"));
    }
  }
  return absl::OkStatus();
}

absl::Status Interpreter::BindSpecialArguments(const MacroNode& macro, bool found_caller, CallArguments arguments) {
  const std::string name = macro.kind == NodeKind::kMacro ? StrCat("'", macro.name, "'") : "None";
  const auto slot = [this](int index) -> Value& { return current_->slots[static_cast<size_t>(index)]; };
  if (macro.has_caller && !found_caller) {
    std::optional<Value> caller = TakeKeyword(arguments, "caller");
    const bool has_caller = caller.has_value() && !caller->is_none();
    slot(macro.caller_slot) = has_caller ? *std::move(caller) : runtime_.NewUndefined("No caller defined");
  }
  if (macro.kwargs_slot >= 0) {
    DictBuilder keywords(&runtime_);
    for (auto& [key, value] : arguments.keywords) {
      ASSIGN_OR_RETURN(Value text, runtime_.NewString(key));
      RETURN_IF_ERROR(keywords.Set(std::move(text), std::move(value)));
    }
    ASSIGN_OR_RETURN(slot(macro.kwargs_slot), std::move(keywords).Build());
  } else if (!arguments.keywords.empty()) {
    return TypeError(StrCat("macro ", name, " takes no keyword argument '", arguments.keywords[0].first, "'"));
  }
  const size_t num_parameters = macro.parameters.size();
  if (macro.varargs_slot >= 0) {
    std::vector<Value> rest;
    if (arguments.positional.size() > num_parameters) {
      rest.assign(arguments.positional.begin() + static_cast<ptrdiff_t>(num_parameters), arguments.positional.end());
    }
    ASSIGN_OR_RETURN(slot(macro.varargs_slot), runtime_.NewTuple(std::move(rest)));
  } else if (arguments.positional.size() > num_parameters) {
    return TypeError(StrCat("macro ", name, " takes not more than ", num_parameters, " argument(s)"));
  }
  return absl::OkStatus();
}

}  // namespace expertd::jinja
