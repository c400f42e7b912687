#include "engine/text/sentencepiece_model.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/bpe_model.h"
#include "engine/text/unicode.h"

namespace expertd {
namespace {

enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Field {
  uint64_t number;
  int wire_type;
  uint64_t value;          // kVarint, kFixed32, kFixed64
  std::string_view bytes;  // kBytes
};

// The fields of one message, one after another.
class WireReader {
 public:
  explicit WireReader(std::string_view message) : rest_(message) {}

  bool AtEnd() const { return rest_.empty(); }

  absl::StatusOr<Field> Next() {
    Field field{};
    ASSIGN_OR_RETURN(const uint64_t tag, Varint());
    field.number = tag >> 3;
    field.wire_type = static_cast<int>(tag & 7);
    switch (field.wire_type) {
      case kVarint: {
        ASSIGN_OR_RETURN(field.value, Varint());
        return field;
      }
      case kFixed64:
      case kFixed32: {
        const size_t size = field.wire_type == kFixed64 ? 8 : 4;
        if (rest_.size() < size) return Damaged();
        std::memcpy(&field.value, rest_.data(), size);
        rest_.remove_prefix(size);
        return field;
      }
      case kBytes: {
        ASSIGN_OR_RETURN(const uint64_t size, Varint());
        if (size > rest_.size()) return Damaged();
        field.bytes = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return field;
      }
      default:
        return Damaged();
    }
  }

 private:
  static absl::Status Damaged() { return absl::InvalidArgumentError("sentencepiece model is truncated or damaged"); }

  absl::StatusOr<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(rest_[0]);
      rest_.remove_prefix(1);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    return Damaged();
  }

  std::string_view rest_;
};

// What of the specs decides whether this program can use the model.
struct Specs {
  uint64_t model_type = 1;
  bool treats_whitespace_as_suffix = false;
  bool escapes_whitespaces = true;
  std::string_view charsmap;
};

absl::StatusOr<SentencePieceModel::Piece> ParsePiece(std::string_view message) {
  SentencePieceModel::Piece piece;
  for (WireReader reader(message); !reader.AtEnd();) {
    ASSIGN_OR_RETURN(const Field field, reader.Next());
    if (field.number == 1 && field.wire_type == kBytes) piece.text = field.bytes;
    if (field.number == 2 && field.wire_type == kFixed32) {
      const auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&piece.score, &bits, sizeof(bits));
    }
    if (field.number == 3 && field.wire_type == kVarint) {
      if (field.value < 1 || field.value > 6) {
        return absl::InvalidArgumentError(StrCat("sentencepiece of the unknown type ", field.value));
      }
      piece.type = static_cast<SentencePieceModel::PieceType>(field.value);
    }
  }
  return piece;
}

absl::Status ParseTrainerSpec(std::string_view message, SentencePieceModel* model, Specs* specs) {
  for (WireReader reader(message); !reader.AtEnd();) {
    ASSIGN_OR_RETURN(const Field field, reader.Next());
    const bool is_bytes = field.wire_type == kBytes;
    if (field.number == 3 && !is_bytes) specs->model_type = field.value;
    if (field.number == 24 && !is_bytes) specs->treats_whitespace_as_suffix = field.value != 0;
    if (field.number == 45 && is_bytes) model->unk_piece = field.bytes;
    if (field.number == 46 && is_bytes) model->bos_piece = field.bytes;
    if (field.number == 47 && is_bytes) model->eos_piece = field.bytes;
    if (field.number == 48 && is_bytes) model->pad_piece = field.bytes;
  }
  return absl::OkStatus();
}

absl::Status ParseNormalizerSpec(std::string_view message, SentencePieceModel* model, Specs* specs) {
  for (WireReader reader(message); !reader.AtEnd();) {
    ASSIGN_OR_RETURN(const Field field, reader.Next());
    const bool is_bytes = field.wire_type == kBytes;
    if (field.number == 2 && is_bytes) specs->charsmap = field.bytes;
    if (field.number == 3 && !is_bytes) model->add_dummy_prefix = field.value != 0;
    if (field.number == 4 && !is_bytes) model->remove_extra_whitespaces = field.value != 0;
    if (field.number == 5 && !is_bytes) specs->escapes_whitespaces = field.value != 0;
  }
  return absl::OkStatus();
}

absl::Status CheckPieces(const std::vector<SentencePieceModel::Piece>& pieces) {
  if (pieces.empty() || pieces.size() > static_cast<size_t>(kMaxTokenId) + 1) {
    return absl::InvalidArgumentError(
        StrCat("sentencepiece model has ", pieces.size(), " pieces; must be 1..", kMaxTokenId + 1));
  }
  absl::flat_hash_set<absl::string_view> seen;
  int num_unknown = 0;
  for (size_t id = 0; id < pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = pieces[id];
    const bool is_byte = piece.type == SentencePieceModel::PieceType::kByte;
    if (piece.text.empty() || FindInvalidUtf8(piece.text) || piece.text.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(StrCat("sentencepiece ", id, " is empty or not text"));
    }
    if (!seen.insert(piece.text).second)
      return absl::InvalidArgumentError(StrCat("sentencepiece ", id, " is a repetition"));
    if (!std::isfinite(piece.score))
      return absl::InvalidArgumentError(StrCat("sentencepiece ", id, " has no finite score"));
    if (is_byte && !ParseBytePiece(piece.text)) {
      return absl::InvalidArgumentError(StrCat("sentencepiece ", id, " is a byte but not written as one"));
    }
    num_unknown += piece.type == SentencePieceModel::PieceType::kUnknown;
  }
  if (num_unknown != 1) {
    return absl::InvalidArgumentError(StrCat("sentencepiece model has ", num_unknown, " unknown pieces; must be 1"));
  }
  return absl::OkStatus();
}

// Bounds how far the library's normalization can make a text grow. The longest honest one is U+FDFA's of 33 bytes.
constexpr size_t kMaxReplacementBytes = 64;

// `replacements` end in NUL each.
absl::Status CheckReplacements(std::string_view replacements) {
  while (!replacements.empty()) {
    const size_t size = replacements.find('\0');
    if (size > kMaxReplacementBytes) {
      return absl::InvalidArgumentError(StrCat("sentencepiece model has a normalization to ", size,
                                               " bytes; must be 0..", kMaxReplacementBytes));
    }
    replacements.remove_prefix(size + 1);
  }
  return absl::OkStatus();
}

// The normalization table: the size of a trie, the trie as a double array (darts-clone), replacement strings that end
// in NUL. The library follows it unchecked, so every step from every unit must stay inside.
absl::Status CheckCharsmap(std::string_view charsmap) {
  constexpr uint32_t kLeaf = 1u << 31, kHasLeaf = 1u << 8, kUnitsPerBlock = 256;
  const auto damaged = [] {
    return absl::InvalidArgumentError("sentencepiece model has a damaged normalization table");
  };
  const auto unit_at = [](std::string_view units, uint32_t i) {
    uint32_t unit;
    std::memcpy(&unit, units.data() + size_t{i} * 4, 4);
    return unit;
  };
  if (charsmap.empty()) return absl::OkStatus();
  if (charsmap.size() <= 4) return damaged();
  const uint32_t trie_size = unit_at(charsmap, 0);
  if (trie_size >= charsmap.size() - 4) return damaged();
  const std::string_view trie = charsmap.substr(4, trie_size), replacements = charsmap.substr(4 + size_t{trie_size});
  const uint32_t num_units = trie_size / 4;
  if (trie_size % 4 != 0 || num_units == 0 || num_units % kUnitsPerBlock != 0) return damaged();
  if (replacements.back() != '\0' || FindInvalidUtf8(replacements)) return damaged();
  RETURN_IF_ERROR(CheckReplacements(replacements));
  const auto is_replacement = [&](uint32_t unit) { return (unit & ~kLeaf) < replacements.size(); };
  for (uint32_t i = 0; i < num_units; ++i) {
    const uint32_t unit = unit_at(trie, i);
    if ((unit & kLeaf) != 0) {
      if (!is_replacement(unit)) return damaged();
      continue;
    }
    const uint32_t children = i ^ (unit >> 10 << ((unit & (1u << 9)) >> 6));
    if ((children | (kUnitsPerBlock - 1)) >= num_units) return damaged();
    if ((unit & kHasLeaf) != 0 && !is_replacement(unit_at(trie, children))) return damaged();
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view serialized) {
  SentencePieceModel model;
  Specs specs;
  for (WireReader reader(serialized); !reader.AtEnd();) {
    ASSIGN_OR_RETURN(const Field field, reader.Next());
    if (field.wire_type != kBytes) continue;
    if (field.number == 1) {
      ASSIGN_OR_RETURN(SentencePieceModel::Piece piece, ParsePiece(field.bytes));
      model.pieces.push_back(std::move(piece));
    } else if (field.number == 2) {
      RETURN_IF_ERROR(ParseTrainerSpec(field.bytes, &model, &specs));
    } else if (field.number == 3) {
      RETURN_IF_ERROR(ParseNormalizerSpec(field.bytes, &model, &specs));
    } else if (field.number == 5) {  // denormalizer: its table is followed as well
      Specs denormalizer;
      SentencePieceModel unused;
      RETURN_IF_ERROR(ParseNormalizerSpec(field.bytes, &unused, &denormalizer));
      RETURN_IF_ERROR(CheckCharsmap(denormalizer.charsmap));
    }
  }
  RETURN_IF_ERROR(CheckPieces(model.pieces));
  RETURN_IF_ERROR(CheckCharsmap(specs.charsmap));
  if (specs.model_type != 1 && specs.model_type != 2) {
    return absl::UnimplementedError(
        StrCat("sentencepiece model_type is ", specs.model_type, "; must be 1 (unigram) or 2 (BPE)"));
  }
  if (specs.treats_whitespace_as_suffix)
    return absl::UnimplementedError("sentencepiece treat_whitespace_as_suffix is not supported");
  if (!specs.escapes_whitespaces)
    return absl::UnimplementedError("sentencepiece without escape_whitespaces is not supported");
  return model;
}

std::string WithoutDummyPrefix(std::string serialized) {
  // A message given twice is merged: normalizer_spec (field 3) of 2 bytes, add_dummy_prefix (field 3) = 0.
  serialized.append("\x1A\x02\x18\x00", 4);
  return serialized;
}

}  // namespace expertd
