"""Results that the project keeps: pages say what they say, and what drifts is found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from genic.datamodules.images import ImageItem, manifest_hash, write_png
from genic.eval import drift
from genic.eval.crops import GAP, LINE, sheet
from genic.eval.curves import Curve, curve_of, find_reference
from genic.eval.provenance import machine, provenance, versions
from genic.eval.schema import CodecResult, ImageResult, Means, Point
from genic.eval.tables import losses, overview
from genic.experiments import publish, rd_curves
from genic.experiments.rd_curves import KEPT
from genic.lightning_modules.codec.errors import DataError
from tests.conformance.subjects import needs_kodak
from tests.helpers import photograph


def _image(name: str, **changes: object) -> ImageResult:
    figures = dict(psnr_rgb=30.123456789, ssim=0.9, ms_ssim=0.95, ms_ssim_db=13.0, lpips_alex=0.2)
    return ImageResult(**dict(name=name, bytes=500, bpp=0.3, ledger={"payload": 500}) | figures | changes)


def _kept(images: list[ImageResult], manifest: str, **changes: object) -> CodecResult:
    result = CodecResult("jpeg", "kodak", manifest, [Point(25.0, Means.of(images), images)])
    return dataclasses.replace(result, provenance=provenance(1, 1), **changes)


class TestPages:
    def test_they_say_what_the_results_say(self):
        """Else: python -m experiments.publish."""
        reference = find_reference()
        results, curves, published, anchor = rd_curves.gather(KEPT, "kodak", None, reference)
        found = publish.pages(results, [*curves, *published], anchor)
        assert {"README.md", "kodak.md", "classical.md"} <= {path.name for path in found}
        if reference is None:  # published curves that are not shipped, and are in this page alone
            del found[KEPT.parent / "kodak.md"]
        for path, text in found.items():
            assert path.read_text() == text, f"{path} is not what its results give"

    def test_an_unknown_section(self):
        results = [_kept([_image("a.png")], "0")]
        with pytest.raises(DataError, match="no section 'codecs'"):
            publish.section("codecs", results)
        assert publish.section("codec gdae", results).startswith("Not measured: ")
        assert "Kuznetsov and Singhal | – | – | – |" in publish.section("systems", results)

    def test_where_a_codec_loses(self):
        rate = np.array([0.1, 0.2, 0.5])
        ours = Curve("ours", {"psnr_rgb": np.stack([rate, [25, 28, 30]], 1)})
        rivals = [
            Curve("a", {"psnr_rgb": np.stack([rate, [24, 27, 31]], 1)}),
            Curve("b", {"psnr_rgb": np.stack([rate[1:], [29, 32]], 1)}),
        ]
        assert losses(ours, rivals[:1]) == "PSNR (RGB) at 0.5 bpp 30.0, a 31.0"
        assert losses(ours, rivals).endswith("; at 0.5 bpp 30.0, b 32.0")
        assert losses(ours, []) == "none is measured at its rates"
        assert losses(rivals[1], [ours]) == "nowhere at these rates"
        falling = Curve("ours", {"lpips_alex": np.array([[0.01, 0.4]])})
        rival = Curve("a", {"lpips_alex": np.array([[0.005, 0.3], [0.02, 0.2]])})
        assert "0.01 bpp 0.400, a 0.250" in losses(falling, [rival])
        row = overview([ours, falling], [["ours", "us"], ["falling", ""]], "by").splitlines()
        assert row[2] == "| ours | us | – | – | 25.0 / 26.8 / 28.5 / 30.0 |"
        assert row[3].endswith("| 0.400 at 0.010 | – | – |")


class TestLasting:
    def test_without_times_and_short(self):
        images = [_image("a.png", encode_seconds=0.5, decode_seconds=0.1), _image("b.png")]
        result = _kept(images, "0")
        point = dataclasses.replace(
            result.points[0], mean=dataclasses.replace(result.points[0].mean, kernel=0.5)
        )
        kept = dataclasses.replace(result, points=[point]).lasting()
        mean = kept.points[0].mean
        assert kept.points[0].images[0].psnr_rgb == 30.123457 and kept.points[0].images[0].bytes == 500
        assert (mean.encode_seconds, mean.kernel, mean.psnr_rgb) == (None, 0.5, 30.123457)
        text = kept.to_json()
        assert "seconds" not in text and len([line for line in text.splitlines() if '"name"' in line]) == 2
        assert CodecResult.from_json(text) == kept and curve_of(kept).pictures["psnr_rgb"].names == [
            "a.png",
            "b.png",
        ]

    def test_a_curve_grows_by_points(self):
        older, newer = (_kept([_image("a.png", bpp=bpp)], "0") for bpp in (0.3, 0.1))
        newer = dataclasses.replace(newer, points=[dataclasses.replace(newer.points[0], quality=5.0)])
        grown = newer.with_points_of(older)
        assert [point.quality for point in grown.points] == [5, 25] and grown.points[1] == older.points[0]
        again = dataclasses.replace(newer, points=[dataclasses.replace(newer.points[0], quality=25.0)])
        assert again.with_points_of(older) == again
        for change in ({"weights": "00"}, {"manifest": "1"}, {"provenance": None}, {"options": {"a": 1.0}}):
            assert newer.with_points_of(dataclasses.replace(older, **change)) == newer


class TestDrift:
    @pytest.fixture
    def items(self, tmp_path) -> list[ImageItem]:
        for k, name in enumerate("ab"):
            write_png(tmp_path / f"{name}.png", photograph(top=20 + k))
        return [ImageItem(f"{name}.png", str(tmp_path / f"{name}.png")) for name in "ab"]

    @pytest.mark.parametrize(
        ("change", "kept", "problem", "note"),
        [
            ({}, {}, None, None),
            ({"lpips_alex": 0.2015, "psnr_rgb": 30.11}, {}, None, None),
            ({"lpips_alex": None}, {}, None, None),
            ({"lpips_alex": 0.203}, {}, "jpeg at 25, a.png: lpips_alex 0.2030, kept 0.2000", None),
            ({"bytes": 501}, {}, "jpeg at 25, a.png: 501 bytes, kept 500", None),
            ({"bytes": 501}, {"numpy": "0.1"}, None, "(other version: numpy 0.1 → "),
            ({}, {"weights": "00"}, "weights or coding options are others", None),
        ],
    )  # fmt: skip
    def test_what_has_changed(self, items, monkeypatch, change, kept, problem, note):
        result = _kept([_image("a.png"), _image("b.png")], manifest_hash(items))
        result = dataclasses.replace(result, weights=kept.get("weights"))
        if "numpy" in kept:
            where = dataclasses.replace(provenance(1, 1), versions=versions() | kept)
            result = dataclasses.replace(result, provenance=where)
        measured = [_image("a.png", **change), _image("b.png")]
        monkeypatch.setattr(drift, "available", lambda *networks: list(networks))
        monkeypatch.setattr(drift, "measure_files", lambda tasks, *_, **__: measured[: len(tasks)])
        problems, notes = drift.drift([result], items, None)
        assert (len(problems), len(notes)) == (problem is not None, note is not None)
        assert problem is None or problem in problems[0]
        assert note is None or note in notes[0]
        assert machine() == result.provenance.machine

    def test_other_pictures_are_refused(self, items):
        with pytest.raises(DataError, match="other pictures"):
            drift.drift([_kept([_image("a.png")], "0")], items, None)

    @pytest.mark.conformance
    @pytest.mark.timeout(1800)
    @needs_kodak
    def test_the_kept_results_hold(self, capsys):
        assert rd_curves.main(["--check"]) == 0, capsys.readouterr().err


def test_a_sheet_shows_pixels_as_they_are():
    pictures = [photograph(32, 48, top) for top in (20, 60, 90)]
    page = np.array(sheet([("x", "y", picture) for picture in pictures], 2))
    assert page.shape == (2 * (32 + 2 * LINE) + GAP, 2 * 48 + GAP, 3)
    top = 32 + 2 * LINE + GAP + 2 * LINE
    assert np.array_equal(page[2 * LINE : 2 * LINE + 32, 48 + GAP :], pictures[1])
    assert np.array_equal(page[top:, :48], pictures[2]) and (page[top:, 48 + GAP :] == 255).all()
