// PanGu-alpha's tokenizer (vocab.model): jieba separates the words, a blank becomes ▂ and a newline ▃, and
// sentencepiece (unigram, NFKC) encodes the words with a space between each two. Decoding drops all spaces, so every id
// stands for the same text wherever it is, and output streams without any state. Nothing is put round a text.
#include <utility>

#include "absl/status/status.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/aligned_text.h"
#include "engine/text/jieba.h"
#include "engine/text/sentencepiece_engine.h"
#include "engine/text/sentencepiece_model.h"
#include "engine/text/tokenizer_base.h"

namespace expertd {
namespace {

constexpr std::string_view kWordSpace = "\xE2\x96\x81";  // ▁, sentencepiece's own
constexpr std::string_view kBlank = "\xE2\x96\x82";      // ▂
constexpr std::string_view kNewline = "\xE2\x96\x83";    // ▃
constexpr std::string_view kUnknownText = "\xE2\x81\x87";  // ⁇, as sentencepiece writes it
constexpr std::string_view kEndOfText = "<eot>", kPadding = "<pad>";

using PieceType = SentencePieceModel::PieceType;

class PanguAlphaTokenizer final : public TokenizerBase {
 public:
  PanguAlphaTokenizer(TokenTable table, const std::vector<AddedToken>& added_tokens, Jieba jieba,
                      std::unique_ptr<SentencePieceEngine> engine)
      : TokenizerBase(std::move(table), added_tokens), jieba_(std::move(jieba)), engine_(std::move(engine)) {}

 private:
  absl::Status EncodeGap(std::string_view gap, size_t origin, const EncodeOptions&, EncodingSink* sink) const override {
    ASSIGN_OR_RETURN(const AlignedText words, SeparateWords(gap, origin, sink->keep_offsets()));
    std::vector<SentencePieceEngine::Item> items;
    std::string error;
    if (!engine_->Encode(words.text(), sink->keep_offsets(), &items, &error)) {
      return absl::InternalError(StrCat("sentencepiece: ", error));
    }
    for (const auto& item : items) sink->Add(item.id, words.OriginalRange(item.begin, item.end));
    return absl::OkStatus();
  }

  // The words with a space between each two, blanks and newlines as the vocabulary writes them.
  absl::StatusOr<AlignedText> SeparateWords(std::string_view text, size_t origin, bool keep_offsets) const {
    const AlignedText original(text, origin, keep_offsets);
    AlignedText::Rewriter rewriter(original);
    uint32_t begin = 0;
    for (const uint32_t end : jieba_.WordEnds(text)) {
      if (begin > 0) rewriter.Replace(begin, begin, " ");
      // A blank is a word of its own, and a newline ends one: "\n" or "\r\n".
      const char last = text[end - 1];
      rewriter.Keep(begin, last == ' ' || last == '\n' ? end - 1 : end);
      if (last == ' ') rewriter.Replace(end - 1, end, kBlank);
      if (last == '\n') rewriter.Replace(end - 1, end, kNewline);
      begin = end;
    }
    return std::move(rewriter).Finish();
  }

  Jieba jieba_;
  std::unique_ptr<SentencePieceEngine> engine_;
};

std::string Replaced(std::string_view text, std::string_view symbol, std::string_view replacement) {
  std::string result;
  for (size_t at = text.find(symbol); at != std::string_view::npos; at = text.find(symbol)) {
    StrAppend(&result, text.substr(0, at), replacement);
    text.remove_prefix(at + symbol.size());
  }
  return result.append(text);
}

std::string PieceBytes(const SentencePieceModel::Piece& piece) {
  if (piece.type == PieceType::kControl) return "";
  if (piece.type == PieceType::kUnknown) return std::string(kUnknownText);
  return Replaced(Replaced(Replaced(Replaced(piece.text, kWordSpace, ""), " ", ""), kBlank, " "), kNewline, "\n");
}

absl::StatusOr<TokenTable> MakeTable(const SentencePieceModel& model, const TokenizerSettings& settings) {
  TokenTable table(static_cast<int>(model.pieces.size()));
  for (TokenId id = 0; id < table.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[static_cast<size_t>(id)];
    if (piece.type == PieceType::kByte) {
      return absl::UnimplementedError("a model with byte pieces is not supported behind jieba");
    }
    table.SetPiece(id, piece.text, PieceBytes(piece));
    if (piece.type == PieceType::kUnknown) table.unk = id;
  }
  // What ends a text isn't shown; the original program cuts it off. Other symbols show themselves.
  table.eos = table.FindId(kEndOfText);
  table.pad = table.FindId(kPadding);
  if (table.eos) table.SetSpecial(*table.eos);
  for (const AddedToken& token : settings.added_tokens) RETURN_IF_ERROR(table.SetAdded(token));
  return table;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Build(const std::string& serialized, const TokenizerSettings& settings,
                                                 Jieba jieba) {
  ASSIGN_OR_RETURN(const SentencePieceModel model, ParseSentencePieceModel(serialized));
  ASSIGN_OR_RETURN(TokenTable table, MakeTable(model, settings));
  std::string error;
  std::unique_ptr<SentencePieceEngine> engine = SentencePieceEngine::Load(serialized, &error);
  if (engine == nullptr) return absl::InvalidArgumentError(StrCat("sentencepiece: ", error));
  return std::make_unique<PanguAlphaTokenizer>(std::move(table), settings.added_tokens, std::move(jieba),
                                               std::move(engine));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadPanguAlpha(const std::string& model_dir,
                                                          const std::string& jieba_dict) {
  const std::string path = StrCat(model_dir, "/vocab.model");
  ASSIGN_OR_RETURN(const TokenizerSettings settings, ReadTokenizerSettings(model_dir));
  ASSIGN_OR_RETURN(const std::string serialized, ReadTextFile(path));
  ASSIGN_OR_RETURN(const JiebaFiles files, FindJiebaFiles(model_dir, jieba_dict));
  ASSIGN_OR_RETURN(Jieba jieba, Jieba::Load(files));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Build(serialized, settings, std::move(jieba));
  if (!tokenizer.ok()) return Annotate(path, tokenizer.status());
  return tokenizer;
}

}  // namespace expertd
