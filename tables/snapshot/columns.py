"""Decides which columns of a table are used and as what: id, label, number or category.

It sees names and types, never a value: the settings decide, or the model that was trained, or else a column's type.
"""

import json
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import TableFaults, UnusableError, join_names
from tercet.tables.core.similar_names import list_existing
from tercet.tables.core.table import Kind
from tercet.tables.core.values import is_text

ALONE = "add columns to train on: only the label party of a job may hold a label and nothing else"
SETTINGS_WRONG = "is described wrongly in its owner's settings"


@dataclass(frozen=True, slots=True)
class FeatureColumn:
    """Describes one feature.

    Attributes:
        name: as the source has it.
        kind: what it is read as.
        declared: whether the settings, or the model that is to score it, say so; else its type does.
    """

    name: str
    kind: Kind
    declared: bool

    @property
    def is_guess(self) -> bool:
        """Tell whether its text alone makes it categorical, and nobody has said so."""
        return self.kind == "categorical" and not self.declared


@dataclass(frozen=True, slots=True)
class ChosenColumns:
    """Describes the columns that are read of a table.

    Attributes:
        id: column of the ids.
        label: column of the label, or None where none was asked for.
        label_kind: whether it is read as a number or as a class.
        positive: of two classes the one that becomes 1, if the settings name it.
        columns: the features in their order.
        holdouts: columns that are no features, read as texts: rows are held out by them, or scores shifted.
        as_trained: whether a model asks for these columns, and not the settings.
        unlike: how the table differs from the one that the model was trained on, as far as names and types tell.
    """

    id: str
    label: str | None
    columns: tuple[FeatureColumn, ...]
    as_trained: bool = False
    unlike: tuple[str, ...] = ()
    label_kind: Kind = "numeric"
    positive: str | None = None
    holdouts: tuple[str, ...] = ()

    def canonical(self) -> dict[str, Any]:
        """Give all of it as plain values under fixed keys, for hashing."""
        return {
            "id": self.id,
            "label": self.label,
            "label kind": self.label_kind,
            "positive": self.positive,
            "columns": [[one.name, one.kind, one.declared] for one in self.columns],
            "as trained": self.as_trained,
            "unlike": list(self.unlike),
            **({"holdouts": list(self.holdouts)} if self.holdouts else {}),
        }

    def check_likeness(self, texts: Sequence[str] = ()) -> None:
        """Check that the table has the columns that the model was trained on.

        `texts` say what values tell beside.

        Raises:
            UnusableError: it has others.
        """
        if self.unlike or texts:
            raise UnusableError(
                "; ".join([*self.unlike, *texts]),
                "give a table with the columns that the model was trained on; others in it do no harm",
                "has other columns than the model was trained on",
            )

    @property
    def names(self) -> list[str]:
        """All columns to read, each once."""
        label = [self.label] if self.label else []
        return list(dict.fromkeys([self.id, *label, *self.holdouts, *(one.name for one in self.columns)]))


def choose_columns(
    schema: pa.Schema,
    settings: TableSettings,
    faults: TableFaults,
    *,
    with_label: bool,
    label_kind: Kind | None,
    expected: Mapping[str, Kind] | None = None,
) -> ChosenColumns | None:
    """Choose the columns to read: those of the settings, or the `expected` ones.

    A model was trained on the expected ones.

    The label is never a feature, and may be missing where it is not asked for; a table of a label alone has no
    features. A model wants the label as a number or as a class; where no model is known yet, None, its type decides.

    Adds to `faults` where table and settings do not fit together, or a column holds what can't be used. Returns None
    if no row can be read.
    """
    with faults.gather():
        _check_names(schema)
    if faults:
        return None
    with faults.gather():
        _must_exist("id", [settings.id], schema)
    label: str | None = None
    kind: Kind = "numeric"
    if with_label:
        with faults.gather():
            label, kind = _label(schema, settings, label_kind)
    if expected is not None:
        chosen = _choose_expected(schema, settings.id, label, expected)
    else:
        features = _features(schema, settings, faults)
        if not (features or with_label or faults):
            with faults.gather():
                raise UnusableError("it has no column beside id and label", ALONE, "has no columns")
        chosen = ChosenColumns(settings.id, label, _set_kinds(schema, settings, features, faults))
    with faults.gather():
        _must_exist("holdouts", settings.holdouts, schema)
    positive = settings.positive if with_label else None
    holdouts = tuple(name for name in settings.holdouts if name in schema.names)
    chosen = replace(chosen, label_kind=kind, positive=positive, holdouts=holdouts)
    return chosen if settings.id in schema.names else None


def _check_names(schema: pa.Schema) -> None:
    twice = [name for name, times in Counter(schema.names).items() if times > 1]
    if twice:
        raise UnusableError(
            f"column {join_names(twice)} stands there more than once",
            "give every column a name of its own",
            "has columns of the same name",
        )


def _choose_expected(schema: pa.Schema, id_: str, label: str | None, expected: Mapping[str, Kind]) -> ChosenColumns:
    columns, lacking, unlike = [], [], []
    for name, kind in expected.items():
        if name not in schema.names:
            lacking.append(name)
        elif _readable(schema.field(name).type, kind):
            columns.append(FeatureColumn(name, kind, declared=True))
        else:
            unlike.append(f"{name!r} was {kind} and holds {_content(schema.field(name).type)}")
    lacks = [f"the table lacks {join_names(lacking)}"] if lacking else []
    return ChosenColumns(id_, label, tuple(columns), as_trained=True, unlike=(*lacks, *unlike))


def _features(schema: pa.Schema, settings: TableSettings, faults: TableFaults) -> list[str]:
    held_back = {settings.id, settings.label, *settings.beside}
    features = settings.columns
    if features is None:
        unasked = index_columns(schema) - {*settings.numeric, *settings.cuts, *settings.categorical}
        features = tuple(name for name in schema.names if name not in held_back | unasked | set(settings.exclude))
    for setting in ("columns", "exclude", "numeric", "cuts", "categorical"):
        with faults.gather():
            _must_exist(setting, getattr(settings, setting) or (), schema)
    with faults.gather():
        _check_each_once(features, held_back)
    for setting in ("numeric", "cuts", "categorical"):
        with faults.gather():
            _check_used(setting, [name for name in getattr(settings, setting) if name in schema.names], features)
    return [name for name in dict.fromkeys(features) if name in schema.names and name not in held_back]


def _check_each_once(features: Sequence[str], held_back: Container[str | None]) -> None:
    wrong = [name for name in features if name in held_back]
    wrong += [name for name, times in Counter(features).items() if times > 1]
    if wrong:
        raise UnusableError(
            f"`columns` names {join_names(wrong)}, which is the id, the label or there already",
            "list in `columns` each feature once, without id and label",
            SETTINGS_WRONG,
        )


def _check_used(setting: str, names: Sequence[str], features: Sequence[str]) -> None:
    unused = [name for name in names if name not in features]
    if unused:
        raise UnusableError(
            f"`{setting}` names {join_names(unused)}, which is not among the columns to use",
            f"remove it from `{setting}` or add it to `columns`",
            SETTINGS_WRONG,
        )


def index_columns(schema: pa.Schema) -> set[str]:
    """Find columns that hold the index of a data frame.

    pandas notes it in the Parquet files that it writes.
    """
    try:
        metadata = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        return {name for name in metadata["index_columns"] if isinstance(name, str)}
    except (ValueError, KeyError, TypeError):
        return set()


def _must_exist(setting: str, names: Iterable[str], schema: pa.Schema) -> None:
    unknown = [name for name in names if name not in schema.names]
    if unknown:
        raise UnusableError(
            f"`{setting}` names {join_names(unknown)}, which the table does not have; "
            f"{list_existing(schema.names, unknown)}",
            f"correct `{setting}` in the settings, or the table (a CSV file has commas, and names in its first line)",
            "lacks a column that its owner's settings name",
            tuple(unknown) if setting == "columns" else (),
        )


def _label(schema: pa.Schema, settings: TableSettings, wanted: Kind | None) -> tuple[str, Kind]:
    if settings.label is None:
        raise UnusableError(
            "the job wants a label from it and the settings name none",
            "write `label = ...` into the table's settings",
            "has no label",
        )
    if settings.label == settings.id:
        raise UnusableError("`label` names the id column", "name the column to predict", "has no label")
    if settings.label not in schema.names:
        raise UnusableError(
            f"`label` names {settings.label!r}, which the table does not have; "
            f"{list_existing(schema.names, [settings.label])}",
            "correct `label` in the settings, or the table",
            "has no label",
        )
    kind = schema.field(settings.label).type
    classes = settings.positive is not None or infer_kind(kind) == "categorical"
    wanted = wanted or ("categorical" if classes else "numeric")
    if not _readable(kind, "numeric"):
        raise UnusableError(
            f"the label {settings.label!r} holds {_content(kind)}",
            "give the label as a number" if wanted == "numeric" else "give the classes as texts or whole numbers",
            "has no label to learn",
        )
    return settings.label, wanted


# --- what a column is


def _set_kinds(
    schema: pa.Schema, settings: TableSettings, features: Sequence[str], faults: TableFaults
) -> tuple[FeatureColumn, ...]:
    declared: dict[str, Kind] = dict.fromkeys([*settings.numeric, *settings.cuts], "numeric")
    declared |= dict.fromkeys(settings.categorical, "categorical")
    kinds = {name: declared.get(name) or infer_kind(schema.field(name).type) for name in features}
    unfit = [name for name, kind in kinds.items() if kind is None or not _readable(schema.field(name).type, kind)]
    with faults.gather():
        _check_content(schema, unfit)
    return tuple(
        FeatureColumn(name, kind, name in declared)
        for name, kind in kinds.items()
        if kind is not None and name not in unfit
    )


def _check_content(schema: pa.Schema, unfit: Sequence[str]) -> None:
    if unfit:
        raise UnusableError(
            "; ".join(f"column {name!r} holds {_content(schema.field(name).type)}" for name in unfit),
            "leave it out with `exclude` or `columns`, turn it into a number or text in the source "
            "(days since some date, say), or list dates under `categorical` if each is a category",
            "has columns that can't be used",
        )


def infer_kind(kind: pa.DataType) -> Kind | None:
    """Infer what a column of this type is unless something else is said.

    None for dates, times, binary and nested values.
    """
    stored = _stored(kind)
    if is_text(stored):
        return "categorical"
    return "numeric" if _is_number(stored) else None


def _readable(kind: pa.DataType, wanted: Kind) -> bool:
    """Tell whether values of this type can be such a column at all.

    Of texts only their content tells.
    """
    stored = _stored(kind)
    if is_text(stored) or _is_number(stored):
        return True
    return wanted == "categorical" and pa.types.is_temporal(stored) and not pa.types.is_interval(stored)


def _stored(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _stored(kind.value_type)
    return _stored(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _is_number(kind: pa.DataType) -> bool:
    is_number: bool = pa.types.is_primitive(kind) and not pa.types.is_temporal(kind)
    return is_number or pa.types.is_decimal(kind) or pa.types.is_null(kind)


def _content(kind: pa.DataType) -> str:
    """Describe values of a type in words of the table's owner."""
    stored = _stored(kind)
    if is_text(stored):
        return "text"
    if _is_number(stored):
        return "numbers"
    if pa.types.is_temporal(stored):
        return "dates or times"
    return "values inside values" if pa.types.is_nested(stored) else "binary data"
