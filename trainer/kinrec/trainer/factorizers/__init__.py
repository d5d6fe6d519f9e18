"""Factorizers: what finds the factors of the joined matrix of interactions and interest vectors."""

from kinrec.trainer.factorizers._base import Factorizer, Factors, FoldInKind
from kinrec.trainer.factorizers._registry import GROUP, find_factorizer

__all__ = ["GROUP", "Factorizer", "Factors", "FoldInKind", "find_factorizer"]
