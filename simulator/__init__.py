"""A stand-in for YouTube that runs on this machine, with switches for everything that goes wrong.

``python -m simulator serve`` answers as www.youtube.com does, for made-up
videos and, where a folder is given, for recorded answers. ``python -m
simulator load`` sends a service the requests of many users. Tests start it in
their own process with :func:`simulator.testing.running_simulator`.
"""
