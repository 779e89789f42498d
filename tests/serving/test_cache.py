"""The LRU over device, host and disk: budgets, pins, uses, one load for many threads, failures, statistics."""

import threading
from dataclasses import dataclass

import pytest

from adapterbank.errors import BusyError, NotFoundError, UsageError
from adapterbank.serving import cache as cache_module
from adapterbank.serving.cache import Cache
from adapterbank.serving.statistics import Statistics, prometheus


@dataclass(frozen=True)
class Blob:
    key: str
    nbytes: int = 10
    place: str = "host"


@pytest.fixture
def loads():
    return []


def make(loads, budget=20, host_budget=0, size=10):
    def load(key):
        loads.append(key)
        if key == "missing":
            raise NotFoundError("there is none")
        return Blob(key, size)

    return Cache(load, lambda blob: Blob(blob.key, blob.nbytes, "device"), budget, host_budget)


def use(cache, *keys):
    for key in keys:
        with cache.use([key]) as (blob,):
            assert (blob.key, blob.place) == (key, "device")


def test_the_least_recently_used_goes_first(loads):
    cache = make(loads)
    use(cache, "a", "b", "a", "c", "a", "b")
    assert loads == ["a", "b", "c", "b"]
    assert (cache.counted.hits, cache.counted.loaded, cache.counted.evicted) == (2, 4, 2)
    assert (cache.counted.adapters, cache.counted.device_bytes) == (2, 20)


def test_what_left_the_device_is_brought_back_from_host_memory(loads):
    cache = make(loads, host_budget=30)
    use(cache, "a", "b", "c", "a", "b", "c")
    assert loads == ["a", "b", "c"] and cache.counted.promoted == 3 and cache.counted.host_bytes == 30
    use(cache, "d", "a")
    assert loads == ["a", "b", "c", "d", "a"], "the host tier keeps three, and a was its oldest"


def test_pins_and_uses_hold(loads, monkeypatch):
    monkeypatch.setattr(cache_module, "_PATIENCE", 0.01)
    cache = make(loads)
    cache.pin("a")
    use(cache, "b", "c", "a")
    assert loads == ["a", "b", "c"]
    with cache.use(["c"]), pytest.raises(BusyError, match=r"all 20 of 20 on the device are in use or pinned"):
        cache.acquire(["d"])
    cache.unpin("a")
    use(cache, "d", "b")
    with pytest.raises(UsageError, match="a is not pinned"):
        cache.unpin("a")


def test_a_use_that_ends_soon_is_waited_for(loads):
    cache = make(loads, budget=10)
    (held,), done = cache.acquire(["a"]), []
    waiting = threading.Thread(target=lambda: done.extend(cache.acquire(["b"])))
    waiting.start()
    cache.release(["a"])
    waiting.join(10)
    assert held.key == "a" and [blob.key for blob in done] == ["b"]


def test_larger_than_the_budget_is_refused(loads):
    with pytest.raises(UsageError, match="a takes 30 bytes, the budget is 20"):
        use(make(loads, size=30), "a")


def test_many_threads_that_want_one_adapter_load_it_once():
    inside, go, loads = threading.Barrier(8), threading.Event(), []

    def load(key):
        loads.append(key)
        go.wait(10)
        return Blob(key)

    cache = Cache(load, lambda blob: blob, 20)
    found = []

    def ask():
        inside.wait(10)
        with cache.use(["a"]) as (blob,):
            found.append(blob)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert loads == ["a"] and len({id(blob) for blob in found}) == 1
    assert cache.counted.loaded == 1 and cache.counted.hits + cache.counted.waited == 7


def test_a_failed_load_leaves_nothing_and_the_next_tries_again(loads):
    cache = make(loads)
    for _ in range(2):
        with pytest.raises(NotFoundError):
            cache.acquire(["missing"])
    assert loads == ["missing"] * 2 and cache.counted.device_bytes == 0
    broken = Cache(lambda key: Blob(key), lambda blob: 1 / 0, 20)
    with pytest.raises(ZeroDivisionError):
        broken.acquire(["a"])
    assert broken.counted.device_bytes == 0


def test_after_clear_everything_is_loaded_anew_but_what_is_in_use(loads):
    cache = make(loads, budget=30, host_budget=30)
    use(cache, "a", "b")
    with cache.use(["c"]):
        cache.clear()
        use(cache, "c", "a")
    assert loads == ["a", "b", "c", "a"]


def test_threads_at_random_keep_the_books(loads):
    cache = make(loads, budget=40, host_budget=20)

    def ask(seed):
        for step in range(300):
            with cache.use([f"k{(seed * 7 + step * step) % 9}", f"k{step % 3}"]) as both:
                assert {blob.place for blob in both} == {"device"}

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    counted = cache.counted
    asked = sum(len({(seed * 7 + step * step) % 9, step % 3}) for seed in range(6) for step in range(300))
    assert counted.hits + counted.waited + counted.promoted + counted.loaded == asked
    assert not any(entry.users or entry.wanted or entry.staged for entry in cache._entries.values())
    assert counted.device_bytes == 10 * counted.adapters <= 40 and counted.host_bytes <= 20
    assert len(cache._entries) <= 6


def test_a_thread_waits_while_another_places(loads):
    """Neither is refused: the room that the first one takes is free as soon as it is used."""
    placing, go, said = threading.Event(), threading.Event(), []

    def place(blob):
        placing.set()
        go.wait(10)
        return blob

    cache = Cache(lambda key: Blob(key, 100), place, 100)

    def ask(key):
        try:
            use_of_any(cache, key)
            said.append(key)
        except BusyError as error:
            said.append(error)

    threads = [threading.Thread(target=ask, args=(key,)) for key in "ab"]
    threads[0].start()
    assert placing.wait(10)
    threads[1].start()
    threads[1].join(0.1)
    go.set()
    for thread in threads:
        thread.join(20)
    assert said == ["a", "b"]


def use_of_any(cache, *keys):
    with cache.use(keys):
        pass


def test_batches_never_wait_for_each_other(monkeypatch):
    """Two of two adapters each, room for two: one after the other, nobody holds one and waits for the next."""
    monkeypatch.setattr(cache_module, "_PATIENCE", 5.0)
    both = threading.Barrier(2)
    first = {"a", "c"}

    def load(key):
        if key in first:
            both.wait(10)
        return Blob(key)

    cache, said = Cache(load, lambda blob: blob, 20), []

    def ask(keys):
        for _ in range(20):
            use_of_any(cache, *keys)
            first.clear()
        said.append(keys)

    threads = [threading.Thread(target=ask, args=(keys,)) for keys in ("ab", "cd")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(said) == ["ab", "cd"]


def test_a_batch_that_can_never_fit_is_refused_before_all_of_it_is_loaded(loads):
    cache = make(loads)
    with pytest.raises(UsageError, match="4 adapters at once take 30 bytes, the budget is 20"):
        cache.acquire("abcd")
    assert loads == ["a", "b", "c"] and not cache._entries
    cache.pin("a")
    with pytest.raises(BusyError, match="2 adapters at once take 20 bytes; all 10 of 20 on the device are in use or pinned"):
        cache.acquire("bc")
    use(cache, "b")


def test_room_is_given_in_the_order_of_asking(loads):
    """A batch that needs everything is not passed by smaller ones that come later."""
    cache, order = make(loads), []

    def ask(keys):
        with cache.use(keys):
            order.append(keys)

    cache.acquire("a")
    threads = []
    for number, keys in enumerate(("bc", "d", "e"), 1):
        threads.append(threading.Thread(target=ask, args=(keys,)))
        threads[-1].start()
        while len(cache._waiting) < number and threads[-1].is_alive():
            threads[-1].join(0.001)
    assert order == []
    cache.release("a")
    for thread in threads:
        thread.join(10)
    assert order[0] == "bc" and sorted(order) == ["bc", "d", "e"]


def test_what_was_in_use_when_all_was_forgotten_goes_at_its_end(loads):
    cache = make(loads, budget=30)
    cache.pin("a")
    with cache.use("ab"):
        cache.clear()
        assert cache.counted.adapters == 2
    assert cache.counted.adapters == cache.counted.device_bytes == 0 and not cache._entries
    with pytest.raises(UsageError, match="a is not pinned"):
        cache.unpin("a")


def test_counters_keep_their_digits():
    text = prometheus(Statistics(hits=123456789, load_microseconds=1234567.25))
    assert "hits_total 123456789\n" in text and "load_microseconds_total 1234567.25\n" in text


def test_statistics_as_prometheus_text():
    text = prometheus(Statistics(hits=3, loaded=1, device_bytes=12))
    assert "# TYPE adapterbank_serving_hits_total counter\nadapterbank_serving_hits_total 3\n" in text
    assert "adapterbank_serving_device_bytes 12\n" in text and Statistics(hits=3, loaded=1).hit_rate == 0.75
    assert Statistics().hit_rate == 0.0
