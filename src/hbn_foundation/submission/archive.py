"""The zip of a submission."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hbn_foundation.errors import UserError
from hbn_foundation.files import renamed_when_done

SOURCE = "submission.py"
MAX_FILES = 1000
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # of zip files: the same content gives the same bytes


@dataclass(frozen=True)
class Submission:
    """The files of a submission, all in one folder: contents by name."""

    files: Mapping[str, bytes]

    def to_bytes(self) -> bytes:
        """Return the zip; the same files give the same bytes."""
        return zip_bytes(self.files)

    def save(self, path: str | Path) -> Path:
        """Write the zip; it is there whole or not at all."""
        path, content = Path(path), self.to_bytes()
        with renamed_when_done(path, len(content)) as temporary:
            temporary.write_bytes(content)
        return path

    @classmethod
    def load(cls, path: str | Path, most_megabytes: float = 2000.0) -> Submission:
        """Read a zip, from anywhere.

        Parameters
        ----------
        path
            The file.
        most_megabytes
            How large its files may be together, unpacked.

        Raises
        ------
        UserError
            When it is no zip, is damaged or too large, holds too many files, or anything but plain
            files side by side: folders, absolute paths, `..`, links, one name twice.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: no such file, expected the zip of a submission")
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                problem = _problem(entries, most_megabytes)
                if problem is not None:
                    raise UserError(f"{path}: {problem}")
                return cls({entry.filename: archive.read(entry) for entry in entries})
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: cannot be read as a zip ({reason})") from None

    def unpack(self, folder: str | Path) -> None:
        """Write the files into a folder."""
        for name, content in self.files.items():
            Path(folder, name).write_bytes(content)


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of files; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, ZIP_EPOCH)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _problem(entries: list[zipfile.ZipInfo], most_megabytes: float) -> str | None:
    """Say in one line what is wrong with the entries of a zip; None when nothing is."""
    if len(entries) > MAX_FILES:
        return f"{len(entries):,} files in it; expected at most {MAX_FILES:,}"
    for entry in entries:
        name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            return f"{name!r} is a link or no plain file; expected plain files"
        if any(letter in "/\\:" or ord(letter) < 32 for letter in name) or name in ("", ".", ".."):
            return f"{name!r} is no plain name of a file; a submission is flat, without folders"
    names = Counter(entry.filename.lower() for entry in entries)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        return f"{twice[0]!r} is in it more than once"
    if SOURCE not in names:
        return f"no {SOURCE} in it; found {', '.join(sorted(names)[:5]) or 'nothing'}"
    size = sum(entry.file_size for entry in entries) / 1e6
    if size > most_megabytes:
        return f"its files are {size:,.0f} MB unpacked; expected at most {most_megabytes:,.0f} MB"
    return None
