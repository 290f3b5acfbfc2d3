"""The plan file: loaded and checked whole before anything starts (PROTOCOL 8, clause 5.2(a)).

>>> plan = load_plan(Path("plan.toml"))          # raises ConfigError, all problems in it
"""

from agent.config.check import load_plan
from agent.config.errors import ConfigError, Problem

__all__ = ["ConfigError", "Problem", "load_plan"]
