// The layout of the paged KV cache: what the attention kernels write and read, and nothing else knows.
//
// In each layer a block of the pool has, for every K/V head, a tile of K and a tile of V of its `block_size` tokens.
// With head_dim (of K) and value_dim (of V) rounded up to multiples of kKvDimUnit, so that rows of V are whole vectors:
//   f32   K [head_dim][block_size], as the lanes of scores are keys; V [block_size][value_dim]
//   int8  the same of signed codes, and behind them [block_size] f32 scales: element = scale * code. A token has one
//         scale for its K and one for its V in each head.
//   bf16  K [head_dim / 2][block_size][2]; V [block_size / 2][value_dim][2]: the pairs along the sums of scores and of
//         weighted values that dot-product instructions multiply
// Tiles have a multiple of 64 bytes. An odd dimension is followed by one zero; what lies beyond means nothing.
//
// A latent cache (multi-head latent attention, arXiv 2405.04434) has tiles of K alone: the value of a token is the
// first value_dim elements of its key, with the key's scale.
#pragma once

#include <cstdint>
#include <string_view>

namespace expertd {

enum class KvFormat { kF32, kBF16, kInt8 };

// "f32", "bf16", "int8".
constexpr std::string_view KvFormatName(KvFormat format) {
  constexpr std::string_view kNames[] = {"f32", "bf16", "int8"};
  return kNames[static_cast<int>(format)];
}

inline constexpr KvFormat kKvFormats[] = {KvFormat::kF32, KvFormat::kBF16, KvFormat::kInt8};

inline constexpr int kKvDimUnit = 16;

constexpr int PaddedKvDim(int dim) { return (dim + kKvDimUnit - 1) / kKvDimUnit * kKvDimUnit; }

// Bytes that K (dim: head_dim), or V (dim: value_dim), of one token takes in one head of one layer.
constexpr int64_t KvTokenBytes(KvFormat format, int dim) {
  constexpr int64_t kElementBytes[] = {4, 2, 1};
  const int64_t scale_bytes = format == KvFormat::kInt8 ? 4 : 0;
  return PaddedKvDim(dim) * kElementBytes[static_cast<int>(format)] + scale_bytes;
}

// Bytes of a tile of K, or of V. block_size: 16, 32, 64 or 128.
constexpr int64_t KvTileBytes(KvFormat format, int dim, int block_size) {
  return block_size * KvTokenBytes(format, dim);
}

}  // namespace expertd
