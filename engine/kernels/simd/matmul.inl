// The choice of a product by the format of the weights.

#if defined(EXPERTD_TILES)
// Few rows of integers stream weights as fast by vectors, without the tiles' setup; their bits are the same.
constexpr int kFewestTileMatmulRows = 5;
#endif

void Matmul(const InputRows& x, int num_rows, const PackedWeights& w, const float* bias, int column_begin,
            int column_end, float* y, int64_t y_stride) {
  if (num_rows <= 0) return;
#if defined(EXPERTD_TILES)
  if (w.format == WeightFormat::kBF16 || (w.format != WeightFormat::kF32 && num_rows >= kFewestTileMatmulRows)) {
    return TileMatmul(x, num_rows, w, bias, column_begin, column_end, y, y_stride);
  }
#endif
  switch (w.format) {
    case WeightFormat::kInt8:
      return DotMatmul(kInt8Tiles, 1, x, num_rows, w, bias, column_begin, column_end, y, y_stride);
    case WeightFormat::kInt4:
      return DotMatmul(kInt4Tiles, 1, x, num_rows, w, bias, column_begin, column_end, y, y_stride);
    case WeightFormat::kBF16:
#if defined(__AVX512BF16__) && !defined(EXPERTD_TILES)
      return DotMatmul(kBf16Tiles, 2, x, num_rows, w, bias, column_begin, column_end, y, y_stride);
#endif
    case WeightFormat::kF32:
      return FloatMatmul(x, num_rows, w, bias, column_begin, column_end, y, y_stride);
  }
}
