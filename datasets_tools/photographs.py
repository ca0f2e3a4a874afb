"""Real photographs that are already on the machine: scikit-image's, scikit-learn's, and Debian's wallpapers.

They are read straight from the installed packages' folders, without importing those packages and without their
download caches. Nothing here fetches, copies or commits a picture.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_tools.errors import SourceError

Loader = Callable[[], NDArray[np.uint8]]

_SKIMAGE = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
    *("gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png"),
    *("retina.jpg", "rocket.jpg"),
)
_SKLEARN = ("china.jpg", "flower.jpg")

_WALLPAPER_FOLDER = Path("/usr/share/backgrounds/mate")
# Every nature photograph of mate-backgrounds (1,280 to 2,560 px wide), and the one scan that is larger than those;
# the package's other pictures are drawings.
_WALLPAPERS = ("nature/*.jpg", "abstract/Elephants_5640x3172.jpg")


def photographs() -> Mapping[str, Loader]:
    """List the photographs that install with scikit-image and scikit-learn.

    Returns:
        By name (the file's stem, for example `astronaut`), sorted: a function that returns what `load(name)` returns.

    Raises:
        SourceError: one of the two packages, or one of its pictures, is not installed.
    """
    return _loaders(_packaged_paths())


def wallpapers() -> Mapping[str, Loader]:
    """List the large photographs of Debian's package mate-backgrounds.

    Returns:
        By name (for example `LadyBird`), sorted, as `photographs` does; empty where the package is not installed.
    """
    return _loaders(_wallpaper_paths())


@functools.cache
def load(name: str) -> NDArray[np.uint8]:
    """Decode a photograph, once per process.

    Args:
        name: a key of `photographs()` or `wallpapers()`.

    Returns:
        Read-only uint8 (H, W, 3), RGB; a grey photograph has three equal channels.

    Raises:
        SourceError: no such photograph, or its package is not installed.
    """
    with Image.open(_path(name)) as image:
        pixels = np.asarray(image.convert("RGB"))
    pixels.flags.writeable = False
    return pixels


@functools.cache
def shape(name: str) -> tuple[int, int]:
    """Return a photograph's height and width in pixels, from its header alone.

    Args:
        name: a key of `photographs()` or `wallpapers()`.

    Raises:
        SourceError: no such photograph, or its package is not installed.
    """
    with Image.open(_path(name)) as image:
        return image.height, image.width


@functools.cache
def is_grey(name: str) -> bool:
    """Tell whether a photograph's file has one channel only.

    Args:
        name: a key of `photographs()` or `wallpapers()`.

    Raises:
        SourceError: no such photograph, or its package is not installed.
    """
    with Image.open(_path(name)) as image:
        return image.mode == "L"


def cut(name: str, window: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    """Cut a window out of a photograph and shrink it; no pixel outside the window is read.

    Args:
        name: a key of `photographs()` or `wallpapers()`.
        window: top, left, height, width in pixels, inside the photograph.
        size: height and width of the result in pixels, at most those of the window.

    Returns:
        An RGB picture (antialiased Lanczos; the very pixels where size and window agree).
    """
    top, left, height, width = window
    assert max(size[0] - height, size[1] - width) <= 0, f"{size} would enlarge the window {window} of {name}"
    # Cropped before it is resized: Pillow's resize(box=...) lets the filter read pixels around the box.
    picture = Image.fromarray(load(name)[top : top + height, left : left + width])
    return picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)


def _loaders(paths: Mapping[str, Path]) -> Mapping[str, Loader]:
    return MappingProxyType({name: functools.partial(load, name) for name in sorted(paths)})


def _path(name: str) -> Path:
    packaged = _packaged_paths()
    path = packaged.get(name) or _wallpaper_paths().get(name)
    if path is None:
        known = ", ".join(sorted(packaged))
        raise SourceError(
            f"no photograph is called {name}: there are {known}, and those of Debian's package mate-backgrounds "
            "(apt-get install mate-backgrounds)"
        )
    return path


@functools.cache
def _packaged_paths() -> Mapping[str, Path]:
    skimage, sklearn = _package_folder("skimage", "scikit-image"), _package_folder("sklearn", "scikit-learn")
    paths = [skimage / "data" / file for file in _SKIMAGE] + [sklearn / "datasets/images" / file for file in _SKLEARN]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise SourceError(
            f"{', '.join(missing)}: not there, though every release of that package ships it. "
            "Install it again: pip install --force-reinstall scikit-image scikit-learn"
        )
    return {path.stem: path for path in paths}


def _package_folder(module: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"the demo's photographs come with {distribution}, which is not installed: pip install {distribution}"
        )
    return Path(spec.submodule_search_locations[0])


@functools.cache
def _wallpaper_paths() -> Mapping[str, Path]:
    return {path.stem: path for pattern in _WALLPAPERS for path in _WALLPAPER_FOLDER.glob(pattern)}
