// TransitionNetwork: a grammar as a recursive transition network (Woods, "Transition Network Grammars for Natural
// Language Analysis", CACM 1970): nodes and arcs over bytes, one part for each rule, and arcs that call a rule and go
// on where it ends.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/structured/grammar.h"

namespace expertd {

// Immutable; thread-safe.
class TransitionNetwork {
 public:
  using Node = int32_t;
  using Rule = int32_t;

  static constexpr int kMaxNodes = 1 << 18;

  enum class ArcKind : uint8_t { kEmpty, kBytes, kToken, kCall };

  struct Arc {
    ArcKind kind = ArcKind::kEmpty;
    uint8_t first = 0, last = 0;  // kBytes: a byte of this range
    Node target = 0;
    int32_t index = 0;            // kToken: the token; kCall: the rule
  };

  // Errors: InvalidArgument for a grammar that matches nothing, is left-recursive (names the rule) or is too large.
  static absl::StatusOr<TransitionNetwork> Create(const Grammar& grammar);

  // The arcs that leave `node`. A call of a rule that may be empty has an empty arc beside it.
  std::span<const Arc> arcs(Node node) const {
    const size_t begin = first_arc_[static_cast<size_t>(node)], end = first_arc_[static_cast<size_t>(node) + 1];
    return std::span(arcs_).subspan(begin, end - begin);
  }
  // Where its rule ends; it has no arcs.
  bool is_end(Node node) const { return is_end_[static_cast<size_t>(node)]; }

  Rule start_rule() const { return 0; }
  Node start_of(Rule rule) const { return rules_[static_cast<size_t>(rule)].start; }
  // A rule that may begin with another has the smaller order.
  int32_t order_of(Rule rule) const { return rules_[static_cast<size_t>(rule)].order; }
  int num_rules() const { return static_cast<int>(rules_.size()); }

  // Bytes of equal class are in the same arcs everywhere.
  int num_byte_classes() const { return num_byte_classes_; }
  int class_of(uint8_t byte) const { return byte_classes_[byte]; }

  // Memory, about.
  int64_t num_bytes() const;

 private:
  friend class NetworkBuilder;

  struct RuleNodes {
    Node start = 0, end = 0;
    int32_t order = 0;
  };

  TransitionNetwork() = default;

  std::vector<Arc> arcs_;
  std::vector<uint32_t> first_arc_;  // [num_nodes + 1]
  std::vector<bool> is_end_;
  std::vector<RuleNodes> rules_;
  int num_byte_classes_ = 0;
  uint8_t byte_classes_[256] = {};
};

}  // namespace expertd
