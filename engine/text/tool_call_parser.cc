#include "engine/text/tool_call_parser.h"

#include <algorithm>
#include <utility>

#include "engine/base/json.h"
#include "engine/text/held_text.h"

namespace expertd {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";
constexpr std::string_view kTypeOfCalls = "function";

size_t NumLeadingBlanks(std::string_view text) {
  return std::min(text.find_first_not_of(kBlanks), text.size());
}

std::string_view WithoutBlanksAround(std::string_view text) {
  text.remove_prefix(NumLeadingBlanks(text));
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

// Whether more text may yet make `text` begin with the mark.
bool MayBegin(std::string_view text, std::string_view mark) {
  return text.size() < mark.size() && mark.starts_with(text);
}

std::optional<std::string> StringOf(std::string_view raw) {
  const auto value = ParseJson(raw);
  if (!value.ok() || !value->is_string()) return std::nullopt;
  return value->get<std::string>();
}

}  // namespace

std::optional<ToolFormat> FindToolFormat(std::string_view chat_template) {
  const auto has = [&](std::string_view mark) { return chat_template.find(mark) != std::string_view::npos; };
  if (has("<｜tool▁calls▁begin｜>")) return has("```json") ? ToolFormat::kDeepseek : ToolFormat::kDeepseekV31;
  if (has("[unused11]")) return ToolFormat::kPangu;
  if (has("<tool_call>") && !has("<function=")) return ToolFormat::kHermes;  // "<function=": Qwen3-Coder's own
  return std::nullopt;
}

ToolCallParser::ToolCallParser(ToolFormat format) : format_(format) {
  switch (format) {
    case ToolFormat::kHermes:
      marks_ = {.open = "<tool_call>", .close = "</tool_call>"};
      break;
    case ToolFormat::kPangu:
      marks_ = {.open = "[unused11]", .close = "[unused12]"};
      break;
    case ToolFormat::kDeepseek:
    case ToolFormat::kDeepseekV31:
      marks_ = {.open = "<｜tool▁calls▁begin｜>",
                .close = "<｜tool▁calls▁end｜>",
                .call_open = "<｜tool▁call▁begin｜>",
                .call_separator = "<｜tool▁sep｜>",
                .call_close = "<｜tool▁call▁end｜>"};
      break;
  }
}

std::vector<std::string_view> MarksOf(ToolFormat format) {
  const ToolCallParser::Marks marks = ToolCallParser(format).marks_;
  std::vector<std::string_view> all = {marks.open, marks.close, marks.call_open, marks.call_separator,
                                       marks.call_close};
  std::erase(all, std::string_view());
  return all;
}

ToolCallLayout LayoutOf(ToolFormat format) {
  constexpr std::string_view kNameKey = R"({"name": ")", kArgumentsKey = R"(", "arguments": )";
  switch (format) {
    case ToolFormat::kHermes:
      return {.open = "<tool_call>\n",
              .before_name = kNameKey,
              .after_name = kArgumentsKey,
              .after_arguments = "}\n",
              .between = "</tool_call>\n<tool_call>\n",
              .close = "</tool_call>"};
    case ToolFormat::kPangu:
      return {.open = "[unused11][",
              .before_name = kNameKey,
              .after_name = kArgumentsKey,
              .after_arguments = "}",
              .between = ", ",
              .close = "][unused12]"};
    case ToolFormat::kDeepseek:
      return {.open = "<｜tool▁calls▁begin｜>",
              .before_name = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
              .after_name = "\n```json\n",
              .after_arguments = "\n```<｜tool▁call▁end｜>",
              .between = "\n",
              .close = "<｜tool▁calls▁end｜>"};
    case ToolFormat::kDeepseekV31:
      return {.open = "<｜tool▁calls▁begin｜>",
              .before_name = "<｜tool▁call▁begin｜>",
              .after_name = "<｜tool▁sep｜>",
              .after_arguments = "<｜tool▁call▁end｜>",
              .between = "",
              .close = "<｜tool▁calls▁end｜>"};
  }
  return {};
}

ToolCallParser::Output ToolCallParser::Append(std::string_view text) {
  held_.append(text);
  std::string_view rest = held_;
  while (Step(rest)) continue;
  held_.erase(0, held_.size() - rest.size());
  return std::exchange(output_, {});
}

ToolCallParser::Output ToolCallParser::Flush(bool is_cut_off) {
  if (state_ == State::kText || (!unproven_.empty() && !is_cut_off)) {
    const std::string rest = std::exchange(unproven_, {}) + std::exchange(held_, {});
    if (!follows_call_ || NumLeadingBlanks(rest) < rest.size()) output_.text += rest;
  } else if (is_open_ && !is_cut_off && !has_arguments_ && raw_string_.empty()) {
    EndCall();
  }
  unproven_.clear();
  held_.clear();
  state_ = State::kText;
  return std::exchange(output_, {});
}

bool ToolCallParser::Step(std::string_view& rest) {
  switch (state_) {
    case State::kText:
      return TakeText(rest);
    case State::kBetweenObjects:
      return TakeBetweenObjects(rest);
    case State::kObject:
      return TakeObject(rest);
    case State::kSection:
      return TakeSection(rest);
    case State::kHead:
      return TakeHead(rest);
    case State::kName:
      return TakeName(rest);
    case State::kBeforeArguments:
      return TakeBeforeArguments(rest);
    case State::kArguments:
      return TakeArguments(rest);
    case State::kRest:
      return TakeRest(rest);
  }
  return false;
}

std::string_view ToolCallParser::Take(size_t size, std::string_view& rest) {
  const std::string_view taken = rest.substr(0, size);
  rest.remove_prefix(taken.size());
  if (!has_name_) unproven_.append(taken);
  return taken;
}

bool ToolCallParser::TakeText(std::string_view& rest) {
  const size_t mark = rest.find(marks_.open);
  const bool is_found = mark != std::string_view::npos;
  // Blanks before a mark are held back with it: they separate the call from the text.
  const std::string_view before = rest.substr(0, is_found ? mark : rest.size() - NumHeldBytes(rest, marks_.open));
  const std::string_view text = WithoutBlanksAtEnd(before, kBlanks);
  output_.text.append(text);
  follows_call_ = follows_call_ && text.empty();
  rest.remove_prefix(text.size());
  if (!is_found) return false;
  has_name_ = false;
  Take(before.size() - text.size() + marks_.open.size(), rest);
  state_ = has_sections() ? State::kSection : State::kBetweenObjects;
  return true;
}

bool ToolCallParser::GiveUp() {
  follows_call_ = follows_call_ && unproven_.empty();
  output_.text += std::exchange(unproven_, {});
  state_ = State::kText;
  return true;
}

// ---- objects with a name and arguments ----

bool ToolCallParser::TakeBetweenObjects(std::string_view& rest) {
  constexpr std::string_view kSkipped = " \t\r\n,";
  Take(std::min(rest.find_first_not_of(kSkipped), rest.size()), rest);
  if (rest.empty() || MayBegin(rest, marks_.close)) return false;  // marks may begin with a bracket
  if (!rest.starts_with(marks_.close) && (rest.front() == '[' || rest.front() == ']')) {
    Take(1, rest);
    return true;
  }
  if (rest.starts_with('{')) {
    members_ = JsonMembers();
    has_name_ = has_arguments_ = has_whole_arguments_ = false;
    state_ = State::kObject;
    return true;
  }
  if (rest.starts_with(marks_.close)) Take(marks_.close.size(), rest);
  return GiveUp();
}

bool ToolCallParser::TakeObject(std::string_view& rest) {
  const size_t size = members_.Append(
      rest, [this](std::string_view key, std::string_view part, bool is_end) { OnMember(key, part, is_end); });
  Take(size, rest);
  if (has_name_) unproven_.clear();
  if (members_.is_broken() && has_name_) {
    EndCall();
    state_ = State::kRest;
    return true;
  }
  if (members_.is_broken() || (members_.is_ended() && !has_name_)) {
    raw_name_.clear();
    raw_string_.clear();
    early_arguments_.clear();
    return GiveUp();
  }
  if (!members_.is_ended()) return false;
  EndCall();
  state_ = State::kBetweenObjects;
  return true;
}

void ToolCallParser::OnMember(std::string_view key, std::string_view part, bool is_end) {
  if (key == "name" && !has_name_) {
    raw_name_.append(part);
    if (!is_end) return;
    if (const auto name = StringOf(std::exchange(raw_name_, {}))) SetName(*name);
  } else if ((key == "arguments" || key == "parameters") && !has_whole_arguments_) {
    has_whole_arguments_ = is_end;
    // Some models write the object as a string.
    if (!raw_string_.empty() || (!has_arguments_ && part.starts_with('"'))) {
      raw_string_.append(part);
      if (!is_end) return;
      const std::string raw = std::exchange(raw_string_, {});
      AddArguments(StringOf(raw).value_or(raw));
    } else {
      AddArguments(part);
    }
  }
}

// ---- the layout of DeepSeek ----

bool ToolCallParser::TakeSection(std::string_view& rest) {
  Take(NumLeadingBlanks(rest), rest);
  if (rest.empty() || MayBegin(rest, marks_.call_open) || MayBegin(rest, marks_.close)) return false;
  if (rest.starts_with(marks_.call_open)) {
    has_name_ = has_arguments_ = has_whole_arguments_ = false;
    Take(marks_.call_open.size(), rest);
    state_ = State::kHead;
    return true;
  }
  if (rest.starts_with(marks_.close)) {
    Take(marks_.close.size(), rest);
    unproven_.clear();
  }
  return GiveUp();
}

bool ToolCallParser::TakeHead(std::string_view& rest) {
  // Never further than this, so that the end is the same in any split; as for the name below.
  const size_t max_size = kMaxNameBytes + marks_.call_separator.size();
  const size_t end = rest.substr(0, max_size).find(marks_.call_separator);
  if (end == std::string_view::npos) return rest.size() >= max_size && GiveUp();
  const std::string_view head = WithoutBlanksAround(Take(end, rest));
  Take(marks_.call_separator.size(), rest);
  if (head == kTypeOfCalls) {
    state_ = State::kName;
    return true;
  }
  SetName(head);
  if (!has_name_) return GiveUp();
  state_ = State::kBeforeArguments;
  return true;
}

bool ToolCallParser::TakeName(std::string_view& rest) {
  const size_t end = rest.substr(0, kMaxNameBytes + 1).find('\n');
  if (end == std::string_view::npos) return rest.size() > kMaxNameBytes && GiveUp();
  SetName(WithoutBlanksAround(rest.substr(0, end)));
  if (!has_name_) return GiveUp();
  Take(end, rest);
  state_ = State::kBeforeArguments;
  return true;
}

// A fence, or nothing.
bool ToolCallParser::TakeBeforeArguments(std::string_view& rest) {
  const size_t end = std::min(rest.find(marks_.call_close), rest.find(marks_.close)), begin = rest.find('{');
  if (begin < end) {
    Take(begin, rest);
    scanner_ = JsonValueScanner();
    state_ = State::kArguments;
    return true;
  }
  if (end == std::string_view::npos) {
    Take(rest.size() - std::max(NumHeldBytes(rest, marks_.call_close), NumHeldBytes(rest, marks_.close)), rest);
    return false;
  }
  EndCall();
  state_ = State::kRest;
  return true;
}

bool ToolCallParser::TakeArguments(std::string_view& rest) {
  AddArguments(Take(scanner_.Append(rest), rest));
  if (!scanner_.is_ended()) return false;
  EndCall();
  state_ = State::kRest;
  return true;
}

// ---- all formats ----

bool ToolCallParser::TakeRest(std::string_view& rest) {
  const std::string_view mark = has_sections() ? marks_.call_close : marks_.close;
  const size_t end = rest.find(mark), section_end = has_sections() ? rest.find(marks_.close) : std::string_view::npos;
  if (end == std::string_view::npos && section_end == std::string_view::npos) {
    const size_t num_held = std::max(NumHeldBytes(rest, mark), NumHeldBytes(rest, marks_.close));
    Take(rest.size() - num_held, rest);
    return false;
  }
  Take(section_end < end ? section_end : end + mark.size(), rest);
  state_ = has_sections() ? State::kSection : State::kText;
  return true;
}

void ToolCallParser::SetName(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes) return;
  has_name_ = is_open_ = true;
  follows_call_ = false;
  unproven_.clear();
  output_.calls.push_back({.index = num_calls_++, .name = std::string(name)});
  if (!early_arguments_.empty()) AddArguments(std::exchange(early_arguments_, {}));
}

void ToolCallParser::AddArguments(std::string_view part) {
  if (part.empty()) return;
  has_arguments_ = true;
  if (!has_name_) {
    early_arguments_.append(part);
    return;
  }
  const bool is_new = output_.calls.empty() || output_.calls.back().index != num_calls_ - 1;
  if (is_new) output_.calls.push_back({.index = num_calls_ - 1});
  output_.calls.back().arguments.append(part);
}

void ToolCallParser::EndCall() {
  if (!has_arguments_) AddArguments("{}");
  is_open_ = false;
  follows_call_ = true;
  ++num_ended_calls_;
}

}  // namespace expertd
