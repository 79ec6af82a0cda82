from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.codec import Codec
from pipeline.errors import Unfit
from pipeline.sources import Source
from pipeline.workers import rows
from pipeline.workers.rows import encode_rows
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import RED_FAILS, FakeCodec, paper


def encoded(source, *, batch=4, skip=(), request=None, items=None, codec=None) -> list[dict]:
    request, codec = request or paper(), codec or FakeCodec()
    origin = source if isinstance(source, Source) else Source(str(source))
    prior = codec.load(request)
    items = list(origin.items()) if items is None else items
    shared = codec.shared(request, prior)
    return list(encode_rows(origin, items, request, codec, prior, shared=shared, batch=batch, skip=skip))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_BACKOFF", 0.001)
    make_images(tmp_path, 9)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"hello")
    bad = np.zeros((8, 8, 3), np.uint8)
    bad[0, 0, 0] = RED_FAILS
    Image.fromarray(bad).save(tmp_path / "fails.png")
    return tmp_path


def test_one_row_an_item_in_order_whatever_happens_to_it(folder):
    found = encoded(folder)
    assert [r["image_id"] for r in found] == [i.id for i in Source(str(folder)).items()]
    failed = {r["image_id"]: r["status"] for r in found if r["status"] != "ok"}
    assert failed == {"empty.png": "empty_file", "text.jpg": "unknown_format", "fails.png": "encode_failed"}
    assert all(r["attempts"] == 1 and r["error"] for r in found if r["status"] != "ok")


def test_a_worker_whose_device_fails_spoils_no_rows(folder):
    class Sick(FakeCodec):
        calls = 0

        def encode(self, images, request, prior):
            Sick.calls += 1
            if Sick.calls > 2:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return super().encode(images, request, prior)

    with pytest.raises(Unfit, match=r"whatever the image: RuntimeError: CUDA error"):
        encoded(folder, codec=Sick(), batch=2)


def test_the_batch_does_not_change_the_rows(folder):
    assert encoded(folder, batch=1) == encoded(folder, batch=5) == encoded(folder, batch=100)


def test_rows_carry_facts_and_measured_quality(folder):
    row = next(r for r in encoded(folder) if r["image_id"] == "img0000.png")
    assert (row["width"], row["height"], row["channels"]) == (24, 24, 3)
    assert (row["format"], row["mode"], row["bit_depth"]) == ("PNG", "RGB", 8)
    assert row["bytes"] == len(row["image_header"]) + sum(len(row[f"tier_{k}"]) for k in range(4))
    assert row["bpp"] == 8 * row["bytes"] / (24 * 24)
    assert [row[f"t{k}_psnr"] for k in range(4)] == [20.0, 22.0, 24.0, 26.0]
    assert row["source"].endswith("/img0000.png")


def test_skipped_inputs_are_recorded_as_crashed(folder):
    found = encoded(folder, skip=[1])
    assert found[1]["status"] == "crashed"
    assert found[1]["attempts"] == rows.CRASH_ATTEMPTS
    assert len(found) == 12


class Flaky(Source):
    """Fails each of its reads ``count`` times before it works."""

    def __init__(self, url, count, error):
        super().__init__(url)
        object.__setattr__(self, "left", {})
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "error", error)

    def read(self, item):
        self.left[item.id] = self.left.get(item.id, self.count) - 1
        if self.left[item.id] >= 0:
            raise self.error
        return super().read(item)


def test_transient_failures_are_retried_and_leave_no_trace(folder):
    flaky = Flaky(str(folder), rows.READ_ATTEMPTS - 1, TimeoutError("slow down"))
    assert encoded(flaky) == encoded(folder)


@pytest.mark.parametrize(
    ("error", "status", "attempts"),
    [
        (OSError("reset by peer"), "io_error", rows.READ_ATTEMPTS),
        (RuntimeError("endpoint"), "io_error", rows.READ_ATTEMPTS),
        (FileNotFoundError("x"), "not_found", 1),
        (PermissionError("x"), "permission_denied", 1),
    ],
)
def test_lasting_failures_become_rows(folder, error, status, attempts):
    found = encoded(Flaky(str(folder), 10**6, error))
    assert {r["status"] for r in found} == {status}
    assert {r["attempts"] for r in found} == {attempts}


def test_inputs_that_went_or_changed_since_the_plan(folder):
    items = list(Source(str(folder)).items())
    (folder / "img0000.png").unlink()
    (folder / "img0001.png").write_bytes(b"another")
    found = {r["image_id"]: r["status"] for r in encoded(folder, items=items)}
    assert found["img0000.png"] == "not_found"
    assert found["img0001.png"] == "source_changed"


def test_caps(folder):
    found = encoded(folder, request=paper(max_pixels=24 * 24))
    assert {r["status"] for r in found} >= {"ok", "too_many_pixels"}
    assert {r["status"] for r in encoded(folder, request=paper(max_bytes=20))} <= {
        "too_many_bytes",
        "empty_file",
        "unknown_format",
    }


def test_size_reduces_before_encoding(folder):
    row = next(r for r in encoded(folder, request=paper(size=12)) if r["image_id"] == "img0000.png")
    assert (row["width"], row["height"], row["source_width"]) == (12, 12, 24)


def test_a_gpus_memory_decides_how_many_images_are_encoded_together(monkeypatch):
    from types import SimpleNamespace

    import torch

    from psc_core import memory

    monkeypatch.setattr(memory, "free_bytes", lambda device: 0 if device.type == "cpu" else 140 << 30)
    cuda, cpu = (SimpleNamespace(device=torch.device(name), arithmetic="exact") for name in ("cuda", "cpu"))
    assert Codec().at_once(cpu, 8, 1 << 20) == (8, 1 << 20)
    assert Codec().at_once(SimpleNamespace(), 8, 1 << 20) == (8, 1 << 20)
    images, pixels = Codec().at_once(cuda, 8, 1 << 20)
    assert pixels == int(memory.SHARE / 2 * (140 << 30) / memory.CANVAS_BYTES)
    assert images == 8 * pixels >> 20
