"""The development kit's `meta.mat`: which class has which number in its ground truth.

Run as a program, it reads the file from its standard input and writes lines of `ILSVRC2012_ID WNID`. It does so because
scipy's reader crashes the process it runs in on some damaged files.
"""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

# The real one takes under a second, most of which is importing scipy.
_TIMEOUT_S = 120


def wnids_by_id(data: bytes) -> dict[int, str]:
    """Return WordNet ids by ILSVRC2012_ID, which is not the order of labels.

    Args:
        data: content of `meta.mat`.

    Raises:
        ValueError: it cannot be read as such; says why.

    Source: torchvision's `parse_devkit_archive`; as there, the synsets that have children are no classes.
    """
    # -P: modules beside this file must not hide others of their names.
    command = [sys.executable, "-P", __file__]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=_TIMEOUT_S, check=True)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"not read within {_TIMEOUT_S} s") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(said[-1] if error.returncode > 0 and said else "scipy's reader crashed") from error
    rows = (line.split() for line in done.stdout.decode().splitlines())
    return {int(number): wnid for number, wnid in rows}


def _main() -> None:
    import scipy.io  # here: the package's own process needs no scipy

    synsets: Any = scipy.io.loadmat(io.BytesIO(sys.stdin.buffer.read()), squeeze_me=True)["synsets"]
    for row in synsets:
        if int(row["num_children"]) == 0:
            print(int(row["ILSVRC2012_ID"]), str(row["WNID"]))


if __name__ == "__main__":
    _main()
