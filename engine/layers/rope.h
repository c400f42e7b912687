// RopeTable: cosines and sines of the rotary embedding (arXiv 2104.09864) for positions 0, 1, 2, ..., plain, linear or
// YaRN. Computed in double and rounded once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/layers/layer_specs.h"

namespace expertd {

// Angle per position of each pair of dimensions: [rotary_dim / 2].
std::vector<double> RopeFrequencies(const RopeSpec& spec);

// What cosines and sines are multiplied by: 1 except for YaRN.
double RopeAmplitude(const RopeSpec& spec);

// The angles of one position: rotary_dim / 2 cosines and as many sines.
struct RopeRow {
  const float* cos = nullptr;
  const float* sin = nullptr;
};

// Grows by chunks of positions when they are first needed, so that a limit of a million positions costs nothing.
// Thread-safe.
class RopeTable {
 public:
  // Positions in [0, max_positions).
  RopeTable(const RopeSpec& spec, int64_t max_positions);

  int64_t max_positions() const { return max_positions_; }

  // Bytes when all positions have been used.
  int64_t full_size_bytes() const { return max_positions_ * 2 * half_dim() * int64_t{sizeof(float)}; }

  // `position` must be in [0, max_positions) (CHECKed); the row lives as long as the table.
  RopeRow Row(int64_t position) const;

 private:
  static constexpr int64_t kChunkPositions = 256;

  struct Chunk {
    std::once_flag once;
    std::unique_ptr<float[]> angles;  // per position: cosines, then sines
  };

  int64_t half_dim() const { return static_cast<int64_t>(frequencies_.size()); }
  void Fill(Chunk& chunk, int64_t first_position) const;

  const std::vector<double> frequencies_;
  const double amplitude_;
  const int64_t max_positions_;
  const std::unique_ptr<Chunk[]> chunks_;
};

}  // namespace expertd
