#include "engine/text/tokenizer_files.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{256} << 20;

// A token of a role: a string, or an object with `content`.
absl::StatusOr<std::optional<std::string>> TokenContent(const Json* value, std::string_view name) {
  if (value == nullptr) return std::optional<std::string>();
  if (value->is_string()) return std::optional<std::string>(value->get<std::string>());
  if (const Json* content = JsonFind(*value, "content"); content != nullptr && content->is_string()) {
    return std::optional<std::string>(content->get<std::string>());
  }
  return absl::InvalidArgumentError(StrCat(name, " is neither a string nor an object with content"));
}

absl::StatusOr<std::optional<bool>> OptionalBool(const Json& json, std::string_view key) {
  if (JsonFind(json, key) == nullptr) return std::optional<bool>();
  ASSIGN_OR_RETURN(const bool value, JsonBoolOr(json, key, false));
  return std::optional<bool>(value);
}

absl::StatusOr<TokenId> ParseId(std::string_view text) {
  TokenId id = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size() || id < 0 || id > kMaxTokenId) {
    return absl::InvalidArgumentError(StrCat("added token id ", text, " is not in 0..", kMaxTokenId));
  }
  return id;
}

// Roles and lists of special tokens, which both tokenizer_config.json and special_tokens_map.json may hold.
absl::Status ReadSpecialTokens(const Json& json, TokenizerSettings* settings) {
  const std::pair<std::string_view, std::optional<std::string>*> roles[] = {{"bos_token", &settings->bos},
                                                                            {"eos_token", &settings->eos},
                                                                            {"unk_token", &settings->unk},
                                                                            {"pad_token", &settings->pad}};
  for (const auto& [name, role] : roles) {
    ASSIGN_OR_RETURN(const std::optional<std::string> content, TokenContent(JsonFind(json, name), name));
    if (!content || content->empty()) continue;
    if (!*role) *role = content;
    settings->special_contents.push_back(*content);
  }
  for (const std::string_view name : {"additional_special_tokens", "extra_special_tokens"}) {
    const Json* list = JsonFind(json, name);
    if (list == nullptr) continue;
    if (!list->is_array() && !list->is_object()) return absl::InvalidArgumentError(StrCat(name, " is not a list"));
    for (const Json& item : *list) {
      ASSIGN_OR_RETURN(const std::optional<std::string> content, TokenContent(&item, name));
      if (content && !content->empty()) settings->special_contents.push_back(*content);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadConfig(const Json& json, TokenizerSettings* settings) {
  RETURN_IF_ERROR(ReadSpecialTokens(json, settings));
  ASSIGN_OR_RETURN(settings->add_bos_token, OptionalBool(json, "add_bos_token"));
  ASSIGN_OR_RETURN(settings->add_eos_token, OptionalBool(json, "add_eos_token"));
  ASSIGN_OR_RETURN(settings->add_prefix_space, OptionalBool(json, "add_prefix_space"));
  ASSIGN_OR_RETURN(settings->legacy, OptionalBool(json, "legacy"));
  ASSIGN_OR_RETURN(settings->tokenizer_class, JsonStringOr(json, "tokenizer_class", ""));
  const Json* decoder = JsonFind(json, "added_tokens_decoder");
  if (decoder == nullptr) return absl::OkStatus();
  if (!decoder->is_object()) return absl::InvalidArgumentError("added_tokens_decoder is not an object");
  for (const auto& [key, value] : decoder->items()) {
    ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(value));
    ASSIGN_OR_RETURN(token.id, ParseId(key));
    settings->added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

absl::Status ReadAddedTokensJson(const Json& json, TokenizerSettings* settings) {
  if (!json.is_object()) return absl::InvalidArgumentError("not a JSON object");
  absl::flat_hash_set<std::string> known;
  for (const AddedToken& token : settings->added_tokens) known.insert(token.content);
  const absl::flat_hash_set<std::string> specials(settings->special_contents.begin(), settings->special_contents.end());
  for (const auto& [content, id] : json.items()) {
    if (content.empty() || known.contains(content)) continue;
    AddedToken token;
    token.content = content;
    ASSIGN_OR_RETURN(token.id, ParseId(DumpJson(id)));
    token.special = specials.contains(content);
    token.normalized = !token.special;
    settings->added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

// Two ids for one text, or two texts for one id, would make the order of reading decide.
absl::Status CheckAddedTokens(std::vector<AddedToken>* tokens) {
  std::sort(tokens->begin(), tokens->end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  absl::flat_hash_map<absl::string_view, TokenId> ids;
  for (size_t i = 0; i < tokens->size(); ++i) {
    const AddedToken& token = (*tokens)[i];
    if (i > 0 && (*tokens)[i - 1].id == token.id) {
      return absl::InvalidArgumentError(StrCat("added token id ", token.id, " is given twice"));
    }
    if (!ids.emplace(token.content, token.id).second) {
      return absl::InvalidArgumentError(StrCat("added token \"", token.content, "\" is given twice"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) { return ReadFile(path, kMaxFileBytes); }

bool FileExists(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

absl::Status Annotate(std::string_view what, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), StrCat(what, ": ", status.message()));
}

absl::StatusOr<BpeModel::Vocabulary> ParseVocabulary(const Json& json) {
  if (!json.is_object()) return absl::InvalidArgumentError("the vocabulary is not an object of ids");
  BpeModel::Vocabulary vocabulary;
  vocabulary.reserve(json.size());
  for (const auto& [piece, id] : json.items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > kMaxTokenId) {
      std::string shown = DumpJson(id);
      if (shown.size() > 40) shown.resize(40);
      return absl::InvalidArgumentError(StrCat("the id of \"", piece, "\" is ", shown, "; must be 0..", kMaxTokenId));
    }
    vocabulary.emplace_back(piece, static_cast<TokenId>(id.get<int64_t>()));
  }
  return vocabulary;
}

absl::StatusOr<BpeModel::Merges> ParseMergesText(std::string_view text) {
  BpeModel::Merges merges;
  int line_number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.substr(0, 8) == "#version")) continue;
    const size_t space = line.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      return absl::InvalidArgumentError(StrCat("line ", line_number, " is not two pieces with a space between them"));
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return merges;
}

absl::StatusOr<AddedToken> ParseAddedToken(const Json& json) {
  AddedToken token;
  ASSIGN_OR_RETURN(token.content, JsonStringOr(json, "content", ""));
  if (token.content.empty()) return absl::InvalidArgumentError("an added token has no content");
  ASSIGN_OR_RETURN(const int64_t id, JsonIntOr(json, "id", 0, 0, kMaxTokenId));
  token.id = static_cast<TokenId>(id);
  ASSIGN_OR_RETURN(token.special, JsonBoolOr(json, "special", false));
  ASSIGN_OR_RETURN(token.normalized, JsonBoolOr(json, "normalized", !token.special));
  ASSIGN_OR_RETURN(token.lstrip, JsonBoolOr(json, "lstrip", false));
  ASSIGN_OR_RETURN(token.rstrip, JsonBoolOr(json, "rstrip", false));
  ASSIGN_OR_RETURN(token.single_word, JsonBoolOr(json, "single_word", false));
  return token;
}

absl::StatusOr<TokenizerSettings> ReadTokenizerSettings(const std::string& model_dir) {
  TokenizerSettings settings;
  const std::pair<std::string_view, absl::Status (*)(const Json&, TokenizerSettings*)> files[] = {
      {"tokenizer_config.json", ReadConfig},
      {"special_tokens_map.json", ReadSpecialTokens},
      {"added_tokens.json", ReadAddedTokensJson},  // last: it asks which tokens are special
  };
  for (const auto& [name, read] : files) {
    const std::string path = StrCat(model_dir, "/", name);
    if (!FileExists(path)) continue;
    ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path));
    RETURN_IF_ERROR(Annotate(path, read(json, &settings)));
  }
  RETURN_IF_ERROR(Annotate(model_dir, CheckAddedTokens(&settings.added_tokens)));
  return settings;
}

}  // namespace expertd
