"""`expertd run-batch` against real servers: OpenAI's batch files, interruptions, servers that go and come back."""

import json
import os
import pathlib
import signal
import subprocess
import time

import openai
import pytest

from conftest import BINARY, MODEL, free_port, run, terminal_output


def request(custom_id, url="/v1/chat/completions", **body):
    if "chat" in url:
        body.setdefault("messages", [{"role": "user", "content": f"Tell me about {custom_id}."}])
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"max_tokens": 12, "seed": 7, **body}}


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def answers(path):
    return {line["custom_id"]: line for line in map(json.loads, path.read_text().splitlines())}


@pytest.fixture
def files(tmp_path):
    return tmp_path / "in.jsonl", tmp_path / "out.jsonl"


def test_answers_are_those_of_rest(server, files):
    source, target = files
    write_lines(source, [*(request(f"chat {i}") for i in range(5)),
                         request("text", "/v1/completions", prompt=["Once", "你好"], logprobs=1),
                         request("wrong", temperature=9), request("stranger", model="gpt-9")])

    result = run("run-batch", "-i", source, "-o", target, "--target", server.target)

    assert "8/8 answered, 2 with an error" in result.stdout
    found = answers(target)
    assert len(found) == 8 and all(line["error"] is None for line in found.values())
    assert {name: line["response"]["status_code"] for name, line in found.items() if name in ("wrong", "stranger")} == {
        "wrong": 400, "stranger": 404}
    assert found["wrong"]["response"]["body"]["error"]["param"] == "temperature"
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.rest_port}/v1", api_key="none") as client:
        for i in range(5):
            body = request(f"chat {i}")["body"]
            expected = client.chat.completions.create(model=MODEL.name, **body).choices[0].message.content
            answer = found[f"chat {i}"]["response"]
            assert answer["status_code"] == 200 and answer["request_id"]
            assert answer["body"]["choices"][0]["message"]["content"] == expected
    assert len(found["text"]["response"]["body"]["choices"]) == 2


def test_an_interrupted_run_goes_on(server, files):
    source, target = files
    write_lines(source, [request(str(i), max_tokens=400, ignore_eos=True) for i in range(60)])
    command = [str(BINARY), "run-batch", "-i", str(source), "-o", str(target), "--target", server.target,
               "--concurrency", "2"]
    for end in (signal.SIGINT, signal.SIGKILL):
        before = len(target.read_text().splitlines()) if target.exists() else 0
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while len(target.read_text().splitlines() if target.exists() else []) < before + 5:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(end)
        error = process.communicate(timeout=30)[1]
        if end == signal.SIGINT:
            assert process.returncode == 1 and "goes on from here" in error
    done = len(target.read_text().splitlines())
    assert 10 <= done < 60
    with target.open("a") as file:
        file.write('{"id":"batch_x","custom_id":"59","resp')

    result = run(*command[1:])

    assert "60/60 answered, 0 with an error" in result.stdout
    lines = target.read_text().splitlines()
    assert len(lines) == 60 and len(answers(target)) == 60


def test_a_server_that_comes_back_is_waited_for(start_server, files):
    source, target = files
    write_lines(source, [request(str(i), max_tokens=400, ignore_eos=True) for i in range(40)])
    first = start_server()
    process = subprocess.Popen([str(BINARY), "run-batch", "-i", str(source), "-o", str(target), "--target",
                                first.target, "--concurrency", "2"], stdout=subprocess.PIPE, text=True)
    while not target.exists() or len(target.read_text().splitlines()) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    first.process.kill()
    first.process.wait()

    start_server("--grpc-listen", first.target)  # the last one counts
    output = process.communicate(timeout=60)[0]

    assert process.returncode == 0 and "40/40 answered, 0 with an error" in output


@pytest.mark.parametrize("line, says", [
    ("nonsense", "line 2"),
    (json.dumps(request("a")), "two requests have the custom_id 'a'"),
    (json.dumps(request("b", stream=True)), "stream"),
    (json.dumps({**request("b"), "url": "/v1/embeddings"}), "/v1/embeddings"),
])
def test_a_file_that_is_no_batch_is_refused_whole(server, files, line, says):
    source, target = files
    source.write_text(json.dumps(request("a")) + "\n" + line + "\n")
    result = run("run-batch", "-i", source, "-o", target, "--target", server.target, check=False)
    assert result.returncode == 1 and says in result.stderr
    assert not target.exists()


def test_files_that_are_not_its_own_are_left_alone(server, files, tmp_path):
    source, target = files
    source.write_text(json.dumps(request("a")))  # no line break at its end
    target.write_text("my notes")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for output, says in [(source, "is the input"), (target, "no answer of a batch"), (pipe, "no file that")]:
        before = output.read_text() if output.is_file() else ""
        refused = run("run-batch", "-i", source, "-o", output, "--target", server.target, check=False)
        assert refused.returncode == 1 and says in refused.stderr
        assert not output.is_file() or output.read_text() == before
    piped = run("run-batch", "-i", pipe, "-o", str(target) + "2", "--target", server.target, check=False)
    assert piped.returncode == 1 and "no regular file" in piped.stderr


def test_an_output_of_more_answers_than_there_are_requests(server, files):
    source, target = files
    write_lines(source, [request("a", temperature=9), request("b"), request("c")])
    first = run("run-batch", "-i", source, "-o", target, "--target", server.target)
    assert "1 answers of" in first.stderr and "remove their lines" in first.stderr
    write_lines(source, [request("b")])
    again = run("run-batch", "-i", source, "-o", target, "--target", server.target)
    assert "1/1 answered" in again.stdout
    assert b"1/1 answered" in terminal_output("run-batch", "-i", source, "-o", target, "--target", server.target)


def test_waiting_for_a_server_can_be_interrupted(files):
    inputs, output = files
    inputs.write_text(json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {}}) + "\n")
    with subprocess.Popen([str(BINARY), "run-batch", "-i", str(inputs), "-o", str(output), "--target",
                           f"127.0.0.1:{free_port()}", "--wait-ready", "600"], stderr=subprocess.PIPE) as batch:
        time.sleep(1)
        batch.send_signal(signal.SIGINT)
        assert batch.wait(30) == 1
        assert b"interrupted" in batch.stderr.read()


def test_keys_and_missing_servers(start_server, files, tmp_path):
    source, target = files
    write_lines(source, [request("a")])
    keys = tmp_path / "keys"
    keys.write_text("secret-key-0123456789\n")
    server = start_server("--api-key-file", str(keys))

    good = run("run-batch", "-i", source, "-o", target, "--target", server.target, "--api-key-file", keys)
    assert "1/1 answered" in good.stdout
    bad = run("run-batch", "-i", source, "-o", str(target) + "2", "--target", server.target, check=False)
    assert bad.returncode == 1 and "key" in bad.stderr
    gone = run("run-batch", "-i", source, "-o", str(target) + "3", "--target", f"127.0.0.1:{free_port()}",
               "--wait-ready", "0.2", check=False)
    assert not pathlib.Path(str(target) + "3").exists()
    assert gone.returncode == 1 and "no server answers" in gone.stderr
