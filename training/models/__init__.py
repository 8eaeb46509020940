"""What learns from the log, one model a file; the recommenders that compete are named here."""

from __future__ import annotations

from training.models.als import ALS
from training.models.base import RecommenderModel
from training.models.ease import EASE
from training.models.item_knn import ITEM_KNN
from training.models.lightfm import LIGHTFM
from training.models.own_frequency import OWN_FREQUENCY
from training.models.popularity import POPULARITY
from training.models.recent_popularity import RECENT_POPULARITY
from training.models.rp3beta import RP3BETA
from training.models.second_stage import SECOND_STAGE

RECOMMENDERS: dict[str, RecommenderModel] = {
    model.name: model
    for model in (POPULARITY, RECENT_POPULARITY, OWN_FREQUENCY, LIGHTFM, ALS, EASE, ITEM_KNN, RP3BETA, SECOND_STAGE)
}
