"""TIFF, npz, the 16-bit conversion and the record inside every result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from physrestore.errors import OutputExists, PhysrestoreError, UnwritableImage, WriteError
from physrestore.output.arrays import write_npz
from physrestore.output.quantise import to_uint16
from physrestore.output.record import read_history, xmp_packet
from physrestore.output.tiff import write_linear_tiff


def picture(channels: int = 3) -> torch.Tensor:
    return torch.rand(channels, 300, 70, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_holds_rounded_linear_light(tmp_path: Path, channels: int) -> None:
    image = picture(channels)
    write_linear_tiff(tmp_path / "a.tif", image, history="how")
    stored = np.atleast_3d(tifffile.imread(tmp_path / "a.tif"))
    assert stored.dtype == np.uint16
    assert np.abs(stored / 65535 - image.permute(1, 2, 0).numpy()).max() <= 0.5 / 65535 + 1e-9
    assert read_history(tmp_path / "a.tif") == "how"


def test_conversion_is_unbiased_and_clips() -> None:
    levels = torch.linspace(0, 1, 65536, dtype=torch.float64)
    assert np.array_equal(to_uint16(levels[None, None])[0, :, 0], np.arange(65536))
    assert to_uint16(torch.tensor([[[-1.0, 2.0]]])).ravel().tolist() == [0, 65535]
    image = picture()
    # Rounding errors are uniform: the mean of n of them has a standard error of 1 / sqrt(12 n) DN.
    error = to_uint16(image).mean(dtype=np.float64) - float(image.double().mean()) * 65535
    assert abs(error) < 5 / np.sqrt(12 * image.numel())
    truncated = np.floor(image.double().numpy() * 65535).mean() - float(image.double().mean()) * 65535
    assert abs(truncated) > 5 / np.sqrt(12 * image.numel())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((3, 4, 4), torch.nan), "not finite"),
        (torch.full((3, 4, 4), torch.inf), "not finite"),
        (torch.zeros(4, 4), "floating point, not"),
        (torch.zeros(3, 4, 4, dtype=torch.int32), "int32"),
    ],
)
def test_conversion_refuses(image: torch.Tensor, message: str) -> None:
    with pytest.raises(UnwritableImage, match=message):
        to_uint16(image)


def test_tiff_refuses_other_channels(tmp_path: Path) -> None:
    with pytest.raises(UnwritableImage, match=r"\(3, H, W\), not \(4, 8, 8\)"):
        write_linear_tiff(tmp_path / "a.tif", torch.zeros(4, 8, 8))
    assert not list(tmp_path.iterdir())


def test_npz_reads_back_without_pickle(tmp_path: Path) -> None:
    mosaic = np.arange(12, dtype=np.uint16).reshape(3, 4)
    write_npz(tmp_path / "a.npz", mosaic=mosaic, history=np.array("how"))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["history", "mosaic"]
        assert np.array_equal(arrays["mosaic"], mosaic)
        assert arrays["mosaic"].dtype == np.uint16
    assert read_history(tmp_path / "a.npz") == "how"
    with pytest.raises(OutputExists):
        write_npz(tmp_path / "a.npz", mosaic=mosaic)


def test_npz_refuses_what_only_pickle_holds(tmp_path: Path) -> None:
    with pytest.raises(UnwritableImage, match=r"Python objects \(here: \['bad'\]\)"):
        write_npz(tmp_path / "a.npz", bad=np.array([{}, []], dtype=object), good=np.zeros(2))
    with pytest.raises(UnwritableImage, match="arrays called allow_pickle, file"):
        write_npz(tmp_path / "a.npz", file=np.zeros(2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 no archive",
        b"II*\0\xff\xff\xff\xff",
        b"MM",
        b"\x89PNG\r\n\x1a\n",
        b"II*\0\x08\0\0\0\x05\0" + b"\xff" * 60,
    ],
)
def test_files_of_others_have_no_history(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert read_history(tmp_path / "a") is None


def tiff_with_packet(path: Path, packet: bytes) -> Path:
    tifffile.imwrite(path, np.zeros((4, 4), np.uint8), metadata=None, extratags=[(700, 1, len(packet), packet, True)])
    return path


def test_only_our_own_history_is_read(tmp_path: Path) -> None:
    packet = xmp_packet("how")
    assert read_history(tiff_with_packet(tmp_path / "ours.tif", packet)) == "how"
    other = packet.replace(b"physrestore ", b"something else ")
    assert read_history(tiff_with_packet(tmp_path / "theirs.tif", other)) is None
    assert read_history(tiff_with_packet(tmp_path / "broken.tif", packet[:-40])) is None


def test_entities_of_a_hostile_packet_are_not_expanded(tmp_path: Path) -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "how">]>' + xmp_packet("&a;").replace(b"&amp;a;", b"&a;")
    assert read_history(tiff_with_packet(tmp_path / "a.tif", bomb)) is None


def test_errors_carry_path_and_reason_through_a_process_boundary() -> None:
    error = WriteError("/photos/a.dng", "disk full.")
    kind, arguments = error.__reduce__()
    again = kind(*arguments)
    assert isinstance(again, PhysrestoreError)
    assert (str(again), again.path, again.reason) == ("'a.dng': disk full.", Path("/photos/a.dng"), "disk full.")
