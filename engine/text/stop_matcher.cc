#include "engine/text/stop_matcher.h"

#include <utility>

#include "absl/status/status.h"
#include "engine/base/strings.h"

namespace expertd {

// A state is a node of the trie of the stop strings: the longest suffix of the text that is a prefix of one of them.
// Children are lists of siblings, at most as many as there are stop strings, so that memory stays a few bytes a node.
struct StopMatcher::Automaton {
  struct Node {
    uint8_t label = 0;
    uint16_t first_child = 0, next_sibling = 0;  // 0: none
    uint16_t fallback = 0;                       // node of the longest proper suffix
    uint16_t depth = 0;                          // length of the prefix
    int16_t stop_index = -1;                     // the longest stop string that ends here
    uint16_t stop_bytes = 0;
  };

  explicit Automaton(const std::vector<std::string>& stop_strings) {
    nodes.emplace_back();
    for (size_t i = 0; i < stop_strings.size(); ++i) AddString(stop_strings[i], static_cast<int16_t>(i));
    AddFallbacks();
  }

  uint16_t Child(uint16_t node, uint8_t label) const {
    uint16_t child = nodes[node].first_child;
    while (child != 0 && nodes[child].label != label) child = nodes[child].next_sibling;
    return child;
  }

  // Every step back was paid for by a step forward, so a text takes linear time.
  uint16_t Step(uint16_t node, uint8_t label) const {
    for (;; node = nodes[node].fallback) {
      const uint16_t child = Child(node, label);
      if (child != 0 || node == 0) return child;
    }
  }

  void AddString(const std::string& text, int16_t index) {
    uint16_t node = 0;
    for (const char byte : text) {
      const auto label = static_cast<uint8_t>(byte);
      uint16_t child = Child(node, label);
      if (child == 0) {
        child = static_cast<uint16_t>(nodes.size());
        nodes.push_back({.label = label,
                         .next_sibling = nodes[node].first_child,
                         .depth = static_cast<uint16_t>(nodes[node].depth + 1)});
        nodes[node].first_child = child;
      }
      node = child;
    }
    if (nodes[node].stop_index >= 0) return;  // given twice: the first index
    nodes[node].stop_index = index;
    nodes[node].stop_bytes = nodes[node].depth;
  }

  // Breadth first, so that the shorter suffixes a node falls back to are complete before the node itself.
  void AddFallbacks() {
    std::vector<uint16_t> queue = {0};
    for (size_t i = 0; i < queue.size(); ++i) {
      const uint16_t node = queue[i];
      for (uint16_t child = nodes[node].first_child; child != 0; child = nodes[child].next_sibling) {
        const uint16_t fallback = node == 0 ? uint16_t{0} : Step(nodes[node].fallback, nodes[child].label);
        nodes[child].fallback = fallback;
        if (nodes[child].stop_index < 0) {
          nodes[child].stop_index = nodes[fallback].stop_index;
          nodes[child].stop_bytes = nodes[fallback].stop_bytes;
        }
        queue.push_back(child);
      }
    }
  }

  std::vector<Node> nodes;
};

StopMatcher::StopMatcher(std::shared_ptr<const Automaton> automaton, Options options)
    : automaton_(std::move(automaton)), options_(options) {}

absl::StatusOr<StopMatcher> StopMatcher::Create(const std::vector<std::string>& stop_strings, Options options) {
  static_assert(kMaxStopStrings * kMaxStopStringBytes < UINT16_MAX);
  if (stop_strings.size() > kMaxStopStrings) {
    return absl::InvalidArgumentError(StrCat("stop has ", stop_strings.size(), " strings; at most ", kMaxStopStrings));
  }
  for (size_t i = 0; i < stop_strings.size(); ++i) {
    const size_t size = stop_strings[i].size();
    if (size == 0 || size > kMaxStopStringBytes) {
      return absl::InvalidArgumentError(StrCat("stop[", i, "] has ", size, " bytes; must be 1..", kMaxStopStringBytes));
    }
  }
  return StopMatcher(std::make_shared<const Automaton>(stop_strings), options);
}

absl::StatusOr<StopMatcher> StopMatcher::Create(const std::vector<std::string>& stop_strings) {
  return Create(stop_strings, Options{});
}

StopMatcher::Result StopMatcher::Append(std::string_view text) {
  Result result;
  if (is_matched_) return result;
  const auto& nodes = automaton_->nodes;
  held_.append(text);
  const size_t begin = held_.size() - text.size();
  for (size_t i = begin; i < held_.size(); ++i) {
    state_ = automaton_->Step(state_, static_cast<uint8_t>(held_[i]));
    const Automaton::Node& node = nodes[state_];
    if (node.stop_index < 0) continue;
    is_matched_ = true;
    const size_t end = options_.include_stop_in_output ? i + 1 : i + 1 - node.stop_bytes;
    result.text = held_.substr(0, end);
    result.stop_index = node.stop_index;
    held_.clear();
    return result;
  }
  // Everything but the longest possible beginning of a stop string is safe.
  const size_t num_safe = held_.size() - nodes[state_].depth;
  result.text = held_.substr(0, num_safe);
  held_.erase(0, num_safe);
  return result;
}

std::string StopMatcher::Flush() {
  state_ = 0;
  return std::exchange(held_, {});
}

}  // namespace expertd
