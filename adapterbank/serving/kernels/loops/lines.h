// Rows of a mean and components, each times its coefficient, or of an adapter's own factors.
#pragma once
#include "buffers.h"

namespace {

struct Lines {  // the mean and p components, or one adapter's own factors
  const void* values;
  int64_t pitch;  // elements of a line; bytes for INT4
  const uint16_t* scales;
  int64_t p;
  int store;
};

struct Member {
  const int64_t* table;
  const void* coefficients;
  int type;
};

// What one thread works in: numbers of 32 rows.
struct Room {
  std::vector<float> total, factors;
  std::vector<char> out;

  Room(int64_t rank, int64_t p)
      : total(size_t(GROUP * rank)), factors(size_t(GROUP * (p + 1))), out(size_t(GROUP * rank) * sizeof(float)) {}
};

struct Block {  // lines of 32 rows as they are added up: line k begins `k * pitch` bytes after the first
  const char* first;
  int64_t pitch, stride, rows, rank, p;  // a row begins `stride` numbers after the one before
};

// `lanes` times the factor of their row; of the first of two rows for the lower half, of the second for the upper.
template <int LANES, int ROWS>
inline Vector<LANES, float> times(Vector<LANES, float> lanes, const float* factor) {
#if defined(__AVX512F__)
  if constexpr (ROWS == 2) {
    const __m512i halves = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m128 two = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(factor)));
    return lanes * Vector<LANES, float>(_mm512_permutexvar_ps(halves, _mm512_castps128_ps512(two)));
  }
#endif
  return lanes * factor[0];
}

// LANES numbers at a time, of one row or of two that lie next to each other.
template <int LANES, int TYPE, int64_t P, int ROWS = 1>
void add(float* __restrict total, int64_t width, const Block& block, const float* __restrict factors) {
  const auto [first, pitch, stride, rows, rank, any] = block;
  const int64_t p = P < 0 ? any : P;
  for (int64_t j = 0; j < rows; j += ROWS)
    for (int64_t c = 0; c < rank; c += LANES) {
      auto found = load<LANES, TYPE>(first, j * stride + c);
      if (TYPE == INT8 || TYPE == INT4) found = times<LANES, ROWS>(found, factors + j);
      for (int64_t k = 1; k <= p; ++k) {
        const auto component = load<LANES, TYPE>(first + k * pitch, j * stride + c);
        found += times<LANES, ROWS>(component, factors + k * GROUP + j);
      }
      std::memcpy(total + j * width + c, &found, sizeof(found));
    }
}

template <int LANES, int TYPE, int ROWS = 1>
void by_components(float* total, int64_t width, const Block& block, const float* factors) {
  block.p == 0   ? add<LANES, TYPE, 0, ROWS>(total, width, block, factors)
  : block.p == 2 ? add<LANES, TYPE, 2, ROWS>(total, width, block, factors)
  : block.p == 4 ? add<LANES, TYPE, 4, ROWS>(total, width, block, factors)
  : block.p == 8 ? add<LANES, TYPE, 8, ROWS>(total, width, block, factors)
                 : add<LANES, TYPE, -1, ROWS>(total, width, block, factors);
}

template <int TYPE>
void by_rank(float* total, int64_t width, const Block& block, const float* factors) {
#if defined(__AVX512F__)
  if (block.rank == 8 && width == 8 && block.rows % 2 == 0) return by_components<16, TYPE, 2>(total, width, block, factors);
#endif
  block.rank % 16 == 0  ? by_components<16, TYPE>(total, width, block, factors)
  : block.rank % 8 == 0 ? by_components<8, TYPE>(total, width, block, factors)
  : block.rank % 4 == 0 ? by_components<4, TYPE>(total, width, block, factors)
                        : by_components<1, TYPE>(total, width, block, factors);
}

// The factor of every line for 32 rows: a coefficient, times the scale of integers (exactly, unless coefficients are float32).
template <int TYPE>
void gather(float* __restrict factors, const void* coefficients, const uint16_t* scales, int64_t p) {
  using Floats = Vector<16, float>;
  for (int64_t k = 0; k <= p; ++k)
    for (int64_t j = 0; j < GROUP; j += 16) {
      Floats found = k ? load<16, TYPE>(coefficients, (k - 1) * GROUP + j) : Floats{} + 1.0f;
      if (scales) found *= load<16, BFLOAT16>(scales, k * GROUP + j);
      std::memcpy(factors + k * GROUP + j, &found, sizeof(found));
    }
}

// Where a group of 32 rows begins, of so many lines. A line that is alone has no groups.
inline int64_t group(int64_t row, int64_t lines) { return row / GROUP * GROUP * lines + row % GROUP; }

void gather(float* factors, const Lines& lines, const Member& member, const int64_t* entry, int64_t row) {
  const auto* scales = lines.scales ? lines.scales + group(entry[1] + row, 1 + lines.p) : nullptr;
  const int64_t at = group(entry[3] + row, lines.p), bytes = member.type == FLOAT32 ? 4 : 2;
  const void* coefficients = static_cast<const char*>(member.coefficients) + at * bytes;
  member.type == FLOAT32    ? gather<FLOAT32>(factors, coefficients, scales, lines.p)
  : member.type == BFLOAT16 ? gather<BFLOAT16>(factors, coefficients, scales, lines.p)
                            : gather<FLOAT16>(factors, coefficients, scales, lines.p);
}

void sum(const Lines& lines, const Member& member, const int64_t* entry, int64_t row, int64_t rows, int64_t width, Room& room) {
  const int64_t rank = entry[2], packed = lines.store == INT4 ? 2 : 1, each = (rank + packed - 1) / packed;
  const int64_t bytes = lines.store == FLOAT32 ? 4 : lines.store == BFLOAT16 || lines.store == FLOAT16 ? 2 : 1;
  const char* first = static_cast<const char*>(lines.values) + (entry[0] + row * each) * bytes;
  const Block block{first, lines.pitch * bytes, packed * each, rows, rank, lines.p};
  float *total = room.total.data(), *factors = room.factors.data();
  gather(factors, lines, member, entry, row);
  lines.store == FLOAT32    ? by_rank<FLOAT32>(total, width, block, factors)
  : lines.store == BFLOAT16 ? by_rank<BFLOAT16>(total, width, block, factors)
  : lines.store == FLOAT16  ? by_rank<FLOAT16>(total, width, block, factors)
  : lines.store == INT8     ? by_rank<INT8>(total, width, block, factors)
                            : by_rank<INT4>(total, width, block, factors);
}

template <int TYPE>
void combine(const Lines& lines, const Member& member, const Buffer& to, const Place& place, int64_t index, int64_t row,
             int64_t rows, Room& room) {
  using Number = typename Out<TYPE>::Number;
  const Target<TYPE> target(to, place);
  const int64_t* entry = member.table + 4 * index;
  const int64_t count = rows * target.columns;
  if (lines.store == TYPE && lines.p == 0 && entry[2] == target.columns && to.weight == 1.0f)  // nothing to be done to them
    return target.put(row, rows, static_cast<const Number*>(lines.values) + entry[0] + row * entry[2]);
  float* total = room.total.data();
  if (entry[2] < target.columns) std::memset(total, 0, size_t(count) * sizeof(float));
  if (entry[2] > 0) sum(lines, member, entry, row, rows, target.columns, room);
  if (to.weight != 1.0f) {
    const int64_t of_B = row + rows < place.d_out ? rows : place.d_out - row;
    for (int64_t i = 0; i < of_B * target.columns; ++i) total[i] *= to.weight;
  }
#if defined(__AVX512F__)
  constexpr int64_t LINE = 64 / sizeof(Number);
  if (target.is_past(row) && count % LINE == 0) {
    for (int64_t i = 0; i < count; i += LINE) {
#if defined(__AVX512BF16__)
      if constexpr (TYPE == BFLOAT16) {  // what is below 2^-126 becomes 0
        const __m512bh line = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(total + i + 16), _mm512_loadu_ps(total + i));
        put_line<true>(target.out + row * target.rank + i, bits<__m512i>(line));
        continue;
      }
#endif
      alignas(64) Number line[LINE];
      for (int64_t j = 0; j < LINE; ++j) line[j] = Out<TYPE>::of(total[i + j]);
      put_line<true>(target.out + row * target.rank + i, _mm512_load_si512(line));
    }
    return;
  }
#endif
  Number* out = reinterpret_cast<Number*>(room.out.data());
  for (int64_t i = 0; i < count; ++i) out[i] = Out<TYPE>::of(total[i]);
  target.put(row, rows, out);
}

}  // namespace
