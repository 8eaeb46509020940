"""`/v1/customers/{id}/preferences`: what a customer does not want to see, obeyed by the next decision."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, ClassVar

import msgspec
import orjson
import pydantic
from fastapi import APIRouter, Response
from pydantic import Field

from features.facts import MOST_KEYS
from features.profile import Profile, category_consent, with_words, words_now
from serving.api.door import Door, needs, problems
from serving.api.fields import Body, CustomerIdInPath, Label, ObjectId
from serving.api.service import Served

router = APIRouter(prefix="/v1/customers/{customer_id}/preferences", tags=["customers"], route_class=Door)

Categories = Annotated[list[Label], Field(max_length=MOST_KEYS)]
Offers = Annotated[list[ObjectId], Field(max_length=MOST_KEYS)]


class PreferencesBody(Body):
    """Each list that is given replaces what was; one that is left out stays; [] removes."""

    read_only: ClassVar[frozenset[str]] = frozenset({"customer_id", "updated_at"})

    muted_categories: Categories | None = Field(
        None, description="Offers of these are not shown; the same as an `opt_out` of each."
    )
    less_like: Offers | None = Field(None, description="These offers, and milder their categories, weigh less.")


class PreferencesOut(pydantic.BaseModel):
    customer_id: str
    muted_categories: list[str]
    less_like: list[str]
    updated_at: datetime | None = Field(description="Null for a customer without a profile.")


@router.put(
    "",
    response_model=PreferencesOut,
    responses=problems(400, 401, 403, 409, 413, 415, 422, 503),
    **needs("events", "admin"),
)
def put(customer_id: CustomerIdInPath, body: PreferencesBody, service: Served) -> Response:
    """Mutes categories, and asks for less like some offers; the next decision obeys."""
    facts = service.facts
    with facts.transaction():
        now = service.clock()
        old = facts.profile(customer_id) or Profile(customer_id=customer_id)
        less_like = old.less_like if body.less_like is None else tuple(dict.fromkeys(body.less_like))
        new = old if body.muted_categories is None else _muting(old, body.muted_categories, now)
        profile = facts.put_profile(msgspec.structs.replace(new, less_like=less_like), now)
    return _shown(profile)


@router.get("", response_model=PreferencesOut, responses=problems(401, 403, 422, 503), **needs("events", "admin"))
def get(customer_id: CustomerIdInPath, service: Served) -> Response:
    """What the customer does not want to see."""
    return _shown(service.facts.profile(customer_id) or Profile(customer_id=customer_id))


@router.delete(
    "", response_model=PreferencesOut, responses=problems(401, 403, 409, 422, 503), **needs("events", "admin")
)
def remove(customer_id: CustomerIdInPath, service: Served) -> Response:
    """Forgets all preferences; consent for channels stays."""
    facts = service.facts
    with facts.transaction():
        now = service.clock()
        profile = facts.profile(customer_id) or Profile(customer_id=customer_id)
        if profile.muted_categories or profile.less_like:
            none_left = msgspec.structs.replace(_muting(profile, (), now), less_like=())
            profile = facts.put_profile(none_left, now)
    return _shown(profile)


def _muting(profile: Profile, categories: Iterable[str], now: datetime) -> Profile:
    """These categories are refused, and no others are; a mute is consent refused, however it was said."""
    consent: dict[str, bool | None] = {category_consent(name): None for name in profile.muted_categories}
    consent |= {category_consent(name): False for name in categories}
    return with_words(profile, words_now(profile, consent, now))


def _shown(profile: Profile) -> Response:
    shown = {
        "customer_id": profile.customer_id,
        "muted_categories": profile.muted_categories,
        "less_like": profile.less_like,
        "updated_at": profile.updated_at,
    }
    return Response(orjson.dumps(shown, option=orjson.OPT_UTC_Z), media_type="application/json")
