from __future__ import annotations

import io

from rich.console import Console

from fastbot.display import Lines, Live, build_display

VALUES = {
    "epoch": 1.5, "loss": 0.25, "top1": 0.875, "learning_rate": 0.1, "images_per_s": 1234.0, "data_wait_fraction": 0.02,
}  # fmt: skip


def test_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    display = build_display(Console(file=out), 0, 100)
    assert type(display) is Lines
    with display:
        display.train(50, VALUES)
        display.evaluation(50, {"top1": 0.9, "top5": 1.0, "loss": 0.5})
    lines = out.getvalue().splitlines()
    assert lines[0].startswith(
        "step 50/100  epoch 1.50  loss 0.250  top-1 87.5%  lr 0.1000  1,234 images/s  data wait 2%  left 0:0"
    )
    assert lines[1] == "step 50: val top-1 90.00%, top-5 100.00%, loss 0.500"


def test_a_live_bar_in_a_terminal() -> None:
    out = io.StringIO()
    display = build_display(Console(file=out, force_terminal=True, width=160), 0, 100)
    assert type(display) is Live
    with display:
        display.train(50, VALUES)
        display.evaluation(50, {"top1": 0.9, "top5": 1.0, "loss": 0.5})
    assert "val top-1 90.00%" in out.getvalue()
    assert "1,234 images/s" in out.getvalue()
