// Text to token ids and back. One interface for byte-level BPE (tokenizer.json, or vocab.json with merges.txt) and for
// sentencepiece (tokenizer.model; vocab.model behind jieba); the folder of the model decides which. Used by request
// admission (encode), the output side (detokenizer.h), structured output (the exact bytes of each token) and the
// tokenizer service. The rules are those of the `tokenizers`, `transformers`, `sentencepiece` and `jieba` packages;
// tests/golden/tokenizers records their answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace expertd {

// Row of the embedding table. Rows beyond a tokenizer's last id (padding of the table) are valid ids without text.
using TokenId = int32_t;

struct EncodeOptions {
  // Adds what the folder's post-processor adds round a text: BOS, EOS or nothing. False for text that a chat template
  // has rendered, since templates write their own BOS.
  bool add_special_tokens = true;
  // Matches special tokens written out in the text (`<|im_end|>` becomes one id). False treats them as plain text, for
  // text from outside that must not be able to end a turn. Added tokens that are not special (`<think>`) are matched
  // in both cases.
  bool parse_special_tokens = true;

  friend bool operator==(const EncodeOptions&, const EncodeOptions&) = default;
};

// Half-open range of bytes.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;

  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

struct Encoding {
  std::vector<TokenId> ids;
  // One range of the original text per id, begins and ends never decreasing. Tokens that split a character may overlap
  // nothing else than that character; where normalization changed the text, all tokens of the changed cluster carry
  // the cluster's range. Ids without text (BOS, EOS, a dummy space) have an empty range.
  std::vector<ByteRange> offsets;
};

// Immutable after loading; all methods may be called from any thread at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids of `text`; empty text gives only what `add_special_tokens` adds. Time is O(n log n) in the length of the text,
  // whatever its content. Errors: InvalidArgument when `text` isn't UTF-8 (names the offset of the first wrong byte) or
  // the model's rules make too much of it (names the sizes); ResourceExhausted when the text is larger than 256 MiB or
  // too hard for the model's regular expression.
  virtual absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text,
                                                      const EncodeOptions& options = {}) const = 0;

  // Same ids as Encode, and where in `text` each of them comes from. Same errors.
  virtual absl::StatusOr<Encoding> EncodeWithOffsets(std::string_view text,
                                                     const EncodeOptions& options = {}) const = 0;

  // The exact bytes that `id` contributes to decoded text, wherever it stands; not always whole UTF-8 characters. A
  // sentencepiece ▁ counts as a space (see strips_leading_space). Special tokens give their written form; whether they
  // are shown is the detokenizer's choice. Empty for ids outside [0, vocab_size()) and for holes in the vocabulary.
  // The view lives as long as the tokenizer.
  virtual std::string_view TokenBytes(TokenId id) const = 0;

  // The piece as the vocabulary writes it (`Ġthe`, `▁the`, `<0x0A>`), for display. Empty as for TokenBytes.
  virtual std::string_view TokenText(TokenId id) const = 0;

  // Highest id + 1, added tokens included. The embedding table may have more rows.
  virtual int vocab_size() const = 0;

  // Whether `skip_special_tokens` drops this id. False outside the vocabulary.
  virtual bool IsSpecial(TokenId id) const = 0;

  // The id whose TokenText is `piece`, added tokens first; nullopt when there is none.
  virtual std::optional<TokenId> TokenToId(std::string_view piece) const = 0;

  // Ids of the folder's special roles; nullopt where the folder names none or names one outside the vocabulary.
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  virtual std::optional<TokenId> unk() const = 0;
  virtual std::optional<TokenId> pad() const = 0;

  // Whether encoding puts a dummy space in front of a text, so that decoding removes one leading space.
  virtual bool strips_leading_space() const = 0;

  // Whether decoding removes the leading spaces of following tokens too, as long as there is no other text: models that
  // drop extra spaces when encoding.
  virtual bool strips_every_leading_space() const { return false; }

  // Whether encoding starts anew (with another dummy space) behind this id, so that decoding removes one leading space
  // of what follows it: sentencepiece's added tokens. Meaningful only where strips_leading_space() holds.
  virtual bool RestartsText(TokenId id) const = 0;

  // Text of a whole sequence, always valid UTF-8: equals what a Detokenizer emits for the same ids.
  std::string Decode(std::span<const TokenId> ids, bool skip_special_tokens) const;
};

// Reads the tokenizer of a model folder: tokenizer.json, else tokenizer.model, else vocab.json with merges.txt (Qwen2's
// pre-tokenizer and NFC, or GPT-2's, as tokenizer_class says), else vocab.model (PanGu-alpha's, behind jieba, whose
// dictionary is `jieba_dict`, or where FindJiebaFiles looks when that is empty). Flags and added tokens of
// tokenizer_config.json, added_tokens.json and special_tokens_map.json are laid over it. Executes nothing from the
// folder. Errors: NotFound when the folder has none of these; FailedPrecondition when jieba's dictionary is missing;
// InvalidArgument for a damaged file; Unimplemented for a component this program doesn't know. Messages name the file.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& model_dir,
                                                         const std::string& jieba_dict = "");

}  // namespace expertd
