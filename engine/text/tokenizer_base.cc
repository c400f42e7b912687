#include "engine/text/tokenizer_base.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/unicode.h"

namespace expertd {
namespace {

// Keeps every offset in a text within 32 bits.
constexpr size_t kMaxTextBytes = size_t{256} << 20;
// Of an added token: at each place of a text as many bytes may be compared.
constexpr size_t kMaxAddedTokenBytes = 1024;

}  // namespace

void TokenTable::SetPiece(TokenId id, std::string_view text, std::string_view bytes) {
  Entry& entry = entries_[static_cast<size_t>(id)];
  entry.text = text;
  entry.bytes = bytes;
  if (!text.empty()) ids_.emplace(std::string(text), id);
}

absl::Status TokenTable::SetAdded(const AddedToken& token) {
  if (token.id < 0 || token.id > kMaxTokenId) {
    return absl::InvalidArgumentError(
        StrCat("id of added token \"", token.content, "\" is ", token.id, "; must be 0..", kMaxTokenId));
  }
  if (token.content.size() > kMaxAddedTokenBytes) {
    return absl::InvalidArgumentError(
        StrCat("added token ", token.id, " has ", token.content.size(), " bytes; at most ", kMaxAddedTokenBytes));
  }
  if (const auto it = ids_.find(token.content); it != ids_.end() && it->second != token.id) {
    return absl::InvalidArgumentError(
        StrCat("added token \"", token.content, "\" has the ids ", it->second, " and ", token.id));
  }
  if (token.id >= size()) entries_.resize(static_cast<size_t>(token.id) + 1);
  Entry& entry = entries_[static_cast<size_t>(token.id)];
  if (!entry.text.empty() && entry.text != token.content) {
    return absl::InvalidArgumentError(
        StrCat("id ", token.id, " belongs to both \"", entry.text, "\" and the added token \"", token.content, "\""));
  }
  ids_.emplace(token.content, token.id);
  const auto [place, is_new] = added_places_.try_emplace(token.id, added_tokens_.size());
  if (is_new) {
    added_tokens_.push_back(token);
  } else {
    added_tokens_[place->second] = token;
  }
  entry = {token.content, token.content, token.special, /*is_added=*/true};
  return absl::OkStatus();
}

absl::Status TokenTable::Apply(const TokenizerSettings& settings) {
  for (const AddedToken& token : settings.added_tokens) RETURN_IF_ERROR(SetAdded(token));
  for (const std::string& content : settings.special_contents) {
    const std::optional<TokenId> id = FindId(content);
    if (!id) continue;
    const auto place = added_places_.find(*id);
    AddedToken token =
        place == added_places_.end() ? AddedToken{.id = *id, .content = content} : added_tokens_[place->second];
    token.special = true;
    RETURN_IF_ERROR(SetAdded(token));
  }
  const auto role = [this](const std::optional<std::string>& content) {
    return content ? FindId(*content) : std::nullopt;
  };
  if (settings.bos) bos = role(settings.bos);
  if (settings.eos) eos = role(settings.eos);
  if (settings.unk) unk = role(settings.unk);
  if (settings.pad) pad = role(settings.pad);
  return absl::OkStatus();
}

const TokenTable::Entry* TokenTable::Find(TokenId id) const {
  return id < 0 || id >= size() ? nullptr : &entries_[static_cast<size_t>(id)];
}

std::optional<TokenId> TokenTable::FindId(std::string_view text) const {
  const auto it = ids_.find(ToAbslView(text));
  return it == ids_.end() ? std::nullopt : std::optional<TokenId>(it->second);
}

void TokenizerBase::MatcherPair::Add(std::string_view text, const AddedToken& token) {
  all.Add(text, token);
  if (!token.special) not_special.Add(text, token);
}

TokenizerBase::TokenizerBase(TokenTable table, const std::vector<AddedToken>& raw_added) : table_(std::move(table)) {
  for (const AddedToken& token : raw_added) raw_matchers_.Add(token.content, token);
}

absl::Status TokenizerBase::EncodeInto(std::string_view text, const EncodeOptions& options, EncodingSink* sink) const {
  if (text.size() > kMaxTextBytes) {
    return absl::ResourceExhaustedError(StrCat("text has ", text.size(), " bytes; at most ", kMaxTextBytes));
  }
  RETURN_IF_ERROR(CheckUtf8(text));
  if (options.add_special_tokens) {
    for (const TokenId id : table_.prefix) sink->Add(id, {0, 0});
  }
  for (const AddedTokenMatcher::Part& part : raw_matchers_.For(options).Split(text)) {
    if (part.id) {
      sink->Add(*part.id, part.range);
    } else {
      const std::string_view gap = text.substr(part.range.begin, part.range.end - part.range.begin);
      RETURN_IF_ERROR(EncodeGap(gap, part.range.begin, options, sink));
    }
  }
  if (options.add_special_tokens) {
    for (const TokenId id : table_.suffix) sink->Add(id, {text.size(), text.size()});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenId>> TokenizerBase::Encode(std::string_view text, const EncodeOptions& options) const {
  Encoding encoding;
  EncodingSink sink(&encoding, /*keep_offsets=*/false);
  RETURN_IF_ERROR(EncodeInto(text, options, &sink));
  return std::move(encoding.ids);
}

absl::StatusOr<Encoding> TokenizerBase::EncodeWithOffsets(std::string_view text, const EncodeOptions& options) const {
  Encoding encoding;
  EncodingSink sink(&encoding, /*keep_offsets=*/true);
  RETURN_IF_ERROR(EncodeInto(text, options, &sink));
  return encoding;
}

std::string_view TokenizerBase::TokenBytes(TokenId id) const {
  const TokenTable::Entry* entry = table_.Find(id);
  return entry == nullptr ? std::string_view() : entry->bytes;
}

std::string_view TokenizerBase::TokenText(TokenId id) const {
  const TokenTable::Entry* entry = table_.Find(id);
  return entry == nullptr ? std::string_view() : entry->text;
}

bool TokenizerBase::IsSpecial(TokenId id) const {
  const TokenTable::Entry* entry = table_.Find(id);
  return entry != nullptr && entry->is_special;
}

bool TokenizerBase::RestartsText(TokenId id) const {
  const TokenTable::Entry* entry = table_.Find(id);
  return entry != nullptr && entry->is_added && table_.restarts_behind_added;
}

}  // namespace expertd
