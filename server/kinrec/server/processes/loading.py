"""From versions on disk to the engines that answer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from kinrec.engine import BundleError, Engine
from kinrec.engine.store import find_bundle
from kinrec.server.engines import Engines
from kinrec.server.parity import require_parity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kinrec.server.config import ServerConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """What a server serves: the same in all its workers.

    Attributes:
        bundle: The directory of the bundle that answers.
        previous: That of the one which goes on answering the states it gave; None for none.
        previous_until: For how long, in seconds since 1970 UTC.
    """

    bundle: Path
    previous: Path | None = None
    previous_until: float = 0.0


class Loader:
    """Loads engines, and none twice.

    Args:
        store: The store, for the versions that an experiment names.
        config: What bundles must have passed, and the experiment.
    """

    def __init__(self, store: Path, config: ServerConfig) -> None:
        self._store = store
        self._config = config
        # What answers anywhere is found here, and nothing is kept that does not.
        self._loaded: WeakValueDictionary[Path, Engine] = WeakValueDictionary()

    def load(self, served: Served, *, is_verified: bool = False) -> Engines:
        """Verify, load and warm what is to be served.

        Args:
            served: What is to be served.
            is_verified: Whether the files of its bundle have been compared with its manifest already.

        Raises:
            BundleError: The bundle, or one that the experiment names, cannot be used, or must have
                passed ``kinrec verify`` and has not.
        """
        engine = self._engine(served.bundle, is_verified=is_verified)
        return Engines(
            engine,
            self._previous(served),
            served.previous_until,
            experiment=self._config.experiment,
            variants=self._variants(engine),
        )

    def _engine(self, bundle: Path, *, is_verified: bool = False) -> Engine:
        engine = self._loaded.get(bundle)
        if engine is None:
            engine = Engine.load(bundle, is_verified=is_verified)
            if self._config.require_parity:
                require_parity(bundle, engine.fingerprint)
            self._loaded[bundle] = engine
        return engine

    def _variants(self, engine: Engine) -> Mapping[str, Engine]:
        """Give what the variants of the experiment answer with."""
        found: dict[str, Engine] = {}
        if self._config.experiment is None:
            return found
        for variant in self._config.experiment.variants:
            its = engine
            if variant.version not in {"", engine.version}:
                try:
                    its = self._engine(find_bundle(self._store, variant.version))
                except BundleError as error:
                    raise BundleError(f"--experiment: variant {variant.name}: {error}") from error
            found[variant.name] = its.with_weights(variant.weights) if variant.weights else its
        return found

    def _previous(self, served: Served) -> Engine | None:
        """Give what answers the states of the version before; None where nothing can or need."""
        if served.previous is None or time.time() >= served.previous_until:
            return None
        try:
            previous = self._engine(served.previous)
        except BundleError as error:
            _log.warning("states of version %s are refused: %s", served.previous.name, error)
            return None
        _log.info(
            "version %s answers its states until %s",
            previous.version,
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(served.previous_until)),
        )
        return previous
