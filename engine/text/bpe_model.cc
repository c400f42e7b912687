#include "engine/text/bpe_model.h"

#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/unicode.h"

namespace expertd {
namespace {

constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();
constexpr uint64_t kEmptySlot = std::numeric_limits<uint64_t>::max();  // no pair of ids, which aren't negative
// Up to here scanning all ranks for the lowest is faster than a heap.
constexpr size_t kMaxShortSymbols = 96;
// Longer pieces are rare as whole pre-tokenized pieces and would only slow down loading.
constexpr size_t kMaxWholePieceBytes = 64;

// Bytes that print as themselves; the other 68 become U+0100, U+0101, ... in increasing order.
constexpr bool PrintsAsItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char32_t, 256> MakeByteCharacters() {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    characters[static_cast<size_t>(byte)] = PrintsAsItself(byte) ? static_cast<char32_t>(byte) : next++;
  }
  return characters;
}
constexpr std::array<char32_t, 256> kByteCharacters = MakeByteCharacters();
constexpr char32_t kEndByteCharacter = 0x100 + 68;

constexpr std::array<int16_t, kEndByteCharacter> MakeCharacterBytes() {
  std::array<int16_t, kEndByteCharacter> bytes{};
  bytes.fill(-1);
  for (int byte = 0; byte < 256; ++byte) bytes[kByteCharacters[static_cast<size_t>(byte)]] = static_cast<int16_t>(byte);
  return bytes;
}
constexpr std::array<int16_t, kEndByteCharacter> kCharacterBytes = MakeCharacterBytes();

uint64_t PairKey(TokenId left, TokenId right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

size_t HashPair(uint64_t key) { return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 20); }

std::string Shown(std::string_view piece) {
  constexpr size_t kMaxShown = 60;
  return StrCat("\"", piece.substr(0, kMaxShown), piece.size() > kMaxShown ? "...\"" : "\"");
}

}  // namespace

void AppendByteLevelForm(std::string_view bytes, std::string* text) {
  for (const char byte : bytes) AppendUtf8(kByteCharacters[static_cast<uint8_t>(byte)], text);
}

std::optional<std::string> FromByteLevelForm(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const char32_t c = DecodeUtf8(text, &i);
    if (c >= kEndByteCharacter || kCharacterBytes[c] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kCharacterBytes[c]));
  }
  return bytes;
}

std::optional<uint8_t> ParseBytePiece(std::string_view piece) {
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : piece.substr(3, 2)) {
    if (c >= '0' && c <= '9') value = value * 16 + (c - '0');
    else if (c >= 'A' && c <= 'F') value = value * 16 + (c - 'A' + 10);
    else return std::nullopt;
  }
  return static_cast<uint8_t>(value);
}

// A doubly linked list of symbols in an array. `next` and `previous` are indices, kNone at the ends.
struct BpeModel::Scratch {
  static constexpr int32_t kNone = -1;
  struct Symbol {
    TokenId id;  // kNone: merged into its neighbour on the left
    uint32_t num_bytes;
    int32_t previous;
    int32_t next;
  };
  // Possible merge of the symbol at `position` with its right neighbour.
  struct Candidate {
    uint32_t rank;
    int32_t position;
    TokenId id;
    bool operator<(const Candidate& other) const {  // the heap's top is the lowest rank, then the leftmost
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };

  void Add(TokenId id, uint32_t num_bytes) { symbols.push_back({id, num_bytes, 0, 0}); }

  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

void BpeModel::ScratchDeleter::operator()(Scratch* scratch) const { delete scratch; }
BpeModel::ScratchPtr BpeModel::MakeScratch() { return ScratchPtr(new Scratch); }

absl::StatusOr<BpeModel> BpeModel::Create(Vocabulary vocabulary, const Merges& merges, const BpeOptions& options) {
  BpeModel model(options);
  RETURN_IF_ERROR(model.AddPieces(std::move(vocabulary)));
  RETURN_IF_ERROR(model.AddMerges(merges));
  RETURN_IF_ERROR(model.AddFallbacks());
  model.AddWholePieces();
  return model;
}

absl::Status BpeModel::AddPieces(Vocabulary vocabulary) {
  TokenId highest = -1;
  for (const auto& [piece, id] : vocabulary) {
    if (id < 0 || id > kMaxTokenId) {
      return absl::InvalidArgumentError(StrCat("id of ", Shown(piece), " is ", id, "; must be 0..", kMaxTokenId));
    }
    highest = std::max(highest, id);
  }
  pieces_.resize(static_cast<size_t>(highest) + 1);
  std::vector<bool> is_given(pieces_.size(), false);
  ids_.reserve(vocabulary.size());
  for (auto& [piece, id] : vocabulary) {
    const auto index = static_cast<size_t>(id);
    if (is_given[index]) {
      return absl::InvalidArgumentError(
          StrCat("id ", id, " is given to both ", Shown(pieces_[index]), " and ", Shown(piece)));
    }
    is_given[index] = true;
    pieces_[index] = std::move(piece);
    if (!ids_.emplace(pieces_[index], id).second) {
      return absl::InvalidArgumentError(StrCat("piece ", Shown(pieces_[index]), " is in the vocabulary twice"));
    }
  }
  if (!options_.is_byte_level) return absl::OkStatus();
  bytes_.reserve(pieces_.size());
  for (const std::string& piece : pieces_) bytes_.push_back(FromByteLevelForm(piece).value_or(std::string()));
  return absl::OkStatus();
}

absl::Status BpeModel::AddMerges(const Merges& merges) {
  if (merges.size() >= kNoRank / 2) return absl::InvalidArgumentError(StrCat("there are ", merges.size(), " merges"));
  size_t num_slots = 16;
  while (num_slots * 2 < merges.size() * 3) num_slots *= 2;
  slots_.assign(num_slots, Slot{kEmptySlot, {}});
  uint32_t rank = 0;
  for (const auto& [left, right] : merges) {
    const std::optional<TokenId> left_id = Find(left), right_id = Find(right), id = Find(StrCat(left, right));
    if (!left_id || !right_id || !id) {
      const std::string missing = !left_id ? left : !right_id ? right : StrCat(left, right);
      return absl::InvalidArgumentError(StrCat("merge ", rank, " (", Shown(left), ", ", Shown(right), ") names ",
                                               Shown(missing), ", which is not in the vocabulary"));
    }
    InsertMerge(PairKey(*left_id, *right_id), {rank++, *id});
  }
  return absl::OkStatus();
}

void BpeModel::InsertMerge(uint64_t key, Merge merge) {
  size_t i = HashPair(key) & (slots_.size() - 1);
  while (slots_[i].key != kEmptySlot && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
  slots_[i] = {key, merge};  // a merge given twice has the rank of the last, as in the reference
}

const BpeModel::Merge* BpeModel::FindMerge(TokenId left, TokenId right) const {
  const uint64_t key = PairKey(left, right);
  for (size_t i = HashPair(key) & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].key == key) return &slots_[i].merge;
    if (slots_[i].key == kEmptySlot) return nullptr;
  }
}

std::optional<TokenId> BpeModel::Find(std::string_view piece) const {
  const auto it = ids_.find(ToAbslView(piece));
  return it == ids_.end() ? std::nullopt : std::optional<TokenId>(it->second);
}

absl::Status BpeModel::AddFallbacks() {
  byte_ids_.fill(-1);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (options_.is_byte_level) {
      if (bytes_[i].size() == 1) byte_ids_[static_cast<uint8_t>(bytes_[i][0])] = id;
      continue;
    }
    if (const auto byte = ParseBytePiece(pieces_[i])) byte_ids_[*byte] = id;
    size_t end = 0;
    const char32_t c = pieces_[i].empty() ? 0 : DecodeUtf8(pieces_[i], &end);
    if (end > 0 && end == pieces_[i].size()) character_ids_[c] = id;
  }
  if (!options_.unk_token) return absl::OkStatus();
  unk_id_ = Find(*options_.unk_token);
  if (!unk_id_)
    return absl::InvalidArgumentError(StrCat("unk_token ", Shown(*options_.unk_token), " is not in the vocabulary"));
  return absl::OkStatus();
}

void BpeModel::AddWholePieces() {
  const std::vector<std::string>& texts = options_.is_byte_level ? bytes_ : pieces_;
  const ScratchPtr scratch = MakeScratch();
  std::vector<ModelToken> tokens;
  absl::flat_hash_map<absl::string_view, TokenId> whole_pieces;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].empty() || (texts[i].size() > kMaxWholePieceBytes && !options_.ignore_merges)) continue;
    const auto id = static_cast<TokenId>(i);
    tokens.clear();
    if (!options_.ignore_merges) Encode(texts[i], scratch.get(), &tokens);
    if (options_.ignore_merges || (tokens.size() == 1 && tokens[0].id == id)) whole_pieces.emplace(texts[i], id);
  }
  whole_pieces_ = std::move(whole_pieces);
}

void BpeModel::Encode(std::string_view piece, Scratch* scratch, std::vector<ModelToken>* tokens) const {
  if (piece.size() <= kMaxWholePieceBytes || options_.ignore_merges) {
    const auto it = whole_pieces_.find(ToAbslView(piece));
    if (it != whole_pieces_.end()) {
      tokens->push_back({it->second, static_cast<uint32_t>(piece.size())});
      return;
    }
  }
  Symbolize(piece, scratch);
  if (scratch->symbols.size() <= kMaxShortSymbols) {
    MergeShort(scratch);
  } else {
    MergeLong(scratch);
  }
  for (const Scratch::Symbol& symbol : scratch->symbols) {
    if (symbol.id != Scratch::kNone) tokens->push_back({symbol.id, symbol.num_bytes});
  }
}

// The symbols that merging starts from: bytes, or characters with their fallbacks.
void BpeModel::Symbolize(std::string_view piece, Scratch* scratch) const {
  scratch->symbols.clear();
  uint32_t num_dropped_bytes = 0;  // count for the next symbol
  bool previous_is_unk = false;
  for (size_t i = 0; i < piece.size();) {
    const size_t begin = i;
    TokenId id = -1;
    if (options_.is_byte_level) {
      id = byte_ids_[static_cast<uint8_t>(piece[i++])];
    } else {
      const auto it = character_ids_.find(DecodeUtf8(piece, &i));
      if (it != character_ids_.end()) id = it->second;
    }
    const auto num_bytes = static_cast<uint32_t>(i - begin);
    const std::string_view bytes = piece.substr(begin, num_bytes);
    const auto byte_id = [this](char byte) { return byte_ids_[static_cast<uint8_t>(byte)]; };
    const bool is_unk = id < 0;
    if (id < 0 && options_.byte_fallback && !options_.is_byte_level &&
        std::all_of(bytes.begin(), bytes.end(), [&](char byte) { return byte_id(byte) >= 0; })) {
      for (const char byte : bytes) scratch->Add(byte_id(byte), 1);
      previous_is_unk = false;
      continue;
    }
    if (is_unk && unk_id_ && options_.fuse_unk && previous_is_unk) {
      scratch->symbols.back().num_bytes += num_bytes;
    } else if (is_unk && !unk_id_) {
      num_dropped_bytes += num_bytes;
    } else {
      scratch->Add(is_unk ? *unk_id_ : id, num_bytes + std::exchange(num_dropped_bytes, 0));
    }
    previous_is_unk = is_unk;
  }
}

void BpeModel::MergeShort(Scratch* scratch) const {
  auto& symbols = scratch->symbols;
  std::array<uint32_t, kMaxShortSymbols> ranks;  // of merging each symbol with its right neighbour
  std::array<TokenId, kMaxShortSymbols> ids;     // what that makes
  size_t n = symbols.size();
  const auto look_up = [&](size_t i) {
    const Merge* merge = i + 1 < n ? FindMerge(symbols[i].id, symbols[i + 1].id) : nullptr;
    ranks[i] = merge == nullptr ? kNoRank : merge->rank;
    ids[i] = merge == nullptr ? -1 : merge->id;
  };
  for (size_t i = 0; i < n; ++i) look_up(i);
  while (n > 1) {
    const auto best = static_cast<size_t>(std::min_element(ranks.begin(), ranks.begin() + (n - 1)) - ranks.begin());
    if (ranks[best] == kNoRank) break;
    symbols[best].id = ids[best];
    symbols[best].num_bytes += symbols[best + 1].num_bytes;
    std::copy(symbols.begin() + best + 2, symbols.begin() + n, symbols.begin() + best + 1);
    std::copy(ranks.begin() + best + 2, ranks.begin() + n, ranks.begin() + best + 1);
    std::copy(ids.begin() + best + 2, ids.begin() + n, ids.begin() + best + 1);
    --n;
    look_up(best);
    if (best > 0) look_up(best - 1);
  }
  symbols.resize(n);
}

void BpeModel::MergeLong(Scratch* scratch) const {
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  const auto n = static_cast<int32_t>(symbols.size());
  const auto candidate_at = [&](int32_t i) -> std::optional<Scratch::Candidate> {
    const auto& symbol = symbols[static_cast<size_t>(i)];
    if (symbol.next == Scratch::kNone) return std::nullopt;
    const Merge* merge = FindMerge(symbol.id, symbols[static_cast<size_t>(symbol.next)].id);
    if (merge == nullptr) return std::nullopt;
    return Scratch::Candidate{merge->rank, i, merge->id};
  };
  const auto push = [&](int32_t i) {
    if (const auto candidate = candidate_at(i)) {
      heap.push_back(*candidate);
      std::push_heap(heap.begin(), heap.end());
    }
  };
  heap.clear();
  for (int32_t i = 0; i < n; ++i) {
    symbols[static_cast<size_t>(i)].previous = i - 1;
    symbols[static_cast<size_t>(i)].next = i + 1 < n ? i + 1 : Scratch::kNone;
  }
  for (int32_t i = 0; i < n; ++i) {
    if (const auto candidate = candidate_at(i)) heap.push_back(*candidate);
  }
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    auto& left = symbols[static_cast<size_t>(top.position)];
    if (left.id == Scratch::kNone) continue;  // merged away since
    const auto current = candidate_at(top.position);
    if (!current || current->id != top.id || current->rank != top.rank) continue;  // one of the two has changed since
    auto& right = symbols[static_cast<size_t>(left.next)];
    left.id = top.id;
    left.num_bytes += right.num_bytes;
    left.next = right.next;
    right.id = Scratch::kNone;
    if (left.next != Scratch::kNone) symbols[static_cast<size_t>(left.next)].previous = top.position;
    push(top.position);
    if (left.previous != Scratch::kNone) push(left.previous);
  }
}

}  // namespace expertd
