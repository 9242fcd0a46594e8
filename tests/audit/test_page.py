"""The page of an audit, in a real Chromium."""

import json
import math
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit.findings import Duplicates, Findings
from audit.media import Media
from audit.page import render
from audit.points import Points
from benchmarks.page import example_findings, example_media, example_points, opened_chromium
from data.relabel import read_corrections

COUNT = 400
NOTHING = Findings(
    about={"run": "runs/none"}, scores=(), tree_distance={}, confusion=None, hubs=(), hubness=math.nan, outliers=(),
    duplicates=Duplicates(0.99, "No two clips were near.", 0, (), 0, (), 0, ()), suspects=(), shortcuts=(), queries=(),
    comparison=None, notes=(),
)  # fmt: skip


@pytest.fixture(scope="module")
def points() -> Points:
    return example_points(COUNT)


@pytest.fixture(scope="module")
def media(points) -> Media:
    """Of all clips but the last hundred."""
    return example_media([*points.clips[:-100], "take.wav"], 1e9)


@pytest.fixture(scope="module")
def path(points, media, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(example_findings(points.clips, ["take.wav"], most=12), points, media), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser():
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed; apt-get install chromium brings it")
    pytest.importorskip("playwright", reason="playwright is not installed; pip install -e .[dev] brings it")
    with opened_chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser):
    """``opened(path, **how)`` opens a page whose complaints fail the test."""
    contexts, complaints = [], []

    def open_(path: Path, width: int = 1280, **how):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **how))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        page.goto(path.as_uri(), wait_until="load")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def place_on_canvas(page, clip: int) -> tuple[float, float]:
    box = page.locator("#map-canvas").bounding_box()
    border = page.evaluate("clipMap.canvas.clientLeft")
    x, y = page.evaluate(f"clipMap.at({clip})")
    return box["x"] + border + x, box["y"] + border + y


def alone(page) -> int:
    """A clip that can be heard and is covered by no other: the one farthest from its nearest."""
    return page.evaluate(
        """() => {
          let [found, most] = [-1, 0];
          for (let place = 0; place < 300; place++) {
            const [x, y] = clipMap.at(place);
            if (x < 20 || y < 20 || x > clipMap.width - 60 || y > clipMap.height - 20) continue;
            let least = Infinity;
            for (let other = 0; other < numPoints; other++) {
              const at = clipMap.at(other);
              if (other !== place) least = Math.min(least, Math.hypot(at[0] - x, at[1] - y));
            }
            if (least > most) [found, most] = [place, least];
          }
          return found;
        }"""
    )


def wait_until(page, expression: str, seconds: float = 5.0) -> None:
    """`page.wait_for_function` runs text as code, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression} was expected within {seconds} s"
        page.wait_for_timeout(20)


def is_heard(page) -> None:
    page.evaluate("player.loop = true")  # on a busy machine a sound may end before the test looks again
    wait_until(page, "playing !== null && player.currentTime > 0.05 && !player.error")


def test_the_data_is_json_whatever_clips_are_called(points, media):
    hostile = "x/</script><script>alert(1)</script>\u2028"
    named = replace(points, clips=(hostile, *points.clips[1:]))
    text = render(replace(NOTHING, notes=("<b>bold</b>",), about={"run": "<img src=x>"}), named, media)
    data = data_of(text)
    assert data["clips"]["ids"][0] == hostile
    assert data["findings"]["hubness"] is None
    assert data["findings"]["notes"] == ["<b>bold</b>"]
    assert "alert(1)</script>" not in text
    assert "<img src=x>" not in text
    assert text.count("</script>") == 3


def test_the_page_holds_what_it_was_given(points, media):
    findings = example_findings(points.clips, most=3)
    data = data_of(render(findings, points, media))
    assert data["clips"]["ids"] == list(points.clips)
    assert data["clips"]["levels"]["family"]["codes"] == points.levels["family"].codes.tolist()
    assert data["findings"]["suspects"][2]["clip"] == findings.suspects[2].clip
    assert np.allclose(data["clips"]["x"], points.place[:, 0] * 20_000, atol=0.51)
    assert set(data["media"]) == set(media.sounds)


def test_it_opens_with_every_section_and_nothing_moves_while_it_does(opened, path):
    page = opened(path)
    page.wait_for_timeout(300)
    titles = page.locator("h2").all_inner_texts()
    assert titles == [
        "Map", "Queries", "Scores", "Families", "Suspect labels", "Duplicates and leaks", "Hubs and outliers",
        "Shortcuts", "Comparison", "Notes",
    ]  # fmt: skip
    assert page.title() == "Audit of runs/example"
    assert "[object" not in page.inner_text("body")
    assert "undefined" not in page.inner_text("body")
    assert "NaN" not in page.inner_text("body")
    assert page.locator("#suspects li").count() == 10
    page.get_by_role("button", name="Show 2 more of 2").first.click()
    assert page.locator("#suspects li").count() == 12
    shift = """() => new Promise((done) => {
      let sum = 0;
      const add = (entry) => { sum += entry.hadRecentInput ? 0 : entry.value; };
      const observer = new PerformanceObserver((list) => list.getEntries().forEach(add));
      observer.observe({ type: "layout-shift", buffered: true });
      setTimeout(() => done(sum), 200);
    })"""
    assert page.evaluate(shift) < 0.01


def test_nothing_found_is_said_in_words(opened, points, tmp_path):
    file = tmp_path / "nothing.html"
    none = replace(
        points, clips=points.clips[:1], place=points.place[:1], neighbours=points.neighbours[:1] * 0 - 1,
        similarity=points.similarity[:1], numbers={},
        levels={name: replace(level, codes=level.codes[:1]) for name, level in points.levels.items()},
    )  # fmt: skip
    file.write_text(render(NOTHING, none, Media({}, {}, 3)), encoding="utf-8")
    page = opened(file)
    said = page.inner_text("main")
    for sentence in ("No label looks wrong.", "No clip is a hub.", "3 clips named above"):
        assert sentence in said
    page.locator("#map-canvas").press("ArrowRight")
    assert "Its sound found no room" in page.inner_text("#chosen")


@pytest.mark.parametrize(("scheme", "ground"), [("light", (251, 251, 252)), ("dark", (24, 27, 32))])
def test_the_map_draws_points_in_the_colours_of_the_legend(opened, path, scheme, ground):
    page = opened(path, color_scheme=scheme)
    clip = alone(page)
    own, corner, share = page.evaluate(
        """(clip) => {
          const context = clipMap.context;
          const at = (x, y) => [...context.getImageData(x, y, 1, 1).data.slice(0, 3)];
          const every = context.getImageData(0, 0, clipMap.width, clipMap.height).data;
          let inked = 0;
          for (let place = 0; place < every.length; place += 4) inked += every[place] !== every[0];
          const [x, y] = clipMap.at(clip);
          return [at(Math.round(x), Math.round(y)), at(1, 1), inked / (every.length / 4)];
        }""",
        clip,
    )
    assert tuple(corner) == ground
    assert 0.002 < share < 0.2
    family = page.evaluate(f"labelText({clip}, 'family')")
    swatch = page.locator(f'#legend button[data-name="{family}"] .swatch')
    assert (
        swatch.evaluate("(element) => getComputedStyle(element).backgroundColor") == f"rgb({', '.join(map(str, own))})"
    )


def test_a_click_on_the_map_plays_and_tells_of_the_clip(opened, path, points):
    page = opened(path)
    clip = alone(page)
    page.mouse.click(*place_on_canvas(page, clip))
    is_heard(page)
    panel = page.locator("#chosen")
    assert points.clips[clip] in panel.inner_text()
    own = panel.locator(".clip").first
    assert own.get_attribute("aria-pressed") == "true"
    assert own.locator("img").evaluate("(image) => image.complete && image.naturalWidth") == 160
    neighbours = {points.clips[place] for place in points.neighbours[clip]}
    assert {tile.get_attribute("data-name") for tile in panel.locator(".strip .clip").all()} == neighbours
    own.click()  # again: it stops
    assert own.get_attribute("aria-pressed") == "false"
    assert page.evaluate("player.paused")


def test_one_sound_is_heard_at_a_time(opened, path):
    page = opened(path)
    first, second = page.locator("#suspects .strip").nth(0), page.locator("#suspects .subject").nth(1)
    tiles = first.locator(".clip:not(.mute)").first, second.locator(".clip").first
    tiles[0].click()
    is_heard(page)
    tiles[1].click()
    assert tiles[0].get_attribute("aria-pressed") == "false"
    page.keyboard.press("Escape")
    assert page.locator('.clip[aria-pressed="true"]').count() == 0


def test_a_file_that_was_asked_for_is_heard(opened, path):
    page = opened(path)
    page.locator('#queries .clip[data-name="take.wav"]').click()
    is_heard(page)


def test_a_clip_without_sound_offers_the_nearest_that_has_one(opened, path):
    page = opened(path)
    page.evaluate("clipMap.choose(399)")
    assert page.locator("#chosen .clip.mute").count() >= 1
    page.get_by_role("button", name="Hear the nearest that did").click()
    is_heard(page)
    assert page.evaluate("clipMap.chosen") < 300


def test_corrections_are_saved_as_relabelling_reads_them(opened, path, tmp_path):
    page = opened(path)
    assert page.locator("#save-corrections").is_disabled()
    rows = page.locator("#suspects li")
    rows.nth(0).get_by_role("button", name="Take suggestion").click()
    rows.nth(2).get_by_role("combobox").fill('violin; no "fiddle"')
    rows.nth(3).get_by_role("combobox").fill("typed")
    rows.nth(3).get_by_role("combobox").fill(" ")
    assert page.inner_text("#corrected") == "2 corrections"
    with page.expect_download() as download:
        page.click("#save-corrections")
    download.value.save_as(tmp_path / "corrections.csv")
    read = read_corrections(tmp_path / "corrections.csv")
    asked = [rows.nth(place).locator(".subject .clip").get_attribute("data-name") for place in (0, 2)]
    found = [(one.clip, one.level, one.text, one.given) for one in read]
    assert found == [
        (asked[0], "family", "reed", "string"),
        (asked[1], "family", 'violin; no "fiddle"', "string"),
    ]


def test_filters_filter(opened, path, points):
    page = opened(path)
    family, split = points.levels["family"], points.levels["split"]
    wanted = family.names.index("reed")
    page.select_option("#filter-family", "reed")
    count = int((family.codes == wanted).sum())
    assert page.inner_text("#shown") == f"{count} of 400 clips"
    assert page.evaluate("clipMap.isShown.reduce((a, b) => a + b)") == count
    assert page.locator('#legend [aria-pressed="true"]').inner_text().startswith("reed")
    page.select_option("#filter-split", "test")
    both = int(((family.codes == wanted) & (split.codes == 2)).sum())
    assert page.inner_text("#shown") == f"{both} of 400 clips"
    page.fill("#filter-text", "no clip is called so")
    assert page.inner_text("#shown") == "0 of 400 clips"
    page.click("#reset")
    assert page.inner_text("#shown") == "400 of 400 clips"
    page.locator('#legend button[data-name="brass"]').click()
    assert page.input_value("#filter-family") == "brass"
    before = page.evaluate("clipMap.colours.slice(0, 50).join()")
    page.select_option("#colour", "pitch")
    assert "MIDI" in page.inner_text("#legend")
    assert page.evaluate("clipMap.colours.slice(0, 50).join()") != before


def test_what_a_filter_leaves_out_is_not_met_by_the_pointer(opened, path):
    page = opened(path)
    clip = alone(page)
    at = place_on_canvas(page, clip)
    page.mouse.move(*at)
    assert page.inner_text("#map-tip").startswith(page.evaluate(f"titleOf({clip})"))
    page.fill("#filter-text", "no clip is called so")
    page.mouse.move(at[0] + 1, at[1])
    assert page.locator("#map-tip").is_hidden()


def test_the_map_is_dragged_and_zoomed_about_the_pointer(opened, path):
    page = opened(path)
    clip = alone(page)
    x, y = place_on_canvas(page, clip)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    wait_until(page, "clipMap.zoom > 1.5")
    assert place_on_canvas(page, clip) == pytest.approx((x, y), abs=2)  # a pointer has whole pixels
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=4)
    page.mouse.up()
    assert place_on_canvas(page, clip) == pytest.approx((x + 60, y + 40), abs=2)
    assert page.evaluate("clipMap.chosen") == -1  # a drag is no click
    page.click("#zoom-all")
    assert page.evaluate("clipMap.zoom") == 1


def test_everything_can_be_done_by_keyboard(opened, path):
    page = opened(path)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "map-canvas":
            break
    page.select_option("#filter-sound", "in this page")
    page.keyboard.press("ArrowRight")
    first = page.evaluate("clipMap.chosen")
    x = page.evaluate(f"clipMap.at({first})[0]")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("clipMap.chosen")
    assert second != first >= 0
    assert page.evaluate(f"clipMap.at({second})[0]") > x
    page.keyboard.press("+")
    assert page.evaluate("clipMap.zoom") == pytest.approx(1.5)
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    is_heard(page)
    assert page.evaluate("document.activeElement.id") == "map-canvas"
    page.keyboard.press("Escape")
    assert page.evaluate("player.paused")


def test_it_fits_a_telephone(opened, path):
    page = opened(path, width=360, is_mobile=True, has_touch=True, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.locator("#map-canvas").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    outside = """() => [...document.querySelectorAll("main *")].filter((element) => {
      if (element.closest(".wide, .strip, #legend, #chosen")) return false; // these scroll by themselves
      const { left, right, width } = element.getBoundingClientRect();
      return width && (left < -1 || right > innerWidth + 1);
    }).map((element) => element.outerHTML.slice(0, 80))"""
    assert page.evaluate(outside) == []
    clip = alone(page)
    page.locator("#map-canvas").scroll_into_view_if_needed()
    page.touchscreen.tap(*place_on_canvas(page, clip))
    is_heard(page)
    assert page.evaluate("clipMap.chosen") == clip
