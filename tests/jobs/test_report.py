"""The page of `psc report`, in headless Chromium: as a person sees it, with a mouse, with keys alone, in the dark."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from skimage import data

import jobs.page
from jobs.report import report
from pipeline.errors import BadRequest
from pipeline.outputs.pictures import picture
from tests.jobs.chromium import CHROMIUM, Page, chromium, opened
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec, paper

HOSTILE = "<img src=x onerror=alert(1)>&\"'{{7*7}}.png"
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page about small photographs, some with hostile names, and two kinds of failures."""
    root = tmp_path_factory.mktemp("report")
    (root / "src").mkdir()
    for name in ("astronaut", "coffee", "camera"):
        array = getattr(data, name)()[::8, ::8]
        (root / "src" / f"{name}.png").write_bytes(picture(array.reshape(*array.shape[:2], -1)))
    (root / "src" / "astronaut.png").rename(root / "src" / HOSTILE)
    (root / "src" / "\N{RIGHT-TO-LEFT OVERRIDE}gpj.\x07<svg onload=alert(2)>\n.jpg").write_bytes(
        b"</script><script>alert(2)</script>"
    )
    (root / "src" / "empty.png").write_bytes(b"")
    make_dataset(root / "src", root / "ds")
    report(str(root / "ds"), str(root / "page.html"), codec=FakeCodec())
    return root / "page.html"


@pytest.fixture(scope="module")
def port():
    """Where the tests' browser listens."""
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH (apt-get install chromium)")
    with chromium() as listening:
        yield listening


@pytest.fixture
def visited(port):
    """Takes a file and ``visit(page)``: what that finds in the browser, where the page may say and fetch nothing."""

    def look(file: Path, visit: Callable[[Page], Awaitable[Any]], *, quiet: bool = True) -> Any:
        async def run():
            async with opened(port, file.as_uri()) as seen:
                found = await visit(seen)
                if quiet:
                    assert seen.said == []
                    assert [url for url in seen.requests if not url.startswith("data:")] == [file.as_uri()]
                return found

        return asyncio.run(run())

    return look


def test_it_opens_from_disk_says_nothing_and_fetches_nothing(page, visited):
    async def visit(seen):
        assert await seen.do("document.title") == "ds – PSC report"
        assert await seen.do("document.querySelectorAll('img').length") == 3 * 4 + 3
        assert await seen.do("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        # Hostile names are text, and run nothing.
        assert await seen.do("document.querySelector('h3 bdi').textContent") == HOSTILE
        assert await seen.do("document.scripts.length") == 1
        assert await seen.do("document.querySelectorAll('[onerror], img[src=x]').length") == 0

    visited(page, visit)


def test_its_own_policy_forbids_what_it_does_not_need(page, visited):
    async def visit(seen):
        await seen.do("document.body.insertAdjacentHTML('beforeend', '<img src=http://127.0.0.1:9/x.png>')")
        await seen.do("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
        await seen.do("new Promise(done => setTimeout(done, 200))")
        assert await seen.do("window.ran === undefined")
        assert sum("Content Security Policy" in said for said in seen.said) >= 2, seen.said

    visited(page, visit, quiet=False)


SHOWN = """[...document.querySelectorAll('.picture')].map(
  picture => [...picture.querySelectorAll('.frames > li')].findIndex(frame => !frame.hidden)
)"""
NAMED = """[...document.querySelectorAll('[aria-labelledby], a[href^="#"], label[for]')].flatMap(
  e => (e.getAttribute('aria-labelledby') || e.getAttribute('for') || e.getAttribute('href').slice(1)).split(' ')
)"""


def test_tiers_by_mouse(page, visited):
    async def visit(seen):
        await seen.resize(1200, 900)
        slider = "document.querySelector('.picture input')"
        await seen.do(f"{slider}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = await seen.do(f"JSON.stringify({slider}.getBoundingClientRect())")
        left, top, width, height = (json.loads(box)[k] for k in ("left", "top", "width", "height"))
        assert await seen.do(SHOWN) == [3, 3, 3]
        middle = top + height / 2
        await seen.drag(left + width - 8, middle, left + 8)
        assert await seen.do(SHOWN) == [0, 3, 3]
        await seen.drag(left + 8, middle, left + 8 + (width - 16) / 3)
        assert await seen.do(SHOWN) == [1, 3, 3]
        assert await seen.do("document.querySelectorAll('.picture .frames img')[1].checkVisibility()")
        assert not await seen.do("document.querySelectorAll('.picture .frames img')[2].checkVisibility()")

    visited(page, visit)


def test_tiers_by_keyboard_alone(page, visited):
    async def visit(seen):
        async def focused():
            return await seen.do("document.activeElement.id")

        for _ in range(40):
            await seen.key("Tab")
            if await focused() == "picture-2-tier":
                break
        assert await focused() == "picture-2-tier"
        await seen.key("ArrowLeft")
        assert await seen.do(SHOWN) == [3, 2, 3]
        assert "tier 2: " in await seen.do("document.activeElement.getAttribute('aria-valuetext')")
        await seen.key("Home")
        await seen.key("ArrowRight")
        assert await seen.do(SHOWN) == [3, 1, 3]
        assert await seen.do("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await seen.do("document.getElementById('all').focus()")
        await seen.key("Home")
        assert await seen.do(SHOWN) == [0, 0, 0]
        assert await seen.do("document.querySelector('#picture-2-tier').value") == "0"
        assert await seen.do("document.getElementById('all').getAttribute('aria-valuetext')") == "tier 0"

    visited(page, visit)


CONTRASTS = """(() => {
  const parts = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return {rgb: [r, g, b], a}; };
  const light = ({rgb}) => rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = parts(getComputedStyle(e).backgroundColor);
      if (found.a === 1) return found;
    }
    return {rgb: [255, 255, 255]};
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest("script, style, title, desc")) continue;
    if (!element.checkVisibility()) continue;
    const style = getComputedStyle(element), drawn = element.closest("svg") !== null;
    const dot = element.classList.contains("mark") ? element.parentElement.querySelector("circle") : null;
    const ground = dot ? parts(getComputedStyle(dot).fill) : behind(element);
    const [a, b] = [light(parts(drawn ? style.fill : style.color)), light(ground)].sort((x, y) => y - x);
    found.push([(a + .05) / (b + .05), walker.currentNode.textContent.trim()]);
  }
  return found;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(page, visited, scheme):
    async def visit(seen):
        await seen.prefer(prefers_color_scheme=scheme)
        found = await seen.do(CONTRASTS)
        assert len(found) > 100
        assert [pair for pair in found if pair[0] < 4.5] == []

    visited(page, visit)


def test_the_tree_that_assistive_technology_sees(page, visited):
    async def visit(seen):
        nodes = (await seen.send("Accessibility.getFullAXTree"))["nodes"]
        roles: dict[str, list[str]] = {}
        for node in nodes:
            if not node["ignored"]:
                roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
        assert {"banner", "main", "navigation", "contentinfo"} <= roles.keys()
        assert len(roles["slider"]) == 4
        for role in ("slider", "link", "image", "heading", "region", "article", "table"):
            assert all(roles.get(role, [])), (role, roles.get(role))
        # Each slider tells of which image it is; each picture its tier.
        assert f"Tier of {HOSTILE}" in roles["slider"]
        assert f"{HOSTILE}, decoded from tiers 0 to 3" in roles["image"]
        assert f"{HOSTILE}, the original" in roles["image"]
        values = [n for n in nodes if not n["ignored"] and n["role"]["value"] == "slider"]
        says = [p["value"]["value"] for n in values for p in n["properties"] if p["name"] == "valuetext"]
        assert len(says) == 4
        assert all(text.startswith("tier 3") for text in says)

    visited(page, visit)


def test_structure_sizes_and_motion(page, visited):
    async def visit(seen):
        assert await seen.do("document.documentElement.lang") == "en"
        levels = await seen.do("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in pairwise(levels))
        ids = await seen.do("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))
        assert set(await seen.do(NAMED)) <= set(ids)
        # 320 CSS pixels without scrolling sideways (WCAG 1.4.10), and targets of at least 24 (2.5.8).
        await seen.resize(320, 800)
        assert await seen.do("document.documentElement.scrollWidth") <= 320
        small = "[...document.querySelectorAll('input, summary, nav a')].map(e => e.getBoundingClientRect().height)"
        assert min(h for h in await seen.do(small) if h) >= 24
        assert await seen.do("getComputedStyle(document.documentElement).scrollBehavior") == "smooth"
        await seen.prefer(prefers_reduced_motion="reduce")
        assert await seen.do("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
        moving = "document.getAnimations().length + [...document.querySelectorAll('*')].filter(e => "
        moving += "getComputedStyle(e).transitionDuration !== '0s').length"
        assert await seen.do(moving) == 0

    visited(page, visit)


def test_without_its_script_all_tiers_are_in_view(page, visited, tmp_path):
    bare = tmp_path / "bare.html"
    bare.write_text(re.sub(r"<script>.*</script>", "", page.read_text(), flags=re.DOTALL))

    async def visit(seen):
        assert await seen.do(SHOWN) == [0, 0, 0]
        assert await seen.do("[...document.querySelectorAll('.frames img')].every(i => i.checkVisibility())")
        assert not await seen.do("document.querySelector('.picture input').checkVisibility()")

    visited(bare, visit)


def test_a_page_without_pictures_and_one_without_streams(visited, tmp_path):
    make_images(tmp_path / "src", 1)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"x")
    for name in ("src", "bad"):
        make_dataset(tmp_path / name, tmp_path / f"{name}-ds", paper(size=8))
        report(str(tmp_path / f"{name}-ds"), str(tmp_path / f"{name}.html"), images=0)

        async def visit(seen, name=name):
            sections = (
                ["summary", "rate-distortion", "spread", "failures"] if name == "src" else ["summary", "failures"]
            )
            assert await seen.do("[...document.querySelectorAll('section')].map(s => s.id)") == sections
            return await seen.do("document.getElementById('failures').innerText")

        said = visited(tmp_path / f"{name}.html", visit)
        assert ("unknown_format" in said) == (name == "bad")
        assert ("Every input so far has a stream" in said) == (name == "src")


def test_what_it_tells(page, tmp_path):
    found = report(str(page.parent / "ds"), str(tmp_path / "p.html"), images=2, codec=FakeCodec())
    assert found["page_bytes"] == (tmp_path / "p.html").stat().st_size
    assert (found["pictures"], found["originals"], found["images"]) == (2, 2, 3)
    assert found["failed"] == {"empty_file": 1, "unknown_format": 1}
    text = page.read_text()
    assert HOSTILE not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "{{7*7}}" in text
    assert "\x07" not in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert "url(" not in text


def test_prompts_and_labels_are_shown(page):
    from dataclasses import replace

    from pipeline.dataset.catalog import info
    from pipeline.dataset.figures import figures
    from pipeline.dataset.reader import Dataset
    from pipeline.outputs.gallery import gallery

    opened = Dataset.open(str(page.parent / "ds"))
    found = gallery(opened, 2, codec=FakeCodec())
    given = [replace(one, condition=c) for one, c in zip(found.shown, ("a <b>cat</b>", 7), strict=True)]
    told = info(opened.folder.url) | {"codec_seconds": 0.0, "version_of_psc": ""}
    text = jobs.page.render(opened, figures(opened), replace(found, shown=given), told=told)
    assert "Prompt: <q>a &lt;b&gt;cat&lt;/b&gt;</q>" in text
    assert "Class 7" in text


def test_an_object_store_and_a_dataset_under_way(tmp_path):
    import fsspec

    make_images(tmp_path / "src", 6)
    for shards, state in ((None, "complete"), ([0, 2], "unfinished: 2 of 3 shards"), ([], "unfinished: 0 of 3 shards")):
        url = f"memory://report-{len(shards or '')}-{state[:2]}"
        plan, encoder = plan_dataset(tmp_path / "src", url)
        run_shards(plan, encoder, url, shards)
        found = report(url, f"{url}/page.html", codec=FakeCodec(), images=3)
        text = fsspec.filesystem("memory").cat_file(f"/{url[9:]}/page.html").decode()
        assert state in text
        assert found["originals"] == min(3, found["images"])


def test_nothing_but_a_page_is_replaced(page, tmp_path):
    for out, images, fix in ((tmp_path / "photo.png", 1, ".html"), (tmp_path / "p.html", -1, "at least 0")):
        with pytest.raises(BadRequest, match=fix):
            report(str(page.parent / "ds"), str(out), images=images)
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_has_the_page():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["jobs"]
    packed = {path for pattern in patterns for path in (ROOT / "jobs").glob(pattern)}
    assert {p for p in jobs.page.HERE.iterdir() if p.suffix not in (".py", "")} <= packed
