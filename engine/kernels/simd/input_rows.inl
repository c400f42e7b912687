// Rows of x as products take them: quantized to 8 bits, or rounded to bf16.

// The bits of the largest |x|. Ordered as integers, magnitudes are in order, with NaNs beyond infinity.
int32_t LargestMagnitudeBits(const float* x, int size) {
  const BitVec magnitude = BroadcastInt(0x7fffffff);
  BitVec largest = BroadcastInt(0);
  ForEachVector(size, [&](int64_t i, int count) {
    largest = MaxInt(largest, And(BitsOf(LoadUpTo(x + i, count)), magnitude));
  });
  return MaxLanes(largest);
}

float FloatOfBits(int32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

void Quantize(const float* x, int size, int8_t* codes, float* scale, int32_t* sums) {
  const int num_groups = (size + kGroupInputs - 1) / kGroupInputs;
  const float largest = FloatOfBits(LargestMagnitudeBits(x, size));
  const bool is_finite = largest <= __FLT_MAX__;
  const bool is_zero = !(largest >= kSmallestQuantized && is_finite);
  *scale = is_zero ? (is_finite ? 0.0f : __builtin_nanf("")) : largest / 127.0f;
  const Vec inverse = Broadcast(is_zero ? 0.0f : 127.0f / largest);
  int32_t total = 0;
  for (int group = 0; group < num_groups; ++group) {
    BitVec sum = BroadcastInt(0);
    for (int i = group * kGroupInputs; i < (group + 1) * kGroupInputs; i += kLanes) {
      const int count = Larger(0, Smaller(kLanes, size - i));
      // Products with infinities would not be zero.
      const BitVec code = is_zero ? BroadcastInt(0) : ToNearestInt(Mul(LoadUpTo(x + i, count), inverse));
      StoreBytes(code, codes + i);
      sum = AddInt(sum, code);
    }
    sums[1 + group] = SumLanes(sum);
    total += sums[1 + group];
  }
  sums[0] = total;
}

// Adding half of the last kept place, less one where that place is even, rounds ties to even; NaNs keep their upper
// half and get a bit that is not lost with the lower.
EXPERTD_INLINE BitVec RoundedHalves(Vec value) {
  const BitVec bits = BitsOf(value);
  const BitVec odd = And(ShiftRight(bits, 16), BroadcastInt(1));
  return ShiftRight(AddInt(bits, AddInt(odd, BroadcastInt(0x7fff))), 16);
}

void RoundToBf16(const float* x, int size, BFloat16* out) {
  for (int i = 0; i < RoundUp(size, 32); i += kLanes) {
    const int count = Larger(0, Smaller(kLanes, size - i));
    const Vec value = LoadUpTo(x + i, count);
    StoreHalves(RoundedHalves(value), &out[i].bits);
    const unsigned numbers = EqualLanes(value, value);
    if (numbers == (1u << kLanes) - 1u) continue;
    for (int lane = 0; lane < count; ++lane) {
      if ((numbers >> lane & 1u) == 0) out[i + lane].bits = static_cast<uint16_t>(0x7fc0);
    }
  }
}
