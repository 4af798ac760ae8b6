"""An object store, through obstore: the few operations that publishing needs, each refused with a clear error."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from groupwise.publishing.address import Address
from groupwise.publishing.object_store.clients import Clients, open_clients, require_library
from groupwise.publishing.object_store.content import NO_CONTENT, Content, Mode, Stored, Tag
from groupwise.publishing.object_store.in_thread import in_thread
from groupwise.publishing.object_store.store_errors import is_no_bucket, is_unanswered, is_unknown, words
from multilevel.errors import PublishError

# Tries of one request: the client's, times ours of a conditional write whose connection breaks.
CLIENT_TRIES, CONNECTION_TRIES = 4, 2
AT_A_TIME = 16
BLOCK = 8 * 2**20
# A larger file goes up in parts, which no store takes under a condition.
LARGEST_REQUEST, PART, PARTS_AT_A_TIME = 256 * 2**20, 64 * 2**20, 4
NEVER_CACHED = {"Cache-Control": "no-cache"}
PROBE = ".conditional-"


def announce(step: str, name: str) -> None:
    """Called with the step's name and the object's just before it is taken; does nothing. Tests put failures there."""


class ObjectStore:
    """Objects below an address, by names relative to it."""

    def __init__(self, root: Address) -> None:
        require_library(root)
        self.root = root

    @cached_property
    def _clients(self) -> Clients:
        return open_clients(self.root, CLIENT_TRIES)

    def address(self, name: str) -> Address:
        """Where an object is."""
        return self.root / name

    def read(self, name: str) -> Content | None:
        """An object's content; None where there is none."""
        with self._taking("get", name):
            return in_thread(lambda: self._get(name))

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Small objects by name, several at a time; one that is not there is left out."""
        wanted = sorted(names)
        with self._taking("get", ", ".join(wanted[:1])):
            found = in_thread(lambda: asyncio.run(self._get_all(wanted)))
        return {name: data for name, data in zip(wanted, found, strict=True) if data is not None}

    def names(self, start: str) -> dict[str, Stored]:
        """Every object whose name begins with ``start``."""
        with self._taking("list", start):
            found = in_thread(lambda: self._list(start))
        return {item["path"]: Stored(item["size"], item["last_modified"]) for item in found}

    def folders(self) -> list[str]:
        """First parts of the names that have several."""
        with self._taking("list", ""):
            return sorted(in_thread(lambda: self._clients.requests.list_with_delimiter(None))["common_prefixes"])

    def upload(self, file: Path, name: str) -> None:
        """Store a file under a name that is not taken; one that is keeps its content.

        A file too large for one request goes up in parts, and a look takes the condition's place: the claim has made the name this run's.
        """
        with self._taking("put", name):
            if file.stat().st_size <= LARGEST_REQUEST:
                self._written(lambda: self._clients.uploads.put(name, file, mode=self._create, use_multipart=False))
            elif not any(item["path"] == name for item in in_thread(lambda: self._list(name))):
                parts = {"chunk_size": PART, "max_concurrency": PARTS_AT_A_TIME}
                in_thread(lambda: self._clients.uploads.put(name, file, **parts))

    def create(self, name: str, data: bytes) -> None:
        """Store bytes under a name that is not taken; one that is keeps its content."""
        with self._taking("put", name):
            # whoever verifies the content finds out whether it is ours (a lost answer) or another's
            self._written(lambda: self._clients.requests.put(name, data, mode=self._create))

    def sha256(self, name: str) -> str:
        """Hex digest of an object as the store gives it back."""
        with self._taking("get", name):
            return in_thread(lambda: self._digest(name))

    def swap(self, name: str, data: bytes, tag: Tag | None) -> bool:
        """Replace an object in one step if it still has this ``tag``; None: if there is none yet. False where it has changed.

        On a store without conditional writes the object is looked at just before, which leaves a moment between.
        """
        with self._taking("swap", name):
            if self.is_conditional:
                return self._written(lambda: self._put(name, data, "create" if tag is None else tag.mode))
            found = self.read(name)
            if (None if found is None else found.tag) != tag:
                return False
            return self._written(lambda: self._put(name, data, "overwrite"))

    def remove(self, name: str) -> None:
        """Remove an object; nothing if it is not there."""
        with self._taking("remove", name):
            in_thread(lambda: self._delete(name))

    @cached_property
    def is_conditional(self) -> bool:
        """Whether the store honours conditions on writes, tried on an object of its own: some ignore them silently."""
        from obstore.exceptions import BaseError

        name = f"{PROBE}{uuid.uuid4().hex}"
        with self._taking("probe", name):
            try:
                self._written(lambda: self._put(name, b"1", "create"))
                return not (
                    self._written(lambda: self._put(name, b"2", "create")) or self._written(lambda: self._put(name, b"2", NO_CONTENT.mode))
                )
            except (BaseError, NotImplementedError) as error:
                if not is_unknown(error):
                    raise
                return False
            finally:
                in_thread(lambda: self._delete(name))

    @property
    def _create(self) -> Mode:
        return "create" if self.is_conditional else "overwrite"

    def _written(self, write: Callable[[], object]) -> bool:
        """Whether the store took a write; False where its condition does not hold.

        A client does not repeat a conditional write whose connection broke, since the store may have taken it. Here that does no harm:
        the second try finds the condition broken, and whoever reads the object finds what was written.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        for tries_left in reversed(range(CONNECTION_TRIES)):
            try:
                in_thread(write)
                break
            except (AlreadyExistsError, PreconditionError) as error:
                if is_no_bucket(error):
                    raise
                return False
            except BaseError as error:
                if not tries_left or not is_unanswered(error):
                    raise
        return True

    def _put(self, name: str, data: bytes, mode: Mode) -> None:
        self._clients.requests.put(name, data, mode=mode, attributes=NEVER_CACHED)

    def _get(self, name: str) -> Content | None:
        with _nothing_there():
            found = self._clients.requests.get(name)
            return Content(found.bytes().to_bytes(), Tag(found.meta["e_tag"], found.meta["version"]))
        return None

    async def _get_all(self, names: Sequence[str]) -> list[bytes | None]:
        turns = asyncio.Semaphore(AT_A_TIME)

        async def one(name: str) -> bytes | None:
            async with turns:
                with _nothing_there():
                    found = await self._clients.requests.get_async(name)
                    data: bytes = (await found.bytes_async()).to_bytes()
                    return data
            return None

        return await asyncio.gather(*map(one, names))

    def _digest(self, name: str) -> str:
        digest = hashlib.sha256()
        for block in self._clients.requests.get(name).stream(min_chunk_size=BLOCK):
            digest.update(block)
        return digest.hexdigest()

    def _list(self, start: str) -> list[dict[str, Any]]:
        """Listings go by folders here: that of ``start``, then those of its folders whose names begin so."""
        folder, _, stem = start.rpartition("/")
        found: list[dict[str, Any]] = []
        below = [folder]
        if stem:
            page = self._clients.requests.list_with_delimiter(folder or None)
            found += [item for item in page["objects"] if item["path"].startswith(start)]
            below = [place for place in page["common_prefixes"] if place.startswith(start)]
        for place in below:
            found += self._clients.requests.list(place or None).collect()
        return found

    def _delete(self, name: str) -> None:
        with _nothing_there():
            self._clients.requests.delete(name)

    @contextmanager
    def _taking(self, step: str, name: str) -> Iterator[None]:
        """Announce a step, and tell every failure of the store in it as one clear error."""
        from obstore.exceptions import BaseError

        try:
            announce(step, name)
            yield
        except (OSError, BaseError, NotImplementedError) as error:
            raise PublishError(f"{self.address(name)}: {words(error, self.root)}") from error


@contextmanager
def _nothing_there() -> Iterator[None]:
    """Go on where an object is not there; a bucket that is not there is an error."""
    try:
        yield
    except FileNotFoundError as error:
        if is_no_bucket(error):
            raise
