// Request: what a caller asked for, validated by Create and immutable afterwards. Made by the server's convert.cc (from
// the contract's messages) and by the offline tools; turned into Sequences by engine/prompt_builder.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/json.h"
#include "engine/request/sampling_params.h"
#include "engine/structured/constraint_compiler.h"

namespace expertd {

// A raw completion prompt.
struct TextInput {
  std::string text;
  bool add_special_tokens = true;
  // Keep only the last `truncate_to` tokens; 0 keeps all.
  int32_t truncate_to = 0;
};

// Exact token ids: no template, nothing added.
struct TokenInput {
  std::vector<int32_t> ids;
};

// How the model may use the tools of a conversation.
struct ToolUse {
  bool is_required = false;               // the answer is calls and nothing else, each after its tool's schema
  std::string only_tool;                  // of these only this one, once; empty: any
  bool is_single = false;                 // one call at most
  std::vector<std::string> strict_tools;  // whose calls follow their schemas when they are made
};

// A conversation, rendered by the model's chat template.
struct ChatInput {
  Json messages = Json::array();         // [{role, content, ...}], the shape that chat templates read
  Json tools;                            // array, or null
  ToolUse tool_use;
  Json template_kwargs = Json::object(); // enable_thinking and the like
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

using RequestInput = std::variant<TextInput, TokenInput, ChatInput>;

// What the caller set of the sampling parameters; what is absent comes from the model's generation_config.json, then
// from SamplingParams' defaults. Resolved once, by prompt_builder.
struct SamplingOverrides {
  std::optional<float> temperature, top_p, min_p;
  std::optional<int32_t> top_k;
  std::optional<float> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<uint64_t> seed;
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<int32_t> allowed_token_ids;
  std::vector<std::string> bad_words;
  std::optional<LogprobOptions> logprobs, prompt_logprobs;
};

struct StopOverrides {
  std::optional<int32_t> max_tokens;   // absent: up to the model's length
  int32_t min_tokens = 0;
  std::vector<std::string> strings;
  std::vector<int32_t> token_ids;
  bool include_stop_in_output = false;
  bool ignore_eos = false;
  absl::Duration time_limit = absl::InfiniteDuration();  // soft: finishes with kTimeLimit
};

struct OutputOptions {
  bool text = true;
  bool token_ids = false;
  bool echo = false;                 // the prompt's text (and log-probabilities, if asked) before the output
  bool skip_special_tokens = true;
  bool separate_reasoning = false;   // where the model marks it
  bool parse_tool_calls = false;     // where the model's format is known, and the request has tools
};

struct SchedulingOptions {
  int32_t priority = 0;                                   // higher first, -100..100
  absl::Time deadline = absl::InfiniteFuture();           // the caller's own; read at admission, in queue, decoding
  absl::Duration queue_timeout = absl::InfiniteDuration();
};

struct CacheOptions {
  bool bypass_prefix_cache = false;
  std::string salt;                  // requests with unlike salts never share cached blocks
};

// Limits that requests are checked against; from EngineConfig.
struct RequestLimits {
  int32_t vocab_size = 0;            // width of the logits: ids must be below it
  int32_t max_num_candidates = 16;
  int32_t max_logprobs = 20;
  int32_t max_stop_strings = 16;
  int32_t max_stop_string_bytes = 1024;
  int32_t max_stop_token_ids = 1024;
  int32_t max_logit_bias = 1024;
  int32_t max_bad_words = 256;
  int32_t max_bad_word_bytes = 1024;
  int32_t max_messages = 10'000;
  int32_t max_tools = 1024;
  int32_t max_template_kwargs_bytes = 64 << 10;
  int32_t max_salt_bytes = 256;
  int32_t max_constraint_bytes = 1 << 20;  // of a schema, expression or grammar, or of all choices
  int32_t max_choices = 10'000;
  int64_t max_prompt_bytes = int64_t{16} << 20;  // of a text, or of all texts of a conversation; 4 per token id
};

struct RequestSpec {
  std::string id;                    // the caller's, 1..128 of [A-Za-z0-9._:-]; empty: one is made
  RequestInput input;
  SamplingOverrides sampling;
  StopOverrides stop;
  OutputOptions output;
  std::optional<ConstraintSpec> constraint;  // a form that the output must have; compiled by prompt_builder
  SchedulingOptions scheduling;
  CacheOptions cache;
  int32_t num_candidates = 1;        // n
};

// Immutable; safe to share between threads.
class Request {
 public:
  static constexpr int kMaxViolations = 32;

  // Checks every field of `spec`; makes an id (`gen-` and 32 hexadecimal digits) when it has none. What depends on the
  // prompt's length or on the model's tokenizer is checked by prompt_builder. InvalidArgument carries an ErrorDetail
  // with every violation found (the first kMaxViolations of them), each with the field's path in the contract, such as
  // "stop.strings[3]", and what is wrong: "is 0; must be 1 or more". Documented choices: temperature 0..2 (below 1e-5
  // is greedy); top_k 0 and -1 are off; an empty prompt is refused, one of blanks is not; duplicates in logit_bias are
  // refused, elsewhere they are harmless.
  static absl::StatusOr<std::shared_ptr<const Request>> Create(RequestSpec spec, const RequestLimits& limits);

  const std::string& id() const { return spec_.id; }
  const RequestSpec& spec() const { return spec_; }

 private:
  explicit Request(RequestSpec spec) : spec_(std::move(spec)) {}
  RequestSpec spec_;
};

}  // namespace expertd
