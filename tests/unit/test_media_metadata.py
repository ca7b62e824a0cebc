"""What files say of themselves: time, camera, place and texts, of every format, and however damaged."""

from __future__ import annotations

import io
import struct
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from arrowlens.errors import MediaError
from arrowlens.media import Decoded, Limits, decode, hash_file, read_caption
from arrowlens.media.metadata import about_recording, camera_name, place, read_day
from arrowlens.media.picture_headers import is_plausible_tiff
from tests.support.media_factory import encode_sound, image_bytes, samples, sound_bytes

# As in a user's process: Pillow remarks on damaged metadata by warnings, which tests would turn into errors.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
EXIF_FORMATS = ["jpeg", "png", "webp", "tiff", "heic", "avif"]


def good(data: bytes) -> Decoded:
    decoded = decode("upload", data=data)
    assert decoded.reason is None
    return decoded


def block(tags: dict[int, object], details: dict[int, object] = {}, gps: dict[int, object] = {}) -> bytes:  # noqa: B006
    """An EXIF block."""
    exif = Image.Exif()
    exif.update(tags)
    exif.get_ifd(IFD.Exif).update(details)
    exif.get_ifd(IFD.GPSInfo).update(gps)
    return exif.tobytes()


def position(latitude: tuple[float, ...], north: str, longitude: tuple[float, ...], east: str) -> dict[int, object]:
    return {
        GPS.GPSLatitudeRef: north,
        GPS.GPSLatitude: tuple(IFDRational(round(part * 1000), 1000) for part in latitude),
        GPS.GPSLongitudeRef: east,
        GPS.GPSLongitude: tuple(IFDRational(round(part * 1000), 1000) for part in longitude),
    }


def wide(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"


@pytest.mark.parametrize("file_format", EXIF_FORMATS)
def test_exif_of_every_format_that_has_it(file_format: str) -> None:
    exif = block(
        {Base.Make: "Canon", Base.Model: "Canon EOS R5", Base.ImageDescription: "Gulls", Base.Artist: "A. Sailor"},
        {Base.DateTimeOriginal: "2019:07:14 18:30:05", Base.LensModel: "RF 50mm"},
        position((52, 31, 7.2), "N", (13, 24, 29.16), "E"),
    )
    decoded = good(image_bytes(file_format, 1, exif=exif))
    assert (decoded.camera, decoded.description, decoded.artist) == ("Canon EOS R5", "Gulls", "A. Sailor")
    assert decoded.captured_at == datetime(2019, 7, 14, 18, 30, 5)
    assert decoded.latitude == pytest.approx(52.5186667, abs=1e-6)
    assert decoded.longitude == pytest.approx(13.4081, abs=1e-6)
    assert decoded.metadata == {"make": "Canon", "model": "Canon EOS R5", "lens": "RF 50mm"}
    assert (decoded.title, decoded.album) == (None, None)


@pytest.mark.parametrize("file_format", ["jpeg", "tiff", "png"])
def test_texts_of_windows(file_format: str) -> None:
    exif = block(
        {
            Base.XPTitle: wide("Möwe"),
            Base.XPComment: wide("über dem Hafen"),
            Base.XPAuthor: wide("Käthe"),
            Base.XPKeywords: wide("Vogel;Meer"),
        }
    )
    decoded = good(image_bytes(file_format, 2, exif=exif))
    assert (decoded.title, decoded.description, decoded.artist) == ("Möwe", "über dem Hafen", "Käthe")
    assert decoded.metadata == {"keywords": "Vogel;Meer"}


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        (b"ASCII\0\0\0Hello there", "Hello there"),
        (b"ASCII\0\0\0   \0\0\0", None),
        (b"UNICODE\0" + "Möwe".encode("utf-16-le"), "Möwe"),
        (b"UNICODE\0" + "Möwe".encode("utf-16-be"), "Möwe"),
        (b"UNICODE\0" + "Möwe".encode("utf-16"), "Möwe"),
        (b"JIS\0\0\0\0\0" + "鴎".encode("euc_jp"), "鴎"),
        (bytes(8) + b"no charset", "no charset"),
        (b"Written without one", "Written without one"),
        (bytes(300), None),
        (b"", None),
    ],
)
def test_user_comments(comment: bytes, expected: str | None) -> None:
    assert good(image_bytes("jpeg", 3, exif=block({}, {Base.UserComment: comment}))).description == expected


@pytest.mark.parametrize(
    "words",
    ["OLYMPUS DIGITAL CAMERA", "SONY DSC", "DIGITAL CAMERA", "KODAK Digital Still Camera", "Samsung camera pictures"],
)
def test_what_cameras_write_into_every_picture_is_no_description(words: str) -> None:
    assert good(image_bytes("jpeg", 4, exif=block({Base.ImageDescription: words}))).description is None
    kept = good(image_bytes("jpeg", 4, exif=block({Base.ImageDescription: f"My {words} at sea"})))
    assert kept.description == f"My {words} at sea"
    second = block({Base.ImageDescription: words}, {Base.UserComment: b"ASCII\0\0\0Gulls"})
    assert good(image_bytes("jpeg", 4, exif=second)).description == "Gulls"


@pytest.mark.parametrize(
    ("gps", "expected"),
    [
        (position((33, 51, 24.48), "S", (151, 12, 55.08), "E"), (-33.8568, 151.2153)),
        (position((40.5, 0, 0), "N", (73.75, 0, 0), "W"), (40.5, -73.75)),
        (position((90, 0, 0), "N", (180, 0, 0), "W"), (90.0, -180.0)),
        (position((91, 0, 0), "N", (10, 0, 0), "E"), (None, None)),
        (position((10, 0, 0), "N", (181, 0, 0), "E"), (None, None)),
        (position((10, 75, 0), "N", (10, 0, 0), "E"), (None, None)),
        (position((0, 0, 0), "N", (0, 0, 0), "E"), (None, None)),  # no fix
        ({GPS.GPSLatitude: (1.0, 2.0, 3.0)}, (None, None)),
        ({GPS.GPSLatitude: (1.0, 2.0, 3.0, 4.0), GPS.GPSLongitude: (1.0,)}, (None, None)),
        (
            {
                GPS.GPSLatitude: (IFDRational(1, 0), IFDRational(0), IFDRational(0)),
                GPS.GPSLongitude: (IFDRational(1), IFDRational(0), IFDRational(0)),
            },
            (None, None),
        ),
    ],
)
def test_places(gps: dict[int, object], expected: tuple[float | None, float | None]) -> None:
    decoded = good(image_bytes("jpeg", 5, exif=block({}, {}, gps)))
    if expected == (None, None):
        assert (decoded.latitude, decoded.longitude) == expected
    else:
        assert (decoded.latitude, decoded.longitude) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("NIKON CORPORATION", "NIKON D850", "NIKON D850"),
        ("Apple", "iPhone 13", "Apple iPhone 13"),
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("OLYMPUS IMAGING CORP.", "E-M5", "OLYMPUS IMAGING CORP. E-M5"),
        ("Samsung", "", "Samsung"),
        ("", "K-1", "K-1"),
        (None, None, None),
    ],
)
def test_the_name_of_a_camera(make: str | None, model: str | None, expected: str | None) -> None:
    assert camera_name(make, model) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2019:07:14 18:30:05", datetime(2019, 7, 14, 18, 30, 5)),
        ("2019-07-14T18:30:05.000000Z", datetime(2019, 7, 14, 18, 30, 5)),
        ("2019-07-14T18:30:05+0200", datetime(2019, 7, 14, 18, 30, 5)),
        ("2019-07-14", datetime(2019, 7, 14)),
        ("2019", None),
        ("0000:00:00 00:00:00", None),
        ("2019:02:30 00:00:00", None),
        ("0001-01-01", None),
        ("", None),
    ],
)
def test_days(text: str, expected: datetime | None) -> None:
    assert read_day(text) == expected


def test_the_time_of_writing_is_the_last_resort() -> None:
    written, original = {Base.DateTime: "2021:01:01 00:00:00"}, {Base.DateTimeOriginal: "2019:07:14 18:30:05"}
    assert good(image_bytes("jpeg", 6, exif=block(written))).captured_at == datetime(2021, 1, 1)
    assert good(image_bytes("jpeg", 6, exif=block(written, original))).captured_at.year == 2019


def test_texts_of_a_png() -> None:
    info = PngInfo()
    info.add_text("Title", "Möwe")
    info.add_itxt("Description", "über dem Hafen", zip=True)
    info.add_text("Author", "Käthe")
    decoded = good(image_bytes("png", 7, pnginfo=info))
    assert (decoded.title, decoded.description, decoded.artist) == ("Möwe", "über dem Hafen", "Käthe")


@pytest.mark.parametrize("file_format", ["wav", "flac", "ogg", "mp3"])
def test_tags_of_recordings(file_format: str) -> None:
    tags = {"title": "Ruf", "artist": "Küste", "album": "Nord", "comment": "am Kai", "date": "2019-07-14"}
    decoded = good(sound_bytes(file_format, 8, tags=tags))
    assert (decoded.title, decoded.artist, decoded.album) == ("Ruf", "Küste", "Nord")
    assert decoded.metadata["date"].startswith("2019")
    assert decoded.captured_at in (datetime(2019, 7, 14), None)  # of an MP3 there is only the year
    assert (decoded.captured_at is None) == (file_format == "mp3")
    assert decoded.description == "am Kai"


def test_tags_of_an_apple_film() -> None:
    about = about_recording(
        {
            "com.apple.quicktime.make": "Apple",
            "com.apple.quicktime.model": "iPhone 13",
            "com.apple.quicktime.creationdate": "2019-07-14T18:30:05+0200",
            "creation_time": "2019-07-14T16:30:05.000000Z",
            "com.apple.quicktime.location.ISO6709": "+52.5186+013.4081+034.000/",
        }
    )
    assert (about.camera, about.captured_at) == ("Apple iPhone 13", datetime(2019, 7, 14, 18, 30, 5))  # its own clock
    assert (about.latitude, about.longitude) == (52.5186, 13.4081)
    assert about_recording({"location": "nowhere", "date": "2019", "TITLE": " \0 "}).metadata == {"date": "2019"}


def test_places_that_are_none() -> None:
    assert place(float("nan"), 1.0) == place(91.0, 1.0) == place(1.0, -180.5) == place(0.0, 0.0) == (None, None)
    assert place(-90.0, 180.0) == (-90.0, 180.0)


def directory(n_entries: int, size: int) -> bytes:
    """A TIFF directory, each entry of which claims the same bytes, all there are."""
    entry = struct.pack("<HHII", 0x9286, 7, size, 8)
    return (b"II*\0" + struct.pack("<IH", 8, n_entries) + entry * n_entries).ljust(size + 20, b"\0")


def is_plausible(data: bytes) -> bool:
    return is_plausible_tiff(io.BytesIO(data))


def test_directories_that_claim_more_than_they_hold() -> None:
    assert is_plausible(block({Base.Make: "Canon"}, {Base.DateTimeOriginal: "2019"}).removeprefix(b"Exif\0\0"))
    assert is_plausible(image_bytes("tiff", 9))
    assert is_plausible(image_bytes("tiff", 9, big_tiff=True))
    assert is_plausible(directory(1, 1000))
    assert is_plausible(directory(500, 60_000))  # damage, not malice
    assert not is_plausible(directory(600, 60_000))
    assert is_plausible(b"") is is_plausible(b"II*\0") is is_plausible(b"no directory") is True


@pytest.mark.parametrize("file_format", EXIF_FORMATS)
def test_a_bomb_of_exif_costs_only_itself(file_format: str) -> None:
    """5,000 entries that each claim the same 60,000 bytes: 300 MB for its reader."""
    bomb = directory(5000, 60_000)
    if file_format == "tiff":
        decoded = decode("x", data=bomb)
        assert decoded.reason == "damaged: its metadata claims more than the file holds"
        return
    decoded = decode("x", data=image_bytes(file_format, 10, exif=b"Exif\0\0" + bomb))
    if file_format in ("jpeg", "avif"):  # Pillow would read it on opening them
        assert decoded.reason == "damaged: its metadata claims more than the file holds"
    else:
        assert decoded.reason is None
        assert (decoded.camera, decoded.description) == (None, None)


@pytest.mark.parametrize("file_format", EXIF_FORMATS)
def test_any_damage_to_exif_costs_only_itself(file_format: str) -> None:
    exif = block(
        {Base.Make: "Canon", Base.Model: "EOS", Base.XPTitle: wide("Title")},
        {Base.DateTimeOriginal: "2019:07:14 18:30:05", Base.UserComment: b"ASCII\0\0\0Hello"},
        position((52, 31, 7.2), "N", (13, 24, 29.16), "E"),
    )
    data = image_bytes(file_format, 11, exif=exif)
    start, end = 8, len(data)  # in a TIFF the two are one
    if file_format != "tiff":
        start = data.index(exif.removeprefix(b"Exif\0\0"))
        end = start + len(exif) - 6
        start += 4 if file_format == "avif" else 0  # libavif refuses a file whose EXIF has no header
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(start, end, 4):
            damaged[at] = rng.integers(256)
        if file_format == "png":  # its chunks carry a checksum
            damaged[end : end + 4] = struct.pack(">I", zlib.crc32(damaged[start - 4 : end]))
        decoded = decode("x", data=bytes(damaged))
        if file_format != "tiff":
            assert decoded.reason is None
            assert decoded.pixels.shape[2] == 3
        for text in (decoded.title, decoded.description, decoded.camera):
            assert text is None or (text.isprintable() and text == text.strip())


def test_captions(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"

    def caption(data: bytes) -> str | None:
        path.write_bytes(data)
        return read_caption(bytes(path))

    assert caption("Möwen\nüber  dem Hafen\n".encode()) == "Möwen über dem Hafen"
    assert caption("\ufeffMit Marke".encode()) == "Mit Marke"
    assert caption("Möwen – „Kai“".encode("cp1252")) == "Möwen – „Kai“"
    assert caption(b"") is caption(b" \n\t ") is caption(b"\xef\xbb\xbf") is None
    assert caption(b"PK\3\4\0\0binary") is None
    assert caption(b"a" * 20_000) == "a" * 10_000
    assert caption("日".encode() * 20_000) == "日" * 10_000
    assert caption("ab😀".encode() * 20_000) == "ab😀" * 3_333 + "a"
    path.unlink()
    for unread in (bytes(path), bytes(tmp_path), b"/dev/zero"):
        with pytest.raises(MediaError):
            read_caption(unread)


def test_hash_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(encode_sound(samples(12), 16_000, "wav"))
    assert hash_file(path, Limits()) == hash_file(bytes(path), Limits()) == decode(path).content_hash
    with pytest.raises(MediaError, match="is over the limit of 10 bytes"):
        hash_file(path, Limits(max_file_bytes=10))
    with pytest.raises(MediaError, match="the file is gone"):
        hash_file(tmp_path / "y.wav", Limits())
    with pytest.raises(MediaError, match="a folder"):
        hash_file(tmp_path, Limits())


def test_texts_are_one_printable_line() -> None:
    decoded = good(
        image_bytes("jpeg", 13, exif=block({Base.ImageDescription: "one\r\n\x1b[31mtwo\u202e " + "x" * 2000}))
    )
    assert decoded.description.startswith("one [31mtwo? x")
    assert len(decoded.description) == 1000
