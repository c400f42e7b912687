#include "clients/rest_shim/sampling_json.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "clients/rest_shim/errors.h"
#include "clients/rest_shim/structured_json.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

constexpr int64_t kInt32Min = std::numeric_limits<int32_t>::min();
constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr int64_t kUint32Max = std::numeric_limits<uint32_t>::max();

absl::Status ReadSampling(const JsonFields& fields, v1::SamplingParams& sampling) {
  using SetFloat = void (v1::SamplingParams::*)(float);
  constexpr std::pair<std::string_view, SetFloat> kFloats[] = {
      {"temperature", &v1::SamplingParams::set_temperature},
      {"top_p", &v1::SamplingParams::set_top_p},
      {"min_p", &v1::SamplingParams::set_min_p},
      {"typical_p", &v1::SamplingParams::set_typical_p},
      {"repetition_penalty", &v1::SamplingParams::set_repetition_penalty},
      {"frequency_penalty", &v1::SamplingParams::set_frequency_penalty},
      {"presence_penalty", &v1::SamplingParams::set_presence_penalty}};
  for (const auto& [name, set] : kFloats) {
    ASSIGN_OR_RETURN(const std::optional<double> value, fields.Number(name));
    if (value.has_value()) (sampling.*set)(static_cast<float>(*value));
  }
  ASSIGN_OR_RETURN(const std::optional<int64_t> top_k, fields.Integer("top_k", kInt32Min, kInt32Max));
  if (top_k.has_value()) sampling.set_top_k(static_cast<int32_t>(*top_k));
  ASSIGN_OR_RETURN(const std::optional<int64_t> n, fields.Integer("n", 0, kUint32Max));
  if (n.has_value()) sampling.set_n(static_cast<uint32_t>(*n));
  // OpenAI's seeds may be negative; those above 2^63 are ours, as answers tell them.
  if (const Json* seed = fields.Find("seed"); seed != nullptr && seed->is_number_unsigned()) {
    sampling.set_seed(seed->get<uint64_t>());
  } else {
    ASSIGN_OR_RETURN(const std::optional<int64_t> value, fields.Integer("seed", INT64_MIN, INT64_MAX));
    if (value.has_value()) sampling.set_seed(static_cast<uint64_t>(*value));
  }
  return absl::OkStatus();
}

// {"15496": -100}.
absl::Status ReadLogitBias(const JsonFields& fields, v1::SamplingParams& sampling) {
  const Json* bias = fields.Find("logit_bias");
  if (bias == nullptr) return absl::OkStatus();
  if (!bias->is_object()) return fields.Invalid("logit_bias", "must be an object of token ids and numbers");
  for (const auto& [id, value] : bias->items()) {
    uint32_t token_id = 0;
    if (!absl::SimpleAtoi(id, &token_id) || !value.is_number()) {
      return fields.Invalid("logit_bias", "must be an object of token ids and numbers");
    }
    v1::LogitBias& entry = *sampling.add_logit_bias();
    entry.set_token_id(token_id);
    entry.set_bias(value.get<float>());
  }
  return absl::OkStatus();
}

// One string, or an array of them, into `texts`.
template <typename Texts>
absl::Status ReadTexts(const JsonFields& fields, std::string_view name, Texts& texts) {
  const Json* value = fields.Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (value->is_string()) {
    *texts.Add() = value->get<std::string>();
    return absl::OkStatus();
  }
  if (!value->is_array()) return fields.Invalid(name, "must be a string or an array of strings");
  for (const Json& text : *value) {
    if (!text.is_string()) return fields.Invalid(name, "must be a string or an array of strings");
    *texts.Add() = text.get<std::string>();
  }
  return absl::OkStatus();
}

absl::Status ReadStop(const JsonFields& fields, v1::StopConditions& stop) {
  // `max_completion_tokens` is the newer name; of both, the smaller counts.
  ASSIGN_OR_RETURN(const std::optional<int64_t> old_name, fields.Integer("max_tokens", 0, kUint32Max));
  ASSIGN_OR_RETURN(const std::optional<int64_t> new_name, fields.Integer("max_completion_tokens", 0, kUint32Max));
  if (old_name.has_value() || new_name.has_value()) {
    stop.set_max_tokens(static_cast<uint32_t>(std::min(old_name.value_or(kUint32Max), new_name.value_or(kUint32Max))));
  }
  ASSIGN_OR_RETURN(const std::optional<int64_t> min_tokens, fields.Integer("min_tokens", 0, kUint32Max));
  if (min_tokens.has_value()) stop.set_min_tokens(static_cast<uint32_t>(*min_tokens));
  RETURN_IF_ERROR(ReadTexts(fields, "stop", *stop.mutable_strings()));
  ASSIGN_OR_RETURN(const std::vector<uint32_t> token_ids, fields.TokenIds("stop_token_ids"));
  stop.mutable_token_ids()->Add(token_ids.begin(), token_ids.end());
  ASSIGN_OR_RETURN(const std::optional<bool> include_stop, fields.Bool("include_stop_str_in_output"));
  if (include_stop.has_value()) stop.set_include_stop_in_output(*include_stop);
  ASSIGN_OR_RETURN(const std::optional<bool> ignore_eos, fields.Bool("ignore_eos"));
  if (ignore_eos.has_value()) stop.set_ignore_eos(*ignore_eos);
  return absl::OkStatus();
}

// What would change the output, and is not to be had here.
absl::Status RefuseUnsupported(const JsonFields& fields, uint32_t n) {
  const Json* beam_search = fields.Find("use_beam_search");
  if (beam_search != nullptr && *beam_search != false) return fields.Invalid("use_beam_search", "is not supported");
  ASSIGN_OR_RETURN(const std::optional<int64_t> best_of, fields.Integer("best_of", 0, UINT32_MAX));
  if (best_of.has_value() && *best_of != n) return fields.Invalid("best_of", "is not supported beyond n");
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadSharedFields(const JsonFields& fields, v1::GenerateRequest& request) {
  ASSIGN_OR_RETURN(const std::optional<std::string> model, fields.String("model"));
  request.set_model(model.value_or(""));
  RETURN_IF_ERROR(ReadStructured(fields, request));
  RETURN_IF_ERROR(ReadSampling(fields, *request.mutable_sampling()));
  RETURN_IF_ERROR(RefuseUnsupported(fields, request.sampling().has_n() ? request.sampling().n() : 1));
  RETURN_IF_ERROR(ReadLogitBias(fields, *request.mutable_sampling()));
  RETURN_IF_ERROR(ReadTexts(fields, "bad_words", *request.mutable_sampling()->mutable_bad_words()));
  ASSIGN_OR_RETURN(const std::vector<uint32_t> allowed, fields.TokenIds("allowed_token_ids"));
  request.mutable_sampling()->mutable_allowed_token_ids()->Add(allowed.begin(), allowed.end());
  RETURN_IF_ERROR(ReadStop(fields, *request.mutable_stop()));
  ASSIGN_OR_RETURN(const std::optional<bool> skip_special, fields.Bool("skip_special_tokens"));
  if (skip_special.has_value()) request.mutable_output()->set_skip_special_tokens(*skip_special);
  // As vLLM has it: the lower, the sooner. The contract has it the other way round.
  ASSIGN_OR_RETURN(const std::optional<int64_t> priority, fields.Integer("priority", -kInt32Max, kInt32Max));
  if (priority.has_value()) request.mutable_scheduling()->set_priority(static_cast<int32_t>(-*priority));
  ASSIGN_OR_RETURN(const std::optional<std::string> salt, fields.String("cache_salt"));
  if (salt.has_value()) request.mutable_cache()->set_salt(*salt);
  ASSIGN_OR_RETURN(const std::optional<std::string> user, fields.String("user"));
  request.set_user(user.value_or(""));
  return absl::OkStatus();
}

absl::StatusOr<StreamChoice> ReadStreamChoice(const JsonFields& fields) {
  StreamChoice choice;
  ASSIGN_OR_RETURN(const std::optional<bool> stream, fields.Bool("stream"));
  choice.is_stream = stream.value_or(false);
  const Json* options = fields.Find("stream_options");
  if (options == nullptr) return choice;
  if (!options->is_object()) return fields.Invalid("stream_options", "must be an object");
  const JsonFields inner(*options, fields.NameOf("stream_options."));
  ASSIGN_OR_RETURN(const std::optional<bool> include, inner.Bool("include_usage"));
  ASSIGN_OR_RETURN(const std::optional<bool> continuous, inner.Bool("continuous_usage_stats"));
  choice.include_usage = include.value_or(false);
  choice.continuous_usage = continuous.value_or(false);
  return choice;
}

}  // namespace expertd::rest
