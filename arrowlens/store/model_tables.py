"""Which models' vectors are read and written, and how a library changes to others.

Each model has tables of its own, so that the next ones fill up while those of the models that serve are searched. One
write of the settings makes the next models those that serve: before it a reader sees only the old vectors, after it
only the new ones.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Self

import pyarrow as pa

from arrowlens.errors import ModelMismatchError
from arrowlens.store.folder import OpenLibrary
from arrowlens.store.schema import vector_table_name
from arrowlens.store.settings import ModelRecord

_PREFIX = "arrowlens."


class ModelSwitch(OpenLibrary):
    """The models of a library, those that serve and those that it changes to."""

    _is_building = False

    @property
    def models(self) -> Mapping[str, ModelRecord]:
        """By role, those whose vectors this storage reads and writes: the ones that serve, unless ``building``."""
        return self.settings.next_models if self._is_building else self.settings.models

    def building(self) -> Self:
        """The same library with the vectors of the next models; shares the lock and the tables."""
        view = copy.copy(self)
        view._is_building = True
        return view

    def begin_change(self, models: Mapping[str, ModelRecord]) -> None:
        """Let ``building()`` have these models; vectors that it has of them already, from a run cut off, stay.

        An empty mapping gives up an earlier change. The tables of other next models are deleted.

        Raises:
            ModelMismatchError: two models cannot be told apart. LibraryBusyError, StorageError: as for writing.
        """
        with self.writing():
            self._save(self.settings.changing_to(models))
            self._drop_retired()

    def finish_change(self) -> None:
        """The next models serve from now on, for every reader at once; then the vectors of the others are deleted.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        with self.writing():
            assert self.settings.next_models, "nothing was begun"
            self._save(self.settings.changed())
            self._drop_retired()

    def _drop_retired(self) -> None:
        """Delete the tables of earlier models; a deletion that was cut off is done again."""
        if self.settings.retired:
            for name in self.settings.retired:
                self._tables.drop(name)
            self._save(self.settings.without_retired())

    def _vector_table(self, role: str, record: ModelRecord) -> str:
        """The name of a model's table, once what it says of its vectors agrees with the settings.

        Raises:
            ModelMismatchError: they come from another model or from other windows.
        """
        name = vector_table_name(role, record.digest)
        origin = self._origin(role, record)
        if self._checked.get(name) == origin:
            return name
        held = self._tables.read(name, lambda table: table.schema.metadata, None)
        if held is None:  # no such table yet, or one from before tables said it
            return name
        for key, value in origin.items():
            told = held.get(f"{_PREFIX}{key}".encode())
            if told is not None and told.decode() != value:
                raise ModelMismatchError(
                    f"{self.path}: the table {name} holds vectors of {key} {told.decode()[:16]}, the library says "
                    f"{value[:16]}; restore library.json, or index into a new library"
                )
        self._checked[name] = origin
        return name

    def _with_origin(self, rows: pa.Table, role: str, record: ModelRecord) -> pa.Table:
        """Rows that say, as long as their table lasts, where their vectors come from."""
        origin = self._origin(role, record).items()
        return rows.replace_schema_metadata({f"{_PREFIX}{key}": text for key, text in origin})

    def _origin(self, role: str, record: ModelRecord) -> dict[str, str]:
        """What vectors depend on; the digest is over the model and the files that say how inputs are prepared."""
        windows = {"window_s": f"{self.settings.window_s:g}", "hop_s": f"{self.settings.hop_s:g}"}
        return {"model": record.digest, **(windows if role == "audio" else {})}
