"""Hostile calls of every method of the service, made from its descriptor, and what must hold for each.

A new method, message or field is called, and filled with every kind of value, without a word here.
"""
