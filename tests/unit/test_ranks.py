from __future__ import annotations

import pytest

from pipelines.errors import SpecError
from pipelines.ranks import check_rank, check_world_size, positions_of_rank


def test_one_row_is_for_one_rank() -> None:
    with pytest.raises(SpecError, match="evenly: it takes 1 rank;"):
        check_world_size(2, 1, 1)


def test_ranks_take_every_rth_position() -> None:
    assert positions_of_rank(3, rank=1, world_size=4).tolist() == [1, 5, 9]


@pytest.mark.parametrize(("rank", "world_size"), [(-1, 2), (2, 2), (0, 0)])
def test_rank_outside_the_world_is_refused(rank: int, world_size: int) -> None:
    with pytest.raises(SpecError, match=f"rank is {rank} of world_size {world_size}"):
        check_rank(rank, world_size)


def test_world_size_that_does_not_divide_lists_the_allowed_ones() -> None:
    with pytest.raises(SpecError, match=r"5 ranks cannot share out .* 12 evenly: it takes 1, 2, 3, 4, 6, 12 ranks"):
        check_world_size(5, 12, group=1)


def test_world_size_that_splits_a_mix_group_lists_the_allowed_ones() -> None:
    with pytest.raises(SpecError, match=r"256 in mix groups of 32 evenly: it takes 1, 2, 4, 8 ranks.*mix\.group"):
        check_world_size(16, 256, group=32)
    check_world_size(8, 256, group=32)
