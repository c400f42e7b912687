#include "engine/text/reasoning_splitter.h"

#include <algorithm>
#include <utility>

#include "engine/text/held_text.h"

namespace expertd {

ReasoningSplitter::ReasoningSplitter(std::string open_mark, std::string close_mark, bool is_open)
    : open_mark_(std::move(open_mark)),
      close_mark_(std::move(close_mark)),
      is_reasoning_(is_open),
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
  while (true) {
    const std::string_view mark = is_reasoning_ ? close_mark_ : open_mark_;
    const size_t at = rest.find(mark);
    const bool is_found = at != std::string_view::npos;
    std::string_view before = rest.substr(0, is_found ? at : rest.size() - NumHeldBytes(rest, mark));
    if (is_reasoning_) before = WithoutBlanksAtEnd(before, "\n");
    Write(before, &output);
    rest.remove_prefix(is_found ? at + mark.size() : before.size());
    if (!is_found) break;
    is_reasoning_ = !is_reasoning_;
    follows_mark_ = true;
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
