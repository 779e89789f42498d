// Rows of a buffer from what is resident on a CPU: one call for a whole layout, one pass over memory.
//
// A chunk of rows is done by one thread, 32 rows at a time: the mean and the components of a row are turned into float32 and
// added in this order in registers, and the sums are rounded once into the buffer. Several adapters over one basis take turns
// at the same 32 rows. The meaning of all tables is in packed/.
#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

enum Type { FLOAT32, BFLOAT16, FLOAT16, INT8, INT4 };
constexpr int64_t GROUP = 32, CHUNK = 1 << 16;  // rows at a time; numbers of a chunk
constexpr int64_t LARGE = 1 << 23;              // bytes of a buffer that would only push others out of the cache
constexpr int64_t ABSENT = -1;

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

template <int TYPE>
void floats(float* __restrict to, const void* values, int64_t at, int64_t count) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const auto found = load<16, TYPE>(values, at + i);
    std::memcpy(to + i, &found, sizeof(found));
  }
  for (; i < count; ++i) to[i] = load<1, TYPE>(values, at + i)[0];
}

void floats(float* to, const void* values, int type, int64_t at, int64_t count) {
  type == FLOAT32 ? floats<FLOAT32>(to, values, at, count)
  : type == BFLOAT16 ? floats<BFLOAT16>(to, values, at, count)
                     : floats<FLOAT16>(to, values, at, count);
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

// A large buffer goes past the cache, which would read every line before it is written.
void copy(void* to, const void* from, int64_t bytes, bool past) {
#if defined(__SSE2__)
  if (past && reinterpret_cast<uintptr_t>(to) % 16 == 0 && bytes % 16 == 0) {
    for (int64_t i = 0; i < bytes / 16; ++i)
      _mm_stream_si128(static_cast<__m128i*>(to) + i, _mm_loadu_si128(static_cast<const __m128i*>(from) + i));
    return;
  }
#endif
  std::memcpy(to, from, size_t(bytes));
}

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

struct Lines {  // the mean and p components, or one adapter's own factors
  const void* values;
  int64_t pitch;  // elements of a line; bytes for INT4
  const uint16_t* scales;
  int64_t rows;  // of a line
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
  std::vector<float> total, factors, given, scales;
  std::vector<char> out;

  Room(int64_t rank, int64_t p)
      : total(size_t(GROUP * rank)), factors(size_t(GROUP * (p + 1))), given(size_t(GROUP * (p + 1))), scales(size_t(GROUP)),
        out(size_t(GROUP * rank) * sizeof(float)) {}
};

struct Block {  // lines of 32 rows as they are added up: line k begins at `at + k * pitch`
  const void* values;
  int64_t at, pitch, stride, rows, rank, p;
};

template <int LANES, int TYPE>
void add(float* total, int64_t width, const Block& block, const float* factors) {
  for (int64_t j = 0; j < block.rows; ++j)
    for (int64_t c = 0; c < block.rank; c += LANES) {
      const int64_t at = block.at + j * block.stride + c;
      auto found = load<LANES, TYPE>(block.values, at);
      if (TYPE == INT8 || TYPE == INT4) found *= factors[j];
      for (int64_t k = 1; k <= block.p; ++k) {
        const auto component = load<LANES, TYPE>(block.values, at + k * block.pitch);
        found += component * factors[k * GROUP + j];
      }
      std::memcpy(total + j * width + c, &found, sizeof(found));
    }
}

template <int TYPE>
void add(float* total, int64_t width, const Block& block, const float* factors) {
  block.rank % 16 == 0  ? add<16, TYPE>(total, width, block, factors)
  : block.rank % 8 == 0 ? add<8, TYPE>(total, width, block, factors)
  : block.rank % 4 == 0 ? add<4, TYPE>(total, width, block, factors)
                        : add<1, TYPE>(total, width, block, factors);
}

// The factor of every line and row: a coefficient, times the scale of integers (exactly, unless coefficients are float32).
void gather(const Lines& lines, const Member& member, const int64_t* entry, int64_t row, int64_t rows, Room& room) {
  float *factors = room.factors.data(), *scales = room.scales.data();
  floats(room.given.data(), member.coefficients, member.type, (entry[3] + row) * lines.p, rows * lines.p);
  for (int64_t k = 0; k <= lines.p; ++k) {
    if (lines.scales) floats<BFLOAT16>(scales, lines.scales, k * lines.rows + entry[1] + row, rows);
    for (int64_t j = 0; j < rows; ++j)
      factors[k * GROUP + j] = (k ? room.given[size_t(j * lines.p + k - 1)] : 1.0f) * (lines.scales ? scales[j] : 1.0f);
  }
}

void sum(const Lines& lines, const Member& member, const int64_t* entry, int64_t row, int64_t rows, int64_t width, Room& room) {
  const int64_t rank = entry[2], packed = lines.store == INT4 ? 2 : 1, each = (rank + packed - 1) / packed;
  const Block block{lines.values, packed * (entry[0] + row * each), packed * lines.pitch, packed * each, rows, rank, lines.p};
  gather(lines, member, entry, row, rows, room);
  float *total = room.total.data(), *factors = room.factors.data();
  lines.store == FLOAT32    ? add<FLOAT32>(total, width, block, factors)
  : lines.store == BFLOAT16 ? add<BFLOAT16>(total, width, block, factors)
  : lines.store == FLOAT16  ? add<FLOAT16>(total, width, block, factors)
  : lines.store == INT8     ? add<INT8>(total, width, block, factors)
                            : add<INT4>(total, width, block, factors);
}

template <int TYPE>
void combine(const Lines& lines, const Member& member, const Buffer& to, const Place& place, int64_t index, int64_t row,
             int64_t rows, Room& room) {
  using Number = typename Out<TYPE>::Number;
  const Target<TYPE> target(to, place);
  const int64_t* entry = member.table + 4 * index;
  const int64_t count = rows * target.columns;
  float* total = room.total.data();
  if (entry[2] < target.columns) std::memset(total, 0, size_t(count) * sizeof(float));
  if (entry[2] > 0) sum(lines, member, entry, row, rows, target.columns, room);
  if (to.weight != 1.0f) {
    const int64_t of_B = row + rows < place.d_out ? rows : place.d_out - row;
    for (int64_t i = 0; i < of_B * target.columns; ++i) total[i] *= to.weight;
  }
  Number* out = reinterpret_cast<Number*>(room.out.data());
  for (int64_t i = 0; i < count; ++i) out[i] = Out<TYPE>::of(total[i]);
  target.put(row, rows, out);
}

struct Codes {  // a fixed-width form of `components` in all, on side 0 (B) and 1 (A)
  const int32_t* words;
  const uint8_t* widths;
  const int32_t* columns;
  const uint16_t* scales;
  int64_t components;
  const int64_t *table, *pitches;
};

// 32 rows of component `index`, from its first word on.
template <int TYPE>
inline void decode(const Codes& codes, int64_t index, const uint32_t* word, float weight, typename Out<TYPE>::Number* value) {
  const int planes = codes.widths[index];
  const float scale = bits<float>(uint32_t(codes.scales[index]) << 16);
  float sum[GROUP];  // of what every bit adds: exact
  for (int64_t j = 0; j < GROUP; ++j) sum[j] = -float((1 << planes) - 1) * scale;
  for (int plane = 0; plane < planes; ++plane) {
    const uint32_t some = word[codes.columns[index] + plane];
    const float step = float(2 << plane) * scale;
    for (uint32_t j = 0; j < GROUP; ++j) sum[j] += (some >> j) & 1 ? step : 0.0f;
  }
  for (int64_t j = 0; j < GROUP; ++j) value[j] = Out<TYPE>::of(sum[j] * weight);
}

template <int TYPE>
void unpack(const Codes& codes, const Buffer& to, const Place& place, int64_t index, int64_t begin, int64_t end, Room& room) {
  using Number = typename Out<TYPE>::Number;
  const Target<TYPE> target(to, place);
  const int64_t *entry = codes.table + 6 * index, live = entry[1];
  Number *out = reinterpret_cast<Number*>(room.out.data()), value[GROUP];
  std::memset(out, 0, size_t(GROUP * target.columns) * sizeof(Number));
  for (int64_t row = begin, rows; row < end; row += rows) {
    const int side = row >= place.d_out;
    const int64_t last = side || end < place.d_out ? end : place.d_out;
    const int64_t held = live == ABSENT ? 0 : entry[3 + 2 * side] + row - side * place.d_out;
    rows = GROUP - held % GROUP < last - row ? GROUP - held % GROUP : last - row;
    const auto* words = reinterpret_cast<const uint32_t*>(codes.words) + entry[2 + 2 * side] +
                        held / GROUP * codes.pitches[2 * index + side];
    for (int64_t k = 0; k < live; ++k) {
      decode<TYPE>(codes, side * codes.components + entry[0] + k, words, side ? 1.0f : to.weight, value);
      for (int64_t j = 0; j < rows; ++j) out[j * target.columns + k] = value[held % GROUP + j];
    }
    target.put(row, rows, out);
  }
}

}  // namespace

extern "C" {

void write_lines(const Lines* lines, const Member* members, const Buffer* buffers, int64_t adapters, const Place* places,
                 int64_t count, int64_t threads) {
  const std::vector<Chunk> all = chunks(places, count);
#pragma omp parallel num_threads(threads)
  {
    Room room(widest(places, count), lines->p);
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < all.size(); ++i)
      for (int64_t row = all[i].begin; row < all[i].end; row += GROUP)
        for (int64_t a = 0; a < adapters; ++a) {
          const int64_t rows = row + GROUP < all[i].end ? GROUP : all[i].end - row, index = all[i].place;
          auto* one = buffers[a].type == FLOAT32    ? combine<FLOAT32>
                      : buffers[a].type == BFLOAT16 ? combine<BFLOAT16>
                                                    : combine<FLOAT16>;
          one(*lines, members[a], buffers[a], places[index], index, row, rows, room);
        }
  }
}

void write_codes(const Codes* codes, const Buffer* buffer, const Place* places, int64_t count, int64_t threads) {
  const std::vector<Chunk> all = chunks(places, count);
  auto* one = buffer->type == FLOAT32 ? unpack<FLOAT32> : buffer->type == BFLOAT16 ? unpack<BFLOAT16> : unpack<FLOAT16>;
#pragma omp parallel num_threads(threads)
  {
    Room room(widest(places, count), 0);
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < all.size(); ++i)
      one(*codes, *buffer, places[all[i].place], all[i].place, all[i].begin, all[i].end, room);
  }
}

}
