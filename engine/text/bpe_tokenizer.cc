// BPE tokenizers as the `tokenizers` package defines them: tokenizer.json, or the older pair vocab.json and merges.txt.
// The stages of a gap between added tokens: normalizer, added tokens that are matched in normalized text,
// pre-tokenizer, merging.
#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/bpe_model.h"
#include "engine/text/normalizer.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer_base.h"

namespace expertd {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // ▁
constexpr int kMaxSequenceParts = 64;
constexpr size_t kMaxTemplateTokens = 64;  // on either side of a text

// What a decoder makes of a piece may be longer than the piece by this much. Honest decoders shorten it.
constexpr size_t kMaxDecodedGrowth = 16;
constexpr size_t kMaxDecodedExtraBytes = 64;

// What a token contributes to text: the `decoder` part of tokenizer.json, which works token by token but for one blank
// in front of the whole text.
struct Decoder {
  struct Replacement {
    std::string from, to;

    // Stops once the result is longer than `max_bytes`.
    std::string Apply(std::string_view text, size_t max_bytes) const {
      std::string result;
      size_t done = 0;
      for (size_t at = text.find(from); at != text.npos && result.size() <= max_bytes; at = text.find(from, done)) {
        result.append(text.substr(done, at - done)).append(to);
        done = at + from.size();
      }
      return result.append(text.substr(done));
    }
  };
  bool is_byte_level = false;
  bool has_byte_pieces = false;
  std::vector<Replacement> replacements = {};
  bool strips_leading_space = false;

  // Error: InvalidArgument when the replacements make too much of the piece.
  absl::StatusOr<std::string> Bytes(const std::string& piece) const {
    if (is_byte_level) return FromByteLevelForm(piece).value_or(piece);
    if (has_byte_pieces) {
      if (const auto byte = ParseBytePiece(piece)) return std::string(1, static_cast<char>(*byte));
    }
    std::string bytes = piece;
    const size_t max_bytes = piece.size() * kMaxDecodedGrowth + kMaxDecodedExtraBytes;
    for (const Replacement& replacement : replacements) {
      bytes = replacement.Apply(bytes, max_bytes);
      if (bytes.size() > max_bytes) {
        return absl::InvalidArgumentError(StrCat("decoder makes ", bytes.size(), " bytes or more of a piece of ",
                                                 piece.size(), "; at most ", max_bytes));
      }
    }
    return bytes;
  }
};

struct BpeParts {
  BpeModel model;
  std::unique_ptr<Normalizer> normalizer;  // null: none
  ParsedPreTokenizer pre_tokenizer;
};

class BpeTokenizer final : public TokenizerBase {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(BpeParts parts, TokenTable table) {
    std::vector<AddedToken> raw, normalized;
    for (const AddedToken& token : table.added_tokens()) {
      (token.normalized && parts.normalizer != nullptr ? normalized : raw).push_back(token);
    }
    auto tokenizer = std::unique_ptr<BpeTokenizer>(new BpeTokenizer(std::move(parts), std::move(table), raw));
    for (const AddedToken& token : normalized) {
      AlignedText content(token.content, 0, /*keep_offsets=*/false);
      RETURN_IF_ERROR(tokenizer->parts_.normalizer->Apply(&content));
      tokenizer->normalized_matchers_.Add(content.text(), token);
    }
    return tokenizer;
  }

 private:
  BpeTokenizer(BpeParts parts, TokenTable table, const std::vector<AddedToken>& raw_added)
      : TokenizerBase(std::move(table), raw_added), parts_(std::move(parts)) {}

  absl::Status EncodeGap(std::string_view gap, size_t origin, const EncodeOptions& options,
                         EncodingSink* sink) const override {
    AlignedText text(gap, origin, sink->keep_offsets());
    if (parts_.normalizer != nullptr) RETURN_IF_ERROR(parts_.normalizer->Apply(&text));
    const AddedTokenMatcher& matcher = normalized_matchers_.For(options);
    if (matcher.empty()) return EncodeStretch(std::move(text), origin == 0, sink);
    for (const AddedTokenMatcher::Part& part : matcher.Split(text.text())) {
      if (part.id) {
        sink->Add(*part.id, text.OriginalRange(part.range.begin, part.range.end));
        continue;
      }
      AlignedText::Rewriter rewriter(text);
      rewriter.Keep(part.range.begin, part.range.end);
      ASSIGN_OR_RETURN(AlignedText stretch, std::move(rewriter).Finish());
      RETURN_IF_ERROR(EncodeStretch(std::move(stretch), origin == 0 && part.range.begin == 0, sink));
    }
    return absl::OkStatus();
  }

  // Normalized text without added tokens.
  absl::Status EncodeStretch(AlignedText text, bool is_whole_text_start, EncodingSink* sink) const {
    const size_t size = text.text().size();
    if (size == 0) return absl::OkStatus();
    PieceList list{std::move(text), {{0, static_cast<uint32_t>(size)}}, is_whole_text_start};
    if (const PreTokenizer* pre_tokenizer = parts_.pre_tokenizer.pre_tokenizer.get()) {
      RETURN_IF_ERROR(pre_tokenizer->Apply(&list));
    }
    const BpeModel::ScratchPtr scratch = BpeModel::MakeScratch();
    std::vector<ModelToken> tokens;
    for (const PieceList::Piece piece : list.pieces) {
      tokens.clear();
      parts_.model.Encode(list.text.text().substr(piece.begin, piece.end - piece.begin), scratch.get(), &tokens);
      size_t at = piece.begin;
      for (const ModelToken& token : tokens) {
        sink->Add(token.id, sink->keep_offsets() ? list.text.OriginalRange(at, at + token.num_bytes) : ByteRange{});
        at += token.num_bytes;
      }
    }
    return absl::OkStatus();
  }

  BpeParts parts_;
  MatcherPair normalized_matchers_;
};

// One part of a decoder. `is_fused`: whether tokens have been joined before this part.
absl::Status ParseDecoderPart(const Json& json, Decoder* decoder, bool* is_fused) {
  ASSIGN_OR_RETURN(const std::string type, JsonStringOr(json, "type", ""));
  if (type == "ByteLevel") {
    decoder->is_byte_level = true;
  } else if (type == "ByteFallback") {
    decoder->has_byte_pieces = true;
  } else if (type == "Fuse") {
    *is_fused = true;
  } else if (type == "Replace") {
    const Json* pattern = JsonFind(json, "pattern");
    ASSIGN_OR_RETURN(std::string from, JsonStringOr(pattern == nullptr ? Json::object() : *pattern, "String", ""));
    ASSIGN_OR_RETURN(std::string to, JsonStringOr(json, "content", ""));
    if (from.empty() || *is_fused)
      return absl::UnimplementedError("decoder Replace is supported only for strings in tokens");
    decoder->replacements.push_back({std::move(from), std::move(to)});
  } else if (type == "Strip") {
    ASSIGN_OR_RETURN(const std::string content, JsonStringOr(json, "content", " "));
    ASSIGN_OR_RETURN(const int64_t start, JsonIntOr(json, "start", 0, 0, INT32_MAX));
    ASSIGN_OR_RETURN(const int64_t stop, JsonIntOr(json, "stop", 0, 0, INT32_MAX));
    if (content != " " || start > 1 || stop != 0 || !*is_fused) {
      return absl::UnimplementedError("decoder Strip is supported only for one blank in front of the fused text");
    }
    decoder->strips_leading_space = start == 1;
  } else if (type == "Metaspace") {
    ASSIGN_OR_RETURN(std::string replacement, JsonStringOr(json, "replacement", kMetaspace));
    if (replacement.empty()) return absl::InvalidArgumentError("decoder Metaspace has an empty replacement");
    ASSIGN_OR_RETURN(const bool add_prefix_space, JsonBoolOr(json, "add_prefix_space", true));
    ASSIGN_OR_RETURN(const std::string scheme,
                     JsonStringOr(json, "prepend_scheme", add_prefix_space ? "always" : "never"));
    decoder->replacements.push_back({std::move(replacement), " "});
    decoder->strips_leading_space = scheme != "never";
  } else {
    return absl::UnimplementedError(StrCat("decoder type \"", type, "\" is not supported"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Decoder> ParseDecoder(const Json* json) {
  if (json == nullptr) return absl::UnimplementedError("decoder null is not supported");
  Decoder decoder;
  bool is_fused = false;
  ASSIGN_OR_RETURN(const std::string type, JsonStringOr(*json, "type", ""));
  if (type != "Sequence") {
    RETURN_IF_ERROR(ParseDecoderPart(*json, &decoder, &is_fused));
    return decoder;
  }
  const Json* parts = JsonFind(*json, "decoders");
  if (parts == nullptr || !parts->is_array() || parts->size() > kMaxSequenceParts) {
    return absl::InvalidArgumentError("decoder Sequence has no list of decoders, or too many");
  }
  for (const Json& part : *parts) RETURN_IF_ERROR(ParseDecoderPart(part, &decoder, &is_fused));
  return decoder;
}

// Ids of {"SpecialToken": {"id": "<s>"}} by the template's own table, else by the vocabulary.
absl::StatusOr<std::vector<TokenId>> TemplateIds(const Json& processor, const std::string& name,
                                                 const TokenTable& table) {
  const Json* specials = JsonFind(processor, "special_tokens");
  const Json* special = specials == nullptr ? nullptr : JsonFind(*specials, name);
  const Json* ids = special == nullptr ? nullptr : JsonFind(*special, "ids");
  std::vector<TokenId> result;
  if (ids == nullptr || !ids->is_array()) {
    const std::optional<TokenId> id = table.FindId(name);
    if (!id) return absl::InvalidArgumentError(StrCat("post_processor names the unknown token \"", name, "\""));
    result.push_back(*id);
    return result;
  }
  for (const Json& id : *ids) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= table.size()) {
      return absl::InvalidArgumentError(StrCat("post_processor gives \"", name, "\" an id outside the vocabulary"));
    }
    result.push_back(static_cast<TokenId>(id.get<int64_t>()));
  }
  return result;
}

absl::Status ParseTemplate(const Json& json, TokenTable* table) {
  const Json* items = JsonFind(json, "single");
  if (items == nullptr || !items->is_array()) {
    return absl::InvalidArgumentError("post_processor TemplateProcessing has no list `single`");
  }
  std::vector<TokenId> prefix, suffix;
  int num_sequences = 0;
  for (const Json& item : *items) {
    if (JsonFind(item, "Sequence") != nullptr) {
      ++num_sequences;
      continue;
    }
    const Json* special = JsonFind(item, "SpecialToken");
    if (special == nullptr) return absl::InvalidArgumentError("post_processor TemplateProcessing has an unknown item");
    ASSIGN_OR_RETURN(const std::string name, JsonStringOr(*special, "id", ""));
    ASSIGN_OR_RETURN(const std::vector<TokenId> ids, TemplateIds(json, name, *table));
    std::vector<TokenId>& side = num_sequences == 0 ? prefix : suffix;
    if (side.size() + ids.size() > kMaxTemplateTokens) {
      return absl::InvalidArgumentError(
          StrCat("post_processor TemplateProcessing puts more than ", kMaxTemplateTokens, " tokens beside a text"));
    }
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (num_sequences != 1) {
    return absl::InvalidArgumentError(
        StrCat("post_processor TemplateProcessing has ", num_sequences, " sequences; must be 1"));
  }
  table->prefix.insert(table->prefix.begin(), prefix.begin(), prefix.end());
  table->suffix.insert(table->suffix.end(), suffix.begin(), suffix.end());
  return absl::OkStatus();
}

absl::Status ParsePostProcessor(const Json* json, int depth, TokenTable* table) {
  if (json == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string type, JsonStringOr(*json, "type", ""));
  if (type == "ByteLevel") return absl::OkStatus();  // changes offsets only
  if (type == "TemplateProcessing") return ParseTemplate(*json, table);
  const Json* parts = JsonFind(*json, "processors");
  if (type != "Sequence" || depth > 0) {
    return absl::UnimplementedError(StrCat("post_processor type \"", type, "\" is not supported here"));
  }
  if (parts == nullptr || !parts->is_array() || parts->size() > kMaxSequenceParts) {
    return absl::InvalidArgumentError("post_processor Sequence has no list of processors, or too many");
  }
  for (const Json& part : *parts) RETURN_IF_ERROR(ParsePostProcessor(&part, depth + 1, table));
  return absl::OkStatus();
}

absl::StatusOr<BpeModel::Merges> ParseMerges(const Json* json) {
  if (json == nullptr || !json->is_array()) return absl::InvalidArgumentError("model has no list of merges");
  BpeModel::Merges merges;
  merges.reserve(json->size());
  for (const Json& item : *json) {
    if (item.is_array() && item.size() == 2 && item[0].is_string() && item[1].is_string()) {
      merges.emplace_back(item[0].get<std::string>(), item[1].get<std::string>());
      continue;
    }
    const std::string text = item.is_string() ? item.get<std::string>() : "";
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      return absl::InvalidArgumentError(StrCat("merge ", merges.size(), " is not two pieces"));
    }
    merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return merges;
}

absl::StatusOr<BpeModel> ParseModel(const Json& json, bool is_byte_level) {
  ASSIGN_OR_RETURN(const std::string type, JsonStringOr(json, "type", "BPE"));
  if (type != "BPE") return absl::UnimplementedError(StrCat("model type \"", type, "\" is not supported; must be BPE"));
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    ASSIGN_OR_RETURN(const std::string value, JsonStringOr(json, key, ""));
    if (!value.empty())
      return absl::UnimplementedError(StrCat("model.", key, " is \"", value, "\"; only none is supported"));
  }
  BpeOptions options{.is_byte_level = is_byte_level};
  ASSIGN_OR_RETURN(options.ignore_merges, JsonBoolOr(json, "ignore_merges", false));
  ASSIGN_OR_RETURN(options.byte_fallback, JsonBoolOr(json, "byte_fallback", false));
  ASSIGN_OR_RETURN(options.fuse_unk, JsonBoolOr(json, "fuse_unk", false));
  ASSIGN_OR_RETURN(const std::string unk, JsonStringOr(json, "unk_token", ""));
  if (!unk.empty()) options.unk_token = unk;
  const Json* vocab = JsonFind(json, "vocab");
  if (vocab == nullptr) return absl::InvalidArgumentError("model has no vocab");
  ASSIGN_OR_RETURN(BpeModel::Vocabulary vocabulary, ParseVocabulary(*vocab));
  ASSIGN_OR_RETURN(const BpeModel::Merges merges, ParseMerges(JsonFind(json, "merges")));
  return BpeModel::Create(std::move(vocabulary), merges, options);
}

absl::StatusOr<TokenTable> MakeTable(const BpeModel& model, const Decoder& decoder) {
  TokenTable table(model.size());
  for (TokenId id = 0; id < model.size(); ++id) {
    const std::string piece(model.piece(id));
    ASSIGN_OR_RETURN(const std::string bytes, decoder.Bytes(piece));
    table.SetPiece(id, piece, bytes);
  }
  table.strips_leading_space = decoder.strips_leading_space;
  return table;
}

// add_bos_token and add_eos_token overrule the post-processor where the folder gives them.
void ApplyBosAndEos(const TokenizerSettings& settings, TokenTable* table) {
  const auto set = [](const std::optional<bool>& wanted, const std::optional<TokenId>& id, std::vector<TokenId>* side) {
    if (!wanted || !id) return;
    side->erase(std::remove(side->begin(), side->end(), *id), side->end());
    if (*wanted) side->push_back(*id);
  };
  set(settings.add_bos_token, table->bos, &table->prefix);
  set(settings.add_eos_token, table->eos, &table->suffix);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> BuildFromJson(const std::string& text, const TokenizerSettings& settings) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text));
  const Json null;
  const auto part = [&](std::string_view key) -> const Json& {
    const Json* value = JsonFind(json, key);
    return value == nullptr ? null : *value;
  };
  const Json& model_json = part("model");
  if (!model_json.is_object()) return absl::InvalidArgumentError("there is no model");
  ASSIGN_OR_RETURN(std::unique_ptr<Normalizer> normalizer, ParseNormalizer(part("normalizer")));
  ASSIGN_OR_RETURN(ParsedPreTokenizer pre_tokenizer, ParsePreTokenizer(part("pre_tokenizer")));
  ASSIGN_OR_RETURN(BpeModel model, ParseModel(model_json, pre_tokenizer.is_byte_level));
  ASSIGN_OR_RETURN(const Decoder decoder, ParseDecoder(JsonFind(json, "decoder")));
  ASSIGN_OR_RETURN(TokenTable table, MakeTable(model, decoder));
  if (const Json* unk = JsonFind(model_json, "unk_token"); unk != nullptr && unk->is_string()) {
    table.unk = table.FindId(unk->get<std::string>());
  }
  if (const Json& added = part("added_tokens"); added.is_array()) {
    for (const Json& item : added) {
      ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(item));
      if (JsonFind(item, "id") == nullptr)
        return absl::InvalidArgumentError(StrCat("added token \"", token.content, "\" has no id"));
      RETURN_IF_ERROR(table.SetAdded(token));
    }
  }
  RETURN_IF_ERROR(table.Apply(settings));
  RETURN_IF_ERROR(ParsePostProcessor(JsonFind(json, "post_processor"), /*depth=*/0, &table));
  ApplyBosAndEos(settings, &table);
  return BpeTokenizer::Create({std::move(model), std::move(normalizer), std::move(pre_tokenizer)}, std::move(table));
}

// The stages that the classes of the older folders have built in.
absl::StatusOr<BpeParts> PartsOfClass(const TokenizerSettings& settings, BpeModel model) {
  const std::string_view name = settings.tokenizer_class;
  if (name.empty() || name.substr(0, 5) == "Qwen2") {
    const Json split = {{"type", "Split"}, {"pattern", {{"Regex", kQwen2Pattern}}}, {"behavior", "Isolated"}};
    const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    const Json sequence = {{"type", "Sequence"}, {"pretokenizers", Json::array({split, bytes})}};
    ASSIGN_OR_RETURN(ParsedPreTokenizer pre_tokenizer, ParsePreTokenizer(sequence));
    return BpeParts{std::move(model), MakeNfcNormalizer(), std::move(pre_tokenizer)};
  }
  if (name.substr(0, 4) == "GPT2") {
    const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", settings.add_prefix_space.value_or(false)}};
    ASSIGN_OR_RETURN(ParsedPreTokenizer pre_tokenizer, ParsePreTokenizer(bytes));
    return BpeParts{std::move(model), nullptr, std::move(pre_tokenizer)};
  }
  return absl::UnimplementedError(StrCat("tokenizer_class ", name, " needs a tokenizer.json"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const std::string& model_dir) {
  const std::string path = StrCat(model_dir, "/tokenizer.json");
  ASSIGN_OR_RETURN(const TokenizerSettings settings, ReadTokenizerSettings(model_dir));
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = BuildFromJson(text, settings);
  if (!tokenizer.ok()) return Annotate(path, tokenizer.status());
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadVocabAndMerges(const std::string& model_dir) {
  const std::string vocab_path = StrCat(model_dir, "/vocab.json"), merges_path = StrCat(model_dir, "/merges.txt");
  ASSIGN_OR_RETURN(const TokenizerSettings settings, ReadTokenizerSettings(model_dir));
  ASSIGN_OR_RETURN(const Json vocab, ReadJsonFile(vocab_path));
  ASSIGN_OR_RETURN(const std::string merges_text, ReadTextFile(merges_path));
  absl::StatusOr<BpeModel::Vocabulary> vocabulary = ParseVocabulary(vocab);
  if (!vocabulary.ok()) return Annotate(vocab_path, vocabulary.status());
  absl::StatusOr<BpeModel::Merges> merges = ParseMergesText(merges_text);
  if (!merges.ok()) return Annotate(merges_path, merges.status());
  absl::StatusOr<BpeModel> model = BpeModel::Create(*std::move(vocabulary), *merges, {.is_byte_level = true});
  if (!model.ok()) return Annotate(model_dir, model.status());
  ASSIGN_OR_RETURN(TokenTable table, MakeTable(*model, Decoder{.is_byte_level = true}));
  RETURN_IF_ERROR(Annotate(model_dir, table.Apply(settings)));
  ApplyBosAndEos(settings, &table);
  absl::StatusOr<BpeParts> parts = PartsOfClass(settings, *std::move(model));
  if (!parts.ok()) return Annotate(model_dir, parts.status());
  return BpeTokenizer::Create(*std::move(parts), std::move(table));
}

}  // namespace expertd
