"""Alerts and dashboard of k8s/: promtool on the rules, and a real Prometheus that scrapes a real server."""

import concurrent.futures
import json
import math
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request

import grpc
import pytest
import yaml

from conftest import ROOT, Server, free_port

RULES = yaml.safe_load((ROOT / "k8s/base/prometheus_rule.yaml").read_text())["spec"]
ALERTS = {rule["alert"]: rule["expr"] for group in RULES["groups"] for rule in group["rules"]}
DASHBOARD = json.loads((ROOT / "k8s/base/dashboard.json").read_text())
PANELS = {f"{panel['title']} {target['refId']}": target["expr"]
          for panel in DASHBOARD["panels"] for target in panel.get("targets", [])}
SCALED_OBJECT = yaml.safe_load((ROOT / "k8s/overlays/keda/scaled_object.yaml").read_text())
AUTOSCALING = [trigger["metadata"]["query"] for trigger in SCALED_OBJECT["spec"]["triggers"]]
# The labels that the Prometheus operator gives to the series of a pod.
POD_LABELS = {"namespace": "expertd", "pod": "expertd-0", "wants_isa": "amx"}


def tool(name):
    """A program of Debian's prometheus: installed, or unpacked under build/ by test.sh."""
    return shutil.which(name) or ROOT / "build/prometheus/usr/bin" / name


def promtool(*arguments, cwd):
    result = subprocess.run([tool("promtool"), *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def operands(expression):
    """What an alert compares, without the comparisons: it has a value while nothing is wrong."""
    for part in re.split(r"\b(?:and|unless)(?: on \([^)]*\))?", expression):
        part = re.sub(r"\s(>|==) [\d.]+\s*$", "", part)
        yield part.replace(', isa!="amx"', "").replace(" offset 30m", "")


def of_the_server(expressions):
    """Those expressions that read the server's own series, not the kubelet's."""
    return {name: expression for name, expression in expressions.items() if "container_" not in expression}


@pytest.fixture
def rules(tmp_path):
    """A folder with rules.yaml as Prometheus itself reads it."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    return tmp_path


def test_promtool_accepts_the_rules(rules):
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", "rules.yaml", cwd=rules)


def test_alerts_fire_when_they_should_and_only_then(rules):
    tests = ROOT / "tests/integration/kubernetes/alerts.yaml"
    shutil.copy(tests, rules)

    promtool("test", "rules", "alerts.yaml", cwd=rules)

    cases = [case for test in yaml.safe_load(tests.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)


class Prometheus:
    """A Prometheus that scrapes one server, twice a second, and evaluates the rules."""

    def __init__(self, server, folder):
        self.address = f"127.0.0.1:{free_port()}"
        (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
        (folder / "prometheus.yaml").write_text(yaml.safe_dump({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "expertd", "static_configs": [
                {"targets": [f"127.0.0.1:{server.metrics_port}"], "labels": POD_LABELS}]}]}))
        self.log_path = folder / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [tool("prometheus"), f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address={self.address}"], stdout=log, stderr=log)

    def api(self, path, **parameters):
        assert self.process.poll() is None, self.log_path.read_text()
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}",
                                    timeout=20) as reply:
            return json.load(reply)["data"]

    def values(self, expression):
        return [float(sample["value"][1]) for sample in self.api("query", query=expression)["result"]]

    def has_data(self, expression):
        try:
            values = self.values(expression)
        except OSError:  # not listening yet
            return False
        return any(not math.isnan(value) for value in values)  # NaN: nothing to divide, or to take a quantile of

    def wait_for(self, expression):
        deadline = time.monotonic() + 30
        while not self.has_data(expression):
            assert time.monotonic() < deadline, f"no data: {expression}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """A Prometheus that has watched a server at work."""
    folder = tmp_path_factory.mktemp("prometheus")
    server = Server(folder / "server.log")
    watching = Prometheus(server, folder)
    try:
        watching.wait_for('expertd_ready{pod="expertd-0"} == 1')
        work(server)
        watching.wait_for('expertd_requests_total{code="INVALID_ARGUMENT"} > 0')  # the last of the work was scraped
        yield watching
    finally:
        watching.process.kill()
        watching.process.wait()
        server.stop()


def work(server):
    """Conversations at once, a few of them twice, and a call that is refused."""
    from expertd.v1 import inference_pb2 as pb
    stub = server.inference()

    def converse(i):
        request = pb.GenerateRequest(sampling=pb.SamplingParams(n=2, temperature=1))
        request.chat.messages.add(role=pb.ROLE_USER).parts.add(text=f"Tell me something about the number {i % 6}. " * 8)
        request.stop.max_tokens = 30
        for _ in stub.StreamGenerate(request):
            pass

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(converse, range(12)))
    with pytest.raises(grpc.RpcError):
        stub.Generate(pb.GenerateRequest(sampling=pb.SamplingParams(temperature=-1)))


@pytest.mark.parametrize("name", of_the_server(ALERTS))
def test_what_alerts_compare_has_values(prometheus, name):
    for operand in operands(ALERTS[name]):
        assert prometheus.has_data(operand), operand


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_shows_data(prometheus, name):
    expression = PANELS[name].replace("$__rate_interval", "2m")
    for variable in ("namespace", "model", "pod"):
        expression = expression.replace(f"${variable}", ".*")

    assert "$" not in expression
    assert prometheus.has_data(expression), expression


@pytest.mark.parametrize("query", AUTOSCALING)
def test_autoscaling_has_its_numbers(prometheus, query):
    assert prometheus.has_data(query)


def test_every_variable_of_the_dashboard_has_values(prometheus):
    variables = [variable for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    found = {}
    for variable in variables:
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
        found[label] = prometheus.api(f"label/{label}/values", **{"match[]": re.sub(r"\$\w+", ".*", series)})

    assert found == {"namespace": ["expertd"], "model": ["expertd-tiny"], "pod": ["expertd-0"]}


def test_prometheus_evaluates_every_rule(prometheus):
    rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]

    assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(ALERTS, "ok")
    assert not any(rule["state"] == "firing" for rule in rules)


def test_every_metric_named_is_on_the_first_scrape(start_server):
    scraped = set(re.findall(r"^([a-z_:]+)[ {]", start_server().scrape(), re.M))
    expressions = [*of_the_server(ALERTS).values(), *PANELS.values(), *AUTOSCALING]
    named = {name for expression in expressions for name in re.findall(r"\b(?:expertd|process)_[a-z_]+", expression)}

    assert len(named) > 30 and named - scraped == set()
