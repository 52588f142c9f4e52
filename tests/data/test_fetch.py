import http.server
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from data.like_md17 import save

from geonorm.data import DataFileError, download_md17, load_frames, load_md17
from geonorm.data.files import sha256


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
