#include "server/convert.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "server/status.h"
#include "server/time.h"

namespace expertd {
namespace {

constexpr size_t kMaxTagBytes = 256;  // user, session_id, salt
constexpr int kMaxExtraKeys = 64;
constexpr absl::Duration kMaxMinInterval = absl::Seconds(10);
constexpr uint32_t kMaxMinTokensPerMessage = 4096;

// Collects what is wrong with a request, so that one answer tells it all.
class Violations {
 public:
  explicit Violations(const RequestLimits& limits) : limits_(limits) {}

  void Add(std::string_view field, std::string_view description) {
    if (detail_.violations.size() < kMaxKept) detail_.violations.emplace_back(field, description);
  }

  absl::Status ToStatus() {
    if (detail_.violations.empty()) return absl::OkStatus();
    detail_.reason = std::string(error_reason::kInvalidParameter);
    const auto& [field, description] = detail_.violations.front();
    return MakeError(absl::StatusCode::kInvalidArgument, StrCat(field, " ", description), detail_);
  }

  // `value` as the engine's signed type; `minimum` with a violation when it doesn't fit. `maximum` is for the message:
  // values between it and what fits are found by Request::Create.
  int32_t ToInt32(std::string_view field, uint32_t value, int32_t minimum = 0,
                  int32_t maximum = std::numeric_limits<int32_t>::max()) {
    if (value <= static_cast<uint32_t>(std::numeric_limits<int32_t>::max())) return static_cast<int32_t>(value);
    Add(field, StrCat("is ", value, "; must be ", minimum, "..", maximum));
    return minimum;
  }

  int32_t ToId(std::string_view field, uint32_t id) { return ToInt32(field, id, 0, limits_.vocab_size - 1); }

  template <typename Ids>
  std::vector<int32_t> ToIds(std::string_view field, const Ids& ids) {
    std::vector<int32_t> converted;
    converted.reserve(ids.size());
    for (int i = 0; i < ids.size(); ++i) {
      // The path is built only for an id that is wrong: prompts have very many.
      if (ids[i] > static_cast<uint32_t>(std::numeric_limits<int32_t>::max())) {
        ToId(StrCat(field, "[", i, "]"), ids[i]);
        break;
      }
      converted.push_back(static_cast<int32_t>(ids[i]));
    }
    return converted;
  }

  // A Duration above zero.
  absl::Duration ToPositiveDuration(std::string_view field, const google::protobuf::Duration& proto) {
    const std::optional<absl::Duration> duration = FromProtoDuration(proto);
    if (duration.has_value() && *duration > absl::ZeroDuration()) return *duration;
    Add(field, StrCat("is ", proto.seconds(), " s ", proto.nanos(), " ns; must be a valid duration above 0"));
    return absl::InfiniteDuration();
  }

  const RequestLimits& limits() const { return limits_; }

  void CheckTag(std::string_view field, const std::string& value) {
    if (value.size() > kMaxTagBytes) Add(field, StrCat("has ", value.size(), " bytes; at most ", kMaxTagBytes));
  }

 private:
  static constexpr size_t kMaxKept = 32;
  const RequestLimits& limits_;
  ErrorDetail detail_;
};

// The features that are in the contract and not in the server yet, the chat's own excepted.
absl::Status CheckFeatures(const v1::GenerateRequest& request) {
  const v1::SamplingParams& sampling = request.sampling();
  if (request.structured().has_structural_tag()) {
    return UnsupportedFeature("structured.structural_tag", "constrained parts of free text are not supported");
  }
  if (!request.adapter().empty()) return UnsupportedFeature("adapter", "adapters are not supported");
  if (sampling.has_typical_p() && sampling.typical_p() != 1.0f) {
    return UnsupportedFeature("sampling.typical_p", "locally typical sampling is not supported");
  }
  if (sampling.no_repeat_ngram_size() != 0) {
    return UnsupportedFeature("sampling.no_repeat_ngram_size", "a ban on repetitions is not supported");
  }
  if (request.output().stream().progress()) {
    return UnsupportedFeature("output.stream.progress", "progress events are not supported");
  }
  if (request.scheduling().has_ttft_target()) {
    return UnsupportedFeature("scheduling.ttft_target", "latency targets are not supported");
  }
  if (request.scheduling().has_tpot_target()) {
    return UnsupportedFeature("scheduling.tpot_target", "latency targets are not supported");
  }
  if (request.scheduling().has_data_parallel_rank()) {
    return UnsupportedFeature("scheduling.data_parallel_rank", "choosing a data-parallel rank is not supported");
  }
  return absl::OkStatus();
}

LogprobOptions ReadLogprobs(std::string_view field, const v1::LogprobOptions& proto, bool is_prompt,
                            Violations& violations) {
  LogprobOptions options;
  if (proto.select_case() == v1::LogprobOptions::kTopN) {
    options.top_n = violations.ToInt32(StrCat(field, ".top_n"), proto.top_n(), 0, violations.limits().max_logprobs);
  } else if (proto.select_case() == v1::LogprobOptions::kOnlyIds) {
    if (proto.only_ids().ids().empty()) violations.Add(StrCat(field, ".only_ids"), "is empty");
    options.token_ids = violations.ToIds(StrCat(field, ".only_ids.ids"), proto.only_ids().ids());
  }
  if (proto.has_start() && !is_prompt) violations.Add(StrCat(field, ".start"), "is for prompt_logprobs only");
  options.start = violations.ToInt32(StrCat(field, ".start"), proto.start());
  return options;
}

uint64_t DrawSeed() {
  std::random_device device;
  // 53 bits: JSON readers of every language get it back exactly.
  return ((static_cast<uint64_t>(device()) << 32) | device()) & ((uint64_t{1} << 53) - 1);
}

SamplingOverrides ReadSampling(const v1::SamplingParams& proto, Violations& violations) {
  SamplingOverrides sampling;
  if (proto.has_temperature()) sampling.temperature = proto.temperature();
  if (proto.has_top_p()) sampling.top_p = proto.top_p();
  if (proto.has_min_p()) sampling.min_p = proto.min_p();
  if (proto.has_top_k()) sampling.top_k = proto.top_k() == -1 ? 0 : proto.top_k();
  if (proto.has_repetition_penalty()) sampling.repetition_penalty = proto.repetition_penalty();
  if (proto.has_presence_penalty()) sampling.presence_penalty = proto.presence_penalty();
  if (proto.has_frequency_penalty()) sampling.frequency_penalty = proto.frequency_penalty();
  sampling.seed = proto.has_seed() ? proto.seed() : DrawSeed();
  for (int i = 0; i < proto.logit_bias_size(); ++i) {
    const v1::LogitBias& bias = proto.logit_bias(i);
    const int32_t id = violations.ToId(StrCat("sampling.logit_bias[", i, "].token_id"), bias.token_id());
    sampling.logit_bias.emplace_back(id, bias.bias());
  }
  sampling.allowed_token_ids = violations.ToIds("sampling.allowed_token_ids", proto.allowed_token_ids());
  sampling.bad_words.assign(proto.bad_words().begin(), proto.bad_words().end());
  return sampling;
}

StopOverrides ReadStop(const v1::StopConditions& proto, Violations& violations) {
  StopOverrides stop;
  if (proto.has_max_tokens()) stop.max_tokens = violations.ToInt32("stop.max_tokens", proto.max_tokens(), 1);
  stop.min_tokens = violations.ToInt32("stop.min_tokens", proto.min_tokens());
  stop.strings.assign(proto.strings().begin(), proto.strings().end());
  stop.token_ids = violations.ToIds("stop.token_ids", proto.token_ids());
  stop.include_stop_in_output = proto.include_stop_in_output();
  stop.ignore_eos = proto.ignore_eos();
  if (proto.has_time_limit()) stop.time_limit = violations.ToPositiveDuration("stop.time_limit", proto.time_limit());
  return stop;
}

AnswerOptions ReadAnswer(const v1::OutputOptions& proto, Violations& violations) {
  AnswerOptions answer;
  const v1::StreamOptions& stream = proto.stream();
  answer.timing = proto.timing();
  answer.usage_every_message = stream.usage_every_message();
  if (stream.has_min_interval()) {
    const std::optional<absl::Duration> interval = FromProtoDuration(stream.min_interval());
    if (!interval.has_value() || *interval < absl::ZeroDuration() || *interval > kMaxMinInterval) {
      violations.Add("output.stream.min_interval", "must be 0..10 s");
    } else {
      answer.min_interval = *interval;
    }
  }
  if (stream.has_min_tokens_per_message()) {
    const uint32_t minimum = stream.min_tokens_per_message();
    if (minimum < 1 || minimum > kMaxMinTokensPerMessage) {
      violations.Add("output.stream.min_tokens_per_message",
                     StrCat("is ", minimum, "; must be 1..", kMaxMinTokensPerMessage));
    } else {
      answer.min_tokens_per_message = static_cast<int32_t>(minimum);
    }
  }
  return answer;
}

// Keys that this server doesn't know are no errors: callers of several servers send all of theirs.
std::vector<v1::Warning> ReadExtra(const google::protobuf::Struct& extra, Violations& violations) {
  std::vector<v1::Warning> warnings;
  if (extra.fields_size() > kMaxExtraKeys) {
    violations.Add("extra", StrCat("has ", extra.fields_size(), " keys; at most ", kMaxExtraKeys));
    return warnings;
  }
  for (const auto& [name, value] : extra.fields()) {
    v1::Warning warning;
    warning.set_field(StrCat("extra.", ToValidUtf8(name, kMaxTagBytes)));
    warning.set_message("unknown to this server; not used");
    warnings.push_back(std::move(warning));
  }
  std::sort(warnings.begin(), warnings.end(),
            [](const v1::Warning& a, const v1::Warning& b) { return a.field() < b.field(); });
  return warnings;
}

absl::StatusOr<RequestInput> ReadInput(const v1::GenerateRequest& request, Violations& violations) {
  switch (request.input_case()) {
    case v1::GenerateRequest::kText: {
      TextInput input{.text = request.text().text()};
      if (request.text().has_add_special_tokens()) input.add_special_tokens = request.text().add_special_tokens();
      if (request.text().has_truncate_to()) {
        if (request.text().truncate_to() == 0) violations.Add("text.truncate_to", "is 0; must be 1 or more");
        input.truncate_to = violations.ToInt32("text.truncate_to", request.text().truncate_to(), 1);
      }
      return RequestInput(std::move(input));
    }
    case v1::GenerateRequest::kTokens:
      return RequestInput(TokenInput{.ids = violations.ToIds("tokens.ids", request.tokens().ids())});
    case v1::GenerateRequest::kChat: {
      ASSIGN_OR_RETURN(ChatInput input, ToChatInput(request.chat()));
      return RequestInput(std::move(input));
    }
    default: return InvalidParameter("input", "is missing; give text, tokens or chat");
  }
}

ConstraintSpec ReadStructured(const v1::StructuredOutput& proto, Violations& violations) {
  using Kind = ConstraintSpec::Kind;
  switch (proto.constraint_case()) {
    case v1::StructuredOutput::kJsonSchema: return {.kind = Kind::kJsonSchema, .text = proto.json_schema()};
    case v1::StructuredOutput::kRegex: return {.kind = Kind::kRegex, .text = proto.regex()};
    case v1::StructuredOutput::kGrammar: return {.kind = Kind::kGrammar, .text = proto.grammar()};
    case v1::StructuredOutput::kChoices:
      return {.kind = Kind::kChoices, .choices = {proto.choices().values().begin(), proto.choices().values().end()}};
    case v1::StructuredOutput::kJsonObject: break;
    default: violations.Add("structured.constraint", "is missing");
  }
  return {.kind = Kind::kJsonObject};
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return v1::FINISH_REASON_STOP;
    case FinishReason::kStopSequence: return v1::FINISH_REASON_STOP_SEQUENCE;
    case FinishReason::kToolCalls: return v1::FINISH_REASON_TOOL_CALLS;
    case FinishReason::kMaxTokens: return v1::FINISH_REASON_MAX_TOKENS;
    case FinishReason::kContextLength: return v1::FINISH_REASON_CONTEXT_LENGTH;
    case FinishReason::kTimeLimit: return v1::FINISH_REASON_TIME_LIMIT;
    case FinishReason::kNoValidToken: return v1::FINISH_REASON_NO_VALID_TOKEN;
    case FinishReason::kGrammarDeadEnd: return v1::FINISH_REASON_GRAMMAR_DEAD_END;
    case FinishReason::kCancelled: return v1::FINISH_REASON_CANCELLED;
    case FinishReason::kNone:
    case FinishReason::kError: return v1::FINISH_REASON_UNSPECIFIED;  // the call's status tells
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

template <typename Logprob>  // TokenLogprob or TopLogprob of the contract
void FillToken(int32_t id, float logprob, const Tokenizer* tokenizer, Logprob* proto) {
  proto->set_token_id(static_cast<uint32_t>(id));
  proto->set_logprob(logprob);
  if (tokenizer == nullptr) return;
  const std::string_view bytes = tokenizer->TokenBytes(id);
  proto->set_text(ToValidUtf8(bytes));
  proto->set_text_bytes(bytes.data(), bytes.size());
}

void FillLogprobs(const std::vector<TokenLogprob>& logprobs, const Tokenizer* tokenizer,
                  google::protobuf::RepeatedPtrField<v1::TokenLogprob>* target) {
  for (const TokenLogprob& logprob : logprobs) {
    v1::TokenLogprob* proto = target->Add();
    FillToken(logprob.token, logprob.logprob, tokenizer, proto);
    proto->set_rank(static_cast<uint32_t>(std::max(0, logprob.rank)));
    for (const auto& [id, value] : logprob.top) FillToken(id, value, tokenizer, proto->add_top());
  }
}

void FillStopMatch(FinishedEvent& event, v1::StopMatch* match) {
  if (event.reason == FinishReason::kStop && event.stop_token >= 0) {
    match->set_eos_token_id(static_cast<uint32_t>(event.stop_token));
  } else if (!event.stop_string.empty()) {
    match->set_text(std::move(event.stop_string));
  } else if (event.stop_token >= 0) {
    match->set_token_id(static_cast<uint32_t>(event.stop_token));
  }
}

bool HasStopMatch(const FinishedEvent& event) {
  return (event.reason == FinishReason::kStop || event.reason == FinishReason::kStopSequence) &&
         (event.stop_token >= 0 || !event.stop_string.empty());
}

void FillToolCall(ToolCallEvent&& event, v1::ToolCall* call) {
  call->set_index(static_cast<uint32_t>(event.index));
  call->set_id(std::move(event.id));
  call->set_name(std::move(event.name));
  call->set_arguments_json(std::move(event.arguments));
}

}  // namespace

absl::StatusOr<ConvertedRequest> ToRequestSpec(const v1::GenerateRequest& request, const RequestLimits& limits) {
  RETURN_IF_ERROR(CheckFeatures(request));
  Violations violations(limits);
  ConvertedRequest converted;
  RequestSpec& spec = converted.spec;
  spec.id = request.request_id();
  ASSIGN_OR_RETURN(spec.input, ReadInput(request, violations));
  spec.sampling = ReadSampling(request.sampling(), violations);
  spec.stop = ReadStop(request.stop(), violations);
  if (request.sampling().has_n()) {
    spec.num_candidates = violations.ToInt32("sampling.n", request.sampling().n(), 1, limits.max_num_candidates);
  }

  if (request.has_structured()) spec.constraint = ReadStructured(request.structured(), violations);

  const v1::OutputOptions& output = request.output();
  if (output.has_text()) spec.output.text = output.text();
  spec.output.token_ids = output.token_ids();
  spec.output.echo = output.echo();
  spec.output.separate_reasoning = output.separate_reasoning();
  spec.output.parse_tool_calls = output.parse_tool_calls();
  if (output.has_skip_special_tokens()) spec.output.skip_special_tokens = output.skip_special_tokens();
  if (output.has_logprobs()) {
    spec.sampling.logprobs = ReadLogprobs("output.logprobs", output.logprobs(), /*is_prompt=*/false, violations);
  }
  if (output.has_prompt_logprobs()) {
    spec.sampling.prompt_logprobs =
        ReadLogprobs("output.prompt_logprobs", output.prompt_logprobs(), /*is_prompt=*/true, violations);
  }
  converted.answer = ReadAnswer(output, violations);

  spec.scheduling.priority = request.scheduling().priority();
  if (request.scheduling().has_queue_timeout()) {
    spec.scheduling.queue_timeout =
        violations.ToPositiveDuration("scheduling.queue_timeout", request.scheduling().queue_timeout());
  }
  spec.cache.bypass_prefix_cache = request.cache().bypass_prefix_cache();
  spec.cache.salt = request.cache().salt();
  violations.CheckTag("cache.salt", request.cache().salt());
  violations.CheckTag("user", request.user());
  violations.CheckTag("scheduling.session_id", request.scheduling().session_id());
  converted.warnings = ReadExtra(request.extra(), violations);
  RETURN_IF_ERROR(violations.ToStatus());
  return converted;
}

bool IsRequestId(std::string_view id) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == ':' || c == '-';
  };
  return !id.empty() && id.size() <= kMaxRequestIdBytes && std::all_of(id.begin(), id.end(), allowed);
}

absl::Status CheckModelName(std::string_view name, std::string_view served) {
  if (name.empty() || name == served) return absl::OkStatus();
  return ModelNotFound(name, served);
}

void FillPrompt(PromptEvent&& event, const Tokenizer* tokenizer, v1::PromptInfo* prompt) {
  prompt->set_num_tokens(static_cast<uint32_t>(event.num_prompt_tokens));
  prompt->set_num_cached_tokens(static_cast<uint32_t>(event.num_cached_tokens));
  prompt->mutable_token_ids()->Add(event.token_ids.begin(), event.token_ids.end());
  prompt->set_text(std::move(event.text));
  FillLogprobs(event.logprobs, tokenizer, prompt->mutable_logprobs());
}

void FillDelta(DeltaEvent&& event, const Tokenizer* tokenizer, v1::Delta* delta) {
  delta->set_index(static_cast<uint32_t>(event.candidate_index));
  delta->set_text(std::move(event.text));
  delta->set_reasoning(std::move(event.reasoning));
  for (ToolCallEvent& piece : event.tool_calls) FillToolCall(std::move(piece), delta->add_tool_calls());
  delta->set_num_tokens(static_cast<uint32_t>(event.num_tokens));
  if (!event.token_ids.empty()) delta->mutable_token_ids()->Add(event.token_ids.begin(), event.token_ids.end());
  if (!event.logprobs.empty()) FillLogprobs(event.logprobs, tokenizer, delta->mutable_logprobs());
}

void FillFinished(FinishedEvent&& event, v1::Finished* finished) {
  finished->set_index(static_cast<uint32_t>(event.candidate_index));
  finished->set_finish_reason(ToProto(event.reason));
  finished->set_seed(event.seed);
  finished->set_num_tokens(static_cast<uint32_t>(event.num_output_tokens));
  if (HasStopMatch(event)) FillStopMatch(event, finished->mutable_stop_match());
}

void FillUsage(int32_t num_prompt_tokens, int32_t num_cached_tokens, int32_t num_output_tokens, v1::Usage* usage) {
  usage->set_prompt_tokens(static_cast<uint32_t>(num_prompt_tokens));
  usage->set_completion_tokens(static_cast<uint32_t>(num_output_tokens));
  usage->set_total_tokens(static_cast<uint32_t>(num_prompt_tokens) + static_cast<uint32_t>(num_output_tokens));
  usage->set_cached_prompt_tokens(static_cast<uint32_t>(num_cached_tokens));
}

void FillUsage(const SummaryEvent& event, v1::Usage* usage) {
  FillUsage(event.num_prompt_tokens, event.num_cached_tokens, event.num_output_tokens, usage);
  usage->set_reasoning_tokens(static_cast<uint32_t>(event.num_reasoning_tokens));
}

void FillTiming(const RequestTiming& timing, absl::Duration tokenize_time, v1::Timing* proto) {
  *proto->mutable_queue() = ToProtoDuration(timing.queue);
  *proto->mutable_tokenize() = ToProtoDuration(tokenize_time);
  *proto->mutable_prefill() = ToProtoDuration(timing.prefill);
  *proto->mutable_time_to_first_token() = ToProtoDuration(timing.time_to_first_token);
  *proto->mutable_decode() = ToProtoDuration(timing.decode);
  *proto->mutable_total() = ToProtoDuration(timing.total);
  proto->set_preemptions(static_cast<uint32_t>(timing.num_preemptions));
}

void AppendDelta(DeltaEvent&& event, const Tokenizer* tokenizer, v1::Candidate* candidate) {
  candidate->mutable_text()->append(event.text);
  candidate->mutable_reasoning()->append(event.reasoning);
  for (ToolCallEvent& piece : event.tool_calls) {
    if (piece.index < candidate->tool_calls_size()) {
      candidate->mutable_tool_calls(piece.index)->mutable_arguments_json()->append(piece.arguments);
    } else {
      FillToolCall(std::move(piece), candidate->add_tool_calls());
    }
  }
  candidate->set_num_tokens(candidate->num_tokens() + static_cast<uint32_t>(event.num_tokens));
  candidate->mutable_token_ids()->Add(event.token_ids.begin(), event.token_ids.end());
  FillLogprobs(event.logprobs, tokenizer, candidate->mutable_logprobs());
}

void SetFinished(FinishedEvent&& event, v1::Candidate* candidate) {
  candidate->set_finish_reason(ToProto(event.reason));
  candidate->set_seed(event.seed);
  candidate->set_num_tokens(static_cast<uint32_t>(event.num_output_tokens));
  if (HasStopMatch(event)) FillStopMatch(event, candidate->mutable_stop_match());
}

void FillModel(const EngineInfo& info, const RequestLimits& limits, bool has_tokenizer, absl::Time create_time,
               v1::Model* model) {
  model->set_name(info.model_name);
  model->set_architecture(info.architecture);
  model->set_max_model_len(static_cast<uint32_t>(info.max_model_len));
  model->set_vocab_size(static_cast<uint32_t>(info.vocab_size));
  model->set_num_parameters(info.num_parameters);
  model->set_num_active_parameters(info.num_active_parameters);
  model->set_weights_dtype(info.weights_dtype);
  model->set_kv_cache_dtype(info.kv_cache_dtype);
  model->mutable_eos_token_ids()->Add(info.eos_token_ids.begin(), info.eos_token_ids.end());
  model->set_system_fingerprint(info.fingerprint);
  *model->mutable_create_time() = ToProtoTimestamp(create_time);

  v1::ModelCapabilities* can = model->mutable_capabilities();
  can->set_text_input(has_tokenizer);
  can->set_token_input(true);
  can->set_chat_input(has_tokenizer && info.has_chat_template);
  can->set_image_input(false);
  can->set_logprobs(limits.max_logprobs > 0);
  can->set_prompt_logprobs(limits.max_logprobs > 0);
  can->set_structured_output(has_tokenizer);
  can->set_tool_call_parsing(info.parses_tool_calls);
  can->set_reasoning_parsing(info.splits_reasoning);
  can->set_adapters(false);

  v1::ModelLimits* most = model->mutable_limits();
  most->set_max_candidates(static_cast<uint32_t>(limits.max_num_candidates));
  most->set_max_logprobs(static_cast<uint32_t>(limits.max_logprobs));
  most->set_max_prompt_bytes(static_cast<uint32_t>(limits.max_prompt_bytes));
  most->set_max_stop_strings(static_cast<uint32_t>(limits.max_stop_strings));
}

void FillLoad(const EngineLoad& load, absl::Time time, v1::Load* proto) {
  *proto->mutable_time() = ToProtoTimestamp(time);
  proto->set_draining(load.is_draining);
  proto->set_healthy(load.is_healthy);
  v1::RankLoad* rank = proto->add_ranks();
  rank->set_num_running(static_cast<uint32_t>(load.num_running));
  rank->set_num_waiting(static_cast<uint32_t>(load.num_waiting));
  rank->set_num_waiting_tokens(load.num_waiting_tokens);
  rank->set_blocks_used(static_cast<uint32_t>(load.blocks_used));
  rank->set_blocks_cached(static_cast<uint32_t>(load.blocks_cached));
  rank->set_blocks_free(static_cast<uint32_t>(load.blocks_free));
  rank->set_prefix_queried_tokens(load.prefix_queried_tokens);
  rank->set_prefix_hit_tokens(load.prefix_hit_tokens);
  rank->set_decode_tokens_per_second(load.decode_tokens_per_second);
  rank->set_prefill_tokens_per_second(load.prefill_tokens_per_second);
}

}  // namespace expertd
