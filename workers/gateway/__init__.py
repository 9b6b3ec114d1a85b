"""The HTTP interface of the live service: sessions over REST, media and events over WebSockets, and the dashboard.

A gateway holds no state of sessions: they run in Ray, and their events are in Redis. Any number of gateways can run
side by side, and a client can change from one to another.
"""
