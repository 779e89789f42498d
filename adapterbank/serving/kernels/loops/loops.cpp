// Rows of a buffer from what is resident on a CPU: one call for a whole layout, one pass over memory.
//
// A chunk of rows is done by one thread, 32 rows at a time: the mean and the components of a row are turned into float32 and
// added in this order in registers, and the sums are rounded once into the buffer. Several adapters over one basis take turns
// at the same 32 rows. The meaning of all tables is in packed/.
#include "codes.h"
#include "lines.h"
#include "threads.h"

extern "C" {

void write_lines(const Lines* lines, const Member* members, const Buffer* buffers, int64_t adapters, const Place* places,
                 int64_t count, int64_t threads) {
  const std::vector<Chunk> all = chunks(places, count);
  const auto take = [&](Work& work) {
    int64_t i;
    if (!work.begin(i)) return;
    Room room(widest(places, count), lines->p);
    do {
      for (int64_t row = all[i].begin; row < all[i].end; row += GROUP)
        for (int64_t a = 0; a < adapters; ++a) {
          const int64_t rows = row + GROUP < all[i].end ? GROUP : all[i].end - row, index = all[i].place;
          auto* one = buffers[a].type == FLOAT32    ? combine<FLOAT32>
                      : buffers[a].type == BFLOAT16 ? combine<BFLOAT16>
                                                    : combine<FLOAT16>;
          one(*lines, members[a], buffers[a], places[index], index, row, rows, room);
        }
      work.end();
    } while (work.begin(i));
  };
  workers().run(take, int64_t(all.size()), threads);
}

void write_codes(const Codes* codes, const Buffer* buffer, const Place* places, int64_t count, int64_t threads) {
  const std::vector<Chunk> all = chunks(places, count);
  auto* one = buffer->type == FLOAT32 ? unpack<FLOAT32> : buffer->type == BFLOAT16 ? unpack<BFLOAT16> : unpack<FLOAT16>;
  const auto take = [&](Work& work) {
    int64_t i;
    if (!work.begin(i)) return;
    Desk desk(widest(places, count));
    do {
      one(*codes, *buffer, places[all[i].place], all[i].place, all[i].begin, all[i].end, desk);
      work.end();
    } while (work.begin(i));
  };
  workers().run(take, int64_t(all.size()), threads);
}

}
