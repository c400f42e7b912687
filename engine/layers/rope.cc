#include "engine/layers/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/base/log.h"

namespace expertd {
namespace {

// The dimension (a real number) whose wave turns `rotations` times over the original length; YaRN, section 3.2.
double CorrectionDim(const RopeSpec& spec, const YarnRope& yarn, double rotations) {
  return spec.rotary_dim *
         std::log(static_cast<double>(yarn.original_max_positions) / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(spec.theta));
}

void ScaleByYarn(const RopeSpec& spec, const YarnRope& yarn, std::vector<double>& frequencies) {
  double low = CorrectionDim(spec, yarn, yarn.beta_fast);
  double high = CorrectionDim(spec, yarn, yarn.beta_slow);
  if (yarn.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, spec.rotary_dim - 1.0);
  if (low == high) high += 0.001;  // as the reference does, instead of dividing by zero
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double interpolated = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] *= (1.0 - interpolated) + interpolated / yarn.factor;
  }
}

}  // namespace

std::vector<double> RopeFrequencies(const RopeSpec& spec) {
  std::vector<double> frequencies(static_cast<size_t>(spec.rotary_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(spec.theta, -2.0 * static_cast<double>(i) / spec.rotary_dim);
  }
  if (const auto* linear = std::get_if<LinearRope>(&spec.scaling)) {
    for (double& frequency : frequencies) frequency /= linear->factor;
  } else if (const auto* yarn = std::get_if<YarnRope>(&spec.scaling)) {
    ScaleByYarn(spec, *yarn, frequencies);
  }
  return frequencies;
}

double RopeAmplitude(const RopeSpec& spec) {
  const auto* yarn = std::get_if<YarnRope>(&spec.scaling);
  return yarn == nullptr ? 1.0 : yarn->attention_factor;
}

RopeTable::RopeTable(const RopeSpec& spec, int64_t max_positions)
    : frequencies_(RopeFrequencies(spec)),
      amplitude_(RopeAmplitude(spec)),
      max_positions_(max_positions),
      chunks_(std::make_unique<Chunk[]>(static_cast<size_t>((max_positions + kChunkPositions - 1) / kChunkPositions))) {
}

RopeRow RopeTable::Row(int64_t position) const {
  EXPERTD_CHECK(position >= 0 && position < max_positions_, position, " of ", max_positions_);
  Chunk& chunk = chunks_[position / kChunkPositions];
  std::call_once(chunk.once, [&] { Fill(chunk, position / kChunkPositions * kChunkPositions); });
  const float* const row = chunk.angles.get() + (position % kChunkPositions) * 2 * half_dim();
  return {row, row + half_dim()};
}

void RopeTable::Fill(Chunk& chunk, int64_t first_position) const {
  chunk.angles = std::make_unique<float[]>(static_cast<size_t>(kChunkPositions * 2 * half_dim()));
  float* out = chunk.angles.get();
  for (int64_t position = first_position; position < first_position + kChunkPositions; ++position) {
    for (int64_t i = 0; i < half_dim(); ++i) {
      const double angle = static_cast<double>(position) * frequencies_[i];
      out[i] = static_cast<float>(std::cos(angle) * amplitude_);
      out[half_dim() + i] = static_cast<float>(std::sin(angle) * amplitude_);
    }
    out += 2 * half_dim();
  }
}

}  // namespace expertd
