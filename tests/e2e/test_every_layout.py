"""The same photographs, in every form they may come in, become the same store, sample for sample."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import layouts
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets_tools.store import Store
from fastbot.cli import main

Picture = tuple[str, str, int, bytes]  # split, key, label, content


def convert(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["convert", *map(str, arguments), "--workers", "1"])
    assert stopped.value.code == 0


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures in class folders: the form that every library reads."""
    return layouts.extracted(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def expected(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("expected") / "store"
    convert("folder", tree, store)
    return store


def pictures(tree: Path) -> Iterator[Picture]:
    for split in ("train", "val"):
        for label, wnid in enumerate(layouts.WNIDS):
            for path in sorted((tree / split / wnid).iterdir()):
                yield split, f"{wnid}/{path.name}", label, path.read_bytes()


def parquet(tree: Path, root: Path) -> Path:
    """Two files for train, one for validation, as `datasets` writes them to the hub."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(layouts.WNIDS), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    root.mkdir(parents=True, exist_ok=True)
    for name, split, part in (
        ("train-00000-of-00002", "train", slice(0, 5)),
        ("train-00001-of-00002", "train", slice(5, None)),
        ("validation-00000-of-00001", "val", slice(None)),
    ):
        rows = [row for row in pictures(tree) if row[0] == split][part]
        images = [{"bytes": data, "path": key} for _, key, _, data in rows]
        table = pa.table(
            {
                "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                "label": pa.array([label for _, _, label, _ in rows], pa.int64()),
            }
        )
        pq.write_table(table.replace_schema_metadata(metadata), root / f"{name}.parquet", row_group_size=3)
    return root


def webdataset(tree: Path, root: Path) -> Path:
    """Shards of KEY.jpg and KEY.cls."""
    root.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        rows = [row for row in pictures(tree) if row[0] == split]
        for shard, first in enumerate(range(0, len(rows), 7)):
            with tarfile.open(root / f"{split}-{shard:06d}.tar", "w") as archive:
                for number, (_, _, label, data) in enumerate(rows[first : first + 7], first):
                    for suffix, content in (("cls", str(label).encode()), ("jpg", data)):
                        member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
    return root


def path_list(tree: Path, root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "all.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        rows.writerows((tree / split / key, layouts.WNIDS[label], split) for split, key, label, _ in pictures(tree))
    return root / "all.csv"


@pytest.mark.parametrize(
    "make", [layouts.original, layouts.extracted, layouts.flat_val, layouts.class_tars, layouts.kaggle]
)
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_every_form_of_imagenet_gives_the_same_files(
    make: Callable[[Path], Path], remote: bool, expected: Path, tmp_path: Path
) -> None:
    root = make(tmp_path / "in")
    convert("imagenet", layouts.in_memory(root) if remote else root, tmp_path / "store", "--partial")
    for name in ("train.beton", "train.index", "val.beton", "val.index"):
        assert (tmp_path / "store" / name).read_bytes() == (expected / name).read_bytes()
    assert Store(tmp_path / "store").class_names[0] == "n01440764 tench"


@pytest.mark.parametrize(("layout", "make"), [("parquet", parquet), ("webdataset", webdataset), ("list", path_list)])
def test_every_other_form_gives_the_same_samples(
    layout: str, make: Callable[[Path, Path], Path], tree: Path, expected: Path, tmp_path: Path
) -> None:
    convert(layout, make(tree, tmp_path / "in"), tmp_path / "store")
    assert_same_samples(tmp_path / "store", expected)


def test_torchvisions_data_sets_give_the_same_samples(tmp_path: Path) -> None:
    """Imagenette: the only one of them whose files are also class folders of ImageNet's kind."""
    names = ("n01440764", "n03888257")
    rows = list(layouts.train_pictures()[layouts.WNIDS[2]].items())
    files = {
        f"imagenette2/{split}/{wnid}/{wnid}_{k}.JPEG": rows[(k + place) % 4][1]
        for place, wnid in enumerate(names)
        for split, numbers in (("train", range(3)), ("val", range(3, 4)))
        for k in numbers
    }
    layouts.plant(tmp_path / "in", files)
    convert("torchvision:imagenette", tmp_path / "in", tmp_path / "torchvision")
    convert("folder", tmp_path / "in" / "imagenette2", tmp_path / "folder")
    assert_same_samples(tmp_path / "torchvision", tmp_path / "folder")


def assert_same_samples(found: Path, expected: Path) -> None:
    ours, theirs = Store(found), Store(expected)
    assert ours.splits.keys() == theirs.splits.keys()
    for name, split in ours.splits.items():
        other = theirs.split(name)
        assert split.labels.tolist() == other.labels.tolist()
        assert [split.encoded(k).tobytes() for k in range(len(split))] == [
            other.encoded(k).tobytes() for k in range(len(other))
        ]
        assert split.record.counts == other.record.counts
