"""Source and dataset on a real S3 endpoint, with the faults that such have."""

from __future__ import annotations

import tarfile
from dataclasses import replace

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.audit import verify
from pipeline.clean import clean
from pipeline.dataset import catalog
from pipeline.dataset import plan as planning
from pipeline.dataset.reader import Dataset
from pipeline.errors import BadRequest, JobFailed, SourceNotFound
from pipeline.extend import extend
from pipeline.rates import truncate
from pipeline.restore import decompress
from pipeline.retry import retry
from pipeline.run import compress
from pipeline.sources import Source
from pipeline.stores.reach import StoreRefuses
from pipeline.stores.storage import Folder
from psc_core.coding.container import Chunk, Stream, Tier
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec, paper
from tests.pipeline.s3 import Proxy, S3Codec, environment, s3_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def proxy(server, monkeypatch):
    """The endpoint that this process sees, through a proxy; and an empty bucket ``psc``."""
    proxy = Proxy(server["endpoint"])
    for name, value in environment(proxy.url, server).items():
        monkeypatch.setenv(name, value)
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    fs.clear_instance_cache()
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    if fs.exists("psc"):
        fs.rm("psc", recursive=True)
    fs.mkdir("psc")
    fs.clear_instance_cache()
    yield proxy
    fs.clear_instance_cache()
    proxy.close()


@pytest.fixture
def codec(proxy, server):
    return S3Codec(variables=tuple(environment(proxy.url, server).items()))


@pytest.fixture
def source(proxy, tmp_path):
    """Twenty images and a broken one, here and at s3://psc/src."""
    make_images(tmp_path / "src", 20)
    (tmp_path / "src" / "broken.jpg").write_bytes(b"\xff\xd8 no")
    fsspec.filesystem("s3").put(str(tmp_path / "src") + "/", "s3://psc/src/", recursive=True)
    return tmp_path / "src"


def run(codec, target="s3://psc/ds", **options):
    return compress("s3://psc/src", target, **{"request": paper(), "codec": codec, "workers": 2} | options)


def table(url):
    """Rows without what says where the source was."""
    found = Dataset.open(url).arrow().to_table()
    return found.drop_columns(["source", "source_version"])


def test_a_whole_life(ray_session, proxy, codec, source, tmp_path):
    make_dataset(source, tmp_path / "here")
    result = run(codec)
    assert (result.tally.ok, result.tally.failed) == (20, {"broken_image": 1})
    assert table("s3://psc/ds").equals(table(str(tmp_path / "here")))
    assert verify("s3://psc/ds").exit_code == 0
    assert run(codec, resume=True).tally.rows == 21
    truncate("s3://psc/ds", "s3://psc/small", tier=1)
    truncate(str(tmp_path / "here"), str(tmp_path / "small"), tier=1)
    assert table("s3://psc/small").equals(table(str(tmp_path / "small")))
    found = catalog.query("s3://psc/small", "select count(*) as n, min(status) as s from images where status = 'ok'")
    assert found.to_pylist() == [{"n": 20, "s": "ok"}]
    assert decompress("s3://psc/small", "s3://psc/pictures", codec=codec, workers=2).written == 20
    assert len(fsspec.filesystem("s3").glob("s3://psc/pictures/*.png")) == 20
    assert decompress("s3://psc/small", "s3://psc/rows", codec=codec, format="parquet").written == 20
    for out, format in (("pictures", "png"), ("rows", "parquet")):
        again = decompress("s3://psc/small", f"s3://psc/{out}", codec=codec, format=format, resume=True)
        assert (again.written, again.kept) == (0, 20)
        with pytest.raises(BadRequest, match="already"):
            decompress("s3://psc/small", f"s3://psc/{out}", codec=codec, format=format)
    extend("s3://psc/small", "s3://psc/again", source="s3://psc/src", tier=3, codec=codec, workers=2)
    assert table("s3://psc/again").equals(table("s3://psc/ds"))
    Folder.at("s3://psc/src").put("broken.jpg", (source / "img0000.png").read_bytes())
    assert retry("s3://psc/ds", codec=codec, workers=1).notes == {"retried": 1, "recovered": 1}
    assert verify("s3://psc/ds").exit_code == 0


def test_keys_are_listed_page_by_page_in_the_order_of_ids(proxy, tmp_path, monkeypatch):
    names = [f"{n:02d}.png" for n in range(20)] + ["a/z.jpg", "a.jpg", "a-b/c.jpg", "a/b/ä.webp", "é.png", "😀.png"]
    for name in [*names, ".git/x.png", "a/.hidden.png", "notes.txt"]:
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    fs = fsspec.filesystem("s3")
    fs.put(str(tmp_path / "src") + "/", "s3://psc/tree/src/", recursive=True)
    fs.pipe_file("s3://psc/tree/src2.png", b"beside")
    fs.call_s3("put_object", Bucket="psc", Key="tree/src/a/", Body=b"")
    monkeypatch.setattr("pipeline.stores.s3.PAGE", 7)
    there, here = (list(Source(url).items()) for url in ("s3://psc/tree/src", str(tmp_path / "src")))
    assert [item.id for item in there] == [item.id for item in here] == sorted(names)
    assert [item.size for item in there] == [item.size for item in here]
    assert all(item.version for item in there)
    with pytest.raises(SourceNotFound):
        list(Source("s3://psc/nothing").items())


def test_listing_a_tar_fetches_its_headers(proxy, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        (tmp_path / "big.png").write_bytes(bytes(2 << 20))
        for n in range(8):
            tar.add(tmp_path / "big.png", f"{n}.png")
    fsspec.filesystem("s3").put(str(tmp_path / "a.tar"), "s3://psc/tars/a.tar")
    proxy.fetched.clear()
    assert [item.size for item in Source("s3://psc/tars").items()] == [2 << 20] * 8
    fetched = sum(n for path, n in proxy.fetched.items() if path.endswith(".tar"))
    assert 8 * 512 < fetched < (tmp_path / "a.tar").stat().st_size / 6


def test_clean_ends_uploads_that_nobody_will_finish(proxy, source):
    make_dataset(source, "s3://psc/ds")
    fs = fsspec.filesystem("s3")
    fs.call_s3("create_multipart_upload", Bucket="psc", Key="ds/part-00003.parquet")
    fs.call_s3("create_multipart_upload", Bucket="psc", Key="other/part-00003.parquet")
    assert clean("s3://psc/ds")["removed"] == 0
    assert clean("s3://psc/ds", older_than=0)["leftovers"] == ["part-00003.parquet"]
    left = fs.call_s3("list_multipart_uploads", Bucket="psc").get("Uploads") or []
    assert [upload["Key"] for upload in left] == ["other/part-00003.parquet"]


def test_slow_downs_and_lost_connections_are_waited_out(ray_session, proxy, codec, source, tmp_path):
    seen: dict[tuple[str, str], int] = {}

    def fault(method, path):
        """Every path fails once at first, each in its own way."""
        key = method, path
        seen[key] = seen.get(key, 0) + 1
        return (503, 500, 0)[len(seen) % 3] if seen[key] == 1 and "/psc/" in path else None

    proxy.fault = fault
    result = run(codec)
    assert proxy.faults > 40
    assert (result.tally.ok, result.tally.failed) == (20, {"broken_image": 1})
    proxy.fault = lambda method, path: None
    make_dataset(source, tmp_path / "here")
    assert table("s3://psc/ds").equals(table(str(tmp_path / "here")))
    assert verify("s3://psc/ds").exit_code == 0


@pytest.mark.parametrize("part", ["part-", "commits/"])
def test_an_endpoint_that_takes_nothing_more(ray_session, proxy, codec, source, part):
    """The job ends with the reason; what is there is whole; and it can be resumed."""
    # Minutes of patience, all told, are not what is tested here.
    codec = replace(codec, variables=(*codec.variables, ("AWS_MAX_ATTEMPTS", "1")), s3_retries=1)
    written = []

    def fault(method, path):
        if method in ("PUT", "POST") and part in path:
            written.append(path)
            return 503 if len(written) > 4 else None
        return None

    proxy.fault = fault
    with pytest.raises(JobFailed, match=r"(?i)slow ?down|reduce your request rate|503"):
        run(codec)
    proxy.fault = lambda method, path: None
    begun = Dataset.open("s3://psc/ds")
    assert 0 < len(begun.shards) < begun.plan.shards
    assert all("has no marker" in problem["error"] for problem in verify("s3://psc/ds").problems)
    rows = {name: pq.ParquetFile(begun.folder.open(name)).metadata.num_rows for name in begun.folder.names()}
    assert all(rows.values())
    assert run(codec, resume=True).tally.ok == 20
    assert verify("s3://psc/ds").exit_code == 0


def test_a_wrong_secret_is_said_before_anything_is_done(proxy, source, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(StoreRefuses, match="AWS_SECRET_ACCESS_KEY"):
        compress("s3://psc/src", "s3://psc/ds", paper(), codec=FakeCodec())


class Heavy(FakeCodec):
    """Tiers of 2, 4, 8 and 16 KB."""

    def _encode(self, image, shared):
        light = super()._encode(image, shared)
        noise = np.random.default_rng(int(image.sum())).bytes(16_384)
        tiers = []
        for index, tier in enumerate(light.tiers):
            size = 2048 * 2**index // len(tier.chunks)
            chunks = [Chunk(noise[:size], chunk.state) for chunk in tier.chunks]
            tiers.append(Tier.build(chunks, canvases=light.canvases, index=index))
        return Stream(light.shared, light.image, tuple(tiers), light.report)


def test_decoding_tier_0_fetches_its_columns_alone(proxy, tmp_path, monkeypatch):
    make_images(tmp_path / "src", 1000, size=8)
    monkeypatch.setattr(planning, "MIN_SHARDS", 1)
    monkeypatch.setattr("tests.pipeline.build.FakeCodec", Heavy)
    make_dataset(tmp_path / "src", "s3://psc/ds")
    opened = Dataset.open("s3://psc/ds")
    columns = {"image_id", "status", "image_header", "tier_0"}
    metadata = [pq.ParquetFile(opened.folder.open(name)).metadata for name in opened.folder.names()]
    groups = [m.row_group(g) for m in metadata for g in range(m.num_row_groups)]
    chunks = [group.column(c) for group in groups for c in range(group.num_columns)]
    size = sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema in columns)
    whole = sum(chunk.total_compressed_size for chunk in chunks)
    assert whole > 10 * size
    proxy.fetched.clear()
    assert decompress("s3://psc/ds", str(tmp_path / "out"), tier=0, codec=FakeCodec()).written == 1000
    fetched = sum(n for path, n in proxy.fetched.items() if path.endswith(".parquet"))
    print(f"fetched {fetched} bytes, {fetched / size:.3f} of its columns, {fetched / whole:.3f} of the dataset")
    assert size <= fetched <= 1.3 * size
