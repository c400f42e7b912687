// The vector operations that the shared bodies (*.inl) are written in, for the instruction set that the including
// source is compiled for. Included only by avx2.cc and avx512.cc, inside their own anonymous namespace: nothing here or
// in the bodies may have external linkage, nor may they call inline functions of the standard library, because a linker
// could then pick a copy compiled for AVX-512 for the rest of the program.
//
// Masked operations treat the first `count` lanes (0 <= count <= kLanes); other lanes read as zero and are not written.
#pragma once

#define EXPERTD_INLINE inline __attribute__((always_inline))
#define EXPERTD_INLINE_LAMBDA __attribute__((always_inline))

#if defined(__AVX512F__)

using Vec = __m512;
using BitVec = __m512i;
constexpr int kLanes = 16;

EXPERTD_INLINE __mmask16 FirstLanes(int count) { return static_cast<__mmask16>((1u << count) - 1u); }

EXPERTD_INLINE Vec Zero() { return _mm512_setzero_ps(); }
EXPERTD_INLINE Vec Broadcast(float value) { return _mm512_set1_ps(value); }
EXPERTD_INLINE Vec Load(const float* from) { return _mm512_loadu_ps(from); }
EXPERTD_INLINE Vec LoadFirst(const float* from, int count) { return _mm512_maskz_loadu_ps(FirstLanes(count), from); }
EXPERTD_INLINE void Store(Vec value, float* to) { _mm512_storeu_ps(to, value); }
EXPERTD_INLINE void StoreFirst(Vec value, int count, float* to) {
  _mm512_mask_storeu_ps(to, FirstLanes(count), value);
}

EXPERTD_INLINE Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
EXPERTD_INLINE Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
EXPERTD_INLINE Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
EXPERTD_INLINE Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
EXPERTD_INLINE Vec MulAdd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }      // a * b + c
EXPERTD_INLINE Vec MulSub(Vec a, Vec b, Vec c) { return _mm512_fmsub_ps(a, b, c); }      // a * b - c
EXPERTD_INLINE Vec NegMulAdd(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
// The second operand where either is NaN.
EXPERTD_INLINE Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
EXPERTD_INLINE Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
EXPERTD_INLINE Vec KeepFirst(Vec value, int count, Vec others) {
  return _mm512_mask_blend_ps(FirstLanes(count), others, value);
}
// Bit i is set where lanes i are equal (NaN is not).
EXPERTD_INLINE unsigned EqualLanes(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
// Bit i is set where lane i of a is not less than that of b, and neither is NaN.
EXPERTD_INLINE unsigned AtLeastLanes(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
// Zero where x is below the threshold.
EXPERTD_INLINE Vec KeepAtLeast(Vec value, Vec x, Vec threshold) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, threshold, _CMP_GE_OQ), value);
}

EXPERTD_INLINE Vec RoundToInteger(Vec value) {
  return _mm512_roundscale_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// value * 2^exponent for integral exponents in [-160, 160]; overflows to infinity, underflows through subnormals.
EXPERTD_INLINE Vec ScaleByPowerOfTwo(Vec value, Vec exponent) { return _mm512_scalef_ps(value, exponent); }

// Lanes combined in a fixed order: halves onto each other.
EXPERTD_INLINE float SumLanes(Vec value) {
  __m256 half = _mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps(value, 1));
  __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
}
EXPERTD_INLINE float MaxLanes(Vec value) {
  __m256 half = _mm256_max_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps(value, 1));
  __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  quarter = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)));
}

// bf16. A pair vector holds two inputs of each lane's column: the lower (even) and the upper (odd) half of each word.
EXPERTD_INLINE BitVec LoadBits(const void* from) { return _mm512_loadu_si512(from); }
EXPERTD_INLINE void StoreBits(BitVec bits, void* to) { _mm512_storeu_si512(to, bits); }
EXPERTD_INLINE Vec EvenOfPairs(BitVec pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
EXPERTD_INLINE Vec OddOfPairs(BitVec pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// Half precision.
EXPERTD_INLINE Vec LoadHalf(const uint16_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

// Integers.
EXPERTD_INLINE BitVec BroadcastInt(int32_t value) { return _mm512_set1_epi32(value); }
EXPERTD_INLINE Vec ToFloat(BitVec integers) { return _mm512_cvtepi32_ps(integers); }
EXPERTD_INLINE BitVec ToNearestInt(Vec value) { return _mm512_cvtps_epi32(value); }
EXPERTD_INLINE BitVec LoadBytes(const uint8_t* from) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
EXPERTD_INLINE Vec Load(const int8_t* from) {
  return ToFloat(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
EXPERTD_INLINE void StoreBytes(BitVec integers, int8_t* to) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(integers));
}
EXPERTD_INLINE void StoreHalves(BitVec integers, uint16_t* to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(integers));
}
EXPERTD_INLINE BitVec AddInt(BitVec a, BitVec b) { return _mm512_add_epi32(a, b); }
EXPERTD_INLINE BitVec MulInt(BitVec a, BitVec b) { return _mm512_mullo_epi32(a, b); }
EXPERTD_INLINE BitVec MaxInt(BitVec a, BitVec b) { return _mm512_max_epi32(a, b); }
EXPERTD_INLINE BitVec And(BitVec a, BitVec b) { return _mm512_and_si512(a, b); }
EXPERTD_INLINE BitVec ShiftRight(BitVec value, int count) { return _mm512_srli_epi32(value, count); }
EXPERTD_INLINE BitVec BitsOf(Vec value) { return _mm512_castps_si512(value); }
EXPERTD_INLINE int32_t SumLanes(BitVec integers) { return _mm512_reduce_add_epi32(integers); }
EXPERTD_INLINE int32_t MaxLanes(BitVec integers) { return _mm512_reduce_max_epi32(integers); }

// Words of 64 bits: those of the lower and of the upper lanes, rounded to nearest even; values in [0, 2^51].
EXPERTD_INLINE BitVec LowerWords(Vec value) { return _mm512_cvtps_epi64(_mm512_castps512_ps256(value)); }
EXPERTD_INLINE BitVec UpperWords(Vec value) { return _mm512_cvtps_epi64(_mm512_extractf32x8_ps(value, 1)); }
EXPERTD_INLINE BitVec AddWords(BitVec a, BitVec b) { return _mm512_add_epi64(a, b); }
EXPERTD_INLINE uint64_t SumWords(BitVec words) { return static_cast<uint64_t>(_mm512_reduce_add_epi64(words)); }
EXPERTD_INLINE void StoreWords(BitVec words, uint64_t* to) { _mm512_storeu_si512(to, words); }

// sum + the products of four unsigned bytes of `codes` with four signed bytes of `x`, in each lane.
// In assembly, here and below, because g++ 12 copies the sums of a tile before each of these intrinsics, and runs out
// of registers.
EXPERTD_INLINE BitVec DotBytes(BitVec sum, BitVec codes, BitVec x) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x));
  return sum;
}

#if defined(__AVX512BF16__)
// sum + the products of two bf16 of `x` with two of `pairs`, in each lane: the odd ones first, fp32 throughout.
EXPERTD_INLINE Vec DotPairs(Vec sum, BitVec pairs, BitVec x) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(pairs), "v"(x));
  return sum;
}
// Pairs of the lanes of `even` and `odd`, rounded to nearest even; subnormal numbers become zero, as products take
// them.
EXPERTD_INLINE BitVec MakePairs(Vec even, Vec odd) {
  const __m512i interleaved = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                               23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(interleaved, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even)));
}
// Of each two pairs, a pair of the even and one of the odd numbers.
EXPERTD_INLINE BitVec TransposePairs(BitVec pairs) {
  return _mm512_shuffle_epi8(pairs, _mm512_set4_epi32(0x0f0e0b0a, 0x0d0c0908, 0x07060302, 0x05040100));
}
#endif

#else  // AVX2 and FMA

using Vec = __m256;
using BitVec = __m256i;
constexpr int kLanes = 8;

EXPERTD_INLINE __m256i FirstLanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

EXPERTD_INLINE Vec Zero() { return _mm256_setzero_ps(); }
EXPERTD_INLINE Vec Broadcast(float value) { return _mm256_set1_ps(value); }
EXPERTD_INLINE Vec Load(const float* from) { return _mm256_loadu_ps(from); }
EXPERTD_INLINE Vec LoadFirst(const float* from, int count) { return _mm256_maskload_ps(from, FirstLanes(count)); }
EXPERTD_INLINE void Store(Vec value, float* to) { _mm256_storeu_ps(to, value); }
EXPERTD_INLINE void StoreFirst(Vec value, int count, float* to) {
  _mm256_maskstore_ps(to, FirstLanes(count), value);
}

EXPERTD_INLINE Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
EXPERTD_INLINE Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
EXPERTD_INLINE Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
EXPERTD_INLINE Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
EXPERTD_INLINE Vec MulAdd(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }      // a * b + c
EXPERTD_INLINE Vec MulSub(Vec a, Vec b, Vec c) { return _mm256_fmsub_ps(a, b, c); }      // a * b - c
EXPERTD_INLINE Vec NegMulAdd(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
// The second operand where either is NaN.
EXPERTD_INLINE Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
EXPERTD_INLINE Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
EXPERTD_INLINE Vec KeepFirst(Vec value, int count, Vec others) {
  return _mm256_blendv_ps(others, value, _mm256_castsi256_ps(FirstLanes(count)));
}
// Bit i is set where lanes i are equal (NaN is not).
EXPERTD_INLINE unsigned EqualLanes(Vec a, Vec b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
}
// Bit i is set where lane i of a is not less than that of b, and neither is NaN.
EXPERTD_INLINE unsigned AtLeastLanes(Vec a, Vec b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
}
// Zero where x is below the threshold.
EXPERTD_INLINE Vec KeepAtLeast(Vec value, Vec x, Vec threshold) {
  return _mm256_and_ps(_mm256_cmp_ps(x, threshold, _CMP_GE_OQ), value);
}

EXPERTD_INLINE Vec RoundToInteger(Vec value) {
  return _mm256_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// value * 2^exponent for integral exponents in [-160, 160]; overflows to infinity, underflows through subnormals. In
// two steps, because a float has no 2^160 and its subnormals are no powers that a shift could make.
EXPERTD_INLINE Vec ScaleByPowerOfTwo(Vec value, Vec exponent) {
  const __m256i power = _mm256_cvtps_epi32(exponent);
  const __m256i first = _mm256_srai_epi32(power, 1);
  const __m256i second = _mm256_sub_epi32(power, first);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256 scale1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23));
  const __m256 scale2 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(value, scale1), scale2);
}

// Lanes combined in a fixed order: halves onto each other.
EXPERTD_INLINE float SumLanes(Vec value) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
EXPERTD_INLINE float MaxLanes(Vec value) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// bf16. A pair vector holds two inputs of each lane's column: the lower (even) and the upper (odd) half of each word.
EXPERTD_INLINE BitVec LoadBits(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
EXPERTD_INLINE Vec EvenOfPairs(BitVec pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
EXPERTD_INLINE Vec OddOfPairs(BitVec pairs) {
  return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

// Half precision.
EXPERTD_INLINE Vec LoadHalf(const uint16_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// Integers.
EXPERTD_INLINE BitVec BroadcastInt(int32_t value) { return _mm256_set1_epi32(value); }
EXPERTD_INLINE Vec ToFloat(BitVec integers) { return _mm256_cvtepi32_ps(integers); }
EXPERTD_INLINE BitVec ToNearestInt(Vec value) { return _mm256_cvtps_epi32(value); }
EXPERTD_INLINE BitVec LoadBytes(const uint8_t* from) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}
EXPERTD_INLINE Vec Load(const int8_t* from) {
  return ToFloat(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}
// The lower halves of the lanes, side by side.
EXPERTD_INLINE __m128i PackHalves(BitVec integers) {
  const __m256i low = _mm256_and_si256(integers, _mm256_set1_epi32(0xffff));
  return _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
}
EXPERTD_INLINE void StoreHalves(BitVec integers, uint16_t* to) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), PackHalves(integers));
}
EXPERTD_INLINE void StoreBytes(BitVec integers, int8_t* to) {
  const __m128i halves = _mm_and_si128(PackHalves(integers), _mm_set1_epi16(0xff));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(halves, halves));
}
EXPERTD_INLINE BitVec AddInt(BitVec a, BitVec b) { return _mm256_add_epi32(a, b); }
EXPERTD_INLINE BitVec MulInt(BitVec a, BitVec b) { return _mm256_mullo_epi32(a, b); }
EXPERTD_INLINE BitVec MaxInt(BitVec a, BitVec b) { return _mm256_max_epi32(a, b); }
EXPERTD_INLINE BitVec And(BitVec a, BitVec b) { return _mm256_and_si256(a, b); }
EXPERTD_INLINE BitVec ShiftRight(BitVec value, int count) { return _mm256_srli_epi32(value, count); }
EXPERTD_INLINE BitVec BitsOf(Vec value) { return _mm256_castps_si256(value); }
EXPERTD_INLINE int32_t SumLanes(BitVec integers) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
  half = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
  return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 1)));
}
EXPERTD_INLINE int32_t MaxLanes(BitVec integers) {
  __m128i half = _mm_max_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
  half = _mm_max_epi32(half, _mm_unpackhi_epi64(half, half));
  return _mm_cvtsi128_si32(_mm_max_epi32(half, _mm_shuffle_epi32(half, 1)));
}

// Words of 64 bits: those of the lower and of the upper lanes, rounded to nearest even; values in [0, 2^51]. A double
// between 2^52 and 2^53 counts in ones, in its lowest bits.
EXPERTD_INLINE BitVec ToWords(__m128 value) {
  const __m256d shift = _mm256_set1_pd(0x1p52);
  const __m256d shifted = _mm256_add_pd(_mm256_cvtps_pd(value), shift);
  return _mm256_sub_epi64(_mm256_castpd_si256(shifted), _mm256_castpd_si256(shift));
}
EXPERTD_INLINE BitVec LowerWords(Vec value) { return ToWords(_mm256_castps256_ps128(value)); }
EXPERTD_INLINE BitVec UpperWords(Vec value) { return ToWords(_mm256_extractf128_ps(value, 1)); }
EXPERTD_INLINE BitVec AddWords(BitVec a, BitVec b) { return _mm256_add_epi64(a, b); }
EXPERTD_INLINE uint64_t SumWords(BitVec words) {
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half))));
}
EXPERTD_INLINE void StoreWords(BitVec words, uint64_t* to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), words);
}

// sum + the products of four unsigned bytes of `codes` with four signed bytes of `x`, in each lane.
EXPERTD_INLINE BitVec DotBytes(BitVec sum, BitVec codes, BitVec x) {
#if defined(__AVXVNNI__)
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(codes), "x"(x));
  return sum;
#else
  // By 16-bit halves, even bytes and odd ones: the instruction that multiplies bytes saturates.
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(0xff)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(x, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
#endif
}

#endif

constexpr int Smaller(int a, int b) { return a < b ? a : b; }
constexpr int Larger(int a, int b) { return a > b ? a : b; }
constexpr int RoundUp(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// to[column][row] = from[row][column], of four rows and columns.
EXPERTD_INLINE void TransposeFour(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + from_stride);
  __m128 c = _mm_loadu_ps(from + 2 * from_stride), d = _mm_loadu_ps(from + 3 * from_stride);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(to, a);
  _mm_storeu_ps(to + to_stride, b);
  _mm_storeu_ps(to + 2 * to_stride, c);
  _mm_storeu_ps(to + 3 * to_stride, d);
}

// The same, of kLanes rows and columns.
EXPERTD_INLINE void TransposeLanes(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
#if defined(__AVX512F__)
  Vec rows[16], pairs[16], fours[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) rows[i] = Load(from + i * from_stride);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  const auto join = [](Vec a, Vec b, bool is_high) EXPERTD_INLINE_LAMBDA {
    const __m512d low = _mm512_castps_pd(a), high = _mm512_castps_pd(b);
    return _mm512_castpd_ps(is_high ? _mm512_unpackhi_pd(low, high) : _mm512_unpacklo_pd(low, high));
  };
  // fours[i + j] has, in its quarter q, of the rows [i, i + 4) the column 4 * q + j.
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    fours[i] = join(pairs[i], pairs[i + 2], false);
    fours[i + 1] = join(pairs[i], pairs[i + 2], true);
    fours[i + 2] = join(pairs[i + 1], pairs[i + 3], false);
    fours[i + 3] = join(pairs[i + 1], pairs[i + 3], true);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const Vec a = _mm512_shuffle_f32x4(fours[j], fours[j + 4], 0x44);
    const Vec b = _mm512_shuffle_f32x4(fours[j], fours[j + 4], 0xee);
    const Vec c = _mm512_shuffle_f32x4(fours[j + 8], fours[j + 12], 0x44);
    const Vec d = _mm512_shuffle_f32x4(fours[j + 8], fours[j + 12], 0xee);
    Store(_mm512_shuffle_f32x4(a, c, 0x88), to + j * to_stride);
    Store(_mm512_shuffle_f32x4(a, c, 0xdd), to + (j + 4) * to_stride);
    Store(_mm512_shuffle_f32x4(b, d, 0x88), to + (j + 8) * to_stride);
    Store(_mm512_shuffle_f32x4(b, d, 0xdd), to + (j + 12) * to_stride);
  }
#else
  for (int row = 0; row < kLanes; row += 4) {
    for (int column = 0; column < kLanes; column += 4) {
      TransposeFour(from + row * from_stride + column, from_stride, to + column * to_stride + row, to_stride);
    }
  }
#endif
}

// e^x, each lane by itself. Relative error below 2^-23 * 1.2 where the result is normal; exact at 0; 0 and infinity far
// out; NaN stays NaN. x = n ln 2 + r with |r| <= ln 2 / 2, e^x = 2^n (1 + r + r^2 q(r)), q the minimax polynomial of
// degree 4 for the relative error (3e-9 before rounding).
EXPERTD_INLINE Vec Exp(Vec x) {
  x = Max(Broadcast(-105.0f), Min(Broadcast(89.0f), x));
  const Vec n = RoundToInteger(Mul(x, Broadcast(1.44269504f)));
  // ln 2 in two parts: n * 0x1.62e4p-1 is exact for the n that occur.
  Vec r = NegMulAdd(n, Broadcast(0x1.62e4p-1f), x);
  r = NegMulAdd(n, Broadcast(0x1.7f7d1cp-20f), r);
  Vec q = Broadcast(0x1.6db47ap-10f);
  q = MulAdd(q, r, Broadcast(0x1.123b92p-7f));
  q = MulAdd(q, r, Broadcast(0x1.55545ep-5f));
  q = MulAdd(q, r, Broadcast(0x1.55548ep-3f));
  q = MulAdd(q, r, Broadcast(0.5f));
  const Vec power = Add(Broadcast(1.0f), MulAdd(Mul(r, r), q, r));
  return ScaleByPowerOfTwo(power, n);
}
