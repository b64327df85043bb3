"""The HTML report: its data, and the page in a real browser where Chromium is installed."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genic.datamodules.images import ImageItem, read_image, write_png
from genic.eval.curves import curve_of
from genic.eval.metrics import measure
from genic.eval.report import Source, html, page_data, viewer_data
from genic.eval.runner import Task
from genic.eval.schema import CodecResult, ImageResult, Means, Point
from genic.experiments import report
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import DataError
from genic.lightning_modules.registry import open_codec
from tests.helpers import photograph

HEIGHT, WIDTH = 176, 192
SWEEPS = {"jpeg": (5.0, 15.0, 40.0, 70.0), "webp": (0.0, 20.0, 60.0, 85.0)}
MAP = np.tile(np.arange(WIDTH, dtype=np.uint8) // 64, (HEIGHT, 1))  # nothing, a half, all
PUBLISHED = {
    "curves": {
        "Others' codec": {"points": {"bpp": [0.3, 0.6, 1.2, 2.4], "psnr_rgb": [26.0, 29.0, 32.0, 36.0]}},
        "VTM 9.1 intra 4:4:4": {
            "points": {"bpp": [0.2, 0.5, 1.0, 2.0], "psnr_rgb": [27.0, 31.0, 35.0, 39.0]}
        },
    }
}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``pictures``, ``results/tiny`` as `experiments.evaluate` leaves it with --save-decoded, ``published.json``."""
    root = tmp_path_factory.mktemp("report")
    (root / "pictures").mkdir()
    for name, top in (("a.png", 20), ("b.png", 120)):
        write_png(root / "pictures" / name, photograph(HEIGHT, WIDTH, top))
        write_png(root / "maps" / name, MAP)
    folder = root / "results" / "tiny"
    for codec, qualities in SWEEPS.items():
        points = []
        for quality in qualities:
            images = [_measured(item, codec, quality, folder / "decoded") for item in _items(root)]
            points.append(Point(quality, Means.of(images), images))
        CodecResult(codec, "tiny", "ab" * 32, points).save(folder / f"{codec}.json")
    (root / "published.json").write_text(json.dumps(PUBLISHED))
    return root


def _items(root: Path) -> list[ImageItem]:
    return [ImageItem(path.name, str(path)) for path in sorted((root / "pictures").iterdir())]


def _measured(item: ImageItem, name: str, quality: float, folder: Path) -> ImageResult:
    codec, image = open_codec(name), item.read()
    data = codec.encode(image, quality=quality)
    decoded = codec.decode(data)
    path = Task(item, name, quality).saved(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".gnc").write_bytes(data)
    write_png(path, decoded)
    return ImageResult(
        name=item.name,
        bytes=len(data),
        bpp=8 * len(data) / (HEIGHT * WIDTH),
        ledger=Container.from_bytes(data).ledger(),
        **measure(image, decoded)._asdict(),
        encode_seconds=0.1,
        decode_seconds=0.2,
    )


def _cost(size: int, other: int, rate: float) -> float:
    """What the viewer weighs: off the rate, and beyond 3 % off the other's bytes."""
    off = abs(math.log(8 * size / (HEIGHT * WIDTH) / rate))
    return off + 20 * max(0, abs(math.log(size / other)) - 0.03)


def _nearest(sizes: dict[str, int], rate: float) -> str:
    return min(sizes, key=lambda label: _cost(sizes[label], sizes[label], rate))


def _sources(root: Path) -> list[Source]:
    folder = root / "results" / "tiny"
    return [
        Source(CodecResult.from_json((folder / f"{codec}.json").read_text()), folder / "decoded")
        for codec in SWEEPS
    ]


def _write(root: Path, out: Path, *more: str) -> int:
    options = ["--data", "folder", "--root", str(root / "pictures"), "--name", "tiny", "-o", str(out)]
    options += ["--results", str(root / "results"), "--reference", str(root / "published.json")]
    options += ["--maps", str(root / "maps")]
    return report.main([*options, "--rates", "0.6,1.5", "--anchor", "jpeg", *more])


@pytest.fixture(scope="module")
def page(evaluated: Path) -> Path:
    out = evaluated / "report.html"
    assert _write(evaluated, out) == 0
    return out


def _data(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def _pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


class _References(HTMLParser):
    """Collects what elements refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]


class TestData:
    def test_the_page_refers_to_nothing_outside(self, page):
        found = _References()
        found.feed(page.read_text())
        assert found.found and all(value.startswith(("#", "data:")) for value in found.found)
        assert "default-src 'none'" in page.read_text()

    def test_figures_are_those_of_the_results(self, evaluated, page):
        data = _data(page.read_text())
        for codec, source in zip(data["codecs"], _sources(evaluated), strict=True):
            assert codec["name"] == source.result.codec
            for point, expected in zip(codec["points"], source.result.points, strict=True):
                assert point["mean"]["psnr_rgb"] == expected.mean.psnr_rgb
                assert [image["bytes"] for image in point["images"]] == [i.bytes for i in expected.images]
                assert all(sum(image["ledger"].values()) == image["bytes"] for image in point["images"])
        symbols = [{curve["symbol"].endswith("-open") for curve in data[k]} for k in ("codecs", "published")]
        assert symbols == [{False}, {True}]
        shown = {curve["name"]: curve["shown"] for curve in data["published"]}
        assert shown == {"VTM 9.1 intra 4:4:4": True, "Others' codec": False}

    def test_intervals_stand_where_pictures_are_known(self, page):
        rows = {row["name"]: row["rate"] for row in _data(page.read_text())["comparisons"]["psnr_rgb"]}
        assert set(rows) == {"webp", "VTM 9.1 intra 4:4:4", "Others' codec"}
        assert rows["webp"]["interval"][0] <= rows["webp"]["value"] <= rows["webp"]["interval"][1]
        assert rows["VTM 9.1 intra 4:4:4"]["interval"] is None
        assert rows["VTM 9.1 intra 4:4:4"]["verdict"] == ""

    def test_pictures_are_the_decoded_ones_nearest_to_each_rate(self, evaluated):
        viewer = viewer_data(_sources(evaluated), _items(evaluated), [0.6, 1.5], 768, 10, evaluated / "maps")
        assert viewer["notes"] == [] and [p["name"] for p in viewer["pictures"]] == ["a.png", "b.png"]
        for item, picture in zip(_items(evaluated), viewer["pictures"], strict=True):
            assert (picture["width"], picture["height"], picture["whole"]) == (WIDTH, HEIGHT, True)
            assert np.array_equal(_pixels(picture["original"]), item.read())
            assert np.array_equal(_pixels(picture["map"])[..., 0], MAP)
            for result, folder in _sources(evaluated):
                figures = {
                    p.label: (p.quality, image.bpp)
                    for p in result.points
                    for image in p.images
                    if image.name == item.name
                }
                nearest = {
                    min(figures, key=lambda label: abs(math.log(figures[label][1] / rate)))
                    for rate in (0.6, 1.5)
                }
                files = [file for file in picture["files"] if file["codec"] == result.codec]
                assert {file["label"] for file in files} == nearest
                for file in files:
                    path = Task(item, result.codec, figures[file["label"]][0]).saved(folder)
                    assert np.array_equal(_pixels(file["source"]), read_image(path))

    def test_beside_an_anchor_files_are_those_of_equal_bytes(self, evaluated, page):
        """Of all points of both, not of those nearest to the rates."""
        viewer = _data(page.read_text())["viewer"]
        assert viewer["rate"] == 0.6
        for picture in viewer["pictures"]:
            sizes = [
                {p.label: i.bytes for p in result.points for i in p.images if i.name == picture["name"]}
                for result, _ in _sources(evaluated)
            ]
            expected = {("jpeg", label) for rate in (0.6, 1.5) for label in [_nearest(sizes[0], rate)]}
            for rate in (0.6, 1.5):
                pair = min(
                    product(*sizes), key=lambda pair: _cost(*(sizes[k][pair[k]] for k in (1, 0)), rate=rate)
                )
                expected |= set(zip(("jpeg", "webp"), pair, strict=True))
            assert {(file["codec"], file["label"]) for file in picture["files"]} == expected

    def test_larger_pictures_are_cut_to_their_centre(self, evaluated):
        picture = viewer_data(_sources(evaluated), _items(evaluated), [1.0], 100, 10)["pictures"][0]
        assert (picture["width"], picture["height"], picture["whole"]) == (100, 100, False)
        assert np.array_equal(_pixels(picture["original"]), _items(evaluated)[0].read()[38:138, 46:146])
        assert all(_pixels(file["source"]).shape == (100, 100, 3) for file in picture["files"])

    def test_maps_of_other_sizes_are_refused(self, evaluated, tmp_path):
        write_png(tmp_path / "a.png", MAP[:-1])
        with pytest.raises(DataError, match="make it anew"):
            viewer_data([], _items(evaluated), [1.0], 500, 10, tmp_path)

    def test_the_bound_holds_and_says_what_it_left_out(self, evaluated):
        sources, items = _sources(evaluated), _items(evaluated)
        whole = viewer_data(sources, items, [0.6, 1.5], 500, 10)
        sizes = [len(p["original"]) + sum(len(f["source"]) for f in p["files"]) for p in whole["pictures"]]
        bounded = viewer_data(sources, items, [0.6, 1.5], 500, sizes[0] / 1e6)
        size = sum(
            len(p["original"]) + sum(len(f["source"]) for f in p["files"]) for p in bounded["pictures"]
        )
        assert 0 < size <= sizes[0] and "are left out" in bounded["notes"][0]
        assert {file["codec"] for file in bounded["pictures"][0]["files"]} == set(SWEEPS)

    def test_pictures_that_were_not_measured_are_left_out(self, evaluated, tmp_path):
        decoded = tmp_path / "decoded"
        shutil.copytree(evaluated / "results" / "tiny" / "decoded", decoded)
        sources = [Source(result, decoded) for result, _ in _sources(evaluated)]
        item = _items(evaluated)[0]
        wrong = Task(item, "jpeg", 5.0).saved(decoded)
        write_png(wrong, item.read())  # not what the file decodes to
        Task(item, "jpeg", 15.0).saved(decoded).with_suffix(".gnc").write_bytes(b"another file")
        shutil.rmtree(decoded / "webp")
        viewer = viewer_data(sources, [item], np.geomspace(0.1, 5, 30), 500, 10)
        assert [file["label"] for file in viewer["pictures"][0]["files"]] == ["40", "70"]
        missing, stale = viewer["notes"]
        assert "webp" in missing and "--save-decoded" in missing
        assert "jpeg 5 of a.png" in stale and "jpeg 15 of a.png" in stale

    def test_the_viewer_opens_with_the_learned_codec_nearest_in_bytes(self, evaluated):
        results = {result.codec: result for result, _ in _sources(evaluated)}
        far, near = (
            dataclasses.replace(results["webp"], codec=name, weights="ab") for name in ("a_far", "near")
        )
        every = [far, near, *results.values()]
        curves = [curve_of(result) for result in every]
        sizes = {"a_far": [500, 2000], "near": [200, 1010], "jpeg": [300, 1000], "webp": [1000]}
        files = [
            {"codec": codec, "figures": {"bytes": size, "bpp": size / 1000}}
            for codec, found in sizes.items()
            for size in found
        ]
        viewer = {"rate": 0.5, "pictures": [{"files": files}], "notes": []}
        assert page_data(every, [], curves, curves[2], (), viewer)["viewer"]["first"] == [
            "near",
            "jpeg",
            "a_far",
            "webp",
        ]

    def test_infinite_figures_and_hostile_names(self):
        image = ImageResult(
            name="</script><b>.png", bytes=8, bpp=0.5, ledger={"payload": 8}, psnr_rgb=math.inf,
            ssim=1.0, ms_ssim=None, ms_ssim_db=None, encode_seconds=0.1, decode_seconds=0.1,
        )  # fmt: skip
        result = CodecResult("kmeans", "tiny", "ab", [Point(1.0, Means.of([image]), [image])])
        curve = curve_of(result)
        viewer = viewer_data([], [], [0.1], 100, 1)
        data = _data(html(page_data([result], [], [curve], curve, (), viewer)))
        assert data["codecs"][0]["points"][0]["images"][0]["name"] == "</script><b>.png"
        assert data["codecs"][0]["points"][0]["mean"]["psnr_rgb"] == "inf"


class TestCommand:
    def test_without_the_originals_the_figures_remain(self, evaluated, tmp_path, capsys):
        out = tmp_path / "report.html"
        options = ["--data", "folder", "--root", str(tmp_path), "--name", "tiny", "-o", str(out)]
        assert report.main([*options, "--results", str(evaluated / "results")]) == 0
        assert str(out) in capsys.readouterr().out
        data = _data(out.read_text())
        assert len(data["codecs"]) == 2 and data["viewer"]["pictures"] == []
        assert "not at hand" in data["viewer"]["notes"][0]

    @pytest.mark.parametrize(
        "more, message",
        [
            (["--anchor", "jpg"], "no curve 'jpg'"),
            (["--rates", "a"], "--rates a"),
            (["--crop", "0"], "more than 0"),
            (["--name", "none"], "no results"),
        ],
    )
    def test_what_cannot_be_done(self, evaluated, tmp_path, capsys, more, message):
        assert _write(evaluated, tmp_path / "report.html", *more) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "report.html").exists()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium and chromedriver on the PATH")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


class Page:
    """The report in a browser."""

    def __init__(
        self, browser, path: Path, width: int = 1280, height: int = 800, scheme: str = "light"
    ) -> None:
        self.browser = browser
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},  # flicker waits for the key
        ]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(path.as_uri())
        self.until("return document.querySelector('#stage canvas') !== null")

    def run(self, script: str):
        return self.browser.execute_script(script)

    def until(self, script: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 120).until(lambda browser: browser.execute_script(script))

    def press(self, selector: str, *keys: str) -> None:
        self.browser.find_element("css selector", selector).send_keys(*keys)

    def click(self, selector: str) -> None:
        found = self.browser.find_element("css selector", selector)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        found.click()

    def choose(self, select: str, value: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.browser.find_element("css selector", select)).select_by_value(value)

    def mode(self, name: str, panes: int) -> None:
        self.click(f"#modes [value={name}]")
        self.until(
            f"return view.mode === '{name}' && document.querySelectorAll('#stage .pane').length === {panes}"
            f" && document.querySelector('#modes [value={name}]').ariaChecked === 'true'"
        )

    def canvas(self, selector: str) -> np.ndarray:
        script = f"""const canvas = document.querySelector("{selector}");
            return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""
        return np.array(self.run(script), np.uint8).reshape(HEIGHT, WIDTH, 4)[..., :3]


@pytest.fixture
def opened(chromium, page):
    yield Page(chromium, page)
    assert [entry for entry in chromium.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


class TestBrowser:
    def test_curves_are_drawn_and_go_on_and_off(self, opened):
        count = "return document.querySelectorAll('#curve-plot .scatterlayer .trace').length"
        assert opened.run(count) == 3  # jpeg, webp, and of the published ones VTM
        opened.click("#curve-list [data-name=webp] input")
        opened.until(f"{count} === 2")
        opened.click("#curve-list fieldset:last-child legend button")  # all published
        opened.until(f"{count} === 3")
        opened.click("#log")
        opened.until("return document.getElementById('curve-plot').layout.xaxis.type === 'log'")
        opened.choose("#measure", "ms_ssim_db")
        opened.until(f"{count} === 1")  # the published ones have none
        assert opened.run("return document.querySelector('#curve-plot .ytitle').textContent") == "MS-SSIM, dB"

    def test_hover_names_the_point(self, opened):
        opened.choose("#curve-picture", "b.png")
        opened.run("Plotly.Fx.hover('curve-plot', [{curveNumber: 0, pointNumber: 1}])")
        opened.until("return document.querySelector('#curve-plot .hovertext') !== null")
        text = opened.run("return document.querySelector('#curve-plot .hovertext').textContent")
        expected = _data_of(opened, "codecs")[0]["points"][1]["images"][1]
        assert "jpeg" in text and "quality 15" in text and "b.png" in text
        assert f"{expected['bpp']:.4f} bpp" in text and f"{expected['psnr_rgb']:.2f} dB" in text

    def test_wipe_by_slider_and_by_key(self, opened):
        from selenium.webdriver import ActionChains, Keys

        clip = "return document.getElementById('wiped').style.clipPath"
        assert opened.run(clip) == "inset(0px 50% 0px 0px)"
        opened.press("#wipe", Keys.END)
        assert opened.run(clip) in ("inset(0px 0% 0px 0px)", "inset(0px)")
        opened.press("#stage", Keys.ARROW_LEFT * 5)
        assert opened.run(clip) == "inset(0px 10% 0px 0px)"
        assert opened.run("return document.getElementById('edge').style.left") == "90%"
        ActionChains(opened.browser).drag_and_drop_by_offset(
            opened.browser.find_element("id", "edge"), -100, 0
        ).perform()
        assert 65 < float(opened.run("return document.getElementById('wipe').value")) < 80
        # It is seen: the pane's width is the page's, and the pixels are the decoded picture's.
        assert opened.run("return document.querySelector('.pane').clientWidth") > 500
        files = _data_of(opened, "viewer")["pictures"][0]["files"]
        left = next(file for file in files if file["codec"] == opened.run("return chosen('left').codec")
                    and file["label"] == opened.run("return chosen('left').label"))  # fmt: skip
        assert np.array_equal(opened.canvas("#wiped canvas"), _pixels(left["source"]))

    def test_bytes_are_matched_until_a_file_is_chosen(self, opened):
        files = _data_of(opened, "viewer")["pictures"][0]["files"]
        left, right = (
            [f for f in files if f["codec"] == opened.run(f"return chosen('{side}').codec")]
            for side in ("left", "right")
        )
        first = [opened.run(f"return chosen('{side}').figures.bytes") for side in ("left", "right")]
        pairs = [(a["figures"]["bytes"], b["figures"]["bytes"]) for a in left for b in right]
        assert _cost(*first, rate=0.6) == min(_cost(*pair, rate=0.6) for pair in pairs)
        for k in range(opened.run("return document.getElementById('left-file').options.length")):
            opened.choose("#left-file", str(k))
            size = opened.run("return chosen('left').figures.bytes")
            nearest = min(right, key=lambda file: abs(math.log(file["figures"]["bytes"] / size)))
            assert opened.run("return chosen('right').label") == nearest["label"]
            percent = 100 * (nearest["figures"]["bytes"] / size - 1)
            told = opened.run("return document.getElementById('matched').textContent")
            assert told.startswith("not matched: ") == (abs(percent) > 10)
            assert f"right has {abs(percent):.1f} % {'fewer' if percent < 0 else 'more'} bytes" in told
        opened.choose("#right-codec", "jpeg")
        other = 1 - opened.run("return document.getElementById('right-file').selectedIndex")
        opened.choose("#right-file", str(other))
        assert opened.run("return document.getElementById('match').checked") is False
        assert opened.run("return document.getElementById('right-file').selectedIndex") == other

    def test_flicker_difference_and_linked_zoom(self, opened):
        opened.mode("flicker", 1)
        seen = "return document.getElementById('flipped').style.visibility"
        assert opened.run(seen) == "hidden"
        opened.press("#stage", " ")
        assert opened.run(seen) == "visible"

        opened.press("#stage", "d")
        opened.until("return document.querySelectorAll('#stage .pane').length === 2")
        picture = _data_of(opened, "viewer")["pictures"][0]
        left = opened.run("return chosen('left').source")
        a, b = (_pixels(uri).astype(int) for uri in (left, picture["original"]))
        heat = 8 * np.abs(a - b).sum(-1)
        expected = np.clip(np.stack([heat, heat - 255, heat - 510], -1), 0, 255)
        assert np.array_equal(opened.canvas("#stage canvas"), expected)

        opened.press("#stage", "m")
        opened.until("return document.querySelectorAll('#stage .map canvas').length === 2")
        script = """const over = document.querySelector("#stage .map canvas").getContext("2d");
            const row = over.getImageData(0, 5, 192, 1);
            return [10, 100, 180].map(x => row.data[4 * x + 3])"""
        assert opened.run(script) == [0, 70, 140]
        opened.click("#show-map")
        opened.until("return document.querySelectorAll('#stage .map').length === 0")

        opened.mode("side", 3)
        opened.press("#stage", "+")
        transforms = opened.run(
            "return [...document.querySelectorAll('#stage canvas')].map(c => c.style.transform)"
        )
        assert len(set(transforms)) == 1 and opened.run("return view.zoom") == 1.5
        opened.press("#stage", "n")
        opened.until("return document.getElementById('view-picture').value === 'b.png' && view.zoom === 1")

    def test_tables_and_bytes(self, opened):
        opened.choose("#table-picture", "*")
        rows = (
            "return [...document.querySelectorAll('#figure-table tbody tr')].map(r => r.cells[3].textContent)"
        )
        before = [int(text.replace("\u202f", "")) for text in opened.run(rows)]
        assert len(before) == 2 * 4 * 2
        opened.click("#figure-table th:nth-child(4) button")
        assert [int(text.replace("\u202f", "")) for text in opened.run(rows)] == sorted(before)
        cells = opened.run("return document.querySelector('#bd-table tbody tr').textContent")
        assert cells.startswith("webp") and "[" in cells
        assert opened.run("return document.querySelectorAll('#ledger-plot .barlayer .point').length") >= 4
        opened.click("#share")
        opened.until("return document.querySelector('#ledger-plot .ytitle').textContent.includes('%')")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width, height", [(1280, 800), (390, 844)])
    def test_it_fits(self, chromium, page, width, height, scheme):
        opened = Page(chromium, page, width, height, scheme)
        assert opened.run("return document.documentElement.scrollWidth") <= width
        background = opened.run("return getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
        for wide in ("curve-plot", "stage", "ledger-plot"):
            assert opened.run(f"return document.getElementById('{wide}').clientWidth") > 0.6 * width


def _data_of(opened: Page, part: str):
    return opened.run(f"return report.{part}")
