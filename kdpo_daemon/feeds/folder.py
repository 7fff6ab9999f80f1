"""A folder's files -> bytes, or "unchanged".

Nothing in the folder is ever written, moved or deleted: it may be mounted read-only, and whoever
fills it also empties it.  A link may lead to another place in the folder, never out of it: each
part of the path is opened without following links once they are resolved.  Does not parse.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from kdpo_daemon.errors import RefusedError, SettingsError, SourceError
from kdpo_daemon.facts.texts import clean
from kdpo_daemon.records.intake import Feed, Fetched, Page

#: Files in one folder; each costs a look at every poll.
_MOST_FILES = 10_000
#: Endings of files that are still being written.
_UNFINISHED = (".tmp", ".part")


def url_of(place: str, base: Path) -> str:
    """Give the file: URL of a folder, from its path or URL; relative ones are taken from `base`.

    Raises:
        SettingsError: it is no such URL, or on another machine.

    """
    if not place.startswith("file:"):
        return (base / place).absolute().as_uri()
    parts = urlsplit(place)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        hint = "write file:///srv/facts, or the folder's path"
        raise SettingsError("is not a folder of this machine", subject=place, hint=hint)
    return path_of(place).as_uri()


def path_of(url: str) -> Path:
    """Give the path that a file: URL names."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(url).path)))


def files_of(feed: Feed) -> list[str]:
    """Give the URLs of the files that are ready in a feed's folder, by name.

    Raises:
        SourceError: the folder cannot be listed, or holds too many files.

    """
    folder = path_of(feed.url)
    try:
        with os.scandir(folder) as found:
            names = sorted(
                one.name
                for one in found
                if _is_ready(one.name) and not one.is_dir(follow_symlinks=False)
            )
    except OSError as error:
        what = f"its folder {folder} cannot be read: {error.strerror}"
        hint = "make it, readable for the daemon"
        raise SourceError(what, subject=f"feed {feed.name}", hint=hint) from error
    if len(names) > _MOST_FILES:
        what = f"has {len(names)} files, more than {_MOST_FILES}"
        raise SourceError(what, subject=f"feed {feed.name}", hint="move those that were read away")
    return [(folder / name).as_uri() for name in names]


def _is_ready(name: str) -> bool:
    return not name.startswith(".") and not name.lower().endswith(_UNFINISHED)


def fetch_file(folder: Path, page: Page, max_bytes: int) -> Fetched:
    """Read a file of a folder, unless it is as `page` knows it, or gone by now.

    Raises:
        RefusedError: it leads out of the folder, is too large, or cannot be read.

    """
    path = path_of(page.url)
    name = clean(path.name)
    try:
        with _opened(folder.resolve(), path) as file:
            return _read(name, file, page, max_bytes)
    except FileNotFoundError as error:
        if not path.is_symlink():
            return Fetched(page.url, None)
        raise _refused(name, "is a link to nothing", "remove it") from error
    except OSError as error:
        hint = "make it a plain file, readable for the daemon"
        raise _refused(name, f"cannot be read: {error.strerror}", hint) from error


@contextmanager
def _opened(folder: Path, path: Path) -> Iterator[int]:
    """Open a file below a folder; OSError if any part of its path is replaced meanwhile."""
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_relative_to(folder):
        raise _refused(clean(path.name), "is a link out of its folder", "copy the file itself")
    opened = open_below(folder, real.relative_to(folder).parts)
    try:
        yield opened
    finally:
        os.close(opened)


def open_below(folder: Path, parts: tuple[str, ...]) -> int:
    """Open `folder/parts...` for reading, following no link; OSError (ELOOP) where one is."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts:
        try:
            # a pipe that nobody writes to must not be waited for
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            below = os.open(part, flags, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


def _read(name: str, file: int, page: Page, max_bytes: int) -> Fetched:
    before = os.fstat(file)
    if not stat.S_ISREG(before.st_mode):
        raise _refused(name, "is not a plain file", "remove it")
    if _state(before) == page.etag:
        return Fetched(page.url, None, etag=page.etag)
    if before.st_size > max_bytes:
        hint = "split it, or raise [fetch] max_bytes"
        raise _refused(name, f"is larger than {max_bytes} bytes", hint)
    with os.fdopen(os.dup(file), "rb") as stream:
        body = stream.read(max_bytes + 1)
    if _state(os.fstat(file)) != _state(before) or len(body) != before.st_size:
        hint = "write it elsewhere and rename it into the folder; it is read at the next poll"
        raise _refused(name, "was written to while it was read", hint)
    return Fetched(page.url, body, content_type="text/plain", etag=_state(before))


def _state(status: os.stat_result) -> str:
    """Give what changes whenever a file is written or another takes its name."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_ctime_ns:x}"


def _refused(name: str, why: str, hint: str) -> RefusedError:
    return RefusedError(why, subject=name, hint=hint)
