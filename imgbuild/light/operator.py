"""What takes fields and items out of values, from the C code of the standard module, whose other half nobody here wants."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from operator import attrgetter, itemgetter
else:
    from _operator import attrgetter, itemgetter

__all__ = ["attrgetter", "itemgetter"]
