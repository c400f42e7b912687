#include "engine/sampling/selection.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "engine/base/log.h"

namespace expertd {
namespace {

__extension__ using Uint128 = unsigned __int128;

constexpr float kLowestLogit = std::numeric_limits<float>::lowest();
// Beyond this exponent a token has no mass: exp(-28.5) < 2^-41.
constexpr double kNoMassExponent = -28.5;
// Up to this many candidates are sorted; more are first put into buckets by their logit.
constexpr size_t kMaxSorted = 256;
constexpr int kNumBuckets = 1024;

uint64_t CandidateMass(const Candidate& candidate, const RowScale& scale) {
  return MassOf(scale.Exponent(candidate.logit));
}

void SortCandidates(std::vector<Candidate>& candidates) {
  // A lambda, so that the comparison is compiled into the sort.
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return ComesBefore(a, b); });
}

// Never lower for a lower logit, so that buckets are in the order of candidates.
int BucketOf(float exponent) {
  constexpr float kPerExponent = static_cast<float>(kNumBuckets / -kNoMassExponent);
  const float depth = -exponent * kPerExponent;
  return depth < kNumBuckets - 1 ? static_cast<int>(depth) : kNumBuckets - 1;
}

// Adds up the mass of many candidates by bucket; exponentials by vectors, the rest one by one.
uint64_t FillBuckets(std::span<const Candidate> candidates, const RowScale& scale, std::vector<uint64_t>& buckets) {
  buckets.assign(kNumBuckets, 0);
  uint64_t total = 0;
  for (size_t begin = 0; begin < candidates.size(); begin += kLogitsBlock) {
    const std::span<const Candidate> chunk =
        candidates.subspan(begin, std::min<size_t>(kLogitsBlock, candidates.size() - begin));
    float exponents[kLogitsBlock] = {}, values[kLogitsBlock];
    for (size_t i = 0; i < chunk.size(); ++i) exponents[i] = scale.Exponent(chunk[i].logit);
    ExpOfBlock(exponents, values);
    for (size_t i = 0; i < chunk.size(); ++i) {
      const uint64_t mass = ToMass(values[i]);
      buckets[BucketOf(exponents[i])] += mass;
      total += mass;
    }
  }
  return total;
}

// Readies scratch.candidates for FindPoint, by sorting them or by adding up their mass by bucket. Returns their mass.
uint64_t PrepareCandidates(const RowScale& scale, SamplerScratch& scratch) {
  if (scratch.candidates.size() > kMaxSorted) return FillBuckets(scratch.candidates, scale, scratch.masses);
  SortCandidates(scratch.candidates);
  uint64_t total = 0;
  for (const Candidate& candidate : scratch.candidates) total += CandidateMass(candidate, scale);
  return total;
}

// A point of the cumulative mass of the candidates in their order: the one on which it falls, and the mass up to and
// with it.
struct MassPoint {
  Candidate candidate;
  uint64_t mass_through = 0;
};

MassPoint WalkSorted(std::span<const Candidate> sorted, const RowScale& scale, uint64_t mass_before, uint64_t point) {
  for (const Candidate& candidate : sorted) {
    mass_before += CandidateMass(candidate, scale);
    if (point < mass_before) return {candidate, mass_before};
  }
  CheckFailed(__FILE__, __LINE__, "point < mass", StrCat("point ", point, " of ", mass_before));
}

// `point` is below the mass that PrepareCandidates returned.
MassPoint FindPoint(const RowScale& scale, uint64_t point, SamplerScratch& scratch) {
  if (scratch.candidates.size() <= kMaxSorted) return WalkSorted(scratch.candidates, scale, 0, point);
  uint64_t mass_before = 0;
  int bucket = 0;
  while (point - mass_before >= scratch.masses[bucket]) mass_before += scratch.masses[bucket++];
  scratch.bucket.clear();
  for (const Candidate& candidate : scratch.candidates) {
    if (BucketOf(scale.Exponent(candidate.logit)) == bucket) scratch.bucket.push_back(candidate);
  }
  SortCandidates(scratch.bucket);
  return WalkSorted(scratch.bucket, scale, mass_before, point);
}

// The least mass m > 0 of a prefix with m / total >= top_p.
uint64_t NucleusMass(uint64_t total, float top_p) {
  const double mass = std::ceil(static_cast<double>(top_p) * static_cast<double>(total));
  return mass < static_cast<double>(total) ? std::max<uint64_t>(static_cast<uint64_t>(mass), 1) : total;
}

// A logit a little below the one with this exponent, for the rounding of exp and of the sum here: where it is used, to
// read too much costs time only.
float FloorAt(double exponent, const RowScale& scale, double temperature) {
  const double distance = std::max(exponent - 1e-3, kNoMassExponent) * temperature;
  const double floor = scale.max + distance - 1e-6 * (std::fabs(scale.max) - distance);
  return std::max(static_cast<float>(floor), kLowestLogit);
}

// A logit below which nothing belongs to the nucleus: all tokens whose mass is at most (total - nucleus) / n have
// together no more than what may be left out. Masses are rounded, by half a unit at most.
float NucleusFloor(const RowScale& scale, double temperature, uint64_t total, uint64_t nucleus, size_t n) {
  const double left_out = static_cast<double>(total - nucleus) / static_cast<double>(n) - 0.5;
  return FloorAt(std::log(std::max(left_out, 0x1p-10) * 0x1p-40), scale, temperature);
}

// Temperatures beyond what a float can invert count as the largest or smallest one that it can.
RowScale MakeScale(float max, float temperature) {
  return {max, std::max(1.0f / temperature, std::numeric_limits<float>::min())};
}

int32_t DrawByBlocks(std::span<const float> logits, const Selection& selection, uint64_t point,
                     std::span<const uint64_t> masses) {
  size_t block = 0;
  while (point >= masses[block]) point -= masses[block++];
  for (size_t i = block * kLogitsBlock; i < logits.size(); ++i) {
    if (!(logits[i] >= selection.last.logit)) continue;
    const uint64_t mass = MassOf(selection.scale.Exponent(logits[i]));
    if (point < mass) return static_cast<int32_t>(i);
    point -= mass;
  }
  CheckFailed(__FILE__, __LINE__, "point < mass", "a draw beyond the mass of the row");
}

}  // namespace

float KthLargest(std::span<const float> logits, int k, SamplerScratch& scratch) {
  std::vector<float>& values = scratch.values;
  const auto nth = [&values, k] {
    std::nth_element(values.begin(), values.begin() + (k - 1), values.end(), std::greater<float>());
    return values[k - 1];
  };
  if (static_cast<size_t>(k) > scratch.block_max.size()) {
    values.assign(logits.begin(), logits.end());
    return nth();
  }
  // k blocks have an element at least as large as the k-th largest maximum: the answer is no smaller, and only those
  // blocks hold anything that counts.
  values.assign(scratch.block_max.begin(), scratch.block_max.end());
  const float bound = nth();
  values.clear();
  for (size_t b = 0; b < scratch.block_max.size(); ++b) {
    if (!(scratch.block_max[b] >= bound)) continue;
    const size_t end = std::min(logits.size(), (b + 1) * kLogitsBlock);
    for (size_t i = b * kLogitsBlock; i < end; ++i) {
      if (logits[i] >= bound) values.push_back(logits[i]);
    }
  }
  return nth();
}

void GatherCandidates(std::span<const float> logits, float threshold, SamplerScratch& scratch) {
  for (size_t b = 0; b < scratch.block_max.size(); ++b) {
    if (!(scratch.block_max[b] >= threshold)) continue;
    const size_t end = std::min(logits.size(), (b + 1) * kLogitsBlock);
    for (size_t i = b * kLogitsBlock; i < end; ++i) {
      if (logits[i] >= threshold) scratch.candidates.push_back({logits[i], static_cast<int32_t>(i)});
    }
  }
}

Selection SelectTokens(std::span<const float> logits, float max, const SamplingParams& params,
                       SamplerScratch& scratch) {
  Selection selection{.scale = MakeScale(max, params.temperature)};
  const double temperature = params.temperature;
  float threshold = kLowestLogit;  // masked tokens are below it
  if (params.min_p > 0.0f) {
    threshold = std::max(threshold, static_cast<float>(max + temperature * std::log(double{params.min_p})));
  }
  const bool has_top_k = params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size();
  if (has_top_k) threshold = std::max(threshold, KthLargest(logits, params.top_k, scratch));
  selection.last = {threshold, std::numeric_limits<int32_t>::max()};

  const bool has_top_p = params.top_p < 1.0f;
  if (!has_top_k) {
    const float mass_floor = FloorAt(kNoMassExponent, selection.scale, temperature);
    selection.total_mass = SumMasses(logits, scratch.block_max, selection.scale, std::max(threshold, mass_floor),
                                     scratch.masses);
    if (!has_top_p) return selection;
    const uint64_t nucleus = NucleusMass(selection.total_mass, params.top_p);
    const float floor =
        NucleusFloor(selection.scale, temperature, selection.total_mass, nucleus, logits.size());
    threshold = std::max(threshold, floor);
  }
  selection.has_candidates = true;
  scratch.candidates.clear();
  GatherCandidates(logits, threshold, scratch);
  const uint64_t candidate_mass = PrepareCandidates(selection.scale, scratch);
  if (has_top_k) selection.total_mass = candidate_mass;
  if (has_top_p) {
    const uint64_t nucleus = NucleusMass(selection.total_mass, params.top_p);
    const MassPoint end = FindPoint(selection.scale, nucleus - 1, scratch);
    selection.last = end.candidate;
    selection.total_mass = end.mass_through;
  }
  return selection;
}

int32_t DrawToken(std::span<const float> logits, const Selection& selection, uint64_t random_bits,
                  SamplerScratch& scratch) {
  const auto point = static_cast<uint64_t>((Uint128{random_bits} * selection.total_mass) >> 64);
  if (!selection.has_candidates) return DrawByBlocks(logits, selection, point, scratch.masses);
  return FindPoint(selection.scale, point, scratch).candidate.token;
}

}  // namespace expertd
