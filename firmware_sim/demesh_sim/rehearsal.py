"""A scenario in virtual time, watched and summed up like a run of processes."""

from __future__ import annotations

from collections.abc import Mapping

from demesh.ports import MILLISECOND, Json
from demesh_sim import founding
from demesh_sim.audit import audit
from demesh_sim.physics import DAY, MINUTE, DayClock
from demesh_sim.picture import Picture, seen
from demesh_sim.scenario import Scenario
from demesh_sim.summary import Run, Summary, feeders, summarize
from demesh_sim.swarm import Report
from demesh_sim.view import Scene, View, title
from demesh_sim.virtual import BEGINS_S, virtual_run

# In virtual time, so that equal seeds print equal lines. A virtual second takes about a tenth of a
# real one: more frames than that nobody sees, and they would cost more than a few percent.
FRAME_MS = 1_000


def run(scenario: Scenario, seed: int, duration_s: int, view: View) -> tuple[Report, Summary]:
    """Run, show and check `duration_s` of virtual time; raises what the checkers raise."""
    picture = Picture(seen(founding.found(scenario, BEGINS_S, founding.seeded(seed))))
    clock = DayClock(0, scenario.clock.starts_minute, scenario.clock.speed_up)
    shown_ms = 0

    def observe(device: str, topic: str, document: Mapping[str, Json], at_ms: int) -> None:
        nonlocal shown_ms
        picture.receive(device, topic, document, at_ms)
        if at_ms - shown_ms >= FRAME_MS:
            view.show(scene(at_ms))
            shown_ms = at_ms

    def scene(at_ms: int) -> Scene:
        day, into = divmod(clock.simulated(at_ms * MILLISECOND), DAY)
        where = f"virtual time, seed {seed}"
        return Scene(picture, title(scenario), where, at_ms, duration_s * 1000, day, into // MINUTE)

    done = virtual_run(scenario, seed, duration_s, observe)
    view.show(scene(duration_s * 1000))
    genesis = done.founded.genesis
    simulated_s = duration_s * scenario.clock.speed_up
    figures = Run(
        duration_s * 1000,
        simulated_s,
        picture.sold_wh,
        picture.finality_ms,
        feeders(scenario, picture),
    )
    return done.report, summarize(audit(genesis, done.stores), figures)
