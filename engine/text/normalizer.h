// The `normalizer` part of tokenizer.json: rewrites the text between added tokens before it is cut into pieces.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/text/aligned_text.h"

namespace expertd {

// Immutable; thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;

  // Rewrites `text` in place; leaves it untouched (and cheap) when there is nothing to change. Errors:
  // ResourceExhausted from a regular expression; InvalidArgument when the text grows beyond AlignedText's bound.
  virtual absl::Status Apply(AlignedText* text) const = 0;
};

// `json`: the value of `normalizer`; null gives a null pointer. Known: NFC, NFD, NFKC, NFKD, Lowercase, Prepend,
// Replace, Strip, Sequence. Errors: Unimplemented for other types, InvalidArgument for damaged ones, both naming the
// type; InvalidArgument for too many in sequence.
absl::StatusOr<std::unique_ptr<Normalizer>> ParseNormalizer(const Json& json);

// NFC alone, for folders without a tokenizer.json.
std::unique_ptr<Normalizer> MakeNfcNormalizer();

}  // namespace expertd
