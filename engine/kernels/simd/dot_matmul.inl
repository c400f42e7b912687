// y = x W^T by dot-product instructions: each multiplies the four bytes of one step of k - four 8-bit codes, or a pair
// of bf16 - for a vector of output columns.
//
// A tile is up to kTileRows rows times one panel, or a few rows times several panels, so that enough sums are in
// flight; k goes from end to end. Integer sums are exact, so their order is free; sums of bf16 are chains in ascending
// k. For int4, sums are taken to floats after each group: the floats of a tile stay in the first-level cache. A panel
// stays in the second-level cache for all tiles of rows, while the next one comes in.

constexpr int kPanelVecs = kPanelColumns / kLanes;
constexpr int kDotTileRows = kLanes == 16 ? 12 : 3;
constexpr int kDotPrefetchBytes = 2048;

// Panels of a tile of `num_rows` rows.
constexpr int PanelsOf(int num_rows) {
  return kLanes == 16 ? (num_rows <= 2 ? 4 : num_rows <= 4 ? 2 : 1) : (num_rows == 1 ? 2 : 1);
}

struct DotTile {
  const std::byte* x;  // the first row
  int64_t x_stride_bytes;
  const float* scales;  // as InputRows
  const int32_t* sums;
  int64_t sums_stride;
  const std::byte* panels;  // the first panel
  int64_t panel_bytes;
  int num_steps;  // of four bytes of x
  bool has_zero_points;
  const std::byte* ahead;  // weights to fetch on the way, ahead_step bytes at each step
  int64_t ahead_step;
  const float* bias;  // null: zeros
  float* y;
  int64_t y_stride;
  int num_columns;  // of y; the panels have as many or more
};

EXPERTD_INLINE BitVec LoadWord(const std::byte* from) {
  int32_t word;
  __builtin_memcpy(&word, from, 4);
  return BroadcastInt(word);
}

// The sums of kRows rows and kPanels panels: of type Sum, advanced by Dot(sum, weights, x).
template <typename Sum, int kRows, int kPanels>
struct DotSums {
  Sum sum[kRows][kPanels][kPanelVecs];

  // One step: `weights(panel, v)` are the bytes of vector v of a panel.
  template <typename Dot, typename Weights>
  EXPERTD_INLINE void Advance(const std::byte* x, int64_t x_stride_bytes, Dot dot, Weights weights) {
    if constexpr (kRows <= 4) {  // x stays in registers, and weights pass by
      BitVec word[kRows];
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) word[row] = LoadWord(x + row * x_stride_bytes);
#pragma GCC unroll 16
      for (int panel = 0; panel < kPanels; ++panel) {
#pragma GCC unroll 16
        for (int v = 0; v < kPanelVecs; ++v) {
          const BitVec bytes = weights(panel, v);
#pragma GCC unroll 16
          for (int row = 0; row < kRows; ++row) sum[row][panel][v] = dot(sum[row][panel][v], bytes, word[row]);
        }
      }
    } else {  // the weights of one panel stay in registers, and x passes by
      static_assert(kPanels == 1);
      BitVec bytes[kPanelVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kPanelVecs; ++v) bytes[v] = weights(0, v);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
        const BitVec word = LoadWord(x + row * x_stride_bytes);
#pragma GCC unroll 16
        for (int v = 0; v < kPanelVecs; ++v) sum[row][0][v] = dot(sum[row][0][v], bytes[v], word);
      }
    }
  }
};

// Calls body(row, panel, v) for all sums of a tile.
template <int kRows, int kPanels, typename Body>
EXPERTD_INLINE void ForEachSum(Body body) {
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 16
    for (int panel = 0; panel < kPanels; ++panel) {
#pragma GCC unroll 16
      for (int v = 0; v < kPanelVecs; ++v) body(row, panel, v);
    }
  }
}

// The columns of vector v of a panel that y has.
EXPERTD_INLINE int LanesOf(const DotTile& tile, int panel, int v) {
  const int left = tile.num_columns - panel * kPanelColumns - v * kLanes;
  return Larger(0, Smaller(left, kLanes));
}

EXPERTD_INLINE Vec BiasOf(const DotTile& tile, int panel, int v) {
  if (tile.bias == nullptr) return Zero();
  const int lanes = LanesOf(tile, panel, v);
  return LoadUpTo(tile.bias + panel * kPanelColumns + v * kLanes, lanes);
}

EXPERTD_INLINE void StoreY(const DotTile& tile, int row, int panel, int v, Vec value) {
  StoreUpTo(value, LanesOf(tile, panel, v), tile.y + row * tile.y_stride + panel * kPanelColumns + v * kLanes);
}

// bias + sum * (x scale * w scale): the last step of both integer formats.
EXPERTD_INLINE void StoreScaled(const DotTile& tile, int row, int panel, int v, Vec sum) {
  const auto* const scales = reinterpret_cast<const float*>(tile.panels + panel * tile.panel_bytes);
  const Vec scale = Mul(Broadcast(tile.scales[row]), Load(scales + v * kLanes));
  StoreY(tile, row, panel, v, MulAdd(sum, scale, BiasOf(tile, panel, v)));
}

// Several panels at once are the streams of a matrix that is read once: what comes next in each is fetched. One panel
// is read again by other tiles, and what is fetched is their share of the panel after it.
template <int kPanels, int kStepBytes>
EXPERTD_INLINE void Prefetch(const DotTile& tile, const std::byte* weights, int64_t step) {
  if constexpr (kPanels == 1) {
    __builtin_prefetch(tile.ahead + step * tile.ahead_step, 0, 2);
    if constexpr (kStepBytes > 64) __builtin_prefetch(tile.ahead + step * tile.ahead_step + 64, 0, 2);
  } else {
#pragma GCC unroll 16
    for (int panel = 0; panel < kPanels; ++panel) {
#pragma GCC unroll 16
      for (int line = 0; line < kStepBytes; line += 64) {
        __builtin_prefetch(weights + panel * tile.panel_bytes + kDotPrefetchBytes + line);
      }
    }
  }
}

template <int kRows, int kPanels>
void ComputeInt8Tile(const DotTile& tile) {
  DotSums<BitVec, kRows, kPanels> sums;
  ForEachSum<kRows, kPanels>([&](int row, int panel, int v) EXPERTD_INLINE_LAMBDA {
    sums.sum[row][panel][v] = BroadcastInt(-kInt8ZeroPoint * tile.sums[row * tile.sums_stride]);
  });
  const std::byte* x = tile.x;
  const std::byte* weights = tile.panels + kPanelScaleBytes;
  for (int step = 0; step < tile.num_steps; ++step) {
    Prefetch<kPanels, kPanelColumns * 4>(tile, weights, step);
    sums.Advance(x, tile.x_stride_bytes, DotBytes, [&](int panel, int v) EXPERTD_INLINE_LAMBDA {
      return LoadBits(weights + panel * tile.panel_bytes + v * kVecBytes);
    });
    x += 4;
    weights += kPanelColumns * 4;
  }
  ForEachSum<kRows, kPanels>([&](int row, int panel, int v) EXPERTD_INLINE_LAMBDA {
    StoreScaled(tile, row, panel, v, ToFloat(sums.sum[row][panel][v]));
  });
}

// Int4GroupBytes of panel_layout.h, which has external linkage (see vector.h).
EXPERTD_INLINE int GroupBytes(const DotTile& tile) {
  return kInt4CodeBytes + kInt4ScaleBytes + (tile.has_zero_points ? kInt4ZeroPointBytes : 0);
}

// Vector v of a step of an int4 panel: the low halves of its bytes are the first half of the outputs.
EXPERTD_INLINE BitVec UnpackInt4(const std::byte* step, int v) {
  const BitVec bytes = LoadBits(step + v % (kPanelVecs / 2) * kVecBytes);
  return And(v < kPanelVecs / 2 ? bytes : ShiftRight(bytes, 4), BroadcastInt(0x0f0f0f0f));
}

template <int kRows, int kPanels>
void ComputeInt4Tile(const DotTile& tile) {
  constexpr int kGroupSteps = kGroupInputs / 4;
  const int group_bytes = GroupBytes(tile);
  alignas(64) float totals[kRows][kPanels][kPanelColumns] = {};
  const std::byte* x = tile.x;
  const std::byte* group_begin = tile.panels + kPanelScaleBytes;
  for (int group = 0; group < tile.num_steps / kGroupSteps; ++group) {
    DotSums<BitVec, kRows, kPanels> sums;
    ForEachSum<kRows, kPanels>([&](int row, int panel, int v) EXPERTD_INLINE_LAMBDA {
      const int32_t code_sum = tile.sums[row * tile.sums_stride + 1 + group];
      BitVec zero_points = BroadcastInt(kInt4ZeroPoint);
      if (tile.has_zero_points) {
        const std::byte* const from = group_begin + panel * tile.panel_bytes + kInt4CodeBytes + kInt4ScaleBytes;
        zero_points = LoadBytes(reinterpret_cast<const uint8_t*>(from) + v * kLanes);
      }
      sums.sum[row][panel][v] = MulInt(zero_points, BroadcastInt(-code_sum));
    });
    const std::byte* weights = group_begin;
    for (int step = 0; step < kGroupSteps; ++step) {
      Prefetch<kPanels, kInt4StepBytes>(tile, weights, group * kGroupSteps + step);
      sums.Advance(x, tile.x_stride_bytes, DotBytes, [&](int panel, int v) EXPERTD_INLINE_LAMBDA {
        return UnpackInt4(weights + panel * tile.panel_bytes, v);
      });
      x += 4;
      weights += kInt4StepBytes;
    }
    ForEachSum<kRows, kPanels>([&](int row, int panel, int v) EXPERTD_INLINE_LAMBDA {
      const auto* const scales = reinterpret_cast<const uint16_t*>(weights + panel * tile.panel_bytes);
      float* const total = &totals[row][panel][v * kLanes];
      Store(MulAdd(ToFloat(sums.sum[row][panel][v]), LoadHalf(scales + v * kLanes), Load(total)), total);
    });
    group_begin += group_bytes;
  }
  ForEachSum<kRows, kPanels>([&](int row, int panel, int v) EXPERTD_INLINE_LAMBDA {
    StoreScaled(tile, row, panel, v, Load(&totals[row][panel][v * kLanes]));
  });
}

#if defined(__AVX512BF16__) && !defined(EXPERTD_TILES)
template <int kRows, int kPanels>
void ComputeBf16Tile(const DotTile& tile) {
  DotSums<Vec, kRows, kPanels> sums;
  ForEachSum<kRows, kPanels>([&](int row, int panel, int v) EXPERTD_INLINE_LAMBDA {
    sums.sum[row][panel][v] = BiasOf(tile, panel, v);
  });
  const std::byte* x = tile.x;
  const std::byte* weights = tile.panels;
  for (int step = 0; step < tile.num_steps; ++step) {
    Prefetch<kPanels, kPanelColumns * 4>(tile, weights, step);
    sums.Advance(x, tile.x_stride_bytes, DotPairs, [&](int panel, int v) EXPERTD_INLINE_LAMBDA {
      return LoadBits(weights + panel * tile.panel_bytes + v * kVecBytes);
    });
    x += 4;
    weights += kPanelColumns * 4;
  }
  ForEachSum<kRows, kPanels>([&](int row, int panel, int v) EXPERTD_INLINE_LAMBDA {
    StoreY(tile, row, panel, v, sums.sum[row][panel][v]);
  });
}
#endif

using DotTileFunction = void (*)(const DotTile&);

// The tiles of one format for each number of rows, less one: with as many panels as they hold, and with one.
struct DotTiles {
  DotTileFunction wide[kDotTileRows];
  DotTileFunction narrow[kDotTileRows];
};

#if defined(__AVX512F__)
#define EXPERTD_DOT_TILES(Compute)                                                                                 \
  {{Compute<1, PanelsOf(1)>, Compute<2, PanelsOf(2)>, Compute<3, PanelsOf(3)>, Compute<4, PanelsOf(4)>,            \
    Compute<5, 1>, Compute<6, 1>, Compute<7, 1>, Compute<8, 1>, Compute<9, 1>, Compute<10, 1>, Compute<11, 1>,     \
    Compute<12, 1>},                                                                                               \
   {Compute<1, 1>, Compute<2, 1>, Compute<3, 1>, Compute<4, 1>, Compute<5, 1>, Compute<6, 1>, Compute<7, 1>,       \
    Compute<8, 1>, Compute<9, 1>, Compute<10, 1>, Compute<11, 1>, Compute<12, 1>}}
#else
#define EXPERTD_DOT_TILES(Compute) \
  {{Compute<1, PanelsOf(1)>, Compute<2, 1>, Compute<3, 1>}, {Compute<1, 1>, Compute<2, 1>, Compute<3, 1>}}
#endif

constexpr DotTiles kInt8Tiles = EXPERTD_DOT_TILES(ComputeInt8Tile);
constexpr DotTiles kInt4Tiles = EXPERTD_DOT_TILES(ComputeInt4Tile);
#if defined(__AVX512BF16__) && !defined(EXPERTD_TILES)
constexpr DotTiles kBf16Tiles = EXPERTD_DOT_TILES(ComputeBf16Tile);
#endif
#undef EXPERTD_DOT_TILES

// Lets `tile` begin at row `row` of x.
EXPERTD_INLINE void SetRows(const InputRows& x, int row, DotTile* tile) {
  tile->x = static_cast<const std::byte*>(x.data) + row * tile->x_stride_bytes;
  if (x.form != InputForm::kInt8) return;
  tile->scales = x.scales + row;
  tile->sums = x.sums + row * x.sums_stride;
}

void DotMatmul(const DotTiles& tiles, int bytes_per_element, const InputRows& x, int num_rows, const PackedWeights& w,
               const float* bias, int column_begin, int column_end, float* y, int64_t y_stride) {
  const int num_tiles = (num_rows + kDotTileRows - 1) / kDotTileRows;
  const int num_steps = w.padded_cols / 4 * bytes_per_element;
  DotTile tile = {.x_stride_bytes = x.stride * bytes_per_element,
                  .sums_stride = x.sums_stride,
                  .panel_bytes = w.panel_bytes,
                  .num_steps = num_steps,
                  .has_zero_points = w.has_zero_points,
                  .ahead_step = w.panel_bytes / num_steps / num_tiles,
                  .y_stride = y_stride};
  const int wide_columns = PanelsOf(Smaller(num_rows, kDotTileRows)) * kPanelColumns;
  for (int column = column_begin; column < column_end;) {
    const bool is_wide = num_tiles == 1 && column + wide_columns <= RoundUp(column_end, kPanelColumns);
    tile.panels = w.panels + column / kPanelColumns * w.panel_bytes;
    tile.bias = bias == nullptr ? nullptr : bias + column;
    tile.num_columns = Smaller(is_wide ? wide_columns : kPanelColumns, column_end - column);
    for (int i = 0; i < num_tiles; ++i) {
      const int row = PartBegin(num_rows, num_tiles, i);
      const int count = PartBegin(num_rows, num_tiles, i + 1) - row;
      SetRows(x, row, &tile);
      tile.ahead = tile.panels + w.panel_bytes + i * tile.ahead_step * num_steps;
      tile.y = y + row * y_stride + column;
      (is_wide ? tiles.wide : tiles.narrow)[count - 1](tile);
    }
    column += is_wide ? wide_columns : kPanelColumns;
  }
}
