"""Classic recommenders to compare with, fitted on the same split, their settings chosen alike."""

from kinrec.trainer.baselines._base import Baseline, interactions, settings_of
from kinrec.trainer.baselines.choice import METHODS, Chosen, choose
from kinrec.trainer.baselines.counts import ItemTransitions, MostPopular
from kinrec.trainer.baselines.ease import Ease
from kinrec.trainer.baselines.ials import ImplicitAls
from kinrec.trainer.baselines.neighbours import ItemKnn, UserKnn
from kinrec.trainer.baselines.session_knn import SessionKnn

__all__ = [
    "METHODS",
    "Baseline",
    "Chosen",
    "Ease",
    "ImplicitAls",
    "ItemKnn",
    "ItemTransitions",
    "MostPopular",
    "SessionKnn",
    "UserKnn",
    "choose",
    "interactions",
    "settings_of",
]
