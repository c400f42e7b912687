#include "engine/structured/transition_network.h"

#include <algorithm>
#include <bitset>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "engine/base/strings.h"
#include "engine/structured/utf8_ranges.h"

namespace expertd {
namespace {

using Expression = Grammar::Expression;

// For each expression, whether a property holds that a leaf has by itself, a sequence when all its operands have it, a
// choice when one has, a repetition when its operand has or none is needed, and a call when its rule has.
class PropertySolver {
 public:
  explicit PropertySolver(const Grammar& grammar, int num_expressions)
      : grammar_(grammar), holds_(static_cast<size_t>(num_expressions)), num_missing_(holds_.size()),
        parents_(holds_.size()), calls_(grammar.rules().size()), bodies_of_(holds_.size()) {
    for (Expression e = 0; e < num_expressions; ++e) {
      const Grammar::Node& node = grammar.node(e);
      num_missing_[static_cast<size_t>(e)] = static_cast<int32_t>(node.operands.size());
      for (const Expression operand : node.operands) parents_[static_cast<size_t>(operand)].push_back(e);
      if (node.kind == Grammar::Kind::kRule) calls_[static_cast<size_t>(node.index)].push_back(e);
    }
    for (size_t rule = 0; rule < grammar.rules().size(); ++rule) {
      bodies_of_[static_cast<size_t>(grammar.rules()[rule].body)].push_back(static_cast<int32_t>(rule));
    }
  }

  // `leaf_has_it`: a leaf that is not the empty text, which always has it.
  std::vector<bool> Solve(bool leaf_has_it) && {
    for (size_t e = 0; e < holds_.size(); ++e) {
      if (HoldsByItself(grammar_.node(static_cast<Expression>(e)), leaf_has_it)) Set(static_cast<Expression>(e));
    }
    while (!open_.empty()) {
      const Expression e = open_.back();
      open_.pop_back();
      for (const Expression parent : parents_[static_cast<size_t>(e)]) {
        const bool is_sequence = grammar_.node(parent).kind == Grammar::Kind::kSequence;
        if (--num_missing_[static_cast<size_t>(parent)] == 0 || !is_sequence) Set(parent);
      }
      for (const int32_t rule : bodies_of_[static_cast<size_t>(e)]) {
        for (const Expression call : calls_[static_cast<size_t>(rule)]) Set(call);
      }
    }
    return std::move(holds_);
  }

 private:
  static bool HoldsByItself(const Grammar::Node& node, bool leaf_has_it) {
    switch (node.kind) {
      case Grammar::Kind::kBytes: return leaf_has_it || node.bytes.empty();
      case Grammar::Kind::kCharacters:
      case Grammar::Kind::kToken: return leaf_has_it;
      case Grammar::Kind::kRepeat: return node.minimum == 0;
      default: return false;
    }
  }

  void Set(Expression e) {
    if (holds_[static_cast<size_t>(e)]) return;
    holds_[static_cast<size_t>(e)] = true;
    open_.push_back(e);
  }

  const Grammar& grammar_;
  std::vector<bool> holds_;
  std::vector<int32_t> num_missing_;
  std::vector<std::vector<Expression>> parents_, calls_;
  std::vector<std::vector<int32_t>> bodies_of_;
  std::vector<Expression> open_;
};

}  // namespace

class NetworkBuilder {
 public:
  explicit NetworkBuilder(const Grammar& grammar)
      : grammar_(grammar), is_nullable_(PropertySolver(grammar, grammar.num_expressions()).Solve(false)),
        is_productive_(PropertySolver(grammar, grammar.num_expressions()).Solve(true)) {}

  absl::StatusOr<TransitionNetwork> Build() && {
    if (grammar_.is_too_large()) return TooLarge();
    if (!is_productive_[static_cast<size_t>(grammar_.start())]) {
      return absl::InvalidArgumentError("no text can match the constraint");
    }
    AddRule(grammar_.start(), "");
    for (const Grammar::RuleNode& rule : grammar_.rules()) AddRule(rule.body, rule.name);
    // Rules that repetitions add come behind these, and are laid in turn.
    for (size_t rule = 0; rule < bodies_.size(); ++rule) {
      tasks_.push_back({bodies_[rule], network_.rules_[rule].start, network_.rules_[rule].end});
      while (!tasks_.empty()) {
        const Task task = tasks_.back();
        tasks_.pop_back();
        Lay(task);
        if (sources_.size() > kMaxArcs || num_nodes_ > TransitionNetwork::kMaxNodes) return TooLarge();
      }
    }
    SortArcs();
    FindByteClasses();
    if (const absl::Status status = OrderRules(); !status.ok()) return status;
    return std::move(network_);
  }

 private:
  using Arc = TransitionNetwork::Arc;
  using ArcKind = TransitionNetwork::ArcKind;
  using Node = TransitionNetwork::Node;

  static constexpr size_t kMaxArcs = size_t{1} << 20;

  struct Task {
    Expression expression;
    Node from, to;
  };

  static absl::Status TooLarge() {
    return absl::InvalidArgumentError(StrCat("the constraint is too large: more than ", Grammar::kMaxExpressions,
                                             " expressions, or more than ", TransitionNetwork::kMaxNodes,
                                             " nodes when its repetitions are written out"));
  }

  Node AddNode() { return num_nodes_++; }

  int32_t AddRule(Expression body, std::string name) {
    const Node start = AddNode();
    network_.rules_.push_back({.start = start, .end = AddNode()});
    bodies_.push_back(body);
    names_.push_back(std::move(name));
    return static_cast<int32_t>(bodies_.size() - 1);
  }

  void AddArc(Node from, Arc arc) {
    sources_.push_back(from);
    network_.arcs_.push_back(arc);
  }
  void AddEmpty(Node from, Node to) { AddArc(from, {.kind = ArcKind::kEmpty, .target = to}); }
  void AddBytes(Node from, uint8_t first, uint8_t last, Node to) {
    AddArc(from, {.kind = ArcKind::kBytes, .first = first, .last = last, .target = to});
  }

  // Lays the way of an expression between two nodes; of its operands, as further tasks.
  void Lay(const Task& task) {
    if (!is_productive_[static_cast<size_t>(task.expression)]) return;
    const Grammar::Node& node = grammar_.node(task.expression);
    switch (node.kind) {
      case Grammar::Kind::kNothing: return;
      case Grammar::Kind::kBytes: return LayBytes(node.bytes, task.from, task.to);
      case Grammar::Kind::kCharacters: return LayCharacters(node.ranges, task.from, task.to);
      case Grammar::Kind::kSequence: return LaySequence(node.operands, task.from, task.to);
      case Grammar::Kind::kChoice:
        for (const Expression operand : node.operands) tasks_.push_back({operand, task.from, task.to});
        return;
      case Grammar::Kind::kRepeat: return LayRepeat(node, task.from, task.to);
      case Grammar::Kind::kRule:
        // Behind the start rule, which is no rule of the grammar.
        return LayCall(node.index + 1, is_nullable_[static_cast<size_t>(task.expression)], task.from, task.to);
      case Grammar::Kind::kToken:
        return AddArc(task.from, {.kind = ArcKind::kToken, .target = task.to, .index = node.index});
    }
  }

  void LayBytes(std::string_view bytes, Node from, Node to) {
    if (bytes.empty()) return AddEmpty(from, to);
    for (size_t i = 0; i < bytes.size(); ++i) {
      const Node next = i + 1 == bytes.size() ? to : AddNode();
      const uint8_t byte = static_cast<uint8_t>(bytes[i]);
      AddBytes(from, byte, byte, next);
      from = next;
    }
  }

  void LayCharacters(const std::vector<CodePointRange>& ranges, Node from, Node to) {
    for (const CodePointRange& range : ranges) {
      for (const Utf8Range& part : SplitUtf8(range)) {
        Node at = from;
        for (int i = 0; i < part.size; ++i) {
          const Node next = i + 1 == part.size ? to : AddNode();
          AddBytes(at, part.bytes[static_cast<size_t>(i)].first, part.bytes[static_cast<size_t>(i)].last, next);
          at = next;
        }
      }
    }
  }

  void LaySequence(const std::vector<Expression>& operands, Node from, Node to) {
    for (size_t i = 0; i < operands.size(); ++i) {
      const Node next = i + 1 == operands.size() ? to : AddNode();
      tasks_.push_back({operands[i], from, next});
      from = next;
    }
  }

  void LayCall(int32_t rule, bool is_nullable, Node from, Node to) {
    AddArc(from, {.kind = ArcKind::kCall, .target = to, .index = rule});
    if (is_nullable) AddEmpty(from, to);
  }

  void LayRepeat(const Grammar::Node& node, Node from, Node to) {
    const Expression operand = node.operands.front();
    const bool is_unbounded = node.maximum == Grammar::kUnbounded;
    const int num_copies = is_unbounded ? node.minimum + 1 : node.maximum;
    // Written out many times, an operand is laid once and called.
    const bool calls = num_copies > 1 && !IsOneByte(operand);
    const int32_t rule = calls && is_productive_[static_cast<size_t>(operand)] ? RuleOf(operand) : 0;
    const auto lay_copy = [&](Node copy_from, Node copy_to) {
      if (rule == 0) return tasks_.push_back({operand, copy_from, copy_to});
      LayCall(rule, is_nullable_[static_cast<size_t>(operand)], copy_from, copy_to);
    };
    const int num_plain_copies = is_unbounded ? node.minimum : node.maximum;
    for (int i = 0; i < num_plain_copies && num_nodes_ <= TransitionNetwork::kMaxNodes; ++i) {
      if (i >= node.minimum) AddEmpty(from, to);
      // The last one leads to the end itself, so that a call of a rule there is seen to be in the last place.
      const Node next = i + 1 == num_plain_copies && !is_unbounded ? to : AddNode();
      lay_copy(from, next);
      from = next;
    }
    if (!is_unbounded) return;
    const Node loop = AddNode();
    AddEmpty(from, loop);
    lay_copy(loop, loop);
    AddEmpty(loop, to);
  }

  bool IsOneByte(Expression expression) const {
    const Grammar::Node& node = grammar_.node(expression);
    if (node.kind == Grammar::Kind::kBytes) return node.bytes.size() == 1;
    return node.kind == Grammar::Kind::kCharacters && node.ranges.back().last < 0x80;
  }

  int32_t RuleOf(Expression operand) {
    const auto [found, is_new] = rule_of_operand_.try_emplace(operand, 0);
    if (is_new) found->second = AddRule(operand, "");
    return found->second;
  }

  // By the node that they leave.
  void SortArcs() {
    const size_t num_nodes = static_cast<size_t>(num_nodes_);
    network_.first_arc_.assign(num_nodes + 1, 0);
    for (const Node source : sources_) ++network_.first_arc_[static_cast<size_t>(source) + 1];
    for (size_t i = 0; i < num_nodes; ++i) network_.first_arc_[i + 1] += network_.first_arc_[i];
    std::vector<uint32_t> next(network_.first_arc_.begin(), network_.first_arc_.end() - 1);
    std::vector<Arc> sorted(sources_.size());
    for (size_t i = 0; i < sources_.size(); ++i) {
      sorted[next[static_cast<size_t>(sources_[i])]++] = network_.arcs_[i];
    }
    network_.arcs_ = std::move(sorted);
    network_.is_end_.assign(num_nodes, false);
    for (const TransitionNetwork::RuleNodes& rule : network_.rules_) {
      network_.is_end_[static_cast<size_t>(rule.end)] = true;
    }
  }

  void FindByteClasses() {
    std::bitset<257> begins;
    begins.set(0);
    for (const Arc& arc : network_.arcs_) {
      if (arc.kind != ArcKind::kBytes) continue;
      begins.set(arc.first);
      begins.set(size_t{arc.last} + 1);
    }
    int num_classes = 0;
    for (size_t byte = 0; byte < 256; ++byte) {
      if (begins.test(byte)) ++num_classes;
      network_.byte_classes_[byte] = static_cast<uint8_t>(num_classes - 1);
    }
    network_.num_byte_classes_ = num_classes;
  }

  // Rules that `rule` may begin with.
  std::vector<int32_t> FirstCalls(int32_t rule) const {
    std::vector<int32_t> calls;
    std::vector<Node> open = {network_.start_of(rule)};
    absl::flat_hash_set<Node> seen = {open.front()};
    while (!open.empty()) {
      const Node node = open.back();
      open.pop_back();
      for (const Arc& arc : network_.arcs(node)) {
        if (arc.kind == ArcKind::kCall) calls.push_back(arc.index);
        if (arc.kind == ArcKind::kEmpty && seen.insert(arc.target).second) open.push_back(arc.target);
      }
    }
    return calls;
  }

  // Depth first, so that a rule comes behind all that it may begin with; the order is the reverse.
  absl::Status OrderRules() {
    enum class Mark : uint8_t { kNew, kOpen, kDone };
    struct Visit {
      int32_t rule;
      std::vector<int32_t> calls;
    };
    std::vector<Mark> marks(bodies_.size(), Mark::kNew);
    int32_t next_order = static_cast<int32_t>(bodies_.size());
    std::vector<Visit> path;
    for (int32_t root = 0; root < static_cast<int32_t>(bodies_.size()); ++root) {
      if (marks[static_cast<size_t>(root)] != Mark::kNew) continue;
      marks[static_cast<size_t>(root)] = Mark::kOpen;
      path.push_back({root, FirstCalls(root)});
      while (!path.empty()) {
        Visit& visit = path.back();
        if (visit.calls.empty()) {
          marks[static_cast<size_t>(visit.rule)] = Mark::kDone;
          network_.rules_[static_cast<size_t>(visit.rule)].order = --next_order;
          path.pop_back();
          continue;
        }
        const int32_t call = visit.calls.back();
        visit.calls.pop_back();
        Mark& mark = marks[static_cast<size_t>(call)];
        if (mark == Mark::kDone) continue;
        if (mark == Mark::kOpen) {
          size_t begin = path.size() - 1;
          while (path[begin].rule != call) --begin;
          for (; begin < path.size(); ++begin) {
            const std::string& name = names_[static_cast<size_t>(path[begin].rule)];
            if (!name.empty()) return LeftRecursion(name);
          }
          return LeftRecursion("root");
        }
        mark = Mark::kOpen;
        path.push_back({call, FirstCalls(call)});
      }
    }
    return absl::OkStatus();
  }

  static absl::Status LeftRecursion(std::string_view rule) {
    return absl::InvalidArgumentError(StrCat("the rule '", rule, "' is left-recursive: it may begin with itself"));
  }

  const Grammar& grammar_;
  const std::vector<bool> is_nullable_;    // may be the empty text
  const std::vector<bool> is_productive_;  // matches some text
  TransitionNetwork network_;
  std::vector<Node> sources_;              // of network_.arcs_, until they are sorted
  Node num_nodes_ = 0;
  std::vector<Expression> bodies_;         // of the rules
  std::vector<std::string> names_;
  absl::flat_hash_map<Expression, int32_t> rule_of_operand_;
  std::vector<Task> tasks_;
};

absl::StatusOr<TransitionNetwork> TransitionNetwork::Create(const Grammar& grammar) {
  return NetworkBuilder(grammar).Build();
}

int64_t TransitionNetwork::num_bytes() const {
  return static_cast<int64_t>(arcs_.size() * sizeof(Arc) + first_arc_.size() * sizeof(uint32_t) + is_end_.size() / 8 +
                              rules_.size() * sizeof(RuleNodes));
}

}  // namespace expertd
