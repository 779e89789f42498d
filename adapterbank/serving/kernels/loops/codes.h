// Rows of fixed-width codes: the words of 32 rows become columns of values, and these the rows of the buffer.
#pragma once
#include "buffers.h"

namespace {

struct Codes {  // a fixed-width form of `components` in all, on side 0 (B) and 1 (A)
  const int32_t* words;
  const uint8_t* widths;
  const int32_t* columns;
  const uint16_t* scales;
  int64_t components;
  const int64_t *table, *pitches;
};

// The components of one side of a module: where each one's words begin among those of a group, and how wide its codes are.
struct Side {
  const uint8_t* widths;
  const int32_t* columns;
  const uint16_t* scales;
  float weight;

  float value(int64_t k, int code) const {  // of a code of component k
    const float odd = float(2 * code - ((1 << widths[k]) - 1)) * bits<float>(uint32_t(scales[k]) << 16);  // exact
    return odd * weight;
  }
};

// What one thread works in: 32 rows, and what every code of every component means.
struct Desk {
  std::vector<char> rows;
  std::vector<uint16_t> meanings;
  std::vector<int64_t> starts;

  explicit Desk(int64_t rank) : rows(size_t(GROUP * rank) * sizeof(float)), starts(size_t(rank)) {}
};

template <int TYPE>
void decode(const Side& side, int64_t live, const uint32_t* words, int64_t columns, typename Out<TYPE>::Number* out) {
  for (int64_t k = 0; k < live; ++k) {
    const int planes = side.widths[k];
    const uint32_t* word = words + side.columns[k];
    int code[GROUP] = {};
    for (int plane = 0; plane < planes; ++plane)
      for (int64_t j = 0; j < GROUP; ++j) code[j] |= int((word[plane] >> j) & 1) << plane;
    typename Out<TYPE>::Number value[GROUP];
    for (int64_t j = 0; j < GROUP; ++j) value[j] = Out<TYPE>::of(side.value(k, code[j]));
    for (int64_t j = 0; j < GROUP; ++j) out[j * columns + k] = value[j];
  }
}

#if defined(__AVX512BW__)
constexpr int64_t FULL = 32;  // numbers of 16 bits in a vector

// The meanings of all codes, in whole vectors, an even number of them where one is not enough.
template <int TYPE>
void interpret(const Side& side, int64_t live, Desk& desk) {
  desk.meanings.clear();
  for (int64_t k = 0; k < live; ++k) {
    const int codes = 1 << side.widths[k];
    desk.starts[size_t(k)] = int64_t(desk.meanings.size());
    for (int code = 0; code < codes; ++code) desk.meanings.push_back(Out<TYPE>::of(side.value(k, code)));
    desk.meanings.resize((desk.meanings.size() + FULL - 1) / FULL * FULL);
  }
}

// What 32 codes of so many planes mean; bit j of word[plane] is bit `plane` of code j.
template <int PLANES>
inline __m512i look_up(const uint16_t* meanings, const uint32_t* word) {
  __m512i code = _mm512_setzero_si512();
  for (int plane = 0; plane < PLANES; ++plane)
    code = _mm512_mask_add_epi16(code, word[plane], code, _mm512_set1_epi16(int16_t(1 << plane)));
  if constexpr (PLANES <= 5) return _mm512_permutexvar_epi16(code, _mm512_loadu_si512(meanings));
  __m512i found = _mm512_setzero_si512();
  for (int pair = 0; pair < 1 << (PLANES - 6); ++pair, meanings += 2 * FULL) {  // of vectors, 64 codes each
    const __mmask32 here = _mm512_cmpeq_epi16_mask(_mm512_srli_epi16(code, 6), _mm512_set1_epi16(int16_t(pair)));
    const __m512i low = _mm512_loadu_si512(meanings), high = _mm512_loadu_si512(meanings + FULL);
    found = _mm512_mask_mov_epi16(found, here, _mm512_permutex2var_epi16(low, code, high));
  }
  return found;
}

inline __m512i look_up(const uint16_t* meanings, const uint32_t* word, int planes) {
  switch (planes) {
    case 0: return look_up<0>(meanings, word);
    case 1: return look_up<1>(meanings, word);
    case 2: return look_up<2>(meanings, word);
    case 3: return look_up<3>(meanings, word);
    case 4: return look_up<4>(meanings, word);
    case 5: return look_up<5>(meanings, word);
    case 6: return look_up<6>(meanings, word);
    case 7: return look_up<7>(meanings, word);
    default: return look_up<8>(meanings, word);
  }
}

// Eight columns of 32 rows as rows: row 8 i + j is part i (of 128 bits) of vector j.
inline void turn(__m512i (&v)[8]) {
  __m512i pairs[8], fours[8];
  for (int i = 0; i < 4; ++i) {
    pairs[2 * i] = _mm512_unpacklo_epi16(v[2 * i], v[2 * i + 1]);
    pairs[2 * i + 1] = _mm512_unpackhi_epi16(v[2 * i], v[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i)
    for (int half = 0; half < 2; ++half) {
      fours[4 * i + 2 * half] = _mm512_unpacklo_epi32(pairs[4 * i + half], pairs[4 * i + 2 + half]);
      fours[4 * i + 2 * half + 1] = _mm512_unpackhi_epi32(pairs[4 * i + half], pairs[4 * i + 2 + half]);
    }
  for (int j = 0; j < 4; ++j) {
    v[2 * j] = _mm512_unpacklo_epi64(fours[j], fours[4 + j]);
    v[2 * j + 1] = _mm512_unpackhi_epi64(fours[j], fours[4 + j]);
  }
}

// Columns `first` to `first + 8` of 32 rows, as turn leaves them.
inline void eight(const Side& side, int64_t live, const uint32_t* words, int64_t first, const Desk& desk, __m512i (&v)[8]) {
  for (int64_t i = 0; i < 8; ++i) {
    const int64_t k = first + i;
    v[i] = k < live ? look_up(desk.meanings.data() + desk.starts[size_t(k)], words + side.columns[k], side.widths[k])
                    : _mm512_setzero_si512();
  }
  if (first < live) turn(v);
}

// Part i of each of four vectors as line i of four, `step` numbers apart.
template <bool PAST>
inline void put_lines(__m512i a, __m512i b, __m512i c, __m512i d, uint16_t* to, int64_t step) {
  const __m512i low = _mm512_shuffle_i32x4(a, b, 0x44), high = _mm512_shuffle_i32x4(a, b, 0xee);
  const __m512i lower = _mm512_shuffle_i32x4(c, d, 0x44), higher = _mm512_shuffle_i32x4(c, d, 0xee);
  const __m512i lines[4] = {_mm512_shuffle_i32x4(low, lower, 0x88), _mm512_shuffle_i32x4(low, lower, 0xdd),
                            _mm512_shuffle_i32x4(high, higher, 0x88), _mm512_shuffle_i32x4(high, higher, 0xdd)};
  for (int64_t i = 0; i < 4; ++i) put_line<PAST>(to + i * step, lines[i]);
}

inline bool is_whole_lines(int64_t columns) { return columns == 8 || columns == 16 || (columns > 0 && columns % 32 == 0); }

// As decode, for numbers of 16 bits in rows that are whole lines of 64 bytes, or two or four rows a line; 32 rows at `out`.
template <bool PAST>
void decode_lines(const Side& side, int64_t live, const uint32_t* words, int64_t columns, uint16_t* out, const Desk& desk) {
  __m512i v[4][8];
  if (columns < 32)
    for (int64_t tile = 0; tile < columns / 8; ++tile) eight(side, live, words, 8 * tile, desk, v[tile]);
  if (columns == 8) {
    put_lines<PAST>(v[0][0], v[0][1], v[0][2], v[0][3], out, 8 * 8);
    put_lines<PAST>(v[0][4], v[0][5], v[0][6], v[0][7], out + 4 * 8, 8 * 8);
  } else if (columns == 16) {
    for (int64_t j = 0; j < 8; j += 2) put_lines<PAST>(v[0][j], v[1][j], v[0][j + 1], v[1][j + 1], out + 16 * j, 8 * 16);
  } else {
    for (int64_t first = 0; first < columns; first += 32) {
      for (int64_t tile = 0; tile < 4; ++tile) eight(side, live, words, first + 8 * tile, desk, v[tile]);
      for (int64_t j = 0; j < 8; ++j)
        put_lines<PAST>(v[0][j], v[1][j], v[2][j], v[3][j], out + columns * j + first, 8 * columns);
    }
  }
}
#endif

template <int TYPE>
void unpack(const Codes& codes, const Buffer& to, const Place& place, int64_t index, int64_t begin, int64_t end, Desk& desk) {
  using Number = typename Out<TYPE>::Number;
  const Target<TYPE> target(to, place);
  const int64_t *entry = codes.table + 6 * index, live = entry[1];
  auto* out = reinterpret_cast<Number*>(desk.rows.data());
  std::memset(out, 0, size_t(GROUP * target.columns) * sizeof(Number));
#if defined(__AVX512BW__)
  const bool lines = sizeof(Number) == 2 && is_whole_lines(target.columns) && live > 0;
  int64_t interpreted = -1;
#endif
  for (int64_t row = begin, rows; row < end; row += rows) {
    const int64_t of_A = row >= place.d_out, last = of_A || end < place.d_out ? end : place.d_out;
    const int64_t held = live == ABSENT ? 0 : entry[3 + 2 * of_A] + row - of_A * place.d_out, skip = held % GROUP;
    rows = GROUP - skip < last - row ? GROUP - skip : last - row;
    const int64_t first = of_A * codes.components + entry[0];
    const Side side{codes.widths + first, codes.columns + first, codes.scales + first, of_A ? 1.0f : to.weight};
    const auto* words = reinterpret_cast<const uint32_t*>(codes.words) + entry[2 + 2 * of_A] +
                        held / GROUP * codes.pitches[2 * index + of_A];
#if defined(__AVX512BW__)
    if constexpr (sizeof(Number) == 2) {
      if (lines) {
        if (interpreted != of_A) interpret<TYPE>(side, live, desk);
        interpreted = of_A;
        if (rows == GROUP && target.is_past(row)) {
          decode_lines<true>(side, live, words, target.columns, target.out + row * target.rank, desk);
          continue;
        }
        decode_lines<false>(side, live, words, target.columns, out, desk);
        target.put(row, rows, out + skip * target.columns);
        continue;
      }
    }
#endif
    decode<TYPE>(side, live, words, target.columns, out);
    target.put(row, rows, out + skip * target.columns);
  }
}

}  // namespace
