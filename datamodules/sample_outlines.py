"""Outlines drawn by hand around what label maps of the bundled photographs mark: coarse, in pixels.

Faces and text for t_a; objects, with their PASCAL VOC classes, for t_s.
"""

from __future__ import annotations

CAT, MOTORBIKE, PERSON = 8, 14, 15
Outline = tuple[tuple[int, int], ...]


def _polygon(points: str) -> Outline:
    return tuple((int(x), int(y)) for x, y in (point.split(",") for point in points.split()))


def _box(left: int, top: int, right: int, bottom: int) -> Outline:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


SEMANTIC: dict[str, tuple[int, Outline]] = {
    "skimage/astronaut.png": (
        PERSON,
        _polygon(
            "156,62 172,31 234,12 286,36 304,83 291,120 273,135 265,156 304,208 349,260 362,343 312,364 "
            "279,437 279,511 26,511 31,416 23,343 47,255 109,203 123,156 182,146 172,114"
        ),
    ),
    "skimage/camera.png": (
        PERSON,
        _polygon(
            "0,291 10,229 62,156 135,112 161,109 172,73 208,62 255,78 273,125 250,156 245,192 291,208 "
            "312,177 331,192 323,224 281,302 208,302 156,390 146,437 151,511 0,511"
        ),
    ),
    "skimage/chelsea.png": (
        CAT,
        _polygon("0,299 0,140 35,100 40,25 50,0 400,0 360,70 345,160 320,215 330,299"),
    ),
    "skimage/motorcycle_left.png": (
        MOTORBIKE,
        _polygon(
            "94,198 140,151 156,146 260,182 354,187 437,156 468,114 494,78 562,114 577,135 541,187 "
            "551,250 640,302 682,406 666,447 624,447 541,375 510,312 458,364 343,380 333,432 323,380 "
            "271,364 239,395 177,401 125,343 125,281 156,245 109,234"
        ),
    ),
    "skimage/motorcycle_right.png": (
        MOTORBIKE,
        _polygon(
            "45,198 91,151 107,146 211,182 305,187 388,156 419,114 445,78 513,114 528,135 492,187 "
            "502,250 591,302 633,406 617,447 575,447 492,375 461,312 409,364 294,380 284,432 274,380 "
            "222,364 190,395 128,401 76,343 76,281 107,245 60,234"
        ),
    ),
}
DETAIL: dict[str, tuple[Outline, ...]] = {
    "skimage/astronaut.png": (
        _box(177, 73, 278, 190),
        _box(133, 346, 210, 424),
        _box(277, 338, 330, 376),
    ),
    "skimage/camera.png": (_box(180, 99, 262, 198),),
    "skimage/motorcycle_left.png": (
        _box(398, 188, 450, 213),
        _box(353, 322, 402, 355),
        _box(400, 54, 416, 92),
        _box(396, 108, 436, 127),
    ),
    "skimage/motorcycle_right.png": (
        _box(348, 188, 401, 213),
        _box(313, 322, 362, 355),
        _box(382, 54, 398, 92),
        _box(378, 108, 418, 127),
    ),
}
