"""Every error that Arrowlens raises on purpose.

::

    ArrowlensError
    ├── InputError (also a ValueError)     a caller's argument is unusable
    │   ├── ImageValidationError           wrong shape, dtype or values of pixels
    │   ├── AudioValidationError           wrong shape, dtype, rate, length or values of samples
    │   └── TextValidationError            no text, or not a text
    ├── MediaError                         a file or an upload that cannot be decoded, with its reason
    │   ├── FileChangedError               a file is not the one that was indexed
    │   └── MissingExtraError              a file that a package reads which is not installed
    ├── WorkerError                        the processes that decode cannot be started, or do not work
    ├── ModelError
    │   ├── ModelLoadError                 a model directory is missing, foreign, incomplete or damaged
    │   ├── ConversionError                a checkpoint that cannot be converted
    │   ├── QualityError                   vectors do not agree with the reference's
    │   └── DownloadError                  the hub cannot be reached, or what came is not what was asked for
    └── LibraryError
        ├── LibraryNotFoundError           no library there
        ├── LibraryBusyError               another process is writing to it
        ├── LibraryVersionError            written by a newer Arrowlens
        ├── ModelMismatchError             opened with other models than it was made with
        ├── StorageError                   the disk or the database refused
        └── FolderError                    a folder to ingest is missing or unreadable

Each message is one line: what failed, with the value, and the cure.
"""

from __future__ import annotations

MEMORY_REASON = "needs more memory than allowed"
"""How the reason begins of a file whose decoder wanted too much memory, whether the decoder or its process says so."""


class ArrowlensError(Exception):
    """Root of all errors raised on purpose by Arrowlens."""


class InputError(ArrowlensError, ValueError):
    """A caller's argument is unusable."""


class ImageValidationError(InputError):
    """Pixels have the wrong shape, dtype or values."""


class AudioValidationError(InputError):
    """Samples have the wrong shape, dtype, rate, length or values."""


class TextValidationError(InputError):
    """A text is empty or not a text."""


class MediaError(ArrowlensError):
    """A file or an upload cannot be decoded."""


class FileChangedError(MediaError):
    """A file of the library is not the one that was indexed: it was changed, replaced, or is reached by a link."""


class MissingExtraError(MediaError):
    """The package that reads a file is not installed, which says nothing of the file's content."""


class UnreachableError(MediaError):
    """A bucket refuses to give an object, or does not answer: the object may be there as it was."""


class WorkerError(ArrowlensError):
    """The processes that decode files cannot be started, or do not work."""


class ModelError(ArrowlensError):
    """Something is wrong with a model."""


class ModelLoadError(ModelError):
    """A model directory is missing, foreign, incomplete or damaged."""


class ConversionError(ModelError):
    """A checkpoint cannot be converted."""


class QualityError(ModelError):
    """Vectors do not agree with the reference's; the message carries the measured cosine."""


class DownloadError(ModelError):
    """A checkpoint could not be downloaded."""


class LibraryError(ArrowlensError):
    """Something is wrong with a library on disk."""


class LibraryNotFoundError(LibraryError):
    """There is no library at the path."""


class LibraryBusyError(LibraryError):
    """Another process is writing to the library."""


class LibraryVersionError(LibraryError):
    """The library was written by a newer Arrowlens."""


class ModelMismatchError(LibraryError):
    """The library holds vectors of other models."""


class StorageError(LibraryError):
    """The disk or the database refused a read or a write."""


class FolderError(LibraryError):
    """A folder to ingest is missing or unreadable."""
