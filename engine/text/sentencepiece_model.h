// Reads and checks a sentencepiece model file (sentencepiece_model.proto, in protobuf's wire format). The library that
// encodes with it keeps its pieces' types and its settings to itself and trusts the tables in the file, so this reads
// what the tokenizer needs and refuses what the library would stumble over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace expertd {

struct SentencePieceModel {
  enum class PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::kNormal;
  };

  std::vector<Piece> pieces;  // by id
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  std::string unk_piece = "<unk>", bos_piece = "<s>", eos_piece = "</s>", pad_piece = "<pad>";
};

// Errors: InvalidArgument for damage (truncated, no pieces or too many, an empty or repeated piece, not UTF-8, no or
// several unknown pieces, a normalization table that is broken or makes much of a character); Unimplemented for models
// that are neither unigram nor BPE, or put blanks behind words or don't escape them.
absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view serialized);

// The same serialized model, with add_dummy_prefix off.
std::string WithoutDummyPrefix(std::string serialized);

}  // namespace expertd
