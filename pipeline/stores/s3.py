"""Keys of an object store, a page at a time: they come in their order, so nothing has to be held to be sorted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PAGE = 1000


def keys(fs: Any, path: str) -> Iterator[dict[str, Any]]:
    """What is known of every object under ``path``, ascending by name, as ``fs.info`` says it.

    Keys sort by their UTF-8 bytes, which is the order of their code points, and so of Python's strings.
    """
    bucket, _, prefix = path.partition("/")
    more: dict[str, str] = {}
    folder = f"{prefix}/" if prefix else ""
    while True:
        page = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=folder, MaxKeys=PAGE, **more)
        for entry in page.get("Contents", ()):
            yield entry | {"name": f"{bucket}/{entry['Key']}", "size": entry["Size"], "type": "file"}
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}
