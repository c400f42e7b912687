// What sampling asks of a row of logits: the maxima of its blocks, probabilities as integers, and where logits of a
// range stand. Maxima and sums of integers depend on no order.

EXPERTD_INLINE int BlockSize(int64_t begin, int64_t size) {
  return size - begin < kLogitsBlock ? static_cast<int>(size - begin) : kLogitsBlock;
}

float SummarizeLogits(const float* logits, int64_t size, float* block_max) {
  const Vec lowest = Broadcast(-__builtin_inff());
  const BitVec magnitude = BroadcastInt(0x7fffffff);
  Vec largest = lowest;
  BitVec largest_magnitude = BroadcastInt(0);  // of bits as integers, where NaNs are beyond infinity
  for (int64_t begin = 0; begin < size; begin += kLogitsBlock) {
    Vec block = lowest;
    ForEachVector(BlockSize(begin, size), [&](int64_t i, int count) EXPERTD_INLINE_LAMBDA {
      const Vec value = LoadUpTo(logits + begin + i, count);
      block = Max(count == kLanes ? value : KeepFirst(value, count, lowest), block);
      largest_magnitude = MaxInt(And(BitsOf(value), magnitude), largest_magnitude);
    });
    block_max[begin / kLogitsBlock] = MaxLanes(block);
    largest = Max(block, largest);
  }
  constexpr int32_t kInfinityBits = 0x7f800000;
  return MaxLanes(largest_magnitude) > kInfinityBits ? __builtin_nanf("") : MaxLanes(largest);
}

// Exponents below -64 have no mass; without the bound, exp would go through subnormal numbers, which are slow.
EXPERTD_INLINE Vec UnroundedMasses(Vec logits, Vec max, Vec inverse_temperature) {
  const Vec exponent = Max(Mul(Sub(logits, max), inverse_temperature), Broadcast(-64.0f));
  return Mul(Exp(exponent), Broadcast(static_cast<float>(int64_t{1} << kMassBits)));
}

void LogitMasses(const float* logits, int64_t size, const LogitsScale& scale, uint64_t* masses) {
  const Vec max = Broadcast(scale.max), inverse_temperature = Broadcast(scale.inverse_temperature);
  ForEachVector(size, [&](int64_t i, int count) EXPERTD_INLINE_LAMBDA {
    const Vec mass = UnroundedMasses(LoadUpTo(logits + i, count), max, inverse_temperature);
    uint64_t rest[kLanes];
    uint64_t* const to = count == kLanes ? masses + i : rest;
    StoreWords(LowerWords(mass), to);
    StoreWords(UpperWords(mass), to + kLanes / 2);
    if (count < kLanes) __builtin_memcpy(masses + i, rest, sizeof(uint64_t) * static_cast<unsigned>(count));
  });
}

uint64_t SumMasses(const LogitsRow& row, const LogitsScale& scale, float threshold, uint64_t* block_mass) {
  const Vec max = Broadcast(scale.max), inverse_temperature = Broadcast(scale.inverse_temperature);
  const Vec lowest = Broadcast(threshold);
  uint64_t total = 0;
  for (int64_t begin = 0; begin < row.size; begin += kLogitsBlock) {
    const int64_t b = begin / kLogitsBlock;
    block_mass[b] = 0;
    if (!(row.block_max[b] >= threshold)) continue;
    BitVec sum = BroadcastInt(0);
    ForEachVector(BlockSize(begin, row.size), [&](int64_t i, int count) EXPERTD_INLINE_LAMBDA {
      const Vec logits = LoadUpTo(row.logits + begin + i, count);
      const Vec mass = KeepAtLeast(UnroundedMasses(logits, max, inverse_temperature), logits, lowest);
      const Vec kept = count == kLanes ? mass : KeepFirst(mass, count, Zero());
      sum = AddWords(sum, AddWords(LowerWords(kept), UpperWords(kept)));
    });
    block_mass[b] = SumWords(sum);
    total += block_mass[b];
  }
  return total;
}

int64_t FindLogits(const LogitsRow& row, float low, float high, int64_t limit, int32_t* indices) {
  const Vec lowest = Broadcast(low), highest = Broadcast(high);
  int64_t found = 0;
  for (int64_t begin = 0; begin < row.size; begin += kLogitsBlock) {
    if (!(row.block_max[begin / kLogitsBlock] >= low)) continue;
    const int size = BlockSize(begin, row.size);
    for (int i = 0; i < size; i += kLanes) {
      const int count = Smaller(kLanes, size - i);
      const Vec logits = LoadUpTo(row.logits + begin + i, count);
      unsigned lanes = AtLeastLanes(logits, lowest) & AtLeastLanes(highest, logits) & ((1u << count) - 1u);
      for (; lanes != 0; lanes &= lanes - 1) {
        if (found == limit) return found;
        indices[found++] = static_cast<int32_t>(begin + i + __builtin_ctz(lanes));
      }
    }
  }
  return found;
}
