"""What an object store answered, in words for the user; never anything of the credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass

from groupwise.publishing.address import Address

NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
OTHER_REGION = ("AuthorizationHeaderMalformed", "PermanentRedirect")
# obstore words the answer in one sentence, and writes its own structures below it
DETAILS = "\n\nDebug source:"
REQUEST = re.compile(r"Error performing (?:list request: |token request: )*(?:Error performing )?(\w+) (\S+) in ")
REASON = re.compile(r'(?:message|error): "([^"]+)"')
USER = re.compile(r"//[^/@\s]*@")


@dataclass(frozen=True)
class Answer:
    """The store's error code, HTTP status and message; an empty code and 0 where it gave no answer."""

    code: str
    status: int
    message: str


def answer(error: BaseException) -> Answer:
    """What the store said."""
    text = str(error).partition(DETAILS)[0]
    status = re.search(r"status code: (\d{3})", text)
    return Answer(_element("Code", text), int(status[1]) if status else 0, _element("Message", text) or masked(text))


def masked(text: str) -> str:
    """Text without the user and password of an address in it."""
    return USER.sub("//***@", text)


def is_no_bucket(error: BaseException) -> bool:
    """Whether it is the bucket that is not there."""
    return answer(error).code in NO_BUCKET


def is_unanswered(error: BaseException) -> bool:
    """Whether the connection broke or nothing came: the store may have done what it was asked."""
    return answer(error).status == 0 and "HTTP error" in str(error)


def is_unknown(error: BaseException) -> bool:
    """Whether what was asked is nothing that the store, or the client as it is set, knows."""
    return type(error).__name__ in ("NotSupportedError", "NotImplementedError") or answer(error).status == 501


def words(error: BaseException, root: Address) -> str:
    """What went wrong and what to do."""
    said, kind = answer(error), root.kind
    told = (
        (said.code in NO_BUCKET, f"there is no {kind.noun} {root.bucket}; make it, or correct publish_to (endpoint: {kind.endpoint})"),
        (isinstance(error, FileNotFoundError), "is not there; it was removed"),
        (_is_without_credentials(error), f"no credentials ({_why(error)}); set {kind.credentials}, or {kind.login}"),
        (
            said.status in (401, 403),
            f"access denied ({said.code}); check {kind.credentials} and the rights to list, read, write and remove",
        ),
        (_is_elsewhere(said), f"the {kind.noun} is in another region; set AWS_DEFAULT_REGION to it"),
        (
            type(error).__name__ == "InvalidPathError",
            f"an object there has a name that is no path, and nothing can be listed beside it ({said.message}); remove or rename it",
        ),
        (
            is_unanswered(error) or isinstance(error, OSError),
            f"the store does not answer ({_why(error)}); check {kind.endpoint} and the network",
        ),
        (said.status == 0, f"cannot be reached ({said.message}); check {kind.credentials}, and {kind.endpoint}"),
        (True, f"the store refused ({said.code or said.status}: {said.message})"),
    )
    return next(text for applies, text in told if applies)


def _is_without_credentials(error: BaseException) -> bool:
    """Whether the client found none that it could ask the store with."""
    return any(place in answer(error).message for place in ("token request", "credential provider"))


def _is_elsewhere(said: Answer) -> bool:
    return said.code in OTHER_REGION or said.status in (301, 307) or "redirect" in said.message


def _element(name: str, text: str) -> str:
    found = re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL)
    return found[1].strip() if found else ""


def _why(error: BaseException) -> str:
    """The request and what became of it, without what the library adds."""
    text, _, details = str(error).partition(DETAILS)
    request, reason = REQUEST.search(text), REASON.search(details)
    why = reason[1] if reason else "no answer in time" if "TimedOut" in details else text.rpartition(" - ")[2]
    return masked(f"{request[1]} {request[2]}: {why}" if request else why)
