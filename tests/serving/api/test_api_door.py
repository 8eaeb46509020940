"""What every request passes: keys, sizes, strict JSON, and errors as problems."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from serving.api.door import BATCH_LIMIT, BODY_LIMIT
from tests.serving.api.fakes import NOW

DECISION = {"customer_id": "c-1", "placements": [{"placement_id": "hero", "limit": 1}]}
JSON = {"Content-Type": "application/json"}
KEYED = [
    ("POST", "/v1/decisions"),
    ("GET", "/v1/decisions/x"),
    ("POST", "/v1/events"),
    ("PUT", "/v1/customers/c"),
    ("GET", "/v1/customers/c"),
    ("DELETE", "/v1/customers/c"),
    ("PUT", "/v1/customers/c/preferences"),
    ("GET", "/v1/customers/c/preferences"),
    ("DELETE", "/v1/customers/c/preferences"),
    ("POST", "/v1/customers/c/identities"),
    ("GET", "/v1/offers"),
    ("PUT", "/v1/offers/o"),
    ("GET", "/v1/offers/o"),
    ("DELETE", "/v1/offers/o"),
    ("GET", "/v1/placements"),
    ("PUT", "/v1/placements/p"),
    ("GET", "/v1/placements/p"),
    ("DELETE", "/v1/placements/p"),
]


def is_problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert {"type", "title", "status", "detail", "code", "request_id", "errors"} <= body.keys()
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


@pytest.mark.parametrize(("method", "path"), KEYED)
def test_no_key_is_a_401_before_anything_is_validated(anybody, method, path):
    answer = anybody.request(method, path, content=b"\xff not json")
    is_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Basic abc", "sk_123", "Bearer sk_0_0", "Bearer \xff\xfe", "Bearer " + "x" * 5000]
)
def test_a_key_that_is_none_is_a_401(anybody, header):
    is_problem(anybody.get("/v1/offers", headers={"Authorization": header.encode("latin-1")}), 401, "unauthorized")


def test_a_revoked_key_is_refused_from_the_next_request_on(client, service):
    assert client.get("/v1/offers").status_code == 200
    service.keys.revoke(service.keys.all()[0].key_id, NOW)
    is_problem(client.get("/v1/offers"), 401, "unauthorized")


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("decide", {"/v1/decisions"}), ("events", {"/v1/events"}), ("catalogue", {"/v1/offers/o"}), ("admin", set())],
)
def test_a_scope_opens_its_own_routes_only(client_with, scope, allowed):
    client = client_with(scope)
    for method, path in (("POST", "/v1/decisions"), ("POST", "/v1/events"), ("PUT", "/v1/offers/o")):
        answer = client.request(method, path, json={})
        if path in allowed:
            assert answer.status_code == 422
        else:
            is_problem(answer, 403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"nope",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 2}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": "\x00"}',
        b'"\xff"',
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"a": 01}',
        b'{"a": 1}{}',
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"\xed\xa0\x80": 1}',
    ],
)
@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/events"])
def test_what_is_not_json_is_a_400(client, path, body):
    is_problem(client.post(path, content=body, headers=JSON), 400, "malformed")


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ("1e999", "/context/a/0"),
        ("1" * 5000, "/context/a/0"),
        (str(2**63), "/context/a/0"),
        ('"\\ud800"', "/context/a/0"),
        ('"\\u0000"', "/context/a/0"),
        ('{"\\u0000": 1}', "/context/a/0"),
        ("[" * 40 + "]" * 40, None),
    ],
)
def test_json_that_cannot_be_kept_faithfully_is_a_422_that_points_at_it(client, value, pointer):
    body = json.dumps(DECISION | {"context": {}}).replace('"context": {}', f'"context": {{"a": [{value}]}}')
    errors = is_problem(client.post("/v1/decisions", content=body, headers=JSON), 422, "invalid")["errors"]
    assert pointer in (None, errors[0]["pointer"])


@pytest.mark.parametrize("body", ["[]", "1", '"x"', "null", "true", "[{}]"])
@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/events"])
def test_json_that_is_no_object_is_a_422(client, path, body):
    is_problem(client.post(path, content=body, headers=JSON), 422, "invalid")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"]
)
def test_a_body_that_does_not_say_it_is_json_is_a_415(client, kind):
    answer = client.post("/v1/decisions", content=json.dumps(DECISION), headers={"Content-Type": kind})
    is_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json; charset=UTF-8", "application/vnd.x+json", "APPLICATION/JSON"])
def test_json_by_another_name_is_json(client, kind):
    answer = client.post("/v1/decisions", content=json.dumps(DECISION), headers={"Content-Type": kind})
    assert answer.status_code == 200


def test_a_body_that_says_nothing_is_taken_as_json(client):
    answer = client.post("/v1/decisions", content=json.dumps(DECISION).encode())
    assert "content-type" not in answer.request.headers
    assert answer.status_code == 200


def test_compressed_bodies_are_refused_by_name(client):
    answer = client.post("/v1/decisions", content=b"\x1f\x8b", headers={**JSON, "Content-Encoding": "gzip"})
    is_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(("path", "limit"), [("/v1/decisions", BODY_LIMIT), ("/v1/events", BATCH_LIMIT)])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_its_limit_is_a_413_also_without_a_length(client, path, limit, chunked):
    body = b" " * (limit + 1)
    content = (body[i : i + 65536] for i in range(0, len(body), 65536)) if chunked else body
    is_problem(client.post(path, content=content, headers=JSON), 413, "too_large")


def test_a_body_at_its_limit_is_read(client):
    body = json.dumps(DECISION).encode()
    assert client.post("/v1/decisions", content=body + b" " * (BODY_LIMIT - len(body)), headers=JSON).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nbo.js"),
        ("GET", "/"),
    ],
)
def test_a_route_that_is_promised_and_not_built_says_so(client, method, path):
    is_problem(client.request(method, path), 404, "not_implemented")


def test_promised_routes_are_absent_from_the_description_until_they_are_built(client):
    from serving.api.not_built import is_promised

    paths = client.get("/openapi.json").json()["paths"]
    routes = [(method.upper(), re.sub(r"\{\w+\}", "x", path)) for path in paths for method in paths[path]]
    assert not [route for route in routes if is_promised(*route)]


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/offers/", "/v1/customers/", "/v1/customers/a/b", "//v1/offers", "/%"]
)
def test_any_other_route_is_a_404(client, path):
    is_problem(client.get(path), 404, "not_found")


def test_another_method_is_a_405_that_names_those_there_are(client):
    answer = client.patch("/v1/offers/o")
    is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET, PUT"


def test_a_bug_is_a_500_that_shows_the_request_id_and_nothing_else(client, service, caplog):
    def broken(request):
        raise ZeroDivisionError("secret detail")

    service.decider.decide = broken
    answer = client.post("/v1/decisions", json=DECISION)
    body = is_problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert body["request_id"] in caplog.text


def test_a_request_id_that_is_given_is_kept_and_a_strange_one_replaced(client):
    assert client.get("/livez", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/livez", headers={"X-Request-Id": "a b<script>"}).headers["x-request-id"] != "a b<script>"


def test_liveness_and_readiness_need_no_key(anybody):
    assert anybody.get("/livez").json() == {"status": "alive"}
    assert [anybody.head(path).status_code for path in ("/livez", "/readyz")] == [200, 200]  # as balancers probe
    assert anybody.get("/readyz").json()["status"] == "ready"


def test_readiness_tells_what_it_could_do_without(anybody, service):
    service.checks.append(SimpleNamespace(name="features", ok=False, detail="no snapshot", needed=False))
    answer = anybody.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"][1] == {"name": "features", "ok": False, "detail": "no snapshot", "needed": False}


def test_readiness_is_a_503_when_something_needed_is_missing(anybody, service):
    service.checks.append(SimpleNamespace(name="catalogue", ok=False, detail="gone", needed=True))
    answer = anybody.get("/readyz")
    body = is_problem(answer, 503, "not_ready")
    assert body["checks"][1]["name"] == "catalogue"
    assert answer.headers["retry-after"]


def test_every_described_route_names_its_problems_and_its_key(anybody):
    described = anybody.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    for path, operations in described["paths"].items():
        for operation in operations.values():
            assert "500" in operation["responses"]
            if path.startswith("/v1/"):
                assert {"401", "403"} <= operation["responses"].keys()
                assert operation["security"][0]["key"]
            for status, response in operation["responses"].items():
                media = "application/problem+json" if int(status) >= 400 else "application/json"
                pages = ["text/html"] if path.endswith("/report") and status == "200" else []
                assert list(response["content"]) == [media, *pages], (path, status)
    assert "HTTPValidationError" not in described["components"]["schemas"]


def test_the_reference_page_loads_nothing_from_elsewhere(anybody):
    answer = anybody.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "://" not in answer.text
    assert "<script" not in answer.text
    for path in anybody.get("/openapi.json").json()["paths"]:
        assert path in answer.text


def test_a_route_must_say_who_may_call_it():
    from fastapi import APIRouter

    from serving.api.door import Door

    router = APIRouter(route_class=Door)
    with pytest.raises(TypeError, match="does not say who may call it"):
        router.get("/open")(lambda: None)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/decisions?foo=1", DECISION),
        ("POST", "/v1/events?dry_run=1", {"events": []}),
        ("GET", "/v1/offers/o?foo=1", None),
        ("GET", "/v1/customers/c?foo=1", None),
    ],
)
def test_a_parameter_that_nobody_knows_is_refused_as_a_typo_in_a_body_is(client, method, path, body):
    problem = is_problem(client.request(method, path, json=body), 422, "invalid")
    (fault,) = [one for one in problem["errors"] if one["in"] == "query"]
    assert (fault["pointer"], fault["code"]) == (path.partition("?")[2].partition("=")[0], "unknown_field")


def test_a_body_where_none_is_taken_is_refused_and_an_empty_one_is_not(client):
    path = "/v1/experiments/nobody/start"
    is_problem(client.post(path, json={"variant": "x"}), 422, "invalid")
    for nothing in (b"", b"{}", b" "):
        is_problem(client.post(path, content=nothing, headers=JSON), 404, "not_found")
