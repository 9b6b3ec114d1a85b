"""The HTTP side of the live service: sessions over REST, media in and events out over WebSockets, the dashboard page.

A gateway keeps no state of sessions: these live in Ray, their events in Redis. Any number of gateways can stand side by
side, and a client may change from one to another.
"""
