// Token ids to text, one id at a time, for streaming. Emits only whole UTF-8 characters: the bytes of a character that
// spans tokens are held back until it is complete. Used by the output side of each sequence.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"

namespace expertd {

// State of one sequence's output: not thread-safe, one instance per sequence. Copyable: a copy continues on its own.
// The concatenation of all pieces, Flush included, equals Tokenizer::Decode of all ids, and is valid UTF-8. Bytes that
// can't belong to a character become U+FFFD, one per maximal subpart (Unicode standard, 3.9, "U+FFFD substitution of
// maximal subparts"; the same as Python's errors="replace").
class Detokenizer {
 public:
  // `tokenizer` must outlive this object. `skip_special_tokens` drops ids whose Tokenizer::IsSpecial is true, but for
  // those of `kept`.
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens, std::vector<TokenId> kept = {});

  // What is appended continues the text that ends in `id`: its leading space is part of the text, as in Decode of both
  // together. Before the first Append.
  void ContinueAfter(TokenId id);

  // Adds one id; returns the text that has become complete, possibly empty. Ids without text are ignored.
  std::string Append(TokenId id);

  // End of output: an unfinished character becomes one U+FFFD. The detokenizer is then as new.
  std::string Flush();

  // Bytes held back, 0..3.
  int num_pending_bytes() const { return static_cast<int>(pending_.size()); }

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::vector<TokenId> kept_;
  bool strip_next_space_;
  std::string pending_;  // a proper prefix of a character
};

}  // namespace expertd
