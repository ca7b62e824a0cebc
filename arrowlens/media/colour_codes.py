"""Colours that HEIC and AVIF state by three numbers (ITU-T H.273, "nclx") -> the ICC profile that says the same."""

from __future__ import annotations

import struct
from functools import cache

import numpy as np

_D65, _D50 = np.array([0.95047, 1.0, 1.08883]), np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_PRIMARIES = {  # number -> name, and x, y of red, green and blue
    1: ("BT.709", ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))),
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    12: ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
}
_SRGB_LIKE = {1, 6, 13, 14, 15}  # screens show all of them alike
_PQ, _HLG = 16, 18
_WHITE_NITS = 203.0  # of a sheet of paper in a picture of high dynamic range (ITU-R BT.2408)
_CURVE_POINTS = 4096


@cache
def profile_for(primaries: int, transfer: int) -> bytes | None:
    """The ICC profile for two of the numbers; None for sRGB and for what is not known, which is shown as sRGB too.

    What high dynamic range shows brighter than white becomes white.
    """
    if primaries not in _PRIMARIES or transfer not in _SRGB_LIKE | {_PQ, _HLG}:
        return None
    if primaries == 1 and transfer in _SRGB_LIKE:
        return None
    name, chromaticities = _PRIMARIES[primaries]
    name += {_PQ: " PQ", _HLG: " HLG"}.get(transfer, "")
    curve = _curve(np.linspace(0, 1, _CURVE_POINTS), transfer)
    table = np.rint(np.clip(curve, 0, 1) * 65535).astype(">u2").tobytes()
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name.encode() + bytes(1 + 8 + 70),
        b"wtpt": _xyz(_D50),
    }
    for channel, column in zip(b"rgb", _to_d50(chromaticities).T, strict=True):
        tags[bytes([channel]) + b"XYZ"] = _xyz(column)
        tags[bytes([channel]) + b"TRC"] = b"curv" + bytes(4) + struct.pack(">I", _CURVE_POINTS) + table
    return _profile(tags)


def nclx_of(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer as an AVIF file's first colour box states them; None without one."""
    at = data.find(b"colrnclx")
    return struct.unpack_from(">HH", data, at + 8) if 0 <= at <= len(data) - 12 else None


def _curve(signal: np.ndarray, transfer: int) -> np.ndarray:
    """What is stored, 0 to 1 -> light, where white is 1."""
    if transfer == _PQ:
        power = signal ** (1 / 78.84375)
        light = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        return np.asarray(light ** (1 / 0.1593017578125) * 10_000 / _WHITE_NITS)
    if transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        return np.asarray(light / 0.26496)  # white is a signal of 0.75
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _to_d50(chromaticities: tuple[tuple[float, float], ...]) -> np.ndarray:
    """(3, 3): the primaries as columns of XYZ, under the white of ICC profiles."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in chromaticities]).T
    columns = columns * np.linalg.solve(columns, _D65)
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ _D65)
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD @ columns)


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _profile(tags: dict[bytes, bytes]) -> bytes:
    directory, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        directory += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"", 0x02100000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack(">3i", *(round(float(value) * 65536) for value in _D50))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + directory + body
