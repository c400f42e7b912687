#include "engine/text/jinja/scope.h"

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/lexer.h"

namespace expertd::jinja {
namespace {

// A function of the compiled template: the template itself, a macro, a block, a recursive loop, a loop's condition.
// Scopes of one level in one function share slots, as jinja2's variables of one name do.
struct Function {
  const int depth;
  std::map<std::pair<int, std::string>, int> slots;

  int SlotOf(int level, const std::string& name) {
    return slots.try_emplace({level, name}, static_cast<int>(slots.size())).first->second;
  }
  int num_slots() const { return static_cast<int>(slots.size()); }
};

struct Place {
  Function* function = nullptr;
  int slot = -1;
};

struct Load {
  ScopeLoad::Source source;
  std::string name;
  Place alias;
};

// The names one scope knows. The branches of an `if` are overlays on their scope, merged when the `if` is done.
class Symbols {
 public:
  Symbols(Function* function, Symbols* parent)
      : function_(function), parent_(parent), level_(parent == nullptr ? 0 : parent->level_ + 1) {}

  Symbols MakeBranch() {
    Symbols branch(function_, parent_);
    branch.level_ = level_;
    branch.base_ = this;
    return branch;
  }

  std::optional<Place> Find(const std::string& name) const {
    for (const Symbols* scope = this; scope != nullptr; scope = scope->parent_) {
      if (std::optional<Place> place = scope->FindHere(name)) return place;
    }
    return std::nullopt;
  }

  void DeclareParameter(const std::string& name) {
    stores_.insert(name);
    Define(name, {ScopeLoad::Source::kParameter, name, {}});
  }

  void StoreName(const std::string& name) {
    stores_.insert(name);
    if (FindHere(name).has_value()) return;
    const std::optional<Place> outer = FindOutside(name);
    Define(name, outer ? Load{ScopeLoad::Source::kAlias, name, *outer} : Load{ScopeLoad::Source::kUndefined, name, {}});
  }

  void LoadName(const std::string& name) {
    if (!Find(name).has_value()) Define(name, {ScopeLoad::Source::kContext, name, {}});
  }

  // A name that only some branches set keeps, in the others, the value from outside.
  void MergeBranches(std::span<const Symbols> branches) {
    std::set<std::string> stored;
    for (const Symbols& branch : branches) {
      for (const std::string& name : branch.stores_) {
        if (!HasStored(name)) stored.insert(name);
      }
    }
    for (const Symbols& branch : branches) {
      for (const auto& [name, place] : branch.places_) places_[name] = place;
      for (const auto& [slot, load] : branch.loads_) loads_[slot] = load;
      stores_.insert(branch.stores_.begin(), branch.stores_.end());
    }
    for (const std::string& name : stored) {
      const int slot = FindHere(name)->slot;
      const std::optional<Place> outer = FindOutside(name);
      loads_[slot] =
          outer ? Load{ScopeLoad::Source::kAlias, name, *outer} : Load{ScopeLoad::Source::kContext, name, {}};
    }
  }

  // All names stored here and outside, for blocks that see the scope they stand in.
  std::map<std::string, Place> StoredNames() const {
    std::map<std::string, Place> result;
    for (const Symbols* scope = this; scope != nullptr; scope = scope->parent_) {
      for (const std::string& name : scope->stores_) {
        if (!result.contains(name)) result[name] = *Find(name);
      }
    }
    return result;
  }

  ScopeLoads Loads() const {
    ScopeLoads result;
    for (const auto& [slot, load] : loads_) {
      ScopeLoad& entry = result.emplace_back();
      entry = {slot, load.source, load.name, {}};
      if (load.source != ScopeLoad::Source::kAlias) continue;
      entry.alias = {function_->depth - load.alias.function->depth, load.alias.slot};
    }
    return result;
  }

 private:
  std::optional<Place> FindHere(const std::string& name) const {
    for (const Symbols* layer = this; layer != nullptr; layer = layer->base_) {
      if (const auto it = layer->places_.find(name); it != layer->places_.end()) return it->second;
    }
    return std::nullopt;
  }

  std::optional<Place> FindOutside(const std::string& name) const {
    return parent_ == nullptr ? std::nullopt : parent_->Find(name);
  }

  bool HasStored(const std::string& name) const {
    for (const Symbols* layer = this; layer != nullptr; layer = layer->base_) {
      if (layer->stores_.contains(name)) return true;
    }
    return false;
  }

  void Define(const std::string& name, Load load) {
    const int slot = function_->SlotOf(level_, name);
    places_[name] = {function_, slot};
    loads_[slot] = std::move(load);
  }

  Function* function_;
  Symbols* parent_;
  Symbols* base_ = nullptr;
  int level_;
  std::map<std::string, Place> places_;
  std::map<int, Load> loads_;
  std::set<std::string> stores_;
};

// ---- which names a scope touches

void Analyze(Node& node, Symbols& symbols);

void AnalyzeAll(const NodeList& nodes, Symbols& symbols) {
  for (const NodePtr& node : nodes) Analyze(*node, symbols);
}

void DeclareTarget(Node& target, Symbols& symbols) {
  if (target.kind == NodeKind::kName) symbols.DeclareParameter(static_cast<NameNode&>(target).name);
  if (target.kind != NodeKind::kTuple) return;
  for (const NodePtr& item : static_cast<ListNode&>(target).items) DeclareTarget(*item, symbols);
}

void AnalyzeIf(IfNode& node, Symbols& symbols) {
  Analyze(*node.test, symbols);
  Symbols branches[] = {symbols.MakeBranch(), symbols.MakeBranch(), symbols.MakeBranch()};
  AnalyzeAll(node.body, branches[0]);
  AnalyzeAll(node.elifs, branches[1]);
  AnalyzeAll(node.otherwise, branches[2]);
  symbols.MergeBranches(branches);
}

void AnalyzeName(const NameNode& name, Symbols& symbols) {
  switch (name.use) {
    case NameNode::Use::kLoad: return symbols.LoadName(name.name);
    case NameNode::Use::kStore: return symbols.StoreName(name.name);
    case NameNode::Use::kParameter: return symbols.DeclareParameter(name.name);
  }
}

// Statements that open a scope of their own are not entered; only what they do outside of it counts here.
void Analyze(Node& node, Symbols& symbols) {
  switch (node.kind) {
    case NodeKind::kName: return AnalyzeName(static_cast<NameNode&>(node), symbols);
    case NodeKind::kNamespaceTarget: return symbols.LoadName(static_cast<NamespaceTargetNode&>(node).name);
    case NodeKind::kIf: return AnalyzeIf(static_cast<IfNode&>(node), symbols);
    case NodeKind::kMacro: return symbols.StoreName(static_cast<MacroNode&>(node).name);
    case NodeKind::kFor: return Analyze(*static_cast<ForNode&>(node).iterable, symbols);
    case NodeKind::kCallBlock:
      if (auto& call = static_cast<CallBlockNode&>(node).call) Analyze(*call, symbols);
      return;
    case NodeKind::kFilterBlock: return Analyze(*static_cast<FilterBlockNode&>(node).filter, symbols);
    case NodeKind::kWith: return AnalyzeAll(static_cast<WithNode&>(node).values, symbols);
    case NodeKind::kSet:
      Analyze(*static_cast<SetNode&>(node).value, symbols);
      return Analyze(*static_cast<SetNode&>(node).target, symbols);
    case NodeKind::kSetBlock:
      if (auto& filter = static_cast<SetBlockNode&>(node).filter) Analyze(*filter, symbols);
      return Analyze(*static_cast<SetBlockNode&>(node).target, symbols);
    case NodeKind::kBlock: return;
    case NodeKind::kLoad:
      ForEachChild(node, [&symbols](Node& child) { Analyze(child, symbols); });
      for (const std::string& name : static_cast<LoadNode&>(node).names) symbols.StoreName(name);
      return;
    default: return ForEachChild(node, [&symbols](Node& child) { Analyze(child, symbols); });
  }
}

// Which of `names` are read somewhere in the nodes before anything stores them, nested scopes included.
class UndeclaredFinder {
 public:
  explicit UndeclaredFinder(std::set<std::string> names) : names_(std::move(names)) {}

  void Visit(Node& node) {
    if (node.kind == NodeKind::kBlock) return;
    if (node.kind != NodeKind::kName) return ForEachChild(node, [this](Node& child) { Visit(child); });
    const auto& name = static_cast<NameNode&>(node);
    if (name.use == NameNode::Use::kLoad && names_.contains(name.name)) {
      found_.insert(name.name);
    } else {
      names_.erase(name.name);
    }
  }
  void VisitAll(const NodeList& nodes) {
    for (const NodePtr& node : nodes) Visit(*node);
  }
  bool Found(const std::string& name) const { return found_.contains(name); }

 private:
  std::set<std::string> names_;
  std::set<std::string> found_;
};

struct LoopFacts {
  bool stores_loop = false;
  bool has_scoped_block = false;
};

void CollectLoopFacts(Node& node, LoopFacts* facts) {
  if (node.kind == NodeKind::kName) {
    const auto& name = static_cast<NameNode&>(node);
    if (name.use == NameNode::Use::kStore && name.name == "loop") facts->stores_loop = true;
  }
  if (node.kind == NodeKind::kBlock && static_cast<BlockNode&>(node).is_scoped) facts->has_scoped_block = true;
  ForEachChild(node, [facts](Node& child) { CollectLoopFacts(child, facts); });
}

// ---- the walk that gives every name its place

struct Frame {
  Function* function;
  Symbols* symbols;
  bool is_top_level = false;
  bool is_soft = false;  // in a branch that may not run, where unknown filters are errors only when it does
};

class Resolver {
 public:
  absl::Status Run(TemplateNode& root) {
    Function* function = NewFunction(0);
    Frame frame{function, NewSymbols(function, nullptr), /*is_top_level=*/true};
    UndeclaredFinder finder({"self"});
    finder.VisitAll(root.body);
    if (finder.Found("self")) {
      frame.symbols->DeclareParameter("self");
      root.self_slot = frame.symbols->Find("self")->slot;
    }
    AnalyzeAll(root.body, *frame.symbols);
    RETURN_IF_ERROR(ResolveAll(root.body, frame));
    root.loads = frame.symbols->Loads();
    root.num_slots = function->num_slots();
    for (size_t i = 0; i < blocks_.size(); ++i) {  // a block may bring further blocks
      RETURN_IF_ERROR(ResolveBlockBody(*blocks_[i]));
      root.blocks.push_back(blocks_[i]);
    }
    return absl::OkStatus();
  }

 private:
  Function* NewFunction(int depth) { return &functions_.emplace_back(Function{depth, {}}); }
  Symbols* NewSymbols(Function* function, Symbols* parent) { return &symbols_.emplace_back(function, parent); }
  Frame Inner(const Frame& frame) { return {frame.function, NewSymbols(frame.function, frame.symbols)}; }
  Frame InnerFunction(const Frame& frame) {
    Function* function = NewFunction(frame.function->depth + 1);
    return {function, NewSymbols(function, frame.symbols)};
  }
  static Frame Soft(Frame frame) {
    frame.is_soft = true;
    return frame;
  }

  static VariableRef RefOf(const std::string& name, const Frame& frame) {
    const std::optional<Place> place = frame.symbols->Find(name);
    EXPERTD_CHECK(place.has_value(), "unanalyzed name ", name);
    return {frame.function->depth - place->function->depth, place->slot};
  }

  absl::Status ResolveAll(const NodeList& nodes, const Frame& frame) {
    for (const NodePtr& node : nodes) RETURN_IF_ERROR(Resolve(*node, frame));
    return absl::OkStatus();
  }

  absl::Status ResolveChildren(Node& node, const Frame& frame) {
    absl::Status status;
    ForEachChild(node, [&](Node& child) {
      if (status.ok()) status = Resolve(child, frame);
    });
    return status;
  }

  absl::Status Resolve(Node& node, const Frame& frame) {
    switch (node.kind) {
      case NodeKind::kName: return ResolveName(static_cast<NameNode&>(node), frame);
      case NodeKind::kNamespaceTarget: {
        auto& target = static_cast<NamespaceTargetNode&>(node);
        target.ref = RefOf(target.name, frame);
        return absl::OkStatus();
      }
      case NodeKind::kFilter:
      case NodeKind::kTest: RETURN_IF_ERROR(CheckExists(static_cast<ApplyNode&>(node), frame)); break;
      case NodeKind::kConditional:
      case NodeKind::kIf: return ResolveChildren(node, Soft(frame));
      case NodeKind::kFor: return ResolveFor(static_cast<ForNode&>(node), frame);
      case NodeKind::kMacro: return ResolveMacro(static_cast<MacroNode&>(node), frame);
      case NodeKind::kCallBlock: return ResolveCallBlock(static_cast<CallBlockNode&>(node), frame);
      case NodeKind::kFilterBlock: return ResolveFilterBlock(static_cast<FilterBlockNode&>(node), frame);
      case NodeKind::kWith: return ResolveWith(static_cast<WithNode&>(node), frame);
      case NodeKind::kSetBlock: return ResolveSetBlock(static_cast<SetBlockNode&>(node), frame);
      case NodeKind::kBlock: return ResolveBlock(static_cast<BlockNode&>(node), frame);
      default: break;
    }
    return ResolveChildren(node, frame);
  }

  static absl::Status ResolveName(NameNode& name, const Frame& frame) {
    name.ref = RefOf(name.name, frame);
    name.is_exported = name.use == NameNode::Use::kStore && frame.is_top_level;
    return absl::OkStatus();
  }

  static absl::Status CheckExists(const ApplyNode& node, const Frame& frame) {
    const bool is_filter = node.kind == NodeKind::kFilter;
    if (frame.is_soft || (is_filter ? FindFilter(node.name) != nullptr : FindTest(node.name) != nullptr)) {
      return absl::OkStatus();
    }
    return SyntaxError(node.line, StrCat("No ", is_filter ? "filter" : "test", " named '", node.name, "'."));
  }

  absl::Status ResolveFor(ForNode& node, const Frame& frame) {
    LoopFacts facts;
    CollectLoopFacts(node, &facts);
    if (facts.stores_loop) return SyntaxError(node.line, "Can't assign to special loop variable in for-loop target");
    UndeclaredFinder finder({"loop"});
    finder.VisitAll(node.body);
    node.has_loop_variable = node.is_recursive || finder.Found("loop") || facts.has_scoped_block;

    RETURN_IF_ERROR(Resolve(*node.iterable, frame));
    if (node.test != nullptr) RETURN_IF_ERROR(ResolveForTest(node, frame));
    Frame loop = node.is_recursive ? InnerFunction(frame) : Inner(frame);
    Frame otherwise = {loop.function, NewSymbols(loop.function, frame.symbols)};
    if (node.has_loop_variable) {
      loop.symbols->DeclareParameter("loop");
      node.loop_variable = RefOf("loop", loop);
    }
    DeclareTarget(*node.target, *loop.symbols);
    AnalyzeAll(node.body, *loop.symbols);
    AnalyzeAll(node.otherwise, *otherwise.symbols);
    RETURN_IF_ERROR(Resolve(*node.target, loop));
    RETURN_IF_ERROR(ResolveAll(node.body, loop));
    RETURN_IF_ERROR(ResolveAll(node.otherwise, otherwise));
    node.body_loads = loop.symbols->Loads();
    node.otherwise_loads = otherwise.symbols->Loads();
    if (node.is_recursive) node.num_recursive_slots = loop.function->num_slots();
    return absl::OkStatus();
  }

  absl::Status ResolveForTest(ForNode& node, const Frame& frame) {
    Frame test = InnerFunction(frame);
    DeclareTarget(*node.test_target, *test.symbols);
    Analyze(*node.test, *test.symbols);
    RETURN_IF_ERROR(Resolve(*node.test_target, test));
    RETURN_IF_ERROR(Resolve(*node.test, test));
    node.test_loads = test.symbols->Loads();
    node.num_test_slots = test.function->num_slots();
    return absl::OkStatus();
  }

  // Declares `name` as a further parameter when the body reads it; gives its slot, or -1.
  static int DeclareSpecial(const std::string& name, const UndeclaredFinder& finder, const MacroNode& node,
                            Frame& frame) {
    if (!finder.Found(name)) return -1;
    for (const NodePtr& parameter : node.parameters) {
      if (static_cast<NameNode&>(*parameter).name == name) return -1;
    }
    frame.symbols->DeclareParameter(name);
    return frame.symbols->Find(name)->slot;
  }

  absl::Status ResolveMacroBody(MacroNode& node, const Frame& frame) {
    Frame macro = InnerFunction(frame);
    AnalyzeAll(node.parameters, *macro.symbols);
    AnalyzeAll(node.defaults, *macro.symbols);
    UndeclaredFinder finder({"caller", "kwargs", "varargs"});
    finder.VisitAll(node.body);
    node.caller_slot = DeclareSpecial("caller", finder, node, macro);
    node.has_caller = finder.Found("caller");
    node.kwargs_slot = DeclareSpecial("kwargs", finder, node, macro);
    node.varargs_slot = DeclareSpecial("varargs", finder, node, macro);
    RETURN_IF_ERROR(CheckCallerHasDefault(node));
    AnalyzeAll(node.body, *macro.symbols);
    RETURN_IF_ERROR(ResolveAll(node.parameters, macro));
    RETURN_IF_ERROR(ResolveAll(node.defaults, macro));
    RETURN_IF_ERROR(ResolveAll(node.body, macro));
    node.loads = macro.symbols->Loads();
    node.num_slots = macro.function->num_slots();
    return absl::OkStatus();
  }

  static absl::Status CheckCallerHasDefault(const MacroNode& node) {
    if (!node.has_caller) return absl::OkStatus();
    for (size_t i = 0; i < node.parameters.size(); ++i) {
      const bool has_default = i + node.defaults.size() >= node.parameters.size();
      if (static_cast<NameNode&>(*node.parameters[i]).name == "caller" && !has_default) {
        return SyntaxError(node.line, "the special \"caller\" argument must be omitted or be given a default");
      }
    }
    return absl::OkStatus();
  }

  absl::Status ResolveMacro(MacroNode& node, const Frame& frame) {
    node.ref = RefOf(node.name, frame);
    node.is_exported = frame.is_top_level;
    return ResolveMacroBody(node, frame);
  }

  absl::Status ResolveCallBlock(CallBlockNode& node, const Frame& frame) {
    RETURN_IF_ERROR(ResolveMacroBody(node, frame));
    return node.call == nullptr ? absl::OkStatus() : Resolve(*node.call, frame);
  }

  absl::Status ResolveFilterBlock(FilterBlockNode& node, const Frame& frame) {
    const Frame inner = Inner(frame);
    Analyze(*node.filter, *inner.symbols);
    AnalyzeAll(node.body, *inner.symbols);
    RETURN_IF_ERROR(ResolveAll(node.body, inner));
    RETURN_IF_ERROR(Resolve(*node.filter, inner));
    node.loads = inner.symbols->Loads();
    return absl::OkStatus();
  }

  absl::Status ResolveWith(WithNode& node, const Frame& frame) {
    const Frame inner = Inner(frame);
    AnalyzeAll(node.targets, *inner.symbols);
    AnalyzeAll(node.body, *inner.symbols);
    RETURN_IF_ERROR(ResolveAll(node.values, frame));
    RETURN_IF_ERROR(ResolveAll(node.targets, inner));
    RETURN_IF_ERROR(ResolveAll(node.body, inner));
    node.loads = inner.symbols->Loads();
    return absl::OkStatus();
  }

  absl::Status ResolveSetBlock(SetBlockNode& node, const Frame& frame) {
    const Frame inner = Inner(frame);
    AnalyzeAll(node.body, *inner.symbols);
    RETURN_IF_ERROR(ResolveAll(node.body, inner));
    RETURN_IF_ERROR(Resolve(*node.target, frame));
    if (node.filter != nullptr) RETURN_IF_ERROR(Resolve(*node.filter, inner));
    node.loads = inner.symbols->Loads();
    return absl::OkStatus();
  }

  // A block is a function outside of every scope; it reads the context.
  absl::Status ResolveBlock(BlockNode& node, const Frame& frame) {
    if (node.is_scoped) {
      for (const auto& [name, place] : frame.symbols->StoredNames()) {
        node.scoped_variables.emplace_back(name,
                                           VariableRef{frame.function->depth - place.function->depth, place.slot});
      }
    }
    blocks_.push_back(&node);
    return absl::OkStatus();
  }

  absl::Status ResolveBlockBody(BlockNode& node) {
    Function* function = NewFunction(0);
    const Frame frame{function, NewSymbols(function, nullptr)};
    UndeclaredFinder finder({"self", "super"});
    finder.VisitAll(node.body);
    for (const auto& [name, slot] : {std::pair{"self", &node.self_slot}, std::pair{"super", &node.super_slot}}) {
      if (!finder.Found(name)) continue;
      frame.symbols->DeclareParameter(name);
      *slot = frame.symbols->Find(name)->slot;
    }
    AnalyzeAll(node.body, *frame.symbols);
    RETURN_IF_ERROR(ResolveAll(node.body, frame));
    node.loads = frame.symbols->Loads();
    node.num_slots = function->num_slots();
    return absl::OkStatus();
  }

  std::deque<Function> functions_;
  std::deque<Symbols> symbols_;
  std::vector<BlockNode*> blocks_;
};

}  // namespace

absl::Status ResolveScopes(TemplateNode& root) { return Resolver().Run(root); }

}  // namespace expertd::jinja
