"""Every statistic, whom it is from and where it is computed: what reports and docs name, held complete by a test."""

from __future__ import annotations

from typing import NamedTuple


class Statistic(NamedTuple):
    """`where` is the dotted name of the function."""

    name: str
    source: str
    where: str


STATISTICS: tuple[Statistic, ...] = (
    Statistic("Difference of means", "Welch 1947 (tea-tasting)", "experiments.statistics.effect.compare"),
    Statistic("Ratio of means", "Deng, Knoblich and Lu 2018 (tea-tasting)", "experiments.statistics.effect.compare"),
    Statistic("CUPED", "Deng, Xu, Kohavi and Walker 2013 (tea-tasting)", "experiments.statistics.arms.arms"),
    Statistic("Difference of shares", "two-sample z, unpooled (tea-tasting)", "experiments.statistics.effect.compare"),
    Statistic("Rare shares", "Fisher 1935 (tea-tasting); Newcombe 1998", "experiments.statistics.proportions.exact"),
    Statistic("Several phases", "Mantel and Haenszel 1959", "experiments.statistics.effect.compare"),
    Statistic("Whether effects differ", "Cochran 1954", "experiments.statistics.effect.p_same"),
    Statistic("Primary metrics", "Holm 1979 (tea-tasting)", "experiments.statistics.corrections.holm"),
    Statistic(
        "Secondary metrics and segments",
        "Benjamini and Hochberg 1995 (tea-tasting)",
        "experiments.statistics.corrections.benjamini_hochberg",
    ),
    Statistic("Novelty", "weighted least squares on log(day + 1)", "experiments.statistics.novelty.novelty"),
    Statistic("Size before the start", "Cohen 1988 (tea-tasting)", "experiments.statistics.power.plan"),
    Statistic(
        "Smallest detectable effect",
        "Cohen 1988, solved for the effect",
        "experiments.statistics.power.smallest_detectable",
    ),
    Statistic("Decision at a look", "Lan and DeMets 1983", "experiments.statistics.group_sequential.boundaries"),
    Statistic(
        "Harm at any time",
        "Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021",
        "experiments.statistics.confidence_sequence.multiplier",
    ),
    Statistic("Sample ratio, once", "Pearson 1900", "experiments.statistics.sample_ratio.chi2_p"),
    Statistic("Sample ratio, at any time", "Lindon and Malek 2022", "experiments.statistics.sample_ratio.sequential_p"),
)
