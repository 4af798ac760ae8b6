"""Which of DuckDB's functions users may call: nothing that gives another answer tomorrow, nothing that reads outside the source."""

from __future__ import annotations

from groupwise.source.user_sql.parser import catalogue

_CLOCK = "reads the clock; as_of is a study's only clock, so write dates, or a window"
_CHANCE = "gives another answer on every run; to draw rows, compare md5() of a key with a text"
_COUNTS_ON = "gives another answer on every run"
_OUTSIDE = "reads what does not belong to the source"
_FILES = f"{_OUTSIDE}; declare files under source"
_CATALOGUE = "describes the database and is no part of its data"
_SETTINGS = "reads settings, which are no part of the source; write the value"
_RUNS_TEXT = "runs a text as SQL, which cannot be checked; write the query itself"

_REASONS = {
    _CLOCK: (
        "now today current_date current_time current_timestamp localtime localtimestamp current_localtime current_localtimestamp "
        "get_current_time get_current_timestamp transaction_timestamp ago clock_timestamp statement_timestamp timeofday"
    ),
    _CHANCE: "random setseed uuid uuidv4 uuidv7 gen_random_uuid reservoir_quantile shuffle",
    _COUNTS_ON: (
        "nextval currval setval lastval txid_current current_transaction_id current_query current_query_id current_connection_id "
        "pg_conf_load_time pg_postmaster_start_time"
    ),
    "only waits": "pg_sleep sleep sleep_ms",
    _SETTINGS: "getenv getvariable current_setting set_config in_search_path",
    _RUNS_TEXT: "query query_table json_execute_serialized_sql json_serialize_plan",
    _FILES: "glob read_text read_blob read_csv read_csv_auto read_parquet parquet_scan read_json read_json_auto sniff_csv read_duckdb",
    "writes to the log": "write_log",
}

REFUSED = {name: reason for reason, names in _REASONS.items() for name in names.split()}
"""Functions refused by name, and why."""

CLOCK_WORDS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
"""Words that DuckDB reads as a function where no column has the name."""

BY_NAME = frozenset({"list_aggregate", "list_aggr", "array_aggregate", "array_aggr", "aggregate"})
"""Functions that call the one that their second argument names."""

TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "repeat", "repeat_row", "json_each", "json_tree"})
"""Functions that make rows from their arguments alone."""

_ROW_WISE = """
+ - * / // % ** ^ & | << >> ~ || ^@ ~~ !~~ ~~* !~~* ~~~ !~~~ @
abs sign round round_even roundbankers floor ceil ceiling trunc ln log log2 log10 exp sqrt cbrt pow power mod fmod fdiv even
greatest least isnan isinf isfinite pi gcd lcm radians degrees sin cos tan cot asin acos atan atan2 xor bit_count
add subtract multiply divide if nullif row
lower lcase upper ucase trim ltrim rtrim length len strlen char_length character_length bit_length substring substr substring_grapheme
left right lpad rpad replace concat concat_ws starts_with ends_with prefix suffix contains instr position strpos reverse split_part
overlay translate ascii unicode ord chr strip_accents nfc_normalize md5 sha1 sha256 to_base64 hex
like_escape ilike_escape not_like_escape not_ilike_escape regexp_matches regexp_full_match regexp_extract regexp_replace regexp_escape
levenshtein damerau_levenshtein hamming jaccard jaro_similarity jaro_winkler_similarity
year quarter month week weekofyear yearweek isoyear day dayofmonth dayofweek weekday isodow dayofyear hour minute second millisecond
microsecond epoch epoch_ms epoch_us era century decade millennium julian dayname monthname last_day days_in_month
date_part datepart date_trunc datetrunc date_diff datediff date_sub datesub date_add age timezone time_bucket
strftime strptime try_strptime make_date make_time make_timestamp to_timestamp
to_years to_quarters to_months to_weeks to_days to_hours to_minutes to_seconds to_milliseconds to_microseconds to_decades to_centuries
to_millennia
"""
ROW_WISE = frozenset(_ROW_WISE.split())
"""Functions of single values that may stand in a condition."""


def refusal(name: str, n_arguments: int) -> str | None:
    """Why DuckDB's own function ``name`` may not be called for a value; None where it may, or is none of DuckDB's."""
    if name in REFUSED:
        return REFUSED[name]
    if name == "age" and n_arguments == 1:
        return _CLOCK
    overloads = catalogue().get(name, ())
    if any(kind == "scalar" and stability != "CONSISTENT" for kind, stability, _ in overloads):
        return _COUNTS_ON
    if name.startswith(("duckdb_", "pragma_")):
        return _CATALOGUE
    if overloads and name not in TABLE_FUNCTIONS and all(kind in {"table", "table_macro", "pragma"} for kind, _, _ in overloads):
        return _OUTSIDE
    return None


def table_refusal(name: str) -> str | None:
    """Why DuckDB's own table function ``name`` may not be read from; None where it may."""
    if name in TABLE_FUNCTIONS:
        return None
    return REFUSED.get(name, _CATALOGUE if name.startswith(("duckdb_", "pragma_")) else _OUTSIDE)


def macro_definitions(name: str) -> list[str]:
    """What DuckDB's own macros of this name are short for."""
    return [definition for kind, _, definition in catalogue().get(name, ()) if kind == "macro" and definition]
