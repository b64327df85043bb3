"""Results: schema, CompressAI's form, curves, BD-rate, plots and tables, on figures written by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from genic.eval import bjontegaard_delta, compressai, curves, plots
from genic.eval.bjontegaard_delta import bd_quality, bd_rate
from genic.eval.compressai import from_compressai, to_compressai
from genic.eval.curves import Curve, curve_of, load_reference, load_results, shipped_reference
from genic.eval.measures import MEASURES, Measure
from genic.eval.provenance import git_commit, provenance, versions
from genic.eval.schema import CodecResult, ImageResult, Means, Point
from genic.eval.tables import number, table
from genic.experiments import rd_curves
from genic.lightning_modules.codec.errors import ConfigError, DataError

RATES = (0.1, 0.2, 0.4, 0.8)


def _image(name: str, bpp: float, psnr: float, ms_ssim: float | None = 0.95) -> ImageResult:
    return ImageResult(
        name=name,
        bytes=round(1000 * bpp),
        bpp=bpp,
        ledger={"header": 20, "payload": round(1000 * bpp) - 20},
        psnr_rgb=psnr,
        ssim=0.9,
        ms_ssim=ms_ssim,
        ms_ssim_db=None if ms_ssim is None else -10 * math.log10(1 - ms_ssim),
        encode_seconds=0.5,
        decode_seconds=0.25,
    )


def _result(codec: str = "jpeg", factor: float = 1.0) -> CodecResult:
    """Two pictures at four rates; ``factor`` scales the rates only."""
    points = []
    for k, bpp in enumerate(RATES):
        images = [
            _image("a.png", factor * bpp, 28 + 3 * k, 0.90 + 0.02 * k),
            _image("b.png", factor * bpp * 3, 30 + 3 * k, 0.92 + 0.02 * k),
        ]
        points.append(Point(float(k), Means.of(images), images))
    return CodecResult(codec, "tiny", "ab" * 32, points, provenance=provenance(1, 2))


class TestMeans:
    def test_each_figure_is_averaged_over_pictures(self):
        mean = Means.of([_image("a", 0.2, 30, 0.9), _image("b", 0.4, 40, 0.99)])
        assert mean.bpp == pytest.approx(0.3) and mean.psnr_rgb == pytest.approx(35)
        assert mean.ms_ssim == pytest.approx(0.945)
        # Of the mean, not the mean of 10 and 20 dB.
        assert mean.ms_ssim_db == pytest.approx(-10 * math.log10(0.055))

    def test_one_undefined_figure_leaves_the_mean_undefined(self):
        mean = Means.of([_image("a", 0.2, 30), _image("b", 0.4, 40, None)])
        assert mean.ms_ssim is None and mean.ms_ssim_db is None and mean.ssim == pytest.approx(0.9)


class TestSchema:
    def test_there_and_back(self):
        result = _result()
        assert CodecResult.from_json(result.to_json()) == result

    def test_infinite_and_absent_figures(self):
        images = [dataclasses.replace(_image("a", 0.2, math.inf, None), ssim=None)]
        result = CodecResult("kmeans", "tiny", "00", [Point(2.0, Means.of(images), images)])
        text = result.to_json()
        assert "Infinity" not in text and json.loads(text)["points"][0]["mean"]["psnr_rgb"] == "inf"
        assert CodecResult.from_json(text) == result

    @pytest.mark.parametrize(
        "change",
        [
            lambda d: d.pop("codec"),
            lambda d: d.update(schema=99),
            lambda d: d.update(extra=1),
            lambda d: d["points"][0]["images"][0].update(bytes="many"),
            lambda d: d["points"][0]["mean"].update(psnr_rgb="high"),
            lambda d: d.update(points=3),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change):
        content = json.loads(_result().to_json())
        change(content)
        with pytest.raises(DataError, match="evaluate again"):
            CodecResult.from_json(json.dumps(content))

    def test_not_json(self):
        with pytest.raises(DataError):
            CodecResult.from_json("{")

    def test_provenance_names_what_ran(self):
        found = versions()
        assert found["numpy"] == np.__version__ and found["libwebp"] and found["libjxl"]
        commit = git_commit()
        assert commit is None or len(commit.rstrip("+")) == 40


class TestCompressAI:
    def test_there_and_back_keeps_the_means(self):
        result = _result()
        again = from_compressai(to_compressai(result), "tiny")
        assert [point.mean for point in again.points] == [point.mean for point in result.points]
        assert again.codec == "jpeg" and again.points[0].images == []
        assert to_compressai(again)["results"] == to_compressai(result)["results"]

    def test_a_file_of_theirs(self):
        theirs = {
            "name": "mbt2018",
            "description": "PyTorch",
            "results": {"bpp": [0.5, 0.2], "psnr": [33.0, 29.0], "ms-ssim": [0.97, 0.9]},
        }
        result = from_compressai(theirs, "kodak")
        assert [point.mean.bpp for point in result.points] == [0.2, 0.5]
        assert result.points[0].mean.ms_ssim_db == pytest.approx(10)
        assert result.points[0].mean.ssim is None

    @pytest.mark.parametrize(
        "bad", [{}, {"name": "x", "results": {}}, {"name": "x", "results": {"bpp": [1, "a"]}}]
    )
    def test_something_else(self, bad):
        with pytest.raises(DataError, match="CompressAI"):
            from_compressai(bad, "kodak")

    def test_the_command(self, tmp_path, capsys):
        _result().save(tmp_path / "jpeg.json")
        assert compressai.main([str(tmp_path / "jpeg.json")]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["results"]["bpp"] == pytest.approx([2 * bpp for bpp in RATES])
        assert set(printed["results"]) >= {"psnr-rgb", "ms-ssim-rgb"}
        assert compressai.main([str(tmp_path / "none.json")]) == 2
        assert "error: no file" in capsys.readouterr().err


def _measure(key: str) -> Measure:
    return next(measure for measure in MEASURES if measure.key == key)


PSNR, LPIPS = _measure("psnr_rgb"), _measure("lpips_alex")


class TestBjontegaard:
    def test_a_fifth_less_at_every_distortion(self):
        found = bd_rate(curve_of(_result()), curve_of(_result("other", 0.8)), PSNR)
        assert found.value == pytest.approx(-20, abs=1e-6)
        assert found.over == (pytest.approx(29), pytest.approx(38))
        # Every picture saves the same, so that no choice of pictures matters.
        assert found.interval == (pytest.approx(-20), pytest.approx(-20)) and found.verdict == "better"
        back = bd_rate(curve_of(_result("other", 0.8)), curve_of(_result()), PSNR)
        assert back.value == pytest.approx(25) and back.verdict == "worse"

    def test_curves_that_are_straight_in_log_rate(self):
        """PSNR = 30 + 3·log2(R) and 31 + 3·log2(R): by hand, 2^(−1/3) of the rate, and 1 dB."""
        rate = np.array([0.1, 0.2, 0.4, 0.8, 1.6])
        a, b = (
            Curve(n, {"psnr_rgb": np.stack([rate, c + 3 * np.log2(rate)], 1)})
            for n, c in (("a", 30), ("b", 31))
        )
        assert bd_rate(a, b, PSNR).value == pytest.approx(100 * (2 ** (-1 / 3) - 1), abs=1e-6)
        assert bd_rate(b, a, PSNR).value == pytest.approx(100 * (2 ** (1 / 3) - 1), abs=1e-6)
        found = bd_quality(a, b, PSNR)
        assert found.value == pytest.approx(1) and found.over == pytest.approx((0.1, 1.6))
        # Means only: nothing is said of how sure it is.
        assert found.interval is None and found.verdict == ""

    def test_lower_is_better(self):
        """LPIPS = 0.3 − 0.1·log10(R), and a codec that needs half the rate for it."""
        rate = np.array([0.1, 0.2, 0.4, 0.8])
        a, b = (
            Curve(n, {"lpips_alex": np.stack([scale * rate, 0.3 - 0.1 * np.log10(rate)], 1)})
            for n, scale in (("a", 1), ("b", 0.5))
        )
        assert bd_rate(a, b, LPIPS).value == pytest.approx(-50)
        assert bd_quality(a, b, LPIPS).value == pytest.approx(-0.1 * math.log10(2))
        assert bd_rate(a, b, LPIPS).over == pytest.approx((0.3 - 0.1 * np.log10(0.8), 0.4))

    @pytest.mark.parametrize("key", ["psnr_rgb", "lpips_alex"])
    def test_the_interval_says_what_pictures_say(self, key):
        """24 pictures: where all gain it is better; where as many gain as lose, nothing is said."""
        measure, rng = _measure(key), np.random.default_rng(1)
        better = -0.02 if measure.falls else 0.5
        noise = rng.normal(0, abs(better) / 4, 24)
        gains = {"all": better + noise, "half": better * np.resize([1, -1], 24) + noise, "none": noise * 0}
        curves = {name: _with_gains(name, measure, gain) for name, gain in gains.items()}
        verdicts = {}
        for name in ("all", "half"):
            found = [compare(curves["none"], curves[name], measure) for compare in (bd_rate, bd_quality)]
            for one in found:
                assert one.interval[0] < one.value < one.interval[1]
            verdicts[name] = {one.verdict for one in found}
            assert found[1].value == pytest.approx(gains[name].mean())
            # The interval of a mean, as theory has it.
            spread = 1.96 * gains[name].std() / math.sqrt(24)
            assert found[1].interval[1] - found[1].value == pytest.approx(spread, rel=0.3)
        assert verdicts == {"all": {"better"}, "half": {""}}
        assert bd_rate(curves["all"], curves["none"], measure).verdict == "worse"
        same = bd_rate(curves["none"], _with_gains("again", measure, gains["none"]), measure)
        assert same.value == pytest.approx(0, abs=1e-9) and same.verdict == ""
        assert bd_rate(curves["none"], curves["all"], measure) == bd_rate(
            curves["none"], curves["all"], measure
        )

    @pytest.mark.parametrize("measure", [PSNR, LPIPS])
    @pytest.mark.parametrize("of", ["rate", "quality"])
    def test_resamples_at_once_equal_the_package_one_by_one(self, measure, of):
        rng, sign = np.random.default_rng(0), -1 if measure.falls else 1
        shape = (60, 6)
        curves = []
        for _ in range(2):
            rate = np.geomspace(0.1, 1, 6) * rng.lognormal(0, 0.05, shape) * rng.lognormal(0, 0.8, (60, 1))
            curves.append(np.stack([rate, sign * (30 + 3 * np.log2(rate) + rng.normal(0, 1, shape))], -1))
        curves[1][0, :, 1] = sign * np.arange(30.0, 36)  # slopes that do not change
        found = bjontegaard_delta._differences(*curves, measure, of)
        expected = [bjontegaard_delta._difference(a, b, measure, of) for a, b in zip(*curves, strict=True)]
        refused = [isinstance(value, str) for value in expected]
        assert 5 < sum(refused) < 55 and np.array_equal(np.isnan(found), refused)
        assert found[~np.isnan(found)] == pytest.approx([v for v in expected if not isinstance(v, str)])

    def test_where_it_is_refused(self):
        def curve(*points: tuple[float, float]) -> Curve:
            return Curve("c", {"psnr_rgb": np.array(points)})

        anchor = curve((0.1, 28), (0.2, 30), (0.4, 33))
        for other, why in (
            (curve((0.1, 40), (0.2, 42), (0.4, 44)), "no overlap in quality"),
            (curve((0.1, 28), (0.2, 27), (0.4, 33)), "does not improve with rate"),
            (curve((0.1, 28), (0.2, 30)), "fewer than three points"),
        ):
            assert bd_rate(anchor, other, PSNR) == (None, why, None, None, "")
        assert bd_quality(anchor, curve((1, 28), (2, 30), (4, 33)), PSNR).refused == "no overlap in rate"
        assert bd_rate(anchor, curve((1, 28), (2, 30), (4, 33)), PSNR).value == pytest.approx(900)
        assert bd_rate(anchor, anchor, LPIPS).refused == "not measured"

    def test_at_a_rate(self):
        curve = Curve("c", {"psnr_rgb": np.array([[0.1, 28.0], [0.4, 32.0]])})
        assert curve.at("psnr_rgb", 0.2) == pytest.approx(30)
        assert curve.at("psnr_rgb", 0.09) is None and curve.at("psnr_rgb", 0.41) is None
        assert curve.at("ssim", 0.2) is None


def _with_gains(name: str, measure: Measure, gains: np.ndarray) -> Curve:
    """A measured curve of pictures that are each better or worse by a constant."""
    points = []
    for bpp in RATES:
        value = (0.3 - 0.1 * math.log2(bpp / 0.1)) if measure.falls else 28 + 3 * math.log2(bpp / 0.1)
        images = [
            dataclasses.replace(_image(f"{k}.png", bpp, 30), **{measure.key: value + gain})
            for k, gain in enumerate(gains)
        ]
        points.append(Point(bpp, Means.of(images), images))
    return curve_of(CodecResult(name, "tiny", "ab" * 32, points))


@pytest.fixture
def results(tmp_path) -> Path:
    """Two codecs, one curve in CompressAI's form, and a file of published ones beside them."""
    folder = tmp_path / "results"
    _result("hevc").save(folder / "tiny" / "hevc.json")
    _result("paper:small", 0.8).save(folder / "tiny" / "paper-small.json")
    theirs = {"name": "theirs", "results": {"bpp": [0.2, 0.5, 0.9], "psnr-rgb": [29, 33, 36]}}
    (folder / "tiny" / "theirs.json").write_text(json.dumps(theirs))
    points = {"bpp": [0.2, 0.4, 0.9], "psnr_rgb": [29, 33, 36], "ms_ssim_db": [9, 12, 14]}
    published = {"curves": {"HiFiC": {"points": points}, "another": {"points": points}}}
    (tmp_path / "published.json").write_text(json.dumps(published))
    return folder


class TestRdCurves:
    def test_plots_and_table(self, results, capsys):
        reference = results.parent / "published.json"
        arguments = ["--data", "tiny", "--results", str(results), "--reference", str(reference)]
        assert rd_curves.main(arguments) == 0
        printed = capsys.readouterr().out.split()
        for figure, panels in {"psnr_rgb": 1, "ms_ssim_db": 1, "ssim": 1, "panel": 2}.items():
            png, svg, pdf = (results / "tiny" / f"rd_{figure}.{suffix}" for suffix in ("png", "svg", "pdf"))
            assert {str(png), str(svg), str(pdf)} <= set(printed)
            assert png.read_bytes().startswith(b"\x89PNG")
            # TrueType fonts inside, none drawn by procedures, which journals refuse.
            fonts = re.findall(rb"/Subtype /(Type3|CIDFontType2)\b", pdf.read_bytes())
            assert fonts and set(fonts) == {b"CIDFontType2"} and b"/FontFile2" in pdf.read_bytes()
            # Letters are outlines; each curve has its name beside it, clear of the others.
            assert "<text" not in svg.read_text() and "legend" not in svg.read_text()
            names = re.findall(r"<!-- ([\w:]+) -->\s+<g [^>]*translate\(([\d.]+) ([\d.]+)\)", svg.read_text())
            known = ["hevc", "paper:small", "theirs"] if figure == "psnr_rgb" else ["hevc", "paper:small"]
            for name in known:
                assert [found for found, *_ in names].count(name) == panels - (name == "theirs") * (
                    panels - 1
                )
            heights = sorted((float(x), float(y)) for name, x, y in names if name in known)
            assert all(a[0] != b[0] or b[1] - a[1] > 7.5 for a, b in pairwise(heights))
        text = (results / "tiny" / "rd.md").read_text()
        rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
        assert "## Against hevc" in text
        assert "| paper:small | -20.0 [-20.0, -20.0] better | 29.00 … 38.00 | +" in text
        assert "*HiFiC*" in rows and "*another*" in rows and "theirs" in rows
        print_ = (results / "tiny" / "rd.tex").read_text()
        assert r"paper:small & -20.0 [-20.0, -20.0] better & 29.00 … 38.00 & +" in print_
        assert (
            r" & BD-rate, \% & over dB & BD-quality & over bpp \\" in print_ and r"\emph{HiFiC} & " in print_
        )
        assert print_.count(r"\begin{tabular}{lrrrr}") == 3 and "_" not in print_

    def test_drawing_twice_gives_the_same_files(self, results):
        first = {path: path.read_bytes() for path in rd_curves.draw(results, "tiny")}
        again = {path: path.read_bytes() for path in rd_curves.draw(results, "tiny")}
        assert first == again

    def test_an_anchor_of_choice(self, results, monkeypatch):
        monkeypatch.setattr(rd_curves, "plot", lambda *_: [])
        rd_curves.draw(results, "tiny", anchor="paper:small")
        assert "| hevc | +25.0 [+25.0, +25.0] worse |" in (results / "tiny" / "rd.md").read_text()
        with pytest.raises(ConfigError, match="did you mean 'hevc'"):
            rd_curves.draw(results, "tiny", anchor="hevx")

    def test_what_is_missing_or_damaged(self, results, capsys):
        assert rd_curves.main(["--data", "absent", "--results", str(results)]) == 2
        assert "experiments.evaluate" in capsys.readouterr().err
        (results / "tiny" / "broken.json").write_text("{")
        assert rd_curves.main(["--data", "tiny", "--results", str(results)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and "broken.json" in error and error.count("\n") == 1
        with pytest.raises(DataError, match="--reference"):
            load_reference(results / "nowhere.json")
        (results / "tiny" / "broken.json").write_text('{"rows": []}')  # a table's, as `ablate` wrote it there
        assert rd_curves.main(["--data", "tiny", "--results", str(results)]) == 2
        error = capsys.readouterr().err
        assert "broken.json" in error and "move it elsewhere" in error and error.count("\n") == 1
        (results / "other.json").write_text("[1]")
        with pytest.raises(DataError, match="--reference"):
            load_reference(results / "other.json")

    def test_loading_keeps_what_was_saved(self, results):
        loaded = {result.codec: result for result in load_results(results, "tiny")}
        assert loaded["hevc"].points == _result("hevc").points
        assert set(loaded) == {"hevc", "paper:small", "theirs"}


def test_palettes_for_the_colour_blind():
    """Two of a kind differ as much as neighbours in Okabe and Ito's do, as Machado et al. (2009) say they are seen."""
    blind = {
        "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }
    for palette in (plots.SYSTEM_COLOURS, list(plots.CLASSICAL_COLOURS.values())):
        srgb = np.array([to_rgb(colour) for colour in palette])
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        for matrix in (np.eye(3), *blind.values()):
            seen = np.clip(linear @ np.transpose(matrix), 0, 1)
            seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
            lab = rgb2lab(seen)
            assert min(np.linalg.norm(a - b) for a, b in combinations(lab, 2)) > 15


def test_published_curves_come_with_their_sources():
    for data in ("kodak", "clic2020", "div2k", "tecnick"):
        path = Path(curves.__file__).parent / "published" / f"{data}.json"
        assert all(curve["source"] for curve in json.loads(path.read_text())["curves"].values())
        shipped = {curve.name: curve for curve in shipped_reference(data)}
        assert all(curve.published and not curve.pictures for curve in shipped.values())
        assert len(shipped) >= 7
        lpips = shipped.get("MS-ILLM", shipped.get("DiffEIC")).points["lpips_alex"]
        assert np.all(np.diff(lpips[:, 0]) > 0) and np.all(np.diff(lpips[:, 1]) < 0)
    assert shipped_reference("another set") == []


def test_tables():
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
    assert number(None, 2) == "–" and number(1.005, 1) == "1.0"
