"""Named bytes in a folder, in memory or in an object store; what goes wrong there is a `SnapshotError`."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from storage.errors import SnapshotError, SnapshotExistsError

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion


class Listed(NamedTuple):
    """An object as a listing shows it."""

    path: str
    modified: datetime


class Tagged(NamedTuple):
    """An object's bytes, by what it is told from those written in its place later, and when it was written."""

    value: bytes
    e_tag: str | None
    version: str | None
    modified: datetime


class Objects:
    """The objects behind one URL.

    A path without a scheme is a folder. Raises `SnapshotError` where the URL cannot be opened. Folders and memory are
    tested; other schemes go to obstore as they are and are not run by the tests.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with _wrapped(f"object store {url} cannot be opened"):
            self._store = _open(url)

    def put(self, path: str, value: bytes) -> None:
        """Write an object, whole or not at all."""
        with _wrapped(f"{path} cannot be written to {self.url}"):
            obstore.put(self._store, path, value)

    def create(self, path: str, value: bytes) -> None:
        """Write an object that must not be there; raises `SnapshotExistsError` if it is."""
        try:
            with _wrapped(f"{path} cannot be written to {self.url}"):
                obstore.put(self._store, path, value, mode="create", use_multipart=False)
        except AlreadyExistsError as error:
            raise SnapshotExistsError(
                f"{path} is already in {self.url}: another trainer publishes this run; stop one of them"
            ) from error

    def get(self, path: str, max_bytes: int) -> bytes | None:
        """Read an object, None if it is not there; raises `SnapshotError` if it is larger than `max_bytes`."""
        found = self.get_tagged(path, max_bytes)
        return None if found is None else found.value

    def get_tagged(self, path: str, max_bytes: int) -> Tagged | None:
        """Read an object as `get` does, to be given to `swap`."""
        try:
            with _wrapped(f"{path} cannot be read from {self.url}"):
                found = obstore.get(self._store, path)
                size = found.meta["size"]
                if size > max_bytes:
                    raise SnapshotError(f"{path} must be at most {max_bytes} bytes, got {size}")
                meta = found.meta
                return Tagged(bytes(found.bytes()), meta["e_tag"], meta["version"], meta["last_modified"])
        except FileNotFoundError:
            return None

    def swap(self, path: str, value: bytes, former: Tagged | None) -> None:
        """Write an object in the place of `former`, None for where there was none.

        Raises `SnapshotError` if another has been written meanwhile. A folder cannot compare and write in one step:
        there it is compared first, and what is written in between is lost.
        """
        try:
            with _wrapped(f"{path} cannot be written to {self.url}"):
                obstore.put(self._store, path, value, mode=_mode(former), use_multipart=False)
        except (AlreadyExistsError, PreconditionError) as error:
            raise self._changed(path) from error
        except NotImplementedError as error:
            if self._tag(path) != _mode(former):
                raise self._changed(path) from error
            self.put(path, value)

    def upload(self, path: str, file: Path) -> None:
        """Write a file's content as an object, whole or not at all, in pieces where it is large."""
        with _wrapped(f"{path} cannot be written to {self.url}"):
            obstore.put(self._store, path, file)

    def download(self, path: str, target: Path, num_bytes: int) -> None:
        """Write an object to a file; raises `SnapshotError` if it is not there or not of this size."""
        try:
            with _wrapped(f"{path} cannot be read from {self.url}"), target.open("wb") as file:
                found = obstore.get(self._store, path)
                size = found.meta["size"]
                if size != num_bytes:
                    raise SnapshotError(f"{path} must have {num_bytes} bytes, got {size}")
                for piece in found.stream():
                    file.write(piece)
        except FileNotFoundError as error:
            raise SnapshotError(f"{path} is not in {self.url}: it is deleted by now") from error

    def list(self, folder: str) -> list[Listed]:
        """All objects below a folder, by path."""
        with _wrapped(f"{folder} cannot be listed in {self.url}"):
            chunks = list(obstore.list(self._store, folder))
        return sorted(Listed(meta["path"], meta["last_modified"]) for chunk in chunks for meta in chunk)

    def delete(self, path: str) -> None:
        """Delete an object; one that is not there is as good as deleted."""
        try:
            with _wrapped(f"{path} cannot be deleted from {self.url}"):
                obstore.delete(self._store, path)
        except FileNotFoundError:
            return

    def _tag(self, path: str) -> "PutMode | None":
        try:
            with _wrapped(f"{path} cannot be read from {self.url}"):
                found = obstore.head(self._store, path)
        except FileNotFoundError:
            return None
        return _as_mode(found["e_tag"], found["version"])

    def _changed(self, path: str) -> SnapshotError:
        return SnapshotError(f"{path} in {self.url} was changed by another meanwhile: look at it, then try again")


def _mode(former: Tagged | None) -> "PutMode":
    return "create" if former is None else _as_mode(former.e_tag, former.version)


def _as_mode(e_tag: str | None, version: str | None) -> "PutMode":
    mode: UpdateVersion = {}
    if e_tag is not None:
        mode["e_tag"] = e_tag
    if version is not None:
        mode["version"] = version
    return mode


def _open(url: str) -> ObjectStore:
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryStore()
    if parts.scheme == "file" or "://" not in url:
        folder = Path(unquote(parts.path) if parts.scheme == "file" else url).absolute()
        return LocalStore(folder, mkdir=True, automatic_cleanup=True)
    return from_url(url)


@contextmanager
def _wrapped(failure: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, AlreadyExistsError, PreconditionError):
        raise
    except (BaseError, OSError, ValueError) as error:
        raise SnapshotError(f"{failure}: {str(error).splitlines()[0]}") from error
