"""Pictures of high dynamic range -> as an ordinary screen shows them, which is what models have seen."""

from __future__ import annotations

import numpy as np

_PQ, _HLG = 16, 18  # transfer characteristics, as in ITU-T H.273
_WHITE_NITS = 203.0  # of diffuse white, as in ITU-R BT.2408
_HLG_PEAK_NITS = 1000.0
_KNEE = 0.75  # of white: what is brighter is compressed
_TO_BT709 = np.array(  # linear light, from the primaries of BT.2020
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def is_hdr(transfer: int) -> bool:
    """Return whether a transfer characteristic, numbered as in ITU-T H.273, is of high dynamic range."""
    return transfer in (_PQ, _HLG)


def to_sdr(pixels: np.ndarray, transfer: int) -> np.ndarray:
    """Return a picture with ordinary brightness and colours: (H, W, 3) uint8 sRGB.

    Args:
        pixels: (H, W, 3) uint8, coded with that transfer and with the primaries of BT.2020.
        transfer: one of those that ``is_hdr`` names.
    """
    values = np.arange(256, dtype=np.float32) / 255
    linear = (_pq(values) if transfer == _PQ else _hlg(values))[pixels]
    linear = np.clip(linear @ _TO_BT709.T, 0.0, None)
    bright = _KNEE + (1 - _KNEE) * (1 - np.exp(-(linear - _KNEE) / (1 - _KNEE)))
    shown = np.where(linear <= _KNEE, linear, bright)
    coded = np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * np.maximum(shown, 1e-6) ** (1 / 2.4) - 0.055)
    result: np.ndarray = np.clip(np.rint(255 * coded), 0, 255).astype(np.uint8)
    return result


def _pq(values: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: codes -> light, 1 for diffuse white."""
    powered = values ** (32 / 2523)
    light = (np.maximum(powered - 0.8359375, 0.0) / (18.8515625 - 18.6875 * powered)) ** (16384 / 2610)
    nits: np.ndarray = 10_000.0 * light / _WHITE_NITS
    return nits


def _hlg(values: np.ndarray) -> np.ndarray:
    """ARIB STD-B67: codes -> light of each channel on a screen of 1,000 nits, 1 for diffuse white."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    nits: np.ndarray = _HLG_PEAK_NITS * scene**1.2 / _WHITE_NITS
    return nits
