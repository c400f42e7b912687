// What the BPE and the sentencepiece tokenizer share: the table of tokens, the search for added tokens, the ids round a
// text. A subclass encodes the gaps between added tokens.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/added_tokens.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tokenizer_files.h"

namespace expertd {

// Everything there is to know about each id, and what to put round a text.
class TokenTable {
 public:
  explicit TokenTable(int size) : entries_(static_cast<size_t>(size)) {}

  struct Entry {
    std::string text;   // as written in the vocabulary
    std::string bytes;  // contribution to decoded text
    bool is_special = false;
    bool is_added = false;
  };

  // A piece of the model; `id` is in [0, size).
  void SetPiece(TokenId id, std::string_view text, std::string_view bytes);
  void SetSpecial(TokenId id) { entries_[static_cast<size_t>(id)].is_special = true; }
  // Lays an added token over the table, growing it; for a token that is there already the flags are replaced. Errors:
  // InvalidArgument when the id belongs to another text, or the text to another id, or the text is too long.
  absl::Status SetAdded(const AddedToken& token);
  // Lays the settings of the folder over the table: added tokens, what is special, the roles.
  absl::Status Apply(const TokenizerSettings& settings);

  const Entry* Find(TokenId id) const;  // null outside the table
  std::optional<TokenId> FindId(std::string_view text) const;
  int size() const { return static_cast<int>(entries_.size()); }
  const std::vector<AddedToken>& added_tokens() const { return added_tokens_; }

  std::optional<TokenId> bos, eos, unk, pad;
  std::vector<TokenId> prefix, suffix;  // what add_special_tokens adds
  bool strips_leading_space = false;
  bool strips_every_leading_space = false;
  bool restarts_behind_added = false;

 private:
  std::vector<Entry> entries_;
  absl::flat_hash_map<std::string, TokenId> ids_;
  std::vector<AddedToken> added_tokens_;
  absl::flat_hash_map<TokenId, size_t> added_places_;  // in added_tokens_
};

// Collects ids, and ranges where they are asked for.
class EncodingSink {
 public:
  EncodingSink(Encoding* encoding, bool keep_offsets) : encoding_(encoding), keep_offsets_(keep_offsets) {}

  void Add(TokenId id, ByteRange range) {
    encoding_->ids.push_back(id);
    if (keep_offsets_) encoding_->offsets.push_back(range);
  }
  bool keep_offsets() const { return keep_offsets_; }

 private:
  Encoding* encoding_;
  bool keep_offsets_;
};

class TokenizerBase : public Tokenizer {
 public:
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text, const EncodeOptions& options) const final;
  absl::StatusOr<Encoding> EncodeWithOffsets(std::string_view text, const EncodeOptions& options) const final;
  std::string_view TokenBytes(TokenId id) const final;
  std::string_view TokenText(TokenId id) const final;
  int vocab_size() const final { return table_.size(); }
  bool IsSpecial(TokenId id) const final;
  std::optional<TokenId> TokenToId(std::string_view piece) const final { return table_.FindId(piece); }
  std::optional<TokenId> bos() const final { return table_.bos; }
  std::optional<TokenId> eos() const final { return table_.eos; }
  std::optional<TokenId> unk() const final { return table_.unk; }
  std::optional<TokenId> pad() const final { return table_.pad; }
  bool strips_leading_space() const final { return table_.strips_leading_space; }
  bool strips_every_leading_space() const final { return table_.strips_every_leading_space; }
  bool RestartsText(TokenId id) const final;

 protected:
  // `raw_added`: the tokens to match in raw text; the subclass matches the others itself.
  TokenizerBase(TokenTable table, const std::vector<AddedToken>& raw_added);

  // Encodes text between added tokens: not empty, well-formed, beginning at byte `origin` of the whole text.
  virtual absl::Status EncodeGap(std::string_view gap, size_t origin, const EncodeOptions& options,
                                 EncodingSink* sink) const = 0;

  // Matchers of all tokens, and of those that aren't special.
  struct MatcherPair {
    AddedTokenMatcher all, not_special;
    void Add(std::string_view text, const AddedToken& token);
    const AddedTokenMatcher& For(const EncodeOptions& options) const {
      return options.parse_special_tokens ? all : not_special;
    }
  };

 private:
  absl::Status EncodeInto(std::string_view text, const EncodeOptions& options, EncodingSink* sink) const;

  TokenTable table_;
  MatcherPair raw_matchers_;
};

// The kinds of tokenizer. Errors: as LoadTokenizer.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const std::string& model_dir);       // tokenizer.json
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadVocabAndMerges(const std::string& model_dir);  // vocab.json, merges.txt
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadSentencePiece(const std::string& model_dir);       // tokenizer.model
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadPanguAlpha(const std::string& model_dir,               // vocab.model
                                                          const std::string& jieba_dict);

}  // namespace expertd
