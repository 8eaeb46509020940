"""Offers that are described alike: what stands in for an offer that nobody has taken yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from training.encoder import offer_fields
from training.scorers.base import expect
from training.tokens import WORDS, Tokens, words_of


class Like(NamedTuple):
    """For each of some offers, trained offers and weights that sum to 1; or none."""

    start: NDArray[np.int64]  # (n_offers + 1,)
    row: NDArray[np.int32]  # trained rows
    weight: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LikeOffers:
    """The descriptions of trained offers, to be compared with others."""

    tokens: Tokens
    n_like: int  # trained offers that stand in for one
    token_weight: NDArray[np.float32]  # (n_tokens,) how much it says that two offers share a token
    token_start: NDArray[np.int64]  # (n_tokens + 1,) where each token's part of `token_of` begins
    token_of: NDArray[np.int32]  # trained rows with the token, of offers that somebody took
    norm: NDArray[np.float32]  # (n_trained,) length of each description

    def like(self, fields: Sequence[Mapping[str, Any] | None]) -> Like:
        """Of each description that is not None: the `n_like` nearest, by cosine; none if it shares nothing."""
        found = [self._one(of) if of is not None else _NOBODY for of in fields]
        start = np.concatenate([[0], np.cumsum([len(rows) for rows, _ in found])]).astype(np.int64)
        if not len(found):
            return Like(start, *_NOBODY)
        return Like(start, np.concatenate([r for r, _ in found]), np.concatenate([w for _, w in found]))

    def _one(self, fields: Mapping[str, Any]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        shared = np.zeros(len(self.norm), np.float64)
        for token in self.tokens.of(fields):
            part = self.token_of[self.token_start[token] : self.token_start[token + 1]]
            shared[part] += self.token_weight[token] ** 2
        sharing = np.flatnonzero(shared)
        near = shared[sharing] / self.norm[sharing]
        nearest = np.argsort(-near, kind="stable")[: self.n_like]
        weight = near[nearest] / max(near[nearest].sum(), 1e-30)
        return sharing[nearest].astype(np.int32), weight.astype(np.float32)

    def meta(self) -> dict[str, Any]:
        return {"offer_tokens": msgspec.to_builtins(self.tokens), "n_like": self.n_like}

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "offer_token_weight": self.token_weight,
            "offer_token_start": self.token_start,
            "offer_token_of": self.token_of,
            "offer_norm": self.norm,
        }

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], n_trained: int) -> LikeOffers:
        tokens = msgspec.convert(meta["offer_tokens"], Tokens)
        expect("offer_token_weight", arrays["offer_token_weight"], (tokens.n_tokens,))
        expect("offer_token_start", arrays["offer_token_start"], (tokens.n_tokens + 1,))
        expect("offer_norm", arrays["offer_norm"], (n_trained,))
        return cls(
            tokens, meta["n_like"], arrays["offer_token_weight"], arrays["offer_token_start"],
            arrays["offer_token_of"], arrays["offer_norm"],
        )  # fmt: skip


def joined(before: Like, fresh: Like, origin: NDArray[np.intp], fresh_rows: Sequence[int]) -> Like:
    """What stands in for the offers of a catalogue, by where each was before; those of `fresh_rows` were not there."""
    offset = before.start[-1]
    starts = np.concatenate([before.start[:-1], fresh.start[:-1] + offset])
    ends = np.concatenate([before.start[1:], fresh.start[1:] + offset])
    row, weight = (
        np.concatenate([one, other]) for one, other in ((before.row, fresh.row), (before.weight, fresh.weight))
    )
    at = origin.copy()
    at[list(fresh_rows)] = len(before.start) - 1 + np.arange(len(fresh_rows))
    lengths = (ends - starts)[at]
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    where = np.arange(start[-1]) + np.repeat(starts[at] - start[:-1], lengths)
    return Like(start, row[where], weight[where])


_NOBODY = (np.zeros(0, np.int32), np.zeros(0, np.float32))


def described(offer: Offer) -> dict[str, Any]:
    """What an offer is, without its identity: fields, attributes, and the words of its name."""
    fields = offer_fields(offer)
    del fields["offer_id"]
    return {**fields, WORDS: words_of(offer.name)}
