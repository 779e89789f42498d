// Chunks of work, taken in turn by the caller and by whichever workers are awake. The caller never waits for a worker that has
// not begun: on a busy machine one may be away for milliseconds, and a write takes less than one.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace {

class Work {
 public:
  Work(std::function<void(Work&)> take, int64_t count) : take(std::move(take)), count(count), open(count) {}

  bool begin(int64_t& chunk) { return (chunk = next.fetch_add(1)) < count; }
  void end() { open.fetch_sub(1, std::memory_order_release); }
  bool ended() const { return open.load(std::memory_order_acquire) == 0; }

  const std::function<void(Work&)> take;  // what it refers to is the caller's: there while a chunk has begun and not ended

 private:
  const int64_t count;
  std::atomic<int64_t> next{0}, open;
};

class Workers {
 public:
  // `take` begins a chunk before it touches anything, ends it, and begins the next until there is none.
  void run(std::function<void(Work&)> take, int64_t count, int64_t threads) {
    const int64_t others = std::min(threads, count) - 1;
    const auto work = std::make_shared<Work>(std::move(take), count);
    if (others > 0) {
      const std::lock_guard<std::mutex> held(mutex);
      for (; hired < others; ++hired) std::thread([this] { serve(); }).detach();
      queue.insert(queue.end(), size_t(others), work);
    }
    for (int64_t i = 0; i < others; ++i) awake.notify_one();
    work->take(*work);
    while (!work->ended()) std::this_thread::yield();
    if (others > 0) {
      const std::lock_guard<std::mutex> held(mutex);
      queue.erase(std::remove(queue.begin(), queue.end(), work), queue.end());
    }
  }

 private:
  void serve() {
    for (;;) {
      std::unique_lock<std::mutex> held(mutex);
      awake.wait(held, [this] { return !queue.empty(); });
      const auto work = queue.front();
      queue.pop_front();
      held.unlock();
      work->take(*work);
    }
  }

  std::mutex mutex;
  std::condition_variable awake;
  std::deque<std::shared_ptr<Work>> queue;
  int64_t hired = 0;
};

inline Workers& workers() {
  static auto* all = new Workers;  // never destroyed: some of them wait in it when the process ends
  return *all;
}

}  // namespace
