from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from datasets_tools.inspection import sweep as sweep_module
from datasets_tools.inspection.sweep import Piece, Sweep, map_pieces
from datasets_tools.store.index import RECORD


def places(*ranges: tuple[int, int]) -> np.ndarray:
    records = np.zeros(len(ranges), dtype=RECORD)
    records["offset"] = [offset for offset, _ in ranges]
    records["size"] = [size for _, size in ranges]
    return records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(np.random.default_rng(0).bytes(1000))
    return tmp_path / "file"


@pytest.mark.parametrize("piece_bytes", [1, 64, 100, 4096])
@pytest.mark.parametrize(
    "ranges",
    [
        [],
        [(0, 1000)],
        [(500, 100), (100, 50), (700, 300), (150, 1)],
        [(0, 300), (100, 50), (120, 200), (120, 200), (999, 1)],  # as a damaged index may say
    ],
)
def test_every_byte_is_hashed_once_and_every_sample_is_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int, ranges: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(sweep_module, "PIECE_BYTES", piece_bytes)
    content = path.read_bytes()
    sweep = Sweep(path, places(*ranges), np.arange(len(ranges)))
    found = {}
    for piece in sweep:
        longest = max([piece_bytes, *piece.sizes])
        assert len(piece.data) <= longest
        found.update({sample_id: bytes(data) for sample_id, data in piece.samples()})
    assert found == {k: content[offset : offset + size] for k, (offset, size) in enumerate(ranges)}
    assert (sweep.num_bytes, sweep.sha256) == (1000, hashlib.sha256(content).hexdigest())


def test_only_the_asked_samples_are_cut_out(path: Path) -> None:
    pieces = list(Sweep(path, places((0, 10), (20, 10), (40, 10)), np.array([2, 0])))
    assert [piece.ids for piece in pieces if piece.ids] == [[0, 2]]


def test_a_file_that_ends_inside_a_sample_is_an_error(path: Path) -> None:
    with pytest.raises(OSError, match="ends at 1,000, inside a sample"):
        list(Sweep(path, places((900, 200)), np.arange(1)))


def test_results_come_in_order_and_few_pieces_wait() -> None:
    """The source is never more than three pieces for each thread ahead of what was taken."""
    made = 0
    taken = 0
    release = threading.Event()

    def pieces():
        nonlocal made
        for k in range(50):
            made += 1
            assert made - taken <= 3 * 2 + 1
            if made == 5:
                release.set()
            yield Piece(b"", [k], [0], [0])

    def work(piece: Piece) -> int:
        release.wait(10)
        return piece.ids[0]

    for result in map_pieces(pieces(), work, 2):
        assert result == taken
        taken += 1
    assert taken == 50
