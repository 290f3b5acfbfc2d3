"""A body on a plane: bounded acceleration, controlled deceleration, brakes. Pure; time is an argument.

Metres, metres per second, seconds. The default figures make a small guide robot that comes to rest within
the plan's default ss1 (800 ms) under control, and within two 20 ms cycles on its brakes.
"""

import math
from dataclasses import dataclass, field
from enum import Enum

_Vector = tuple[float, float]


class Drive(Enum):
    """What the drives do in one cycle."""

    RUN = "run"
    """Towards the target."""
    HALT = "halt"
    """Controlled deceleration under power (SS1 while it runs, SS2), then standstill."""
    BRAKE = "brake"
    """No power (STO): the spring-applied brakes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The body's figures; each greater than 0."""

    max_speed_mps: float = 0.8
    acceleration_mps2: float = 0.8
    deceleration_mps2: float = 1.5
    brake_mps2: float = 40.0


@dataclass(slots=True)
class Body:
    """Where the robot is and how fast; `step` is one cycle of its drives."""

    limits: Limits = field(default_factory=Limits)
    x_m: float = 2.0
    y_m: float = 2.0
    vx_mps: float = 0.0
    vy_mps: float = 0.0

    @property
    def speed_mps(self) -> float:
        """Exactly 0.0 at standstill."""
        return math.hypot(self.vx_mps, self.vy_mps)

    def step(self, dt_s: float, drive: Drive, target: _Vector, speed_permille: int) -> None:
        """Lets `dt_s` seconds pass. `speed_permille`: 0 to 1000 of `max_speed_mps`, while running.

        The velocity changes by at most the rate of the drive's state times `dt_s`, as a vector.
        """
        limit_mps = self.limits.max_speed_mps * speed_permille / 1000
        wanted = self._towards(target, limit_mps) if drive is Drive.RUN else (0.0, 0.0)
        self._approach(wanted, self._rate_mps2(drive, limit_mps) * dt_s)
        self.x_m += self.vx_mps * dt_s
        self.y_m += self.vy_mps * dt_s

    def _towards(self, target: _Vector, speed_mps: float) -> _Vector:
        dx, dy = target[0] - self.x_m, target[1] - self.y_m
        distance_m = math.hypot(dx, dy)
        if distance_m == 0:
            return (0.0, 0.0)
        return (dx / distance_m * speed_mps, dy / distance_m * speed_mps)

    def _rate_mps2(self, drive: Drive, limit_mps: float) -> float:
        if drive is Drive.BRAKE:
            return self.limits.brake_mps2
        if drive is Drive.RUN and self.speed_mps <= limit_mps:
            return self.limits.acceleration_mps2
        return self.limits.deceleration_mps2

    def _approach(self, wanted: _Vector, most_mps: float) -> None:
        dvx, dvy = wanted[0] - self.vx_mps, wanted[1] - self.vy_mps
        change_mps = math.hypot(dvx, dvy)
        if change_mps <= most_mps:
            # Not by adding: standstill is exactly zero, and rounding would leave a rest.
            self.vx_mps, self.vy_mps = wanted
            return
        self.vx_mps += dvx / change_mps * most_mps
        self.vy_mps += dvy / change_mps * most_mps


@dataclass(slots=True)
class Patrol:
    """Way points taken in turn, for ever. A point counts as reached within `near_m`."""

    points: tuple[_Vector, ...] = ((2.0, 2.0), (10.0, 2.0), (10.0, 6.0), (2.0, 6.0))
    near_m: float = 0.3
    leg: int = 0

    def target(self, x_m: float, y_m: float) -> _Vector:
        """Where to go from here; moves on to the next point when this one is reached."""
        x, y = self.points[self.leg]
        if math.hypot(x - x_m, y - y_m) <= self.near_m:
            self.leg = (self.leg + 1) % len(self.points)
        return self.points[self.leg]
