// Norms, rotary embedding, softmax and the other element-wise kernels, for any vector width. Tails are computed by the
// same instructions as the rest, under a mask, so that an element's bits do not depend on where it lies.

// Calls body(offset, count) over [0, size) in vectors; count < kLanes only for the last.
template <typename Body>
EXPERTD_INLINE void ForEachVector(int64_t size, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) body(i, kLanes);
  if (i < size) body(i, static_cast<int>(size - i));
}

EXPERTD_INLINE Vec LoadUpTo(const float* from, int count) {
  return count == kLanes ? Load(from) : LoadFirst(from, count);
}
EXPERTD_INLINE void StoreUpTo(Vec value, int count, float* to) {
  if (count == kLanes) {
    Store(value, to);
  } else {
    StoreFirst(value, count, to);
  }
}

// Sum of term(vector) over x in four chains, which hide the latency of the additions; the order depends on nothing but
// `size`.
template <typename Term>
EXPERTD_INLINE float SumOf(const float* x, int size, Term term) {
  Vec sums[4] = {Zero(), Zero(), Zero(), Zero()};
  int i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
    for (int chain = 0; chain < 4; ++chain) sums[chain] = term(Load(x + i + chain * kLanes), sums[chain]);
  }
  ForEachVector(size - i, [&](int64_t offset, int count) {
    sums[0] = KeepFirst(term(LoadUpTo(x + i + offset, count), sums[0]), count, sums[0]);
  });
  return SumLanes(Add(Add(sums[0], sums[1]), Add(sums[2], sums[3])));
}

void RmsNorm(const float* x, const float* weight, float eps, int size, float* y) {
  const float mean = SumOf(x, size, [](Vec value, Vec sum) { return MulAdd(value, value, sum); }) /
                     static_cast<float>(size);
  const Vec inverse = Broadcast(1.0f / __builtin_sqrtf(mean + eps));
  ForEachVector(size, [&](int64_t i, int count) {
    StoreUpTo(Mul(Mul(LoadUpTo(x + i, count), inverse), LoadUpTo(weight + i, count)), count, y + i);
  });
}

void LayerNorm(const float* x, const float* weight, const float* bias, float eps, int size, float* y) {
  const float sum = SumOf(x, size, [](Vec value, Vec sums) { return Add(value, sums); });
  const Vec mean = Broadcast(sum / static_cast<float>(size));
  const float squares = SumOf(x, size, [&](Vec value, Vec sums) {
    const Vec deviation = Sub(value, mean);
    return MulAdd(deviation, deviation, sums);
  });
  const Vec inverse = Broadcast(1.0f / __builtin_sqrtf(squares / static_cast<float>(size) + eps));
  ForEachVector(size, [&](int64_t i, int count) {
    const Vec scaled = Mul(Sub(LoadUpTo(x + i, count), mean), inverse);
    StoreUpTo(MulAdd(scaled, LoadUpTo(weight + i, count), LoadUpTo(bias + i, count)), count, y + i);
  });
}

void AddInPlace(const float* y, int64_t size, float* x) {
  ForEachVector(size, [&](int64_t i, int count) {
    StoreUpTo(Add(LoadUpTo(x + i, count), LoadUpTo(y + i, count)), count, x + i);
  });
}

void AddScaled(const float* y, float scale, int64_t size, float* x) {
  const Vec factor = Broadcast(scale);
  ForEachVector(size, [&](int64_t i, int count) {
    StoreUpTo(MulAdd(factor, LoadUpTo(y + i, count), LoadUpTo(x + i, count)), count, x + i);
  });
}

void SiluMul(const float* gate, const float* up, int64_t size, float* out) {
  ForEachVector(size, [&](int64_t i, int count) {
    const Vec value = LoadUpTo(gate + i, count);
    const Vec denominator = Add(Broadcast(1.0f), Exp(Sub(Zero(), value)));
    StoreUpTo(Mul(Div(value, denominator), LoadUpTo(up + i, count)), count, out + i);
  });
}

// out = max(x, 0) - |x| tail(|x|), tail(a) the share of a GELU's gate that a positive x lacks and a negative one has.
// |x| is cut off where the tail has long been zero, so that infinities have their limits.
template <typename Tail>
EXPERTD_INLINE void Gelu(const float* x, int64_t size, float* out, Tail tail) {
  ForEachVector(size, [&](int64_t i, int count) {
    const Vec value = LoadUpTo(x + i, count);
    const Vec magnitude = Min(Broadcast(40.0f), Max(Sub(Zero(), value), value));
    StoreUpTo(NegMulAdd(magnitude, tail(magnitude), Max(Zero(), value)), count, out + i);
  });
}

// tail(a) = erfc(a / sqrt 2) / 2 = q(t) exp(-a^2 / 2), t = 1 / (1 + 0.27 a), q the minimax polynomial of degree 9
// without constant for the relative error (2.4e-8 before rounding).
void GeluErf(const float* x, int64_t size, float* out) {
  Gelu(x, size, out, [](Vec a) {
    const Vec t = Div(Broadcast(1.0f), MulAdd(a, Broadcast(0.27f), Broadcast(1.0f)));
    Vec q = Broadcast(0x1.db0feap-6f);
    q = MulAdd(q, t, Broadcast(-0x1.036594p-3f));
    q = MulAdd(q, t, Broadcast(0x1.5c7abap-3f));
    q = MulAdd(q, t, Broadcast(-0x1.1d49dap-4f));
    q = MulAdd(q, t, Broadcast(0x1.baf396p-4f));
    q = MulAdd(q, t, Broadcast(0x1.268962p-4f));
    q = MulAdd(q, t, Broadcast(0x1.a12bf4p-4f));
    q = MulAdd(q, t, Broadcast(0x1.b87902p-4f));
    q = MulAdd(q, t, Broadcast(0x1.b939aap-4f));
    return Mul(Mul(q, t), Exp(Mul(Mul(a, Broadcast(-0.5f)), a)));
  });
}

// tail(a) = 1 / (1 + exp(2 sqrt(2 / pi) (a + 0.044715 a^3))).
void GeluTanh(const float* x, int64_t size, float* out) {
  Gelu(x, size, out, [](Vec a) {
    const Vec slope = MulAdd(Mul(a, a), Broadcast(0.0713548163f), Broadcast(1.5957691216f));
    return Div(Broadcast(1.0f), Add(Broadcast(1.0f), Exp(Mul(a, slope))));
  });
}

void Rope(const float* cos, const float* sin, int rotary_dim, float* x) {
  const int half = rotary_dim / 2;
  ForEachVector(half, [&](int64_t i, int count) {
    const Vec c = LoadUpTo(cos + i, count);
    const Vec s = LoadUpTo(sin + i, count);
    const Vec first = LoadUpTo(x + i, count);
    const Vec second = LoadUpTo(x + half + i, count);
    StoreUpTo(MulSub(first, c, Mul(second, s)), count, x + i);
    StoreUpTo(MulAdd(second, c, Mul(first, s)), count, x + half + i);
  });
}

// The largest number in x; -infinity if there is none. NaNs are passed over.
float Maximum(const float* x, int size) {
  const Vec lowest = Broadcast(-__builtin_inff());
  Vec maxima[4] = {lowest, lowest, lowest, lowest};
  int i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
    for (int chain = 0; chain < 4; ++chain) maxima[chain] = Max(Load(x + i + chain * kLanes), maxima[chain]);
  }
  ForEachVector(size - i, [&](int64_t offset, int count) {
    const Vec value = KeepFirst(LoadUpTo(x + i + offset, count), count, lowest);
    maxima[0] = Max(value, maxima[0]);
  });
  return MaxLanes(Max(Max(maxima[0], maxima[1]), Max(maxima[2], maxima[3])));
}

// x[i] = exp(x[i] - maximum); returns their sum, in an order that depends on nothing but `size`.
float ExpAndSum(float maximum, int size, float* x) {
  const Vec shift = Broadcast(maximum);
  Vec sum = Zero();
  ForEachVector(size, [&](int64_t i, int count) {
    const Vec value = Exp(Sub(LoadUpTo(x + i, count), shift));
    StoreUpTo(value, count, x + i);
    sum = Add(sum, KeepFirst(value, count, Zero()));
  });
  return SumLanes(sum);
}

void ScaleInPlace(float scale, int64_t size, float* x) {
  const Vec factor = Broadcast(scale);
  ForEachVector(size, [&](int64_t i, int count) { StoreUpTo(Mul(LoadUpTo(x + i, count), factor), count, x + i); });
}

void Softmax(int size, float* x) {
  const float sum = ExpAndSum(Maximum(x, size), size, x);
  ScaleInPlace(1.0f / sum, size, x);
}

int Argmax(const float* x, int size) {
  const Vec maximum = Broadcast(Maximum(x, size));
  for (int i = 0; i < size; i += kLanes) {
    const int count = Smaller(kLanes, size - i);
    const unsigned equal = EqualLanes(LoadUpTo(x + i, count), maximum) & ((1u << count) - 1u);
    if (equal != 0) return i + __builtin_ctz(equal);
  }
  return 0;  // nothing but NaN
}
