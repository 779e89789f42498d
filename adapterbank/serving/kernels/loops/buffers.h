// Where rows are written: chunks of the places of a buffer, columns of a window, past the cache where that is better.
#pragma once
#include <vector>

#include "vectors.h"

namespace {

constexpr int64_t GROUP = 32, CHUNK = 1 << 16;  // rows at a time; numbers of a chunk
constexpr int64_t LARGE = 1 << 23;              // bytes of a buffer that would only push others out of the cache
constexpr int64_t ABSENT = -1;

// A large buffer goes past the cache, which would read every line before it is written.
void copy(void* to, const void* from, int64_t bytes, bool past) {
#if defined(__AVX512F__)
  if (past && reinterpret_cast<uintptr_t>(to) % 64 == 0 && bytes % 64 == 0) {
    for (int64_t i = 0; i < bytes / 64; ++i)
      _mm512_stream_si512(static_cast<__m512i*>(to) + i, _mm512_loadu_si512(static_cast<const __m512i*>(from) + i));
    return;
  }
#endif
#if defined(__SSE2__)
  if (past && reinterpret_cast<uintptr_t>(to) % 16 == 0 && bytes % 16 == 0) {
    for (int64_t i = 0; i < bytes / 16; ++i)
      _mm_stream_si128(static_cast<__m128i*>(to) + i, _mm_loadu_si128(static_cast<const __m128i*>(from) + i));
    return;
  }
#endif
  std::memcpy(to, from, size_t(bytes));
}

#if defined(__AVX512F__)
template <bool PAST>
inline void put_line(void* to, __m512i line) {
  PAST ? _mm512_stream_si512(static_cast<__m512i*>(to), line) : _mm512_storeu_si512(to, line);
}
#endif

struct Buffer {  // where one adapter goes: columns `column` to `column + width` of every place, `weight` times the rows of B
  void* out;
  int type;
  int64_t column, width;
  float weight;
  int64_t bytes;
};

struct Place {
  int64_t offset, d_out, rows, rank;
};

// The columns of one place that are written, and what is written at once.
template <int TYPE>
struct Target {
  using Number = typename Out<TYPE>::Number;
  Number* out;
  int64_t rank, low, columns;
  bool past;

  Target(const Buffer& to, const Place& place)
      : out(static_cast<Number*>(to.out) + place.offset), rank(place.rank), past(to.bytes >= LARGE) {
    low = to.column < rank ? to.column : rank;
    const int64_t high = to.width < 0 || to.column + to.width > rank ? rank : to.column + to.width;
    columns = high > low ? high - low : 0;
  }

  // Whether whole rows from this one on go past the cache, in lines of 64 bytes.
  bool is_past(int64_t row) const {
    return past && columns == rank && reinterpret_cast<uintptr_t>(out + row * rank) % 64 == 0;
  }

  void put(int64_t row, int64_t rows, const Number* from) const {
    if (columns == rank) return copy(out + row * rank, from, rows * rank * int64_t(sizeof(Number)), past);
    for (int64_t j = 0; j < rows; ++j)
      std::memcpy(out + (row + j) * rank + low, from + j * columns, size_t(columns) * sizeof(Number));
  }
};

struct Chunk {
  int64_t place, begin, end;
};

std::vector<Chunk> chunks(const Place* places, int64_t count) {
  std::vector<Chunk> found;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t step = (CHUNK / (places[i].rank ? places[i].rank : 1) / GROUP + 1) * GROUP;
    for (int64_t row = 0; row < places[i].rows; row += step)
      found.push_back({i, row, row + step < places[i].rows ? row + step : places[i].rows});
  }
  return found;
}

int64_t widest(const Place* places, int64_t count) {
  int64_t found = 1;
  for (int64_t i = 0; i < count; ++i) found = places[i].rank > found ? places[i].rank : found;
  return found;
}

}  // namespace
