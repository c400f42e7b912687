#include "engine/text/pre_tokenizer.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/text_pattern.h"
#include "engine/text/unicode.h"

namespace expertd {
namespace {

constexpr int kMaxDepth = 8;   // of Sequences in Sequences
constexpr int kMaxParts = 64;  // of all of them; each is a pass over every text

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// A stretch of a piece: a match of the splitting rule or the gap between two matches.
struct Stretch {
  uint32_t begin;
  uint32_t end;
  bool is_match;
};

// Cuts one piece after another by a rule and joins the stretches as the behavior says.
class Cutter {
 public:
  Cutter(SplitBehavior behavior, bool invert, std::vector<PieceList::Piece>* out)
      : behavior_(behavior), invert_(invert), out_(out) {}

  // `matches` are relative to `base` and lie in a piece of `size` bytes.
  void Cut(uint32_t base, uint32_t size, const std::vector<ByteRange>& matches) {
    stretches_.clear();
    uint32_t done = 0;
    for (const ByteRange& match : matches) {
      if (match.begin > done) Add(base + done, base + match.begin, /*is_match=*/false);
      Add(base + match.begin, base + match.end, /*is_match=*/true);
      done = static_cast<uint32_t>(match.end);
    }
    if (done < size) Add(base + done, base + size, /*is_match=*/false);
    Emit();
  }

 private:
  void Add(size_t begin, size_t end, bool is_match) {
    stretches_.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), is_match != invert_});
  }

  void Emit() {
    const size_t first = out_->size();
    if (behavior_ == SplitBehavior::kMergedWithNext) std::reverse(stretches_.begin(), stretches_.end());
    bool previous_is_match = false;
    for (const Stretch& stretch : stretches_) {
      const bool has_previous = out_->size() > first;
      if (behavior_ == SplitBehavior::kRemoved && stretch.is_match) continue;
      if (has_previous && JoinsPrevious(stretch.is_match, previous_is_match)) {
        out_->back().begin = std::min(out_->back().begin, stretch.begin);
        out_->back().end = std::max(out_->back().end, stretch.end);
      } else {
        out_->push_back({stretch.begin, stretch.end});
      }
      previous_is_match = stretch.is_match;
    }
    const auto mine = out_->begin() + static_cast<std::ptrdiff_t>(first);
    if (behavior_ == SplitBehavior::kMergedWithNext) std::reverse(mine, out_->end());
    out_->erase(std::remove_if(mine, out_->end(), [](auto piece) { return piece.begin == piece.end; }), out_->end());
  }

  bool JoinsPrevious(bool is_match, bool previous_is_match) const {
    switch (behavior_) {
      case SplitBehavior::kMergedWithPrevious:
      case SplitBehavior::kMergedWithNext:
        return is_match && !previous_is_match;
      case SplitBehavior::kContiguous:
        return is_match == previous_is_match;
      default:
        return false;
    }
  }

  SplitBehavior behavior_;
  bool invert_;
  std::vector<PieceList::Piece>* out_;
  std::vector<Stretch> stretches_;
};

std::string_view PieceText(const PieceList& list, PieceList::Piece piece) {
  return list.text.text().substr(piece.begin, piece.end - piece.begin);
}

class SplitPreTokenizer : public PreTokenizer {
 public:
  SplitPreTokenizer(TextPattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  absl::Status Apply(PieceList* list) const override {
    std::vector<PieceList::Piece> cut;
    Cutter cutter(behavior_, invert_, &cut);
    TextPattern::Searcher searcher(pattern_);
    std::vector<ByteRange> matches;
    for (const PieceList::Piece piece : list->pieces) {
      RETURN_IF_ERROR(searcher.FindAll(PieceText(*list, piece), &matches));
      cutter.Cut(piece.begin, piece.end - piece.begin, matches);
    }
    list->pieces = std::move(cut);
    return absl::OkStatus();
  }

 private:
  TextPattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// Each character for which `is_match` holds is a match of its own.
class CharacterSplit : public PreTokenizer {
 public:
  CharacterSplit(std::function<bool(char32_t)> is_match, SplitBehavior behavior)
      : is_match_(std::move(is_match)), behavior_(behavior) {}

  absl::Status Apply(PieceList* list) const override {
    std::vector<PieceList::Piece> cut;
    Cutter cutter(behavior_, /*invert=*/false, &cut);
    std::vector<ByteRange> matches;
    for (const PieceList::Piece piece : list->pieces) {
      const std::string_view text = PieceText(*list, piece);
      matches.clear();
      for (size_t i = 0; i < text.size();) {
        const size_t begin = i;
        if (is_match_(DecodeUtf8(text, &i))) matches.push_back({begin, i});
      }
      cutter.Cut(piece.begin, piece.end - piece.begin, matches);
    }
    list->pieces = std::move(cut);
    return absl::OkStatus();
  }

 private:
  std::function<bool(char32_t)> is_match_;
  SplitBehavior behavior_;
};

// Puts `prefix` in front of each piece for which `wants_prefix(text of the piece, whether it begins the user's text)`.
template <typename WantsPrefix>
absl::Status PrefixPieces(std::string_view prefix, WantsPrefix wants_prefix, PieceList* list) {
  const std::string_view text = list->text.text();
  bool any = false;
  for (const PieceList::Piece piece : list->pieces) {
    any = any || wants_prefix(PieceText(*list, piece), list->is_whole_text_start && piece.begin == 0);
  }
  if (!any) return absl::OkStatus();
  AlignedText::Rewriter rewriter(list->text);
  std::vector<PieceList::Piece> moved;
  for (const PieceList::Piece piece : list->pieces) {
    const auto begin = static_cast<uint32_t>(rewriter.size());
    const std::string_view piece_text = text.substr(piece.begin, piece.end - piece.begin);
    if (wants_prefix(piece_text, list->is_whole_text_start && piece.begin == 0)) {
      rewriter.Replace(piece.begin, piece.begin, prefix);
    }
    rewriter.Keep(piece.begin, piece.end);
    moved.push_back({begin, static_cast<uint32_t>(rewriter.size())});
  }
  ASSIGN_OR_RETURN(list->text, std::move(rewriter).Finish());
  list->pieces = std::move(moved);
  return absl::OkStatus();
}

class ByteLevelPreTokenizer : public PreTokenizer {
 public:
  ByteLevelPreTokenizer(bool add_prefix_space, std::unique_ptr<PreTokenizer> split)
      : add_prefix_space_(add_prefix_space), split_(std::move(split)) {}

  absl::Status Apply(PieceList* list) const override {
    if (add_prefix_space_) {
      RETURN_IF_ERROR(PrefixPieces(" ", [](std::string_view piece, bool) { return piece[0] != ' '; }, list));
    }
    return split_ == nullptr ? absl::OkStatus() : split_->Apply(list);
  }

 private:
  bool add_prefix_space_;
  std::unique_ptr<PreTokenizer> split_;
};

enum class PrependScheme { kAlways, kFirst, kNever };

class MetaspacePreTokenizer : public PreTokenizer {
 public:
  MetaspacePreTokenizer(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}

  absl::Status Apply(PieceList* list) const override {
    RETURN_IF_ERROR(ReplaceSpaces(list));
    const auto wants_prefix = [this](std::string_view piece, bool is_start) {
      const bool applies = scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && is_start);
      return applies && piece.substr(0, replacement_.size()) != replacement_;
    };
    RETURN_IF_ERROR(PrefixPieces(replacement_, wants_prefix, list));
    if (!split_) return absl::OkStatus();
    return SplitPreTokenizer(TextPattern::FromString(replacement_), SplitBehavior::kMergedWithNext, /*invert=*/false)
        .Apply(list);
  }

 private:
  absl::Status ReplaceSpaces(PieceList* list) const {
    AlignedText::Rewriter rewriter(list->text);
    for (PieceList::Piece& piece : list->pieces) {
      const std::string_view text = PieceText(*list, piece);
      const auto begin = static_cast<uint32_t>(rewriter.size());
      size_t done = 0;
      for (size_t at = text.find(' '); at != std::string_view::npos; at = text.find(' ', done)) {
        rewriter.Keep(piece.begin + done, piece.begin + at);
        rewriter.Replace(piece.begin + at, piece.begin + at + 1, replacement_);
        done = at + 1;
      }
      rewriter.Keep(piece.begin + done, piece.end);
      piece = {begin, static_cast<uint32_t>(rewriter.size())};
    }
    ASSIGN_OR_RETURN(list->text, std::move(rewriter).Finish());
    return absl::OkStatus();
  }

  std::string replacement_;
  PrependScheme scheme_;
  bool split_;
};

class SequencePreTokenizer : public PreTokenizer {
 public:
  explicit SequencePreTokenizer(std::vector<std::unique_ptr<PreTokenizer>> parts) : parts_(std::move(parts)) {}

  absl::Status Apply(PieceList* list) const override {
    for (const auto& part : parts_) RETURN_IF_ERROR(part->Apply(list));
    return absl::OkStatus();
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

absl::StatusOr<SplitBehavior> ParseBehavior(const Json& json, std::string_view what) {
  ASSIGN_OR_RETURN(const std::string name, JsonStringOr(json, "behavior", "Isolated"));
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return absl::UnimplementedError(StrCat("pre_tokenizer ", what, ": behavior \"", name, "\" is not supported"));
}

absl::StatusOr<ParsedPreTokenizer> Parse(const Json& json, int depth, int* num_parts);

absl::StatusOr<ParsedPreTokenizer> ParseSequence(const Json& json, int depth, int* num_parts) {
  const Json* list = JsonFind(json, "pretokenizers");
  if (list == nullptr || !list->is_array()) {
    return absl::InvalidArgumentError("pre_tokenizer Sequence has no list of pretokenizers");
  }
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  bool is_byte_level = false;
  for (const Json& item : *list) {
    if (is_byte_level) return absl::UnimplementedError("pre_tokenizer ByteLevel is supported only as the last one");
    ASSIGN_OR_RETURN(ParsedPreTokenizer part, Parse(item, depth + 1, num_parts));
    is_byte_level = part.is_byte_level;
    if (part.pre_tokenizer != nullptr) parts.push_back(std::move(part.pre_tokenizer));
  }
  return ParsedPreTokenizer{std::make_unique<SequencePreTokenizer>(std::move(parts)), is_byte_level};
}

absl::StatusOr<ParsedPreTokenizer> ParseByteLevel(const Json& json) {
  ASSIGN_OR_RETURN(const bool add_prefix_space, JsonBoolOr(json, "add_prefix_space", true));
  ASSIGN_OR_RETURN(const bool use_regex, JsonBoolOr(json, "use_regex", true));
  std::unique_ptr<PreTokenizer> split;
  if (use_regex) {
    ASSIGN_OR_RETURN(TextPattern pattern, TextPattern::FromRegex(kGpt2Pattern));
    split = std::make_unique<SplitPreTokenizer>(std::move(pattern), SplitBehavior::kIsolated, /*invert=*/false);
  }
  return ParsedPreTokenizer{std::make_unique<ByteLevelPreTokenizer>(add_prefix_space, std::move(split)), true};
}

absl::StatusOr<ParsedPreTokenizer> ParseMetaspace(const Json& json) {
  ASSIGN_OR_RETURN(std::string replacement, JsonStringOr(json, "replacement", "\xE2\x96\x81"));
  if (replacement.empty()) return absl::InvalidArgumentError("pre_tokenizer Metaspace has an empty replacement");
  ASSIGN_OR_RETURN(const bool add_prefix_space, JsonBoolOr(json, "add_prefix_space", true));
  ASSIGN_OR_RETURN(const std::string scheme,
                   JsonStringOr(json, "prepend_scheme", add_prefix_space ? "always" : "never"));
  ASSIGN_OR_RETURN(const bool split, JsonBoolOr(json, "split", true));
  PrependScheme parsed = PrependScheme::kAlways;
  if (scheme == "first") {
    parsed = PrependScheme::kFirst;
  } else if (scheme == "never") {
    parsed = PrependScheme::kNever;
  } else if (scheme != "always") {
    return absl::InvalidArgumentError(StrCat("pre_tokenizer Metaspace: prepend_scheme \"", scheme, "\" is unknown"));
  }
  return ParsedPreTokenizer{std::make_unique<MetaspacePreTokenizer>(std::move(replacement), parsed, split), false};
}

ParsedPreTokenizer SplitCharacters(std::function<bool(char32_t)> is_match, SplitBehavior behavior) {
  return {std::make_unique<CharacterSplit>(std::move(is_match), behavior), false};
}

absl::StatusOr<ParsedPreTokenizer> ParseCharDelimiter(const Json& json) {
  ASSIGN_OR_RETURN(const std::string delimiter, JsonStringOr(json, "delimiter", ""));
  size_t end = 0;
  const char32_t character = delimiter.empty() ? 0 : DecodeUtf8(delimiter, &end);
  if (delimiter.empty() || end != delimiter.size()) {
    return absl::InvalidArgumentError("pre_tokenizer CharDelimiterSplit: delimiter is not one character");
  }
  return SplitCharacters([character](char32_t c) { return c == character; }, SplitBehavior::kRemoved);
}

absl::StatusOr<ParsedPreTokenizer> ParseSplit(const Json& json) {
  ASSIGN_OR_RETURN(TextPattern pattern, TextPattern::Parse(json, "pre_tokenizer Split"));
  ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseBehavior(json, "Split"));
  ASSIGN_OR_RETURN(const bool invert, JsonBoolOr(json, "invert", false));
  return ParsedPreTokenizer{std::make_unique<SplitPreTokenizer>(std::move(pattern), behavior, invert), false};
}

// Drops blanks, then isolates punctuation.
ParsedPreTokenizer BertSplit() {
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  parts.push_back(std::make_unique<CharacterSplit>(IsWhitespace, SplitBehavior::kRemoved));
  parts.push_back(std::make_unique<CharacterSplit>(IsPunctuation, SplitBehavior::kIsolated));
  return {std::make_unique<SequencePreTokenizer>(std::move(parts)), false};
}

// `num_parts` counts all that have been read.
absl::StatusOr<ParsedPreTokenizer> Parse(const Json& json, int depth, int* num_parts) {
  if (json.is_null()) return ParsedPreTokenizer{};
  if (depth > kMaxDepth) return absl::InvalidArgumentError("pre_tokenizer is nested too deeply");
  if (++*num_parts > kMaxParts) {
    return absl::InvalidArgumentError(StrCat("pre_tokenizer has more than ", kMaxParts, " parts"));
  }
  ASSIGN_OR_RETURN(const std::string type, JsonStringOr(json, "type", ""));
  if (type == "Sequence") return ParseSequence(json, depth, num_parts);
  if (type == "Split") return ParseSplit(json);
  if (type == "ByteLevel") return ParseByteLevel(json);
  if (type == "Metaspace") return ParseMetaspace(json);
  if (type == "CharDelimiterSplit") return ParseCharDelimiter(json);
  if (type == "WhitespaceSplit") return SplitCharacters(IsWhitespace, SplitBehavior::kRemoved);
  if (type == "BertPreTokenizer") return BertSplit();
  if (type == "Digits") {
    ASSIGN_OR_RETURN(const bool individual, JsonBoolOr(json, "individual_digits", false));
    return SplitCharacters(IsNumeric, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
  }
  if (type == "Punctuation") {
    ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseBehavior(json, "Punctuation"));
    return SplitCharacters(IsPunctuation, behavior);
  }
  if (type == "Whitespace") {
    // \w+|[^\w\s]+ as the regex crate means it; Oniguruma's \w differs.
    constexpr std::string_view kWords = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}]+)"
                                        R"(|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}\s]+)";
    ASSIGN_OR_RETURN(TextPattern words, TextPattern::FromRegex(kWords));
    return ParsedPreTokenizer{
        std::make_unique<SplitPreTokenizer>(std::move(words), SplitBehavior::kRemoved, /*invert=*/true), false};
  }
  return absl::UnimplementedError(StrCat("pre_tokenizer type \"", type, "\" is not supported"));
}

}  // namespace

absl::StatusOr<ParsedPreTokenizer> ParsePreTokenizer(const Json& json) {
  int num_parts = 0;
  return Parse(json, 0, &num_parts);
}

}  // namespace expertd
