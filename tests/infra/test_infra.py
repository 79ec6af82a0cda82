"""infra/: the Dockerfile's paths, Ray's launcher file against Ray's schema, metrics by the names that are exported, and
every psc command that a comment shows.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from jobs import cli
from jobs.submit import _checked
from pipeline.workers.telemetry import JOB_INPUTS, METRICS

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
DOCKERFILE = re.sub(r"\\\n\s*", " ", (INFRA / "Dockerfile").read_text())
INSTRUCTIONS = [
    (line.split()[0], line.split()[1:]) for line in DOCKERFILE.splitlines() if line.strip() and not line.startswith("#")
]
COMMANDS = [
    (path.name, match)
    for path in sorted(INFRA.rglob("*"))
    if path.suffix in (".yaml", "") and path.is_file()
    for match in re.findall(r"^#\s+psc (.*?)(?:\s+#.*)?$", path.read_text(), re.MULTILINE)
]
PAGE = (ROOT / "docs" / "clusters.md").read_text()
COMMANDS += [("clusters.md", match) for match in re.findall(r"(?:^|`)psc ([^`\n]*/[^`\n]*)(?:`|$)", PAGE, re.MULTILINE)]


def test_instructions_are_docker_s():
    known = {"FROM", "ARG", "RUN", "COPY", "ENV", "WORKDIR", "USER", "CMD"}
    assert {name for name, _ in INSTRUCTIONS} <= known


def test_what_is_copied_exists_and_is_sent():
    ignored = (INFRA / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = [words[:-1] for name, words in INSTRUCTIONS if name == "COPY" and not words[0].startswith("--from")]
    paths = {path for group in copied for path in group}
    assert {"pyproject.toml", "setup.py", "constraints.txt", *("psc_core", "pipeline", "jobs")} <= paths
    assert paths <= sent
    assert all((ROOT / path).exists() for path in paths)


def test_stages():
    stages: list[str] = []
    for name, words in INSTRUCTIONS:
        if name == "FROM":
            assert words[0] in stages or words[0].startswith("python:"), words
            stages.append(words[2])
        if name == "COPY" and words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in stages
    assert {"cpu", "cuda"} <= set(stages)
    python = next(words[0] for name, words in INSTRUCTIONS if name == "ARG" and words[0].startswith("PYTHON="))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={python.removeprefix('PYTHON=')}"
    assert "psc" in project["scripts"]


def test_nobody_is_root_when_it_runs():
    last = {}
    stage = ""
    for name, words in INSTRUCTIONS:
        stage = words[2] if name == "FROM" else stage
        if name == "USER":
            last[stage] = words[0]
    assert last["cpu"] == last["cuda"] == "ray"


def test_the_launcher_s_file_is_what_ray_takes():
    from ray.autoscaler._private.util import prepare_config, validate_config

    given = yaml.safe_load((INFRA / "ray-cluster.yaml").read_text())
    validate_config(prepare_config(given))
    with pytest.raises(Exception, match="headnodetype"):
        validate_config(prepare_config(given | {"headnodetype": "head"}))
    assert given["head_node_type"] in given["available_node_types"]
    assert given["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert all("--metrics-export-port" in line for line in ray_starts(given))


def ray_starts(config: dict) -> list[str]:
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    return [line for line in commands if line.startswith("ray start")]


def test_the_launcher_s_commands_are_ray_s():
    from ray.scripts.scripts import start

    known = {name for parameter in start.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for line in ray_starts(yaml.safe_load((INFRA / "ray-cluster.yaml").read_text())):
        assert {word.split("=")[0] for word in line.split()[2:]} <= known


def test_prometheus_takes_its_file():
    config = yaml.safe_load((INFRA / "metrics" / "prometheus.yaml").read_text())
    shipped = ray_s_own_prometheus_file()
    assert config["scrape_configs"][0]["file_sd_configs"][0]["files"] == shipped
    assert config.keys() <= {"global", "scrape_configs"}
    if program := shutil.which("promtool"):
        checked = subprocess.run(
            [program, "check", "config", INFRA / "metrics" / "prometheus.yaml"], capture_output=True
        )
        assert checked.returncode == 0, checked


def ray_s_own_prometheus_file() -> list[str]:
    """Where Ray writes the list of its nodes, by the configuration that it ships."""
    import ray

    folder = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "export" / "prometheus"
    shipped = yaml.safe_load((folder / "prometheus.yml").read_text())
    return shipped["scrape_configs"][0]["file_sd_configs"][0]["files"]


DASHBOARD = json.loads((INFRA / "metrics" / "grafana.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_grafana_knows_every_field():
    """Read by Grafana's own types and written again, nothing is lost or changed."""
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert not list(lost(DASHBOARD, again))
    assert list(lost({"panels": [{"titel": 1}]}, {"panels": [{}]})) == ["/panels/0/titel"]


def lost(before, after, path=""):
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after[key], f"{path}/{key}") if key in after else [f"{path}/{key}"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{path}/{place}")
    elif before != after:
        yield path


def test_the_dashboard_shows_every_metric_and_no_other():
    named = {name for expression in EXPRESSIONS for name in re.findall(r"ray_(\w+)\{", expression)}
    assert named == METRICS.keys() | {JOB_INPUTS}


def test_expressions_are_whole():
    for expression in EXPRESSIONS:
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression
        # Counters mean something as a rate, or summed up.
        assert "rate(" in expression or "sum(ray_psc_" in expression
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = {name for text in EXPRESSIONS for name in re.findall(r"\$(\w+)", text)} - {"__rate_interval"}
    assert used <= variables


def test_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize(("where", "line"), COMMANDS)
def test_the_commands_that_comments_show(where, line):
    verb, *arguments = shlex.split(line.rstrip(" &"))
    command = cli.psc.get_command(click.Context(cli.psc), verb)
    with command.make_context(verb, arguments) as parsed:
        if verb == "submit":
            _checked(list(parsed.params["arguments"]))


def test_there_are_commands_to_show():
    assert {where for where, _ in COMMANDS} == {"raycluster.yaml", "rayjob.yaml", "ray-cluster.yaml", "clusters.md"}


def test_the_page_names_files_that_are_there():
    named = re.findall(r"^\| `([^|]*)` \|", PAGE, re.MULTILINE)
    files = [file for cell in named for file in cell.split("`, `")]
    assert len(files) >= 7
    assert all((INFRA / file).is_file() for file in files)
