#include "engine/text/added_tokens.h"

#include <algorithm>

#include "engine/text/unicode.h"

namespace expertd {
namespace {

uint64_t EdgeKey(int node, char byte) { return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte); }

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0) {
    size_t previous = begin;
    if (IsWord(DecodeUtf8Backward(text, &previous))) return false;
  }
  if (end < text.size()) {
    size_t next = end;
    if (IsWord(DecodeUtf8(text, &next))) return false;
  }
  return true;
}

}  // namespace

void AddedTokenMatcher::Add(std::string_view text, const AddedToken& token) {
  if (text.empty()) return;
  int node = 0;
  for (const char byte : text) {
    const auto [it, is_new] = edges_.try_emplace(EdgeKey(node, byte), static_cast<int>(node_entries_.size()));
    if (is_new) node_entries_.push_back(-1);
    node = it->second;
  }
  first_bytes_[static_cast<uint8_t>(text[0])] = true;
  node_entries_[static_cast<size_t>(node)] = static_cast<int>(entries_.size());
  entries_.push_back({token.id, token.lstrip, token.rstrip, token.single_word});
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::LongestAt(std::string_view text, size_t begin) const {
  std::optional<Match> longest;
  int node = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    const auto it = edges_.find(EdgeKey(node, text[i]));
    if (it == edges_.end()) break;
    node = it->second;
    if (const int entry = node_entries_[static_cast<size_t>(node)]; entry >= 0) longest = Match{i + 1, entry};
  }
  return longest;
}

std::vector<AddedTokenMatcher::Part> AddedTokenMatcher::Split(std::string_view text) const {
  std::vector<Part> parts;
  size_t done = 0;  // end of the last part
  for (size_t i = 0; i < text.size() && !empty();) {
    const std::optional<Match> match = first_bytes_[static_cast<uint8_t>(text[i])] ? LongestAt(text, i) : std::nullopt;
    if (!match) {
      ++i;
      continue;
    }
    size_t begin = i, end = match->end;
    i = end;
    const Entry& entry = entries_[static_cast<size_t>(match->entry)];
    if (begin < done || (entry.single_word && !StandsAlone(text, begin, end))) continue;
    while (entry.lstrip && begin > done) {
      size_t previous = begin;
      if (!IsWhitespace(DecodeUtf8Backward(text, &previous))) break;
      begin = previous;
    }
    while (entry.rstrip && end < text.size()) {
      size_t next = end;
      if (!IsWhitespace(DecodeUtf8(text, &next))) break;
      end = next;
    }
    if (begin > done) parts.push_back({{done, begin}, std::nullopt});
    parts.push_back({{begin, end}, entry.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({{done, text.size()}, std::nullopt});
  return parts;
}

}  // namespace expertd
