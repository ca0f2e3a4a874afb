from __future__ import annotations

import csv
import functools
import http.server
import threading
from pathlib import Path

import pytest
from layouts import in_memory, plant
from sources import jpeg

from datasets_tools.errors import PictureError, SourceError
from datasets_tools.sources.base import Entries
from datasets_tools.sources.path_list import ListSource

PICTURES = {f"pictures/{name}.jpg": jpeg(8, 8, seed=k) for k, name in enumerate("abcdef")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of six pictures."""
    return plant(tmp_path, PICTURES)


def write(root: Path, text: str, name: str = "train.csv") -> str:
    (root / name).write_bytes(text.encode())
    return str(root / name)


def listed(entries: Entries) -> list[tuple[str, int]]:
    return [(entries.key(index), int(label)) for index, label in enumerate(entries.labels)]


def content(entries: Entries) -> list[object]:
    return [data for run in entries.runs(0, len(entries)) for _, data in run.read()]


def test_two_lists_make_train_and_val(root: Path) -> None:
    train = write(root, "pictures/b.jpg,dog\npictures/a.jpg,cat\npictures/c.jpg,dog\n")
    val = write(root, "pictures/d.jpg,cat\n", "val.csv")
    source = ListSource(train, val=val)
    assert list(source.class_names) == ["cat", "dog"]
    assert list(source.splits) == ["train", "val"]
    assert listed(source.splits["train"]) == [("pictures/b.jpg", 1), ("pictures/a.jpg", 0), ("pictures/c.jpg", 1)]
    assert listed(source.splits["val"]) == [("pictures/d.jpg", 0)]
    assert content(source.splits["train"]) == [PICTURES[f"pictures/{name}.jpg"] for name in "bac"]
    assert (source.notes, source.options, source.label_sets) == ((), {}, {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "pictures/a.jpg,x\npictures/b.jpg,y\n"),
        ("bom.csv", "\ufeffpictures/a.jpg,x\npictures/b.jpg,y\n"),
        ("windows.csv", "path,label\r\npictures/a.jpg,x\r\npictures/b.jpg,y\r\n"),
        ("no-end.csv", "filename,class\npictures/a.jpg,x\npictures/b.jpg,y"),
        ("turned.csv", "Label,Image\nx,pictures/a.jpg\ny,pictures/b.jpg\n"),
        ("more.csv", "id,file,width,label\n1,pictures/a.jpg,8,x\n2,pictures/b.jpg,8,y\n"),
        ("one-known.csv", "image,breed\npictures/a.jpg,x\npictures/b.jpg,y\n"),
        ("other-known.csv", "where,label\npictures/a.jpg,x\npictures/b.jpg,y\n"),
        ("tabs.tsv", "pictures/a.jpg\tx\npictures/b.jpg\ty\n"),
        ("tabs.txt", "path\tlabel\npictures/a.jpg\tx\npictures/b.jpg\ty\n"),
        ("semicolons.csv", "path;label\npictures/a.jpg;x\npictures/b.jpg;y\n"),
        ("spaces.txt", "pictures/a.jpg x\npictures/b.jpg  y\n"),
        ("quoted.csv", '"pictures/a.jpg", "x"\n"pictures/b.jpg", y \n'),
    ],
)
def test_columns_and_delimiters_are_recognised(root: Path, name: str, text: str) -> None:
    source = ListSource(write(root, text, name))
    assert listed(source.splits["train"]) == [("pictures/a.jpg", 0), ("pictures/b.jpg", 1)]
    assert list(source.class_names) == ["x", "y"]
    assert source.notes == (f"{root}/{name} has no val pictures: training needs both",)


def test_the_csv_module_writes_what_is_read(root: Path) -> None:
    odd = ['a "quoted" name.jpg', "a, comma.jpg", "tab\there.jpg", " ü 日本.jpg"]
    plant(root, {name: jpeg(8, 8) for name in odd[:3]} | {odd[3].strip(): jpeg(8, 8)})
    with (root / "odd.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((name, "a, b") for name in odd)])
    source = ListSource(str(root / "odd.csv"))
    assert [key for key, _ in listed(source.splits["train"])] == [name.strip() for name in odd]
    assert list(source.class_names) == ["a, b"]


@pytest.mark.parametrize("header", ["path,label,split\n", ""])
def test_a_column_may_say_the_split(root: Path, header: str) -> None:
    rows = "pictures/a.jpg,x,train\npictures/b.jpg,x,test\npictures/c.jpg,y,training\npictures/d.jpg,y,validation\n"
    source = ListSource(write(root, header + rows))
    assert list(source.splits) == ["train", "val", "test"]
    assert listed(source.splits["train"]) == [("pictures/a.jpg", 0), ("pictures/c.jpg", 1)]
    assert listed(source.splits["val"]) == [("pictures/d.jpg", 1)]
    assert listed(source.splits["test"]) == [("pictures/b.jpg", 0)]


def test_numbers_are_labels_as_they_stand(tmp_path: Path) -> None:
    """In the order of numbers, where names would put 10 before 2."""
    plant(tmp_path, {f"{k}.jpg": b"" for k in range(12)})
    numbers = [11, 2, 10, 0, 1, 3, 4, 5, 6, 7, 8, 9]
    source = ListSource(write(tmp_path, "".join(f"{k}.jpg,{label}\n" for k, label in enumerate(numbers))))
    assert source.splits["train"].labels.tolist() == numbers
    assert list(source.class_names) == [str(k) for k in range(12)]


def test_what_is_no_whole_number_is_a_name(root: Path) -> None:
    source = ListSource(write(root, "pictures/a.jpg,1.5\npictures/b.jpg,0.5\npictures/c.jpg,- 1\npictures/d.jpg,x7\n"))
    assert list(source.class_names) == ["- 1", "0.5", "1.5", "x7"]


def test_numbers_with_leading_zeros_are_numbers(root: Path) -> None:
    source = ListSource(write(root, "pictures/a.jpg,01\npictures/b.jpg,00\npictures/c.jpg,1\n"))
    assert list(source.class_names) == ["0", "1"]
    assert source.splits["train"].labels.tolist() == [1, 0, 1]


def test_paths_start_from_the_lists_folder_or_the_root_or_anywhere(root: Path, tmp_path: Path) -> None:
    (root / "lists").mkdir()
    relative = write(root, "a.jpg,x\nb.jpg,y\n", "lists/relative.csv")
    assert content(ListSource(relative, root=f"{root}/pictures").splits["train"])[0] == PICTURES["pictures/a.jpg"]
    url = in_memory(root)
    anywhere = f"../pictures/a.jpg,x\n{root}/pictures/b.jpg,x\n{url}/pictures/c.jpg,x\n"
    entries = ListSource(write(root, anywhere, "lists/anywhere.csv")).splits["train"]
    assert content(entries) == [PICTURES[f"pictures/{name}.jpg"] for name in "abc"]


def test_a_list_may_be_remote(root: Path) -> None:
    write(root, "path,label\npictures/a.jpg,x\npictures/b.jpg,y\n")
    entries = ListSource(f"{in_memory(root)}/train.csv").splits["train"]
    assert content(entries) == [PICTURES["pictures/a.jpg"], PICTURES["pictures/b.jpg"]]


def test_empty_lines_are_passed_over_and_counted(root: Path) -> None:
    source = ListSource(write(root, "\npictures/a.jpg,x\n \n\npictures/b.jpg,x\n\n"))
    assert listed(source.splits["train"]) == [("pictures/a.jpg", 0), ("pictures/b.jpg", 0)]
    assert source.notes[0] == f"{root}/train.csv: 4 empty lines are passed over, the first is line 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "train.csv: lists no pictures"),
        ("path,label\n", "train.csv: lists no pictures"),
        ("pictures/a.jpg,x\npictures/b.jpg\n", "line 2: has no path or label: 'pictures/b.jpg'"),
        ("pictures/a.jpg,x\npictures/b.jpg,\n", "line 2: has no path or label"),
        ("path,label,split\npictures/a.jpg,x\n", "line 2: has no path or label or split"),
        (
            "pictures/a.jpg,x\n\npictures/b.jpg,x\npictures/a.jpg,y\n",
            "line 4: pictures/a.jpg: is listed already, on line 1",
        ),
        (
            "pictures/a.jpg,x\npictures/z.jpg,x\npictures/b.jpg,x\nelsewhere/a.jpg,x\n",
            "line 2: pictures/z.jpg: no such file in {root}; 2 of 4 pictures are missing (also on line 4)",
        ),
        ("z.jpg,x\ny.jpg,x\nw.jpg,x\n", "3 of 3 pictures are missing (also on lines 2, 3)"),
        ("pictures,x\n", "line 1: pictures: no such file"),
        ("pictures/a.jpg,1\npictures/b.jpg,2\n", "numbers must be 0 to 1 without a gap; found 2 numbers from 1 to 2"),
        ("pictures/a.jpg,0\npictures/b.jpg,999999999\n", "numbers from 0 to 999999999, and no 1"),
        ("pictures/a.jpg,0\npictures/b.jpg,99999999999\n", "numbers from 0 to 99999999999, and no 1"),
        ("pictures/a.jpg,0\npictures/b.jpg,999999999999999999\n", "without a gap; found 2 numbers"),
        (
            "pictures/a.jpg,0\npictures/b.jpg,-1\n",
            "line 2: label -1 is no class: numbers of classes count from 0, and -1 usually marks a picture without a "
            "label. Remove such rows",
        ),
        ("pictures/a.jpg,cat\npictures/b.jpg,-20\n", "line 2: label -20 is no class"),
        (
            "pictures/a.jpg,7\npictures/b.jpg,1.5\n",
            "some labels are whole numbers ('7'), others are names ('1.5')",
        ),
        (
            "pictures/a.jpg,0\npictures/b.jpg," + "9" * 5000,
            "some labels are whole numbers ('0'), others are names ('9999",
        ),
        ("name,breed\npictures/a.jpg,x\n", "line 1: name: no such file"),
        ("path,breed,size\npictures/a.jpg,x,1\n", "line 1: the header has the columns path, breed, size; which are"),
        ('"pictures/a.jpg\n",x\n', "line 2: 'pictures/a.jpg\\n' is empty or holds a line break"),
        ('"pictures/a\nb.jpg",x\n', "line 2: 'pictures/a\\nb.jpg' is empty or holds a line break"),
        ('pictures/a.jpg,"x\ny"\n', "line 2: 'x\\ny' is empty or holds a line break"),
        ('pictures/a.jpg,"x\n', "line 1: unexpected end of data"),
        ("pictures/a.jpg,x,train\npictures/b.jpg,x,../val\n", "line 2: '../val' is no name of a split"),
        ("a" * 70_000, "has a line of more than 65,536 characters"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(root: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        ListSource(write(root, text))
    assert message.format(root=root) in str(caught.value)
    assert str(caught.value).startswith(f"{root}/train.csv")


def test_a_class_that_train_lacks_is_named_with_its_line(root: Path) -> None:
    train = write(root, "pictures/a.jpg,cat\n")
    val = write(root, "path,label\npictures/b.jpg,cat\npictures/c.jpg,emu\n", "val.csv")
    with pytest.raises(SourceError, match=r"val\.csv: line 3: pictures/c\.jpg: class emu is not a class of the train"):
        ListSource(train, val=val)


def test_a_split_column_and_a_second_list_are_one_too_many(root: Path) -> None:
    train = write(root, "path,label,split\npictures/a.jpg,cat,train\n")
    val = write(root, "pictures/b.jpg,cat\n", "val.csv")
    with pytest.raises(SourceError, match=r"train\.csv: has a column split, and .*val\.csv is given too"):
        ListSource(train, val=val)


def test_what_is_no_list_is_refused(root: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.jpg: is not UTF-8 text \(invalid start byte\)"):
        ListSource(f"{root}/pictures/a.jpg")
    with pytest.raises(SourceError, match=r"absent\.csv: cannot be read: No such file"):
        ListSource(f"{root}/absent.csv")
    with pytest.raises(SourceError, match=r"pictures: cannot be read: Is a directory"):
        ListSource(f"{root}/pictures")
    with pytest.raises(SourceError, match="has a line of more than 65,536 characters"):
        ListSource("/dev/zero")


def test_a_picture_that_is_a_link_to_nothing_is_one_bad_picture(root: Path) -> None:
    (root / "pictures/z.jpg").symlink_to(root / "absent.jpg")
    entries = ListSource(write(root, "pictures/a.jpg,x\npictures/z.jpg,x\n")).splits["train"]
    first, second = content(entries)
    assert first == PICTURES["pictures/a.jpg"]
    assert str(second) == "pictures/z.jpg: is a link to nothing"


def test_a_picture_that_a_web_server_lacks_is_one_bad_picture(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"one")

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep the requests out of the tests' output."""

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Silent, directory=str(tmp_path))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        (tmp_path / "list.csv").write_text(f"path,label\n{url}/absent.jpg,a\n{url}/1.jpg,a\n")
        (run,) = ListSource(str(tmp_path / "list.csv")).splits["train"].runs(0, 2)
        (_, error), second = run.read()
        server.shutdown()
    assert isinstance(error, PictureError)
    assert str(error) == f"{url}/absent.jpg: no such file"
    assert second == (f"{url}/1.jpg", b"one")
