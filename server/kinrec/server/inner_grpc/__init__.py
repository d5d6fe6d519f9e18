"""What this server has of gRPC's own by looking into it, because gRPC has no way to ask for it.

In `held` calls wait for their messages, in `gate` they are refused before gRPC makes anything for them,
and in `reader` the thread that reads them works on them as well. Where gRPC is made otherwise than
`known` says, none of this is done.
"""
