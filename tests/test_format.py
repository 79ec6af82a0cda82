"""docs/format.md, held to the golden streams by a decoder that was written from it, and to the code by its tables."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import psc_core
from pipeline.dataset.commit import marker_name
from pipeline.dataset.plan import PLAN
from pipeline.dataset.schema import dataset_schema
from pipeline.stores.storage import Folder
from psc_core.coding import condition
from psc_core.coding.header import VERSION
from psc_core.profiles import profile_names
from tests.format import archive, coder, container, diffc, gaussian, paper
from tests.format.network import Network
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.psc_core.photographs import photograph

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "format.md").read_text()
GOLDEN = ROOT / "tests" / "golden"
STREAMS = sorted(path.stem for path in GOLDEN.glob("*.psc"))
PAPER = {"samples": 6, "rows": 5, "steps": 4, "stages": 2, "tiers": 2, "restore_samples": 3}
DECODERS = {"archive": archive.decode, "paper": paper.decode, "diffc": diffc.decode}


def table(head: str) -> list[list[str]]:
    """The rows of the page's table whose first column is called so, the first one after ``head``."""
    lines = PAGE[PAGE.index(head) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


PROFILES = {name: {row[0]: json.loads(row[1]) for row in table(f"Profile {name}\n")} for name in profile_names()}


def parsed(name: str) -> container.Stream:
    return container.parse((GOLDEN / f"{name}.psc").read_bytes(), PROFILES)


def test_the_second_decoder_knows_nothing_of_this_project():
    for path in (ROOT / "tests" / "format").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert all(n.split(".")[0] not in ("psc_core", "pipeline", "jobs", "torch", "constriction") for n in names)
            assert all(not n.startswith("tests.") or n.startswith("tests.format") for n in names)


@pytest.mark.parametrize("name", [name for name in STREAMS if name.startswith("gaussian")])
def test_golden_streams_decode_to_the_released_pixels(name):
    stream, released = parsed(name), _released(name)
    decoded = DECODERS[stream.profile["name"]](stream, gaussian)
    hashes = {f"tier {k}": hashlib.sha256(pixels.tobytes()).hexdigest() for k, pixels in enumerate(decoded)}
    assert hashes == {tier: released[tier] for tier in hashes}


@pytest.fixture(scope="module")
def network():
    return Network(Path(psc_core.__file__).parent / "priors" / "photo")


@pytest.mark.parametrize("sigma", [0.05, 1.92, 40.0])
def test_the_bundled_network_is_the_one_of_the_page(network, sigma):
    x = np.random.default_rng(5).standard_normal((3, 16, 32)).astype(np.float32) * np.float32(sigma)
    software = psc_core.load_prior("photo", device="cpu").denoise(torch.from_numpy(x)[None], sigma)[0].numpy()
    assert np.array_equal(network.denoise(x, sigma), software)


def test_the_bundled_prior_reaches_the_states_of_its_golden_stream(network):
    stream = parsed("photo-archive")
    canvas = archive.Canvas(stream.profile, network, stream.seed, 0, stream.canvases[0][2:])
    for ((payload, state),) in stream.tiers[:1]:
        canvas.chunk(payload, state)
    ((payload, state),) = stream.tiers[1]
    with pytest.raises(container.Bad, match="state"):
        canvas.chunk(payload, state ^ 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STREAMS if name.startswith("photo")])
def test_golden_streams_of_the_bundled_prior_decode_to_the_released_pixels(name, network):
    stream, released = parsed(name), _released(name)
    decoded = DECODERS[stream.profile["name"]](stream, network)
    hashes = {f"tier {k}": hashlib.sha256(pixels.tobytes()).hexdigest() for k, pixels in enumerate(decoded)}
    assert hashes == {tier: released[tier] for tier in hashes}


MADE = {
    "one canvas, grey": ("archive", ("camera", 24, 37), {"tiers": 3}),
    "small windows, a law": ("archive", ("coffee", 33, 20), {"tiers": 2, "window": 8, "law": "gauss", "samples": 3}),
    "fresh noise, another law": ("archive", ("chelsea", 9, 9), {"tiers": 2, "eta": 0.7, "law": "logistic"}),
    "steep steps, far bins": ("archive", ("rocket", 40, 17), {"tiers": 3, "canvas": 32, "ratio": 0.2, "heat": 0.2}),
    "diffc": ("diffc", ("coffee", 40, 33), {"tiers": 3, "candidates": 10, "chunk_bits": 6, "canvas": 32}),
    "diffc, grey, small windows": (
        "diffc",
        ("camera", 24, 16),
        {"tiers": 2, "candidates": 9, "window": 16, "steps": 3},
    ),
    "ddpm, odd matrices": ("paper", ("coffee", 20, 21), PAPER | {"sampler": "ddpm", "samples": 7}),
    "several canvases": ("paper", ("astronaut", 20, 35), PAPER | {"canvas": 16, "eta": 0.5, "stages": 1}),
}


@pytest.mark.parametrize("case", MADE)
def test_what_the_software_writes_decodes_alike(case):
    profile, shot, overrides = MADE[case]
    prior = psc_core.load_prior("gaussian", device="cpu")
    stream = psc_core.encode(photograph(*shot), prior, psc_core.get_profile(profile, **overrides), seed=2**40 + 3)
    cuts = [len(stream.tiers[0].data), stream.nbytes]
    if stream.canvases > 1:  # within the last tier: canvases of different numbers of tiers
        cuts.append(stream.nbytes - len(stream.tiers[-1].data) + stream.tiers[-1].cuts[0])
    for size in cuts:
        short = stream.truncate(max_bytes=max(size, stream.nbytes - sum(len(t.data) for t in stream.tiers[1:])))
        read = container.parse(short.to_bytes(), PROFILES)
        *_, pixels = DECODERS[profile](read, gaussian)
        assert np.array_equal(pixels, psc_core.decode(short, prior)), size
    if profile == "archive":
        *_, pixels = archive.decode(read, gaussian, "perceptual")
        assert np.array_equal(pixels, psc_core.decode(short, prior, restore="perceptual"))


@pytest.mark.parametrize("name", STREAMS)
def test_golden_streams_are_laid_out_as_said(name):
    stream, software = parsed(name), psc_core.Stream.from_bytes((GOLDEN / f"{name}.psc").read_bytes())
    assert stream.profile == dataclasses.asdict(software.shared.profile)
    assert (stream.height, stream.width, stream.channels) == (software.height, software.width, software.channels)
    assert (stream.prior_name, stream.prior_fingerprint, stream.seed, stream.environment) == (
        *(software.shared.prior_name, software.shared.prior_fingerprint, software.shared.seed),
        software.shared.environment,
    )
    assert stream.tiers == [[tuple(chunk) for chunk in tier.chunks] for tier in software.tiers]


@pytest.mark.parametrize("name", STREAMS)
def test_every_changed_byte_and_every_cut_is_seen(name):
    data = (GOLDEN / f"{name}.psc").read_bytes()
    for place in range(len(data)):
        with pytest.raises((container.Bad, ValueError, KeyError, IndexError)):
            container.parse(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :], PROFILES)
    whole = container.parse(data, PROFILES)
    header = len(data) - sum(len(t.data) for t in psc_core.Stream.from_bytes(data).tiers)
    for end in range(header, len(data), 7):
        cut = container.parse(data[:end], PROFILES, cut=True)
        assert [len(t) for t in cut.tiers] == [len(t.chunks) for t in _software(data[:end]).tiers]
        assert all(whole.tiers[k][: len(t)] == t for k, t in enumerate(cut.tiers))


def _released(name: str) -> dict[str, str]:
    """Hashes of the pixels of each tier, restored by the mean."""
    hashes = json.loads((GOLDEN / f"{name}.json").read_text())
    return {key: value for key, value in hashes.items() if key.startswith("tier")}


def _software(data: bytes) -> psc_core.Stream:
    return psc_core.Stream.from_bytes(data, partial=True)


@pytest.mark.parametrize("given", [None, 7, "a red fox", "naïve café", "the same words, " * 20])
def test_conditions_read_back(given):
    from psc_core.coding.header import ImageHeader

    data = ImageHeader(height=300, width=7, channels=3, condition=given).to_bytes()
    read = container._image(container.Bytes(data), VERSION)
    assert read == {"channels": 3, "height": 300, "width": 7, "condition": given}
    assert container.ALPHABET == condition.ALPHABET


@pytest.mark.parametrize("limit", [16, 48, 100, 256, 512])
def test_canvases_are_cut_as_said(limit):
    from psc_core.canvas import plan_canvases

    for length in (*range(1, 3 * limit, 7), 2 * limit, 2 * limit + 1):
        software = [(c.top, c.top + c.height) for c in plan_canvases(length, 1, limit)]
        assert container.cuts(length, limit) == software


def test_the_range_decoder_reads_what_the_software_writes():
    from psc_core.coding.range_coder import SymbolWriter

    rng = np.random.default_rng(3)
    weights = rng.integers(0, 5000, (400, 17)) * rng.integers(0, 2, (400, 17))
    weights[:, 8] += 1
    symbols = np.array([rng.choice(17, p=row / row.sum()) for row in weights])
    writer = SymbolWriter()
    writer.write(symbols, weights)
    assert coder.Decoder(writer.finish()).symbols(weights).tolist() == symbols.tolist()


def test_profiles_are_those_of_the_software():
    for name, fields in PROFILES.items():
        assert fields == dataclasses.asdict(psc_core.get_profile(name))
        assert container.digest(fields) == psc_core.get_profile(name).digest
    named = re.findall(r"^#+ [\d.]+ Profile ([\w-]+)$", PAGE, flags=re.MULTILINE)
    assert sorted(named) == sorted(profile_names())


def test_columns_are_those_of_the_software():
    for conditions in (False, True):
        _compare_columns(conditions)


def _compare_columns(conditions: bool) -> None:
    found = table("### 8.1 Columns")
    rows = [row[:2] for row in found if conditions or not row[2].startswith("version 2 only")]
    tiers = 3
    plain = [row for row in rows if "{k}" not in row[0]]
    scalars = [row for row in rows if row[0].startswith("t{k}")]
    payloads = [row for row in rows if row[0].startswith("tier_")]
    said = plain + [[n.format(k=k), t] for k in range(tiers) for n, t in scalars]
    said += [[n.format(k=k), t] for k in range(tiers) for n, t in payloads]
    named = {"list<element: int32>": "list<int32>", "list<item: int32>": "list<int32>"}
    fields = [[f.name, named.get(str(f.type), str(f.type))] for f in dataset_schema(tiers, conditions=conditions)]
    assert said == fields
    assert pa.large_binary() == dataset_schema(tiers).field("tier_0").type


def test_metadata_plan_and_markers_are_those_of_a_dataset(tmp_path):
    make_images(tmp_path / "src", 2)
    make_dataset(tmp_path / "src", tmp_path / "ds")
    folder = Folder.at(str(tmp_path / "ds"))
    plan, marker = json.loads(folder.read(PLAN)), json.loads(folder.read(marker_name(0)))
    assert {row[0] for row in table("### 8.3")} == plan.keys()
    assert {row[0] for row in table("| marker |")} == marker.keys()
    import pyarrow.parquet as pq

    metadata = pq.read_schema(tmp_path / "ds" / marker["part"]).metadata
    assert {row[0] for row in table("### 8.2")} == {k.decode() for k in metadata if k.startswith(b"psc.")}
    shared = json.loads(plan["shared"])
    for name in shared:
        assert re.search(rf"\b{name}\b", PAGE[PAGE.index("### 8.2") : PAGE.index("### 8.3")]), name
    flat = {"kind": plan["kind"], "tiers": plan["tiers"], "schema_version": plan["schema_version"]}
    flat |= {k: v for k, v in shared.items() if k != "profile"} | plan["params"]
    flat |= {f"profile.{k}": v for k, v in shared["profile"].items()}
    assert hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest() == plan["fingerprint"]


def test_a_row_is_a_stream_as_said(tmp_path):
    """Section 8.1's last sentence, by the second parser."""
    make_images(tmp_path / "src", 1)
    make_dataset(tmp_path / "src", tmp_path / "ds")
    from pipeline.dataset.reader import Dataset

    opened = Dataset.open(str(tmp_path / "ds"))
    (row,) = opened.arrow().to_table().to_pylist()
    tiers = [row[f"tier_{k}"] for k in range(opened.tiers)]
    data = opened.shared.to_bytes() + row["image_header"] + b"".join(tiers)
    stream = container.parse(data, PROFILES)
    assert [len(t) for t in stream.tiers] == [len(row[f"t{k}_cuts"]) for k in range(opened.tiers)]
    for k, raw in enumerate(tiers):
        assert row[f"t{k}_cuts"][-1] == row[f"t{k}_bytes"] == len(raw)
