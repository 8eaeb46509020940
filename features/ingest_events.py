"""The checks of `features.events.check_event` as SQL over a whole table of events; a test holds the two together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from features.errors import BadInput
from features.events import BY_NAME, EVENT_TYPES, FEEDBACK_SCALES, FIELDS, MAX_VALUE
from features.ingest_sources import Table, quoted

TEXT = tuple(name for name in FIELDS if name not in ("occurred_at", "value", "properties"))
OPTIONAL_IDS = ("decision_id", "offer_id", "placement_id", "session_id", "channel", "category")
ODD = "'[\\x{00}-\\x{1f}\\x{7f}-\\x{9f}]'"  # control characters
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999  # the years 1 to 9999
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UUID")
_NUMBER = (*_WHOLE[:-1], "FLOAT", "DOUBLE", "DECIMAL")
_RFC3339 = r"'\d{4}-\d\d-\d\d[Tt ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):?[0-5]\d)'"
_NAIVE = r"'\d{4}-\d\d-\d\d[Tt ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?'"
_AMOUNT = r"'[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?'"


@dataclass(frozen=True, slots=True)
class Fields:
    """SQL over one raw row, by field; what is not there is NULL."""

    text: Mapping[str, str]  # VARCHAR
    wrong: Mapping[str, str]  # BOOLEAN: given, but of a type that this field cannot have
    time_us: str  # BIGINT, NULL if it cannot be read
    time_shown: str  # VARCHAR, for messages
    value: str  # DOUBLE
    amount: str  # DECIMAL(18, 4)
    properties: str  # VARCHAR, a JSON object
    row: str  # VARCHAR, the row as JSON
    fault: str = "NULL::VARCHAR"  # what is wrong with the row as a whole


def checked(table: Table, time_zone: str | None, *, where: str, latest_us: int, offers_known: bool) -> str:
    """A query that gives the columns of EVENT_SCHEMA, `fault` (`code: detail` or NULL) and `row` (JSON where fault).

    `where` selects raw rows and may use `id_hash`; `offers_known` says whether the table `known_offers` decides.
    """
    fields = _json_fields(time_zone) if table.is_json else _column_fields(table, time_zone)
    columns = [f"{sql} AS {name}" for name, sql in fields.text.items()]
    columns += [f"{sql} AS {name}_wrong" for name, sql in fields.wrong.items()]
    parts = {"time_us": fields.time_us, "time_shown": fields.time_shown, "value": fields.value, "amount": fields.amount,
             "properties": fields.properties, "row": fields.row, "fault": fields.fault}  # fmt: skip
    columns += [f"{sql} AS {name}" for name, sql in parts.items()]
    return f"""
        WITH fields AS (SELECT {", ".join(columns)} FROM ({_raw(table)}) AS raw WHERE {where}),
        linked AS (SELECT fields.*, known.offer_id AS known_offer, known.category AS offer_category
                   FROM fields LEFT JOIN known_offers AS known ON known.offer_id = fields.offer_id),
        judged AS (SELECT * REPLACE ({_fault(latest_us, offers_known)} AS fault) FROM linked)
        SELECT event_id, event_type, coalesce(customer_id, chr(31) || anonymous_id) AS customer_id,
            CASE WHEN fault IS NULL THEN make_timestamp(time_us)::TIMESTAMPTZ END AS occurred_at,
            CASE WHEN fault IS NULL THEN make_timestamp(time_us)::TIMESTAMPTZ END AS received_at,
            decision_id, offer_id, placement_id, session_id, channel, coalesce(category, offer_category) AS category,
            CASE WHEN fault IS NULL THEN amount END AS value, currency, coalesce(properties, '{{}}') AS properties,
            fault, CASE WHEN fault IS NOT NULL THEN row END AS row
        FROM judged"""


def id_hashes(table: Table) -> str:
    """A query that gives the hash of every raw row's event_id, valid or not."""
    return f"SELECT id_hash FROM ({_raw(table)})"


def _raw(table: Table) -> str:
    """The raw rows, with `id_hash`."""
    if not table.is_json:
        if "event_id" not in table.types:
            raise BadInput(f"{table.shown} has no column event_id", "event_id")
        return f"SELECT *, hash(event_id::VARCHAR) AS id_hash FROM {table.relation}"
    paths = ", ".join(quoted(f"$.{name}") for name in FIELDS)
    return f"""
        SELECT line, is_object, found, hash(found[{FIELDS.index("event_id") + 1}] ->> '$') AS id_hash
        FROM (SELECT line, is_object, json_extract(CASE WHEN is_object THEN line ELSE '{{}}' END, [{paths}]) AS found
              FROM (SELECT line, CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' ELSE false END AS is_object
                    FROM {table.relation}))"""


# Raw columns, typed (Parquet, a query) or text (CSV)


def _column_fields(table: Table, time_zone: str | None) -> Fields:
    for name in table.types:
        if name not in FIELDS:
            raise BadInput(
                f"{table.shown} has a column {name!r}, which is not a field of an event; expected {', '.join(FIELDS)}",
                name,
            )
    for name in TEXT:
        if _base(table.types.get(name, "VARCHAR")) not in ("VARCHAR", "ENUM", *_WHOLE):
            raise BadInput(f"{table.shown}: {name} is {table.types[name]}, expected text or whole numbers", name)
    value, amount, value_wrong = _amount_column(table.types.get("value"))
    properties, properties_wrong = _properties_column(table.types.get("properties"))
    time_us, time_shown = _time_column(table.types.get("occurred_at"), time_zone)
    shown = ", ".join(f'"{name}"' for name in table.types)
    return Fields(
        text={name: f"raw.{name}::VARCHAR" if name in table.types else "NULL::VARCHAR" for name in TEXT},
        wrong={**dict.fromkeys(TEXT, "false"), "value": value_wrong, "properties": properties_wrong},
        time_us=time_us, time_shown=time_shown, value=value, amount=amount, properties=properties,
        row=f"to_json(struct_pack({', '.join(f'{n} := raw.{n}' for n in table.types)}))::VARCHAR" if shown else "'{}'",
    )  # fmt: skip


def _base(duckdb_type: str) -> str:
    return duckdb_type.split("(")[0]


def _amount_column(kind: str | None) -> tuple[str, str, str]:
    if kind is None:
        return "NULL::DOUBLE", "NULL::DECIMAL(18, 4)", "false"
    if _base(kind) == "VARCHAR":
        return _amount_text("raw.value")
    if _base(kind) not in _NUMBER:
        return "NULL::DOUBLE", "NULL::DECIMAL(18, 4)", "raw.value IS NOT NULL"
    return "raw.value::DOUBLE", _decimal("raw.value::VARCHAR"), "false"


def _amount_text(text: str) -> tuple[str, str, str]:
    number = f"CASE WHEN regexp_full_match({text}, {_AMOUNT}) THEN try_cast({text} AS DOUBLE) END"
    return number, _decimal(text), f"({text} IS NOT NULL AND ({number}) IS NULL)"


def _decimal(text: str) -> str:
    """Rounded half away from zero; by way of a double where an exponent makes DuckDB give up."""
    return (
        f"coalesce(try_cast({text} AS DECIMAL(18, 4)), try_cast(try_cast({text} AS DOUBLE)::VARCHAR AS DECIMAL(18, 4)))"
    )


def _properties_column(kind: str | None) -> tuple[str, str]:
    if kind is None:
        return "NULL::VARCHAR", "false"
    if _base(kind) in ("VARCHAR", "JSON"):
        return _json_object("raw.properties::VARCHAR")
    if _base(kind).startswith(("STRUCT", "MAP")):
        return _json_object("to_json(raw.properties)::VARCHAR")
    return "NULL::VARCHAR", "raw.properties IS NOT NULL"


def _json_object(text: str) -> tuple[str, str]:
    """(the object as strict JSON, whether it is something else).

    DuckDB's parser lets NaN and Infinity pass, which JSON does not know: refused where they stand outside of strings.
    """
    bare = f"""regexp_replace({text}, '"(\\\\.|[^"\\\\])*"', '', 'g')"""
    given = f"({text} IS NOT NULL AND {text} <> 'null')"
    is_object = f"""CASE
        WHEN NOT json_valid({text}) THEN false
        WHEN json_type({text}) <> 'OBJECT' THEN false
        WHEN regexp_matches({text}, '(?i)nan|inf') THEN NOT regexp_matches({bare}, '(?i)nan|inf')
        ELSE true END"""
    return f"CASE WHEN {given} AND ({is_object}) THEN json({text})::VARCHAR END", f"({given} AND NOT ({is_object}))"


def _time_column(kind: str | None, time_zone: str | None) -> tuple[str, str]:
    shown = "raw.occurred_at::VARCHAR"
    if kind is None:
        return "NULL::BIGINT", "NULL::VARCHAR"
    if kind == "VARCHAR":
        return _time_text("raw.occurred_at", time_zone), shown
    if kind.startswith("TIMESTAMP WITH TIME ZONE"):
        return "CASE WHEN isfinite(raw.occurred_at) THEN epoch_us(raw.occurred_at) END", shown
    if kind.startswith("TIMESTAMP") and time_zone is not None:
        moment = f"(raw.occurred_at::TIMESTAMP AT TIME ZONE {quoted(time_zone)})"
        return f"CASE WHEN isfinite(raw.occurred_at) THEN epoch_us({moment}) END", shown
    return "NULL::BIGINT", shown


def _time_text(text: str, time_zone: str | None) -> str:
    """Microseconds since 1970 of an RFC 3339 time; the seventh decimal of a second rounds, as msgspec does."""
    local = f"try_cast(replace(upper(substr({text}, 1, 19)), 'T', ' ') AS TIMESTAMP)"
    part = rf"rpad(regexp_extract({text}, '\.(\d+)', 1), 7, '0')"
    fraction = f"CASE WHEN substr({text}, 20, 1) = '.' THEN (substr({part}, 1, 7)::BIGINT + 5) // 10 ELSE 0 END"
    sign = f"CASE WHEN regexp_matches({text}, '-\\d\\d:?\\d\\d$') THEN -1 ELSE 1 END"
    digits = f"right(replace({text}, ':', ''), 4)"
    minutes = f"(substr({digits}, 1, 2)::BIGINT * 60 + substr({digits}, 3, 2)::BIGINT)"
    offset = f"CASE WHEN upper(right({text}, 1)) = 'Z' THEN 0 ELSE ({sign}) * {minutes} END"
    exact = f"epoch_us({local}) + ({fraction}) - ({offset}) * 60000000"
    known = f"WHEN regexp_full_match({text}, {_RFC3339}) AND {text} >= '0001' THEN {exact}"
    if time_zone is not None:
        moment = f"({local} AT TIME ZONE {quoted(time_zone)})"
        known += (
            f" WHEN regexp_full_match({text}, {_NAIVE}) AND {text} >= '0001' THEN epoch_us({moment}) + ({fraction})"
        )
    return f"CASE {known} END"


# JSON lines


def _json_fields(time_zone: str | None) -> Fields:
    at = {name: f"found[{place}]" for place, name in enumerate(FIELDS, start=1)}
    kind = {name: f"coalesce(json_type({sql}), 'NULL')" for name, sql in at.items()}
    text = {name: f"CASE WHEN {kind[name]} = 'VARCHAR' THEN {sql} ->> '$' END" for name, sql in at.items()}
    wrong = {name: f"{kind[name]} NOT IN ('VARCHAR', 'NULL')" for name in TEXT}
    numeric = f"{kind['value']} IN ('BIGINT', 'UBIGINT', 'DOUBLE')"
    number = f"CASE WHEN {numeric} THEN {at['value']}::VARCHAR END"
    properties, _ = _json_object(f"{at['properties']}::VARCHAR")
    known = ", ".join(map(quoted, FIELDS))
    return Fields(
        text={name: text[name] for name in TEXT},
        wrong={
            **wrong,
            "value": f"{kind['value']} <> 'NULL' AND NOT ({numeric})",
            "properties": f"{kind['properties']} <> 'NULL' AND ({properties}) IS NULL",
        },
        time_us=_time_text(f"({text['occurred_at']})", time_zone),
        time_shown=f"{at['occurred_at']}::VARCHAR",
        value=f"try_cast({number} AS DOUBLE)",
        amount=_decimal(f"({number})"),
        properties=properties,
        row="line",
        fault=f"""CASE WHEN NOT is_object THEN 'invalid_event: not a JSON object'
            WHEN NOT list_has_all([{known}], json_keys(CASE WHEN is_object THEN line ELSE '{{}}' END))
            THEN 'unknown_field: an event has the fields ' || {quoted(", ".join(FIELDS))} END""",
    )


# The verdict


def _fault(latest_us: int, offers_known: bool) -> str:
    """The first check that a row fails, in the order of `check_event`, as `code: detail`; NULL if none."""
    cases = [
        ("fault IS NOT NULL", "fault"),
        _bad_id("event_id", optional=False),
        _bad_type(),
        (
            "(customer_id IS NOT NULL OR customer_id_wrong) = (anonymous_id IS NOT NULL OR anonymous_id_wrong)",
            "'missing_field: exactly one of customer_id and anonymous_id is needed'",
        ),
        _bad_id("customer_id"),
        _bad_id("anonymous_id"),
        *_bad_time(latest_us),
        *(_bad_id(name) for name in OPTIONAL_IDS),
        *_bad_money(),
        ("properties_wrong", "'invalid_field: properties must be a JSON object'"),
        *_missing(),
        *_bad_feedback(),
        *_bad_consent(),
    ]
    if offers_known:
        unknown = "offer_id IS NOT NULL AND known_offer IS NULL"
        cases.append((unknown, "format('unknown_offer: there is no offer {}', offer_id)"))
    return "CASE " + " ".join(f"WHEN {condition} THEN {fault}" for condition, fault in cases) + " END"


def _bad_type() -> tuple[str, str]:
    types = ", ".join(quoted(name) for name in BY_NAME)
    said = quoted(f"unknown_event_type: event_type is {{}}, expected one of {', '.join(BY_NAME)}")
    condition = f"event_type_wrong OR event_type IS NULL OR event_type NOT IN ({types})"
    return condition, f"format({said}, coalesce(event_type, 'missing'))"


def _bad_time(latest_us: int) -> list[tuple[str, str]]:
    unreadable = "'invalid_time: occurred_at is {}, expected an RFC 3339 time with an offset'"
    ahead = "'in_the_future: occurred_at is {}, more than 5 minutes ahead'"
    return [
        (
            f"time_us IS NULL OR time_us NOT BETWEEN {FIRST_US} AND {LAST_US}",
            f"format({unreadable}, coalesce(left(time_shown, 40), 'missing'))",
        ),
        (f"time_us > {latest_us}", f"format({ahead}, time_shown)"),
    ]


def _missing() -> list[tuple[str, str]]:
    return [
        (f"event_type = {quoted(kind.name)} AND {name} IS NULL", quoted(f"missing_field: {kind.name} needs {name}"))
        for kind in EVENT_TYPES
        for name in kind.needs
    ]


def _bad_consent() -> list[tuple[str, str]]:
    kinds = "event_type IN ('opt_out', 'opt_in')"
    cases = []
    for name in ("channel", "category"):
        text = f"(properties ->> '$.{name}')"
        fine = f"{_kind(name)} = 'VARCHAR' AND length({text}) BETWEEN 1 AND 256 AND NOT regexp_matches({text}, {ODD})"
        detail = f"invalid_field: properties.{name} must be 1 to 256 characters without control characters"
        cases.append((f"{kinds} AND {_kind(name)} <> 'NULL' AND NOT ({fine})", quoted(detail)))
    said = " OR ".join(f"{_kind(name)} <> 'NULL'" for name in ("channel", "category"))
    detail = "'missing_field: {} needs properties.channel or category'"
    return [*cases, (f"{kinds} AND category IS NULL AND NOT ({said})", f"format({detail}, event_type)")]


def _bad_id(name: str, optional: bool = True) -> tuple[str, str]:
    absent = "" if optional else f"{name} IS NULL OR "
    bad = f"{absent}{name}_wrong OR {name} = '' OR length({name}) > 256 OR regexp_matches({name}, {ODD})"
    return bad, quoted(f"invalid_field: {name} must be 1 to 256 characters without control characters")


def _bad_money() -> list[tuple[str, str]]:
    return [
        ("currency_wrong OR NOT regexp_full_match(currency, '[A-Z]{3}')",
         "'invalid_field: currency must be an ISO 4217 code such as EUR'"),
        (f"value_wrong OR NOT isfinite(value) OR abs(value) > {MAX_VALUE!r}",
         f"'invalid_field: value must be a finite number of at most {MAX_VALUE:.0e}'"),
        ("value IS NOT NULL AND currency IS NULL", "'missing_field: value needs currency'"),
    ]  # fmt: skip


def _bad_feedback() -> list[tuple[str, str]]:
    cases = []
    for name, (lowest, highest) in FEEDBACK_SCALES.items():
        inside = f"{_kind(name)} IN ('BIGINT', 'UBIGINT') AND {_score(name)} BETWEEN {lowest} AND {highest}"
        detail = f"invalid_field: properties.{name} must be a whole number from {lowest} to {highest}"
        condition = f"event_type = 'feedback' AND {_kind(name)} <> 'NULL' AND NOT ({inside})"
        cases.append((condition, quoted(detail)))
    said = " OR ".join(f"{_kind(name)} <> 'NULL'" for name in (*FEEDBACK_SCALES, "text", "reason"))
    detail = "missing_field: feedback needs one of nps, csat, ces, text, reason in properties"
    return [*cases, (f"event_type = 'feedback' AND category IS NULL AND NOT ({said})", quoted(detail))]


def _kind(name: str) -> str:
    return f"coalesce(json_type(properties, '$.{name}'), 'NULL')"


def _score(name: str) -> str:
    return f"(properties ->> '$.{name}')::DOUBLE"
