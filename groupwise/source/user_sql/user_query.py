"""Queries that users write (``line_items``, ``standardise_to.query``): one SELECT over the declared source, or refused.

The judge is DuckDB's parser: every node of the tree is of a kind on a list, every function is one that gives the same answer every time and
reads nothing but its arguments, and the text means the same inside the brackets that it is run in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from groupwise.source.user_sql.functions import BY_NAME, CLOCK_WORDS, REFUSED, TABLE_FUNCTIONS, macro_definitions, refusal, table_refusal
from groupwise.source.user_sql.objects import SourceObjects, view_query
from groupwise.source.user_sql.parser import Tree, catalogue, parsed, same_tree, scoped_nodes, statements, system_tables
from groupwise.source.user_sql.sql_errors import RefusedSqlError

MOST_CHARACTERS = 50_000
MOST_DEFINITIONS = 200
CATALOG = "source"

_EXPRESSIONS = (
    "BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA OPERATOR POSITIONAL_REFERENCE STAR SUBQUERY TYPE "
    "WINDOW"
)
_NODES = (
    "SELECT_NODE SET_OPERATION_NODE RECURSIVE_CTE_NODE CTE_NODE BASE_TABLE EMPTY EXPRESSION_LIST JOIN PIVOT SUBQUERY TABLE_FUNCTION "
    "DISTINCT_MODIFIER LIMIT_MODIFIER LIMIT_PERCENT_MODIFIER ORDER_MODIFIER ORDER_DEFAULT ASCENDING DESCENDING"
)
EXPRESSIONS = frozenset(_EXPRESSIONS.split())
NODES = frozenset(_NODES.split())
"""Classes of expressions, and types of everything else, that may stand in a query."""

_REFUSED_NODES = {
    "SHOW_REF": "describe, show and summarize say what the database is, not what is in it; write a SELECT",
    "INSERT_QUERY_NODE": "a query may not write; leave INSERT out",
    "UPDATE_QUERY_NODE": "a query may not write; leave UPDATE out",
    "DELETE_QUERY_NODE": "a query may not write; leave DELETE out",
    "PARAMETER": "it has parameters; write values",
}


def check_query(text: str, objects: SourceObjects) -> None:
    """Refuse a query that is not one SELECT over ``objects``, or that could give another answer tomorrow; raises RefusedSqlError."""
    found = statements(text, most_characters=MOST_CHARACTERS)
    if len(found) != 1:
        raise RefusedSqlError("it must hold exactly one SELECT statement")
    if found[0]["named_param_map"]:
        names = ", ".join(f"${entry['key']}" for entry in found[0]["named_param_map"])
        raise RefusedSqlError(f"it has parameters ({names}); write values")
    _Check(objects).tree(found[0], "")
    try:
        wrapped = parsed(f"select * from (\n{text}\n)")
    except RefusedSqlError as error:
        raise RefusedSqlError("it cannot stand inside brackets; write one SELECT, and no semicolon before a comment") from error
    expected = parsed("select * from (\nselect 1\n)")[0]
    expected["node"]["from_table"]["subquery"]["node"] = found[0]["node"]
    # values ( ) in brackets is a table already
    if len(wrapped) != 1 or not (same_tree(wrapped[0], expected) or same_tree(wrapped[0], found[0])):
        raise RefusedSqlError("it does not mean the same inside brackets; write one SELECT without a semicolon")
    # sqlglot is read where a user has written SQL
    from groupwise.source.user_sql.second_opinion import agree_on_query

    agree_on_query(text)


@dataclass
class _Check:
    """One walk; ``seen``: views and macros whose definitions were checked already."""

    objects: SourceObjects
    seen: set[tuple[str, str]] = field(default_factory=set)

    def tree(self, tree: Tree, where: str) -> None:
        """Check a tree; ``where`` names the view or macro that it defines, empty for the user's own text."""
        try:
            found = list(scoped_nodes(tree))
            tables = {id(node["function"]) for node, _ in found if node.get("type") == "TABLE_FUNCTION"}
            for node, own in found:
                self._node(node, own, where, is_table=id(node) in tables)
        except RefusedSqlError as error:
            if not where or " (in the " in str(error):
                raise
            raise RefusedSqlError(f"{error} (in the {where})") from error

    def _node(self, node: Tree, own: frozenset[str], where: str, *, is_table: bool) -> None:
        kind, type_ = node.get("class"), node.get("type")
        if node.get("sample") is not None:
            raise RefusedSqlError("a sample gives other rows on every run; compare md5() of a key with a text")
        if kind is not None:
            if kind not in EXPRESSIONS:
                raise RefusedSqlError(_REFUSED_NODES.get(kind, f"{kind.lower()} may not be used"))
            self._expression(kind, node, where, is_table=is_table)
        elif isinstance(type_, str):
            if type_ not in NODES:
                raise RefusedSqlError(_REFUSED_NODES.get(type_, f"{type_.lower()} may not be used; write a SELECT"))
            if type_ == "BASE_TABLE":
                self._table(node, own, where)

    def _expression(self, kind: str, node: Tree, where: str, *, is_table: bool) -> None:
        if kind in {"FUNCTION", "WINDOW"}:
            name = node["function_name"].lower()
            is_qualified = len(node["qualified_name"]["path"]) > 1
            if is_table:
                self._table_function(name, where, is_qualified)
            else:
                self._function(name, len(node.get("arguments", ())), where, is_qualified)
                self._aggregate_by_name(name, node, where)
        elif kind == "COLUMN_REF" and len(node["column_names"]) == 1 and node["column_names"][0].lower() in CLOCK_WORDS:
            name = node["column_names"][0].lower()
            raise RefusedSqlError(f"{name} may not be used: it {REFUSED[name]} (a column of that name: write its table before it)")

    def _function(self, name: str, n_arguments: int, where: str, is_qualified: bool) -> None:
        if self._is_macro(name, where, is_qualified):
            return self._macro(name)
        reason = refusal(name, n_arguments)
        if reason is not None:
            raise RefusedSqlError(f"the function {name} may not be used: it {reason}")
        if name not in catalogue() and name in self.objects.macros:
            self._macro(name)
        for definition in macro_definitions(name):
            self._once("function", name, f"select {definition}")
        return None

    def _aggregate_by_name(self, name: str, node: Tree, where: str) -> None:
        """``list_aggregate(values, 'sum')`` calls the function that its second argument names."""
        if name not in BY_NAME or len(node["arguments"]) < 2:
            return
        named = node["arguments"][1]["expression"].get("literal", {}).get("text")
        if not isinstance(named, str):
            raise RefusedSqlError(f"{name} needs the name of its function as a text in quotes")
        self._function(named.lower(), 1, where, is_qualified=False)

    def _table_function(self, name: str, where: str, is_qualified: bool) -> None:
        is_new = name in self.objects.macros and name not in catalogue() and name not in TABLE_FUNCTIONS
        if is_new or self._is_macro(name, where, is_qualified):
            return self._macro(name)
        reason = table_refusal(name)
        if reason is not None:
            raise RefusedSqlError(f"{name}() may not be read from: it {reason}")
        return None

    def _is_macro(self, name: str, where: str, is_qualified: bool) -> bool:
        """Whether the database's own macro is meant: DuckDB's functions come first, but not inside its views and macros."""
        return name in self.objects.macros and (is_qualified or where.startswith(("view", "macro")))

    def _macro(self, name: str) -> None:
        for macro in self.objects.macros[name]:
            self._once("macro", name, macro.definition if macro.is_table else f"select {macro.definition}")

    def _table(self, node: Tree, own: frozenset[str], where: str) -> None:
        path = [str(name) for name in node["qualified_name"]["path"]]
        name = path[-1].lower()
        if node["at_clause"] is not None:
            raise RefusedSqlError("a table of another time (at ...) may not be read")
        if len(path) == 1 and name in own:
            return
        parents = [parent.lower() for parent in path[:-1]]
        is_systems = name in system_tables() and parents in ([], ["main"])
        if is_systems or {*parents} & {"information_schema", "pg_catalog", "system", "temp"}:
            raise RefusedSqlError(f"{'.'.join(path)} may not be read: it describes the database and is no part of its data")
        self._check_no_file(path)
        if not where:
            self._check_place(path)
        for sql in self.objects.views.get(name, ()):
            self._once("view", name, _query_of(sql))

    def _check_no_file(self, path: list[str]) -> None:
        """DuckDB reads a file where there is no table of a name that could be one."""
        name = path[-1].lower()
        known = name in self.objects.tables or name in self.objects.views
        if len(path) == 1 and not known and any(sign in name for sign in "/\\.:*?"):
            shown = path[0][:80]
            raise RefusedSqlError(
                f"{shown!r} cannot be read by its name: the source has no table or view that is called so, and files are declared "
                "under source"
            )

    def _check_place(self, path: list[str]) -> None:
        """Tables and views of the source only, no other catalog."""
        shown = ".".join(path)[:80]
        parents = [parent.lower() for parent in path[:-1]]
        if len(parents) == 2 and parents[0] == CATALOG:
            parents = parents[1:]
        if len(parents) > 1 or (parents and parents[0] not in self.objects.schemas | {CATALOG}):
            raise RefusedSqlError(f"{shown!r} is no table of the source; write a table, or schema.table")

    def _once(self, kind: str, name: str, definition: str) -> None:
        """Check what a name is short for, unless that was done already."""
        if len(self.seen) > MOST_DEFINITIONS:
            raise RefusedSqlError(f"it uses more than {MOST_DEFINITIONS} views and macros, which are too many to check")
        if (f"{kind} {name}", definition) in self.seen:
            return
        self.seen.add((f"{kind} {name}", definition))
        for tree in parsed(definition):
            self.tree(tree, f"{kind} {name}")


def _query_of(sql: str) -> str:
    query = view_query(sql)
    if query is None:
        raise RefusedSqlError("its definition cannot be read")
    return query
