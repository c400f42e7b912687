// y = x W^T by AMX tiles: 16 rows of x by 64 bytes of k, times 64 bytes of k by 16 outputs.
//
//              B0   B1      tiles 6 and 7: one step of k of a panel
//        A0    C0   C1      tiles 4 and 5: two times up to 16 rows of x
//        A1    C2   C3      tiles 0 to 3: the sums
//
// Each pair of loads serves four products. With many rows, k goes in blocks, so that the block of a panel stays in the
// first-level cache while the rows pass by; sums wait in a buffer between blocks, where they lose nothing. int4 weights
// are unpacked to bytes once for all rows, group by group.
//
// Sums of integers are exact, so their bits are those of every other table. Sums of bf16 go through k in steps of 32,
// each added by one instruction: the same for a row whatever the others are.

constexpr int kTileDepth = 64;          // bytes of k
constexpr int kTileHeight = 16;         // rows of x
constexpr int kPairRows = 2 * kTileHeight;
constexpr int kBlockSteps = 16;         // the block of a panel: 32 KiB
constexpr int kTileBytes = kTileDepth * kTileHeight;
constexpr int kPanelStepBytes = 2 * kTileBytes;
constexpr int kTilePrefetchBytes = 4096;

// Rows that share the sums of a buffer: with them one panel's are 64 KiB, in the second-level cache.
constexpr int kTileGroupRows = 512;

// The sums of up to 32 rows and one panel.
struct alignas(64) PairSums {
  int32_t sum[kPairRows][kPanelColumns];
};

EXPERTD_INLINE void ConfigurePair(int num_rows) {
  const auto first = static_cast<uint8_t>(Smaller(num_rows, kTileHeight));
  // A tile of no rows cannot be; one row that is not used does no harm.
  const auto second = static_cast<uint8_t>(Larger(1, num_rows - kTileHeight));
  ConfigureTiles({{first, first, second, second, first, second, 16, 16}});
}

EXPERTD_INLINE void LoadSums(const PairSums& sums, bool has_second) {
  LoadTile<0>(&sums.sum[0][0], kPanelColumns * 4);
  LoadTile<1>(&sums.sum[0][16], kPanelColumns * 4);
  if (!has_second) return;
  LoadTile<2>(&sums.sum[kTileHeight][0], kPanelColumns * 4);
  LoadTile<3>(&sums.sum[kTileHeight][16], kPanelColumns * 4);
}

EXPERTD_INLINE void StoreSums(bool has_second, PairSums* sums) {
  StoreTile<0>(&sums->sum[0][0], kPanelColumns * 4);
  StoreTile<1>(&sums->sum[0][16], kPanelColumns * 4);
  if (!has_second) return;
  StoreTile<2>(&sums->sum[kTileHeight][0], kPanelColumns * 4);
  StoreTile<3>(&sums->sum[kTileHeight][16], kPanelColumns * 4);
}

EXPERTD_INLINE void ZeroSums() {
  ZeroTile<0>();
  ZeroTile<1>();
  ZeroTile<2>();
  ZeroTile<3>();
}

// The three products; each multiplies what the four tiles of inputs hold.
struct TimesUnsigned {
  template <int kC, int kA, int kB>
  static EXPERTD_INLINE void Dot() { DotSignedUnsigned<kC, kA, kB>(); }
};
struct TimesSigned {
  template <int kC, int kA, int kB>
  static EXPERTD_INLINE void Dot() { DotSignedSigned<kC, kA, kB>(); }
};
struct TimesBf16 {
  template <int kC, int kA, int kB>
  static EXPERTD_INLINE void Dot() { DotBf16<kC, kA, kB>(); }
};

// Adds `num_steps` steps to the sums in the tiles. x: the first of the pair's rows; weights: 2 KiB a step.
template <typename Product>
EXPERTD_INLINE void AddSteps(const std::byte* x, int64_t x_stride_bytes, bool has_second, const std::byte* weights,
                             int num_steps, bool fetches) {
  const std::byte* const x_second = x + kTileHeight * x_stride_bytes;
  for (int step = 0; step < num_steps; ++step) {
    if (fetches) {
      for (int line = 0; line < kPanelStepBytes; line += 64) {
        __builtin_prefetch(weights + kTilePrefetchBytes + line);
      }
    }
    LoadTile<6>(weights, kPanelColumns * 4);
    LoadTile<4>(x + step * kTileDepth, x_stride_bytes);
    LoadTile<7>(weights + 64, kPanelColumns * 4);
    Product::template Dot<0, 4, 6>();
    Product::template Dot<1, 4, 7>();
    if (has_second) {
      LoadTile<5>(x_second + step * kTileDepth, x_stride_bytes);
      Product::template Dot<2, 5, 6>();
      Product::template Dot<3, 5, 7>();
    }
    weights += kPanelStepBytes;
  }
}

// The last step of each format, for row `row` of `tile`, whose sums over the panel are at `sums`.
EXPERTD_INLINE void FinishInt8(const DotTile& tile, int row, const int32_t* sums) {
  const BitVec correction = BroadcastInt(-kInt8ZeroPoint * tile.sums[row * tile.sums_stride]);
  for (int v = 0; v < kPanelVecs; ++v) {
    StoreScaled(tile, row, 0, v, ToFloat(AddInt(LoadBits(sums + v * kLanes), correction)));
  }
}
EXPERTD_INLINE void FinishBf16(const DotTile& tile, int row, const int32_t* sums) {
  for (int v = 0; v < kPanelVecs; ++v) {
    StoreY(tile, row, 0, v, Add(_mm512_castsi512_ps(LoadBits(sums + v * kLanes)), BiasOf(tile, 0, v)));
  }
}

// int8 and bf16: the rows of `tile` (at most kTileGroupRows) times one panel. `codes`: the panel's elements.
template <typename Product, typename Finish>
void MultiplyPanel(const DotTile& tile, int num_rows, const std::byte* codes, Finish finish) {
  PairSums sums[kTileGroupRows / kPairRows];
  const int num_pairs = (num_rows + kPairRows - 1) / kPairRows;
  const int num_steps = tile.num_steps * 4 / kTileDepth;
  const int block_steps = num_pairs == 1 ? num_steps : kBlockSteps;
  int configured = 0;
  for (int begin = 0; begin < num_steps; begin += block_steps) {
    const int count = Smaller(block_steps, num_steps - begin);
    const bool is_last = begin + count == num_steps;
    for (int pair = 0; pair < num_pairs; ++pair) {
      const int row = pair * kPairRows;
      const int pair_rows = Smaller(kPairRows, num_rows - row);
      const bool has_second = pair_rows > kTileHeight;
      if (configured != pair_rows) ConfigurePair(configured = pair_rows);
      if (begin == 0) {
        ZeroSums();
      } else {
        LoadSums(sums[pair], has_second);
      }
      AddSteps<Product>(tile.x + row * tile.x_stride_bytes + begin * kTileDepth, tile.x_stride_bytes, has_second,
                        codes + begin * kPanelStepBytes, count, /*fetches=*/pair == 0);
      StoreSums(has_second, &sums[pair]);
      if (!is_last) continue;
      for (int i = 0; i < pair_rows; ++i) finish(tile, row + i, &sums[pair].sum[i][0]);
    }
  }
}

// The codes of one group of a panel, less their zero points, as four steps' tiles of int8.
void UnpackGroup(const std::byte* group, bool has_zero_points, std::byte* out) {
  BitVec zero_points[kPanelVecs];
  for (int v = 0; v < kPanelVecs; ++v) {
    zero_points[v] = BroadcastInt(kInt4ZeroPoint * 0x01010101);
    if (has_zero_points) {
      const auto* const from = reinterpret_cast<const uint8_t*>(group + kInt4CodeBytes + kInt4ScaleBytes);
      zero_points[v] = MulInt(LoadBytes(from + v * kLanes), BroadcastInt(0x01010101));
    }
  }
  for (int step = 0; step < kGroupInputs / 4; ++step) {
    for (int v = 0; v < kPanelVecs; ++v) {
      const BitVec codes = UnpackInt4(group + step * kInt4StepBytes, v);
      _mm512_store_si512(out + step * (kPanelColumns * 4) + v * kVecBytes, _mm512_sub_epi8(codes, zero_points[v]));
    }
  }
}

// totals += sums * group scales, for the rows of a pair.
EXPERTD_INLINE void AddGroup(const PairSums& sums, const std::byte* scales, int num_rows, PairSums* totals) {
  const auto* const halves = reinterpret_cast<const uint16_t*>(scales);
  for (int v = 0; v < kPanelVecs; ++v) {
    const Vec scale = LoadHalf(halves + v * kLanes);
    for (int row = 0; row < num_rows; ++row) {
      auto* const total = reinterpret_cast<float*>(&totals->sum[row][v * kLanes]);
      Store(MulAdd(ToFloat(LoadBits(&sums.sum[row][v * kLanes])), scale, Load(total)), total);
    }
  }
}

// int4: the rows of `tile` (at most kTileGroupRows) times one panel. The sums of a pair are taken to floats while the
// tiles compute those of the next.
void MultiplyInt4Panel(const DotTile& tile, int num_rows) {
  alignas(64) std::byte codes[kGroupInputs * kPanelColumns];
  PairSums totals[kTileGroupRows / kPairRows];
  PairSums sums[2];
  constexpr int kGroupSteps = kGroupInputs / kTileDepth;
  const int num_pairs = (num_rows + kPairRows - 1) / kPairRows;
  const int num_groups = tile.num_steps * 4 / kGroupInputs;
  const int group_bytes = GroupBytes(tile);
  const std::byte* group = tile.panels + kPanelScaleBytes;
  __builtin_memset(totals, 0, static_cast<size_t>(num_pairs) * sizeof(PairSums));
  const auto rows_of = [&](int pair) { return Smaller(kPairRows, num_rows - pair * kPairRows); };
  int configured = 0;
  for (int i = 0; i < num_groups; ++i, group += group_bytes) {
    for (int line = 0; line < group_bytes; line += 64) __builtin_prefetch(group + group_bytes + line);
    UnpackGroup(group, tile.has_zero_points, codes);
    for (int pair = 0; pair < num_pairs; ++pair) {
      const int pair_rows = rows_of(pair);
      const bool has_second = pair_rows > kTileHeight;
      if (configured != pair_rows) ConfigurePair(configured = pair_rows);
      ZeroSums();
      AddSteps<TimesSigned>(tile.x + pair * kPairRows * tile.x_stride_bytes + i * kGroupInputs, tile.x_stride_bytes,
                            has_second, codes, kGroupSteps, /*fetches=*/false);
      StoreSums(has_second, &sums[pair % 2]);
      if (pair > 0) AddGroup(sums[(pair - 1) % 2], group + kInt4CodeBytes, rows_of(pair - 1), &totals[pair - 1]);
    }
    const int last = num_pairs - 1;
    AddGroup(sums[last % 2], group + kInt4CodeBytes, rows_of(last), &totals[last]);
  }
  for (int row = 0; row < num_rows; ++row) {
    const auto* const total = reinterpret_cast<const float*>(totals[row / kPairRows].sum[row % kPairRows]);
    for (int v = 0; v < kPanelVecs; ++v) StoreScaled(tile, row, 0, v, Load(total + v * kLanes));
  }
}

void TileMatmul(const InputRows& x, int num_rows, const PackedWeights& w, const float* bias, int column_begin,
                int column_end, float* y, int64_t y_stride) {
  const int bytes_per_element = w.format == WeightFormat::kBF16 ? 2 : 1;
  DotTile tile = {.x_stride_bytes = x.stride * bytes_per_element,
                  .sums_stride = x.sums_stride,
                  .panel_bytes = w.panel_bytes,
                  .num_steps = w.padded_cols / 4 * bytes_per_element,
                  .has_zero_points = w.has_zero_points,
                  .y_stride = y_stride};
  for (int row = 0; row < num_rows; row += kTileGroupRows) {
    const int group_rows = Smaller(kTileGroupRows, num_rows - row);
    SetRows(x, row, &tile);
    for (int column = column_begin; column < column_end; column += kPanelColumns) {
      tile.panels = w.panels + column / kPanelColumns * w.panel_bytes;
      tile.bias = bias == nullptr ? nullptr : bias + column;
      tile.y = y + row * y_stride + column;
      tile.num_columns = Smaller(kPanelColumns, column_end - column);
      if (w.format == WeightFormat::kInt8) {
        MultiplyPanel<TimesUnsigned>(tile, group_rows, tile.panels + kPanelScaleBytes, FinishInt8);
      } else if (w.format == WeightFormat::kInt4) {
        MultiplyInt4Panel(tile, group_rows);
      } else {
        MultiplyPanel<TimesBf16>(tile, group_rows, tile.panels, FinishBf16);
      }
    }
  }
  ReleaseTiles();
}
