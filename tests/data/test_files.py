import zipfile

import numpy as np
import pytest

from geonorm.data.files import DataFileError, check_sha256, read_arrays, set_aside, sha256, write_arrays


def test_arrays_come_back_as_they_were(tmp_path):
    path = write_arrays(tmp_path / "new" / "a.npz", x=np.arange(6).reshape(2, 3), note=np.array("Å"))
    arrays = read_arrays(path)
    assert (arrays["x"] == np.arange(6).reshape(2, 3)).all()
    assert str(arrays["note"]) == "Å"
    assert set(read_arrays(path, wanted=["x", "absent"])) == {"x"}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_arrays(tmp_path / "a.npz", x=np.zeros(3))

    def broken(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(OSError, match="disk full"):
        write_arrays(path, x=np.ones(3))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]
    assert (read_arrays(path)["x"] == 0).all()


def test_objects_are_neither_written_nor_read(tmp_path):
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(DataFileError, match="pickle"):
        write_arrays(tmp_path / "a.npz", x=objects)
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / "b.npz", x=objects)
    with pytest.raises(DataFileError, match=r"b\.npz: holds pickled.*Get the file again"):
        read_arrays(tmp_path / "b.npz")


def test_a_bad_file_is_named_with_a_way_out(tmp_path):
    good = write_arrays(tmp_path / "good.npz", x=np.random.default_rng(0).normal(size=1000))
    cut, text, foreign, flipped = (tmp_path / name for name in ("cut.npz", "text.npz", "foreign.npz", "flipped.npz"))
    content = good.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    text.write_text("<html>404</html>")
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("readme.txt", "hello")
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 0xFF
    flipped.write_bytes(damaged)
    cases = {
        tmp_path / "absent.npz": "no such file",
        cut: "truncated",
        text: "16 bytes",
        foreign: r"readme\.txt",
        flipped: "damaged",
    }
    for path, message in cases.items():
        with pytest.raises(DataFileError, match=rf"{path.name}.*{message}.*Do this\."):
            read_arrays(path, way_out="Do this.")


def test_checksum_decides_and_the_refused_file_is_kept(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(path) == known
    check_sha256(path, known, "")
    check_sha256(path, known[:12].upper(), "")
    for wrong in ("00", "", known[:-1] + "0"):
        with pytest.raises(DataFileError, match=known):
            check_sha256(path, wrong, "Try again.")
    aside = set_aside(path)
    assert not path.exists()
    assert aside.read_text() == "abc"
