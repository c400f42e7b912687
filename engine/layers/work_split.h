// How layers cut their work over the pool. Only outputs are cut (rows, columns, heads, experts), never a sum, so the
// cut has no influence on any bit. Small work stays on the calling thread: waking workers costs about as much as
// fifty thousand multiplications.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/platform/thread_pool.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {

// Multiply-adds below which a part is not worth a claim of its own: 1-2 microseconds of one core.
inline constexpr int64_t kMinPartWork = 48 << 10;

// Parts per thread where there is enough work: threads that finish early, or start late, even out.
inline constexpr int kPartsPerThread = 4;

// Rows of activations that one tile of a product touches, so that they stay in a core's L2 cache while panels of the
// weight pass by.
inline constexpr int64_t kTileInputBytes = 1 << 20;
inline constexpr int kMinTileRows = 32;
inline constexpr int kMaxTileRows = 256;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The number of parts to cut `work` multiply-adds into when there are at most `max_parts` pieces.
inline int NumParts(int64_t work, int max_parts, int num_threads) {
  const int64_t wanted = std::min<int64_t>(work / kMinPartWork, int64_t{kPartsPerThread} * num_threads);
  return static_cast<int>(num_threads == 1 ? 1 : std::clamp<int64_t>(wanted, 1, std::max(max_parts, 1)));
}

// Part `index` of `num_parts` of [0, size), as even as possible.
inline int PartBegin(int size, int num_parts, int index) { return static_cast<int>(int64_t{size} * index / num_parts); }

// Calls fn(begin, end, thread) for parts of the rows [0, num_rows), each row costing `work_per_row`.
template <typename Fn>
void ParallelRows(ThreadPool& pool, int num_rows, int64_t work_per_row, Fn fn) {
  const int num_parts = NumParts(num_rows * work_per_row, num_rows, pool.num_threads());
  pool.ParallelFor(num_parts, [&](int part, int thread) {
    fn(PartBegin(num_rows, num_parts, part), PartBegin(num_rows, num_parts, part + 1), thread);
  });
}

// Rows per tile of a product whose input has rows of `row_bytes`.
inline int TileRows(int num_rows, int64_t row_bytes) {
  const int64_t fitting = kTileInputBytes / row_bytes / kMinTileRows * kMinTileRows;
  const int64_t limit = std::clamp<int64_t>(fitting, kMinTileRows, kMaxTileRows);
  const int64_t num_tiles = CeilDiv(num_rows, limit);
  return static_cast<int>(CeilDiv(num_rows, num_tiles));
}

// The output [num_rows, columns] of a product as tiles: row tiles of at most rows_per_tile rows, times column parts
// that begin at multiples of a unit (a panel).
struct TileGrid {
  int num_rows = 0;
  int rows_per_tile = 0;
  int num_row_tiles = 0;
  int num_units = 0;  // of columns
  int num_column_parts = 0;

  int num_tiles() const { return num_row_tiles * num_column_parts; }
};

struct Tile {
  int row_begin = 0;
  int num_rows = 0;
  int unit_begin = 0;
  int unit_end = 0;
};

// `row_bytes`: of the input; `unit_work`: multiply-adds of one unit of columns for one row.
inline TileGrid MakeTileGrid(int num_rows, int64_t row_bytes, int num_units, int64_t unit_work, int num_threads) {
  TileGrid grid;
  grid.num_rows = num_rows;
  grid.rows_per_tile = TileRows(num_rows, row_bytes);
  grid.num_row_tiles = static_cast<int>(CeilDiv(num_rows, grid.rows_per_tile));
  grid.num_units = num_units;
  const int num_parts =
      NumParts(int64_t{num_rows} * num_units * unit_work, num_units * grid.num_row_tiles, num_threads);
  grid.num_column_parts = std::min<int>(num_units, static_cast<int>(CeilDiv(num_parts, grid.num_row_tiles)));
  return grid;
}

inline Tile TileAt(const TileGrid& grid, int index) {
  const int row_tile = index / grid.num_column_parts;
  const int part = index % grid.num_column_parts;
  const int row_begin = row_tile * grid.rows_per_tile;
  return {row_begin, std::min(grid.rows_per_tile, grid.num_rows - row_begin),
          PartBegin(grid.num_units, grid.num_column_parts, part),
          PartBegin(grid.num_units, grid.num_column_parts, part + 1)};
}

}  // namespace expertd
