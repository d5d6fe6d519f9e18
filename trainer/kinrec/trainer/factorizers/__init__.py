"""Factorizers: what finds the factors of the joined matrix of interactions and interest vectors."""

from collections.abc import Callable

from kinrec.trainer.factorizers._base import Factorizer, Factors, FoldInKind
from kinrec.trainer.plugins import Plugins

FACTORIZERS: Plugins[Callable[[], Factorizer]] = Plugins(
    "factorizer",
    "kinrec.factorizers",
    {
        "svd": "kinrec.trainer.factorizers.svd:SvdFactorizer",
        "als": "kinrec.trainer.factorizers.als:AlsFactorizer",
        "nmf": "kinrec.trainer.factorizers.nmf:NmfFactorizer",
    },
)

__all__ = ["FACTORIZERS", "Factorizer", "Factors", "FoldInKind"]
