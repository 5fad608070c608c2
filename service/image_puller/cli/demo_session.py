"""The folder of a running demo: its secrets, so that other commands of the same user find them.

It is in the folder for temporary files, and only its user may read it.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from image_puller.errors import ImagePullerError


@contextmanager
def created(port: int, files: Mapping[str, str]) -> Iterator[Path]:
    """Create the folder of the demo that listens on a port, with files, and remove it at the end.

    Only one demo can listen on the port. So a folder that exists is one that a killed demo left.
    """
    folder = _path(port)
    shutil.rmtree(folder, ignore_errors=True)
    # A folder of mkdtemp is private. It gets its name when it is complete.
    new = Path(tempfile.mkdtemp(prefix="image-puller-demo-"))
    try:
        for name, text in files.items():
            (new / name).touch(mode=0o600)
            (new / name).write_text(text)
        try:
            new.rename(folder)
        except OSError as error:
            raise ImagePullerError(
                f"the demo can't create its folder {folder}: {error.strerror}; remove what is "
                "there, or set TMPDIR to a folder of your own"
            ) from error
        yield folder
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def found(port: str) -> Path | None:
    """Return the folder of the demo that listens on a port, or None if this user has none."""
    folder = _path(port)
    try:
        status = folder.lstat()
    except OSError:
        return None
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return folder if is_own and not status.st_mode & 0o077 else None


def _path(port: int | str) -> Path:
    return Path(tempfile.gettempdir()) / f"image-puller-demo-{os.getuid()}-{port}"
