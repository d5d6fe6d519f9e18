"""gRPC around the engine: translate, guard, bind, drain.

`kinrec.server.app` builds a server for an engine, `kinrec.server.run` runs one as a process.
"""
