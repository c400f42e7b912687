#include "engine/text/json_scanner.h"

#include <algorithm>

#include "engine/base/json.h"

namespace expertd {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

bool EndsScalar(char c) { return kBlanks.find(c) != std::string_view::npos || c == ',' || c == '}' || c == ']'; }

}  // namespace

size_t JsonValueScanner::Append(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (kind_ == Kind::kUnknown) {
      kind_ = c == '"' ? Kind::kString : c == '{' || c == '[' ? Kind::kNested : Kind::kScalar;
    }
    if (kind_ == Kind::kScalar) is_ended_ = is_ended_ || EndsScalar(c);
    if (is_ended_) return i;
    if (kind_ != Kind::kScalar) Take(c);
  }
  return text.size();
}

void JsonValueScanner::Take(char c) {
  if (is_escaped_) {
    is_escaped_ = false;
  } else if (is_in_string_) {
    is_escaped_ = c == '\\';
    is_in_string_ = c != '"';
    is_ended_ = !is_in_string_ && kind_ == Kind::kString;
  } else if (c == '"') {
    is_in_string_ = true;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if (c == '}' || c == ']') {
    is_ended_ = --depth_ == 0;
  }
}

size_t JsonMembers::Append(std::string_view text, OnPart on_part) {
  std::string_view rest = text;
  while (!rest.empty() && Step(rest, on_part)) continue;
  return text.size() - rest.size();
}

void JsonMembers::TakeKey(std::string_view& rest) {
  const size_t size = scanner_.Append(rest);
  raw_key_.append(rest.substr(0, size));
  rest.remove_prefix(size);
  if (raw_key_.size() > kMaxKeyBytes) {
    state_ = State::kBroken;
    return;
  }
  if (!scanner_.is_ended()) return;
  const auto key = ParseJson(raw_key_);
  state_ = key.ok() && key->is_string() ? State::kBeforeColon : State::kBroken;
  if (state_ == State::kBeforeColon) key_ = key->get<std::string>();
}

// Takes at least one byte, or says that no more are to be taken.
bool JsonMembers::Step(std::string_view& rest, OnPart on_part) {
  if (state_ == State::kEnded || state_ == State::kBroken) return false;
  if (state_ == State::kKey) {
    TakeKey(rest);
    return state_ != State::kBroken;
  }
  if (state_ == State::kValue) {
    const size_t size = scanner_.Append(rest);
    on_part(key_, rest.substr(0, size), scanner_.is_ended());
    rest.remove_prefix(size);
    if (scanner_.is_ended()) state_ = State::kAfterValue;
    return true;
  }
  const char c = rest.front();
  if (kBlanks.find(c) != std::string_view::npos) {
    rest.remove_prefix(1);
    return true;
  }
  switch (state_) {
    case State::kBefore:
      state_ = c == '{' ? State::kBeforeKey : State::kBroken;
      break;
    case State::kBeforeKey:
      state_ = c == '"' ? State::kKey : c == '}' ? State::kEnded : State::kBroken;
      break;
    case State::kBeforeColon:
      state_ = c == ':' ? State::kBeforeValue : State::kBroken;
      break;
    case State::kBeforeValue:
      state_ = c == ',' || c == '}' || c == ']' ? State::kBroken : State::kValue;
      break;
    default:
      state_ = c == ',' ? State::kBeforeKey : c == '}' ? State::kEnded : State::kBroken;
  }
  if (state_ == State::kBroken) return false;
  if (state_ == State::kKey || state_ == State::kValue) {
    scanner_ = JsonValueScanner();
    raw_key_.clear();
    return true;  // the byte belongs to the key or value
  }
  rest.remove_prefix(1);
  return true;
}

}  // namespace expertd
