// Tool calls in a model's output, found while the text arrives: the name of the function as soon as it is known, then
// its arguments as they are written. Behind the detokenizer and the stop matcher of each sequence. The marks may be
// special tokens, which the detokenizer must then keep.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/json_scanner.h"

namespace expertd {

enum class ToolFormat {
  // <tool_call>{"name": "...", "arguments": {...}}</tool_call>, each call by itself: Qwen2.5, Qwen3.
  kHermes,
  // <｜tool▁calls▁begin｜>, calls, <｜tool▁calls▁end｜>. A call stands between <｜tool▁call▁begin｜> and
  // <｜tool▁call▁end｜>: the word "function", <｜tool▁sep｜>, the name, a line break and the arguments fenced as json.
  // V3, R1.
  kDeepseek,
  // The same marks, between them the name, <｜tool▁sep｜> and the arguments. V3.1. Either of the two is read as both.
  kDeepseekV31,
  // [unused11][{"name": "...", "arguments": {...}}, ...][unused12]. UNVERIFIED against a published template.
  kPangu,
};

// The format that a chat template teaches its model, by the marks in the template's source; nullopt: none of these.
std::optional<ToolFormat> FindToolFormat(std::string_view chat_template);

// The marks of a format, which a tokenizer may have as special tokens.
std::vector<std::string_view> MarksOf(ToolFormat format);

// How a model writes calls: `open`, calls with `between` between them, `close`. A call: before_name, name, after_name,
// arguments, after_arguments.
struct ToolCallLayout {
  std::string_view open, before_name, after_name, after_arguments, between, close;
};
ToolCallLayout LayoutOf(ToolFormat format);

// What one piece of text brings to a call. A caller joins the pieces of an index.
struct ToolCallPiece {
  int index = 0;          // among the calls of the output, from 0
  std::string name;       // in the first piece of each call alone, never empty there
  std::string arguments;  // JSON, as the model writes it; "{}" for a call without

  friend bool operator==(const ToolCallPiece&, const ToolCallPiece&) = default;
};

// State of one sequence's output. Not thread-safe; copyable.
class ToolCallParser {
 public:
  struct Output {
    std::string text;  // of the answer: without calls, their marks, and blanks (at most 64) before or between them
    std::vector<ToolCallPiece> calls;
  };

  static constexpr size_t kMaxNameBytes = 256;

  explicit ToolCallParser(ToolFormat format);

  // Adds output text, in any split. What may be the beginning of a mark is held back. A call that is not well-formed
  // before its name is known comes out as the text that it is; behind the name, what does not belong to it is dropped.
  Output Append(std::string_view text);

  // The end of the output: what was held back, but for blanks behind a call. A call that is cut off keeps what it has.
  // `is_cut_off`: by a limit or a stop string, so that the beginning of a call without its name yet is dropped; else it
  // is text.
  Output Flush(bool is_cut_off = false);

  int num_calls() const { return num_calls_; }
  // Those whose arguments are whole.
  int num_ended_calls() const { return num_ended_calls_; }

 private:
  enum class State {
    kText,
    // Within the marks of kHermes and kPangu.
    kBetweenObjects, kObject,
    // Within those of kDeepseek.
    kSection, kHead, kName, kBeforeArguments, kArguments,
    // To the closing mark of the call.
    kRest,
  };

  friend std::vector<std::string_view> MarksOf(ToolFormat format);

  struct Marks {
    std::string_view open, close, call_open, call_separator, call_close;  // the last three of kDeepseek alone
  };

  bool has_sections() const { return !marks_.call_open.empty(); }

  // Each takes what it can from `rest` and says whether the next state can go on with what is left.
  bool Step(std::string_view& rest);
  bool TakeText(std::string_view& rest);
  bool TakeBetweenObjects(std::string_view& rest);
  bool TakeObject(std::string_view& rest);
  bool TakeSection(std::string_view& rest);
  bool TakeHead(std::string_view& rest);
  bool TakeName(std::string_view& rest);
  bool TakeBeforeArguments(std::string_view& rest);
  bool TakeArguments(std::string_view& rest);
  bool TakeRest(std::string_view& rest);

  // Takes `size` bytes, and remembers them in case that they are no call after all.
  std::string_view Take(size_t size, std::string_view& rest);
  void OnMember(std::string_view key, std::string_view part, bool is_end);
  void SetName(std::string_view name);
  void AddArguments(std::string_view part);
  void EndCall();
  bool GiveUp();  // what was taken is text

  Marks marks_;
  ToolFormat format_;
  State state_ = State::kText;
  Output output_;          // of the Append under way
  std::string held_;       // not taken yet
  std::string unproven_;   // taken since the mark, or the last call, while no name was found
  int num_calls_ = 0, num_ended_calls_ = 0;

  // Of the call at hand.
  JsonMembers members_;
  JsonValueScanner scanner_;
  bool has_name_ = false, has_arguments_ = false, has_whole_arguments_ = false;
  bool is_open_ = false;     // has a name, and no end yet
  bool follows_call_ = false;  // nothing but blanks came since
  std::string raw_name_, raw_string_;  // JSON strings that are not whole yet
  std::string early_arguments_;        // that came before the name
};

}  // namespace expertd
