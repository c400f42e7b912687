#include "engine/structured/automaton.h"

#include <algorithm>
#include <set>

namespace expertd {

using ArcKind = TransitionNetwork::ArcKind;

namespace {

template <typename T>
void SortAndDropEqual(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

}  // namespace

Automaton::Automaton(const TransitionNetwork& network)
    : network_(network), class_bytes_(static_cast<size_t>(network.num_byte_classes())) {
  for (int byte = 0; byte < 256; ++byte) {
    class_bytes_[static_cast<size_t>(network_.class_of(static_cast<uint8_t>(byte)))] = static_cast<uint8_t>(byte);
  }
  Reset();
}

void Automaton::Reset() {
  states_.clear();
  transitions_.clear();
  state_of_.clear();
  frames_.assign(1, {});
  depths_.assign(1, 0);
  frame_of_.clear();
  num_bytes_ = 0;
  start_ = StateOf({{network_.start_of(network_.start_rule()), kBottom}});
}

void Automaton::ForgetAllBut(std::span<State> kept) {
  std::vector<Snapshot> snapshots;
  for (const State state : kept) snapshots.push_back(state == kDead ? Snapshot() : Save(state));
  Reset();
  for (size_t i = 0; i < kept.size(); ++i) kept[i] = kept[i] == kDead ? kDead : Restore(snapshots[i]);
}

Automaton::Snapshot Automaton::Save(State state) const {
  // A frame refers to frames that were made before it, so that ascending numbers are an order to make them in again.
  std::set<Frame> frames = {kBottom};
  Configurations open = *states_[static_cast<size_t>(state)].reached;
  while (!open.empty()) {
    const Frame frame = open.back().frame;
    open.pop_back();
    if (!frames.insert(frame).second) continue;
    const Configurations& callers = frames_[static_cast<size_t>(frame)];
    open.insert(open.end(), callers.begin(), callers.end());
  }
  absl::flat_hash_map<Frame, Frame> numbers;
  const auto renumber = [&](Configurations configurations) {
    for (Configuration& configuration : configurations) configuration.frame = numbers.at(configuration.frame);
    return configurations;
  };
  Snapshot snapshot;
  for (const Frame frame : frames) {
    snapshot.frames.push_back(renumber(frames_[static_cast<size_t>(frame)]));
    numbers[frame] = static_cast<Frame>(snapshot.frames.size() - 1);
  }
  snapshot.reached = renumber(*states_[static_cast<size_t>(state)].reached);
  return snapshot;
}

Automaton::State Automaton::Restore(const Snapshot& snapshot) {
  std::vector<Frame> frames = {kBottom};
  const auto renumber = [&](Configurations configurations) {
    for (Configuration& configuration : configurations) {
      configuration.frame = frames[static_cast<size_t>(configuration.frame)];
    }
    return configurations;
  };
  for (size_t i = 1; i < snapshot.frames.size(); ++i) frames.push_back(FrameOf(renumber(snapshot.frames[i])));
  return StateOf(renumber(snapshot.reached));
}

Automaton::State Automaton::MakeTransition(State state, int byte_class) {
  const uint8_t byte = class_bytes_[static_cast<size_t>(byte_class)];
  Configurations reached;
  for (const Configuration& from : states_[static_cast<size_t>(state)].steps) {
    for (const TransitionNetwork::Arc& arc : network_.arcs(from.node)) {
      if (arc.kind == ArcKind::kBytes && arc.first <= byte && byte <= arc.last) {
        reached.push_back({arc.target, from.frame});
      }
    }
  }
  const State next = StateOf(std::move(reached));
  transitions_[TransitionIndex(state, byte_class)] = next;
  return next;
}

Automaton::State Automaton::NextToken(State state, int32_t token) {
  Configurations reached;
  for (const Configuration& from : states_[static_cast<size_t>(state)].steps) {
    for (const TransitionNetwork::Arc& arc : network_.arcs(from.node)) {
      if (arc.kind == ArcKind::kToken && arc.index == token) reached.push_back({arc.target, from.frame});
    }
  }
  return StateOf(std::move(reached));
}

std::vector<int32_t> Automaton::Tokens(State state) const {
  std::vector<int32_t> tokens;
  for (const Configuration& from : states_[static_cast<size_t>(state)].steps) {
    for (const TransitionNetwork::Arc& arc : network_.arcs(from.node)) {
      if (arc.kind == ArcKind::kToken) tokens.push_back(arc.index);
    }
  }
  SortAndDropEqual(tokens);
  return tokens;
}

Automaton::State Automaton::StateOf(Configurations reached) {
  if (reached.empty()) return kDead;
  SortAndDropEqual(reached);
  if (const auto found = state_of_.find(reached); found != state_of_.end()) return found->second;
  StateNode node = Close(reached);
  num_bytes_ += static_cast<int64_t>(visited_.size() * sizeof(Configuration));
  State state = kDead;
  if (node.accepts || !node.steps.empty()) {
    state = static_cast<State>(states_.size());
    num_bytes_ += static_cast<int64_t>(sizeof(StateNode) +
                                       static_cast<size_t>(network_.num_byte_classes()) * sizeof(State));
    states_.push_back(std::move(node));
    transitions_.resize(transitions_.size() + static_cast<size_t>(network_.num_byte_classes()), kUnknown);
  }
  num_bytes_ += static_cast<int64_t>(sizeof(Configurations) + reached.size() * sizeof(Configuration) + 16);
  const auto made = state_of_.emplace(std::move(reached), state).first;
  if (state != kDead) states_.back().reached = &made->first;
  return state;
}

// Follows all that needs no byte. Rules are entered when everybody who calls them here is known, so that one frame has
// them all: first all ends are left, then rules are entered in the network's order, callers first.
Automaton::StateNode Automaton::Close(const Configurations& reached) {
  StateNode result;
  visited_.clear();
  open_.clear();
  calls_.clear();
  bool is_within_bounds = true;
  for (const Configuration& configuration : reached) is_within_bounds &= Visit(configuration);
  while (is_within_bounds && (!open_.empty() || !calls_.empty())) {
    if (open_.empty()) {
      auto call = calls_.extract(calls_.begin());
      const Frame frame = FrameOf(std::move(call.mapped()));
      is_within_bounds = frame != kNoFrame && Visit({network_.start_of(call.key().second), frame});
      continue;
    }
    const Configuration at = open_.back();
    open_.pop_back();
    if (network_.is_end(at.node)) {
      if (at.frame == kBottom) result.accepts = true;
      for (const Configuration& back : frames_[static_cast<size_t>(at.frame)]) is_within_bounds &= Visit(back);
      continue;
    }
    bool has_step = false;
    for (const TransitionNetwork::Arc& arc : network_.arcs(at.node)) {
      if (arc.kind == ArcKind::kEmpty) is_within_bounds &= Visit({arc.target, at.frame});
      if (arc.kind == ArcKind::kCall) is_within_bounds &= Call(arc.index, {arc.target, at.frame});
      has_step |= arc.kind == ArcKind::kBytes || arc.kind == ArcKind::kToken;
    }
    if (has_step) result.steps.push_back(at);
  }
  if (!is_within_bounds || result.steps.size() > kMaxConfigurations) return {};
  std::sort(result.steps.begin(), result.steps.end());
  return result;
}

bool Automaton::Visit(Configuration configuration) {
  if (visited_.insert(configuration).second) open_.push_back(configuration);
  return visited_.size() <= kMaxVisits;
}

bool Automaton::Call(Rule rule, Configuration caller) {
  Configurations& waiting = calls_[{network_.order_of(rule), rule}];
  // A call in the last place needs no frame of its own: it goes on where its caller would.
  if (network_.is_end(caller.node) && caller.frame != kBottom) {
    const Configurations& callers = frames_[static_cast<size_t>(caller.frame)];
    waiting.insert(waiting.end(), callers.begin(), callers.end());
  } else {
    waiting.push_back(caller);
  }
  if (waiting.size() > 2 * kMaxVisits) SortAndDropEqual(waiting);
  return waiting.size() <= 2 * kMaxVisits;
}

Automaton::Frame Automaton::FrameOf(Configurations callers) {
  SortAndDropEqual(callers);
  const auto [found, is_new] = frame_of_.try_emplace(callers, static_cast<Frame>(frames_.size()));
  if (is_new) {
    int depth = 0;
    for (const Configuration& caller : callers) depth = std::max(depth, depths_[static_cast<size_t>(caller.frame)]);
    if (depth == kMaxDepth) {
      frame_of_.erase(found);
      return kNoFrame;
    }
    depths_.push_back(depth + 1);
    num_bytes_ += static_cast<int64_t>(2 * (sizeof(Configurations) + callers.size() * sizeof(Configuration)));
    frames_.push_back(std::move(callers));
  }
  return found->second;
}

}  // namespace expertd
