from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from stores import StoredPicture, flip_bytes, write_store

from datasets_tools.conversion.shards import Shard, ShardWriter, remove_traces
from datasets_tools.errors import ConversionError, DamagedSampleError, StoreError
from datasets_tools.exchange.subset import Selection, chosen, subset
from datasets_tools.jpeg import Subsampling
from datasets_tools.pictures import Picture
from datasets_tools.store import Split, Store
from datasets_tools.store.index import Flag, SampleInfo, StoredFormat
from datasets_tools.store.manifest import Counts

CLASSES = ("n00000001 cat, house cat", "n00000002 dog", "n00000003 fox")


def pictures(counts: Sequence[int], prefix: str = "") -> list[StoredPicture]:
    """So many of each class, every one with bytes of its own; no JPEG: a subset must not look inside."""
    return [
        StoredPicture(
            f"{prefix}{label}/{k}.jpg", f"picture {prefix}{label} {k}".encode() * (k + 1), 10 + k, 20 + label, label
        )
        for label, count in enumerate(counts)
        for k in range(count)
    ]


def cut(source: Path, destination: Path, **selection: object) -> Store:
    subset(source, destination, Selection(**selection), "0", lambda split, done, total: None)  # type: ignore[arg-type]
    return Store(destination)


def keys(split: Split) -> list[str]:
    return [split.key(sample_id) for sample_id in range(len(split))]


@pytest.fixture
def source(tmp_path: Path) -> Store:
    splits = {"train": pictures((20, 11, 1)), "val": pictures((3, 2, 2), "v")}
    real = {"val": {"real": [[0], [0, 1], [], [2], [1, 2], [2, 0], [1]]}}
    return write_store(tmp_path / "source", splits, CLASSES, num_shards=3, label_sets=real)


def test_samples_are_those_of_the_source_byte_for_byte(source: Store, tmp_path: Path) -> None:
    made = cut(source.path, tmp_path / "made", classes=["fox", "n00000001"])
    assert made.class_names == (CLASSES[0], CLASSES[2])
    assert keys(made.split("train")) == [f"0/{k}.jpg" for k in range(20)] + ["2/0.jpg"]
    for name, split in made.splits.items():
        origin = source.split(name)
        ids = {key: sample_id for sample_id, key in enumerate(keys(origin))}
        for sample_id, key in enumerate(keys(split)):
            same = ids[key]
            assert split.encoded(sample_id).tobytes() == origin.encoded(same).tobytes()
            assert split.info(sample_id) == origin.info(same)
            assert (split.heights[sample_id], split.widths[sample_id]) == (origin.heights[same], origin.widths[same])
            assert made.class_names[split.labels[sample_id]] == source.class_names[origin.labels[same]]


def test_label_sets_follow_the_classes(source: Store, tmp_path: Path) -> None:
    made = cut(source.path, tmp_path / "made", classes=["0", "2"])
    assert keys(made.split("val")) == ["v0/0.jpg", "v0/1.jpg", "v0/2.jpg", "v2/0.jpg", "v2/1.jpg"]
    assert made.split("val").label_lists("real") == ((0,), (0,), (), (1, 0), ())


def test_a_share_is_taken_of_every_class_of_train(source: Store, tmp_path: Path) -> None:
    made = cut(source.path, tmp_path / "made", fraction=0.3)
    assert made.split("train").record.class_counts == (6, 3, 1)
    assert made.split("val").record.class_counts == (3, 2, 2)
    both = cut(source.path, tmp_path / "both", fraction=0.3, thinned=("train", "val"))
    assert both.split("val").record.class_counts == (1, 1, 1)


def test_without_train_every_kept_split_is_thinned(source: Store, tmp_path: Path) -> None:
    made = cut(source.path, tmp_path / "made", splits=["val"], per_class=1)
    assert made.split("val").record.class_counts == (1, 1, 1)
    assert made.manifest.source.options["thinned"] == "val"
    trainless = write_store(tmp_path / "trainless", {"a": pictures((4, 4)), "b": pictures((6, 2))}, ("cat", "dog"))
    made = cut(trainless.path, tmp_path / "halves", fraction=0.5)
    assert [split.record.class_counts for split in made.splits.values()] == [(2, 2), (3, 1)]


def test_thinning_that_would_thin_nothing_is_refused(source: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="train is to be thinned, but of it nothing is kept"):
        cut(source.path, tmp_path / "made", splits=["val"], thinned=["train"], fraction=0.5)
    assert "thinned" not in cut(source.path, tmp_path / "whole", splits=["val"]).manifest.source.options


def test_a_number_is_taken_of_every_class(source: Store, tmp_path: Path) -> None:
    made = cut(source.path, tmp_path / "made", per_class=5, splits=["train"])
    assert made.split("train").record.class_counts == (5, 5, 1)
    assert list(made.splits) == ["train"]


def test_the_choice_depends_on_seed_class_and_keys_alone(source: Store, tmp_path: Path) -> None:
    """Neither order, shards, nor what other classes there are."""
    backwards = [
        StoredPicture(picture.key, picture.data, picture.height, picture.width, 1 - picture.label)
        for picture in reversed(pictures((20, 11)))
    ]
    other = write_store(tmp_path / "other", {"train": backwards}, (CLASSES[1], CLASSES[0]))
    taken = [
        set(
            keys(
                cut(
                    store.path, tmp_path / f"{store.path.name} {seed}", classes=["cat", "dog"], fraction=0.4, seed=seed
                ).split("train")
            )
        )
        for store in (source, other)
        for seed in (0, 1)
    ]
    assert taken[0] == taken[2]
    assert taken[1] == taken[3]
    assert taken[0] != taken[1]


def test_a_smaller_share_lies_inside_a_larger_one(source: Store, tmp_path: Path) -> None:
    shares = [cut(source.path, tmp_path / f"{share}", fraction=share).split("train") for share in (0.1, 0.5, 1.0)]
    tenth, half, whole = (set(keys(split)) for split in shares)
    assert tenth < half < whole


def test_choices_are_uniform(tmp_path: Path) -> None:
    """Over many seeds every picture is taken about as often: a binomial's 5 standard deviations."""
    store = write_store(tmp_path / "source", {"train": pictures((10,))}, ("only",))
    taken = np.zeros(10)
    for seed in range(100):
        taken[chosen(store.split("train"), ("only",), (0,), Selection(per_class=3, seed=seed))] += 1
    assert taken.sum() == 300
    assert np.abs(taken - 30).max() < 5 * np.sqrt(100 * 0.3 * 0.7)


def test_a_number_of_classes_is_drawn_by_the_seed(tmp_path: Path) -> None:
    names = [f"class {label}" for label in range(12)]
    store = write_store(tmp_path / "source", {"train": pictures([1] * 12)}, names)
    drawn = [cut(store.path, tmp_path / f"{seed}", num_classes=5, seed=seed).class_names for seed in range(4)]
    assert len(set(drawn)) > 1
    for classes in drawn:
        assert list(classes) == [name for name in names if name in classes]
    with pytest.raises(StoreError, match="has 12 classes, fewer than the 13 asked for"):
        cut(store.path, tmp_path / "more", num_classes=13)


def test_the_manifest_says_what_was_asked_and_of_what(source: Store, tmp_path: Path) -> None:
    made = cut(source.path, tmp_path / "made", classes=["cat"], fraction=0.5, seed=7).manifest
    assert made.source.name == "subset"
    assert made.source.options == {
        "fraction": 0.5,
        "seed": 7,
        "splits": "train,val",
        "thinned": "train",
        "source": "test",
        "manifest_sha256": hashlib.sha256((source.path / "manifest.json").read_bytes()).hexdigest(),
    }
    again = cut(tmp_path / "made", tmp_path / "again", per_class=2).manifest
    assert again.source.options["source"] == "subset"
    assert again.source.options["source.fraction"] == 0.5


def test_equal_requests_give_equal_files(source: Store, tmp_path: Path) -> None:
    for name in ("one", "two"):
        cut(source.path, tmp_path / name, fraction=0.5)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert set(files) == {"manifest.json", "train.beton", "train.index", "val.beton", "val.index", "val.real.json"}


def flagged_store(folder: Path, flags: Sequence[Flag], origins: Mapping[str, int]) -> Store:
    """A store whose samples carry these flags; resized ones are raw."""
    folder.mkdir()
    data = b"123456789"
    shard = Shard("train", "train", 0, len(flags))
    writer = ShardWriter(folder, shard, np.zeros(len(flags), np.int64))
    for place, flag in enumerate(flags):
        stored_format = StoredFormat.RAW if Flag.RESIZED in flag else StoredFormat.JPEG
        info = SampleInfo(f"{place}", zlib.crc32(data), 3, Subsampling.S444, 0, 0, flag, stored_format)
        writer.append(Picture(data, 1, 3, info, "x" if Flag.REENCODED in flag else None))
    result = writer.finish()
    remove_traces(folder, [shard])
    template = write_store(folder.with_name(f"{folder.name}-template"), {"train": pictures((1,))}).manifest
    record = template.splits["train"].model_copy(
        update={
            "shards": (result.record,),
            "num_samples": len(flags),
            "class_counts": (len(flags),),
            "max_height": 1,
            "max_width": 3,
            "max_bytes": 9,
            "mean_bytes": 9.0,
            "counts": result.counts.model_copy(update={"reencoded": dict(origins)}),
        }
    )
    template.model_copy(update={"splits": {"train": record}}).save(folder)
    return Store(folder)


FLAGS = (
    [Flag(0)] * 4
    + [Flag.PROGRESSIVE] * 4
    + [Flag.TRANSCODED] * 4
    + [Flag.REENCODED] * 4
    + [Flag.REENCODED | Flag.RESIZED] * 4
    + [Flag.REENCODED | Flag.ROTATED | Flag.REPAIRED] * 4
)


def test_counts_are_those_of_the_flags(tmp_path: Path) -> None:
    """Re-encoded pictures keep their origin where the source had one only; it is unknown where it had several."""
    for name, origins, expected in (("one", {"png": 12}, "png"), ("two", {"png": 4, "jpeg": 8}, "unknown")):
        source = flagged_store(tmp_path / name, FLAGS, origins)
        made = cut(source.path, tmp_path / f"{name} part", fraction=0.5).split("train")
        kept = [FLAGS[int(key)] for key in keys(made)]
        assert made.record.counts == Counts(
            kept=kept.count(Flag(0)) + kept.count(Flag.PROGRESSIVE),
            transcoded=kept.count(Flag.TRANSCODED),
            reencoded={expected: sum(Flag.REENCODED in flags for flags in kept)},
            resized=kept.count(Flag.REENCODED | Flag.RESIZED),
            rotated=sum(Flag.ROTATED in flags for flags in kept),
            raw=kept.count(Flag.REENCODED | Flag.RESIZED),
            repaired=sum(Flag.REPAIRED in flags for flags in kept),
        )
        whole = cut(source.path, tmp_path / f"{name} whole", fraction=1.0).split("train")
        assert whole.record.counts == source.split("train").record.counts


@pytest.mark.parametrize(
    ("selection", "error", "message"),
    [
        ({"classes": ["car"]}, StoreError, "'car' is not a class"),
        ({"classes": []}, StoreError, "no class is named"),
        ({"splits": ["test"]}, StoreError, "no split 'test'; it has train, val"),
        ({"fraction": 0.5, "thinned": ["test"]}, StoreError, "no split 'test'"),
    ],
)
def test_what_is_not_there_is_named(
    source: Store, tmp_path: Path, selection: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cut(source.path, tmp_path / "made", **selection)
    assert not (tmp_path / "made").exists()


def test_a_split_without_a_picture_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "source", {"train": pictures((2, 2)), "val": pictures((2, 0))}, ("cat", "dog"))
    with pytest.raises(ConversionError, match="split val has no picture of the classes to keep"):
        cut(store.path, tmp_path / "made", classes=["dog"])
    assert cut(store.path, tmp_path / "made", classes=["dog"], splits=["train"]).class_names == ("dog",)


def test_damage_in_the_source_stops_it_and_leaves_nothing(source: Store, tmp_path: Path) -> None:
    flip_bytes(source.split("train"), 5)
    with pytest.raises(DamagedSampleError, match="sample 5 .0/5.jpg. is damaged"):
        cut(source.path, tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
