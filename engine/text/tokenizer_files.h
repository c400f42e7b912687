// Reads the tokenizer files of a model folder into plain data, for the two tokenizers that are built from it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/text/added_tokens.h"
#include "engine/text/bpe_model.h"

namespace expertd {

// Whole file. Errors: NotFound; InvalidArgument beyond 256 MiB.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);
bool FileExists(const std::string& path);

// The error with `what` (a path) in front.
absl::Status Annotate(std::string_view what, const absl::Status& status);

// An object of pieces and their ids, as tokenizer.json has it at model.vocab and vocab.json as a whole. In the order of
// the file; of a piece given twice the last id counts. Errors: InvalidArgument (not an object; an id that isn't an
// integer in range).
absl::StatusOr<BpeModel::Vocabulary> ParseVocabulary(const Json& json);

// merges.txt: a `#version` line, then two pieces a line. Errors: InvalidArgument that names the line.
absl::StatusOr<BpeModel::Merges> ParseMergesText(std::string_view text);

// One element of tokenizer.json's added_tokens, or an object with `content` elsewhere (then without an id).
absl::StatusOr<AddedToken> ParseAddedToken(const Json& json);

// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say; all of them may be missing.
struct TokenizerSettings {
  std::vector<AddedToken> added_tokens;       // added_tokens_decoder, else added_tokens.json; by id, with flags
  std::optional<std::string> bos, eos, unk, pad;
  std::vector<std::string> special_contents;  // the four above, additional and extra special tokens
  std::optional<bool> add_bos_token, add_eos_token, add_prefix_space, legacy;
  std::string tokenizer_class;                // "" when not given
};
// Errors: InvalidArgument that names the file.
absl::StatusOr<TokenizerSettings> ReadTokenizerSettings(const std::string& model_dir);

}  // namespace expertd
