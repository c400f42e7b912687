// Vocabulary: the bytes of all tokens, laid out so that those which an automaton can read from some state are found
// quickly: a trie in one array, and apart from it the tokens of plain text, which most states inside a string take all
// of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace expertd {

// Immutable; thread-safe.
class Vocabulary {
 public:
  // A step of the trie, in depth-first order.
  struct Node {
    uint8_t byte = 0;
    uint16_t depth = 0;        // bytes up to and with this one
    int32_t end = 0;           // index behind the last node below
    int32_t first_token = -1;  // in tokens_here: of those that end here
    int32_t num_tokens = 0;
  };

  struct Trie {
    std::vector<Node> nodes;
    std::vector<int32_t> tokens;
  };

  // Ids are [0, size). `bytes_of(id)` gives the bytes of a token, which need not live on; empty for one that no text
  // has: special tokens, holes. Tokens of more than kMaxTokenBytes are left out: no constrained output has them.
  Vocabulary(int32_t size, const std::function<std::string_view(int32_t)>& bytes_of);

  static constexpr size_t kMaxTokenBytes = 1024;

  int32_t size() const { return size_; }
  // Words of a bit set of all ids.
  size_t num_words() const { return (static_cast<size_t>(size_) + 63) / 64; }

  // The bytes of a token; empty for those that were left out.
  std::string_view bytes_of(int32_t token) const {
    const size_t begin = offsets_[static_cast<size_t>(token)], end = offsets_[static_cast<size_t>(token) + 1];
    return std::string_view(bytes_).substr(begin, end - begin);
  }

  // Tokens of plain characters alone: whole characters in UTF-8 that need no escape in a JSON string.
  const Trie& plain() const { return plain_; }
  // All others.
  const Trie& special() const { return special_; }
  // The most characters that a plain token has.
  int max_plain_characters() const { return static_cast<int>(plain_sets_.size()) - 1; }
  // The plain tokens of at most `num_characters` in [0, max_plain_characters()], as a bit set of num_words().
  std::span<const uint64_t> PlainTokens(int num_characters) const {
    return plain_sets_[static_cast<size_t>(num_characters)];
  }

  // Memory, about.
  int64_t num_bytes() const;

 private:
  int32_t size_ = 0;
  std::string bytes_;
  std::vector<uint32_t> offsets_;
  Trie plain_, special_;
  std::vector<std::vector<uint64_t>> plain_sets_;
};

}  // namespace expertd
