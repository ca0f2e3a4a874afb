"""Miniatures of the forms that ImageNet and tar shards come in: true names and nesting, few and small pictures.

The pictures are cut from the photographs that install with scikit-image; among them a PNG called .JPEG and a CMYK JPEG,
as ImageNet has them.
"""

from __future__ import annotations

import io
import itertools
import pickle
import tarfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import fsspec
import numpy as np
import scipy.io
from sources import encoded

from datasets_tools import photographs
from datasets_tools.sources.base import Entries

# Three classes; the second and third share the word crane.
WNIDS = ("n01440764", "n02012849", "n03126707")
# The development kit numbers classes in another order than the sorted WordNet ids.
DEVKIT_IDS = {"n01440764": 449, "n02012849": 7, "n03126707": 130}
VAL_WNIDS = tuple(WNIDS[k] for k in (2, 0, 1, 0, 2, 1))
_TRAIN_NUMBERS = (18, 239, 1009, 10026)
_PHOTOGRAPHS = ("chelsea", "coffee", "rocket")
_memory_folders = itertools.count()

Sample = tuple[str, int, bytes]


@cache
def train_pictures() -> Mapping[str, Mapping[str, bytes]]:
    """Content by class and file name, in the order of the original archives: by number."""
    by_class = {
        wnid: {f"{wnid}_{number}.JPEG": _picture(k, row) for row, number in enumerate(_TRAIN_NUMBERS)}
        for k, wnid in enumerate(WNIDS)
    }
    odd = photographs.cut("chelsea", (0, 0, 60, 80), (30, 40))
    by_class[WNIDS[0]][f"{WNIDS[0]}_239.JPEG"] = encoded(odd, "PNG")
    by_class[WNIDS[1]][f"{WNIDS[1]}_1009.JPEG"] = encoded(odd.convert("CMYK"))
    return by_class


@cache
def val_pictures() -> Mapping[str, bytes]:
    """Content by file name; the classes are `VAL_WNIDS`."""
    return {f"ILSVRC2012_val_{k + 1:08d}.JPEG": _picture(WNIDS.index(w), 10 + k) for k, w in enumerate(VAL_WNIDS)}


def _picture(photograph: int, row: int) -> bytes:
    window = (4 * row, 3 * row, 120, 160)
    return encoded(photographs.cut(_PHOTOGRAPHS[photograph], window, (24 + row, 32)), quality=85)


def plant(root: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files by their paths below `root`."""
    for name, data in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def tar(contents: Iterable[tuple[str, bytes]], kind: int = tarfile.GNU_FORMAT) -> bytes:
    """Pack files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, data in contents:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@cache
def devkit() -> bytes:
    """The development kit: `meta.mat` with a synset that is no class, and the ground truth by ILSVRC2012_ID."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    synsets = np.zeros((len(WNIDS) + 1, 1), dtype=[(name, object) for name in (*fields, "num_train_images")])
    rows = sorted((number, wnid) for wnid, number in DEVKIT_IDS.items())
    for k, (number, wnid) in enumerate(rows):
        synsets[k, 0] = (float(number), wnid, "some, words", "a gloss", 0.0, np.zeros(0), 0.0, 4.0)
    synsets[-1, 0] = (1001.0, "n00001740", "entity", "that which is", 3.0, np.array([7.0, 130.0, 449.0]), 2.0, 0.0)
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": synsets})
    truth = "".join(f"{DEVKIT_IDS[wnid]}\n" for wnid in VAL_WNIDS)
    folder = "ILSVRC2012_devkit_t12"
    contents = {
        f"{folder}/readme.txt": b"ImageNet Large Scale Visual Recognition Challenge 2012",
        f"{folder}/data/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
        f"{folder}/data/meta.mat": meta.getvalue(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(_directory(folder))
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _directory(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    return member


def original(root: Path) -> Path:
    """The original archives: a tar file of tar files, a flat tar file, the development kit."""
    classes = ((f"{wnid}.tar", tar(pictures.items())) for wnid, pictures in train_pictures().items())
    return plant(
        root,
        {
            "ILSVRC2012_img_train.tar": tar(classes),
            # The real one is not in the order of its names either.
            "ILSVRC2012_img_val.tar": tar(reversed(list(val_pictures().items()))),
            "ILSVRC2012_devkit_t12.tar.gz": devkit(),
        },
    )


def _train_files(folder: str) -> dict[str, bytes]:
    return {
        f"{folder}/{wnid}/{name}": data
        for wnid, pictures in train_pictures().items()
        for name, data in pictures.items()
    }


def extracted(root: Path) -> Path:
    """Class folders for both splits, as valprep.sh and torchvision make them."""
    val = {f"val/{wnid}/{name}": data for wnid, (name, data) in zip(VAL_WNIDS, val_pictures().items(), strict=True)}
    return plant(root, {**_train_files("train"), **val})


def flat_val(root: Path) -> Path:
    """Class folders for train, val as its archive has it, the development kit beside."""
    val = {f"val/{name}": data for name, data in val_pictures().items()}
    return plant(root, {**_train_files("train"), **val, "ILSVRC2012_devkit_t12.tar.gz": devkit()})


def class_tars(root: Path) -> Path:
    """The train archive unpacked once, so that the classes' tar files lie in a folder."""
    classes = {f"ILSVRC2012_img_train/{w}.tar": tar(pictures.items()) for w, pictures in train_pictures().items()}
    plant(root, {**classes, "ILSVRC2012_img_val.tar": tar(val_pictures().items())})
    with tarfile.open(fileobj=io.BytesIO(devkit())) as archive:
        archive.extractall(root, filter="data")
    return root


def kaggle(root: Path) -> Path:
    """Kaggle's ImageNet Object Localization Challenge, extracted."""
    data = "ILSVRC/Data/CLS-LOC"
    solution = ["ImageId,PredictionString"]
    for number in (4, 2, 6, 1, 3, 5):
        wnid = VAL_WNIDS[number - 1]
        solution.append(f"ILSVRC2012_val_{number:08d},{wnid} 111 108 230 200 {wnid} 1 2 3 4 ")
    mapping = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n"
    return plant(
        root,
        {
            **_train_files(f"{data}/train"),
            **{f"{data}/val/{name}": content for name, content in val_pictures().items()},
            f"{data}/test/ILSVRC2012_test_00000001.JPEG": val_pictures()["ILSVRC2012_val_00000001.JPEG"],
            "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml": b"<annotation></annotation>",
            "ILSVRC/ImageSets/CLS-LOC/val.txt": b"ILSVRC2012_val_00000001 1\n",
            "LOC_val_solution.csv": "\n".join(solution).encode() + b"\n",
            "LOC_synset_mapping.txt": mapping.encode(),
            "LOC_sample_submission.csv": b"ImageId,PredictionString\n",
        },
    )


def thousand(root: Path, wnids: Iterable[str]) -> Path:
    """A train archive with one picture in each class, and the validation pictures in class folders."""
    picture = _picture(0, 0)
    classes = ((f"{wnid}.tar", tar([(f"{wnid}_1.JPEG", picture)])) for wnid in wnids)
    val = {f"val/{wnid}/{name}": data for wnid, (name, data) in zip(VAL_WNIDS, val_pictures().items(), strict=True)}
    return plant(root, {"ILSVRC2012_img_train.tar": tar(classes), **val})


def in_memory(folder: Path) -> str:
    """Copy a folder to fsspec's memory file system and return its URL there."""
    url = f"memory://layouts-{next(_memory_folders)}"
    memory = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            memory.pipe(f"{url}/{path.relative_to(folder)}", path.read_bytes())
    return url


def samples(entries: Entries) -> list[Sample]:
    """Key, label and content of every picture, read by runs that were pickled as for a worker."""
    read = []
    for run in entries.runs(0, len(entries)):
        run = pickle.loads(pickle.dumps(run))
        found = list(run.read())
        assert len(found) == len(run)
        assert found[0][0] == run.first_key
        read.extend(found)
    assert [key for key, _ in read] == [entries.key(k) for k in range(len(entries))]
    contents = []
    for (key, data), label in zip(read, entries.labels.tolist(), strict=True):
        assert isinstance(data, bytes), data
        contents.append((key, label, data))
    return contents
