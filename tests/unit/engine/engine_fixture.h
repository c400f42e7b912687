// Helpers of the engine's tests: engines over the bundled model, requests by ids, and streams read to their end.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/request/errors.h"

namespace expertd::testing {

inline EngineConfig BundledConfig() {
  EngineConfig config;
  config.model_path = std::string(EXPERTD_SOURCE_DIR) + "/models/expertd-tiny";
  config.num_threads = 2;
  config.max_model_len = 1024;
  config.num_kv_blocks = 1024;
  return config;
}

inline std::unique_ptr<Engine> MakeEngine(const EngineConfig& config, StatsSink* stats = nullptr) {
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(config, stats);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

// `count` ids that depend on `salt` only; far from the special tokens at either end of the vocabulary.
inline std::vector<int32_t> SomeTokens(int count, uint32_t salt) {
  std::vector<int32_t> ids;
  uint32_t state = salt * 2654435761u + 12345u;
  for (int i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    ids.push_back(static_cast<int32_t>(300 + (state >> 8) % 1000));
  }
  return ids;
}

inline RequestSpec TokenSpec(std::vector<int32_t> ids, int max_tokens) {
  RequestSpec spec;
  spec.input = TokenInput{std::move(ids)};
  spec.sampling.temperature = 0.0f;
  spec.sampling.seed = 7;
  spec.stop.max_tokens = max_tokens;
  spec.stop.ignore_eos = true;
  spec.output.token_ids = true;
  return spec;
}

inline absl::StatusOr<std::shared_ptr<GenerationStream>> Submit(Engine& engine, RequestSpec spec) {
  absl::StatusOr<std::shared_ptr<const Request>> request = Request::Create(std::move(spec), engine.request_limits());
  if (!request.ok()) return request.status();
  return engine.Submit(*request);
}

// All that a stream brought, by candidate.
struct Output {
  struct Candidate {
    std::string text;
    std::vector<int32_t> token_ids;
    std::vector<TokenLogprob> logprobs;
    FinishedEvent finished;
  };
  PromptEvent prompt;
  std::vector<Candidate> candidates;
  SummaryEvent summary;
  absl::Status status;

  const Candidate& only() const { return candidates.at(0); }
};

inline void AddEvent(StreamEvent event, Output* output) {
  const auto candidate = [&](int32_t index) -> Output::Candidate& {
    if (output->candidates.size() <= static_cast<size_t>(index)) output->candidates.resize(index + 1);
    return output->candidates[index];
  };
  if (auto* prompt = std::get_if<PromptEvent>(&event)) output->prompt = *prompt;
  if (auto* summary = std::get_if<SummaryEvent>(&event)) output->summary = *summary;
  if (auto* finished = std::get_if<FinishedEvent>(&event)) candidate(finished->candidate_index).finished = *finished;
  if (auto* delta = std::get_if<DeltaEvent>(&event)) {
    Output::Candidate& to = candidate(delta->candidate_index);
    to.text += delta->text;
    to.token_ids.insert(to.token_ids.end(), delta->token_ids.begin(), delta->token_ids.end());
    to.logprobs.insert(to.logprobs.end(), delta->logprobs.begin(), delta->logprobs.end());
  }
}

inline Output ReadAll(GenerationStream& stream) {
  Output output;
  while (std::optional<StreamEvent> event = stream.Next()) AddEvent(*std::move(event), &output);
  output.status = stream.status();
  return output;
}

inline Output Generate(Engine& engine, RequestSpec spec) {
  absl::StatusOr<std::shared_ptr<GenerationStream>> stream = Submit(engine, std::move(spec));
  if (!stream.ok()) {
    Output output;
    output.status = stream.status();
    return output;
  }
  return ReadAll(**stream);
}

inline std::string Reason(const absl::Status& status) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  return detail.has_value() ? detail->reason : "";
}

}  // namespace expertd::testing
