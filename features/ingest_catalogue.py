"""The checks of one row of customers or offers, and the rows themselves as plain objects."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, get_args

import duckdb
import msgspec

from features.catalogue import OBJECT_ID, Offer, Status, Treatment
from features.errors import BadEvent, BadInput
from features.events import MAX_VALUE, check_id, parse_time, to_us
from features.ingest_sources import Table, quoted

ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
CUSTOMER_FIELDS = ("customer_id", "updated_at", "time_zone", "consent")
OFFER_FIELDS = (
    "offer_id", "name", "category", "value", "currency", "status", "starts_at", "ends_at", "channels", "placements",
    "priority", "retention", "attributes", "treatments", "payload",
)  # fmt: skip
_NUMBER = r"'-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?'"
_DAY = r"'\d{4}-\d\d-\d\d'"
_TIME = r"'\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)'"


class Customer(NamedTuple):
    """One row of customers, checked."""

    customer_id: str
    attributes: dict[str, Any]
    known_since_us: int | None  # None: always
    time_zone: str | None
    consent: dict[str, bool]


def check_customer(raw: Mapping[str, Any], now: datetime) -> Customer:
    """`BadEvent` says what is wrong with the row."""
    customer_id = check_id(_text_of_id(raw.get("customer_id")), "customer_id")
    since = None if raw.get("updated_at") is None else parse_time(raw["updated_at"], "updated_at")
    if since is not None and since > now:
        raise BadEvent("in_the_future", f"updated_at is {raw['updated_at']}", "updated_at")
    zone = raw.get("time_zone")
    if zone is not None:
        check_id(zone, "time_zone")
    consent = _json(raw.get("consent")) or {}
    if not isinstance(consent, dict) or not all(isinstance(value, bool) for value in consent.values()):
        raise BadEvent("invalid_field", "consent must be an object of true and false by channel", "consent")
    attributes = {name: _attribute(name, value) for name, value in raw.items() if name not in CUSTOMER_FIELDS}
    return Customer(customer_id, attributes, to_us(since) if since else None, zone, consent)


def check_offer(raw: Mapping[str, Any], currency: str, stored: Offer | None) -> Offer:
    """The offer as the row says; what the row does not say stays as stored. `BadEvent` says what is wrong."""
    offer_id = _text_of_id(raw.get("offer_id"))
    if not isinstance(offer_id, str) or not OBJECT_ID.match(offer_id):
        raise BadEvent("invalid_field", f"offer_id must match {OBJECT_ID.pattern}", "offer_id")
    given = {name: raw[name] for name in OFFER_FIELDS if raw.get(name) is not None}
    for name in ("name", "value"):
        if name not in given:
            raise BadEvent("missing_field", f"an offer needs {name}", name)
    if given.get("currency", currency) != currency:
        detail = f"currency is {str(given['currency'])[:16]!r}, this deployment's is {currency}"
        raise BadEvent("other_currency", detail, "currency")
    name = check_id(given["name"], "name", 1024)
    attributes = _json(given.get("attributes", {}))
    if not isinstance(attributes, dict):
        raise BadEvent("invalid_field", "attributes must be an object", "attributes")
    attributes = {**attributes, **{key: value for key, value in raw.items() if key not in OFFER_FIELDS}}
    known = {key: _attribute(key, value) for key, value in attributes.items() if value is not None}
    offer = {
        **(msgspec.structs.asdict(stored) if stored is not None else {"status": "approved"}),
        "offer_id": offer_id, "name": name, "value": _number(given["value"], "value"), "currency": currency,
        "attributes": known,
    }  # fmt: skip
    if "treatments" in given or "payload" in given or stored is None:
        offer["treatments"] = _treatments(offer_id, name, given)
    offer.update(_plain_fields(given))
    return Offer(**offer)


def _plain_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an offer that are checked one by one."""
    found: dict[str, Any] = {}
    if "category" in given:
        found["category"] = check_id(given["category"], "category")
    if "status" in given:
        if given["status"] not in get_args(Status):
            raise BadEvent("invalid_field", f"status must be one of {', '.join(get_args(Status))}", "status")
        found["status"] = given["status"]
    found.update({name: parse_time(given[name], name) for name in ("starts_at", "ends_at") if name in given})
    for name in ("channels", "placements"):
        if name in given:
            found[name] = tuple(check_id(one, name) for one in _list(given[name], name))
    if "priority" in given:
        priority = _number(given["priority"], "priority")
        if not priority.is_integer():
            raise BadEvent("invalid_field", "priority must be a whole number", "priority")
        found["priority"] = int(priority)
    if "retention" in given:
        word = str(given["retention"]).lower()
        if word not in ("true", "false"):
            raise BadEvent("invalid_field", "retention must be true or false", "retention")
        found["retention"] = word == "true"
    return found


def _treatments(offer_id: str, name: str, given: Mapping[str, Any]) -> tuple[Treatment, ...]:
    """As given; or one with the payload; or one that shows the offer's name."""
    try:
        if "treatments" in given:
            treatments = msgspec.convert(_json(given["treatments"]), tuple[Treatment, ...])
            if not treatments:
                raise BadEvent("invalid_field", "treatments must hold at least one", "treatments")
            return treatments
        payload = msgspec.convert(_json(given.get("payload", {"title": name})), dict[str, Any])
    except msgspec.ValidationError as error:
        raise BadEvent("invalid_field", f"treatments or payload: {error}", "treatments") from error
    return (Treatment(treatment_id=f"{offer_id}/a", payload=payload),)


def _text_of_id(value: Any) -> Any:
    """Whole numbers are fine as ids in a table."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _number(value: Any, field: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or abs(number) > MAX_VALUE:
        raise BadEvent("invalid_field", f"{field} is {str(value)[:40]!r}, expected a finite number", field)
    return number


def _attribute(name: str, value: Any) -> Any:
    if not ATTRIBUTE.match(name):
        raise BadEvent("invalid_field", f"{name[:64]!r} as an attribute's name must match {ATTRIBUTE.pattern}", name)
    if isinstance(value, dict | list):
        raise BadEvent("invalid_field", f"{name} must be a number, text, boolean or time", name)
    return value


def _json(value: Any) -> Any:
    """A value that may have come as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _list(value: Any, field: str) -> list[Any]:
    found = _json(value)
    if not isinstance(found, list):
        raise BadEvent("invalid_field", f"{field} must be a JSON list", field)
    return found


# Raw rows as JSON


def rows_of(con: duckdb.DuckDBPyConnection, table: Table, fields: tuple[str, ...], zone: str | None) -> Iterator[str]:
    """Each raw row as one JSON object; dates and times become RFC 3339, numbers in a CSV become numbers."""
    if table.is_json:
        query = f"SELECT line FROM {table.relation}"
    else:
        kinds = _kinds_of_text(con, table, fields)
        columns = [f"{_identifier(name)} := {_as_json(table, name, kinds.get(name), zone)}" for name in table.types]
        query = f"SELECT to_json(struct_pack({', '.join(columns)}))::VARCHAR FROM {table.relation} AS raw"
    result = con.execute(query)
    while chunk := result.fetchmany(10_000):
        for (line,) in chunk:
            yield line


def _kinds_of_text(con: duckdb.DuckDBPyConnection, table: Table, fields: tuple[str, ...]) -> dict[str, str]:
    """What the further text columns of a CSV hold throughout: number, boolean, day or time."""
    names = [name for name in table.types if name not in fields and table.types[name] == "VARCHAR" and table.is_text]
    if not names:
        return {}
    tests = {"number": _NUMBER, "boolean": "'(?i)true|false'", "day": _DAY, "time": _TIME}
    picked = [
        f"CASE WHEN count({at}) = 0 THEN NULL "
        + " ".join(f"WHEN bool_and(regexp_full_match({at}, {test})) THEN '{kind}'" for kind, test in tests.items())
        + " END"
        for at in map(_identifier, names)
    ]
    row = con.execute(f"SELECT {', '.join(picked)} FROM {table.relation}").fetchone()
    assert row is not None
    return {name: kind for name, kind in zip(names, row, strict=True) if kind is not None}


def _as_json(table: Table, name: str, kind: str | None, zone: str | None) -> str:
    at, declared = f"raw.{_identifier(name)}", table.types[name]
    if kind == "number":
        return f"{at}::JSON"
    if kind == "boolean":
        return f"{at}::BOOLEAN"
    if kind == "day":
        return f"{at} || 'T00:00:00Z'"
    if kind == "time":
        return f"replace({at}, ' ', 'T')"
    if declared == "DATE":
        return f"strftime({at}, '%Y-%m-%dT00:00:00Z')"
    if declared.startswith("TIMESTAMP"):
        if "TIME ZONE" not in declared and zone is None:
            raise BadInput(f"{table.shown}: {name} has times without an offset; state time_zone in recipe.toml", name)
        utc = (
            f"timezone('UTC', {at})"
            if "TIME ZONE" in declared
            else f"timezone('UTC', timezone({quoted(zone or '')}, {at}))"
        )
        return f"strftime({utc}::TIMESTAMP, '%Y-%m-%dT%H:%M:%S.%fZ')"
    if declared in ("FLOAT", "DOUBLE"):  # NaN is how many tools write "missing"; infinity is refused when read
        return f"CASE WHEN isnan({at}) THEN NULL WHEN isinf({at}) THEN '{{}}'::JSON ELSE to_json({at}) END"
    return at


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
