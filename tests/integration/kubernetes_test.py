"""k8s/: the manifests render and fit their schemas, their flags and probes suit the real server, the image is linted.

kustomize and kubeconform come from the Go proxy; what needs them is skipped where Go is not installed. There is no
cluster and no image build here.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

from conftest import BINARY, ROOT

KUSTOMIZATIONS = ("base", "overlays/guarded", "overlays/inference-pool", "overlays/keda")
KUBERNETES_VERSION = "1.37.0"


def go_tool(name):
    path = ROOT / "build/go/bin" / name
    if not path.exists():
        pytest.skip(f"{name} is not there: test.sh installs it where Go is installed")
    return path


def run(*command, **kwargs):
    """Runs a tool that must succeed; returns its output."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, **kwargs)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def render(kustomization):
    """The text of all its objects."""
    return run(go_tool("kustomize"), "build", ROOT / "k8s" / kustomization)


def objects(kustomization):
    """{kind: object}; of several of a kind, {kind/name without the hash: object}."""
    return {key: obj for obj in yaml.safe_load_all(render(kustomization))
            for key in (obj["kind"], f"{obj['kind']}/{re.sub('-[a-z0-9]{10}$', '', obj['metadata']['name'])}")}


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    """A folder with the schemas of Kubernetes' own kinds and of those that operators add."""
    folder = tmp_path_factory.mktemp("schemas")
    package = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    for path in (package / f"v{KUBERNETES_VERSION}-local-strict").iterdir():
        schema = json.loads(path.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
        schema.pop("$id", None)  # an address on the web, from which the definitions would be fetched
        (folder / path.name).write_text(json.dumps(schema))
    for path in (ROOT / "tests/integration/kubernetes/schemas").iterdir():
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_manifests_fit_their_schemas(kustomization, schemas):
    run(go_tool("kubeconform"), "-strict", "-schema-location", f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        input=render(kustomization))


def test_schemas_refuse_what_they_should(schemas):
    wrong = render("base").replace("periodSeconds: 10", "periodSeconds: often").replace("maxSurge", "maxSurges")

    with pytest.raises(AssertionError, match="periodSeconds"):
        run(go_tool("kubeconform"), "-strict", "-schema-location",
            f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", input=wrong)


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_containers_have_no_rights_and_write_nothing(kustomization):
    pod = objects(kustomization)["Deployment"]["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["requests"] == container["resources"]["limits"]  # QoS class Guaranteed
        assert all(mount["readOnly"] for mount in container["volumeMounts"])


def test_the_grace_period_covers_the_drain():
    pod = objects("base")["Deployment"]["spec"]["template"]["spec"]
    flags = dict(argument.split("=", 1) for argument in pod["containers"][0]["args"] if "=" in argument)
    drain, shutdown = (int(flags[flag].removesuffix("s")) for flag in ("--drain-delay", "--shutdown-timeout"))

    assert drain + shutdown + 15 == pod["terminationGracePeriodSeconds"]


def test_hadolint_finds_nothing_to_say():
    run(pathlib.Path(sys.executable).with_name("hadolint"), ROOT / "k8s/Dockerfile")


def test_the_image_has_every_library_of_the_server():
    """Each library that the binary names is in a package of the last stage, or in one that those depend on."""
    last_stage = (ROOT / "k8s/Dockerfile").read_text().rpartition("\nFROM ")[2]
    install = re.search(r"--no-install-recommends \\\n(.*?)&&", last_stage, re.S).group(1)
    packages = set(re.findall(r"[a-z0-9.+-]+", install))
    depends = run("dpkg-query", "-W", "-f", "${Depends}, ", *packages)
    shipped = packages | set(re.findall(r"(?:^|[,|] *)([a-z0-9.+-]+)", depends))

    resolved = dict(re.findall(r"(\S+) => (/\S+)", run("ldd", BINARY)))
    needed = re.findall(r"NEEDED +(\S+)", run("objdump", "-p", BINARY))
    missing = {library for library in needed if library in resolved and not shipped & {
        line.partition(":")[0] for line in run("dpkg", "-S", f"*/{library}").splitlines()}}

    assert len(needed) > 5 and missing == set()
