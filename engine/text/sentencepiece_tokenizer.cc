// Sentencepiece tokenizers (tokenizer.model) as the slow Llama-like classes of `transformers` use them: added tokens
// are split out first, and each gap between them is encoded on its own, with a dummy space of its own. The library
// encodes; what a token contributes to text is known here piece by piece, so that output can be streamed.
#include <utility>

#include "absl/status/status.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/bpe_model.h"
#include "engine/text/sentencepiece_engine.h"
#include "engine/text/sentencepiece_model.h"
#include "engine/text/tokenizer_base.h"

namespace expertd {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // ▁

using PieceType = SentencePieceModel::PieceType;

class SentencePieceTokenizer final : public TokenizerBase {
 public:
  // `later_engine` encodes gaps behind added tokens; null: `engine` does.
  SentencePieceTokenizer(TokenTable table, std::unique_ptr<SentencePieceEngine> engine,
                         std::unique_ptr<SentencePieceEngine> later_engine)
      : TokenizerBase(table, table.added_tokens()),
        engine_(std::move(engine)),
        later_engine_(std::move(later_engine)) {}

 private:
  absl::Status EncodeGap(std::string_view gap, size_t origin, const EncodeOptions&, EncodingSink* sink) const override {
    const SentencePieceEngine& engine = origin > 0 && later_engine_ != nullptr ? *later_engine_ : *engine_;
    std::vector<SentencePieceEngine::Item> items;
    std::string error;
    if (!engine.Encode(gap, sink->keep_offsets(), &items, &error)) {
      return absl::InternalError(StrCat("sentencepiece: ", error));
    }
    for (const auto& item : items) sink->Add(item.id, {origin + item.begin, origin + item.end});
    return absl::OkStatus();
  }

  std::unique_ptr<SentencePieceEngine> engine_, later_engine_;
};

std::string PieceBytes(const SentencePieceModel::Piece& piece) {
  if (piece.type == PieceType::kByte) return std::string(1, static_cast<char>(*ParseBytePiece(piece.text)));
  if (piece.type == PieceType::kControl || piece.type == PieceType::kUnknown) return piece.text;
  std::string bytes;
  std::string_view rest = piece.text;
  for (size_t at = rest.find(kSpaceSymbol); at != std::string_view::npos; at = rest.find(kSpaceSymbol)) {
    StrAppend(&bytes, rest.substr(0, at), " ");
    rest.remove_prefix(at + kSpaceSymbol.size());
  }
  return bytes.append(rest);
}

absl::StatusOr<TokenTable> MakeTable(const SentencePieceModel& model, const TokenizerSettings& settings) {
  TokenTable table(static_cast<int>(model.pieces.size()));
  const auto role_of = [&](std::string_view name, PieceType type, TokenId id) {
    const SentencePieceModel::Piece& piece = model.pieces[static_cast<size_t>(id)];
    return piece.type == type && piece.text == name;
  };
  for (TokenId id = 0; id < table.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[static_cast<size_t>(id)];
    table.SetPiece(id, piece.text, PieceBytes(piece));
    if (role_of(model.bos_piece, PieceType::kControl, id)) table.bos = id;
    if (role_of(model.eos_piece, PieceType::kControl, id)) table.eos = id;
    if (role_of(model.pad_piece, PieceType::kControl, id)) table.pad = id;
    if (piece.type == PieceType::kUnknown) table.unk = id;
    if (piece.type == PieceType::kControl) table.SetSpecial(id);
  }
  // The library's unknown, begin and end are special tokens in the text too, unless the folder says otherwise.
  for (const std::optional<TokenId> id : {table.unk, table.bos, table.eos}) {
    if (!id) continue;
    RETURN_IF_ERROR(
        table.SetAdded({.id = *id, .content = model.pieces[static_cast<size_t>(*id)].text, .special = true}));
  }
  RETURN_IF_ERROR(table.Apply(settings));
  if (settings.add_bos_token.value_or(true) && table.bos) table.prefix.push_back(*table.bos);
  if (settings.add_eos_token.value_or(false) && table.eos) table.suffix.push_back(*table.eos);
  table.strips_leading_space = model.add_dummy_prefix || model.remove_extra_whitespaces;
  table.strips_every_leading_space = model.remove_extra_whitespaces;
  table.restarts_behind_added = settings.legacy.value_or(true);
  return table;
}

absl::StatusOr<std::unique_ptr<SentencePieceEngine>> LoadEngine(const std::string& serialized) {
  std::string error;
  std::unique_ptr<SentencePieceEngine> engine = SentencePieceEngine::Load(serialized, &error);
  if (engine == nullptr) return absl::InvalidArgumentError(StrCat("sentencepiece: ", error));
  return engine;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Build(const std::string& serialized, const TokenizerSettings& settings) {
  ASSIGN_OR_RETURN(const SentencePieceModel model, ParseSentencePieceModel(serialized));
  ASSIGN_OR_RETURN(TokenTable table, MakeTable(model, settings));
  ASSIGN_OR_RETURN(std::unique_ptr<SentencePieceEngine> engine, LoadEngine(serialized));
  std::unique_ptr<SentencePieceEngine> later_engine;
  if (!settings.legacy.value_or(true) && model.add_dummy_prefix) {
    ASSIGN_OR_RETURN(later_engine, LoadEngine(WithoutDummyPrefix(serialized)));
  }
  return std::make_unique<SentencePieceTokenizer>(std::move(table), std::move(engine), std::move(later_engine));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadSentencePiece(const std::string& model_dir) {
  const std::string path = StrCat(model_dir, "/tokenizer.model");
  ASSIGN_OR_RETURN(const TokenizerSettings settings, ReadTokenizerSettings(model_dir));
  ASSIGN_OR_RETURN(const std::string serialized, ReadTextFile(path));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Build(serialized, settings);
  if (!tokenizer.ok()) return Annotate(path, tokenizer.status());
  return tokenizer;
}

}  // namespace expertd
