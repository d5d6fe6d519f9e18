"""Whether one bundle gives the same answers by every way in which it is run.

This stands above all other rooms: it asks the trainer's encoder, the engine, the server and the client,
and nothing imports it.
"""
