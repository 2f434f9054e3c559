"""Whatever happens to the decoder process costs one file, and the next one is read."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from noise_models.errors import DamagedRaw, DecoderCrashed, NotARawFile
from noise_models.rawfile import read_raw
from noise_models.reading import rawdecode
from noise_models.reading.decoder import JOBS_PER_PROCESS, Decoder
from tests.raw_samples import make_dng, noisy_mosaic

MOSAIC = noisy_mosaic()
DNG = make_dng(MOSAIC)
HERE = Path("frame.dng")
MAX = 10**6
posix = pytest.mark.skipif(os.name != "posix", reason="signals and resource limits")


def decode(decoder, data=DNG):
    return decoder.decode(HERE, data, max_pixels=MAX)[1]


def test_one_process_serves_many_files_and_is_renewed(monkeypatch):
    monkeypatch.setattr("noise_models.reading.decoder.JOBS_PER_PROCESS", 5)
    assert JOBS_PER_PROCESS > 5
    with Decoder() as decoder:
        pids = []
        for _ in range(12):
            np.testing.assert_array_equal(decode(decoder), MOSAIC)
            pids.append(decoder.pid)
        assert [len(set(pids[k : k + 5])) for k in (0, 5)] == [1, 1]
        assert len(set(pids)) == 3
    assert decoder.pid is None


@posix
@pytest.mark.parametrize("sent", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_costs_one_file(sent):
    with Decoder(timeout_s=30) as decoder:
        decode(decoder)
        # Stopped, the process cannot answer before the signal comes.
        os.kill(decoder.pid, signal.SIGSTOP)
        pid = decoder.pid
        killer = threading.Timer(0.2, lambda: (os.kill(pid, sent), os.kill(pid, signal.SIGCONT)))
        killer.start()
        with pytest.raises(DecoderCrashed, match=rf"signal {int(sent)}\b"):
            decode(decoder)
        killer.join()
        np.testing.assert_array_equal(decode(decoder), MOSAIC)
        assert decoder.pid != pid


@posix
def test_a_hang_costs_one_file_and_the_stated_time():
    with Decoder(timeout_s=0.5) as decoder:
        decode(decoder)
        os.kill(decoder.pid, signal.SIGSTOP)
        started = time.perf_counter()
        with pytest.raises(DecoderCrashed, match=r"stopped after 0\.5 s"):
            decode(decoder)
        assert time.perf_counter() - started < 5
        np.testing.assert_array_equal(decode(decoder), MOSAIC)


@posix
def test_a_process_killed_while_idle_costs_nothing():
    with Decoder() as decoder:
        decode(decoder)
        os.kill(decoder.pid, signal.SIGKILL)
        decoder._process.wait()
        np.testing.assert_array_equal(decode(decoder), MOSAIC)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the address space")
def test_memory_is_bounded():
    with Decoder(memory_bytes=1 << 30) as decoder:
        big = make_dng(noisy_mosaic(64, 64), tags={256: ("L", [30000]), 257: ("L", [30000])}, tile=(64, 64))
        with pytest.raises(DecoderCrashed, match="ran out of memory"):
            decoder.decode(HERE, big, max_pixels=10**9)
        np.testing.assert_array_equal(decode(decoder), MOSAIC)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_has_no_new_rights_no_core_and_no_secrets(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    with Decoder() as decoder:
        decode(decoder)
        proc = Path(f"/proc/{decoder.pid}")
        assert "NoNewPrivs:\t1" in (proc / "status").read_text()
        limits = (proc / "limits").read_text()
        assert f"Max address space         {4 << 30}" in limits
        assert "Max core file size        0 " in limits
        assert b"SECRET_TOKEN" not in (proc / "environ").read_bytes()
        files = [os.readlink(link) for link in (proc / "fd").iterdir()]
        assert not [name for name in files if name.startswith("/") and "deleted" not in name and "/dev/" not in name]


@pytest.mark.parametrize("answer", ["b'nonsense' * 100", "b''", "b'PRAWDEC1' + b'\\xff' * 12"])
def test_a_process_that_breaks_the_protocol_is_a_crash(monkeypatch, tmp_path, answer):
    script = tmp_path / "liar.py"
    script.write_text(f"import sys; sys.stdout.buffer.write({answer}); sys.stderr.write('my last words')")
    monkeypatch.setattr(rawdecode, "__file__", str(script))
    with Decoder(timeout_s=20) as decoder, pytest.raises(DecoderCrashed, match="my last words"):
        decode(decoder)


@pytest.mark.parametrize(
    "report",
    [
        '{"status": "ok", "shape": [2, 2]}',
        '{"status": "ok", "shape": [-2, -2]}',
        '{"status": "ok"}',
        "[" * 100_000,
        '{"status": "ok", "shape": [1000000000, 1000000000]}',
    ],
)
def test_reports_are_not_trusted(monkeypatch, tmp_path, report):
    script = tmp_path / "liar.py"
    script.write_text(
        "import sys, struct\n"
        "reply = lambda text, pixels: sys.stdout.buffer.write("
        "struct.pack('<8sIQ', b'PRAWDEC1', len(text), len(pixels)) + text + pixels)\n"
        f"reply(b'{{\"status\": \"ok\"}}', b''); reply({report.encode()!r}, b'12345678')\n"
    )
    monkeypatch.setattr(rawdecode, "__file__", str(script))
    with Decoder(timeout_s=20) as decoder, pytest.raises(DecoderCrashed):
        decode(decoder)


def test_an_old_libraw_is_refused_with_the_reason(monkeypatch, tmp_path):
    script = tmp_path / "old.py"
    source = Path(rawdecode.__file__).read_text().replace("LIBRAW_FLOOR = (0, 22, 2)", "LIBRAW_FLOOR = (99, 0, 0)")
    script.write_text(source)
    monkeypatch.setattr(rawdecode, "__file__", str(script))
    with Decoder() as decoder, pytest.raises(DecoderCrashed, match=r"LibRaw 0\.\d+\.\d+; 99\.0\.0 or later is needed"):
        decode(decoder)


def test_libraws_chatter_does_not_reach_the_terminal(tmp_path):
    cut = tmp_path / "cut.dng"
    cut.write_bytes(DNG[:-3000])
    directly = "import rawpy, sys, contextlib\nwith contextlib.suppress(Exception): rawpy.imread(sys.argv[1]).unpack()"
    isolated = (
        "import sys; from pathlib import Path; from noise_models.reading.decoder import Decoder\n"
        "with Decoder() as d:\n"
        "    try: d.decode(Path('x'), Path(sys.argv[1]).read_bytes(), max_pixels=10**6)\n"
        "    except Exception as e: sys.exit(0 if type(e).__name__ == 'DamagedRaw' else 1)\n"
        "sys.exit(2)"
    )
    loud, quiet = (
        subprocess.run([sys.executable, "-c", code, str(cut)], capture_output=True, timeout=60)
        for code in (directly, isolated)
    )
    assert b"end of file" in loud.stderr  # else this test shows nothing
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, b"", b"")


def test_threads_take_turns():
    with Decoder() as decoder:
        frames: list[np.ndarray] = []
        threads = [threading.Thread(target=lambda: frames.append(decode(decoder))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(frames) == 6
    assert all(np.array_equal(frame, MOSAIC) for frame in frames)


def test_an_interrupt_in_the_middle_leaves_no_half_message(monkeypatch):
    with Decoder() as decoder:
        decode(decoder)
        with monkeypatch.context() as patch:

            def interrupt(*_):
                raise KeyboardInterrupt

            patch.setattr(Decoder, "_receive", interrupt)
            with pytest.raises(KeyboardInterrupt):
                decode(decoder)
        assert decoder.pid is None
        np.testing.assert_array_equal(decode(decoder), MOSAIC)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_piles_up(tmp_path):
    good, bad = tmp_path / "good.dng", tmp_path / "bad.dng"
    good.write_bytes(DNG)
    bad.write_bytes(b"garbage")
    before = None
    for _ in range(4):
        with Decoder() as decoder:
            for _ in range(20):
                read_raw(good, decoder=decoder)
                with pytest.raises((DamagedRaw, NotARawFile)):
                    read_raw(bad, decoder=decoder)
        now = (len(os.listdir("/proc/self/fd")), threading.active_count())
        before = before or now
        assert now == before


def test_only_this_script_imports_rawpy_and_only_when_it_serves():
    code = "import sys, noise_models.rawfile; sys.exit(any(m in sys.modules for m in ('rawpy', 'imagecodecs')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
