"""gRPC around the engine: translate, guard, bind, drain.

`kinrec.server.app` builds a server for engines, `kinrec.server.processes` runs it in workers.
"""
