// The `pre_tokenizer` part of tokenizer.json: cuts normalized text into the pieces within which the model merges.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/text/aligned_text.h"

namespace expertd {

// A text and the pieces it is cut into: not empty, in order, not overlapping; text between them is dropped.
struct PieceList {
  struct Piece {
    uint32_t begin;
    uint32_t end;
  };

  AlignedText text;
  std::vector<Piece> pieces;
  bool is_whole_text_start;  // whether this text begins where the user's text begins
};

// Immutable; thread-safe.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;

  // Cuts each piece further; may rewrite the text (dummy spaces). Errors: ResourceExhausted from a regular expression;
  // InvalidArgument when the text grows beyond AlignedText's bound.
  virtual absl::Status Apply(PieceList* list) const = 0;
};

struct ParsedPreTokenizer {
  std::unique_ptr<PreTokenizer> pre_tokenizer;  // null: the text stays whole
  bool is_byte_level = false;                   // pieces are to be read as bytes, not characters
};

// `json`: the value of `pre_tokenizer`, or null. Known: BertPreTokenizer, ByteLevel (last of a sequence),
// CharDelimiterSplit, Digits, Metaspace, Punctuation, Sequence, Split, Whitespace, WhitespaceSplit. Errors:
// Unimplemented for other types, InvalidArgument for damaged ones, both naming the type; InvalidArgument for too many
// in sequence.
absl::StatusOr<ParsedPreTokenizer> ParsePreTokenizer(const Json& json);

// Expression of Qwen2, Qwen2.5 and Qwen3, and that of GPT-2 (ByteLevel's own).
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace expertd
