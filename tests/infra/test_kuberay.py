"""The manifests for Kubernetes: every field is one of its API's, and what the operator refuses is not there.

Against the operator's own definitions, which are too large to keep here (2.3 MB): put KubeRay's ``ray.io_*.yaml`` from
its Helm chart into a folder, and name it in PSC_KUBERAY_CRDS.
"""

from __future__ import annotations

import copy
import json
import os
import shlex
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from jobs import cli

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "infra" / "kuberay").glob("*.yaml"))
SCHEMA = json.loads(Path(__file__).with_name("kuberay-v1.json").read_text())
CRDS = os.environ.get("PSC_KUBERAY_CRDS")


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / "infra" / "kuberay" / name).read_text())


def problems(document: Any, schema: Any = SCHEMA) -> list[str]:
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{list(e.absolute_path)}: {e.message[:200]}" for e in found]


def clusters() -> list[dict[str, Any]]:
    return [load("raycluster.yaml")["spec"], load("rayjob.yaml")["spec"]["rayClusterSpec"]]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_every_field_is_known(manifest):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert not problems(yaml.safe_load(manifest.read_text()))


def test_a_slip_is_seen():
    for path, value in (
        (("spec", "workerGroupSpecs", 0, "groupNme"), "x"),
        (("spec", "headGroupSpec", "template", "spec", "containers", 0, "resources", "limits", "memory"), "4 GB"),
        (("spec", "autoscalerOptions", "version"), "v3"),
        (("spec", "workerGroupSpecs", 0, "replicas"), "one"),
    ):
        broken = copy.deepcopy(load("raycluster.yaml"))
        place = broken
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        assert problems(broken), path


@pytest.mark.parametrize("cluster", clusters(), ids=["RayCluster", "RayJob"])
def test_the_clusters(cluster):
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert cluster["rayVersion"] == pinned["ray"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["autoscalerOptions"]["version"] == "v2"
    targets = {line.split()[-1] for line in (ROOT / "infra" / "Dockerfile").read_text().splitlines() if " AS " in line}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        # What the second autoscaler, and a submitter beside the head, ask for.
        assert pod["restartPolicy"] == "Never"
        (container,) = pod["containers"]
        name, tag = container["image"].split(":")
        assert (name, tag in targets) == ("psc", True)
        assert {"name": "metrics", "containerPort": 8080} in container["ports"]
        asks_for_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert asks_for_gpu == ("tolerations" in pod)
        assert not asks_for_gpu or tag == "cuda"
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_job():
    spec = load("rayjob.yaml")["spec"]
    assert spec["submissionMode"] == "SidecarMode"
    assert "shutdownAfterJobFinishes" not in spec
    assert "ttlSecondsAfterFinished" not in spec
    conditions = [rule["condition"] for rule in spec["deletionStrategy"]["deletionRules"]]
    assert {c.get("jobStatus", c.get("jobDeploymentStatus")) for c in conditions} == {"SUCCEEDED", "FAILED", "Failed"}
    program, verb, *arguments = shlex.split(spec["entrypoint"])
    command = cli.psc.get_command(click.Context(cli.psc), verb)
    assert program == "psc"
    with command.make_context(verb, arguments) as parsed:
        # A retry of the operator begins the same command again.
        assert parsed.params["resume"]
    variables = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert all(isinstance(value, str) for value in variables.values())


def test_the_monitor_finds_the_pods_port():
    endpoints = load("podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    named = {p["name"] for c in clusters() for p in c["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]}
    assert {endpoint["port"] for endpoint in endpoints} <= named


def structural(schema: Any) -> Any:
    """A definition's OpenAPI schema as JSON Schema that refuses unknown fields, as `kubectl --validate=strict` does."""
    if isinstance(schema, list):
        return [structural(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {
        k: structural(v) for k, v in schema.items() if k not in ("properties", "default") and not k.startswith("x-")
    }
    if "properties" in schema:
        made["properties"] = {name: structural(one) for name, one in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    return made


@pytest.mark.skipif(not CRDS, reason="PSC_KUBERAY_CRDS names no folder with KubeRay's definitions")
@pytest.mark.parametrize("manifest", [m for m in MANIFESTS if m.name.startswith("ray")], ids=lambda path: path.name)
def test_against_the_operators_definitions(manifest):
    document = yaml.safe_load(manifest.read_text())
    definitions = [yaml.safe_load(path.read_text()) for path in Path(str(CRDS)).glob("ray.io_*.yaml")]
    (versions,) = (d["spec"]["versions"] for d in definitions if d["spec"]["names"]["kind"] == document["kind"])
    (schema,) = (structural(v["schema"]["openAPIV3Schema"]) for v in versions if v["name"] == "v1")
    # Kubernetes' own part, which definitions leave open.
    schema["properties"]["metadata"] = {"type": "object"}
    assert not problems(document, schema)
