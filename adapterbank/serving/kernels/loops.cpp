// Rows of a buffer from what is resident on a CPU: one call for a whole layout, one pass over memory.
//
// A chunk of rows is done by one thread, 32 rows at a time in float32 numbers that stay in the first cache: every line of a
// basis (the mean, then the components) is turned into float32 and added in this order, then the sums are rounded once into
// the buffer. Several adapters over one basis take turns at the same 32 rows. The meaning of all tables is in packed/.
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

enum Type { FLOAT32, BFLOAT16, FLOAT16, INT8, INT4 };
constexpr int64_t GROUP = 32, CHUNK = 1 << 16;  // rows at a time; numbers of a chunk
constexpr int64_t ABSENT = -1;

template <class To, class From>
inline To bits(From value) {
  To found;
  static_assert(sizeof(To) == sizeof(From));
  std::memcpy(&found, &value, sizeof(To));
  return found;
}

inline float from_bfloat16(uint16_t value) { return bits<float>(uint32_t(value) << 16); }

inline uint16_t to_bfloat16(float value) {  // to the nearest, ties to even
  uint32_t whole = bits<uint32_t>(value);
  uint32_t rounded = (whole + 0x7fff + ((whole >> 16) & 1)) >> 16;
  return uint16_t((whole & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

inline float from_float16(uint16_t value) {
  uint32_t doubled = uint32_t(value) << 17, sign = (uint32_t(value) & 0x8000) << 16;
  float normal = bits<float>((doubled >> 4) + (uint32_t(0xe0) << 23)) * 0x1.0p-112f;
  float subnormal = bits<float>((doubled >> 17) | (uint32_t(126) << 23)) - 0.5f;
  return bits<float>(sign | bits<uint32_t>(doubled < (uint32_t(1) << 27) ? subnormal : normal));
}

inline uint16_t to_float16(float value) {
  uint32_t whole = bits<uint32_t>(value), doubled = whole + whole;
  float base = (bits<float>(whole & 0x7fffffff) * 0x1.0p+112f) * 0x1.0p-110f;
  uint32_t bias = doubled & 0xff000000;
  bias = bias < 0x71000000 ? 0x71000000 : bias;
  base = bits<float>((bias >> 1) + 0x07800000) + base;
  uint32_t found = bits<uint32_t>(base);
  uint32_t rest = ((found >> 13) & 0x7c00) + (found & 0x0fff);
  return uint16_t(((whole >> 16) & 0x8000) | (doubled > 0xff000000 ? 0x7e00 : rest));
}

inline float scalar(const void* from, int type, int64_t at) {
  if (type == FLOAT32) return static_cast<const float*>(from)[at];
  uint16_t value = static_cast<const uint16_t*>(from)[at];
  return type == BFLOAT16 ? from_bfloat16(value) : from_float16(value);
}

// `count` numbers of line `line` from element `at` on; for INT4 elements are bytes and each gives two numbers.
void load(float* __restrict to, const void* values, int type, int64_t at, int64_t count) {
  if (type == FLOAT32) {
    std::memcpy(to, static_cast<const float*>(values) + at, size_t(count) * sizeof(float));
  } else if (type == BFLOAT16) {
    const uint16_t* from = static_cast<const uint16_t*>(values) + at;
    for (int64_t i = 0; i < count; ++i) to[i] = from_bfloat16(from[i]);
  } else if (type == FLOAT16) {
    const uint16_t* from = static_cast<const uint16_t*>(values) + at;
    for (int64_t i = 0; i < count; ++i) to[i] = from_float16(from[i]);
  } else if (type == INT8) {
    const int8_t* from = static_cast<const int8_t*>(values) + at;
    for (int64_t i = 0; i < count; ++i) to[i] = float(from[i]);
  } else {
    const int8_t* from = static_cast<const int8_t*>(values) + at;
    for (int64_t i = 0; i < count / 2; ++i) {
      to[2 * i] = float(int8_t(from[i] << 4) >> 4);
      to[2 * i + 1] = float(from[i] >> 4);
    }
  }
}

void store(void* out, int type, int64_t at, const float* __restrict from, int64_t count) {
  if (type == FLOAT32) {
    std::memcpy(static_cast<float*>(out) + at, from, size_t(count) * sizeof(float));
  } else if (type == BFLOAT16) {
    uint16_t* to = static_cast<uint16_t*>(out) + at;
    for (int64_t i = 0; i < count; ++i) to[i] = to_bfloat16(from[i]);
  } else {
    uint16_t* to = static_cast<uint16_t*>(out) + at;
    for (int64_t i = 0; i < count; ++i) to[i] = to_float16(from[i]);
  }
}

// total[j, c] (+)= factor[j] · (value[j, c] · scale[j]) for c below `rank`; a known RANK makes the inner loop one or two steps.
template <int RANK>
void add(float* __restrict total, int64_t width, const float* __restrict value, int64_t stride, const float* factor,
         const float* scale, int64_t rows, int64_t rank, bool first) {
  const int64_t columns = RANK ? RANK : rank;
  for (int64_t j = 0; j < rows; ++j, total += RANK ? RANK : width, value += RANK ? RANK : stride) {
    const float s = scale[j], f = factor[j];
    if (first)
      for (int64_t c = 0; c < columns; ++c) total[c] = value[c] * s;
    else
      for (int64_t c = 0; c < columns; ++c) total[c] += f * (value[c] * s);
  }
}

using Add = decltype(&add<0>);

Add adder(int64_t rank, int64_t width, int64_t stride) {
  if (rank != width || rank != stride) return add<0>;
  return rank == 8 ? add<8> : rank == 16 ? add<16> : rank == 32 ? add<32> : rank == 64 ? add<64> : add<0>;
}

struct Buffer {  // where one adapter goes: columns `low` to `high` of every place, `weight` times the rows of B
  void* out;
  int type;
  int64_t column, width;
  float weight;

  int64_t low(int64_t rank) const { return column < rank ? column : rank; }
  int64_t columns(int64_t rank) const {
    int64_t high = width < 0 || column + width > rank ? rank : column + width;
    return high > low(rank) ? high - low(rank) : 0;
  }
  void put(int64_t offset, int64_t rank, int64_t row, int64_t rows, const float* total) const {
    const int64_t some = columns(rank), at = offset + row * rank + low(rank);
    if (some == rank) return store(out, type, at, total, rows * rank);
    for (int64_t j = 0; j < rows; ++j) store(out, type, at + j * rank, total + j * some, some);
  }
};

struct Place {
  int64_t offset, d_out, rows, rank;
};

struct Chunk {
  int64_t place, begin, end;
};

std::vector<Chunk> chunks(const Place* places, int64_t count) {
  std::vector<Chunk> found;
  for (int64_t i = 0; i < count; ++i) {
    int64_t step = (CHUNK / (places[i].rank ? places[i].rank : 1) / GROUP + 1) * GROUP;
    for (int64_t row = 0; row < places[i].rows; row += step)
      found.push_back({i, row, row + step < places[i].rows ? row + step : places[i].rows});
  }
  return found;
}

void weigh(float* total, int64_t width, int64_t rows, float weight) {
  for (int64_t i = 0; i < rows * width; ++i) total[i] *= weight;
}

int64_t widest(const Place* places, int64_t count) {
  int64_t found = 1;
  for (int64_t i = 0; i < count; ++i) found = places[i].rank > found ? places[i].rank : found;
  return found;
}

struct Lines {  // the mean and p components, or one adapter's own factors
  const void* values;
  int64_t pitch;  // elements of a line
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

void sum(const Lines& lines, const Member& member, const Buffer& to, const Place& place, int64_t index, int64_t row,
         int64_t rows, float* total, float* value) {
  const int64_t *entry = member.table + 4 * index, width = to.columns(place.rank), rank = entry[2];
  if (rank < width) std::memset(total, 0, size_t(rows * width) * sizeof(float));
  if (rank != ABSENT && rank) {
    const int64_t each = lines.store == INT4 ? (rank + 1) / 2 : rank, stride = lines.store == INT4 ? 2 * each : rank;
    const Add step = adder(rank, width, stride);
    float factor[GROUP], scale[GROUP];
    for (int64_t j = 0; j < rows; ++j) scale[j] = 1.0f;
    for (int64_t k = 0; k <= lines.p; ++k) {
      if (lines.scales)
        for (int64_t j = 0; j < rows; ++j) scale[j] = from_bfloat16(lines.scales[k * lines.rows + entry[1] + row + j]);
      if (k)
        for (int64_t j = 0; j < rows; ++j)
          factor[j] = scalar(member.coefficients, member.type, (entry[3] + row + j) * lines.p + k - 1);
      load(value, lines.values, lines.store, k * lines.pitch + entry[0] + row * each, rows * stride);
      step(total, width, value, stride, factor, scale, rows, rank, k == 0);
    }
    if (to.weight != 1.0f && row < place.d_out) weigh(total, width, row + rows < place.d_out ? rows : place.d_out - row, to.weight);
  }
  to.put(place.offset, place.rank, row, rows, total);
}

struct Codes {  // a fixed-width form: `components` in all, on side 0 (B) and 1 (A)
  const int32_t* words;
  const uint8_t* widths;
  const int32_t* columns;
  const uint16_t* scales;
  int64_t components;
  const int64_t *table, *pitches;
};

// Rows `row` to `row + rows` of one side, all within one group of words, into `total`.
void decode(const Codes& codes, const int64_t* entry, int64_t pitch, int side, int64_t row, int64_t rows, int64_t width,
            float weight, float* total) {
  const int64_t held = entry[3 + 2 * side] + row, first = entry[0] + side * codes.components;
  const uint32_t* words = reinterpret_cast<const uint32_t*>(codes.words) + entry[2 + 2 * side] + held / GROUP * pitch;
  const int64_t lane = held % GROUP;
  for (int64_t k = 0; k < entry[1]; ++k) {
    const int planes = codes.widths[first + k];
    const uint32_t* word = words + codes.columns[first + k];
    const float scale = from_bfloat16(codes.scales[first + k]);
    int32_t code[GROUP] = {};
    for (int plane = 0; plane < planes; ++plane)
      for (uint32_t j = 0; j < GROUP; ++j) code[j] |= int32_t(((word[plane] >> j) & 1) << plane);
    float value[GROUP];
    for (int64_t j = 0; j < GROUP; ++j) value[j] = float(2 * code[j] - ((1 << planes) - 1)) * scale * weight;
    for (int64_t j = 0; j < rows; ++j) total[j * width + k] = value[lane + j];
  }
}

void unpack(const Codes& codes, const Buffer& to, const Place& place, int64_t index, int64_t begin, int64_t end, float* total) {
  const int64_t *entry = codes.table + 6 * index, width = to.columns(place.rank);
  std::memset(total, 0, size_t(GROUP * width) * sizeof(float));
  for (int64_t row = begin; row < end;) {
    const int side = row >= place.d_out;
    const int64_t within = side ? row - place.d_out : row, last = side || end < place.d_out ? end : place.d_out;
    const int64_t held = entry[1] == ABSENT ? 0 : entry[3 + 2 * side] + within;
    const int64_t left = GROUP - held % GROUP, rows = row + left < last ? left : last - row;
    if (entry[1] != ABSENT) decode(codes, entry, codes.pitches[2 * index + side], side, within, rows, width, side ? 1.0f : to.weight, total);
    to.put(place.offset, place.rank, row, rows, total);
    row += rows;
  }
}

}  // namespace

extern "C" {

void write_lines(const Lines* lines, const Member* members, const Buffer* buffers, int64_t adapters, const Place* places,
                 int64_t count, int64_t threads) {
  const std::vector<Chunk> all = chunks(places, count);
  const int64_t most = widest(places, count) + 1;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> total(size_t(GROUP * most)), value(size_t(GROUP * most));
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < all.size(); ++i)
      for (int64_t row = all[i].begin; row < all[i].end; row += GROUP) {
        const int64_t rows = row + GROUP < all[i].end ? GROUP : all[i].end - row;
        for (int64_t a = 0; a < adapters; ++a)
          sum(*lines, members[a], buffers[a], places[all[i].place], all[i].place, row, rows, total.data(), value.data());
      }
  }
}

void write_codes(const Codes* codes, const Buffer* buffer, const Place* places, int64_t count, int64_t threads) {
  const std::vector<Chunk> all = chunks(places, count);
  const int64_t most = widest(places, count);
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> total(size_t(GROUP * most));
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < all.size(); ++i)
      unpack(*codes, *buffer, places[all[i].place], all[i].place, all[i].begin, all[i].end, total.data());
  }
}

}
