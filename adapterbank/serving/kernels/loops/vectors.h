// Numbers of every type that is stored, some at a time, as float32; and float32 as every type that is written.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

enum Type { FLOAT32, BFLOAT16, FLOAT16, INT8, INT4 };
template <int LANES, class Number>
using Vector [[gnu::vector_size(LANES * sizeof(Number))]] = Number;

template <class To, class From>
inline To bits(From value) {
  To found;
  static_assert(sizeof(To) == sizeof(From));
  std::memcpy(&found, &value, sizeof(To));
  return found;
}

template <class V, class Number>
inline V read(const Number* from) {  // wherever it lies
  V found;
  std::memcpy(&found, from, sizeof(V));
  return found;
}

template <int LANES>
inline Vector<LANES, float> of_codes(Vector<LANES, int8_t> codes) {
#if defined(__AVX512F__)  // GCC 12 makes five instructions of what is one
  if constexpr (LANES == 16) return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bits<__m128i>(codes)));
#endif
#if defined(__AVX2__)
  if constexpr (LANES == 8) return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_set_epi64x(0, bits<int64_t>(codes))));
#endif
  const auto half = __builtin_convertvector(codes, Vector<LANES, int16_t>);
  return __builtin_convertvector(__builtin_convertvector(half, Vector<LANES, int32_t>), Vector<LANES, float>);
}

template <int LANES>
inline Vector<LANES, uint32_t> widened(Vector<LANES, uint16_t> values) {
#if defined(__AVX512F__)
  if constexpr (LANES == 16) return bits<Vector<LANES, uint32_t>>(_mm512_cvtepu16_epi32(bits<__m256i>(values)));
#endif
#if defined(__AVX2__)
  if constexpr (LANES == 8) return bits<Vector<LANES, uint32_t>>(_mm256_cvtepu16_epi32(bits<__m128i>(values)));
#endif
  return __builtin_convertvector(values, Vector<LANES, uint32_t>);
}

// LANES numbers of a TYPE, from number `at` on, as float32.
template <int LANES, int TYPE>
inline Vector<LANES, float> load(const void* values, int64_t at) {
  using Floats = Vector<LANES, float>;
  using Words = Vector<LANES, uint32_t>;
  if constexpr (TYPE == FLOAT32) {
    return read<Floats>(static_cast<const float*>(values) + at);
  } else if constexpr (TYPE == INT8) {
    return of_codes<LANES>(read<Vector<LANES, int8_t>>(static_cast<const int8_t*>(values) + at));
  } else if constexpr (TYPE == INT4 && LANES == 1) {
    const auto both = static_cast<const int8_t*>(values)[uint64_t(at) / 2];
    return Floats{float((at % 2 ? both : int8_t(both << 4)) >> 4)};
#if defined(__AVX512F__)
  } else if constexpr (TYPE == INT4 && LANES == 16) {
    const __m512i halves = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m512i shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(static_cast<const uint8_t*>(values) + uint64_t(at) / 2));
    const __m512i words = _mm512_permutexvar_epi32(halves, _mm512_castsi128_si512(eight));
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(words, shifts), numbers);
#endif
  } else if constexpr (TYPE == INT4) {
    using Pairs = Vector<LANES / 2, uint16_t>;
    const auto bytes = read<Vector<LANES / 2, uint8_t>>(static_cast<const uint8_t*>(values) + uint64_t(at) / 2);
    Pairs pairs = __builtin_convertvector(bytes, Pairs);
    pairs = (pairs | (pairs << 4)) & 0x0f0f;  // one number in each byte
    return of_codes<LANES>((bits<Vector<LANES, int8_t>>(pairs) ^ 8) - 8);
  } else {
    const auto half = read<Vector<LANES, uint16_t>>(static_cast<const uint16_t*>(values) + at);
    const Words wide = widened<LANES>(half);
    if constexpr (TYPE == BFLOAT16) return bits<Floats>(Words(wide << 16));
    const Words doubled = wide << 17, sign = (wide & 0x8000) << 16;
    const Words normal = bits<Words>(Floats(bits<Floats>(Words((doubled >> 4) + (0xe0u << 23))) * 0x1.0p-112f));
    const Words subnormal = bits<Words>(Floats(bits<Floats>(Words((doubled >> 17) | (126u << 23))) - 0.5f));
    const Words small = Words(doubled < (1u << 27));
    return bits<Floats>(Words(sign | (small & subnormal) | (~small & normal)));
  }
}

inline uint16_t to_bfloat16(float value) {  // to the nearest, ties to even
  const uint32_t whole = bits<uint32_t>(value);
  const uint32_t rounded = (whole + 0x7fff + ((whole >> 16) & 1)) >> 16;
  return uint16_t((whole & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

inline uint16_t to_float16(float value) {
  const uint32_t whole = bits<uint32_t>(value), doubled = whole + whole;
  float base = (bits<float>(whole & 0x7fffffff) * 0x1.0p+112f) * 0x1.0p-110f;
  uint32_t bias = doubled & 0xff000000;
  bias = bias < 0x71000000 ? 0x71000000 : bias;
  base = bits<float>((bias >> 1) + 0x07800000) + base;
  const uint32_t found = bits<uint32_t>(base);
  const uint32_t rest = ((found >> 13) & 0x7c00) + (found & 0x0fff);
  return uint16_t(((whole >> 16) & 0x8000) | (doubled > 0xff000000 ? 0x7e00 : rest));
}

template <int TYPE>
struct Out;
template <>
struct Out<FLOAT32> {
  using Number = float;
  static float of(float value) { return value; }
};
template <>
struct Out<BFLOAT16> {
  using Number = uint16_t;
  static uint16_t of(float value) { return to_bfloat16(value); }
};
template <>
struct Out<FLOAT16> {
  using Number = uint16_t;
  static uint16_t of(float value) { return to_float16(value); }
};

}  // namespace
