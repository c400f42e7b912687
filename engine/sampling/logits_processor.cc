#include "engine/sampling/logits_processor.h"

#include <algorithm>
#include <bit>

#include "engine/base/log.h"
#include "engine/sampling/row_math.h"

namespace expertd {
namespace {

bool IsInRow(int32_t token, std::span<const float> logits) {
  return token >= 0 && static_cast<size_t>(token) < logits.size();
}

bool EndsWith(std::span<const int32_t> tokens, std::span<const int32_t> suffix) {
  return tokens.size() >= suffix.size() && std::equal(suffix.begin(), suffix.end(), tokens.end() - suffix.size());
}

bool MasksStopTokens(const Sequence& sequence) { return sequence.num_output_tokens() < sequence.stop.min_tokens; }

void MaskStopTokens(const Sequence& sequence, std::span<float> logits) {
  MaskTokens(sequence.eos_token_ids, logits);
  MaskTokens(sequence.stop.token_ids, logits);
}

}  // namespace

bool UsesPenalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.frequency_penalty != 0.0f || params.presence_penalty != 0.0f;
}

void TokenHistory::CatchUp(std::span<const int32_t> tokens, int num_prompt_tokens) {
  for (; num_counted_ < static_cast<int>(tokens.size()); ++num_counted_) {
    const int32_t token = tokens[num_counted_];
    const auto [entry, is_new] = entry_of_token_.try_emplace(token, static_cast<int32_t>(entries_.size()));
    if (is_new) entries_.push_back({token, 0});
    if (num_counted_ >= num_prompt_tokens) ++entries_[entry->second].num_outputs;
  }
}

void ApplyAllowedTokens(std::span<const int32_t> allowed, std::span<float> logits, std::vector<float>& scratch) {
  if (allowed.empty()) return;
  scratch.clear();
  for (const int32_t token : allowed) scratch.push_back(IsInRow(token, logits) ? logits[token] : kMaskedLogit);
  std::fill(logits.begin(), logits.end(), kMaskedLogit);
  for (size_t i = 0; i < allowed.size(); ++i) {
    if (IsInRow(allowed[i], logits)) logits[allowed[i]] = scratch[i];
  }
}

void ApplyBadWords(std::span<const std::vector<int32_t>> bad_words, std::span<const int32_t> tokens,
                   std::span<float> logits) {
  for (const std::vector<int32_t>& word : bad_words) {
    if (word.empty() || !IsInRow(word.back(), logits)) continue;
    if (EndsWith(tokens, std::span(word).first(word.size() - 1))) logits[word.back()] = kMaskedLogit;
  }
}

void MaskTokens(std::span<const int32_t> token_ids, std::span<float> logits) {
  for (const int32_t token : token_ids) {
    if (IsInRow(token, logits)) logits[token] = kMaskedLogit;
  }
}

void ApplyConstraint(const Sequence& sequence, std::span<float> logits, std::vector<float>& scratch) {
  const ConstraintCursor& cursor = *sequence.constraint;
  const std::shared_ptr<const TokenMask> mask = cursor.AllowedTokens();
  if (mask == nullptr) {
    if (!cursor.may_end()) MaskStopTokens(sequence, logits);
    return;
  }
  // The logits that stay although the sets of tokens do not have them.
  const auto for_each_kept = [&](auto visit) {
    const auto visit_all = [&](std::span<const int32_t> tokens) {
      for (const int32_t token : tokens) {
        if (IsInRow(token, logits)) visit(logits[token]);
      }
    };
    visit_all(mask->tokens);
    if (!cursor.may_end()) return;
    if (!sequence.stop.ignore_eos) visit_all(sequence.eos_token_ids);
    visit_all(sequence.stop.token_ids);
  };
  scratch.clear();
  for_each_kept([&](float logit) { scratch.push_back(logit); });
  std::span<const uint64_t> plain;
  if (mask->plain_characters > 0) plain = cursor.vocabulary().PlainTokens(mask->plain_characters);
  for (size_t begin = 0; begin < logits.size(); begin += 64) {
    const size_t word = begin / 64, end = std::min(begin + 64, logits.size());
    uint64_t allowed = word < plain.size() ? plain[word] : 0;
    if (word < mask->words.size()) allowed |= mask->words[word];
    if (allowed == 0) {
      std::fill_n(logits.begin() + static_cast<ptrdiff_t>(begin), end - begin, kMaskedLogit);
      continue;
    }
    uint64_t masked = ~allowed;
    if (end - begin < 64) masked &= (uint64_t{1} << (end - begin)) - 1;
    for (; masked != 0; masked &= masked - 1) {
      logits[begin + static_cast<size_t>(std::countr_zero(masked))] = kMaskedLogit;
    }
  }
  size_t index = 0;
  for_each_kept([&](float& logit) { logit = scratch[index++]; });
}

void ApplyLogitBias(std::span<const std::pair<int32_t, float>> bias, std::span<float> logits) {
  for (const auto& [token, value] : bias) {
    if (IsInRow(token, logits)) logits[token] += value;
  }
}

void ApplyRepetitionPenalty(const TokenHistory& history, float penalty, std::span<float> logits) {
  for (const TokenHistory::Entry& entry : history.entries()) {
    if (!IsInRow(entry.token, logits)) continue;
    float& logit = logits[entry.token];
    logit = logit > 0.0f ? logit / penalty : logit * penalty;
  }
}

void ApplyFrequencyAndPresencePenalty(const TokenHistory& history, float frequency, float presence,
                                      std::span<float> logits) {
  for (const TokenHistory::Entry& entry : history.entries()) {
    if (entry.num_outputs == 0 || !IsInRow(entry.token, logits)) continue;
    logits[entry.token] -= frequency * static_cast<float>(entry.num_outputs);
    logits[entry.token] -= presence;
  }
}

bool HasLogitsProcessors(const Sequence& sequence) {
  const SamplingParams& params = sequence.sampling;
  return sequence.constraint.has_value() || !params.allowed_token_ids.empty() || !params.bad_words.empty() ||
         !params.logit_bias.empty() || MasksStopTokens(sequence) || UsesPenalties(params);
}

void ApplyLogitsProcessors(const Sequence& sequence, TokenHistory* history, std::span<float> logits,
                           std::vector<float>& scratch) {
  const SamplingParams& params = sequence.sampling;
  if (sequence.constraint.has_value()) ApplyConstraint(sequence, logits, scratch);
  ApplyAllowedTokens(params.allowed_token_ids, logits, scratch);
  ApplyBadWords(params.bad_words, sequence.tokens, logits);
  if (MasksStopTokens(sequence)) MaskStopTokens(sequence, logits);
  ApplyLogitBias(params.logit_bias, logits);
  if (!UsesPenalties(params)) return;
  EXPERTD_CHECK(history != nullptr, "sequence ", sequence.id);
  history->CatchUp(sequence.tokens, sequence.num_prompt_tokens);
  if (params.repetition_penalty != 1.0f) ApplyRepetitionPenalty(*history, params.repetition_penalty, logits);
  ApplyFrequencyAndPresencePenalty(*history, params.frequency_penalty, params.presence_penalty, logits);
}

}  // namespace expertd
