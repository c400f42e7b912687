"""k8s/: the manifests render and fit their schemas, what they start runs and answers their probes, the image is linted.

kustomize and kubeconform come from the Go proxy; what needs them is skipped where Go is not installed. There is no
cluster and no image build here: containers run as processes of this machine.
"""

import json
import os
import pathlib
import platform
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request

import grpc
import kubernetes_validate
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from conftest import BINARY, MODEL, ROOT, free_port

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


def extracted(name):
    """(program, environment) of a Debian package that is installed, or unpacked under build/ by test.sh."""
    if installed := shutil.which(name):
        return installed, os.environ
    libraries = ROOT / f"build/{name}/usr/lib/{platform.machine()}-linux-gnu"
    program, = (ROOT / f"build/{name}/usr").glob(f"*bin/{name}")
    return program, os.environ | {"LD_LIBRARY_PATH": str(libraries)}


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


def validate(manifests, schemas):
    location = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    run(go_tool("kubeconform"), "-strict", "-schema-location", location, input=manifests)


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_manifests_fit_their_schemas(kustomization, schemas):
    validate(render(kustomization), schemas)


def test_schemas_refuse_wrong_types_and_unknown_fields(schemas):
    wrong = render("base").replace("periodSeconds: 10", "periodSeconds: often").replace("maxSurge", "maxSurges")

    with pytest.raises(AssertionError, match="(?s)periodSeconds.*maxSurges|maxSurges.*periodSeconds"):
        validate(wrong, schemas)


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_an_operators_overlay_lies_over_each(kustomization, schemas, tmp_path):
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "k8s/README.md").read_text(), re.S)[1]
    base = os.path.relpath(ROOT / "k8s" / kustomization, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(example.replace("../k8s/base", base))

    manifests = objects(tmp_path)

    validate(render(tmp_path), schemas)
    container = manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    settings = manifests["ConfigMap/expertd-settings"]
    assert container["image"] == "REGISTRY/expertd:0.1.0" and container["resources"]["requests"]["cpu"] == "32"
    assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
    assert settings["data"]["MAX_NUM_SEQS"] == "32" and settings["data"]["MAX_NUM_QUEUED_REQS"] == "2048"


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_containers_have_no_rights_and_write_nothing(kustomization):
    pod = objects(kustomization)["Deployment"]["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"] + pod.get("initContainers", []):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["requests"] == container["resources"]["limits"]  # QoS class Guaranteed
        assert all(mount["readOnly"] for mount in container["volumeMounts"])


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_names_of_ports_and_labels_meet(kustomization):
    manifests = objects(kustomization)
    template = manifests["Deployment"]["spec"]["template"]
    service, policy, monitor = (manifests[kind]["spec"] for kind in ("Service", "NetworkPolicy", "ServiceMonitor"))
    ports = [port for container in template["spec"]["containers"] + template["spec"].get("initContainers", [])
             for port in container["ports"]]
    known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}

    assert {port["targetPort"] for port in service["ports"]} <= known
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} <= known
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= {port["name"] for port in service["ports"]}
    assert monitor["selector"]["matchLabels"].items() <= manifests["Service"]["metadata"]["labels"].items()
    selectors = [service["selector"], policy["podSelector"]["matchLabels"],
                 manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]]
    if pool := manifests.get("InferencePool"):
        selectors.append(pool["spec"]["selector"]["matchLabels"])
        assert {port["number"] for port in pool["spec"]["targetPorts"]} <= known
    assert all(selector and selector.items() <= template["metadata"]["labels"].items() for selector in selectors)


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


KEY = "a-key-of-the-test-0123456789"


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Pod:
    """The containers of a rendered Deployment as processes: other ports and folders, all else as in the cluster."""

    def __init__(self, kustomization, folder):
        self.objects = objects(kustomization)
        self.ports = {port: free_port() for port in (8000, 8443, 9464, 50051, 50052)}
        self.folder, self.processes, self.log = folder, [], open(folder / "log", "wb")
        self.spec = self.objects["Deployment"]["spec"]["template"]["spec"]
        (folder / "keys").mkdir()
        (folder / "keys/keys").write_text(KEY + "\n")
        if "ConfigMap/expertd-front" in self.objects:
            self.start_front()
        settings = self.objects["ConfigMap/expertd-settings"]["data"] | {"MODEL": str(MODEL)}
        arguments = [re.sub(r"\$\((\w+)\)", lambda name: settings[name[1]], argument)
                     for argument in self.spec["containers"][0]["args"]]
        self.start(BINARY, *map(self.here, arguments))

    def here(self, text):
        """`text` with this machine's ports and folders."""
        text = re.sub(r"\b(8000|8443|9464|5005[12])\b", lambda port: str(self.ports[int(port[1])]), text)
        return text.replace("/etc/expertd", str(self.folder))

    def start(self, *command, **kwargs):
        self.processes.append(subprocess.Popen(command, stdout=self.log, stderr=self.log, **kwargs))

    def start_front(self):
        (self.folder / "tls").mkdir()
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", self.folder / "tls/tls.key",
            "-out", self.folder / "tls/tls.crt", stdin=subprocess.DEVNULL)
        configuration = self.folder / "nghttpx.conf"
        configuration.write_text(self.here(self.objects["ConfigMap/expertd-front"]["data"]["nghttpx.conf"]))
        program, environment = extracted("nghttpx")
        self.start(program, f"--conf={configuration}", env=environment)

    def probe(self, name):
        """Asks as the kubelet does; returns the status."""
        probe = self.spec["containers"][0][name]["grpc"]
        with grpc.insecure_channel(f"127.0.0.1:{self.ports[probe['port']]}") as channel:
            return health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=probe["service"]), timeout=5).status

    def is_started(self):
        assert all(process.poll() is None for process in self.processes), (self.folder / "log").read_text()
        try:
            return self.probe("startupProbe") == health_pb2.HealthCheckResponse.SERVING
        except grpc.RpcError:
            return False

    def get(self, port, path, key=None, scheme="http"):
        """(status, text) of a GET."""
        request = urllib.request.Request(f"{scheme}://localhost:{self.ports[port]}{path}",
                                         headers={"authorization": f"Bearer {key}"} if key else {})
        context = ssl.create_default_context(cafile=self.folder / "tls/tls.crt") if scheme == "https" else None
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name, **labels):
        """Sum of the samples of `name` whose labels contain `labels`."""
        return sum(sample.value for family in text_string_to_metric_families(self.get(9464, "/metrics")[1])
                   for sample in family.samples if sample.name == name and labels.items() <= sample.labels.items())

    def stop(self):
        for process in self.processes:
            process.kill()  # not SIGTERM: the drain would last its 15 s
            process.wait()
        self.log.close()


@pytest.fixture
def start_pod(tmp_path):
    pods = []

    def start(kustomization):
        pods.append(Pod(kustomization, tmp_path))
        wait_until(pods[-1].is_started)
        return pods[-1]

    yield start
    for pod in pods:
        pod.stop()


@pytest.fixture
def pb():
    from expertd.v1 import inference_pb2
    return inference_pb2


def bearer(key):
    return [("authorization", f"Bearer {key}")]


def stream(channel, pb, key=None, max_tokens=4):
    """A running call that generates `max_tokens` tokens."""
    from expertd.v1 import inference_pb2_grpc
    request = pb.GenerateRequest(text=pb.TextInput(text="Hello"))
    request.stop.max_tokens, request.stop.ignore_eos = max_tokens, True
    return inference_pb2_grpc.InferenceServiceStub(channel).StreamGenerate(
        request, metadata=bearer(key) if key else None, timeout=60)


@pytest.mark.parametrize("kustomization", ("base", "overlays/inference-pool"))
def test_the_deployment_starts_and_answers_its_probes(kustomization, start_pod, pb):
    pod = start_pod(kustomization)

    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod.probe(probe) == health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(f"localhost:{pod.ports[50051]}") as channel:
        assert len(list(stream(channel, pb))) > 1
    assert pod.get(8000, "/v1/models")[0] == 200
    # What the endpoint picker reads, on the port of the pool.
    names = {"vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"}
    assert all(name in pod.get(8000, "/metrics")[1] for name in names) == (kustomization == "overlays/inference-pool")


def test_the_guarded_front_passes_both_doors_and_asks_for_keys(start_pod, pb):
    pod = start_pod("overlays/guarded")

    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod.probe(probe) == health_pb2.HealthCheckResponse.SERVING
    credentials = grpc.ssl_channel_credentials((pod.folder / "tls/tls.crt").read_bytes())
    with grpc.secure_channel(f"localhost:{pod.ports[8443]}", credentials) as channel:
        assert len(list(stream(channel, pb, KEY))) > 1
        with pytest.raises(grpc.RpcError) as refused:
            next(stream(channel, pb))
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert pod.get(8443, "/v1/models", KEY, scheme="https")[0] == 200
    assert pod.get(8443, "/v1/models", scheme="https")[0] == 401
    for path in ("/metrics", "/%6detrics", "/v1/../metrics", "//metrics"):
        assert pod.get(8443, path, KEY, scheme="https")[0] == 502
    # Beside the front, only metrics listen beyond this machine.
    assert all(f"address=127.0.0.1:{pod.ports[port]}" in (pod.folder / "log").read_text() for port in (50052, 8000))


def test_the_guarded_front_passes_cancellation_on(start_pod, pb):
    pod = start_pod("overlays/guarded")

    with grpc.insecure_channel(f"localhost:{pod.ports[50051]}") as channel:
        call = stream(channel, pb, KEY, max_tokens=1900)
        next(call)
        call.cancel()
        wait_until(lambda: pod.metric("expertd_requests_finished_total", reason="cancelled") == 1)


def test_the_guarded_front_knows_every_grpc_service(start_pod):
    pod = start_pod("overlays/guarded")
    with grpc.insecure_channel(f"localhost:{pod.ports[50052]}") as channel:
        replies = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), metadata=bearer(KEY))
        services = [service.name for service in next(replies).list_services_response.service]

    configuration = pod.objects["ConfigMap/expertd-front"]["data"]["nghttpx.conf"]
    assert len(services) >= 6 and all(f"/{service}/" in configuration for service in services)


def test_the_guarded_front_stops_rapid_resets(start_pod, pb):
    pod = start_pod("overlays/guarded")
    num_streams = 20000

    def frame(kind, flags, stream_id, payload=b""):
        return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream_id) + payload

    def literal(name, value):  # HPACK, neither indexed nor compressed
        return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value

    headers = b"".join(literal(*pair) for pair in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost"), (b"te", b"trailers"),
        (b":path", b"/expertd.v1.InferenceService/Generate"), (b"content-type", b"application/grpc")))
    with socket.create_connection(("localhost", pod.ports[50051]), timeout=30) as attacker:
        attacker.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(4, 1, 0))
        try:
            for stream_id in range(1, 2 * num_streams, 2):
                attacker.sendall(frame(1, 4, stream_id, headers) + frame(3, 0, stream_id, struct.pack(">I", 8)))
            while attacker.recv(65536):
                pass
        except ConnectionError:  # the front has hung up
            pass

    assert pod.probe("livenessProbe") == health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(f"localhost:{pod.ports[50051]}") as channel:
        assert len(list(stream(channel, pb, KEY))) > 1
    assert pod.metric("expertd_requests_total") < num_streams / 10
