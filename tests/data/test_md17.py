import http.server
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from geonorm.data import DataFileError, download_md17, load_frames, load_md17, read_md17
from geonorm.data.files import sha256
from geonorm.data.uracil import URACIL

ORDER = np.array(URACIL, dtype=np.uint8)
REAL = os.environ.get("GEONORM_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="GEONORM_DATA is not set: the published files are elsewhere")


def arrays(frames: int = 5) -> dict[str, np.ndarray]:
    """A flat uracil with small random shifts, under MD17's names and shapes."""
    rng = np.random.default_rng(0)
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    outer = np.concatenate([2.60 * ring[[3, 5]], 2.43 * ring[[1, 2, 4, 0]]])
    flat = np.concatenate([1.38 * ring, outer])
    return {
        "z": ORDER,
        "R": flat + 0.02 * rng.normal(size=(frames, 12, 3)),
        "E": -260107.0 + rng.normal(size=(frames, 1)),
        "F": 20 * rng.normal(size=(frames, 12, 3)),
    }


def save(path: Path, **changes: np.ndarray) -> Path:
    content = {**arrays(), **changes}
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path


def test_both_conventions_of_names_give_the_same_frames(tmp_path):
    old = read_md17(save(tmp_path / "md17_uracil.npz"), "uracil")
    content = arrays()
    np.savez(
        tmp_path / "rmd17_uracil.npz",
        nuclear_charges=content["z"],
        coords=content["R"],
        energies=content["E"][:, 0],
        forces=content["F"],
        old_indices=np.arange(5),
    )
    new = read_md17(tmp_path / "rmd17_uracil.npz", "uracil")
    assert (old.positions == new.positions).all()
    assert (old.energies == new.energies).all()
    assert (old.forces == new.forces).all()
    assert old.energy_unit == new.energy_unit == "kcal/mol"
    assert old.length_unit == "Ang"
    assert old.energies.shape == (5,)


def test_repeated_frames_are_left_out(tmp_path):
    frames = read_md17(save(tmp_path / "a.npz", unique_idx=np.array([0, 3])))
    assert (frames.energies == arrays()["E"][[0, 3], 0]).all()


def test_units_named_in_the_file_count(tmp_path):
    assert read_md17(save(tmp_path / "a.npz", e_unit=np.array("eV"))).energy_unit == "eV"
    with pytest.raises(DataFileError, match="unknown unit 'Ry'"):
        read_md17(save(tmp_path / "b.npz", e_unit=np.array("Ry")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"F": None}, r"no array of forces, expected F or forces; .* has E, R, z"),
        ({"R": np.zeros((5, 36))}, r"positions is float64 of shape \(5, 36\), expected numbers in 3 dimensions"),
        ({"E": np.zeros(4)}, "expected"),
        ({"F": np.full((5, 12, 3), np.nan)}, "180 values that are NaN or infinite"),
        ({"E": np.array(["a"] * 5)}, "energies is <U1"),
        ({"R": 0.1 * arrays()["R"]}, "nearest neighbour is 0.1.* Check that the positions are in Ang"),
        ({"z": ORDER[::-1].copy()}, r"order H H H H O O C N C N C C, expected C C N C N C O O H H H H"),
        ({"z": np.array([6] * 12)}, "H0 C12 N0 O0 and 0 other atoms, expected uracil, H4 C4 N2 O2"),
    ],
)
def test_foreign_files_are_refused_with_a_reason(tmp_path, changes, message):
    path = save(tmp_path / "md17_uracil.npz", **changes)
    with pytest.raises(DataFileError, match=message):
        read_md17(path, "uracil")
    assert path.exists()


def test_a_pickle_in_a_needed_array_is_never_opened(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, **{**arrays(), "E": np.array([print], dtype=object)})
    with pytest.raises(DataFileError, match="pickled"):
        read_md17(path)


def test_a_folder_is_searched_before_the_network(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    save(tmp_path / "sub" / "md17_uracil.npz")
    assert len(load_md17("uracil", folder=tmp_path)) == 5
    monkeypatch.setenv("GEONORM_DATA", str(tmp_path))
    assert len(load_md17("uracil")) == 5
    assert len(load_frames("md17:uracil")) == 5
    assert len(load_frames("sub/md17_uracil.npz")) == 5
    with pytest.raises(DataFileError, match=r"no file md17_ethanol\*\.npz"):
        load_md17("ethanol", folder=tmp_path)
    with pytest.raises(DataFileError, match="no molecule 'water'; it has aspirin"):
        load_md17("water")
    with pytest.raises(DataFileError, match="no data named 'absent'"):
        load_frames("absent")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; files whose name starts with ``cut`` break off half way."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        if not Path(self.path).name.startswith("cut"):
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()

    def handler(*arguments):
        return Handler(*arguments, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_download_caches_records_a_checksum_and_notices_changes(server, tmp_path, capfd):
    served, address = server
    source, cache = save(served / "a.npz"), tmp_path / "cache"
    path = download_md17("uracil", cache, url=f"{address}/a.npz")
    assert "100%" in capfd.readouterr().err
    assert path == cache / "md17_uracil.npz"
    assert (cache / "md17_uracil.npz.sha256").read_text().strip() == sha256(source)
    assert sorted(entry.name for entry in cache.iterdir()) == ["md17_uracil.npz", "md17_uracil.npz.sha256"]
    assert download_md17("uracil", cache, url="http://127.0.0.1:9/nowhere") == path
    path.write_bytes(b"damaged on disk")
    with pytest.raises(DataFileError, match=r"changed since it was downloaded.*md17_uracil\.npz\.rejected"):
        download_md17("uracil", cache, url=f"{address}/a.npz")
    assert (cache / "md17_uracil.npz.rejected").read_bytes() == b"damaged on disk"
    assert not path.exists()
    save(source, E=np.full((5, 1), -1.0))
    with pytest.warns(UserWarning, match="the publisher's file has changed"):
        download_md17("uracil", cache, url=f"{address}/a.npz", progress=False)


def test_a_transfer_that_breaks_off_leaves_nothing(server, tmp_path):
    served, address = server
    save(served / "cut.npz")
    for name in ("cut.npz", "absent.npz"):
        with pytest.raises(DataFileError, match=r"transfer failed .* nothing was kept"):
            download_md17("uracil", tmp_path / "cache", url=f"{address}/{name}", progress=False)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wrong_checksum_or_content_keeps_the_file_aside(server, tmp_path):
    served, address = server
    source, cache = save(served / "a.npz"), tmp_path / "cache"
    with pytest.raises(DataFileError, match=r"expected 00.*kept as .*\.rejected"):
        download_md17("uracil", cache, url=f"{address}/a.npz", checksum="00", progress=False)
    aside = cache / "md17_uracil.npz.part.rejected"
    assert aside.read_bytes() == source.read_bytes()
    (served / "page.npz").write_text("<html>moved</html>")
    with pytest.raises(DataFileError, match=r"not a complete .npz"):
        download_md17("uracil", cache, url=f"{address}/page.npz", progress=False)
    assert [entry.name for entry in cache.iterdir()] == [aside.name]
    assert download_md17("uracil", cache, url=f"{address}/a.npz", checksum=sha256(source), progress=False).exists()


def test_one_file_is_kept_of_the_revised_archive(server, tmp_path):
    served, address = server
    inside, cache = save(tmp_path / "rmd17_uracil.npz"), tmp_path / "cache"
    with tarfile.open(served / "rmd17.tar.bz2", "w:bz2") as archive:
        archive.add(inside, "rmd17/npz_data/rmd17_uracil.npz")
    (served / "broken.tar.bz2").write_bytes((served / "rmd17.tar.bz2").read_bytes()[:200])
    options = {"revised": True, "progress": False}
    with pytest.raises(DataFileError, match="expected cddeea2ec2c4"):
        download_md17("uracil", cache, url=f"{address}/rmd17.tar.bz2", **options)
    for name, message in (("broken.tar.bz2", "complete tar"), ("rmd17.tar.bz2", r"no member rmd17_ethanol\.npz")):
        digest = sha256(served / name)
        molecule = "uracil" if name.startswith("broken") else "ethanol"
        with pytest.raises(DataFileError, match=message):
            download_md17(molecule, cache, url=f"{address}/{name}", checksum=digest, **options)
    digest = sha256(served / "rmd17.tar.bz2")
    path = download_md17("uracil", cache, url=f"{address}/rmd17.tar.bz2", checksum=digest, **options)
    assert path.read_bytes() == inside.read_bytes()
    assert not [entry for entry in cache.iterdir() if entry.suffix == ".part"]


@needs_real
def test_real_uracil_geometries_are_read():
    frames = load_md17("uracil", folder=REAL)
    assert len(frames) == 994
    assert round(float(frames.energies.mean())) == -260107
    assert np.sqrt((frames.forces**2).mean()) == pytest.approx(30.2, abs=0.5)
    # MD17's labels have no net force.
    assert abs(frames.forces.sum(axis=1)).max() < 1e-3 * abs(frames.forces).max()


@needs_real
def test_real_ethanol_is_read():
    assert len(load_md17("ethanol", folder=REAL)) == 2000
