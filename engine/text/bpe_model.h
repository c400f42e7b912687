// Byte-pair encoding: vocabulary, merges, and the merging of one piece (Sennrich et al., "Neural Machine Translation of
// Rare Words with Subword Units", 2016). Over bytes (GPT-2's byte-level form) or over characters (models converted from
// sentencepiece). Used by the BPE tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/text/tokenizer.h"

namespace expertd {

// Ids at or above this are refused as damage: memory is proportional to the highest id.
inline constexpr TokenId kMaxTokenId = (1 << 22) - 1;

// GPT-2's printable form of bytes: each byte is written as one character, so that pieces are readable text.
void AppendByteLevelForm(std::string_view bytes, std::string* text);
// Inverse; nullopt when a character stands for no byte.
std::optional<std::string> FromByteLevelForm(std::string_view text);
// The byte that a piece `<0x0A>` stands for.
std::optional<uint8_t> ParseBytePiece(std::string_view piece);

struct BpeOptions {
  bool is_byte_level = false;   // pieces are bytes; the vocabulary is written in the byte-level form
  bool ignore_merges = false;   // a piece that is in the vocabulary is taken whole
  bool byte_fallback = false;   // characters outside the vocabulary become <0xXX> tokens
  bool fuse_unk = false;        // consecutive unknown characters become one
  std::optional<std::string> unk_token = std::nullopt;  // without it, unknown characters are dropped
};

// Token of an encoded piece and how many bytes of the piece it covers.
struct ModelToken {
  TokenId id;
  uint32_t num_bytes;
};

// Immutable; thread-safe.
class BpeModel {
 public:
  using Vocabulary = std::vector<std::pair<std::string, TokenId>>;
  using Merges = std::vector<std::pair<std::string, std::string>>;

  // `merges` come in order of rank. Errors: InvalidArgument for ids outside [0, kMaxTokenId], a piece or an id given
  // twice, and merges whose parts or whole aren't in the vocabulary.
  static absl::StatusOr<BpeModel> Create(Vocabulary vocabulary, const Merges& merges, const BpeOptions& options);

  // Working memory of one thread.
  struct Scratch;
  struct ScratchDeleter {
    void operator()(Scratch* scratch) const;
  };
  using ScratchPtr = std::unique_ptr<Scratch, ScratchDeleter>;
  static ScratchPtr MakeScratch();

  // Appends the tokens of `piece` to *tokens: repeatedly merges the adjacent pair of lowest rank, the leftmost first.
  // `piece` is not empty, well-formed UTF-8 and shorter than 2 GiB. O(n log n).
  void Encode(std::string_view piece, Scratch* scratch, std::vector<ModelToken>* tokens) const;

  int size() const { return static_cast<int>(pieces_.size()); }  // highest id + 1
  std::string_view piece(TokenId id) const { return pieces_[static_cast<size_t>(id)]; }  // as written; "" for holes
  std::optional<TokenId> Find(std::string_view piece) const;                             // as written

 private:
  struct Merge {
    uint32_t rank;
    TokenId id;
  };
  struct Slot {
    uint64_t key;
    Merge merge;
  };

  explicit BpeModel(const BpeOptions& options) : options_(options) {}
  absl::Status AddPieces(Vocabulary vocabulary);
  absl::Status AddMerges(const Merges& merges);
  absl::Status AddFallbacks();
  void AddWholePieces();
  void InsertMerge(uint64_t key, Merge merge);
  const Merge* FindMerge(TokenId left, TokenId right) const;
  void Symbolize(std::string_view piece, Scratch* scratch) const;
  void MergeShort(Scratch* scratch) const;
  void MergeLong(Scratch* scratch) const;

  BpeOptions options_;
  std::vector<std::string> pieces_;  // by id, as written
  std::vector<std::string> bytes_;   // by id, byte-level form undone; empty when not byte-level
  absl::flat_hash_map<absl::string_view, TokenId> ids_;  // as written
  // Text of a piece -> its id, for pieces that merging would make of that text anyway (or all, with ignore_merges).
  absl::flat_hash_map<absl::string_view, TokenId> whole_pieces_;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most two thirds full
  std::array<TokenId, 256> byte_ids_;                   // of single bytes, or of <0xXX> pieces; -1: none
  absl::flat_hash_map<char32_t, TokenId> character_ids_;  // of single characters, when not byte-level
  std::optional<TokenId> unk_id_;
};

}  // namespace expertd
