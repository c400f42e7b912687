// Products on registers alone: the most that the instructions of this table can do, to hold measured speeds against.

// Keeps a value that nobody reads from being optimized away.
template <typename Value>
EXPERTD_INLINE void Keep(Value& value) {
  __asm__ volatile("" : "+v"(value));
}

constexpr int kPeakSums = kLanes == 16 ? 24 : 12;

// Calls advance(sum) `num_steps` times for each of as many sums as keep the units busy.
template <typename Sum, typename Advance>
EXPERTD_INLINE void RunSums(int64_t num_steps, Sum zero, Advance advance) {
  Sum sums[kPeakSums];
#pragma GCC unroll 24
  for (int i = 0; i < kPeakSums; ++i) {
    sums[i] = zero;
    Keep(sums[i]);  // or equal sums could be computed once
  }
  for (int64_t step = 0; step < num_steps; ++step) {
#pragma GCC unroll 24
    for (int i = 0; i < kPeakSums; ++i) advance(sums[i]);
  }
#pragma GCC unroll 24
  for (int i = 0; i < kPeakSums; ++i) Keep(sums[i]);
}

int64_t RunFloatProducts(int64_t num_steps) {
  Vec a = Broadcast(1.0f), b = Broadcast(0.5f);
  Keep(a);
  Keep(b);
  RunSums(num_steps, Zero(), [&](Vec& sum) EXPERTD_INLINE_LAMBDA { sum = MulAdd(a, b, sum); });
  return num_steps * kPeakSums * kLanes * 2;
}

#if defined(EXPERTD_TILES)

template <typename Product>
void RunTiles(int64_t num_steps) {
  ConfigurePair(kPairRows);
  for (int64_t step = 0; step < num_steps; ++step) {
    Product::template Dot<0, 4, 6>();
    Product::template Dot<1, 4, 7>();
    Product::template Dot<2, 5, 6>();
    Product::template Dot<3, 5, 7>();
  }
  ReleaseTiles();
}

int64_t RunProducts(InputForm form, int64_t num_steps) {
  if (form == InputForm::kF32) return RunFloatProducts(num_steps);
  const bool is_int8 = form == InputForm::kInt8;
  is_int8 ? RunTiles<TimesUnsigned>(num_steps) : RunTiles<TimesBf16>(num_steps);
  return num_steps * kPairRows * kPanelColumns * (is_int8 ? kTileDepth : kTileDepth / 2) * 2;
}

#else

int64_t RunProducts(InputForm form, int64_t num_steps) {
  BitVec a = BroadcastInt(0x01020304), b = BroadcastInt(0x04030201);
  Keep(a);
  Keep(b);
  if (form == InputForm::kInt8) {
    RunSums(num_steps, BroadcastInt(0), [&](BitVec& sum) EXPERTD_INLINE_LAMBDA { sum = DotBytes(sum, a, b); });
    return num_steps * kPeakSums * kLanes * 4 * 2;
  }
#if defined(__AVX512BF16__)
  if (form == InputForm::kBF16) {
    RunSums(num_steps, Zero(), [&](Vec& sum) EXPERTD_INLINE_LAMBDA { sum = DotPairs(sum, a, b); });
    return num_steps * kPeakSums * kLanes * 2 * 2;
  }
#endif
  return RunFloatProducts(num_steps);
}

#endif
