"""URLs as workers and plans have them: whole, so that they mean the same elsewhere, and without secrets."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import available_protocols, get_filesystem_class

from pipeline.errors import BadRequest

_SECRETS = ("password", "token")
_CACHES = ("simplecache", "filecache", "blockcache")
"""``simplecache::s3://bucket/key`` has the path of the next link."""


def full_url(url: str, fs: Any, root: str, path: str | None = None) -> str:
    """The URL of ``path``, by default ``root``, on the file system of ``url``, whose own path there is ``root``.

    Hosts, users and what an archive is chained to stay as they were given; local paths become absolute.
    """
    if "::" not in url and not fs._get_kwargs_from_urls(url):
        return fs.unstrip_protocol(root if path is None else path)
    links = [_absolute(link) for link in url.split("::")]
    place = next((i for i, link in enumerate(links) if link.removesuffix("://") not in _CACHES), 0)
    head = _before(links[place], root.strip("/"))
    if head is not None:
        links[place] = head + (root if path is None else path).strip("/")
    elif path is not None:
        return fs.unstrip_protocol(path)
    return "::".join(links)


def check_secrets(url: str) -> None:
    """Raise BadRequest for a URL with a password in it: plans and rows would keep it.

    Raises ValueError or ImportError for a protocol that is not known, or not installed.
    """
    for link in url.split("::") if "@" in url else ():
        protocol = _protocol(link)
        given = get_filesystem_class(protocol)._get_kwargs_from_urls(link)
        if protocol in ("http", "https") and urlsplit(link).password:
            fix = """put it into ~/.netrc, and set FSSPEC_HTTPS='{"client_kwargs": {"trust_env": true}}'"""
        elif found := [name for name in _SECRETS if given.get(name)]:
            fix = f"set FSSPEC_{protocol.upper()}_{found[0].upper()}"
        else:
            continue
        raise BadRequest(f"a password in a {protocol}:// URL would be kept in the dataset: leave it out, and {fix}")


def _absolute(link: str) -> str:
    return LocalFileSystem._strip_protocol(link) if _protocol(link) in ("file", "local") else link


def _protocol(link: str) -> str:
    name, mark, _ = link.partition("://")
    return name if mark or link in available_protocols() else "file"


def _before(link: str, root: str) -> str | None:
    """What stands before the path ``root`` in a link, or None if that does not end with it."""
    protocol, mark, rest = link.rpartition("://")
    rest = rest.rstrip("/")
    if not root:
        return protocol + mark + (f"{rest}/" if rest else "")
    head = rest.removesuffix(root)
    return None if head == rest or head[-1:] not in ("", "/") else protocol + mark + head
