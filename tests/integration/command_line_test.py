"""The subcommands of expertd on the bundled model, as a user runs them."""

import json
import os
import re
import socket
import subprocess

import numpy as np
import pytest

from conftest import BINARY, MODEL, ROOT, free_port, run, terminal_output


def generate_json(*arguments):
    output = run("generate", MODEL, "--json", *arguments).stdout
    return [json.loads(line) for line in output.splitlines()]


def test_generate_prints_text():
    text = run("generate", MODEL, "--chat", "--prompt", "Hello!", "--temperature", "0").stdout

    assert text.strip()


def test_generate_json_has_text_ids_reason_and_usage():
    [line] = generate_json("--chat", "--prompt", "Hello!", "--temperature", "0")

    assert line["text"]
    assert line["finish_reason"] == "stop"
    assert line["usage"]["completion_tokens"] == len(line["token_ids"])
    assert line["usage"]["total_tokens"] == line["usage"]["prompt_tokens"] + line["usage"]["completion_tokens"]


def test_generate_reads_lines_and_jsonl(tmp_path):
    lines = tmp_path / "prompts.txt"
    lines.write_text("one\n\ntwo\n")
    jsonl = tmp_path / "prompts.jsonl"
    jsonl.write_text('{"prompt": "one"}\n{"messages": [{"role": "user", "content": "two"}]}\n{"token_ids": [300, 301]}\n')

    assert len(generate_json("--prompt-file", lines, "--max-tokens", "4")) == 2
    assert len(generate_json("--prompt-file", jsonl, "--max-tokens", "4")) == 3


def test_generate_gives_the_same_tokens_for_the_same_seed():
    arguments = ("--prompt", "The", "--seed", "11", "--temperature", "1", "--max-tokens", "20", "--ignore-eos")

    assert generate_json(*arguments) == generate_json(*arguments)


def test_logits_is_a_numpy_file_with_a_row_for_each_token(tmp_path):
    out = tmp_path / "logits.npy"
    vocab = json.loads((MODEL / "config.json").read_text())["vocab_size"]

    run("logits", MODEL, "--token-ids", "300,301,302", "--output", out, "--dtype", "f32")
    logits = np.load(out)

    assert logits.shape == (3, vocab)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_logits_bits_do_not_depend_on_chunks_or_threads(tmp_path):
    ids = ",".join(str(300 + i % 700) for i in range(90))
    files = []
    for name, flags in {"whole": (), "chunked": ("--chunk", "7"), "one": ("--threads", "1")}.items():
        files.append(tmp_path / f"{name}.npy")
        run("logits", MODEL, "--token-ids", ids, "--output", files[-1], *flags)

    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_instruction_sets_agree(tmp_path, isa):
    reference, other = tmp_path / "reference.npy", tmp_path / "other.npy"
    ids = ",".join(str(300 + i) for i in range(40))
    run("logits", MODEL, "--token-ids", ids, "--output", reference, "--dtype", "f32", "--isa", "scalar")

    run("logits", MODEL, "--token-ids", ids, "--output", other, "--dtype", "f32", "--isa", isa)

    np.testing.assert_allclose(np.load(other), np.load(reference), atol=2e-4)


def test_bench_prints_a_line_for_each_batch():
    output = run("bench", MODEL, "--input-len", "16", "--output-len", "8", "--batch", "1,3", "--repetitions", "1",
                 "--json").stdout
    lines = [json.loads(line) for line in output.splitlines()]

    assert [line["batch"] for line in lines] == [1, 3]
    assert all(line["prefill_tokens_per_second"] > 0 and line["decode_tokens_per_second"] > 0 for line in lines)
    assert all(line["time_to_first_token_ms"] > 0 and line["peak_memory_mib"] > 0 for line in lines)


def test_inspect_counts_what_the_file_holds():
    seen = json.loads(run("inspect", MODEL, "--json").stdout)
    header_bytes = int.from_bytes((MODEL / "model.safetensors").read_bytes()[:8], "little")
    file_bytes = (MODEL / "model.safetensors").stat().st_size

    assert seen["model"]["architecture"] == "Qwen3MoeForCausalLM"
    assert seen["parameters"]["total"] * 2 == file_bytes - 8 - header_bytes  # bf16
    assert seen["parameters"]["active_per_token"] < seen["parameters"]["total"]
    assert seen["machine"]["isa"] in ("scalar", "avx2", "avx2_vnni", "avx512", "avx512_bf16", "amx")
    assert seen["machine"]["memory_nodes"]  # at least one
    assert seen["machine"]["huge_pages"] in ("always", "madvise", "never", "")
    assert run("inspect", MODEL).stdout.startswith("model")


@pytest.mark.parametrize("weights", ["int8", "int4", "bf16"])
def test_quantize_makes_a_folder_that_generates_the_same(tmp_path, weights):
    packed = tmp_path / "packed"
    arguments = ("--json", "--chat", "--prompt", "Hello!", "--seed", "5", "--temperature", "1")
    loading = () if weights == "bf16" else ("--quantization", weights)

    assert f"{weights} weights, packed in" in run("quantize", MODEL, packed, "--format", weights).stdout

    assert run("generate", packed, *arguments).stdout == run("generate", MODEL, *loading, *arguments).stdout
    assert json.loads(run("inspect", packed, "--json").stdout)["memory_plan"]["dtype"] == weights
    again = run("quantize", MODEL, packed, check=False)
    assert again.returncode != 0 and "is there already" in again.stderr


@pytest.mark.parametrize("weights, arguments, complaint", [
    ("int8", ("--quantization", "none"), "--quantization is none, but"),
    ("int8", ("--quantization", "int4"), "--quantization is int4, but"),
    ("bf16", ("--dtype", "f32"), "--dtype is f32, but"),
])
def test_a_packed_folder_is_of_its_own_format(tmp_path, weights, arguments, complaint):
    packed = tmp_path / "packed"
    run("quantize", MODEL, packed, "--format", weights)

    result = run("inspect", packed, *arguments, check=False)

    assert result.returncode != 0
    assert complaint in result.stderr and f"is packed as {weights}" in result.stderr


def test_what_does_not_fit_is_told_with_a_remedy_that_helps():
    arguments = ("--grpc-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")

    result = run("serve", MODEL, *arguments, "--kv-cache-memory-bytes", "1000", check=False)

    assert result.returncode != 0 and "raise --kv-cache-memory-bytes" in result.stderr


def test_a_metrics_port_in_use_is_told_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("serve", MODEL, "--grpc-listen", "127.0.0.1:0", "--metrics-listen", address, check=False)

    assert result.returncode != 0
    assert f"the metrics endpoint can't listen on {address}: in use" in result.stderr


def test_run_sh_refuses_before_it_builds(tmp_path):
    script = ROOT / "run.sh"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        busy = subprocess.run([script], env=os.environ | {"GRPC_PORT": port}, capture_output=True, text=True, timeout=60)
    nowhere = subprocess.run([script, "nowhere"], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert busy.returncode == 2 and f"port {port} is in use" in busy.stderr
    assert nowhere.returncode == 2 and "there is no model folder 'nowhere'" in nowhere.stderr


def test_bench_needs_nothing_but_a_config_for_random_weights(tmp_path):
    (tmp_path / "config.json").write_text((MODEL / "config.json").read_text())

    output = run("bench", tmp_path, "--load-format", "dummy", "--quantization", "int4", "--input-len", "9",
                 "--output-len", "3", "--batch", "2", "--repetitions", "1", "--json").stdout

    line = json.loads(output)
    assert line["dtype"] == "int4"
    assert 0 < line["prefill_share"] and 0 < line["decode_share"]
    assert 2 <= line["decode_experts_per_layer"] <= 4


@pytest.mark.parametrize("arguments, message", [
    (("serve",), "no model folder is given; name one, as in `expertd serve "),
    (("inspect",), "no model folder is given; name one, as in `expertd inspect "),
    (("inspect", MODEL, "--served-model-name", ""), "--served-model-name is empty"),
    (("generate", MODEL, "--prompt", "x", "--seed", "-5"), "--seed is -5; must be 0..18446744073709551615"),
    (("chat", "--seed", "-5"), "--seed is -5; must be 0..18446744073709551615"),
    (("load", "--seed", "-5"), "--seed is -5; must be 0..18446744073709551615"),
    (("generate", MODEL, "--top-k", "x"), "--top-k does not take the value 'x'; must be a whole number"),
    (("generate", MODEL), "--prompt"),
    (("generate", MODEL, "--prompt", "x", "--temperature", "-1"), "--temperature is -1; must be 0..2"),
    (("generate", "/nowhere", "--prompt", "x"), "/nowhere"),
    (("generate", MODEL, "--prompt", "x", "--max-tokens", "0"), "--max-tokens is 0; must be 1 or more"),
    (("generate", MODEL, "--prompt", ""), "--prompt is empty"),
    (("generate", MODEL, "--prompt", "x", "--n", "0"), "--n is 0; must be 1..16"),
    (("generate", MODEL, "--prompt", "x", "--logprobs", "2"), "--logprobs needs --json"),
    (("generate", MODEL, "--prompt", "x", "--json", "--logprobs", "99"), "--logprobs is 99; must be 0..20"),
    (("serve", MODEL, "--threads", ""), "--threads: the number is empty"),
    (("logits", MODEL, "--token-ids", "", "--output", "/dev/null"), "--token-ids: the number is empty"),
    (("bench", MODEL, "--output-len", "1"), "--output-len is 1; must be 2.."),
    (("bench", MODEL, "--batch", "1,0"), "--batch is 0; must be 1.."),
    (("bench", MODEL, "--input-len", "5000"), "--input-len plus --output-len is 5128"),
    (("serve", MODEL, "--block-size", "17"), "--block-size"),
    (("serve", MODEL, "--dtype", "int3"), "--dtype"),
    (("serve", MODEL, "--tensor-parallel-size", "2"), "--tensor-parallel-size"),
    (("serve", MODEL, "--quantization", "fp8"), "--quantization is fp8, but "),
    (("serve", MODEL, "--quantization", "fp5"), "--quantization"),
    (("quantize", MODEL, "/nowhere/else", "--format", "int4"), "/nowhere/else"),
    (("quantize", "/nowhere", "/tmp"), "/nowhere is not a folder"),
    (("serve", MODEL, "--no-such-flag", "2"), "there is no flag --no-such-flag\n"),
    (("serve", MODEL, "--max-num-seq", "2"), "there is no flag --max-num-seq; did you mean --max-num-seqs?"),
    (("serve", MODEL, "--max-num-seqs"), "--max-num-seqs has no value; must be a whole number"),
    (("serve", MODEL, "extra"), "the argument 'extra' is one too many"),
    (("serve", MODEL, "--uds", "/run/x"), "--uds is not supported: give the socket as --grpc-listen unix:PATH"),
    (("serve", MODEL, "--port", "99999"), "--port is 99999; must be 0..65535"),
    (("serve", MODEL, "--host", "0.0.0.0"), "--host 0.0.0.0 can be reached from other machines without TLS"),
    (("rest", "--host", ""), "--host is empty"),
    (("serve", MODEL, "-tp", "2"), "--tensor-parallel-size is not supported"),
    (("serve", MODEL, "--metrics-compat", "foo"), "--metrics-compat is foo; must be none or vllm"),
    (("quantize", MODEL, "/tmp", "--format", "int3"), "--format is int3; must be int8, int4, bf16 or auto"),
    (("generate", MODEL, "--token-ids", "1,-2"), "--token-ids is -2; must be 0.."),
    (("generate", MODEL, "--prompt", "x", "--stop", ""), "--stop has 0 bytes; must have 1..1024"),
    (("logits", MODEL, "--token-ids", "99999999", "--output", "/dev/null"), "99999999"),
    (("chat", "--once", "--prompt", "x", "--target", "127.0.0.1:1", "--wait-ready", "0.2"), "127.0.0.1:1"),
    (("load", "--concurrency", "0"), "--concurrency"),
    (("load", "--request-rate", "-1"), "--request-rate"),
    (("serve", MODEL, "--grpc-listen", "127.0.0.1:99999"), "--grpc-listen"),
    (("serve", MODEL, "--metrics-listen", "127.0.0.1"), "--metrics-listen"),
    (("serve", MODEL, "--shutdown-timeout", "-5"), "--shutdown-timeout is -5; must be a time"),
    (("serve", MODEL, "--isa", "sse9"), "--isa"),
])
def test_errors_name_the_flag_or_the_thing(arguments, message):
    result = run(*arguments, check=False)

    assert result.returncode != 0
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 4


@pytest.mark.parametrize("arguments", [
    ("generate", MODEL, "--prompt", "x", "--top-p", "7"),
    ("serve", "/nowhere"),
])
def test_what_flags_tell_is_checked_before_anything_starts(arguments):
    result = run(*arguments, check=False)

    assert result.returncode != 0
    assert "event=" not in result.stderr


def test_flags_of_vllm_without_effect_are_named_in_the_log(start_server):
    server = start_server("--seed", "0", "-ep", "--trust_remote_code", "--tensor-parallel-size", "1",
                          "--compilation-config", '{"level": 3}')
    server.stop()

    log = server.log_text()
    for flag in ("--seed", "--enable-expert-parallel", "--trust-remote-code", "--compilation-config"):
        assert f"event=flag_without_effect flag={flag}" in log
    assert "--tensor-parallel-size" not in log


@pytest.mark.parametrize("arguments, complaint", [(("nosuch",), "there is no command 'nosuch'"),
                                                  ((), "no command is given")])
def test_known_commands_are_listed(arguments, complaint):
    result = run(*arguments, check=False)

    assert result.returncode == 2
    assert complaint in result.stderr
    assert "the commands are serve, generate, logits, bench, inspect, quantize, chat, load" in result.stderr


def test_errors_in_prompt_files_name_the_line_and_the_byte(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a"}\n{"prompt": 1,,}\n')

    error = run("generate", MODEL, "--prompt-file", prompts, check=False).stderr

    assert "prompts.jsonl:2: not valid JSON at byte 14: " in error
    assert "json.exception" not in error


def test_few_kv_blocks_are_said_to_shorten_the_model():
    warned = run("inspect", MODEL, "--num-kv-blocks", "1", "--json")
    accepted = run("inspect", MODEL, "--num-kv-blocks", "1", "--max-model-len", "32", "--json")

    assert json.loads(warned.stdout)["memory_plan"]["max_model_len"] == 32
    assert "--num-kv-blocks 1" in warned.stderr and "--max-model-len 32" in warned.stderr
    assert accepted.stderr == ""


def test_sizes_below_a_gibibyte_are_shown_in_mebibytes():
    weights = json.loads(run("inspect", MODEL, "--json").stdout)["weight_bytes"]["bf16"]
    shown = f"{weights / 2**20:.2f} MiB"

    assert f"{weights} ({shown})" in run("inspect", MODEL).stdout
    assert re.search(r'weights="\d+\.\d\d MiB"', run("generate", MODEL, "--prompt", "a", "--max-tokens", "1").stderr)


def test_generate_shows_a_terminal_no_control_characters(tmp_path):
    """The model's first token becomes the escape character, by giving its id to that piece of the vocabulary."""
    # The prompt is ids, which another vocabulary does not change.
    arguments = ("--token-ids", "300,301,302", "--temperature", "0", "--max-tokens", "8")
    first_id = generate_json(*arguments)[0]["token_ids"][0]
    for file in MODEL.iterdir():
        (tmp_path / file.name).symlink_to(file)
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    piece = next(piece for piece, number in vocab.items() if number == first_id)
    escape = chr(0x100 + 0x1b)  # as byte-level vocabularies write it
    vocab[piece], vocab[escape] = vocab[escape], vocab[piece]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))

    piped = run("generate", tmp_path, *arguments).stdout
    shown = terminal_output("generate", tmp_path, *arguments).decode().replace("\r\n", "\n")

    assert piped.startswith("\x1b")
    assert shown == piped.replace("\x1b", "")


@pytest.mark.parametrize("missing, arguments, message", [
    ("tokenizer.json", ("--prompt", "a"), "has no tokenizer: neither tokenizer.json nor tokenizer.model"),
    ("tokenizer.json", ("--token-ids", "300", "--stop", "a"), "has no tokenizer: neither"),
    ("chat_template", ("--chat", "--prompt", "a"), "has no chat template; give prompts as text or ids of tokens")])
def test_generate_refuses_a_folder_without_what_its_prompts_need_before_it_is_loaded(tmp_path, missing, arguments,
                                                                                     message):
    for file in MODEL.iterdir():
        if missing in file.name:
            continue
        if file.name == "tokenizer_config.json":
            config = json.loads(file.read_text())
            config.pop("chat_template", None)
            (tmp_path / file.name).write_text(json.dumps(config))
        else:
            (tmp_path / file.name).symlink_to(file)

    refused = run("generate", tmp_path, *arguments, check=False)
    by_ids = run("generate", tmp_path, "--token-ids", "300,301", "--max-tokens", "1")

    assert refused.returncode == 1 and message in refused.stderr
    assert "weights_imported" not in refused.stderr and "weights_imported" in by_ids.stderr


def test_output_that_cannot_be_written_is_an_error():
    with open("/dev/full", "w") as full:
        result = subprocess.run([str(BINARY), "generate", str(MODEL), "--prompt", "a", "--max-tokens", "3"],
                                stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)

    assert result.returncode == 1
    assert "standard output" in result.stderr


def test_flags_take_underscores_too():
    [line] = generate_json("--prompt", "a", "--max_tokens=3", "--ignore_eos", "--max_num_seqs", "2")

    assert line["usage"]["completion_tokens"] == 3


def test_chat_and_load_speak_to_a_server(server):
    once = run("chat", "--target", server.target, "--once", "--prompt", "Hello!", "--temperature", "0", "--stats")
    turns = run("chat", "--target", server.target, "--temperature", "0", input="Hello!\nThank you!\n/exit\n")
    load = run("load", "--target", server.target, "--concurrency", "4", "--num-requests", "12", "--input-len", "20",
               "--output-len", "10", "--json")
    report = json.loads(load.stdout)

    assert once.stdout.strip()
    assert "tokens in" in once.stderr
    assert len([line for line in turns.stdout.splitlines() if line.strip()]) >= 2
    assert report["completed"] == 12
    assert report["output_tokens"] == 120
    for name in ("time_to_first_token", "end_to_end"):
        assert 0 < report[name]["median_ms"] <= report[name]["p99_ms"]
    # Tokens that a slow client gets in one message have no time between them.
    assert 0 <= report["inter_token"]["median_ms"] <= report["inter_token"]["p99_ms"]


def load_flags(server, door):
    """Where `load` finds a server by either of its doors."""
    flags = ["--target", server.target]
    return flags if door == "grpc" else [*flags, "--rest", f"127.0.0.1:{server.rest_port}"]


def test_load_measures_rest_too(server):
    load = run("load", *load_flags(server, "rest"), "--concurrency", "4", "--num-requests", "12", "--input-len", "20",
               "--output-len", "10", "--json")
    report = json.loads(load.stdout)

    assert (report["completed"], report["input_tokens"], report["output_tokens"]) == (12, 240, 120)
    assert 0 < report["time_to_first_token"]["median_ms"] <= report["end_to_end"]["p99_ms"]


@pytest.mark.parametrize("door", ["grpc", "rest"])
def test_load_groups_failures_by_code_and_reason(start_server, door):
    busy = start_server("--max-num-seqs", "1", "--max-num-queued-reqs", "2")

    result = run("load", *load_flags(busy, door), "--concurrency", "16", "--num-requests", "48", "--input-len", "4",
                 "--output-len", "64", "--json", check=False)
    report = json.loads(result.stdout)

    assert result.returncode == 1
    assert f"{report['failed']} of 48 requests failed" in result.stderr
    [error] = report["errors"]
    assert (error["code"], error["reason"], error["count"]) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL", report["failed"])
    assert "wait" in error["example"]


def test_load_over_rest_has_keys_deadlines_and_an_address(start_server, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret-key-0123456789\n")
    slow = start_server("--isa", "scalar", "--api-key-file", str(keys))
    flags = ["--num-requests", "2", "--api-key-file", str(keys), "--json"]

    good = run("load", *load_flags(slow, "rest"), *flags, "--output-len", "4")
    late = run("load", *load_flags(slow, "rest"), *flags, "--output-len", "1500", "--timeout", "0.3", check=False)
    gone = run("load", "--target", slow.target, "--rest", f"127.0.0.1:{free_port()}", *flags, check=False)
    wrong = run("load", "--target", slow.target, "--rest", "8000", *flags, check=False)
    wrong_metrics = run("rest", "--target", slow.target, "--metrics-target", "9464", "--port", "0", check=False)

    assert json.loads(good.stdout)["completed"] == 2
    assert [(e["code"], e["count"]) for e in json.loads(late.stdout)["errors"]] == [("DEADLINE_EXCEEDED", 2)]
    assert [(e["code"], e["count"]) for e in json.loads(gone.stdout)["errors"]] == [("UNAVAILABLE", 2)]
    assert wrong.returncode == 1 and "--rest is '8000'; must be HOST:PORT" in wrong.stderr
    assert wrong_metrics.returncode == 1 and "--metrics-target is '9464'; must be HOST:PORT" in wrong_metrics.stderr


def test_the_readme_shows_flags_that_exist():
    """Every long flag in the README's commands is one that the command's help, or test.sh, knows."""
    readme = (ROOT / "README.md").read_text()
    help_text = "".join(run(command, "--help").stdout
                        for command in ("serve", "generate", "logits", "bench", "inspect", "quantize", "chat",
                                        "load", "rest", "run-batch"))
    help_text += (ROOT / "test.sh").read_text()
    shown = {word.split("=")[0].rstrip("`,.;:)") for word in readme.replace("|", " ").replace("`", " ").split()
             if re.match("--[a-z]", word)}

    assert {flag for flag in shown if flag not in help_text} == set()
