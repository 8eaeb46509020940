"""Feast's own run-time type checks are left out when it is imported, and nobody else's."""

from __future__ import annotations

import typeguard

from features.feast_repo.loading import load_feast


def twice(number: int) -> int:
    return 2 * number


def checked(function) -> bool:
    return any("check_argument_types" in name for name in function.__code__.co_names)


def test_feasts_methods_are_as_they_were_written_and_typeguard_still_checks_others():
    load_feast()
    from feast import Entity, FeatureView

    assert not checked(Entity.__init__)
    assert not checked(FeatureView.__init__)
    assert checked(typeguard.typechecked(twice))
