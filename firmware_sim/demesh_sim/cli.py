"""`demesh swarm`: a scenario as processes or in virtual time; the fault campaign, its mutants."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from demesh.config import MQTT_PORT
from demesh.errors import ConfigError
from demesh_sim import scenario as scenarios
from demesh_sim.scenario import Scenario
from demesh_sim.summary import lines
from demesh_sim.view import View, open_view

RUNS = Path("runs")

# Seeds are written with at most nine digits; more processes than this no machine here has.
SEED_MAX = 999_999_999
JOBS_MAX = 64


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `swarm`."""
    swarm = subparsers.add_parser("swarm", help="simulated boards that run the shipped daemon")
    actions = swarm.add_subparsers(metavar="ACTION", required=True)
    parser = actions.add_parser("run", help="run a scenario: processes, or virtual time")
    parser.add_argument("scenario", type=Path, help="a file like configs/scenarios/street.toml")
    parser.add_argument("--duration", metavar="S", help="seconds to run (environment: DURATION)")
    parser.add_argument(
        "--broker", metavar="URL[,URL]", help="mqtt://host:port (environment: BROKER)"
    )
    parser.add_argument("--plain", action="store_true", help="lines of text instead of a live view")
    parser.add_argument("--virtual", action="store_true", help="in virtual time, without a broker")
    parser.add_argument(
        "--seed", type=int, default=7, metavar="N", help="chance of a virtual run (default 7)"
    )
    parser.set_defaults(run=run)
    parser = actions.add_parser("seeds", help="a fault campaign in virtual time, seed by seed")
    parser.add_argument("--scenario", default="consensus", help="only 'consensus' so far")
    parser.add_argument("--seeds", metavar="A:B", default="0:300", help="from A to before B")
    parser.add_argument("--seed", metavar="N", help="only this one")
    parser.add_argument("--jobs", metavar="N", default="2", help="processes (default 2)")
    parser.add_argument("--transcript", action="store_true", help="with --seed: tell all of it")
    parser.set_defaults(run=seeds)
    parser = actions.add_parser("mutants", help="deliberate faults that the campaign must notice")
    parser.add_argument("--jobs", metavar="N", default="2", help="processes (default 2)")
    parser.set_defaults(run=mutants)


def run(arguments: argparse.Namespace) -> int:
    """Run a scenario; raises DemeshError."""
    scenario = scenarios.load(arguments.scenario)
    duration_s = _duration_s(arguments.duration, scenario.clock.duration_s)
    if arguments.virtual:
        return _virtual(arguments, scenario, duration_s)
    return _processes(arguments, duration_s)


def _processes(arguments: argparse.Namespace, duration_s: int) -> int:
    from demesh_sim import street  # noqa: PLC0415 - a virtual run needs no MQTT client

    brokers = _brokers(arguments.broker)
    run = street.Street(arguments.scenario, RUNS, brokers)
    print(f"everything of this run lies in {RUNS / run.folder.name}", flush=True)

    def view(url: str) -> View:
        host, _, port = url.removeprefix("mqtt://").rpartition(":")
        print(
            f"to watch it from outside: mosquitto_sub -h {host} -p {port} -t 'demesh/+/+/obs/#' -v"
        )
        return open_view(sys.stdout, plain=arguments.plain)

    asyncio.run(street.run(run, view, duration_s))
    summary = run.summary()
    print("\n" + "\n".join(lines(summary)))
    return summary.exit_code


def _virtual(arguments: argparse.Namespace, scenario: Scenario, duration_s: int) -> int:
    from demesh_sim import rehearsal  # noqa: PLC0415 - a run of processes needs no simulator

    view = open_view(sys.stdout, plain=arguments.plain)
    try:
        report, summary = rehearsal.run(scenario, arguments.seed, duration_s, view)
    finally:
        view.close()
    print("\n" + "\n".join([*lines(summary), "", *report.lines()]))
    return summary.exit_code


def seeds(arguments: argparse.Namespace) -> int:
    """Run seeds; 0 only if nothing was violated. Raises ConfigError."""
    from demesh_sim.campaign import series  # noqa: PLC0415 - a street needs no campaign

    if arguments.scenario != "consensus":
        raise ConfigError(f"scenario {arguments.scenario!r} is unknown; there is: consensus")
    jobs = _number("jobs", arguments.jobs, 1, JOBS_MAX)
    if arguments.seed is not None:
        first = _number("seed", arguments.seed, 0, SEED_MAX)
        last = first + 1
    else:
        before, _, after = arguments.seeds.partition(":")
        first = _number("first of seeds", before, 0, SEED_MAX)
        last = _number("end of seeds", after, first + 1, SEED_MAX + 1)
    if arguments.transcript and last > first + 1:
        raise ConfigError("a transcript is of one seed; write --seed N --transcript")
    figures = series.Figures()
    outcomes = (
        iter([series.transcript(first, print)])
        if arguments.transcript
        else series.run_seeds(range(first, last), min(jobs, last - first))
    )
    for outcome in outcomes:
        figures.add(outcome)
        if outcome.violation is not None:
            print(f"seed {outcome.seed}: {outcome.violation}")
            print(f"replay: {series.REPLAY.format(seed=outcome.seed)}", flush=True)
        if sys.stdout.isatty():
            print(f"\r{figures.progress(last - first)}", end="", flush=True)
        elif figures.seeds % 100 == 0:
            print(figures.progress(last - first), flush=True)
    print("\n".join(["", *figures.lines()]))
    return 1 if figures.violations else 0


def mutants(arguments: argparse.Namespace) -> int:
    """Try every mutant; 0 only if all were killed. Raises ConfigError."""
    from demesh_sim.campaign import series  # noqa: PLC0415 - a street needs no campaign

    jobs = _number("jobs", arguments.jobs, 1, JOBS_MAX)
    print(series.TABLE_HEAD)
    survivors = 0
    for killed in series.run_mutants(jobs):
        print(killed.line(), flush=True)
        survivors += killed.seed is None
    print(f"{survivors} survive" if survivors else "all killed")
    return 1 if survivors else 0


def _number(what: str, text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise ConfigError(f"{what} {text!r} is not a number from {least} to {most}")
    return int(text)


def _duration_s(given: str | None, default: int) -> int:
    text = given or os.environ.get("DURATION") or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= scenarios.SECONDS_MAX:
        raise ConfigError(
            f"duration {text!r} is not a number of seconds from 1 to {scenarios.SECONDS_MAX}"
        )
    return int(text)


def _brokers(given: str | None) -> tuple[str, ...]:
    """Those that were named, none for the embedded one; raises ConfigError."""
    named = given or os.environ.get("BROKER")
    return tuple(map(_broker, named.split(","))) if named else ()


def _broker(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme != "mqtt" or parts.path.strip("/") or port == 0 or "@" in url:
        raise ConfigError(
            f"broker {url!r} is not an address; write mqtt://host:port, without a login or TLS"
        )
    return f"mqtt://{f'[{host}]' if ':' in host else host}:{port or MQTT_PORT}"
