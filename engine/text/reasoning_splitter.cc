#include "engine/text/reasoning_splitter.h"

#include <algorithm>
#include <utility>

#include "engine/text/held_text.h"

namespace expertd {

ReasoningSplitter::ReasoningSplitter(std::string open_mark, std::string close_mark, bool is_open)
    : open_mark_(std::move(open_mark)),
      close_mark_(std::move(close_mark)),
      is_reasoning_(is_open),
      may_open_(!is_open),
      follows_mark_(is_open) {}

void ReasoningSplitter::Write(std::string_view text, Output* output) {
  if (follows_mark_) text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  if (text.empty()) return;
  follows_mark_ = false;
  (is_reasoning_ ? output->reasoning : output->text).append(text);
}

ReasoningSplitter::Output ReasoningSplitter::Append(std::string_view text) {
  Output output;
  held_.append(text);
  std::string_view rest = held_;
  if (may_open_) {
    const size_t num_blanks = std::min(rest.find_first_not_of(" \t\r\n"), rest.size());
    Write(rest.substr(0, num_blanks), &output);
    rest.remove_prefix(num_blanks);
    if (rest.starts_with(open_mark_)) {
      rest.remove_prefix(open_mark_.size());
      is_reasoning_ = follows_mark_ = true;
    }
    may_open_ = !is_reasoning_ && open_mark_.starts_with(rest);
  }
  if (is_reasoning_) {
    const size_t at = rest.find(close_mark_);
    const bool is_found = at != std::string_view::npos;
    const std::string_view before = rest.substr(0, is_found ? at : rest.size() - NumHeldBytes(rest, close_mark_));
    const std::string_view reasoning = WithoutBlanksAtEnd(before, "\n");
    Write(reasoning, &output);
    rest.remove_prefix(is_found ? at + close_mark_.size() : reasoning.size());
    if (is_found) is_reasoning_ = false;
    follows_mark_ |= is_found;
  }
  if (!is_reasoning_ && !may_open_) {
    Write(rest, &output);
    rest = {};
  }
  held_.erase(0, held_.size() - rest.size());
  return output;
}

ReasoningSplitter::Output ReasoningSplitter::Flush() {
  Output output;
  Write(std::exchange(held_, {}), &output);
  return output;
}

}  // namespace expertd
