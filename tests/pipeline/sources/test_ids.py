"""Ids are unique in a source, and the same at every planning, whatever its names are."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.sources import Source, is_sidecar
from pipeline.sources.item import Item, as_name, as_text, numbered
from pipeline.sources.order import in_order

NAMES = st.lists(st.sampled_from(["a.png", "a.png#2", "a.png#2#2", "a.png#3", "b.png"]) | st.text("a#23", min_size=1))
RAW = st.binary(min_size=1, max_size=12) | st.text("\\x5ce9é", min_size=1).map(str.encode)

PLAIN = RAW.filter(lambda raw: not {0, 47} & set(raw)).map(os.fsdecode)


@given(NAMES)
@example(["a.png", "a.png", "a.png#2"])
@example(["a.png#2", "a.png", "a.png", "a.png", "a.png#3"])
def test_repeats_are_numbered_until_their_name_is_free(names):
    found = list(numbered(names))
    assert len(set(found)) == len(names)
    assert found == list(numbered(names))
    first = {name: found[names.index(name)] for name in names}
    assert all(name == given for given, name in first.items())


@given(RAW, RAW)
@example(b"caf\xe9.png", b"caf\\xe9.png")
@example(b"a\\x5cxe9", b"a\\xe9")
def test_other_names_give_other_texts(one, other):
    a, b = map(os.fsdecode, (one, other))
    assert (as_text(a) == as_text(b)) == (one == other)
    assert as_name(as_text(a)) == a


@given(st.text("\\xé5cZ~"), st.text("\\xé5cZ~"))
def test_names_that_are_text_keep_their_order(one, other):
    assert (as_text(one) < as_text(other)) == (one < other)


def test_many_repeats_take_no_longer_each():
    assert len(set(numbered(["a.png"] * 50_000))) == 50_000


@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.sampled_from(["a.png", "./a.png", "a.png#2", "b/a.png", "caf\\xe9.png"]) | PLAIN))
@example(names=["a.png", "a.png", "a.png#2"])
def test_members_have_an_id_of_their_own(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("ids")
    with tarfile.open(path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for n, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 1 + n
            tar.addfile(info, io.BytesIO(bytes(1 + n)))
    source = Source(str(path))
    found = list(source.items())
    assert sorted(item.size for item in found) == [1 + n for n, name in enumerate(names) if not is_sidecar(name)]
    assert len({item.id for item in found}) == len(found)
    assert [item.id for item in found] == sorted(item.id for item in found)
    assert found == list(source.items())
    assert all(item.id.encode().decode() == item.id for item in found)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeats_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a.png", "a.png", "a.png#2"):
            archive.writestr(name, b"x")
    assert [item.id for item in Source(str(tmp_path)).items()] == ["a.zip/a.png", "a.zip/a.png#2", "a.zip/a.png#3"]


def test_names_in_a_folder_that_look_like_escapes(tmp_path):
    for name in (b"caf\xe9.png", b"caf\\xe9.png", b"cafz.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    source = Source(str(tmp_path))
    found = {item.id: source.read(item) for item in source.items()}
    assert found == {"caf\\x5cxe9.png": b"caf\\xe9.png", "caf\\xe9.png": b"caf\xe9.png", "cafz.png": b"cafz.png"}
    for image_id, data in found.items():
        assert source.read(source.absent(image_id)) == data


FILES = st.lists(
    st.sampled_from(["a.tar", "a.tar-b.png", "a.tar/1.png", "a.tar/1.png#2", "a.tar/2.png", "z.png"]) | PLAIN
)
INSIDE = st.lists(st.sampled_from(["1.png", "1.png#2", "2.png", "!.png"]), max_size=6)


@given(FILES, INSIDE)
@example(["a.tar", "a.tar-b.png", "a.tar/1.png", "a.tar/1.png#3"], ["1.png", "1.png#2", "2.png"])
def test_a_store_where_a_file_and_a_folder_have_one_name(files, inside):
    """On an object store both a.tar and a.tar/1.png can be: a member of a.tar never takes a file's id."""
    listed = [Item(name, name, 0) for name in sorted({as_text(name) for name in files})]
    members = [Item(name, "a.tar", 0) for name in sorted(numbered([f"a.tar/{name}" for name in inside]))]
    found = list(in_order(listed, lambda file: members if file.id == "a.tar" else None))
    ids = [item.id for item in found]
    assert ids == sorted(set(ids))
    kept = {item.id: item.path for item in found}
    assert all(kept[file.id] == file.path for file in listed if file.id != "a.tar")
    has_tar = any(file.id == "a.tar" for file in listed)
    assert len(found) == len(listed) + (len(members) - 1 if has_tar else 0)


def test_members_and_files_come_in_the_order_of_ids(tmp_path):
    for name in ("a.tar-b.png", "a.tar.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "b.png", "1.png")
    found = [item.id for item in Source(str(tmp_path)).items()]
    assert found == sorted(found) == ["a.tar-b.png", "a.tar.png", "a.tar/1.png", "b.png"]
