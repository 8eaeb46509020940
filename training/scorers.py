"""Fitted models as arrays and JSON: all that serving sees of training.

A release is a folder: `manifest.json` names every other file with its SHA-256, `offers.json` is the offer map that
all scorers share, and each model has a folder with `scorer.json` and its arrays as `.npy`. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from features.definitions import FeatureSet
from features.errors import BrokenRelease
from training.calibrated import between, sigmoid
from training.encoder import Encoder, OfferSide, offer_fields
from training.factors import boost, taste_of
from training.kept import Kept, read_only
from training.linear import Linear
from training.tokens import Tokens
from training.trees import Forest

Arrays = Mapping[str, NDArray[Any]]
Affinity = NDArray[np.float32]
FORMAT = 1  # of the files of a release; grows when an older reader could not read them
SMALLEST = 1e-6  # no probability is nearer to 0 or 1 than this

# Recommenders


class RecommenderScorer(Protocol):
    """Affinity of a customer to offers: finite, higher is better, no unit."""

    @property
    def version(self) -> str: ...
    def prepare(self, offers: Sequence[Offer]) -> Any: ...
    def taste(self, customer_id: str, features: Mapping[str, Any], side: Any) -> Affinity:
        """Shape (n_offers,): how well each offer suits the customer, whatever was taken before. Not to be written to:
        the same customer may get it again."""
        ...

    def affinity(self, customer_id: str, features: Mapping[str, Any], side: Any) -> Affinity:
        """Shape (n_offers,): what to recommend; taste, and what follows from what was taken before."""
        ...


@dataclass(frozen=True, slots=True)
class FactorSide:
    """The offers of one catalogue, and the tastes of the customers who were asked about last."""

    factors: NDArray[np.float32]  # (n_offers, k)
    biases: NDArray[np.float32]  # (n_offers,)
    row_of_trained: NDArray[np.int32]  # (n_trained,) row of each trained offer in this catalogue, -1 if it left
    tastes: Kept[tuple[int, ...], Affinity]  # by row of the customer, and tokens


@dataclass(frozen=True, slots=True)
class FactorScorer:
    """Factors of identity plus attributes on both sides; the unknown are scored from attributes alone.

    Affinity is their product, plus the offer's bias, plus a boost for offers that the customer took before.
    """

    KIND: ClassVar[str] = "factors"
    version: str
    offer_map: tuple[str, ...]
    customers: Mapping[str, int]  # customer id -> row
    customer_tokens: Tokens
    offer_tokens: Tokens
    customer_factors: NDArray[np.float32]  # (n_customers, k)
    offer_factors: NDArray[np.float32]  # (n_trained, k)
    offer_biases: NDArray[np.float32]  # (n_trained,)
    customer_token_factors: NDArray[np.float32]  # (n_customer_tokens, k)
    offer_token_factors: NDArray[np.float32]  # (n_offer_tokens, k)
    offer_token_biases: NDArray[np.float32]  # (n_offer_tokens,)
    new_offer_bias: float  # stands in for the identity bias of an offer that was not trained
    repeats: bool  # whether offers taken before may be recommended again
    taken_start: NDArray[np.int64]  # (n_customers + 1,) where each customer's part of `taken` begins
    taken: NDArray[np.int32]  # rows of trained offers that the customer took before
    taken_boost: NDArray[np.float32]  # parallel to `taken`: added to the affinity, with `repeats`

    def prepare(self, offers: Sequence[Offer]) -> FactorSide:
        trained = {offer_id: row for row, offer_id in enumerate(self.offer_map)}
        factors = np.zeros((len(offers), self.offer_factors.shape[1]), dtype=np.float32)
        biases = np.full(len(offers), self.new_offer_bias, dtype=np.float32)
        row_of_trained = np.full(len(self.offer_map), -1, dtype=np.int32)
        for row, offer in enumerate(offers):
            known = trained.get(offer.offer_id)
            if known is not None:
                factors[row], biases[row] = self.offer_factors[known], self.offer_biases[known]
                row_of_trained[known] = row
            tokens = self.offer_tokens.of(offer_fields(offer))
            factors[row] += self.offer_token_factors[tokens].sum(axis=0)
            biases[row] += self.offer_token_biases[tokens].sum()
        side = FactorSide(factors, biases, row_of_trained, Kept(len(offers)))
        self._taste(-1, [], side)  # compiled now, not by the first customers
        boost(biases, row_of_trained, self.taken[:0], self.taken_boost[:0])
        return side

    def taste(self, customer_id: str, features: Mapping[str, Any], side: FactorSide) -> Affinity:
        row = self.customers.get(customer_id, -1)
        tokens = self.customer_tokens.of(features)
        key = (row, *tokens)
        scores = side.tastes.get(key)
        if scores is None:
            scores = self._taste(row, tokens, side)
            side.tastes.put(key, scores)
        return scores

    def _taste(self, row: int, tokens: list[int], side: FactorSide) -> Affinity:
        of_tokens, of_customers = self.customer_token_factors, self.customer_factors
        scores: Affinity = taste_of(of_tokens, np.array(tokens, np.int64), of_customers, row, side.factors, side.biases)
        if row >= 0 and self.repeats:
            part = self._of(row)
            boost(scores, side.row_of_trained, self.taken[part], self.taken_boost[part])
        return read_only(scores)

    def affinity(self, customer_id: str, features: Mapping[str, Any], side: FactorSide) -> Affinity:
        """Taste; offers taken before come last if they may not be repeated."""
        scores = self.taste(customer_id, features, side).copy()
        row = self.customers.get(customer_id)
        if row is not None and not self.repeats and scores.size:
            at = side.row_of_trained[self.taken[self._of(row)]]
            scores[at[at >= 0]] = scores.min()
        return scores

    def _of(self, row: int) -> slice:
        """A customer's part of `taken`."""
        return slice(self.taken_start[row], self.taken_start[row + 1])

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        names = (
            "customer_factors", "offer_factors", "offer_biases", "customer_token_factors", "offer_token_factors",
            "offer_token_biases", "taken_start", "taken", "taken_boost",
        )  # fmt: skip
        meta = {
            "customers": list(self.customers),
            "customer_tokens": msgspec.to_builtins(self.customer_tokens),
            "offer_tokens": msgspec.to_builtins(self.offer_tokens),
            "new_offer_bias": self.new_offer_bias,
            "repeats": self.repeats,
        }
        return meta, {name: getattr(self, name) for name in names}

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> FactorScorer:
        scorer = cls(
            version=meta["version"],
            offer_map=offer_map,
            customers={customer: row for row, customer in enumerate(meta["customers"])},
            customer_tokens=msgspec.convert(meta["customer_tokens"], Tokens),
            offer_tokens=msgspec.convert(meta["offer_tokens"], Tokens),
            new_offer_bias=meta["new_offer_bias"],
            repeats=meta["repeats"],
            **arrays,
        )
        k = scorer.offer_factors.shape[1]
        _expect("offer_factors", scorer.offer_factors, (len(offer_map), k))
        _expect("offer_biases", scorer.offer_biases, (len(offer_map),))
        _expect("customer_factors", scorer.customer_factors, (len(meta["customers"]), k))
        _expect("customer_token_factors", scorer.customer_token_factors, (scorer.customer_tokens.n_tokens, k))
        _expect("offer_token_factors", scorer.offer_token_factors, (scorer.offer_tokens.n_tokens, k))
        _expect("offer_token_biases", scorer.offer_token_biases, (scorer.offer_tokens.n_tokens,))
        _expect("taken_start", scorer.taken_start, (len(meta["customers"]) + 1,))
        _expect("taken_boost", scorer.taken_boost, scorer.taken.shape)
        return scorer


@dataclass(frozen=True, slots=True)
class PopularityScorer:
    """The same affinity for everybody: the log of how much an offer was taken lately."""

    KIND: ClassVar[str] = "popularity"
    version: str
    offer_map: tuple[str, ...]
    scores: NDArray[np.float32]  # (n_trained,)
    category_scores: Mapping[str, float]  # for offers that were not trained: the median of their category
    new_offer_score: float  # and of all

    def prepare(self, offers: Sequence[Offer]) -> Affinity:
        trained = dict(zip(self.offer_map, self.scores.tolist(), strict=True))
        scores = [
            trained.get(o.offer_id, self.category_scores.get(o.category or "", self.new_offer_score)) for o in offers
        ]
        return read_only(np.array(scores, dtype=np.float32))

    def taste(self, customer_id: str, features: Mapping[str, Any], side: Affinity) -> Affinity:
        return side

    def affinity(self, customer_id: str, features: Mapping[str, Any], side: Affinity) -> Affinity:
        return side.copy()

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        meta = {"category_scores": dict(self.category_scores), "new_offer_score": self.new_offer_score}
        return meta, {"scores": self.scores}

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> PopularityScorer:
        _expect("scores", arrays["scores"], (len(offer_map),))
        return cls(meta["version"], offer_map, arrays["scores"], meta["category_scores"], meta["new_offer_score"])


# What acceptance and churn models are made of


class RawForOffers(Protocol):
    """Log-odds of one customer for each of the offers that it was prepared for, (n_offers,)."""

    def raw(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: Affinity | None
    ) -> NDArray[np.float64]: ...


class Raw(Protocol):
    """Encoded rows (n, n_columns) -> log-odds (n,); `varies` (n_columns,) may name the columns that differ."""

    def raw(self, rows: NDArray[np.float64], varies: NDArray[np.bool_] | None = None) -> NDArray[np.float64]: ...
    def one(self, row: NDArray[np.float64]) -> float:
        """The log-odds of one row, (n_columns,)."""
        ...

    def prepare(self, encoder: Encoder, side: OfferSide) -> RawForOffers: ...
    def arrays(self) -> dict[str, NDArray[Any]]: ...


RAW: dict[str, type[Forest] | type[Linear]] = {"trees": Forest, "linear": Linear}


@dataclass(frozen=True, slots=True)
class Calibration:
    """A monotone map from log-odds to probability, linear between the points and flat outside."""

    kind: str = "none"  # none: the logistic function; sigmoid: of slope * log-odds + intercept; isotonic: the points
    slope: float = 1.0
    intercept: float = 0.0
    x: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # log-odds, increasing
    y: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # probabilities

    def __call__(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        p = np.empty(len(raw))
        if self.kind == "isotonic":
            between(raw, self.x, self.y, SMALLEST, p)
        else:
            sigmoid(raw, float(self.slope), float(self.intercept), SMALLEST, p)
        return p

    def one(self, raw: float) -> float:
        if self.kind == "isotonic":
            p = float(np.interp(raw, self.x, self.y))
        else:
            p = 0.5 * (1.0 + math.tanh(0.5 * (self.slope * raw + self.intercept)))
        return min(max(p, SMALLEST), 1.0 - SMALLEST)


def logistic(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * z))  # no overflow on either side


@dataclass(frozen=True, slots=True)
class Classifier:
    """Encoded rows -> calibrated probabilities."""

    kind: str  # of RAW
    encoder: Encoder
    model: Raw
    calibration: Calibration

    def __call__(self, rows: NDArray[np.float64], varies: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        return self.calibration(self.model.raw(rows, varies))

    def one(self, features: Mapping[str, Any]) -> float:
        """The probability of one customer alone."""
        return self.calibration.one(self.model.one(self.encoder.of_customer(features, {})))

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        c = self.calibration
        meta = {
            "model": self.kind,
            "columns": msgspec.to_builtins(self.encoder.columns),
            "calibration": {"kind": c.kind, "slope": c.slope, "intercept": c.intercept},
        }
        arrays = {f"model_{name}": array for name, array in self.model.arrays().items()}
        return meta, {**arrays, "calibration_x": c.x, "calibration_y": c.y}

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays) -> Classifier:
        columns = msgspec.convert({"columns": meta["columns"]}, Encoder)
        model = {name.removeprefix("model_"): array for name, array in arrays.items() if name.startswith("model_")}
        read = [model[name] for name in ("column", "numbers", "categories") if name in model]
        used = max((int(columns_read.max()) for columns_read in read if columns_read.size), default=-1)
        if used >= len(columns.columns):
            raise BrokenRelease(f"the model reads column {used}, its encoder has {len(columns.columns)}")
        calibration = Calibration(**meta["calibration"], x=arrays["calibration_x"], y=arrays["calibration_y"])
        return cls(meta["model"], columns, RAW[meta["model"]](**model), calibration)


# Acceptance and churn


class AcceptanceModel(Protocol):
    """P(accept | customer, offer, context); always inside (0, 1)."""

    @property
    def version(self) -> str: ...
    def prepare(self, offers: Sequence[Offer], offer_features: Mapping[str, Mapping[str, Any]], now_us: int) -> Any: ...
    def p_accept(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: Affinity, side: Any
    ) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class AcceptanceScorer:
    """The fitted acceptance model."""

    KIND: ClassVar[str] = "acceptance"
    version: str
    classifier: Classifier

    def prepare(
        self, offers: Sequence[Offer], offer_features: Mapping[str, Mapping[str, Any]], now_us: int
    ) -> RawForOffers:
        """`offer_features` as of `now_us`; anew when the catalogue or the offers' statistics change."""
        encoder = self.classifier.encoder
        self.classifier.calibration(np.zeros(1))  # compiled now, not by the first customer
        return self.classifier.model.prepare(encoder, encoder.prepare(offers, offer_features))

    def p_accept(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: Affinity, side: RawForOffers
    ) -> NDArray[np.float64]:
        """Shape (n_offers,). `context` has channel, placement_id, hour and weekday (UTC, Monday is 0)."""
        return self.classifier.calibration(side.raw(features, context, affinity))

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return self.classifier.parts()

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> AcceptanceScorer:
        return cls(meta["version"], Classifier.made_of(meta, arrays))


@dataclass(frozen=True, slots=True)
class UncalibratedAcceptance:
    """Where no impression was ever logged: a stated prior times affinity, said to be uncalibrated.

    p = 2 * prior * logistic((affinity - centre) / scale), so that an offer of average affinity gets the prior and
    none gets more than twice of it. Centre and scale are those of the recommender over its training customers.
    """

    KIND: ClassVar[str] = "prior_times_affinity"
    version: str
    prior: float  # (0, 0.5)
    centre: float
    scale: float

    def prepare(self, offers: Sequence[Offer], offer_features: Mapping[str, Mapping[str, Any]], now_us: int) -> int:
        return len(offers)

    def p_accept(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: Affinity, side: int
    ) -> NDArray[np.float64]:
        z = (affinity.astype(np.float64) - self.centre) / self.scale
        return np.clip(2.0 * self.prior * logistic(z), SMALLEST, 1.0 - SMALLEST)

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {"prior": self.prior, "centre": self.centre, "scale": self.scale}, {}

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> UncalibratedAcceptance:
        if not (0.0 < meta["prior"] < 0.5 and meta["scale"] > 0.0):
            raise BrokenRelease(f"prior {meta['prior']} must be in (0, 0.5) and scale {meta['scale']} above 0")
        return cls(meta["version"], meta["prior"], meta["centre"], meta["scale"])


@dataclass(frozen=True, slots=True)
class ChurnScorer:
    """P(churn) of one customer, inside (0, 1)."""

    KIND: ClassVar[str] = "churn"
    version: str
    classifier: Classifier

    def p_churn(self, features: Mapping[str, Any]) -> float:
        return self.classifier.one(features)

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return self.classifier.parts()

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> ChurnScorer:
        return cls(meta["version"], Classifier.made_of(meta, arrays))


Scorer = FactorScorer | PopularityScorer | AcceptanceScorer | UncalibratedAcceptance | ChurnScorer
SCORERS: dict[str, type[Scorer]] = {
    kind.KIND: kind for kind in (FactorScorer, PopularityScorer, AcceptanceScorer, UncalibratedAcceptance, ChurnScorer)
}

# Releases


@dataclass(frozen=True, slots=True)
class Release:
    """The models that serve together. `number` and `versions` are those of the model registry."""

    number: str
    versions: Mapping[str, str | None]  # release, recommender, acceptance, churn
    calibrated: bool  # whether p_accept comes from a fitted acceptance model
    offer_map: tuple[str, ...]  # the offers that the recommender was trained with, in row order
    feature_set: FeatureSet
    recommender: RecommenderScorer
    acceptance: AcceptanceModel
    churn: ChurnScorer | None
    popularity: Mapping[str, float]  # offer id -> affinity, where the recommender cannot answer
    manifest: Mapping[str, Any]


class Pointer(msgspec.Struct, frozen=True):
    """champion.json or shadow.json: a release, and the digest of its manifest."""

    release: str
    sha256: str


def read_pointer(releases: Path, alias: str = "champion") -> Pointer | None:
    """What an alias points at; None where there is nothing, as before the first promotion."""
    try:
        return msgspec.json.decode((releases / f"{alias}.json").read_bytes(), type=Pointer)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise BrokenRelease(f"{alias}.json: {error}") from error


def load_champion(releases: Path) -> Release | None:
    pointer = read_pointer(releases)
    return None if pointer is None else load_release(releases / pointer.release, pointer.sha256)


def load_release(folder: Path, sha256: str | None = None) -> Release:
    """The release in `folder`, every file checked against the manifest; compiled code is warm afterwards.

    `BrokenRelease` if a file is missing or differs from its digest, or arrays disagree with the offer map.
    """
    try:
        return _load(folder, sha256)
    except BrokenRelease:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, msgspec.MsgspecError) as error:
        raise BrokenRelease(f"{folder.name}: {type(error).__name__}: {error}") from error


def _load(folder: Path, sha256: str | None) -> Release:
    text = (folder / "manifest.json").read_bytes()
    if sha256 is not None and digest(text) != sha256:
        raise BrokenRelease(f"{folder.name}/manifest.json has digest {digest(text)}, the pointer says {sha256}")
    manifest = json.loads(text)
    if manifest.get("format") != FORMAT:
        raise BrokenRelease(
            f"{folder.name} has format {manifest.get('format')}, this version reads {FORMAT}: "
            "run `nbo train all` and `nbo models promote`"
        )
    files = {name: _checked(folder, name, expected) for name, expected in manifest["files"].items()}
    offer_map = tuple(json.loads(files["offers.json"]))
    if digest(files["offers.json"]) != manifest["offer_map_sha256"]:
        raise BrokenRelease(f"{folder.name}: the offer map is not the one the manifest names")
    feature_set = FeatureSet.from_json(files["features.json"])
    scorers = {name: read_scorer(files, name, offer_map) for name in manifest["models"]}
    popularity = scorers["popularity"]
    release = Release(
        number=manifest["release"],
        versions=manifest["versions"],
        calibrated=manifest["calibrated"],
        offer_map=offer_map,
        feature_set=feature_set,
        recommender=_of(scorers["recommender"], FactorScorer, PopularityScorer),
        acceptance=_of(scorers["acceptance"], AcceptanceScorer, UncalibratedAcceptance),
        churn=_of(scorers["churn"], ChurnScorer) if "churn" in scorers else None,
        popularity=dict(zip(offer_map, _of(popularity, PopularityScorer).scores.tolist(), strict=True)),
        manifest=manifest,
    )
    _warm_up(release)
    return release


def _of(scorer: Scorer, *kinds: type[Any]) -> Any:
    if not isinstance(scorer, kinds):
        raise BrokenRelease(f"a {type(scorer).__name__} where {' or '.join(k.__name__ for k in kinds)} belongs")
    return scorer


def _checked(folder: Path, name: str, expected: str) -> bytes:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BrokenRelease(f"{folder.name}: {name!r} leaves the release")
    body = path.read_bytes()
    if digest(body) != expected:
        raise BrokenRelease(f"{folder.name}/{name} has digest {digest(body)}, the manifest says {expected}")
    return body


def _warm_up(release: Release) -> None:
    """One call of each scorer, so that the first request does not wait for the compiler."""
    nothing = Offer(offer_id="none", name="none", value=0.0, currency="", treatments=())
    affinity = release.recommender.affinity("", {}, release.recommender.prepare((nothing,)))
    release.acceptance.p_accept({}, {}, affinity, release.acceptance.prepare((nothing,), {}, 0))
    if release.churn is not None:
        release.churn.p_churn({})


def scorer_files(scorer: Scorer) -> dict[str, bytes]:
    """A scorer as files: `scorer.json` and one `.npy` per array; the same scorer gives the same bytes."""
    meta, arrays = scorer.parts()
    head = {"kind": scorer.KIND, "version": scorer.version, "arrays": sorted(arrays), **meta}
    files = {"scorer.json": json_bytes(head)}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        files[f"{name}.npy"] = buffer.getvalue()
    return files


def read_scorer(files: Mapping[str, bytes], folder: str, offer_map: tuple[str, ...]) -> Scorer:
    """The scorer under `folder` of already checked files."""
    prefix = f"{folder}/" if folder else ""
    meta = json.loads(files[f"{prefix}scorer.json"])
    arrays = {name: np.load(io.BytesIO(files[f"{prefix}{name}.npy"]), allow_pickle=False) for name in meta["arrays"]}
    return SCORERS[meta["kind"]].made_of(meta, arrays, offer_map)


def json_bytes(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _expect(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise BrokenRelease(f"{name} has shape {array.shape}, its map says {shape}")
