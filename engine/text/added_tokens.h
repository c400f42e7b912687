// Added tokens: texts that become one id wherever they stand, found before anything else is done to a text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/text/tokenizer.h"

namespace expertd {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool special = false;      // dropped by skip_special_tokens, and not matched when special tokens aren't parsed
  bool normalized = false;   // matched behind the normalizer, in its normalized form, instead of in the raw text
  bool lstrip = false;       // swallows the blanks in front
  bool rstrip = false;       // swallows the blanks behind
  bool single_word = false;  // matches only between characters that aren't part of words
};

// Finds a set of added tokens in text, leftmost first, the longest of those that begin at the same place. Immutable
// after the last Add; thread-safe then.
class AddedTokenMatcher {
 public:
  // `text` is what is searched for: the content or its normalized form; empty ones are ignored.
  void Add(std::string_view text, const AddedToken& token);

  // A stretch of text: a token or the text between two tokens.
  struct Part {
    ByteRange range;
    std::optional<TokenId> id;
  };
  // The whole of well-formed `text` as parts that aren't empty. O(n) times the length of the longest token.
  std::vector<Part> Split(std::string_view text) const;

  bool empty() const { return entries_.empty(); }

 private:
  struct Entry {
    TokenId id;
    bool lstrip, rstrip, single_word;
  };
  struct Match {
    size_t end;
    int entry;
  };
  std::optional<Match> LongestAt(std::string_view text, size_t begin) const;

  std::vector<Entry> entries_;
  // A trie of bytes. Node 0 is the root.
  absl::flat_hash_map<uint64_t, int> edges_;  // node << 8 | byte -> node
  std::vector<int> node_entries_{-1};         // entry that ends at a node, or -1
  std::array<bool, 256> first_bytes_{};
};

}  // namespace expertd
