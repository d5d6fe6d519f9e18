"""The files of deploy/: they are YAML that reads well, of the cluster's schemas, and fit the server."""

import argparse
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from kinrec.client._calls import SERVICE
from kinrec.server.commands import serve
from kinrec.server.config import ServerConfig

DEPLOY = Path(__file__).parents[2] / "deploy"
CLUSTER = sorted(set((DEPLOY / "kubernetes").glob("*.yaml")))
STYLE = """
extends: default
rules:
  document-start: disable
  line-length: {max: 110, level: warning}
"""


def resources():
    """All resources, by their kind."""
    found = [
        resource
        for path in CLUSTER
        if path.name != "kustomization.yaml"
        for resource in yaml.safe_load_all(path.read_text())
    ]
    assert len({resource["kind"] for resource in found}) == len(found)
    return {resource["kind"]: resource for resource in found}


def pod():
    """What the deployment makes pods of, and the one container of it."""
    spec = resources()["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def serve_arguments():
    """What the command of the container means to this version of the server."""
    _, container = pod()
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert (container["command"], container["args"][0]) == (["kinrec"], "serve")
    return parser.parse_args(container["args"][1:])


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: path.name)
def test_yaml_reads_well(path):
    """Every YAML file passes yamllint."""
    problems = linter.run(path.read_text(), YamlLintConfig(STYLE))
    assert [str(problem) for problem in problems if problem.level == "error"] == []


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("kind", sorted(resources()))
def test_resources_are_of_the_schemas(kind, version):
    """Every resource is what the schemas of an old and of a new cluster take, with no field that is none."""
    kubernetes_validate.validate(resources()[kind], version, strict=True)


def test_all_resources_are_applied():
    """The kustomization names every file beside it."""
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert listed == [path.name for path in CLUSTER if path.name != "kustomization.yaml"]


def test_selectors_find_the_pods():
    """The labels of the pods are what everything else looks for."""
    found = resources()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == found["Deployment"]["metadata"]["name"]


def test_the_command_is_one_of_the_server():
    """The server takes the flags, listens to all, and on the port that everything else names."""
    arguments = serve_arguments()
    _, container = pod()
    ServerConfig(port=arguments.port, drain_wait=arguments.drain_wait, grace=arguments.grace)
    assert str(arguments.workers) == container["resources"]["requests"]["cpu"]
    assert arguments.host == "0.0.0.0"  # noqa: S104 - of a pod
    (port,) = container["ports"]
    assert port["containerPort"] == arguments.port
    assert resources()["Service"]["spec"]["ports"][0]["port"] == arguments.port
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[name]["grpc"] == {"port": arguments.port, "service": SERVICE}


def test_a_pod_has_time_to_drain():
    """The cluster sees that a pod drains while it still answers, and kills none that drains."""
    arguments = serve_arguments()
    spec, container = pod()
    probe = container["readinessProbe"]
    seconds = probe["failureThreshold"] * (probe["periodSeconds"] + probe["timeoutSeconds"])
    assert arguments.drain_wait > seconds
    needed = arguments.drain_wait + arguments.grace
    assert needed < spec["terminationGracePeriodSeconds"] <= needed + 10


def test_a_pod_may_do_little():
    """It is not root, writes nothing, and has the key from a secret."""
    spec, container = pod()
    assert spec["securityContext"]["runAsUser"] == 10_001
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    (key,) = container["env"]
    assert key["name"] == serve.KEY_VARIABLE
    assert "secretKeyRef" in key["valueFrom"]


def test_balancers_watch_the_service_of_the_server():
    """Envoy asks for the health of the service; HAProxy's bytes are a call of the health service."""
    assert f"service_name: {SERVICE}}}" in (DEPLOY / "envoy.yaml").read_text()
    sent = re.findall(r"send-binary ([0-9a-f]+)", (DEPLOY / "haproxy.cfg").read_text())
    assert b"/grpc.health.v1.Health/Check" in bytes.fromhex("".join(sent))
