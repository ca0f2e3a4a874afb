from __future__ import annotations

import io
import os
import pickle
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import in_memory, tar

from datasets_tools import files
from datasets_tools.errors import PictureError, SourceError
from datasets_tools.sources import tar as tar_module
from datasets_tools.sources.tar import Member, TarArchive
from datasets_tools.sources.tar_entries import TarEntries, TarRun


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def packed(*members: tarfile.TarInfo, kind: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)) if member.isreg() else None)
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def theirs(path: str) -> list[Member]:
    with tarfile.open(path) as archive:
        return [Member(found.name, found.offset_data, found.size) for found in archive if found.isreg()]


def changed(data: bytes, place: int, field: bytes) -> bytes:
    """Change a field of the first header, and its checksum with it."""
    header = bytearray(data[:512])
    header[place : place + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_tarfile(tmp_path: Path, kind: int) -> None:
    generator = random.Random(kind)
    deep = "/".join(["folder"] * 20)
    names = ["a.jpg", "b/c.jpg", "BZh.jpg", f"{deep}/long.jpg", "Ä/ö.jpg", "e" * 99 + "x", "dots..jpg"]
    if kind != tarfile.USTAR_FORMAT:
        names += ["n" * 150, f"{deep}/{'m' * 200}.jpg", "ü" * 90]
    sizes = [0, 1, 511, 512, 513, 5000]
    contents = [(name, generator.randbytes(generator.choice(sizes))) for name in names]
    path = written(tmp_path / "a.tar", tar(contents, kind))
    assert list(TarArchive(path)) == theirs(path)
    assert [TarArchive(path).read(found) for found in TarArchive(path)] == [data for _, data in contents]


def test_pax_records_and_folders_are_read_as_tarfile_reads_them(tmp_path: Path) -> None:
    dated = member("dated.jpg", size=700)
    dated.mtime = 1.5  # becomes a pax record
    commented = io.BytesIO()
    with tarfile.open(fileobj=commented, mode="w", pax_headers={"comment": "a" * 3000}) as archive:
        archive.addfile(member("folder", tarfile.DIRTYPE))
        archive.addfile(dated, io.BytesIO(bytes(700)))
        archive.addfile(member("last.jpg", size=3), io.BytesIO(b"abc"))
    path = written(tmp_path / "a.tar", commented.getvalue())
    assert list(TarArchive(path)) == theirs(path)
    assert TarArchive(path).notes == ()


def test_a_size_in_base_256_is_read(tmp_path: Path) -> None:
    data = changed(tar([("a.jpg", b"x" * 700), ("b.jpg", b"y")]), 124, b"\x80" + (700).to_bytes(11, "big"))
    path = written(tmp_path / "a.tar", data)
    assert list(TarArchive(path)) == theirs(path)


def test_old_archives_without_a_magic_are_read(tmp_path: Path) -> None:
    data = changed(changed(tar([("a.jpg", b"x" * 700)]), 156, b"\0"), 257, bytes(255))
    path = written(tmp_path / "a.tar", data)
    assert list(TarArchive(path)) == theirs(path) == [Member("a.jpg", 512, 700)]


def test_an_inner_archive_is_listed_and_read_where_it_lies(tmp_path: Path) -> None:
    inner = tar([("1.jpg", b"one"), ("2.jpg", b"two" * 400)])
    path = written(tmp_path / "outer.tar", tar([("x.tar", tar([("0.jpg", b"zero")])), ("y.tar", inner)]))
    outer = list(TarArchive(path))
    archive = TarArchive(path, outer[1])
    with tarfile.open(fileobj=io.BytesIO(inner)) as alone:
        start = outer[1].start
        assert list(archive) == [Member(m.name, start + m.offset_data, m.size) for m in alone.getmembers()]
    assert [archive.read(found) for found in archive] == [b"one", b"two" * 400]


def test_what_is_no_regular_file_is_passed_over_and_counted(tmp_path: Path) -> None:
    data = packed(
        member("a.jpg", size=5),
        member("hard.jpg", tarfile.LNKTYPE, link="a.jpg"),
        member("soft.jpg", tarfile.SYMTYPE, link="/etc/passwd"),
        member("up.jpg", tarfile.SYMTYPE, link="../../x"),
        member("tty", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
        member("b.jpg", size=600),
    )
    archive = TarArchive(path := written(tmp_path / "a.tar", data))
    assert [found.name for found in archive] == ["a.jpg", "b.jpg"]
    assert archive.notes == (
        f"{path}: 1 hard links are passed over",
        f"{path}: 2 symbolic links are passed over",
        f"{path}: 1 devices are passed over",
        f"{path}: 1 pipes are passed over",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"/etc/passwd", "is an absolute path: /etc/passwd"),
        (b"../../x.jpg", "leads out of the archive: ../../x.jpg"),
        (b"a/../../x.jpg", "leads out of the archive"),
        (b"..", "leads out of the archive"),
        (b".", "is no name of a file"),
        (b"", "is no name of a file"),
        (b"a\nb.jpg", r"holds a control character: 'a\nb.jpg'"),
        (b"\x1b[2J.jpg", r"holds a control character: '\x1b[2J.jpg'"),
        (b"\xff\xfe.jpg", r"is not UTF-8: b'\xff\xfe.jpg'"),
    ],
)
def test_a_hostile_name_refuses_the_archive(tmp_path: Path, name: bytes, message: str) -> None:
    path = written(tmp_path / "a.tar", changed(tar([("harmless.jpg", b"x")]), 0, name.ljust(100, b"\0")))
    with pytest.raises(SourceError) as caught:
        list(TarArchive(path))
    assert message in str(caught.value)
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_hostile_names_in_extended_headers_are_refused_too(tmp_path: Path, kind: int) -> None:
    path = written(tmp_path / "a.tar", tar([("a/" * 80 + "../x.jpg", b"x")], kind))
    with pytest.raises(SourceError, match="leads out of the archive"):
        list(TarArchive(path))
    path = written(tmp_path / "b.tar", tar([("a" * 5000, b"x")], kind))
    with pytest.raises(SourceError, match="is longer than 4,096 bytes"):
        list(TarArchive(path))


def _sparse(kind: int) -> bytes:
    info = member("a.jpg", tarfile.GNUTYPE_SPARSE if kind == tarfile.GNU_FORMAT else tarfile.REGTYPE)
    info.pax_headers = {"GNU.sparse.major": "1"} if kind == tarfile.PAX_FORMAT else {}
    return packed(info, kind=kind)


def _sized(text: bytes) -> bytes:
    return changed(tar([("a.jpg", b"x")]), 124, text)


def _pax(record: bytes) -> bytes:
    extension = tar([("PaxHeaders/a.jpg", record)], tarfile.USTAR_FORMAT)[:1024]
    return changed(extension, 156, tarfile.XHDTYPE) + tar([("a.jpg", b"x")])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _sized(b"\xff" * 12), "the archive is damaged"),
        (lambda: _sized(b"\x80" + b"\xff" * 11), "ends early: a.jpg has"),
        (lambda: _sized(b"77777777777\0"), "ends early: a.jpg has 8,589,934,591 bytes"),
        (lambda: _sized(b"-0000000001\0"), "is damaged"),
        (lambda: _sparse(tarfile.GNU_FORMAT), "a.jpg is stored as a sparse file"),
        (lambda: _sparse(tarfile.PAX_FORMAT), "a.jpg is stored as a sparse file"),
        (lambda: _pax(b"0 path=x\n"), "a pax header is damaged"),
        (lambda: _pax(b"999 path=x\n"), "a pax header is damaged"),
        (lambda: _pax(b"12 size=-12\n"), "a pax header is damaged"),
        (lambda: _pax(b"nonsense"), "a pax header is damaged"),
        (lambda: _pax(b"18 size=999999999\n"), "ends early: a.jpg has 999,999,999 bytes"),
        (lambda: _pax(b"16 path=../a.jpg\n"), "a pax header is damaged"),
        (lambda: _pax(b"17 path=../a.jpg\n"), "leads out of the archive"),
        (lambda: b"\0" * 100, "ends early, at byte 100, without an end mark"),
        (lambda: b"no tar file at all. " * 100, "is no tar file, or is damaged"),
        (lambda: tar([("a.jpg", b"x")]) + tar([("b.jpg", b"y")]), "holds more after its end mark"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, make: Callable[[], bytes], message: str) -> None:
    path = written(tmp_path / "a.tar", make())
    with pytest.raises(SourceError) as caught:
        list(TarArchive(path))
    assert message in str(caught.value)
    assert str(caught.value).startswith(path)


def test_an_archive_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = tar([("a.jpg", b"x" * 700), ("b" * 120, b"y" * 100)])
    end = data.rstrip(b"\0")
    for length in range(0, len(end), 100):
        path = written(tmp_path / f"{length}.tar", data[:length])
        with pytest.raises(SourceError, match="ends early"):
            list(TarArchive(path))


def test_a_flipped_bit_in_a_header_never_passes_as_other_members(tmp_path: Path) -> None:
    data = tar([("a.jpg", b"x" * 700), ("b.jpg", b"y" * 100)])
    for position in range(0, 512, 7):
        flipped = bytearray(data)
        flipped[position] ^= 4
        path = written(tmp_path / f"{position}.tar", bytes(flipped))
        with pytest.raises(SourceError):
            list(TarArchive(path))


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_archive_is_refused_by_what_it_is(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.addfile(member("a.jpg", size=3), io.BytesIO(b"abc"))
    with pytest.raises(SourceError, match=r"is compressed \((gzip|bzip2|xz)\).*Decompress it first"):
        TarArchive(str(path))


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.tar: cannot be read: No such file"):
        TarArchive(str(tmp_path / "absent.tar"))


def test_remote_archives_are_listed_in_large_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_module, "_REMOTE_PIECE", 4096)
    contents = [(f"{k}.jpg", random.Random(k).randbytes(700 * k)) for k in range(20)]
    local = written(tmp_path / "a.tar", tar(contents))
    url = in_memory(tmp_path)
    requests: list[int] = []
    read_range = files.read_range
    monkeypatch.setattr(
        files, "read_range", lambda at, start, count: requests.append(count) or read_range(at, start, count)
    )
    assert list(TarArchive(f"{url}/a.tar")) == theirs(local)
    assert len(requests) <= 3 + Path(local).stat().st_size // 4096
    requests.clear()
    archive = TarArchive(f"{url}/a.tar")
    assert [archive.read(found) for found in archive] == [data for _, data in contents]


def test_a_run_reads_neighbours_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [(f"{k}.jpg", random.Random(k).randbytes(300 + 100 * k)) for k in range(8)]
    path = written(tmp_path / "a.tar", tar(contents))
    members = list(TarArchive(path))
    order = [0, 1, 2, 5, 4, 6, 7]
    run = TarRun(
        path,
        tuple(members[k].name for k in order),
        tuple(members[k].start for k in order),
        tuple(members[k].size for k in order),
    )
    requests: list[int] = []
    read_range = files.read_range
    monkeypatch.setattr(
        files, "read_range", lambda at, start, count: requests.append(start) or read_range(at, start, count)
    )
    assert list(pickle.loads(pickle.dumps(run)).read()) == [contents[k] for k in order]
    # 5 lies next to 2 but for two pictures of a few hundred bytes; 4 lies before 5.
    assert requests == [members[0].start, members[4].start]


def test_a_run_stays_in_one_archive_and_names_it_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = TarEntries()
    for name in ("a", "b"):
        path = written(tmp_path / f"{name}.tar", tar([(f"{k}.jpg", f"{name}{k}".encode()) for k in range(20)]))
        for found in TarArchive(path):
            entries.append(f"{name}{found.name}", 0, f"{name}.tar", found.start, found.size)
    monkeypatch.chdir(tmp_path)
    runs = list(entries.runs(3, 37))
    monkeypatch.chdir("/")
    assert [len(run) for run in runs] == [16, 1, 16, 1]
    assert [data for run in runs for _, data in run.read()] == [
        f"{name}{k}".encode() for name in "ab" for k in range(20)
    ][3:37]


def test_an_archive_that_became_shorter_is_an_error_of_the_source(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", tar([("a.jpg", b"x" * 700)]))
    found = next(iter(TarArchive(path)))
    Path(path).write_bytes(b"")
    with pytest.raises(OSError, match="ends early"):
        list(TarRun(path, ("a.jpg",), (found.start,), (found.size,)).read())


def test_a_huge_member_is_one_bad_picture_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"abc")
    os.truncate(path, 1 << 42)  # sparse: it takes no room
    run = TarRun(str(path), ("1", "2", "3"), (0, 3, (1 << 41) + 3), (3, 1 << 41, 2))
    first, (key, error), third = run.read()
    assert (first, third) == (("1", b"abc"), ("3", b"\0\0"))
    assert isinstance(error, PictureError)
    assert (key, error.key) == ("2", "2")
    assert error.reason.startswith("is too large: 2,199,023,255,552 bytes")
