// Automaton: a deterministic reader of a TransitionNetwork, byte by byte. Its states are made when they are first
// reached and kept, so that reading known ground is a table lookup; nested rules are a stack whose frames are shared
// (a graph-structured stack: Tomita, "Efficient Parsing for Natural Language", 1985), so that ambiguous grammars have
// few configurations too.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/node_hash_map.h"
#include "engine/structured/transition_network.h"

namespace expertd {

// Not thread-safe: reading makes states.
class Automaton {
 public:
  using State = int32_t;

  static constexpr State kDead = -1;        // no continuation matches
  // Places in the grammar that a state may stand for; a text with more readings is not followed.
  static constexpr int kMaxConfigurations = 4096;
  // Rules within rules; a text that is nested deeper is not followed. Readers of JSON have such limits too: Python's
  // is about 1000.
  static constexpr int kMaxDepth = 500;

  // `network` outlives the automaton.
  explicit Automaton(const TransitionNetwork& network);

  // kDead when the grammar has too many readings there.
  State start() const { return start_; }

  // The state behind a byte, or kDead.
  State Next(State state, uint8_t byte) { return NextOfClass(state, network_.class_of(byte)); }
  State NextOfClass(State state, int byte_class) {
    const State known = transitions_[TransitionIndex(state, byte_class)];
    return known != kUnknown ? known : MakeTransition(state, byte_class);
  }
  // The state behind a token that the grammar names by its id, or kDead.
  State NextToken(State state, int32_t token);

  // The tokens that the grammar names here, each once.
  std::vector<int32_t> Tokens(State state) const;
  // What was read is a whole text of the grammar.
  bool accepts(State state) const { return states_[static_cast<size_t>(state)].accepts; }
  // Something may follow.
  bool has_next(State state) const { return !states_[static_cast<size_t>(state)].steps.empty(); }

  // Memory of all states, about; in proportion to it grows the time that making them took.
  int64_t num_bytes() const { return num_bytes_; }
  // Forgets all states but the start and `kept`, which get new numbers.
  void ForgetAllBut(std::span<State> kept);

  const TransitionNetwork& network() const { return network_; }

 private:
  using Node = TransitionNetwork::Node;
  using Rule = TransitionNetwork::Rule;
  using Frame = int32_t;

  static constexpr State kUnknown = -2;
  static constexpr Frame kBottom = 0;
  static constexpr Frame kNoFrame = -1;
  static constexpr int kMaxVisits = 4 * kMaxConfigurations;

  // A place in the network, and where to go on at the end of its rule.
  struct Configuration {
    Node node = 0;
    Frame frame = kBottom;

    friend auto operator<=>(const Configuration&, const Configuration&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const Configuration& c) {
      return H::combine(std::move(h), c.node, c.frame);
    }
  };
  using Configurations = std::vector<Configuration>;

  struct StateNode {
    const Configurations* reached = nullptr;  // the key in state_of_
    Configurations steps;  // with an arc over bytes or a token
    bool accepts = false;
  };

  size_t TransitionIndex(State state, int byte_class) const {
    return static_cast<size_t>(state) * static_cast<size_t>(network_.num_byte_classes()) +
           static_cast<size_t>(byte_class);
  }
  // What a state was made of, by itself: frame i of the configurations is frames[i].
  struct Snapshot {
    Configurations reached;
    std::vector<Configurations> frames;  // each refers to earlier ones; [kBottom] is empty
  };

  void Reset();
  Snapshot Save(State state) const;
  State Restore(const Snapshot& snapshot);

  State MakeTransition(State state, int byte_class);
  State StateOf(Configurations reached);
  StateNode Close(const Configurations& reached);
  // Both are false when there are too many.
  bool Visit(Configuration configuration);
  bool Call(Rule rule, Configuration caller);
  // kNoFrame: nested too deep.
  Frame FrameOf(Configurations callers);

  const TransitionNetwork& network_;
  std::vector<uint8_t> class_bytes_;  // a byte of each class

  std::vector<StateNode> states_;
  std::vector<State> transitions_;    // [num_states, num_byte_classes]
  absl::node_hash_map<Configurations, State> state_of_;  // by what a step has reached
  std::vector<Configurations> frames_;                   // where to go on; of [kBottom]: nowhere
  std::vector<int> depths_;                              // of the frames
  absl::flat_hash_map<Configurations, Frame> frame_of_;
  State start_ = kDead;
  int64_t num_bytes_ = 0;

  // Of the Close under way.
  absl::flat_hash_set<Configuration> visited_;
  Configurations open_;
  std::map<std::pair<int32_t, Rule>, Configurations> calls_;  // waiting, in the network's order, with who calls
};

}  // namespace expertd
