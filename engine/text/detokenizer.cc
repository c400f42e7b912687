#include "engine/text/detokenizer.h"

#include <algorithm>
#include <utility>

#include "engine/text/unicode.h"

namespace expertd {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens, std::vector<TokenId> kept)
    : tokenizer_(&tokenizer),
      skip_special_tokens_(skip_special_tokens),
      kept_(std::move(kept)),
      strip_next_space_(tokenizer.strips_leading_space()) {}

void Detokenizer::ContinueAfter(TokenId id) {
  // Behind special tokens a text begins anew.
  const bool begins = tokenizer_->IsSpecial(id) || tokenizer_->RestartsText(id);
  strip_next_space_ = begins && tokenizer_->strips_leading_space();
}

std::string Detokenizer::Append(TokenId id) {
  const bool is_dropped = skip_special_tokens_ && tokenizer_->IsSpecial(id);
  if (is_dropped && std::find(kept_.begin(), kept_.end(), id) == kept_.end()) return "";
  std::string_view bytes = tokenizer_->TokenBytes(id);
  if (bytes.empty()) return "";
  if (strip_next_space_ && bytes[0] == ' ') bytes.remove_prefix(1);
  const bool is_still_at_start = strip_next_space_ && bytes.empty() && tokenizer_->strips_every_leading_space();
  strip_next_space_ = is_still_at_start || (tokenizer_->strips_leading_space() && tokenizer_->RestartsText(id));
  pending_.append(bytes);

  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Scan scan = ScanUtf8(rest);
    if (scan.kind == Utf8Scan::Kind::kIncomplete) break;
    text.append(scan.kind == Utf8Scan::Kind::kComplete ? rest.substr(0, scan.num_bytes) : kReplacementCharacter);
    rest.remove_prefix(scan.num_bytes);
  }
  pending_ = std::string(rest);
  return text;
}

std::string Detokenizer::Flush() {
  std::string text(pending_.empty() ? std::string_view() : kReplacementCharacter);
  pending_.clear();
  strip_next_space_ = tokenizer_->strips_leading_space();
  return text;
}

}  // namespace expertd
