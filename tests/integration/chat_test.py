"""`expertd chat` as its user meets it: in a terminal, with Ctrl-C, in long conversations, and with faulty servers."""

import concurrent.futures
import signal
import subprocess
import threading

import grpc

from conftest import BINARY, run, terminal_output


class FakeServer:
    """Answers every request with `text` (cut at the model's length), fails with `code` and no message, or is silent."""

    def __init__(self, text="", is_cut=False, code=None, is_silent=False):
        from expertd.v1 import inference_pb2, inference_pb2_grpc, model_pb2, model_pb2_grpc

        self.has_call = has_call = threading.Event()
        self.is_cancelled = is_cancelled = threading.Event()

        class Model(model_pb2_grpc.ModelServiceServicer):
            def GetModel(self, request, context):
                return model_pb2.GetModelResponse(model=model_pb2.Model(name="fake", max_model_len=100))

        class Inference(inference_pb2_grpc.InferenceServiceServicer):
            def StreamGenerate(self, request, context):
                has_call.set()
                if code is not None:
                    context.abort(code, "")
                if is_silent:
                    context.add_callback(is_cancelled.set)
                    is_cancelled.wait(60)
                    return
                yield inference_pb2.StreamGenerateResponse(delta=inference_pb2.Delta(text=text, num_tokens=1))
                reason = "FINISH_REASON_CONTEXT_LENGTH" if is_cut else "FINISH_REASON_STOP"
                yield inference_pb2.StreamGenerateResponse(finished=inference_pb2.Finished(finish_reason=reason))

        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        model_pb2_grpc.add_ModelServiceServicer_to_server(Model(), self.server)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(Inference(), self.server)
        self.target = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.server.stop(None)


CONTROLS = "\x1b[31mred\x1b]0;title\x07\u009b2J\r\tté\n"


def test_a_terminal_gets_no_control_characters_of_the_model():
    with FakeServer(CONTROLS) as fake:
        output = terminal_output("chat", "--target", fake.target, "--once", "--prompt", "x")

    assert output.decode().replace("\r\n", "\n") == "[31mred]0;title2J\tté\n\n"


def test_a_pipe_gets_the_text_as_it_is():
    with FakeServer(CONTROLS) as fake:
        output = subprocess.run([str(BINARY), "chat", "--target", fake.target, "--once", "--prompt", "x"],
                                stdout=subprocess.PIPE, check=True, timeout=60).stdout

    assert output.decode() == CONTROLS + "\n"


def test_an_error_without_a_message_names_its_code():
    with FakeServer(code=grpc.StatusCode.INTERNAL) as fake:
        result = run("chat", "--target", fake.target, "--once", "--prompt", "x", check=False)

    assert result.returncode == 1
    assert result.stderr == "expertd chat: INTERNAL, and the server says no more\n"


def test_an_answer_that_comes_too_late_names_the_flag():
    with FakeServer(is_silent=True) as fake:
        result = run("chat", "--target", fake.target, "--once", "--prompt", "x", "--timeout", "0.3", check=False)

    assert result.returncode == 1
    assert result.stderr == "expertd chat: no whole answer within --timeout, 0.3 s\n"


def test_a_line_that_is_not_utf8_is_not_sent(server):
    result = run("chat", "--target", server.target, input="ab\udcff\n", encoding="utf-8", errors="surrogateescape",
                 check=False)

    assert result.returncode == 1
    assert result.stderr == "expertd chat: the line is not UTF-8 at byte 2; nothing was sent\n"


def test_a_conversation_beyond_the_models_length_forgets_its_oldest_turns(start_server):
    short = start_server("--max-model-len", "96")
    turns = 12

    result = run("chat", "--target", short.target, "--system", "Be brief.", "--temperature", "0", "--max-tokens", "12",
                 "--stats", input="Tell me about the sea.\n" * turns)

    assert "to stay within the model's length of 96 tokens, the oldest turn is forgotten" in result.stderr
    assert result.stderr.count(" tokens in ") == turns


def test_a_message_too_long_for_the_model_leaves_the_conversation_alone(start_server):
    short = start_server("--max-model-len", "96")

    result = run("chat", "--target", short.target, "--max-tokens", "12", input="Hello!\n" + "sea " * 200 + "\n",
                 check=False)

    assert result.returncode == 1
    assert "CONTEXT_LENGTH_EXCEEDED" in result.stderr
    assert "forgotten" not in result.stderr


def test_an_answer_that_fills_the_model_is_said_to_be_cut():
    with FakeServer("and so on", is_cut=True) as fake:
        result = run("chat", "--target", fake.target, "--once", "--prompt", "x")

    assert result.stdout == "and so on\n"
    assert result.stderr == "[cut off: the conversation has reached the model's length of 100 tokens]\n"


def test_ctrl_c_cancels_an_answer_that_has_not_begun():
    with FakeServer(is_silent=True) as fake:
        with subprocess.Popen([str(BINARY), "chat", "--target", fake.target], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as chat:
            chat.stdin.write("Hello!\n")
            chat.stdin.flush()
            assert fake.has_call.wait(60)

            chat.send_signal(signal.SIGINT)

            assert fake.is_cancelled.wait(60)
            output, error = chat.communicate("/exit\n", timeout=60)

    assert (output, error, chat.returncode) == ("", "[stopped before the answer began]\n", 0)
