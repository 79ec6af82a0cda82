"""Stores that cannot be reached, or not by us: what their libraries raise, as one error that names the fix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import Refused

_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)"
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}
_NO_ANSWER = {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "SSLError"}
_NO_BUCKET = {"NoSuchBucket", "InvalidBucketName"}
_DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "403"}


class StoreRefuses(Refused):
    """A folder or bucket that may not be used with these rights or credentials."""

    code = "permission_denied"


class StoreUnreachable(Refused):
    """A store that does not answer, or a bucket that is not there."""

    code = "store_unreachable"


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turns what the store of ``url`` raises when it cannot be used into an error of this module."""
    try:
        yield
    except Refused:
        raise
    # s3fs and botocore have their own classes, some of them no OSError.
    except Exception as error:
        found = refusal(url, error)
        if found is None:
            raise
        raise found from None


def refusal(url: str, error: BaseException) -> Refused | None:
    """The error to raise for one that a store raised, or None if it is something else."""
    name, code, said = type(error).__name__, error_code(error), " ".join(str(error).split())
    remote = "://" in url
    if name in _NO_CREDENTIALS:
        return StoreRefuses(f"{url}: no credentials; set {_KEYS}")
    if name in _NO_ANSWER:
        return StoreUnreachable(f"{url}: its store does not answer; check AWS_ENDPOINT_URL, the region and the network")
    if code in _NO_BUCKET:
        return StoreUnreachable(f"{url}: no such bucket; create it, or check its name and AWS_ENDPOINT_URL")
    if isinstance(error, PermissionError) or code in _DENIED:
        fix = f"check {_KEYS}, and what they may do there" if remote else "check the rights of that path"
        return StoreRefuses(f"{url}: access denied ({code or said}); {fix}")
    return None


def error_code(error: BaseException | None) -> str:
    """The code that an S3 store gave, anywhere in the chain of causes; empty if there is none."""
    while error is not None:
        response = getattr(error, "response", None) or {}
        if isinstance(response, dict) and (code := response.get("Error", {}).get("Code")):
            return str(code)
        error = error.__cause__ or error.__context__
    return ""
