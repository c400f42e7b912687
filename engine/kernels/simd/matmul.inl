// y = x W^T for any vector width and both stored types.
//
// A tile is some rows of x times some columns of packed panels, with all its sums in registers. Each sum is one chain of
// fused multiply-adds through k, whatever the tile's shape, so shapes are chosen for speed alone:
//  - up to kFewRows rows (decoding alone or nearly): tiles span several panels, because a chain advances once per FMA
//    latency (4 cycles) and two FMAs start per cycle, so that 8 chains are wanted; x is read in place, k goes from end
//    to end, and the time is that of streaming the weights;
//  - more rows: tiles of up to kTileRows rows on two vectors of one panel. k goes in blocks, whose x is first copied
//    next to each other (rows a power of two apart would fall into one set of the cache), and panels in chunks, whose
//    block stays in the second-level cache for all rows. Sums wait in y between blocks, which keeps their bits.

constexpr int kVecsPerPanel = kPanelColumns / kLanes;
constexpr int kFewRows = 4;

#if defined(__AVX512F__)
constexpr int kTileRows = 12;   // x 2 vectors = 24 of 32 registers; the rest hold weights, a mask and x
constexpr int kTileVecs = 2;
#else
constexpr int kTileRows = 6;    // x 2 vectors = 12 of 16 registers
constexpr int kTileVecs = 2;
#endif
constexpr int kBlockInputs = 256;                    // x of a tile: 12 KiB; a panel's block: 16 or 32 KiB
constexpr int64_t kChunkBytes = int64_t{256} << 10;  // of weights: half of a small second-level cache
constexpr int kPrefetchBytes = 1024;                 // ahead in the stream of weights

struct Tile {
  const float* x;
  int64_t x_stride;
  const std::byte* weights;  // the first vector of the first panel at the first input
  int64_t panel_bytes;
  int num_inputs;
  const float* start;  // the sums so far, or bias; null: zeros
  int64_t start_stride;
  float* y;
  int64_t y_stride;
};

// Inputs per step of the packed layout, and the factors of one step: Factor(i, ...) of input i for one vector of columns.
struct F32Weights {
  static constexpr int kInputs = 1;
  static EXPERTD_INLINE Vec Factor(int, const std::byte* from) { return Load(reinterpret_cast<const float*>(from)); }
};
struct BF16Weights {
  static constexpr int kInputs = 2;
  static EXPERTD_INLINE Vec Factor(int input, const std::byte* from) {
    return input == 0 ? EvenOfPairs(LoadBits(from)) : OddOfPairs(LoadBits(from));
  }
};

constexpr int kVecBytes = kLanes * 4;
constexpr int kStepBytes = kPanelColumns * 4;  // of one panel, for either type

// The sums of kRows rows and kPanels * kVecs vectors of columns: kVecs neighbours in each of kPanels panels.
template <typename Weights, int kRows, int kPanels, int kVecs>
struct Sums {
  Vec sum[kRows][kPanels][kVecs];

  // One input of a step for all sums.
  template <int kInput>
  EXPERTD_INLINE void Advance(const Tile& tile, const float* x, int64_t x_stride, const std::byte* weights) {
    Vec factor[kPanels][kVecs];
#pragma GCC unroll 16
    for (int panel = 0; panel < kPanels; ++panel) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        factor[panel][v] = Weights::Factor(kInput, weights + panel * tile.panel_bytes + v * kVecBytes);
      }
    }
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const Vec value = Broadcast(x[row * x_stride + kInput]);
#pragma GCC unroll 16
      for (int panel = 0; panel < kPanels; ++panel) {
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) sum[row][panel][v] = MulAdd(value, factor[panel][v], sum[row][panel][v]);
      }
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
  int k = 0;
  for (; k + Weights::kInputs <= tile.num_inputs; k += Weights::kInputs) {
#pragma GCC unroll 16
    for (int panel = 0; panel < kPanels; ++panel) {
      const std::byte* ahead = weights + panel * tile.panel_bytes + kPrefetchBytes;
#pragma GCC unroll 16
      for (int line = 0; line < kVecs * kVecBytes; line += 64) __builtin_prefetch(ahead + line);
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

// [rows - 1], for up to kFewRows rows of x in place.
template <typename Weights>
constexpr TileShapes kFewRowsShapes[kFewRows] = {
#if defined(__AVX512F__)
    {{Shape<Weights, 1, 4, 2, false>(), Shape<Weights, 1, 2, 2, false>(), Shape<Weights, 1, 1, 2, false>()}},
    {{Shape<Weights, 2, 4, 2, false>(), Shape<Weights, 2, 2, 2, false>(), Shape<Weights, 2, 1, 2, false>()}},
    {{Shape<Weights, 3, 2, 2, false>(), Shape<Weights, 3, 1, 2, false>()}},
    {{Shape<Weights, 4, 2, 2, false>(), Shape<Weights, 4, 1, 2, false>()}},
#else
    {{Shape<Weights, 1, 2, 4, false>(), Shape<Weights, 1, 1, 4, false>()}},
    {{Shape<Weights, 2, 1, 4, false>()}},
    {{Shape<Weights, 3, 1, 4, false>()}},
    {{Shape<Weights, 4, 1, 2, false>()}},
#endif
};

// [rows - kFewestTileRows], for tiles of a block of x: rows are spread evenly over tiles, so none has fewer.
constexpr int kFewestTileRows = Smaller(kFewRows + 1, (kTileRows + 1) / 2);
template <typename Weights>
constexpr TileShapes kTileShapes[kTileRows - kFewestTileRows + 1] = {
#if defined(__AVX512F__)
    {{Shape<Weights, 5, 1, 2, true>()}},  {{Shape<Weights, 6, 1, 2, true>()}},  {{Shape<Weights, 7, 1, 2, true>()}},
    {{Shape<Weights, 8, 1, 2, true>()}},  {{Shape<Weights, 9, 1, 2, true>()}},  {{Shape<Weights, 10, 1, 2, true>()}},
    {{Shape<Weights, 11, 1, 2, true>()}}, {{Shape<Weights, 12, 1, 2, true>()}},
#else
    {{Shape<Weights, 3, 1, 4, true>()}},
    {{Shape<Weights, 4, 1, 2, true>()}},
    {{Shape<Weights, 5, 1, 2, true>()}},
    {{Shape<Weights, 6, 1, 2, true>()}},
#endif
};

// A tile that reaches beyond the last column: through a buffer, so that y is neither read nor written there.
void ComputePartialTile(const Tile& tile, const TileShape& shape, int num_rows, int num_columns) {
  constexpr int kFloats = Larger(kTileRows * kTileVecs * kLanes, 4 * 4 * kPanelColumns);
  alignas(64) float buffer[kFloats] = {};
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
    tile.weights += column / kPanelColumns * first.panel_bytes + column % kPanelColumns * 4;
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

template <typename Weights>
void ComputeManyRows(const Tile& all, int num_rows, int column_begin, int column_end) {
  alignas(64) float x_block[kTileRows * kBlockInputs];
  const int num_tiles = (num_rows + kTileRows - 1) / kTileRows;
  const int num_blocks = (all.num_inputs + kBlockInputs - 1) / kBlockInputs;
  const int block_inputs = RoundUp((all.num_inputs + num_blocks - 1) / num_blocks, 2);
  constexpr int kChunkColumns = kChunkBytes / (kBlockInputs * (kStepBytes / kPanelColumns / Weights::kInputs));
  const int chunk_columns = num_tiles == 1 ? column_end - column_begin : kChunkColumns;
  for (int chunk = column_begin; chunk < column_end; chunk += chunk_columns) {
    const int chunk_end = Smaller(chunk + chunk_columns, column_end);
    for (int k = 0; k < all.num_inputs; k += block_inputs) {
      Tile tile = all;
      tile.num_inputs = Smaller(block_inputs, all.num_inputs - k);
      tile.weights = all.weights + int64_t{k / Weights::kInputs} * kStepBytes;
      tile.x = x_block;
      for (int i = 0; i < num_tiles; ++i) {
        const int row = static_cast<int>(int64_t{num_rows} * i / num_tiles);
        const int tile_rows = static_cast<int>(int64_t{num_rows} * (i + 1) / num_tiles) - row;
        CopyBlock(all.x + row * all.x_stride + k, all.x_stride, tile_rows, tile.num_inputs, x_block);
        tile.y = all.y + row * all.y_stride;
        if (k > 0) {
          tile.start = tile.y;
          tile.start_stride = all.y_stride;
        }
        ComputeColumns(tile, kTileShapes<Weights>[tile_rows - kFewestTileRows], tile_rows, chunk, chunk_end);
      }
    }
  }
}

void Matmul(const float* x, int64_t x_stride, int num_rows, const WeightMatrix& weight, const float* bias,
            int column_begin, int column_end, float* y, int64_t y_stride) {
  if (num_rows <= 0) return;
  const PackedWeights w = weight.packed();
  const Tile all = {.x = x,
                    .x_stride = x_stride,
                    .weights = w.panels,
                    .panel_bytes = w.panel_bytes,
                    .num_inputs = w.cols,
                    .start = bias,
                    .start_stride = 0,
                    .y = y,
                    .y_stride = y_stride};
  const bool is_f32 = w.dtype == DType::kF32;
  if (num_rows > kFewRows) {
    const auto compute = is_f32 ? ComputeManyRows<F32Weights> : ComputeManyRows<BF16Weights>;
    compute(all, num_rows, column_begin, column_end);
  } else {
    const TileShapes* shapes = is_f32 ? kFewRowsShapes<F32Weights> : kFewRowsShapes<BF16Weights>;
    ComputeColumns(all, shapes[num_rows - 1], num_rows, column_begin, column_end);
  }
}
