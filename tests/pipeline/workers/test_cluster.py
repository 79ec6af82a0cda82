from __future__ import annotations

import pytest

from pipeline.errors import BadRequest
from pipeline.workers.cluster import Share, Workers, cluster, shares

GIB = 1024**3


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([{"CPU": 2.0, "memory": 16 * GIB}], None, (2, Share(1.0, 0.0, 1))),
        ([{"CPU": 2.0, "memory": 16 * GIB}], 1, (1, Share(2.0, 0.0, 2))),
        ([{"CPU": 64.0, "memory": 16 * GIB}], None, (8, Share(8.0, 0.0, 8))),
        ([{"CPU": 1.0, "memory": 1 * GIB}], None, (1, Share(1.0, 0.0, 1))),
        ([{"CPU": 16.0, "GPU": 2.0}], None, (2, Share(8.0, 1.0, 8))),
        ([{"CPU": 16.0, "GPU": 1.0}], 4, (4, Share(4.0, 0.25, 4))),
        ([{"CPU": 2.0}], 3, (3, Share(0.666, 0.0, 1))),
        ([{"memory": 1 * GIB}, {"CPU": 3.0}, {"CPU": 3.0}], 1, (1, Share(3.0, 0.0, 3))),
        ([{"CPU": 3.0}, {"CPU": 3.0}], 4, (4, Share(1.0, 0.0, 1))),
        ([{"CPU": 8.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0}], None, (2, Share(4.0, 1.0, 4))),
        ([{"CPU": 4.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 1.0}], 4, (4, Share(2.0, 0.5, 2))),
        ([{"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0}], 3, (3, Share(0.666, 0.333, 1))),
        ([{"CPU": 8.0}, {"CPU": 4.0, "GPU": 1.0}], Workers(gpus=0.5), (2, Share(1.0, 0.5, 1))),
        ([{"CPU": 8.0}, {"CPU": 9.0}], Workers(cpus=4), (4, Share(4.0, 0.0, 4))),
    ],
)
def test_every_worker_fits_on_a_node(nodes, workers, expected):
    assert shares(nodes, workers) == expected
    count, share = expected
    places = [
        min(int(node.get(kind, 0.0) / size + 1e-9) for kind, size in (("CPU", share.cpus), ("GPU", share.gpus)) if size)
        for node in nodes
    ]
    assert sum(places) >= count


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([{"memory": 1 * GIB}], None, (1, Share(1.0, 0.0, 1))),
        ([{"memory": 1 * GIB}], 3, (3, Share(1.0, 0.0, 1))),
        ([{"memory": 1 * GIB}], Workers(gpus=1), (1, Share(1.0, 1.0, 1))),
        ([{"memory": 1 * GIB}, {"CPU": 4.0, "GPU": 1.0}], Workers(8, gpus=1), (8, Share(1.0, 1.0, 1))),
        ([{"CPU": 8.0}], Workers(16, cpus=8), (16, Share(8.0, 0.0, 8))),
    ],
)
def test_what_is_not_up_yet_is_asked_for_whole(nodes, workers, expected):
    assert shares(nodes, workers) == expected


@pytest.mark.parametrize("wanted", [Workers(cpus=0), Workers(gpus=-1), Workers(gpus=1.5), Workers(cpus=float("nan"))])
def test_shares_of_nothing_are_refused(wanted):
    with pytest.raises(BadRequest, match="expected a whole number, or a share"):
        shares([{"CPU": 2.0}], wanted)


@pytest.mark.parametrize("workers", [0, -1])
def test_no_worker_is_refused(workers):
    with pytest.raises(BadRequest):
        shares([{"CPU": 2.0}], workers)


def test_an_address_where_nobody_answers_is_refused(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: (_ for _ in ()).throw(ConnectionError("no\nanswer")))
    with pytest.raises(BadRequest, match="no Ray cluster at"), cluster("127.0.0.1:1"):
        pass
