"""robot-warden: a robot runs only while two independent modules let it."""

__version__ = "0.1.0"
