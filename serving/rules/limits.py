"""What the catalogue allows one customer, and of each offer: the same arithmetic for the rules and for the claim.

A rule looks before the draw and a claim looks again within its transaction, so that what two decisions see at the
same moment is given once. Money is counted in millionths of the currency, as whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from features.catalogue import Cap, Offer
from serving.rules.cooldown import Rest, rested_at, rests_of
from serving.rules.pause import Patience, patience_of, paused_until_us
from serving.rules.tally import Capping, Channels, Tally, capping
from serving.state.contacts import Claim, Claimed, Contact, ContactHistory, Level, Need, Needs, Stock, Take

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView

Caps: TypeAlias = tuple[Capping, ...]
MICROS = 1_000_000
UNUSED = Level()


def micros(amount: float) -> int:
    """Money in millionths, rounded to the nearest."""
    return round(amount * MICROS)


def take_of(offer: Offer) -> Take | None:
    """What a contact with this offer uses up; None if nothing limits it. A budget without a cost costs nothing."""
    budget = offer.budget if offer.cost is not None else None
    if offer.inventory is None and budget is None:
        return None
    return Take(
        units=0 if offer.inventory is None else 1,
        micros=micros(offer.cost.amount) if offer.cost is not None and budget is not None else 0,
        per_accept=offer.cost is not None and offer.cost.per == "accept",
        inventory=offer.inventory,
        budget=micros(budget.amount) if budget is not None else None,
        daily=budget is not None and budget.per == "day",
        paced=offer.pacing and budget is not None and budget.per == "day",
        attributes=offer.attributes,
    )


def _caps_of(offer: Offer) -> Caps:
    return _made_ready(offer.caps)


@lru_cache(maxsize=4096)
def _made_ready(caps: tuple[Cap, ...]) -> Caps:
    """The same object for equal caps, of which a catalogue has few."""
    return tuple(capping(cap) for cap in caps)


def distinct(of_offer: Mapping[str, Caps]) -> Iterable[Caps]:
    """What offers have for caps, each once."""
    return {id(caps): caps for caps in of_offer.values()}.values()


def _category(offer: Offer) -> str | None:
    return offer.category


def units_left(take: Take, level: Level) -> bool:
    return take.inventory is None or level.units + take.units <= take.inventory


def money_left(take: Take, level: Level) -> bool:
    """Whether one more fits the budget: of the day, or of the offer's life."""
    if take.budget is None:
        return True
    return micros(level.spent_today if take.daily else level.spent) + take.micros <= take.budget


def elapsed(stock: Stock, now_us: int) -> float:
    """The share of the deployment's day that is over, [0, 1]."""
    length_us = stock.day_until_us - stock.day_from_us
    return min(max((now_us - stock.day_from_us) / length_us, 0.0), 1.0) if length_us > 0 else 0.0


def needed_share(take: Take, level: Level) -> float:
    """The share of the day that must be over before one more is on pace; 0: today's first one may always go."""
    if not take.paced or not take.budget:
        return 0.0
    today = micros(level.spent_today)
    return (today + take.micros) / take.budget if today > 0 else 0.0


@lru_cache(maxsize=1)
def limits_of(view: CatalogueView) -> Limits:
    """The limits of a view, made once for all that ask while it is being prepared."""
    return Limits(view)


class Limits:
    """All that is counted, made ready from one version of the catalogue."""

    def __init__(self, view: CatalogueView) -> None:
        takes, caps = view.each.of("take", take_of), view.each.of("caps", _caps_of)
        self.takes: dict[str, Take] = {
            name: take for name, take in zip(view.row, takes, strict=True) if take is not None
        }
        self.of_offer: dict[str, Caps] = {name: of for name, of in zip(view.row, caps, strict=True) if of}
        self.of_policies: tuple[Capping, ...] = tuple(
            capping(cap, policy.channels, policy.policy_id) for policy in view.contact_policies for cap in policy.caps
        )
        self.categories: dict[str, str | None] = dict(zip(view.row, view.each.of("category", _category), strict=True))
        self.rests = rests_of(view.contact_policies)
        self.patience = patience_of(view.contact_policies)
        self.needs = _needs(self.of_policies, self.of_offer, self.rests, self.patience)
        self.any = bool(self.takes or self.of_offer or self.of_policies or self.rests or self.patience)
        self._counts_contacts = bool(self.of_policies or self.rests or self.patience)
        # A contact with any offer may count for a policy, or for a cap that only another offer has. On a channel where
        # none does it is claimed too: its events need not say where it was shown.
        self._counts_all = self._counts_contacts or any(
            cap.of != "offer" for caps in distinct(self.of_offer) for cap in caps
        )

    def take(self, offer_id: str) -> Take | None:
        return self.takes.get(offer_id)

    def covers(self, pick: Claimed) -> bool:
        """Whether this pick may count for any limit, so that it must be claimed."""
        return self._counts_all or pick.offer_id in self.takes or pick.offer_id in self.of_offer

    def broken(self, claim: Claim, history: ContactHistory, stock: Stock) -> Sequence[Claimed]:
        """The picks that may not be made after all, each judged with those above it that may; empty if none."""
        lost: list[Claimed] = []
        for pick in claim.picks:
            take = self.takes.get(pick.offer_id)
            if take is not None:
                level = stock.levels.get(pick.offer_id, UNUSED)
                on_pace = not take.paced or needed_share(take, level) <= elapsed(stock, claim.decided_us)
                if not (units_left(take, level) and money_left(take, level) and on_pace):
                    lost.append(pick)
        if self._counts_contacts or any(pick.offer_id in self.of_offer for pick in claim.picks):
            left = [pick for pick in claim.picks if pick not in lost] if lost else claim.picks
            lost += self._contacted_enough(claim, history, left)
        return lost

    def _contacted_enough(self, claim: Claim, history: ContactHistory, picks: Sequence[Claimed]) -> list[Claimed]:
        now_us, offer_ids = claim.decided_us, history.columns.offer_ids
        tally = Tally(history, now_us, claim.time_zone, self.categories)
        n_most = len(offer_ids) + len(picks)
        near = [cap for cap in self.of_policies if n_most >= cap.limit]
        paused: dict[str, bool] = {}
        made: list[Claimed] = []
        lost: list[Claimed] = []
        for pick in picks:
            if pick.channel not in paused:
                paused[pick.channel] = bool(self.patience) and self._paused(pick.channel, history, now_us)
            n_with = offer_ids.count(pick.offer_id)
            caps = near
            if own := self.of_offer.get(pick.offer_id):
                caps = near + [cap for cap in own if (n_with + len(made) if cap.of == "offer" else n_most) >= cap.limit]
            if (
                paused[pick.channel]
                or (caps and any(self._reached(cap, pick, tally, made) for cap in caps))
                or (n_with and self._rests(pick, history.contacts, now_us))
            ):
                lost.append(pick)
            else:
                made.append(pick)
        return lost

    def _reached(self, cap: Capping, pick: Claimed, tally: Tally, made: Sequence[Claimed]) -> bool:
        if cap.channels is not None and pick.channel not in cap.channels:
            return False
        n = tally.of(cap, pick.offer_id, pick.category, pick.placement_id, pick.channel)
        return n + len([other for other in made if _alike(cap, pick, other)]) >= cap.limit

    def _rests(self, pick: Claimed, contacts: Sequence[Contact], now_us: int) -> bool:
        with_it = [contact for contact in contacts if contact.offer_id == pick.offer_id]
        return any(
            rested_at(contact, rest, now_us) > now_us
            and (rest.channels is None or contact.channel is None or contact.channel in rest.channels)
            for rest in self.rests
            if rest.channels is None or pick.channel in rest.channels
            for contact in with_it
        )

    def _paused(self, channel: str, history: ContactHistory, now_us: int) -> bool:
        return any(
            (one.channels is None or channel in one.channels) and paused_until_us(history, one, now_us) > now_us
            for one in self.patience
        )


def _alike(cap: Capping, pick: Claimed, other: Claimed) -> bool:
    """Whether another pick of the same decision counts when this one is asked about."""
    if cap.channels is not None and other.channel not in cap.channels:
        return False
    if cap.of == "offer":
        return pick.offer_id == other.offer_id
    if cap.of == "category":
        return pick.category is not None and pick.category == other.category
    if cap.of == "placement":
        return pick.placement_id == other.placement_id
    return cap.of == "all" or pick.channel == other.channel


def _needs(
    of_policies: Sequence[Capping],
    of_offer: Mapping[str, Caps],
    rests: Sequence[Rest],
    patience: Sequence[Patience],
) -> Needs:
    own = [cap for caps in distinct(of_offer) for cap in caps]
    most = {id(caps): max((cap.limit for cap in caps if cap.of == "offer"), default=0) for caps in distinct(of_offer)}
    of_offers = {offer_id: limit for offer_id, caps in of_offer.items() if (limit := most[id(caps)])}
    counted = [Need(cap.of, cap.limit, cap.channels) for cap in of_policies]
    counted += [Need(cap.of, cap.limit) for cap in own if cap.of != "offer"]
    if of_offers:
        counted.append(Need("offer", 0, of_offers=of_offers))
    counted += [Need("offer", 1, rest.channels, by_seen=True) for rest in rests if rest.impression_us]
    return Needs(
        max(
            [cap.window.longest_us for cap in (*of_policies, *own)]
            + [max(rest.impression_us, rest.dismiss_us) for rest in rests]
            + [2 * one.for_us for one in patience],
            default=0,
        ),
        tuple(_distinct(counted)),
        refusals=any(rest.dismiss_us for rest in rests),
        patience=tuple(patience),
    )


def _distinct(needs: Sequence[Need]) -> list[Need]:
    """Per kind and channels the highest number: many offers may have the same cap."""
    highest: dict[tuple[str, Channels, bool, bool], Need] = {}
    for need in needs:
        key = (need.of, need.channels, need.of_offers is None, need.by_seen)
        if key not in highest or need.most > highest[key].most:
            highest[key] = need
    return list(highest.values())
