// PromptBuilder: a Request to token ids and resolved settings. Runs on the caller's thread, so that templates and long
// texts never hold up the engine.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/models/generation_config.h"
#include "engine/request/request.h"
#include "engine/request/sampling_params.h"
#include "engine/structured/constraint_compiler.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tool_call_parser.h"

namespace expertd {

// A request ready to be queued; candidates differ from it by their seed alone.
struct BuiltPrompt {
  std::vector<int32_t> tokens;     // at least one
  std::string text;                // what echo shows
  SamplingParams sampling;
  StopConditions stop;             // max_tokens resolved: prompt + max_tokens <= max_model_len
  absl::Duration template_time;    // of a conversation
  std::shared_ptr<Constraint> constraint;  // null: none
  int32_t constraint_trigger = -1;         // the token from which it holds; -1: from the beginning
};

struct PromptBuilderOptions {
  const Tokenizer* tokenizer = nullptr;           // may be null: token ids only
  const ChatTemplate* chat_template = nullptr;    // may be null
  GenerationDefaults defaults;
  ConstraintCompiler* constraint_compiler = nullptr;  // null without a tokenizer
  std::optional<ToolFormat> tool_format;          // nullopt: not known
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;
};

// Immutable; thread-safe. What the options point to outlives it.
class PromptBuilder {
 public:
  explicit PromptBuilder(PromptBuilderOptions options);

  // Errors: InvalidArgument (template error; prompt empty or too long: reason CONTEXT_LENGTH_EXCEEDED; a constraint
  // that can't be had: INVALID_CONSTRAINT), Unimplemented UNSUPPORTED_FEATURE (text without a tokenizer, chat without a
  // template), ResourceExhausted TOO_MANY_BYTES (constraints in use).
  absl::StatusOr<BuiltPrompt> Build(const Request& request) const;

  // The prompt of a conversation. Special tokens written out inside the caller's own text (`<|im_end|>` typed by a
  // user) become ordinary text: they cannot end a turn or open another role.
  absl::StatusOr<RenderedChat> RenderChat(const ChatInput& chat) const;

 private:
  absl::StatusOr<std::vector<int32_t>> Encode(const TextInput& input) const;
  // Fills built.constraint by what the request says of its output's form and of its tools.
  absl::Status AddConstraint(const RequestSpec& spec, BuiltPrompt& built) const;
  absl::StatusOr<std::shared_ptr<Constraint>> Compile(const ConstraintSpec& spec) const;
  absl::StatusOr<SamplingParams> ResolveSampling(const SamplingOverrides& overrides) const;
  absl::StatusOr<StopConditions> ResolveStop(const StopOverrides& overrides, int64_t num_prompt_tokens) const;

  PromptBuilderOptions options_;
  std::vector<std::string> special_texts_;  // written forms of the special tokens, longest first
};

// Seed of candidate `index` of a request with seed `seed`: the first candidate's is the request's own, so that
// repeating one candidate alone with its returned seed gives its bits again.
inline uint64_t CandidateSeed(uint64_t seed, int index) { return seed + static_cast<uint64_t>(index); }

}  // namespace expertd
