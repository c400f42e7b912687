#include "engine/structured/vocabulary.h"

#include <algorithm>

#include "engine/base/utf8.h"

namespace expertd {
namespace {

// The longest plain tokens have rows of their own no more: those of blanks and rules reach a hundred characters.
constexpr int kMaxPlainCharacters = 32;

// Characters of `bytes`; -1 when one needs an escape in JSON, or is not whole.
int CountPlainCharacters(std::string_view bytes) {
  int count = 0;
  while (!bytes.empty()) {
    const Utf8Scan scan = ScanUtf8(bytes);
    const uint8_t lead = static_cast<uint8_t>(bytes.front());
    if (scan.kind != Utf8Scan::Kind::kComplete || lead < 0x20 || lead == '"' || lead == '\\' || lead == 0x7F) return -1;
    bytes.remove_prefix(static_cast<size_t>(scan.num_bytes));
    ++count;
  }
  return count;
}

// `tokens` in the order of their bytes.
Vocabulary::Trie MakeTrie(const Vocabulary& vocabulary, std::vector<int32_t> tokens) {
  std::sort(tokens.begin(), tokens.end(), [&](int32_t a, int32_t b) {
    const std::string_view x = vocabulary.bytes_of(a), y = vocabulary.bytes_of(b);
    return x != y ? x < y : a < b;
  });
  Vocabulary::Trie trie;
  std::vector<size_t> path;  // nodes from the root to the last token's
  std::string_view last;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view bytes = vocabulary.bytes_of(tokens[i]);
    const size_t shared = static_cast<size_t>(
        std::mismatch(bytes.begin(), bytes.end(), last.begin(), last.end()).first - bytes.begin());
    for (; path.size() > shared; path.pop_back()) trie.nodes[path.back()].end = static_cast<int32_t>(trie.nodes.size());
    for (size_t depth = shared; depth < bytes.size(); ++depth) {
      path.push_back(trie.nodes.size());
      trie.nodes.push_back({.byte = static_cast<uint8_t>(bytes[depth]), .depth = static_cast<uint16_t>(depth + 1)});
    }
    Vocabulary::Node& node = trie.nodes[path.back()];
    if (node.num_tokens++ == 0) node.first_token = static_cast<int32_t>(i);
    last = bytes;
  }
  for (; !path.empty(); path.pop_back()) trie.nodes[path.back()].end = static_cast<int32_t>(trie.nodes.size());
  trie.tokens = std::move(tokens);
  return trie;
}

}  // namespace

Vocabulary::Vocabulary(int32_t size, const std::function<std::string_view(int32_t)>& bytes_of) : size_(size) {
  std::vector<int32_t> plain, special;
  plain_sets_.assign(kMaxPlainCharacters + 1, std::vector<uint64_t>(num_words()));
  offsets_.push_back(0);
  for (int32_t token = 0; token < size; ++token) {
    const std::string_view bytes = bytes_of(token);
    if (!bytes.empty() && bytes.size() <= kMaxTokenBytes) {
      bytes_ += bytes;
      const int num_characters = CountPlainCharacters(bytes);
      const bool is_plain = 0 < num_characters && num_characters <= kMaxPlainCharacters;
      (is_plain ? plain : special).push_back(token);
      for (int i = num_characters; is_plain && i <= kMaxPlainCharacters; ++i) {
        plain_sets_[static_cast<size_t>(i)][static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
      }
    }
    offsets_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
  plain_ = MakeTrie(*this, std::move(plain));
  special_ = MakeTrie(*this, std::move(special));
}

int64_t Vocabulary::num_bytes() const {
  const size_t trie_bytes = (plain_.nodes.size() + special_.nodes.size()) * sizeof(Node);
  return static_cast<int64_t>(bytes_.size() + offsets_.size() * sizeof(uint32_t) + trie_bytes +
                              static_cast<size_t>(size_) * sizeof(int32_t) +
                              plain_sets_.size() * num_words() * sizeof(uint64_t));
}

}  // namespace expertd
