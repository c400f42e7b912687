#include "engine/sampling/selection.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "engine/base/log.h"

namespace expertd {
namespace {

__extension__ using Uint128 = unsigned __int128;

constexpr float kLowestLogit = std::numeric_limits<float>::lowest();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Beyond this exponent a token has no mass: exp(-28.5) < 2^-41.
constexpr double kNoMassExponent = -28.5;
// Up to this many candidates are sorted; more are first put into buckets by their logit.
constexpr size_t kMaxSorted = 256;
// Up to this many, one by one; when they are a large part of the row, it is faster to go through whole blocks.
constexpr size_t kMaxGathered = 4096;
constexpr int kNumBuckets = 2048;

void SortCandidates(std::vector<Candidate>& candidates) {
  // A lambda, so that the comparison is compiled into the sort.
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return ComesBefore(a, b); });
}

// A point of the cumulative mass of the candidates in their order: the one on which it falls, and the mass up to and
// with it.
struct MassPoint {
  Candidate candidate;
  uint64_t mass_through = 0;
};

// Calls visit(candidate, mass) for the candidates in order, until it returns true.
template <typename Visit>
void ForEachMass(const Kernels& kernels, std::span<const Candidate> candidates, const LogitsScale& scale, Visit visit) {
  float logits[kLogitsBlock];
  uint64_t masses[kLogitsBlock];
  for (; !candidates.empty(); candidates = candidates.subspan(std::min<size_t>(kLogitsBlock, candidates.size()))) {
    const std::span<const Candidate> chunk = candidates.first(std::min<size_t>(kLogitsBlock, candidates.size()));
    for (size_t i = 0; i < chunk.size(); ++i) logits[i] = chunk[i].logit;
    kernels.logit_masses(logits, static_cast<int64_t>(chunk.size()), scale, masses);
    for (size_t i = 0; i < chunk.size(); ++i) {
      if (visit(chunk[i], masses[i])) return;
    }
  }
}

MassPoint WalkSorted(const LogitsScale& scale, uint64_t mass_before, uint64_t point, const SamplerScratch& scratch) {
  MassPoint found{.mass_through = mass_before};
  ForEachMass(*scratch.kernels, scratch.candidates, scale, [&](const Candidate& candidate, uint64_t mass) {
    found = {candidate, found.mass_through + mass};
    return point < found.mass_through;
  });
  EXPERTD_CHECK(point < found.mass_through, "point ", point, " of ", found.mass_through);
  return found;
}

// A logit a little below the one with this exponent, or above it, for the rounding of exp and of the sum here: where
// they are used, to read too much costs time only.
float FloorAt(double exponent, const LogitsScale& scale) {
  const double distance = std::max(exponent - 1e-3, kNoMassExponent) / scale.inverse_temperature;
  const double floor = scale.max + distance - 1e-6 * (std::fabs(scale.max) - distance);
  return static_cast<float>(std::max(floor, double{kLowestLogit}));
}

float CeilingAt(double exponent, const LogitsScale& scale) {
  const double distance = std::min(exponent + 1e-3, 0.0) / scale.inverse_temperature;
  const double ceiling = scale.max + distance + 1e-6 * (std::fabs(scale.max) - distance);
  return static_cast<float>(std::min(ceiling, double{scale.max}));
}

// Never lower for a lower logit, so that buckets are in the order of candidates; kNumBuckets below the threshold.
int BucketOf(float logit, const Selection& selection) {
  const float depth = -selection.scale.Exponent(logit) * selection.buckets_per_exponent;
  const int bucket = static_cast<int>(std::min(depth, kNumBuckets - 1.0f));
  return logit >= selection.threshold ? bucket : kNumBuckets;
}

// Adds up the mass of scratch.candidates by bucket.
void FillBucketsFromCandidates(const Selection& selection, SamplerScratch& scratch) {
  ForEachMass(*scratch.kernels, scratch.candidates, selection.scale, [&](const Candidate& candidate, uint64_t mass) {
    scratch.masses[BucketOf(candidate.logit, selection)] += mass;
    return false;
  });
}

// The same for all logits >= threshold: masses and buckets by vectors, the sums one by one.
void FillBucketsFromRow(std::span<const float> logits, const Selection& selection, SamplerScratch& scratch) {
  for (size_t b = 0; b < scratch.block_max.size(); ++b) {
    if (!(scratch.block_max[b] >= selection.threshold)) continue;
    const std::span<const float> rest = logits.subspan(b * kLogitsBlock);
    const std::span<const float> block = rest.first(std::min<size_t>(kLogitsBlock, rest.size()));
    uint64_t masses[kLogitsBlock];
    int buckets[kLogitsBlock];
    scratch.kernels->logit_masses(block.data(), static_cast<int64_t>(block.size()), selection.scale, masses);
    for (size_t i = 0; i < block.size(); ++i) buckets[i] = BucketOf(block[i], selection);
    for (size_t i = 0; i < block.size(); ++i) scratch.masses[buckets[i]] += masses[i];
  }
}

// Readies FindPoint for the tokens from selection.threshold on, by sorting them or by adding up their mass by bucket.
// Returns their mass.
uint64_t IndexCandidates(std::span<const float> logits, Selection& selection, SamplerScratch& scratch) {
  GatherCandidates(logits, selection.threshold, kInfinity, kMaxGathered + 1, scratch);
  if (scratch.candidates.size() > kMaxSorted) {
    selection.index = DrawIndex::kBuckets;
    const double range = -double{selection.scale.Exponent(selection.threshold)};
    selection.buckets_per_exponent = static_cast<float>(kNumBuckets / std::clamp(range, 1e-6, -kNoMassExponent));
    scratch.masses.assign(kNumBuckets + 1, 0);
    if (scratch.candidates.size() > kMaxGathered) {
      FillBucketsFromRow(logits, selection, scratch);
    } else {
      FillBucketsFromCandidates(selection, scratch);
    }
    return std::accumulate(scratch.masses.begin(), scratch.masses.end() - 1, uint64_t{0});
  }
  selection.index = DrawIndex::kSorted;
  SortCandidates(scratch.candidates);
  uint64_t total = 0;
  ForEachMass(*scratch.kernels, scratch.candidates, selection.scale, [&total](const Candidate&, uint64_t mass) {
    total += mass;
    return false;
  });
  return total;
}

// `point` is below the mass that IndexCandidates returned.
MassPoint FindPoint(std::span<const float> logits, const Selection& selection, uint64_t point,
                    SamplerScratch& scratch) {
  if (selection.index == DrawIndex::kSorted) return WalkSorted(selection.scale, 0, point, scratch);
  uint64_t mass_before = 0;
  int bucket = 0;
  while (point - mass_before >= scratch.masses[bucket]) mass_before += scratch.masses[bucket++];
  const double per_exponent = selection.buckets_per_exponent;
  const float low = bucket == kNumBuckets - 1 ? kLowestLogit : FloorAt(-(bucket + 1) / per_exponent, selection.scale);
  GatherCandidates(logits, std::max(low, selection.threshold), CeilingAt(-bucket / per_exponent, selection.scale),
                   logits.size(), scratch);
  std::erase_if(scratch.candidates, [&](const Candidate& c) { return BucketOf(c.logit, selection) != bucket; });
  SortCandidates(scratch.candidates);
  return WalkSorted(selection.scale, mass_before, point, scratch);
}

// The least mass m > 0 of a prefix with m / total >= top_p.
uint64_t NucleusMass(uint64_t total, float top_p) {
  const double mass = std::ceil(static_cast<double>(top_p) * static_cast<double>(total));
  return mass < static_cast<double>(total) ? std::max<uint64_t>(static_cast<uint64_t>(mass), 1) : total;
}

// A logit below which nothing belongs to the nucleus: all tokens whose mass is at most (total - nucleus) / n have
// together no more than what may be left out. Masses are rounded, by half a unit at most.
float NucleusFloor(const LogitsScale& scale, uint64_t total, uint64_t nucleus, size_t n) {
  const double left_out = static_cast<double>(total - nucleus) / static_cast<double>(n) - 0.5;
  return FloorAt(std::log(std::ldexp(std::max(left_out, 0x1p-10), -kMassBits)), scale);
}

// Temperatures beyond what a float can invert count as the largest or smallest one that it can.
LogitsScale MakeScale(float max, float temperature) {
  return {max, std::max(1.0f / temperature, std::numeric_limits<float>::min())};
}

int32_t DrawByBlocks(std::span<const float> logits, const Selection& selection, uint64_t point,
                     SamplerScratch& scratch) {
  size_t b = 0;
  while (point >= scratch.masses[b]) point -= scratch.masses[b++];
  const std::span<const float> rest = logits.subspan(b * kLogitsBlock);
  const std::span<const float> block = rest.first(std::min<size_t>(kLogitsBlock, rest.size()));
  uint64_t masses[kLogitsBlock];
  scratch.kernels->logit_masses(block.data(), static_cast<int64_t>(block.size()), selection.scale, masses);
  for (size_t i = 0; i < block.size(); ++i) {
    if (!(block[i] >= selection.last.logit)) continue;
    if (point < masses[i]) return static_cast<int32_t>(b * kLogitsBlock + i);
    point -= masses[i];
  }
  CheckFailed(__FILE__, __LINE__, "point < mass", "a draw beyond the mass of the row");
}

}  // namespace

SamplerScratch::SamplerScratch(const Kernels& kernels, size_t vocab_size) : kernels(&kernels) {
  const size_t num_blocks = (vocab_size + kLogitsBlock - 1) / kLogitsBlock;
  block_max.reserve(num_blocks);
  values.reserve(vocab_size);
  masses.reserve(std::max<size_t>(num_blocks, kNumBuckets + 1));
  raw_logits.reserve(vocab_size);
  tokens.reserve(vocab_size);
  candidates.reserve(vocab_size);
}

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

void GatherCandidates(std::span<const float> logits, float low, float high, size_t limit, SamplerScratch& scratch) {
  limit = std::min(limit, logits.size());
  if (scratch.tokens.size() < limit) scratch.tokens.resize(limit);
  const int64_t num_found = scratch.kernels->find_logits(LogitsRowOf(logits, scratch.block_max), low, high,
                                                         static_cast<int64_t>(limit), scratch.tokens.data());
  scratch.candidates.clear();
  for (const int32_t token : std::span(scratch.tokens).first(num_found)) {
    scratch.candidates.push_back({logits[token], token});
  }
}

Selection SelectTokens(std::span<const float> logits, float max, const SamplingParams& params,
                       SamplerScratch& scratch) {
  Selection selection{.scale = MakeScale(max, params.temperature)};
  float threshold = kLowestLogit;  // masked tokens are below it
  if (params.min_p > 0.0f) {
    const double distance = double{params.temperature} * std::log(double{params.min_p});
    threshold = std::max(threshold, static_cast<float>(max + distance));
  }
  const bool has_top_k = params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size();
  if (has_top_k) threshold = std::max(threshold, KthLargest(logits, params.top_k, scratch));
  selection.last = {threshold, std::numeric_limits<int32_t>::max()};

  const bool has_top_p = params.top_p < 1.0f;
  if (!has_top_k) {
    const float mass_floor = FloorAt(kNoMassExponent, selection.scale);
    selection.total_mass = SumMasses(*scratch.kernels, logits, scratch.block_max, selection.scale,
                                     std::max(threshold, mass_floor), scratch.masses);
    if (!has_top_p) return selection;
    const uint64_t nucleus = NucleusMass(selection.total_mass, params.top_p);
    threshold = std::max(threshold, NucleusFloor(selection.scale, selection.total_mass, nucleus, logits.size()));
  }
  selection.threshold = threshold;
  const uint64_t candidate_mass = IndexCandidates(logits, selection, scratch);
  if (has_top_k) selection.total_mass = candidate_mass;
  if (has_top_p) {
    const uint64_t nucleus = NucleusMass(selection.total_mass, params.top_p);
    const MassPoint end = FindPoint(logits, selection, nucleus - 1, scratch);
    selection.last = end.candidate;
    selection.total_mass = end.mass_through;
  }
  return selection;
}

int32_t DrawToken(std::span<const float> logits, const Selection& selection, uint64_t random_bits,
                  SamplerScratch& scratch) {
  const auto point = static_cast<uint64_t>((Uint128{random_bits} * selection.total_mass) >> 64);
  if (selection.index == DrawIndex::kBlocks) return DrawByBlocks(logits, selection, point, scratch);
  return FindPoint(logits, selection, point, scratch).candidate.token;
}

}  // namespace expertd
