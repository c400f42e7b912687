#include "engine/text/tokenizer.h"

#include "absl/status/status.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer_base.h"

namespace expertd {

std::string Tokenizer::Decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  Detokenizer detokenizer(*this, skip_special_tokens);
  std::string text;
  for (const TokenId id : ids) text += detokenizer.Append(id);
  text += detokenizer.Flush();
  return text;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& model_dir, const std::string& jieba_dict) {
  const bool has_sentencepiece = FileExists(model_dir + "/tokenizer.model");
  if (FileExists(model_dir + "/tokenizer.json")) {
    absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizerJson(model_dir);
    // A unigram tokenizer.json is the converted form of the sentencepiece model beside it.
    if (tokenizer.ok() || !absl::IsUnimplemented(tokenizer.status()) || !has_sentencepiece) return tokenizer;
  }
  if (has_sentencepiece) return LoadSentencePiece(model_dir);
  if (FileExists(model_dir + "/vocab.json") && FileExists(model_dir + "/merges.txt"))
    return LoadVocabAndMerges(model_dir);
  if (FileExists(model_dir + "/vocab.model")) return LoadPanguAlpha(model_dir, jieba_dict);
  return absl::NotFoundError(StrCat(model_dir, " has no tokenizer: neither tokenizer.json nor tokenizer.model nor ",
                                    "vocab.json with merges.txt nor vocab.model"));
}

}  // namespace expertd
