"""Filters as SQL conditions over documents d and chunks c. Values are bound parameters, never part of the text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from psycopg import sql

from shared.core.filters import All, Either, Filter, Match, Not, Range, Scalar

_COLUMNS = {
    "uri": sql.SQL("('s3://' || d.bucket || '/' || d.key)"),
    "media_type": sql.SQL("d.media_type"),
    "page": sql.SQL("c.page"),
    "created_at": sql.SQL("d.created_at"),
}
_COMPARISONS = {"$gt": sql.SQL(">"), "$gte": sql.SQL(">="), "$lt": sql.SQL("<"), "$lte": sql.SQL("<=")}
_METADATA = sql.SQL("(d.metadata ->> {}) = any({})")
_FACET = sql.SQL(
    "d.id in (select document_id from facets"
    " where tenant_id = (select current_tenant()) and name = {} and value = any({}))"
)
_OPEN = sql.SQL(
    "d.id in (select document_id from facets"
    " where tenant_id = (select current_tenant()) and name = '' and value = any(%(acl)s)"
    " union all select o.id from documents o"
    " where o.collection_id = %(collection_id)s and o.acl is null and o.published_generation is not null)"
)
_TRUE, _FALSE = sql.SQL("true"), sql.SQL("false")


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """chunk: what a chunk c of a document d has to meet; document: what d has to meet for that to be possible."""

    chunk: sql.Composable
    document: sql.Composable
    parameters: dict[str, Any]
    about_chunks: bool = False

    @property
    def passes_all(self) -> bool:
        return self.chunk is _TRUE and self.document is _TRUE

    def among(self, acl: tuple[str, ...]) -> CompiledFilter:
        """The same among the documents that acl may see, found by an index; row-level security hides the others anyway."""
        document = sql.SQL("{} and {}").format(_OPEN, self.document)
        return replace(self, document=document, parameters=self.parameters | {"acl": list(acl)})


def compiled(tree: Filter | None) -> CompiledFilter:
    if tree is None:
        return CompiledFilter(_TRUE, _TRUE, {})
    compiler = _Compiler()
    chunk, document = compiler.compile(tree, None), compiler.compile(tree, _TRUE)
    return CompiledFilter(chunk, document, compiler.parameters, compiler.about_chunks)


@dataclass(slots=True)
class _Compiler:
    parameters: dict[str, Any] = field(default_factory=dict)
    about_chunks: bool = False

    def compile(self, tree: Filter, unknown: sql.SQL | None) -> sql.Composable:
        """unknown stands in for conditions on chunks, when only documents are at hand."""
        match tree:
            case All(parts):
                return _joined(sql.SQL(" and "), [self.compile(part, unknown) for part in parts])
            case Either(parts):
                return _joined(sql.SQL(" or "), [self.compile(part, unknown) for part in parts])
            case Not(part):
                return sql.SQL("not coalesce({}, false)").format(self.compile(part, _opposite(unknown)))
            case Match("page") | Range("page") if unknown is not None:
                self.about_chunks = True
                return unknown
            case Match(name, values):
                return self._match(name, values, by_index=unknown is not None)
            case Range(name, operator, value):
                return self._range(name, operator, value)

    def _bind(self, value: Any) -> sql.Placeholder:
        name = f"filter_{len(self.parameters)}"
        self.parameters[name] = value
        return sql.Placeholder(name)

    def _match(self, name: str, values: tuple[Scalar, ...], by_index: bool) -> sql.Composable:
        if name in _COLUMNS:
            return sql.SQL("{} = any({})").format(_COLUMNS[name], self._bind(list(values)))
        wanted = sorted({spelling for value in values for spelling in _spellings(value)})
        return (_FACET if by_index else _METADATA).format(self._bind(name), self._bind(wanted))

    def _range(self, name: str, operator: str, value: Scalar) -> sql.Composable:
        comparison = _COMPARISONS[operator]
        if name in _COLUMNS:
            return sql.SQL("{} {} {}").format(_COLUMNS[name], comparison, self._bind(value))
        if isinstance(value, str):
            text = sql.SQL('(d.metadata ->> {}) collate "C" {} {}')
            return text.format(self._bind(name), comparison, self._bind(value))
        number = sql.SQL(
            "case when jsonb_typeof(d.metadata -> {0}) = 'number' then (d.metadata ->> {0})::float8 end {1} {2}"
        )
        return number.format(self._bind(name), comparison, self._bind(value))


def _opposite(unknown: sql.SQL | None) -> sql.SQL | None:
    if unknown is None:
        return None
    return _FALSE if unknown is _TRUE else _TRUE


def _joined(word: sql.SQL, parts: list[sql.Composable]) -> sql.Composable:
    return sql.SQL("({})").format(word.join(parts))


def _spellings(value: Scalar) -> set[str]:
    """As metadata reads as text: what was stored as 7, 7.0, "7" or true is found by either."""
    if isinstance(value, bool):
        return {str(value).lower()}
    if isinstance(value, float) and value.is_integer():
        return {str(value), str(int(value))}
    return {str(value)}
