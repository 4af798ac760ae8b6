"""What an object store answered, in words for the user; never anything of the credentials."""

from __future__ import annotations

NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError")


def answer(error: BaseException) -> tuple[str, int]:
    """The store's error code and HTTP status; an empty code and 0 where it gave no answer."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", "")), int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def words(error: BaseException, bucket: str) -> str:
    """What went wrong and what to do."""
    code, status = answer(error)
    if type(error).__name__ in NO_CREDENTIALS:
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile (AWS_PROFILE)"
    if code == "NoSuchBucket":
        return f"there is no bucket {bucket}; make it, or correct publish_to (endpoint: AWS_ENDPOINT_URL)"
    if isinstance(error, FileNotFoundError):
        return "is not there; it was removed"
    if status in (401, 403):
        return f"access denied ({code}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights to list, read, write and remove"
    if status == 0:
        return f"the store does not answer ({error}); check AWS_ENDPOINT_URL and the network"
    return f"the store refused ({code or status}: {error})"
