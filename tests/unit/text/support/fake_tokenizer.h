// A tokenizer whose tokens are given outright, for tests of what is done with tokens.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/text/tokenizer.h"

namespace expertd {

class FakeTokenizer : public Tokenizer {
 public:
  struct Token {
    std::string bytes;
    bool is_special = false;
    bool restarts_text = false;
  };

  explicit FakeTokenizer(std::vector<Token> tokens, bool strips_leading_space = false,
                         bool strips_every_leading_space = false)
      : tokens_(std::move(tokens)),
        strips_leading_space_(strips_leading_space),
        strips_every_leading_space_(strips_every_leading_space) {}

  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view, const EncodeOptions&) const override {
    return absl::UnimplementedError("FakeTokenizer does not encode");
  }
  absl::StatusOr<Encoding> EncodeWithOffsets(std::string_view, const EncodeOptions&) const override {
    return absl::UnimplementedError("FakeTokenizer does not encode");
  }
  std::string_view TokenBytes(TokenId id) const override { return Has(id) ? At(id).bytes : std::string_view(); }
  std::string_view TokenText(TokenId id) const override { return TokenBytes(id); }
  int vocab_size() const override { return static_cast<int>(tokens_.size()); }
  bool IsSpecial(TokenId id) const override { return Has(id) && At(id).is_special; }
  std::optional<TokenId> TokenToId(std::string_view piece) const override {
    for (TokenId id = 0; id < vocab_size(); ++id) {
      if (At(id).bytes == piece) return id;
    }
    return std::nullopt;
  }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return std::nullopt; }
  std::optional<TokenId> unk() const override { return std::nullopt; }
  std::optional<TokenId> pad() const override { return std::nullopt; }
  bool strips_leading_space() const override { return strips_leading_space_; }
  bool strips_every_leading_space() const override { return strips_every_leading_space_; }
  bool RestartsText(TokenId id) const override { return Has(id) && At(id).restarts_text; }

 private:
  bool Has(TokenId id) const { return id >= 0 && id < vocab_size(); }
  const Token& At(TokenId id) const { return tokens_[static_cast<size_t>(id)]; }

  std::vector<Token> tokens_;
  bool strips_leading_space_, strips_every_leading_space_;
};

}  // namespace expertd
