"""C programs beside the tests: built with the system's compiler into a folder of the run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

NATIVE = Path(__file__).parent / "native"
CODEC = Path(__file__).parents[1] / "datasets_tools" / "jpeg"


def build(name: str, folder: Path, *flags: str, with_codec: bool | Sequence[str] = False) -> Path:
    """Compile `tests/native/NAME.c`, against libjpeg and, if asked for, the codec's files that know no Python.

    Args:
        name: of the program.
        folder: where it is put.
        flags: for the compiler.
        with_codec: whether to compile all of those files in, or the names of those that it needs, without `.c`.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    sources = [NATIVE / f"{name}.c"]
    if with_codec is True:
        sources += sorted(file for file in CODEC.glob("*.c") if not file.name.startswith("binding"))
    elif with_codec:
        sources += [CODEC / f"{part}.c" for part in with_codec]
    program = folder / name
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", *flags, f"-I{CODEC}", *map(str, sources)]
    result = subprocess.run([*command, "-o", str(program), "-ljpeg", "-lm"], capture_output=True, text=True)
    if "jpeglib.h: No such file" in result.stderr:
        pytest.skip("no headers of libjpeg: apt-get install libjpeg-dev")
    assert result.returncode == 0, result.stderr
    return program
