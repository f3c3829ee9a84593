"""What deploy/kubernetes builds is taken by Kubernetes, starts what exists, and gives it little."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployment import DEPLOY, commands, read_env, read_yaml
from tests.servers import environ
from tests.test_compose import NEEDS
from worker.keys import Keys
from worker.main import STOP_SECONDS
from worker.settings import load

pytestmark = pytest.mark.once  # files, not Python

FOLDER = DEPLOY / "kubernetes"
BASE = FOLDER / "base"
OURS = ("receiver", "worker")
EACH = pytest.mark.parametrize("name", OURS)
SECRETS = {
    "reconciler-receiver": {"redis-url": "redis-url-receiver"},
    "reconciler-worker": {
        "redis-url": "redis-url-worker",
        "alipay-private-key": "alipay-private-key",
    },
    "reconciler-admin": {"token": "admin-token"},
}


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    for name in read_yaml(folder / "kustomization.yaml")["resources"]:
        if name.endswith(".yaml"):
            yield from yaml.safe_load_all((folder / name).read_text("utf-8"))


def found(kind: str, name: str) -> Any:
    [one] = [
        document
        for document in documents(BASE)
        if (document["kind"], document["metadata"]["name"]) == (kind, name)
    ]
    return one


def pod(name: str) -> Any:
    return found("Deployment", f"reconciler-{name}")["spec"]["template"]["spec"]


def container(name: str) -> Any:
    [one] = pod(name)["containers"]
    return one


def ports(name: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(name)["ports"]}


# What runs


@EACH
def test_each_process_is_a_deployment_of_two(name: str) -> None:
    spec = found("Deployment", f"reconciler-{name}")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert container(name)["args"] == [name] and name in commands()
    assert "command" not in container(name)  # the image's own
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    [spread] = pod(name)["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()


@EACH
def test_a_pod_is_restricted(name: str) -> None:
    """By Kubernetes' own strictest standard, and a root that nobody writes to."""
    outer, inner = pod(name)["securityContext"], container(name)["securityContext"]
    assert outer["runAsNonRoot"] is True and outer["runAsUser"] == 10001
    assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inner == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(name)["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(name))
    assert {"memory"} <= set(container(name)["resources"]["limits"])


@EACH
def test_a_pod_can_use_what_it_is_given(name: str, tmp_path: Path) -> None:
    """With the Secrets as the README makes them, and the example's account filled in."""
    subprocess.run(["sh", str(DEPLOY / "make-secrets")], cwd=tmp_path, check=True)
    account = environ("", "reconciler", "")
    (tmp_path / "secrets/alipay-private-key").write_text(account["ALIPAY_PRIVATE_KEY"])
    secrets = {v["name"]: v["secret"]["secretName"] for v in pod(name)["volumes"] if "secret" in v}
    files = {
        f"{mount['mountPath']}/{key}": tmp_path / "secrets" / file
        for mount in container(name)["volumeMounts"]
        if mount["name"] in secrets
        for key, file in SECRETS[secrets[mount["name"]]].items()
    }
    env = read_env(BASE / "settings.env") | read_env(FOLDER / "overlays/example/settings.env")
    env["ALIPAY_PUBLIC_KEYS"] = account["ALIPAY_PUBLIC_KEYS"]
    for entry in container(name)["env"]:
        env[entry["name"]] = str(files[entry["value"]])
    settings = load(env, need=NEEDS[name])
    assert settings.redis_url.startswith(f"redis://reconciler-{name}:")
    assert bool(settings.accounts) == (name == "worker")
    told = {"receiver": settings.receiver_admin_port, "worker": settings.worker_admin_port}
    assert ports(name)["admin"] == told[name]
    assert ports(name).get("http", settings.receiver_port) == settings.receiver_port
    assert settings.admin_host == "0.0.0.0"  # the kubelet asks at the pod's address


def test_the_readme_makes_every_secret_that_a_pod_wants() -> None:
    text = (DEPLOY / "README.md").read_text("utf-8")
    for secret, files in SECRETS.items():
        [line] = [li for li in text.splitlines() if f"secret generic {secret} " in li]
        for key, file in files.items():
            assert f"--from-file={key}=secrets/{file}" in line or (
                key == file and f"--from-file=secrets/{file}" in line
            )


def test_no_secret_is_here() -> None:
    for file in FOLDER.rglob("*.yaml"):
        assert not any(d["kind"] == "Secret" for d in yaml.safe_load_all(file.read_text("utf-8")))


# How it is asked, and stopped


@EACH
def test_a_pod_is_restarted_for_its_own_faults_alone(name: str) -> None:
    one = container(name)
    assert one["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "admin"}
    assert one["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "admin"}
    assert one["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}


@EACH
def test_a_pod_is_given_longer_than_it_takes_to_stop(name: str) -> None:
    before = container(name).get("lifecycle", {}).get("preStop", {}).get("exec", {})
    program, wait = before.get("command", ["sleep", "0"])
    assert program == "sleep"
    assert pod(name)["terminationGracePeriodSeconds"] > int(wait) + STOP_SECONDS
    assert (int(wait) > 0) == (name == "receiver")  # requests are still routed to it for a while


@EACH
def test_maintenance_takes_one_at_a_time(name: str) -> None:
    spec = found("PodDisruptionBudget", f"reconciler-{name}")["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["selector"]["matchLabels"] == {"app.kubernetes.io/component": name}


# Who talks to whom


def allowed(rules: list[Any]) -> set[object]:
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_the_receiver_talks_to_redis_and_nobody_else() -> None:
    spec = found("NetworkPolicy", "reconciler-receiver")["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert allowed(spec["egress"]) == {53, 6379}
    assert allowed(spec["ingress"]) == set(ports("receiver"))
    assert all("from" in rule for rule in spec["ingress"])


def test_the_worker_talks_to_redis_and_the_gateway_and_nobody_calls_it() -> None:
    spec = found("NetworkPolicy", "reconciler-worker")["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert allowed(spec["egress"]) == {53, 6379, 443}
    assert allowed(spec["ingress"]) == {"admin"}
    assert all("from" in rule for rule in spec["ingress"])


def test_the_service_leads_to_the_receiver_and_to_no_admin_port() -> None:
    spec = found("Service", "reconciler-receiver")["spec"]
    assert spec["selector"] == {"app.kubernetes.io/component": "receiver"}
    assert [port["targetPort"] for port in spec["ports"]] == ["http"]


# Scaling


def test_workers_are_added_by_waiting_commands_and_never_by_the_alarm_clock() -> None:
    """arq's queue holds one entry for every open payment, due or not."""
    [scaled, login] = yaml.safe_load_all((FOLDER / "keda/scaled-object.yaml").read_text("utf-8"))
    [trigger] = scaled["spec"]["triggers"]
    asked = trigger["metadata"]
    assert trigger["type"] == "redis-streams"
    assert (asked["stream"], asked["consumerGroup"]) == (Keys().commands, "reconciler")
    assert int(asked["lagCount"]) > 0
    assert not {"pendingEntriesCount", "streamLength"} & set(asked)
    assert scaled["spec"]["minReplicaCount"] >= 2
    assert scaled["spec"]["scaleTargetRef"]["name"] == "reconciler-worker"
    assert found("Deployment", "reconciler-worker")
    assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    users = (DEPLOY / "users.conf").read_text("utf-8")
    assert f"\nuser {login['metadata']['name']} " in users


# Its own tools


def kustomize() -> list[str] | None:
    for words in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(words[0]):
            return words
    return None


@pytest.mark.skipif(not kustomize(), reason="needs kustomize or kubectl")
def test_kustomize_builds_the_example_of_valid_resources() -> None:
    words = [*(kustomize() or []), str(FOLDER / "overlays/example")]
    built = subprocess.run(words, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    resources = list(yaml.safe_load_all(built.stdout))
    assert {r["kind"] for r in resources} == {d["kind"] for d in documents(BASE)} | {
        "ConfigMap",
        "Namespace",
    }
    for deployment in [r for r in resources if r["kind"] == "Deployment"]:
        [one] = deployment["spec"]["template"]["spec"]["containers"]
        assert one["image"].startswith("registry.example.com/")
        [config] = [r for r in resources if r["kind"] == "ConfigMap"]
        assert one["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
        assert "ALIPAY_CLIENT_ID" in config["data"] and "RECEIVER_PORT" in config["data"]
    for policy in [r for r in resources if r["kind"] == "NetworkPolicy"]:
        assert all("to" in rule for rule in policy["spec"]["egress"])


def test_every_resource_is_one_by_kubernetes_own_schema() -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="needs kubernetes-validate: pip install kubernetes-validate"
    )
    for document in documents(BASE):
        validate.validate(document, "1.37", strict=True)
        with pytest.raises(validate.ValidationError):
            validate.validate({**document, "spce": {}}, "1.37", strict=True)
