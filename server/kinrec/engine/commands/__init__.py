"""Commands of the engine: one module each, imported only when asked for."""
