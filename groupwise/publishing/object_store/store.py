"""An object store that speaks S3, through s3fs: the few operations that publishing needs, each refused with a clear error.

Credentials, region and endpoint are those of the usual ``AWS_*`` variables and files; nothing of them is kept or shown here.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from groupwise.publishing.address import Address
from groupwise.publishing.object_store.store_errors import answer, words
from multilevel.errors import PublishError

# Tries of one request: the client's, times those that s3fs adds for a connection that breaks.
CLIENT_TRIES, CONNECTION_TRIES = 4, 2
CONNECT_SECONDS, READ_SECONDS = 5, 60
AT_A_TIME = 16
BLOCK = 8 * 2**20
NEVER_CACHED = "no-cache"
PROBE = ".conditional-"


def announce(step: str, name: str) -> None:
    """Called with the step's name and the object's just before it is taken; does nothing. Tests put failures there."""


@dataclass(frozen=True)
class Content:
    """An object's bytes, and the entity tag by which the store knows this content."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class Stored:
    """An object in a listing: its size in bytes, and when it was written by the store's clock."""

    size: int
    modified: datetime


class ObjectStore:
    """Objects below an address, by names relative to it."""

    def __init__(self, root: Address) -> None:
        self.root = root
        self._files = _connect(root)

    def address(self, name: str) -> Address:
        """Where an object is."""
        return self.root / name

    def read(self, name: str) -> Content | None:
        """An object's content; None where there is none."""
        with self._taking("get", name):
            try:
                return self._do(self._get, self.address(name))
            except FileNotFoundError as error:
                if answer(error)[0] == "NoSuchBucket":
                    raise
                return None

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Small objects by name, several at a time; one that is not there is left out."""
        wanted = sorted(names)
        with self._taking("get", ", ".join(wanted[:1])):
            found = self._do(self._get_all, [self.address(name) for name in wanted])
        return {name: data for name, data in zip(wanted, found, strict=True) if data is not None}

    def names(self, folder: str) -> dict[str, Stored]:
        """Every object whose name begins with ``folder``."""
        prefix, skip = self._key(folder), len(self._key(""))
        with self._taking("list", folder):
            found, _ = self._do(self._list, prefix, "")
        return {item["Key"][skip:]: Stored(int(item["Size"]), item["LastModified"]) for item in found}

    def folders(self) -> list[str]:
        """First parts of the names that have several."""
        skip = len(self._key(""))
        with self._taking("list", ""):
            _, found = self._do(self._list, self._key(""), "/")
        return sorted(item["Prefix"][skip:].rstrip("/") for item in found)

    def upload(self, file: Path, name: str) -> None:
        """Store a file under a name that is not taken; one that is keeps its content."""
        with self._taking("put", name):
            self._unless_taken(lambda: self._do(self._files._put_file, str(file), self._path(name), mode=self._create))

    def create(self, name: str, data: bytes) -> None:
        """Store bytes under a name that is not taken; one that is keeps its content."""
        with self._taking("put", name):
            self._unless_taken(lambda: self._do(self._files._pipe_file, self._path(name), data, mode=self._create))

    def sha256(self, name: str) -> str:
        """Hex digest of an object as the store gives it back."""
        with self._taking("get", name):
            return self._do(self._digest, self.address(name))

    def swap(self, name: str, data: bytes, etag: str | None) -> bool:
        """Replace an object in one step if it still has this ``etag``; None: if there is none yet. False where it has changed.

        On a store without conditional writes the object is looked at just before, which leaves a moment between.
        """
        with self._taking("swap", name):
            if not self.is_conditional:
                found = self.read(name)
                if (None if found is None else found.etag) != etag:
                    return False
                self._do(self._put, self.address(name), data, {})
                return True
            return self._put_if(name, data, {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag})

    def remove(self, name: str) -> None:
        """Remove an object; nothing if it is not there."""
        with self._taking("remove", name):
            self._do(self._files._call_s3, "delete_object", Bucket=self.root.bucket, Key=self.address(name).key)

    @cached_property
    def is_conditional(self) -> bool:
        """Whether the store honours If-None-Match and If-Match on writes, tried on an object of its own: some ignore them silently."""
        name = f"{PROBE}{uuid.uuid4().hex}"
        with self._taking("probe", name):
            try:
                made = self._put_if(name, b"1", {"IfNoneMatch": "*"})
                return made and not any(self._put_if(name, b"2", wrong) for wrong in ({"IfNoneMatch": "*"}, {"IfMatch": f'"{"0" * 32}"'}))
            except NotImplementedError:
                return False
            finally:
                self._do(self._files._call_s3, "delete_object", Bucket=self.root.bucket, Key=self.address(name).key)

    @property
    def _create(self) -> str:
        return "create" if self.is_conditional else "overwrite"

    def _path(self, name: str) -> str:
        return f"{self.root.bucket}/{self.address(name).key}"

    def _key(self, name: str) -> str:
        return f"{self.root.key}/{name}" if self.root.key else name

    def _put_if(self, name: str, data: bytes, condition: dict[str, str]) -> bool:
        """Whether the store took the object; NotImplementedError where it knows no conditions."""
        try:
            self._do(self._put, self.address(name), data, condition)
        except OSError as error:
            code, status = answer(error)
            if status in (409, 412) or (status == 404 and "IfMatch" in condition and code != "NoSuchBucket"):
                return False
            if status == 501:
                raise NotImplementedError from error
            raise
        return True

    @staticmethod
    def _unless_taken(write: Callable[[], object]) -> None:
        """Let a name that is taken be: whoever verifies the content finds out whether it is ours (a lost answer) or another's."""
        try:
            write()
        except OSError as error:
            if answer(error)[1] not in (409, 412):
                raise

    async def _get(self, address: Address) -> Content:
        answer = await self._files._call_s3("get_object", Bucket=address.bucket, Key=address.key)
        async with answer["Body"] as body:
            return Content(await body.read(), str(answer["ETag"]))

    async def _get_all(self, addresses: Sequence[Address]) -> list[bytes | None]:
        turns = asyncio.Semaphore(AT_A_TIME)

        async def one(address: Address) -> bytes | None:
            async with turns:
                try:
                    return (await self._get(address)).data
                except FileNotFoundError as error:
                    if answer(error)[0] == "NoSuchBucket":
                        raise
                    return None

        return await asyncio.gather(*map(one, addresses))

    async def _digest(self, address: Address) -> str:
        digest = hashlib.sha256()
        answer = await self._files._call_s3("get_object", Bucket=address.bucket, Key=address.key)
        async with answer["Body"] as body:
            while block := await body.read(BLOCK):
                digest.update(block)
        return digest.hexdigest()

    async def _put(self, address: Address, data: bytes, condition: dict[str, str]) -> None:
        await self._files._call_s3("put_object", Bucket=address.bucket, Key=address.key, Body=data, CacheControl=NEVER_CACHED, **condition)

    async def _list(self, prefix: str, delimiter: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        files: list[dict[str, Any]] = []
        folders: list[dict[str, Any]] = []
        onward: dict[str, str] = {}
        while True:
            page = await self._files._call_s3("list_objects_v2", Bucket=self.root.bucket, Prefix=prefix, Delimiter=delimiter, **onward)
            files += page.get("Contents", [])
            folders += page.get("CommonPrefixes", [])
            if not page.get("IsTruncated"):
                return files, folders
            onward = {"ContinuationToken": page["NextContinuationToken"]}

    def _do[T](self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **named: Any) -> T:
        from fsspec.asyn import sync

        done: T = sync(self._files.loop, work, *arguments, **named)
        return done

    @contextmanager
    def _taking(self, step: str, name: str) -> Iterator[None]:
        """Announce a step, and tell every failure of the store in it as one clear error."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            announce(step, name)
            yield
        except (OSError, BotoCoreError, ClientError) as error:
            raise PublishError(f"{self.address(name)}: {words(error, self.root.bucket)}") from error


def _connect(root: Address) -> Any:
    try:
        import s3fs
    except ImportError as error:
        raise PublishError(f"publish_to {root}: object storage needs s3fs, which is not installed: pip install 'groupwise[s3]'") from error
    files = s3fs.S3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"mode": "standard", "total_max_attempts": CLIENT_TRIES},
        },
    )
    files.retries = CONNECTION_TRIES
    return files
