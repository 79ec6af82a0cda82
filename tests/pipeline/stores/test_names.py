from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.stores.names import Names

parts = st.sampled_from(["a", "b", "a.jpg", "a.png", "..", ".", "", ".jpg", "a.jpg.png", "x" * 300 + ".jpg", "é"])


@given(ids=st.lists(st.lists(parts, min_size=1, max_size=3).map("/".join), unique=True, max_size=12))
def test_names_stay_inside_and_apart(ids):
    names = Names.of(ids, "png")
    made = [names(image_id) for image_id in ids]
    assert len(set(made)) == len(made)
    for name in made:
        assert name.endswith(".png")
        assert not name.startswith("/")
        assert all(part not in ("", ".", "..") and len(part.encode()) <= 255 for part in name.split("/"))


def test_names_are_as_short_as_they_can_be():
    ids = ["a.jpg", "a.png", "b.jpg", "c", "d.jpg", "d.jpg.webp", "../../etc/x.jpg"]
    names = Names.of(ids, "png")
    assert [names(i) for i in ids[:4]] == ["a.jpg.png", "a.png.png", "b.png", "c.png"]
    assert names("../../etc/x.jpg") == "etc/x.png"


def test_a_name_does_not_depend_on_the_order():
    ids = ["a.jpg", "b.jpg", "a.png", "../a.jpg"]
    one, other = Names.of(ids, "png"), Names.of(ids[::-1], "png")
    assert [one(i) for i in ids] == [other(i) for i in ids]
