"""Temperatures of the materials in a scene."""

from __future__ import annotations

from dataclasses import dataclass

from tgfbench.datasets.sample.scene import Scene

_STORED = {"daylight": 1.0, "dusk": 0.75, "night": 0.55, "fog": 0.15, "glare": 0.7}


@dataclass(frozen=True)
class Heat:
    """Temperatures in degrees Celsius; how much of the day's sun the ground still holds follows the lighting."""

    air: float
    road: float
    pavement: float
    grass: float
    soil: float
    wall: float
    leaves: float
    sky: float
    sky_at_horizon: float

    def body(self, warmth: float) -> float:
        """Surface temperature of a part of a body: 0 is the air, 1 the core."""
        return self.air + warmth * (36.0 - self.air)


def heat_of(scene: Scene) -> Heat:
    """Return the temperatures of a scene."""
    air, stored = scene.conditions.air, _STORED[scene.lighting]
    sunny = scene.conditions.sun is not None
    return Heat(
        air=air,
        road=air + 5.5 * stored,
        pavement=air + 4.0 * stored,
        grass=air + (1.5 * stored if sunny else -2.5 * stored),
        soil=air + 3.0 * stored,
        wall=air + 4.5 * stored,
        leaves=air + (0.8 if sunny else 0.0),
        sky=air - (7.0 if scene.lighting == "fog" else 30.0),
        sky_at_horizon=air - (2.0 if scene.lighting == "fog" else 9.0),
    )
