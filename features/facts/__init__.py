"""What we know now, in one SQLite file: catalogue, customers, the lake's file list, settings of the data.

One file on purpose: an ingest that brings offers, customers and events becomes visible in one commit.
"""

from features.facts.catalogue import ABSENT, Catalogue, CatalogueFacts, Change, Stored
from features.facts.customers import MOST_KEYS, CustomerFacts
from features.facts.identities import IdentityFacts
from features.facts.lake import LakeFacts, LakeFile

__all__ = ["ABSENT", "MOST_KEYS", "Catalogue", "Change", "Facts", "LakeFile", "Stored"]


class Facts(CatalogueFacts, CustomerFacts, IdentityFacts, LakeFacts):
    """An open facts.db. Safe to share between threads of one process; open one per process."""
