"""Feature values as people type them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from shortlist_client.errors import InvalidValue
from shortlist_client.queries import FeatureValue
from shortlist_client.results import FieldInfo, ValueType

_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def features_from_text(
    pairs: Sequence[tuple[str, str]], declared: Sequence[FieldInfo], *, scope: str, flag: str
) -> Mapping[str, FeatureValue]:
    """Return features in the types that the bundle declares.

    Names that it does not declare stay text: the server warns about them, or refuses them when
    strict.

    Args:
        pairs: Names, without the scope, and values.
        declared: The bundle's features.
        scope: What their names begin with: `user` or `context`.
        flag: The option that the pairs come from, for errors.

    Raises:
        InvalidValue: A value cannot be read as its type, or a name is given twice.
    """
    types = {field.name: field.type for field in declared}
    features: dict[str, FeatureValue] = {}
    for name, value in pairs:
        if name in features:
            raise InvalidValue.about(
                f"{flag} {name}={value}", reason="INVALID_VALUE", expected="it once", got="twice"
            )
        kind = types.get(f"{scope}.{name}", ValueType.STRING)
        try:
            features[name] = value_from_text(value, kind)
        except (KeyError, ValueError) as error:
            raise InvalidValue.about(
                f"{flag} {name}={value}",
                reason="INVALID_VALUE",
                expected=f"{kind.value.lower()}, as the bundle declares {scope}.{name}",
                got=repr(value),
            ) from error
    return features


def value_from_text(value: str, kind: ValueType) -> FeatureValue:
    """Return a value of this type; text where the type is one that this version does not know.

    Raises:
        KeyError: The value is none of the words for yes and no.
        ValueError: The value is no number.
    """
    return _READERS.get(kind, str)(value)


def _list_of(read: Callable[[str], FeatureValue]) -> Callable[[str], FeatureValue]:
    def read_list(value: str) -> FeatureValue:
        # Of one type, since one reader made them: more than the checker can see.
        return [read(part.strip()) for part in value.split(",")] if value else []  # type: ignore[return-value]

    return read_list


def _bool(value: str) -> bool:
    return _BOOLS[value.lower()]


_READERS: Mapping[ValueType, Callable[[str], FeatureValue]] = {
    ValueType.STRING: str,
    ValueType.INT64: int,
    ValueType.DOUBLE: float,
    ValueType.BOOL: _bool,
    ValueType.STRING_LIST: _list_of(str),
    ValueType.INT64_LIST: _list_of(int),
    ValueType.DOUBLE_LIST: _list_of(float),
    ValueType.BOOL_LIST: _list_of(_bool),
}
