// y = x W^T with x in fp32 and weights in fp32 or bf16, for any vector width.
//
// A tile is some rows of x times some columns of packed panels, with all its sums in registers. Each sum is one chain
// of fused multiply-adds through k, whatever the tile's shape, so shapes are chosen for speed alone:
//  - up to kFewRows rows (decoding alone or nearly): tiles span several panels, because a chain advances once per FMA
//    latency (4 cycles) and two FMAs start per cycle, so that 8 chains are wanted; x is read in place, k goes from end
//    to end, and the time is that of streaming the weights;
//  - more rows: groups of up to kGroupRows rows in tiles of up to kTileRows rows and two vectors of one panel. k goes
//    in blocks. The block of x of a group is copied once (rows of x a power of two apart would fall into one set of the
//    cache) and stays in the second-level cache for all panels; the block of a panel stays in the first-level cache for
//    all tiles of the group, while the next panel's comes in. Sums wait in y between blocks, which keeps their bits.

constexpr int kBlockInputs = 384;     // x of a tile: at most 18 KiB; the block of a panel: 24 or 48 KiB
constexpr int kGroupRows = 72;        // x of a group: 108 KiB; enough for a batch of 64 to read the weights once
constexpr int kPrefetchBytes = 2048;  // ahead in a stream of weights that goes from end to end

struct Tile {
  const float* x;
  int64_t x_stride;
  const std::byte* weights;  // the first vector of the first panel at the first input
  int64_t panel_bytes;
  int num_inputs;
  const std::byte* ahead;  // weights to fetch on the way, ahead_step bytes per step of the layout
  int64_t ahead_step;
  const float* start;  // the sums so far, or bias; null: zeros
  int64_t start_stride;
  float* y;
  int64_t y_stride;
};

// The two layouts. A step of kInputs inputs is one row of a panel; Factor is the weight of one of them for one vector
// of columns. Two vectors of kTileRows rows are as many sums as registers allow beside weights and x: 24 of 32, 12 of
// 16, and 10 where a mask takes one and compilers start to spill.
struct F32Weights {
  static constexpr int kInputs = 1;
  static constexpr int kFewRows = kLanes == 16 ? 4 : 3;
  static constexpr int kTileRows = kLanes == 16 ? 12 : 6;
  static EXPERTD_INLINE Vec Factor(int, const std::byte* from) { return Load(reinterpret_cast<const float*>(from)); }
};
struct BF16Weights {
  static constexpr int kInputs = 2;
  static constexpr int kFewRows = kLanes == 16 ? 4 : 2;
  static constexpr int kTileRows = kLanes == 16 ? 12 : 5;
  static EXPERTD_INLINE Vec Factor(int input, const std::byte* from) {
    return input == 0 ? EvenOfPairs(LoadBits(from)) : OddOfPairs(LoadBits(from));
  }
};

constexpr int kMaxTileRows = F32Weights::kTileRows;
constexpr int kMaxTileFloats = Larger(kMaxTileRows * 2 * kLanes, 4 * 2 * kPanelColumns);
constexpr int kVecBytes = kLanes * 4;
constexpr int kStepBytes = kPanelColumns * 4;  // of one panel, for either type

// The sums of kRows rows and kPanels * kVecs vectors of columns: kVecs neighbours in each of kPanels panels.
template <typename Weights, int kRows, int kPanels, int kVecs>
struct Sums {
  Vec sum[kRows][kPanels][kVecs];

  // One input of a step for all sums.
  template <int kInput>
  EXPERTD_INLINE void Advance(const Tile& tile, const float* x, int64_t x_stride, const std::byte* weights) {
    if constexpr (kRows <= 4) {  // where all inputs fit beside the sums
      AdvanceByColumn<kInput>(tile, x, x_stride, weights);
    } else {
      AdvanceByRow<kInput>(tile, x, x_stride, weights);
    }
  }

  // Registers: the sums, kRows inputs and one factor.
  template <int kInput>
  EXPERTD_INLINE void AdvanceByColumn(const Tile& tile, const float* x, int64_t x_stride, const std::byte* weights) {
    Vec value[kRows];
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) value[row] = Broadcast(x[row * x_stride + kInput]);
#pragma GCC unroll 16
    for (int panel = 0; panel < kPanels; ++panel) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        const Vec factor = Weights::Factor(kInput, weights + panel * tile.panel_bytes + v * kVecBytes);
#pragma GCC unroll 16
        for (int row = 0; row < kRows; ++row) sum[row][panel][v] = MulAdd(value[row], factor, sum[row][panel][v]);
      }
    }
  }

  // Registers: the sums, one input and the factors of one panel's vectors.
  template <int kInput>
  EXPERTD_INLINE void AdvanceByRow(const Tile&, const float* x, int64_t x_stride, const std::byte* weights) {
    static_assert(kPanels == 1);
    Vec factor[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) factor[v] = Weights::Factor(kInput, weights + v * kVecBytes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const Vec value = Broadcast(x[row * x_stride + kInput]);
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[row][0][v] = MulAdd(value, factor[v], sum[row][0][v]);
    }
  }
};

template <typename Weights, int kRows, int kPanels, int kVecs, bool kPackedRows>
void ComputeTile(const Tile& tile) {
  Sums<Weights, kRows, kPanels, kVecs> sums;
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 16
    for (int panel = 0; panel < kPanels; ++panel) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        const int column = panel * kPanelColumns + v * kLanes;
        sums.sum[row][panel][v] =
            tile.start == nullptr ? Zero() : Load(tile.start + row * tile.start_stride + column);
      }
    }
  }
  const int64_t x_stride = kPackedRows ? kBlockInputs : tile.x_stride;
  const float* x = tile.x;
  const std::byte* weights = tile.weights;
  const std::byte* ahead = tile.ahead;
  if constexpr (kPackedRows) {  // the sums of the next tile
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const float* next = tile.y + (row + kRows) * tile.y_stride;
#pragma GCC unroll 16
      for (int i = 0; i < kVecs * kLanes; i += 16) __builtin_prefetch(next + i);
    }
  }
  int k = 0;
  for (; k + Weights::kInputs <= tile.num_inputs; k += Weights::kInputs) {
    if constexpr (kPackedRows) {
      __builtin_prefetch(ahead, 0, 2);
      if constexpr (kVecs * kVecBytes > 64) __builtin_prefetch(ahead + 64, 0, 2);
      ahead += tile.ahead_step;
    } else {
#pragma GCC unroll 16
      for (int panel = 0; panel < kPanels; ++panel) {
#pragma GCC unroll 16
        for (int line = 0; line < kVecs * kVecBytes; line += 64) {
          __builtin_prefetch(weights + panel * tile.panel_bytes + kPrefetchBytes + line);
        }
      }
    }
    sums.template Advance<0>(tile, x, x_stride, weights);
    if constexpr (Weights::kInputs == 2) sums.template Advance<1>(tile, x, x_stride, weights);
    x += Weights::kInputs;
    weights += kStepBytes;
  }
  if (k < tile.num_inputs) sums.template Advance<0>(tile, x, x_stride, weights);  // the first of a last, lone pair
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 16
    for (int panel = 0; panel < kPanels; ++panel) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        Store(sums.sum[row][panel][v], tile.y + row * tile.y_stride + panel * kPanelColumns + v * kLanes);
      }
    }
  }
}

using TileFunction = void (*)(const Tile&);

// The tiles for one number of rows, the widest first; unused ones have 0 columns.
struct TileShape {
  TileFunction compute = nullptr;
  int columns = 0;
};
struct TileShapes {
  TileShape shape[3];
};

template <typename Weights, int kRows, int kPanels, int kVecs, bool kPackedRows>
constexpr TileShape Shape() {
  return {ComputeTile<Weights, kRows, kPanels, kVecs, kPackedRows>, kPanels * kVecs * kLanes};
}

// [rows - 1], for x in place.
template <typename Weights>
constexpr TileShapes kInPlaceShapes[4] = {
#if defined(__AVX512F__)
    {{Shape<Weights, 1, 4, 2, false>(), Shape<Weights, 1, 2, 2, false>(), Shape<Weights, 1, 1, 2, false>()}},
    {{Shape<Weights, 2, 4, 2, false>(), Shape<Weights, 2, 2, 2, false>(), Shape<Weights, 2, 1, 2, false>()}},
    {{Shape<Weights, 3, 2, 2, false>(), Shape<Weights, 3, 1, 2, false>()}},
    {{Shape<Weights, 4, 2, 2, false>(), Shape<Weights, 4, 1, 2, false>()}},
#else
    {{Shape<Weights, 1, 2, 4, false>(), Shape<Weights, 1, 1, 4, false>()}},
    {{Shape<Weights, 2, 1, 4, false>()}},
    {{Shape<Weights, 3, 1, 4, false>()}},
#endif
};

// [rows - kFewestTileRows], for x copied to a block. Rows are spread evenly over tiles, so that none has fewer.
constexpr int kFewestTileRows = kLanes == 16 ? 5 : 3;
template <typename Weights>
constexpr TileShapes kPackedShapes[kMaxTileRows - kFewestTileRows + 1] = {
#if defined(__AVX512F__)
    {{Shape<Weights, 5, 1, 2, true>()}},  {{Shape<Weights, 6, 1, 2, true>()}},  {{Shape<Weights, 7, 1, 2, true>()}},
    {{Shape<Weights, 8, 1, 2, true>()}},  {{Shape<Weights, 9, 1, 2, true>()}},  {{Shape<Weights, 10, 1, 2, true>()}},
    {{Shape<Weights, 11, 1, 2, true>()}}, {{Shape<Weights, 12, 1, 2, true>()}},
#else
    {{Shape<Weights, 3, 1, Weights::kInputs == 1 ? 4 : 2, true>()}},
    {{Shape<Weights, 4, 1, 2, true>()}},
    {{Shape<Weights, 5, 1, 2, true>()}},
    {{Shape<Weights, 6, 1, 2, true>()}},
#endif
};

// A tile that reaches beyond the last column: through a buffer, so that y is neither read nor written there.
void ComputePartialTile(const Tile& tile, const TileShape& shape, int num_rows, int num_columns) {
  alignas(64) float buffer[kMaxTileFloats] = {};
  for (int row = 0; row < num_rows && tile.start != nullptr; ++row) {
    for (int i = 0; i < num_columns; ++i) buffer[row * shape.columns + i] = tile.start[row * tile.start_stride + i];
  }
  Tile buffered = tile;
  if (tile.start != nullptr) buffered.start = buffer;
  buffered.start_stride = shape.columns;
  buffered.y = buffer;
  buffered.y_stride = shape.columns;
  shape.compute(buffered);
  for (int row = 0; row < num_rows; ++row) {
    for (int i = 0; i < num_columns; ++i) tile.y[row * tile.y_stride + i] = buffer[row * shape.columns + i];
  }
}

// Rows of one tile over columns [column_begin, column_end). `first` is the tile at column 0 of the matrix.
void ComputeColumns(const Tile& first, const TileShapes& shapes, int num_rows, int column_begin, int column_end) {
  for (int column = column_begin; column < column_end;) {
    const int panel_end = RoundUp(column_end, kPanelColumns);
    const TileShape* shape = shapes.shape;
    while (column + shape->columns > panel_end) ++shape;  // the narrowest fits into a panel
    Tile tile = first;
    const int64_t offset = column / kPanelColumns * first.panel_bytes + column % kPanelColumns * 4;
    tile.weights += offset;
    tile.ahead += column % kPanelColumns * 4;
    if (tile.start != nullptr) tile.start += column;
    tile.y += column;
    if (column + shape->columns <= column_end) {
      shape->compute(tile);
    } else {
      ComputePartialTile(tile, *shape, num_rows, column_end - column);
    }
    column += shape->columns;
  }
}

// Copies a block of x, row by row, to `block`, kBlockInputs apart.
void CopyBlock(const float* x, int64_t x_stride, int num_rows, int num_inputs, float* block) {
  for (int row = 0; row < num_rows; ++row) {
    const float* from = x + row * x_stride;
    float* to = block + row * kBlockInputs;
    int i = 0;
    for (; i + kLanes <= num_inputs; i += kLanes) Store(Load(from + i), to + i);
    if (i < num_inputs) StoreFirst(LoadFirst(from + i, num_inputs - i), num_inputs - i, to + i);
  }
}

// Where the `index`-th of `num_parts` nearly equal parts of `size` begins.
constexpr int PartBegin(int size, int num_parts, int index) {
  return static_cast<int>(int64_t{size} * index / num_parts);
}

// One block of k for the rows of a group, copied to `tile.x`, and all columns. `first` is the tile of the first row at
// column 0 of the matrix; `wrap` is what follows in time after the last panel's block.
template <typename Weights>
void ComputeBlock(const Tile& first, int num_rows, int column_begin, int column_end, const std::byte* wrap) {
  const int num_tiles = (num_rows + Weights::kTileRows - 1) / Weights::kTileRows;
  const int num_steps = (first.num_inputs + Weights::kInputs - 1) / Weights::kInputs;
  Tile tile = first;
  tile.ahead_step = kStepBytes / num_tiles;
  for (int column = column_begin; column < column_end; column += kPanelColumns) {
    const int next_column = Smaller(column + kPanelColumns, column_end);
    // Each tile fetches its share of the panel that comes next.
    const std::byte* next =
        next_column < column_end ? first.weights + next_column / kPanelColumns * first.panel_bytes : wrap;
    for (int i = 0; i < num_tiles; ++i) {
      const int row = PartBegin(num_rows, num_tiles, i);
      const int tile_rows = PartBegin(num_rows, num_tiles, i + 1) - row;
      tile.x = first.x + row * kBlockInputs;
      tile.y = first.y + row * first.y_stride;
      if (first.start_stride != 0) tile.start = first.start + row * first.start_stride;
      tile.ahead = next + i * tile.ahead_step * num_steps;
      ComputeColumns(tile, kPackedShapes<Weights>[tile_rows - kFewestTileRows], tile_rows, column, next_column);
    }
  }
}

template <typename Weights>
void ComputeManyRows(const Tile& all, int num_rows, int column_begin, int column_end) {
  alignas(64) float x_block[kGroupRows * kBlockInputs];
  const int num_groups = (num_rows + kGroupRows - 1) / kGroupRows;
  const int num_blocks = (all.num_inputs + kBlockInputs - 1) / kBlockInputs;
  const int block_inputs = RoundUp((all.num_inputs + num_blocks - 1) / num_blocks, 2);
  const int64_t block_bytes = int64_t{block_inputs / Weights::kInputs} * kStepBytes;
  const int64_t first_panel = column_begin / kPanelColumns * all.panel_bytes;
  for (int group = 0; group < num_groups; ++group) {
    const int row = PartBegin(num_rows, num_groups, group);
    const int group_rows = PartBegin(num_rows, num_groups, group + 1) - row;
    Tile tile = all;
    tile.x = x_block;
    tile.y = all.y + row * all.y_stride;
    for (int k = 0; k < all.num_inputs; k += block_inputs) {
      tile.num_inputs = Smaller(block_inputs, all.num_inputs - k);
      CopyBlock(all.x + row * all.x_stride + k, all.x_stride, group_rows, tile.num_inputs, x_block);
      const bool is_last = k + block_inputs >= all.num_inputs;
      const std::byte* next_block = is_last ? all.weights : tile.weights + block_bytes;
      ComputeBlock<Weights>(tile, group_rows, column_begin, column_end, next_block + first_panel);
      tile.weights += block_bytes;
      tile.start = tile.y;
      tile.start_stride = all.y_stride;
    }
  }
}

template <typename Weights>
void ComputeRows(const Tile& all, int num_rows, int column_begin, int column_end) {
  if (num_rows <= Weights::kFewRows) {
    ComputeColumns(all, kInPlaceShapes<Weights>[num_rows - 1], num_rows, column_begin, column_end);
  } else {
    ComputeManyRows<Weights>(all, num_rows, column_begin, column_end);
  }
}

void FloatMatmul(const InputRows& x, int num_rows, const PackedWeights& w, const float* bias, int column_begin,
                 int column_end, float* y, int64_t y_stride) {
  const Tile all = {.x = static_cast<const float*>(x.data),
                    .x_stride = x.stride,
                    .weights = w.panels,
                    .panel_bytes = w.panel_bytes,
                    .num_inputs = w.cols,
                    .ahead = w.panels,
                    .ahead_step = 0,
                    .start = bias,
                    .start_stride = 0,
                    .y = y,
                    .y_stride = y_stride};
  const auto compute = w.format == WeightFormat::kF32 ? ComputeRows<F32Weights> : ComputeRows<BF16Weights>;
  compute(all, num_rows, column_begin, column_end);
}
