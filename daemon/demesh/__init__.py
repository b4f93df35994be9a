"""Demesh: a daemon for machines of different owners that decide, trade and settle over MQTT."""

__version__ = "0.1.0"
