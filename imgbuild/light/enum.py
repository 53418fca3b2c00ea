"""Words of which a value is one: as in the standard module of this name, without what else members can be there."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enum import Enum, StrEnum
else:

    class _Kind(type):
        def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, object]) -> type:
            own = {key: value for key, value in members.items() if isinstance(value, str) and not key.startswith("_")}
            made = super().__new__(cls, name, bases, {key: value for key, value in members.items() if key not in own})
            made._members = {}
            for key, value in own.items():
                member = str.__new__(made, value) if issubclass(made, str) else object.__new__(made)
                member.name, member.value = key, value
                made._members[value] = member
                type.__setattr__(made, key, member)
            return made

        def __call__(cls, value: object) -> object:
            found = cls._members.get(getattr(value, "value", value))
            if found is None:
                raise ValueError(f"{value!r} is not a valid {cls.__qualname__}")
            return found

        def __iter__(cls) -> object:
            return iter(cls._members.values())

        def __len__(cls) -> int:
            return len(cls._members)

        def __setattr__(cls, name: str, value: object) -> None:
            if name in getattr(cls, "__members__", ()):
                raise AttributeError(f"cannot reassign member {name!r}")
            super().__setattr__(name, value)

        @property
        def __members__(cls) -> dict[str, object]:
            return {member.name: member for member in cls}

    class Enum(metaclass=_Kind):
        """As `enum.Enum`, of words."""

        def __repr__(self) -> str:
            return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

        def __reduce__(self) -> tuple[type, tuple[object]]:
            return type(self), (self.value,)

        def __copy__(self) -> Enum:
            return self

        def __deepcopy__(self, memo: object) -> Enum:
            return self

    class StrEnum(str, Enum):
        """As `enum.StrEnum`."""

        __str__ = str.__str__
        __format__ = str.__format__
        __hash__ = str.__hash__
        __repr__ = Enum.__repr__


__all__ = ["Enum", "StrEnum"]
