"""What a method may be asked for: checked once, refused by name, and told apart in fingerprints."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from noise_models.cfa import Cfa
from physrestore import pipeline
from physrestore.batch import Settings
from physrestore.confidence import Confidence
from physrestore.contract import WORDS, Made, Options
from physrestore.errors import RestoreError
from physrestore.pipeline import Method, restore
from tests.physrestore.sample_frames import grey_frame, noise_frame
from tests.physrestore.test_pnp import sensor_noise

KERNEL = torch.tensor([[0.25, 0.5, 0.25]])


class Nothing:
    """A prior in name only."""

    spec = None

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        raise NotImplementedError


# One value for every option, none of them the default.
OTHER = {
    "strength": 50.0,
    "prior": Nothing(),
    "prior_name": "mine 12ab",
    "network": torch.nn.Identity(),
    "network_name": "ours 34cd",
    "blur": KERNEL,
    "scale": 2,
    "burst": (noise_frame(16, 16),),
    "device": "cuda",
    "budget_seconds": 9.0,
    "uncertainty": True,
    "seed": 1,
}


def test_every_option_but_the_device_changes_the_fingerprint() -> None:
    # The noises of a burst follow from its frames and the profile, which count already.
    assert set(OTHER) == {field.name for field in fields(Options)} - {"burst_noises"}
    plain = Settings().fingerprint

    prints = {name: Settings(options=Options(**{name: value})).fingerprint for name, value in OTHER.items()}

    assert prints.pop("device") == plain
    assert plain not in prints.values()
    assert len(set(prints.values())) == len(prints)
    assert Settings(options=Options()).fingerprint == plain


def test_kernels_and_bursts_are_told_apart_by_their_values() -> None:
    def told(**options: object) -> str:
        return Settings(options=Options(**options)).fingerprint  # type: ignore[arg-type]

    assert told(blur=KERNEL) == told(blur=KERNEL.clone())
    assert told(blur=KERNEL) != told(blur=KERNEL.mT)
    assert told(blur=KERNEL) != told(blur="estimate")
    assert told(burst=(noise_frame(16, 16, seed=1),)) != told(burst=(noise_frame(16, 16, seed=2),))


def test_all_that_goes_beyond_duty_has_a_word_on_the_command_line() -> None:
    silent = {"strength", "prior_name", "network_name", "seed"}
    asked = {name: Options(**{name: value}).asked for name, value in OTHER.items()}

    assert {name for name, what in asked.items() if not what} == silent
    assert all(what <= WORDS.keys() for what in asked.values())


@pytest.mark.parametrize("name", sorted(set(WORDS) - {"burst"}))
def test_a_method_refuses_what_it_does_not_know(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    frame = noise_frame(16, 16)
    known = pipeline._Way(lambda *_: Made(mosaic=frame.mosaic), knows=frozenset())
    for method in Method:
        monkeypatch.setitem(pipeline._METHODS, method, known)
    monkeypatch.setitem(pipeline._METHODS, Method.PNP, replace(known, knows=frozenset(WORDS)))
    noise, options = sensor_noise(frame.cfa), Options(**{name: OTHER[name]})

    with pytest.raises(RestoreError, match=rf"'classic' does not know {WORDS[name]}\. Use --method pnp"):
        restore(frame, noise, method=Method.CLASSIC, options=options)

    assert restore(frame, noise, method=Method.PNP, options=options).scale == options.scale
    assert restore(frame, noise, method=Method.CLASSIC).mosaic is frame.mosaic  # what it knows, it does


def test_what_nobody_knows_is_refused_without_false_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = noise_frame(16, 16)
    for method in Method:
        monkeypatch.setitem(pipeline._METHODS, method, replace(pipeline._METHODS[method], knows=frozenset({"scale"})))

    with pytest.raises(RestoreError, match=r"does not know --deblur\. No method knows all that is asked"):
        restore(frame, sensor_noise(frame.cfa), method=Method.CLASSIC, options=Options(scale=2, blur=KERNEL))


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"strength is 0\.\.100, not 101"):
        Options(strength=101)
    with pytest.raises(ValueError, match="scale is 1 or 2, not 3"):
        Options(scale=3)
    with pytest.raises(ValueError, match="positive number of seconds, not 0"):
        Options(budget_seconds=0)
    with pytest.raises(ValueError, match=r"kernel is \(h, w\) of finite numbers, not \(3,\)"):
        Options(blur=torch.ones(3) / 3)
    with pytest.raises(ValueError, match=r"no negative value and a sum of one.*a sum of 2"):
        Options(blur=2 * KERNEL)
    with pytest.raises(ValueError, match="not 'guess'"):
        Options(blur="guess")  # type: ignore[arg-type]


def test_devices_are_resolved_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Options().torch_device == torch.device("cpu")
    with pytest.raises(RestoreError, match="no device 'cuda': torch sees 0 CUDA devices"):
        _ = Options(device="cuda").torch_device
    with pytest.raises(RestoreError, match="auto, cpu, cuda or cuda:N, not 'gpu'"):
        _ = Options(device="gpu").torch_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Options().torch_device == torch.device("cuda")
    with pytest.raises(RestoreError, match="no device 'cuda:1'"):
        _ = Options(device="cuda:1").torch_device


def test_confidence_is_the_rms_and_the_tail() -> None:
    std = torch.full((1, 10, 10), 0.001)
    std[0, 0] = 0.01  # a tenth of the pixels

    confidence = Confidence.of(std, span_dn=1000.0)

    assert confidence.expected_error_dn == pytest.approx((0.9 * 1 + 0.1 * 100) ** 0.5)
    assert confidence.tail_error_dn == pytest.approx(10.0)
    assert str(confidence) == "expected error 3.3 DN; 5 % of pixels above 10.0 DN"


def test_a_restoration_sums_up_its_uncertainty(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = grey_frame(16, 16)
    std = torch.full((1, 16, 16), 1e-3)
    way = pipeline._Way(lambda *_: Made(mosaic=frame.mosaic, uncertainty=std), knows=frozenset(WORDS))
    monkeypatch.setitem(pipeline._METHODS, Method.CLASSIC, way)

    noise, options = sensor_noise(Cfa.parse("RGGB")), Options(uncertainty=True)
    result = restore(frame, noise, method=Method.CLASSIC, options=options)

    assert result.confidence is not None
    assert result.confidence.expected_error_dn == pytest.approx(1e-3 * (16000 - 512))
