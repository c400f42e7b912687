// ChatTemplate: messages and tools to one prompt string, by the Jinja template that a model folder brings. Equal to
// what transformers' apply_chat_template writes. A template that fails is the caller's InvalidArgument, never a crash.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/json.h"
#include "engine/text/jinja/jinja.h"

namespace expertd {

// The special tokens that templates may write, as text; empty where the folder names none.
struct SpecialTokens {
  std::string bos_token, eos_token, pad_token, unk_token;
};

struct ChatRenderOptions {
  bool add_generation_prompt = true;    // ends with the opening of an assistant turn
  bool continue_final_message = false;  // ends with the last message's content, its turn left open
  std::function<absl::Time()> clock;    // for strftime_now; empty: the machine's
};

// Immutable; any thread may call any method.
class ChatTemplate {
 public:
  // `tool_source` is a second template for requests with tools; empty: `source` serves both. Errors: InvalidArgument
  // naming the line.
  static absl::StatusOr<ChatTemplate> Parse(const std::string& source, SpecialTokens tokens,
                                            const std::string& tool_source = "");

  // `messages`: a JSON array of {role, content, ...}, content a string or a list of parts. `tools`: an array, or null
  // pointer. `kwargs`: an object of further variables (or null), which can't replace the template's own. As
  // transformers does, members of messages that are null are dropped, and a message's reasoning is given under each of
  // its usual names (`reasoning_content`, `thinking`). A message of tool_calls alone gets the content "", since most
  // templates take content for a string, or null if the template asks whether content is none, as DeepSeek's do to
  // tell calls from answers. Errors: InvalidArgument (the template's own words for
  // raise_exception; a variable that is not the caller's to set; a message that cannot be continued), ResourceExhausted
  // (a limit).
  absl::StatusOr<std::string> Render(const Json& messages, const Json* tools, const Json& kwargs,
                                     const ChatRenderOptions& options) const;

  // The source of the template that serves requests with tools.
  const std::string& tool_source() const { return tool_source_; }

 private:
  struct Variant {
    jinja::Template parsed;
    bool asks_for_no_content;
  };

  ChatTemplate(Variant main, std::unique_ptr<Variant> for_tools, SpecialTokens tokens, std::string tool_source);
  static absl::StatusOr<Variant> ParseVariant(const std::string& source);

  Variant main_;
  std::unique_ptr<Variant> for_tools_;  // null: main_ serves both
  std::string tool_source_;
  friend absl::StatusOr<ChatTemplate> LoadChatTemplate(const std::string& model_dir);

  SpecialTokens tokens_;
  std::string opening_;  // put in front of a chat that doesn't begin with it
};

// Reads the template of a model folder: chat_template.jinja (and additional_chat_templates/tool_use.jinja), else
// tokenizer_config.json's `chat_template` (one, or a list with the names "default" and "tool_use"), else
// chat_template.json, else for the tokenizer class PanguTokenizer a built-in layout. The special tokens come from the
// tokenizer's files. Some templates of that class write BOS and some leave it to the tokenizer, which isn't asked for
// it in chats; so there a chat that doesn't begin with BOS gets one here. Errors: NotFound when the folder has no
// template; InvalidArgument naming the file.
absl::StatusOr<ChatTemplate> LoadChatTemplate(const std::string& model_dir);

}  // namespace expertd
