"""One canonical form of a job's parameters, and its hash."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from hbn_foundation.errors import UserError


def canonical(value: Any, where: str = "") -> Any:
    """Bring plain values into the one form that is hashed.

    Mappings are sorted by key, tuples become lists, and a number that is whole is written without
    a point, so that 1 and 1.0 are one number. The order of a list stays: where it has no meaning,
    as for subjects, the spec sorts it.

    Parameters
    ----------
    value
        Of mappings, sequences, texts, numbers, booleans and None.
    where
        Dotted name of the value, for the message.

    Raises
    ------
    UserError
        A number that is not finite, or a value that JSON does not have.
    """
    if isinstance(value, dict):
        names = sorted(map(str, value))
        return {name: canonical(value[name], f"{where}.{name}".strip(".")) for name in names}
    if isinstance(value, list | tuple):
        return [canonical(part, f"{where}[{place}]") for place, part in enumerate(value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UserError(f"{where or 'job'}={value}: expected a finite number")
        return int(value) if value.is_integer() else value
    raise UserError(f"{where or 'job'}={value!r}: a {type(value).__name__} has no hash")


def canonical_text(value: Any) -> str:
    """Write the canonical form as JSON, without spaces."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_hash(value: Any) -> str:
    """Hash the canonical form: 16 hexadecimal digits."""
    return hashlib.blake2b(canonical_text(value).encode(), digest_size=8).hexdigest()


def difference(there: Any, here: Any, where: str = "") -> str | None:
    """Name the first field in which two canonical values differ, with both; None without any."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted({*there, *here}):
            field = f"{where}.{name}".strip(".")
            if name not in there or name not in here:
                missing = "there" if name not in there else "here"
                return f"{field} is not known {missing}"
            found = difference(there[name], here[name], field)
            if found:
                return found
        return None
    if canonical_text(there) == canonical_text(here):
        return None
    if isinstance(there, list) and isinstance(here, list):
        gone = [part for part in there if part not in here]
        new = [part for part in here if part not in there]
        return f"{where} lacks {gone} and has {new} besides" if gone or new else f"{where} differs"
    return f"{where} is {there!r} there and {here!r} here"
