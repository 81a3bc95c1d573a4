"""Calibration and evaluation images for networks of ImageNet's size, out of any pictures.

    python benchmarks/photographs.py FOLDER ... -o photographs

Six crops of each picture that is at least 256 pixels high and wide, at random places and scales,
256x256, in ``photographs/calib`` and, of every third picture, in ``photographs/test``; there are no
labels. Flat pictures (drawings, screenshots) and repeats are left out. The README's figures are of
237 pictures from Debian's packages opencv-doc, gnome-backgrounds, mate-backgrounds, lxqt-themes,
plasma-workspace-wallpapers, lomiri-wallpapers-16.04, lomiri-wallpapers-20.04 and sway-backgrounds
(dpkg -x PACKAGE FOLDER), and from scikit-image, ultralytics and scikit-learn (PyPI).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".webp", ".png")
SIDE = 256
CROPS = 6
# largest share of pixels that are like their neighbour, and least deviation of a thumbnail
FLAT, DULL = 0.5, 20
LEAST_BYTES = 60_000


def pictures(folders: tuple[Path, ...]) -> Iterator[Image.Image]:
    """Those that are worth it, no longer than 1,400 pixels."""
    seen = set()
    found = (path for folder in folders for path in folder.rglob("*"))
    for path in sorted(p for p in found if p.suffix.lower() in SUFFIXES and p.is_file()):
        if path.stat().st_size < LEAST_BYTES:
            continue
        try:
            with Image.open(path) as opened:
                opened.draft("RGB", (1600, 1600))
                image = opened.convert("RGB")
        except (OSError, Image.DecompressionBombError):
            continue
        image.thumbnail((1400, 1400))
        known = hashlib.sha1(np.asarray(image.resize((8, 8))).tobytes()).hexdigest()
        dull = np.asarray(image.resize((64, 64)), float).std() < DULL
        flat = (np.diff(np.asarray(image.convert("L"), int), axis=1) == 0).mean() > FLAT
        if min(image.size) < SIDE or known in seen or dull or flat:
            continue
        seen.add(known)
        yield image


def crop(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    side = max(224, int(min(image.size) * draw.uniform(0.45, 1)))
    left, top = (int(draw.integers(0, size - side + 1)) for size in image.size)
    box = (left, top, left + side, top + side)
    return image.crop(box).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("-o", "out", required=True, type=click.Path(path_type=Path))
def main(folders: tuple[Path, ...], out: Path) -> None:
    draw = np.random.default_rng(0)
    found = list(pictures(folders))
    for turn, number in enumerate(draw.permutation(len(found))):
        place = out / ("calib" if turn % 3 else "test") / "unlabelled"
        place.mkdir(parents=True, exist_ok=True)
        for count in range(CROPS):
            crop(found[number], draw).save(place / f"{number}_{count}.png")
    click.echo(f"{out}: {CROPS * len(found)} crops of {len(found)} pictures")


if __name__ == "__main__":
    main()
