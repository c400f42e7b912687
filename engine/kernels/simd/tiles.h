// Tile registers of AMX, or their emulation in memory, which lets the kernels be tested on a machine without them
// (EXPERTD_EMULATE_TILES, set only by the tests). Tiles are numbered at compile time. Operations and their arithmetic:
// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TILELOADD, TDPBSUD, TDPBSSD, TDPBF16PS.
#pragma once

// Rows of each of the eight tiles; every row has 64 bytes.
struct TileRows {
  uint8_t rows[8];
};

#if defined(EXPERTD_EMULATE_TILES)

struct EmulatedTile {
  int rows;
  uint8_t bytes[16][64];
};
inline thread_local EmulatedTile emulated_tiles[8];

EXPERTD_INLINE void ConfigureTiles(const TileRows& shape) {
  __builtin_memset(emulated_tiles, 0, sizeof(emulated_tiles));
  for (int i = 0; i < 8; ++i) emulated_tiles[i].rows = shape.rows[i];
}
EXPERTD_INLINE void ReleaseTiles() { __builtin_memset(emulated_tiles, 0xee, sizeof(emulated_tiles)); }

template <int kTile>
void ZeroTile() {
  __builtin_memset(emulated_tiles[kTile].bytes, 0, sizeof(emulated_tiles[kTile].bytes));
}
template <int kTile>
void LoadTile(const void* from, int64_t stride_bytes) {
  EmulatedTile& tile = emulated_tiles[kTile];
  for (int row = 0; row < tile.rows; ++row) {
    __builtin_memcpy(tile.bytes[row], static_cast<const uint8_t*>(from) + row * stride_bytes, 64);
  }
}
template <int kTile>
void StoreTile(void* to, int64_t stride_bytes) {
  const EmulatedTile& tile = emulated_tiles[kTile];
  for (int row = 0; row < tile.rows; ++row) {
    __builtin_memcpy(static_cast<uint8_t*>(to) + row * stride_bytes, tile.bytes[row], 64);
  }
}

template <typename A, typename B>
void EmulateByteDot(EmulatedTile& c, const EmulatedTile& a, const EmulatedTile& b) {
  for (int row = 0; row < c.rows; ++row) {
    int32_t sums[16];
    __builtin_memcpy(sums, c.bytes[row], 64);
    for (int step = 0; step < b.rows; ++step) {
      for (int i = 0; i < 64; ++i) {
        sums[i / 4] += static_cast<A>(a.bytes[row][4 * step + i % 4]) * static_cast<B>(b.bytes[step][i]);
      }
    }
    __builtin_memcpy(c.bytes[row], sums, 64);
  }
}
template <int kC, int kA, int kB>
void DotSignedUnsigned() {
  EmulateByteDot<int8_t, uint8_t>(emulated_tiles[kC], emulated_tiles[kA], emulated_tiles[kB]);
}
template <int kC, int kA, int kB>
void DotSignedSigned() {
  EmulateByteDot<int8_t, int8_t>(emulated_tiles[kC], emulated_tiles[kA], emulated_tiles[kB]);
}

inline float Bf16At(const uint8_t* from) {
  const uint32_t bits = static_cast<uint32_t>(from[0]) << 16 | static_cast<uint32_t>(from[1]) << 24;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
// Even and odd inputs are summed apart over the whole tile, then added together and to the sum so far.
template <int kC, int kA, int kB>
void DotBf16() {
  EmulatedTile &c = emulated_tiles[kC], &a = emulated_tiles[kA], &b = emulated_tiles[kB];
  for (int row = 0; row < c.rows; ++row) {
    for (int column = 0; column < 16; ++column) {
      float even = 0.0f, odd = 0.0f, sum;
      for (int step = 0; step < b.rows; ++step) {
        even = __builtin_fmaf(Bf16At(&a.bytes[row][4 * step]), Bf16At(&b.bytes[step][4 * column]), even);
        odd = __builtin_fmaf(Bf16At(&a.bytes[row][4 * step + 2]), Bf16At(&b.bytes[step][4 * column + 2]), odd);
      }
      __builtin_memcpy(&sum, &c.bytes[row][4 * column], 4);
      sum += even + odd;
      __builtin_memcpy(&c.bytes[row][4 * column], &sum, 4);
    }
  }
}

#else

EXPERTD_INLINE void ConfigureTiles(const TileRows& shape) {
  struct alignas(64) {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {};
  } config;
  for (int i = 0; i < 8; ++i) config.rows[i] = shape.rows[i];
  // The whole of it is read, which the intrinsic of g++ 12 does not say.
  __asm__ volatile("ldtilecfg %0" : : "m"(config));
}
EXPERTD_INLINE void ReleaseTiles() { __asm__ volatile("tilerelease"); }

template <int kTile>
EXPERTD_INLINE void ZeroTile() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
template <int kTile>
EXPERTD_INLINE void LoadTile(const void* from, int64_t stride_bytes) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride_bytes), "i"(kTile) : "memory");
}
template <int kTile>
EXPERTD_INLINE void StoreTile(void* to, int64_t stride_bytes) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride_bytes), "i"(kTile) : "memory");
}
// c += a b^T by steps of four bytes: a signed, b unsigned; or both signed; or both pairs of bf16.
template <int kC, int kA, int kB>
EXPERTD_INLINE void DotSignedUnsigned() {
  __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}
template <int kC, int kA, int kB>
EXPERTD_INLINE void DotSignedSigned() {
  __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}
template <int kC, int kA, int kB>
EXPERTD_INLINE void DotBf16() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}

#endif
