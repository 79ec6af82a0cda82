from __future__ import annotations

import threading
import time

import pytest

from pipeline.inputs.ahead import Ahead, Room


def ahead(load, count=8, size=100, places=20, bytes_of=lambda result: 10):
    return Ahead(load, range(places), count=count, size=size, bytes_of=bytes_of)


def test_results_come_in_order_whatever_finishes_first():
    def load(place):
        time.sleep(0.01 * (3 - place % 4))
        return place

    assert list(ahead(load)) == list(range(20))


def test_reading_begins_at_once_and_stops_at_its_bounds():
    seen = []
    for options, most in (({"count": 6}, 6), ({"count": 20, "size": 35}, 4 + 4)):
        seen.clear()
        waiting = ahead(lambda place: seen.append(place) or place, **options)
        time.sleep(0.1)
        for taken, _ in enumerate(waiting, 1):
            time.sleep(0.01)
            assert len(seen) <= taken + most
        assert sorted(seen) == list(range(20))


def test_an_error_comes_in_its_place_and_ends_reading():
    def load(place):
        if place == 3:
            raise ValueError("three")
        return place

    taken = []
    with pytest.raises(ValueError, match="three"):
        taken.extend(ahead(load))
    assert threading.active_count() < 20


def test_nothing_to_read():
    assert list(ahead(lambda place: place, places=0)) == []


def test_room_is_shared_and_one_that_is_too_large_passes_alone():
    room, held, most = Room(100), [], []

    def take(size):
        with room(size):
            held.append(size)
            most.append(sum(held))
            time.sleep(0.01)
            held.remove(size)

    threads = [threading.Thread(target=take, args=(size,)) for size in [40, 30, 250, 60, 90, 10, -1, 300]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 8
    assert all(total <= 100 or total in (249, 250, 299, 300) for total in most)
