"""Contact policies over HTTP; what they share with offers is in test_api_catalogue.py."""

from __future__ import annotations

import pytest

POLICY = {
    "name": "web calm",
    "channels": ["web"],
    "caps": [{"per": "customer", "of": "all", "limit": 3, "window": "7d"}],
    "cooldown": {"impression": "1h", "dismiss": "30d"},
    "pause_after": {"ignored": 5, "rejected": 2, "for": "14d"},
    "quiet_hours": ["22:00", "07:00"],
}


def test_a_policy_comes_back_as_it_was_sent(client):
    body = client.put("/v1/contact-policies/calm", json=POLICY).json()
    about = {"policy_id": "calm", "version": body["version"], "updated_at": "2026-03-01T12:00:00Z"}
    assert body == {**POLICY, **about}


def test_a_new_policy_gets_its_defaults(client):
    body = client.put("/v1/contact-policies/calm", json={"name": "calm"}).json()
    defaults = {"channels": [], "caps": [], "cooldown": None, "pause_after": None, "quiet_hours": None}
    assert {name: body[name] for name in defaults} == defaults


def test_there_is_none_by_default(client):
    assert client.get("/v1/contact-policies").json() == {"contact_policies": [], "next_cursor": None}


@pytest.mark.parametrize("of", ["offer", "category", "placement", "channel", "all"])
@pytest.mark.parametrize("window", ["1h", "366d", "calendar_day", "calendar_week", "calendar_month"])
def test_every_cap_of_the_contract_is_taken(client, of, window):
    cap = {"of": of, "limit": 1, "window": window}
    body = client.put("/v1/contact-policies/calm", json={"name": "calm", "caps": [cap]}).json()
    assert body["caps"] == [{**cap, "per": "customer"}]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"channels": "web"}, "/channels"),
        ({"channels": [""]}, "/channels/0"),
        ({"caps": [{"limit": 3, "window": "7d"}]}, "/caps/0/of"),
        ({"caps": [{"of": "all", "limit": 3}]}, "/caps/0/window"),
        ({"caps": [{"of": "all", "limit": 0, "window": "7d"}]}, "/caps/0/limit"),
        ({"caps": [{"of": "all", "limit": 3, "window": "week"}]}, "/caps/0/window"),
        ({"caps": [{"of": "all", "limit": 3, "window": "7d\n"}]}, "/caps/0/window"),
        ({"caps": [{"of": "all", "limit": 3, "window": "7d", "on": "web"}]}, "/caps/0/on"),
        ({"cooldown": {}}, "/cooldown"),
        ({"cooldown": {"impression": "calendar_day"}}, "/cooldown/impression"),
        ({"cooldown": {"click": "1h"}}, "/cooldown/click"),
        ({"cooldown": {"dismiss": 30}}, "/cooldown/dismiss"),
        ({"pause_after": {"for": "14d"}}, "/pause_after"),
        ({"pause_after": {"ignored": 5}}, "/pause_after/for"),
        ({"pause_after": {"ignored": 0, "for": "14d"}}, "/pause_after/ignored"),
        ({"pause_after": {"ignored": 5, "for_": "14d"}}, "/pause_after/for_"),
        ({"quiet_hours": ["22:00"]}, "/quiet_hours"),
        ({"quiet_hours": ["22:00", "24:00"]}, "/quiet_hours/1"),
        ({"quiet_hours": ["22", "07:00"]}, "/quiet_hours/0"),
        ({"quiet_hours": ["07:00", "07:00"]}, "/quiet_hours"),
        ({"quiet_hours": "22:00-07:00"}, "/quiet_hours"),
        ({"chanels": []}, "/chanels"),
    ],
)
def test_a_faulty_policy_is_a_422_that_points_at_the_field_and_stores_nothing(client, changes, pointer):
    answer = client.put("/v1/contact-policies/calm", json={**POLICY, **changes})
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert client.get("/v1/contact-policies/calm").status_code == 404


def test_a_faulty_window_is_answered_with_what_was_expected(client):
    policy = {**POLICY, "caps": [{"of": "all", "limit": 3, "window": "7 days"}]}
    detail = client.put("/v1/contact-policies/calm", json=policy).json()["detail"]
    assert "'7 days'" in detail
    assert "calendar_day" in detail
