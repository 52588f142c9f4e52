import http.server
import os
import threading

import numpy as np
import pytest
from data.like_coll import save

from geonorm.data import DataFileError, coll, download_coll, load_configurations
from geonorm.data.coll import git_blob

REAL = os.environ.get("GEONORM_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="GEONORM_DATA is not set: the published files are elsewhere")


@needs_real
def test_the_hydrogen_combustion_files_are_read():
    parts = {part: load_configurations(f"h2combustion:{part}") for part in ("val", "train")}
    assert {part: len(read) for part, read in parts.items()} == {"val": 5000, "train": 60000}
    for read in parts.values():
        assert set(np.unique(read.z)) == {1, 8}
        assert (read.sizes.min(), read.sizes.max()) == (3, 6)
        assert (read.energy_unit, read.length_unit) == ("eV", "Ang")
        # Bound relative to free atoms; nothing pulls a whole molecule.
        assert read.energies.max() < 0
        net = np.add.reduceat(read.forces, np.cumsum(read.sizes) - read.sizes)
        assert np.median(np.linalg.norm(net, axis=1)) < 1e-3
    train, test = parts["val"].split(500, 100)
    assert not set(train.energies) & set(test.energies)


def test_the_digest_is_that_of_git(tmp_path):
    path = tmp_path / "a"
    # What `git hash-object` prints for an empty file and for one with the line "hello".
    for content, digest in {
        b"": "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
        b"hello\n": "ce013625030ba8dba906f756967f9e9ca394464a",
    }.items():
        path.write_bytes(content)
        assert git_blob(path) == digest


def test_files_are_found_by_name_in_the_folder_of_the_reader(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    path = save(tmp_path / "sub" / "coll_v1.2_val.npz")
    save(tmp_path / "h2combustion_train_60k.npz")
    monkeypatch.setenv("GEONORM_DATA", str(tmp_path))
    assert len(load_configurations("h2combustion:train")) == 4
    assert len(load_configurations("sub/coll_v1.2_val.npz")) == 4
    # A file with COLL's name is COLL only with COLL's content.
    with pytest.raises(DataFileError, match=r"expected fe2708ef.*load_configurations\('.*coll_v1.2_val.npz'\)"):
        load_configurations("coll:val")
    monkeypatch.setitem(coll.COLL_BLOBS, "val", git_blob(path))
    read = load_configurations("coll:val")
    assert len(read) == 4
    assert load_configurations(read) is read


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("coll:validation", "coll has no part 'validation'; it has train, val, test: 'coll:train'"),
        ("h2combustion:test", "h2combustion has no part 'test'; it has train, val"),
        ("h2combustion", "h2combustion has no part ''"),
        ("h2combustion:val", r"no file h2combustion_val\*.npz .* which is not set.*figshare"),
        ("absent.npz", "no data named 'absent.npz': expected 'collisions', 'coll:train'"),
    ],
)
def test_names_that_lead_nowhere_get_a_way_out(monkeypatch, source, message):
    monkeypatch.delenv("GEONORM_DATA", raising=False)
    with pytest.raises(DataFileError, match=message):
        load_configurations(source)


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


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


def test_a_download_is_kept_only_if_it_is_the_published_file(server, tmp_path, monkeypatch):
    served, address = server
    source, cache = save(served / "coll_v1.2_test.npz"), tmp_path / "cache"
    options = {"folder": cache, "url": f"{address}/coll_v1.2_test.npz", "progress": False}
    with pytest.raises(DataFileError, match=r"expected f300c6c8.* What came is kept as .*\.part\.rejected"):
        download_coll("test", **options)
    assert [entry.name for entry in cache.iterdir()] == ["coll_v1.2_test.npz.part.rejected"]
    path = download_coll("test", blob=git_blob(source), **options)
    assert path.read_bytes() == source.read_bytes()
    # The second call needs no network, and sees damage.
    nowhere = {**options, "url": "http://127.0.0.1:9/nowhere", "blob": git_blob(source)}
    assert download_coll("test", **nowhere) == path
    path.write_bytes(b"damaged")
    with pytest.raises(DataFileError, match=r"Call again to download it anew.*kept as .*\.rejected"):
        download_coll("test", **nowhere)
    assert not path.exists()
    with pytest.raises(DataFileError, match=r"nothing was kept.*GEONORM_DATA.*load_configurations\('collisions'\)"):
        download_coll("test", **nowhere)
    assert not [entry for entry in cache.iterdir() if entry.suffix == ".part"]


def test_the_name_of_coll_leads_to_the_publisher(server, tmp_path, monkeypatch):
    import pooch

    served, address = server
    source = save(served / "coll_v1.2_train.npz")
    monkeypatch.delenv("GEONORM_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    monkeypatch.setattr(coll, "COLL_URL", f"{address}/coll_v1.2_{{part}}.npz")
    monkeypatch.setitem(coll.COLL_BLOBS, "train", git_blob(source))
    assert len(load_configurations("coll")) == len(load_configurations("coll:train")) == 4
    assert (tmp_path / "geonorm" / source.name).exists()
