"""The web page in headless Chromium, against a real server: what people see, and what must never happen to them."""

import json
import re
import time
import urllib.request

import pytest
from playwright.sync_api import expect, sync_playwright

from conftest import MODEL, ROOT, Server

STORY = "Tell me a story about a fox."
HOSTILE = "<img src=x onerror='window.probe=1'><script>window.probe=1</script>"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Slow, as the bundled model is too quick to be stopped by hand."""
    running = Server(tmp_path_factory.mktemp("server") / "server.log", flags=("--isa", "scalar"))
    yield running
    assert running.stop() == 0, running.log_text()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as tool:
        with tool.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"]) as chromium:
            yield chromium


@pytest.fixture
def open_page(browser, server):
    """Opens the page anew, with Playwright's options of a context. In the end nothing may have gone wrong in any, and
    nothing may have been asked of another origin; `refusals`: answers other than 2xx are part of the test."""
    contexts, problems = [], []

    def open_page(served_by=server, refusals=False, before=lambda page: None, **options):
        origin = f"http://127.0.0.1:{served_by.rest_port}/"
        contexts.append(browser.new_context(**{"locale": "en-US", **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" and not (
            refusals and line.text.startswith("Failed to load resource")) else None)
        page.on("request", lambda request: request.url.startswith(origin) or problems.append(request.url))
        before(page)
        page.goto(origin)
        page.locator("#server", has_text="." if refusals else MODEL.name).wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def ask(page, question):
    """Sends `question` by the keyboard; returns the elements of its turn."""
    page.locator("#message").fill(question)
    page.keyboard.press("Enter")
    return page.locator(".turn").last


def answer(page, question):
    """The text of the whole answer to `question`."""
    turn = ask(page, question)
    turn.locator(".buttons").wait_for()
    return turn.locator(".content").text_content()


def post(server, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{server.rest_port}{path}", json.dumps(body).encode(),
                                     {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def without_end(page):
    """Lets chats go on to their limit."""
    page.route("**/v1/chat/completions", lambda route: route.continue_(
        post_data={**route.request.post_data_json, "ignore_eos": True}))


def unanswered(page):
    """Keeps what the page asks for under way until the page itself ends it."""
    page.route("**/completions", lambda route: None)


def answering(*deltas):
    """Has the page's chats answered with `deltas` in place of a model's."""
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": None}]})
    body = ": keepalive\n\n" + "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return lambda page: page.route("**/v1/chat/completions", lambda route: route.fulfill(
        content_type="text/event-stream", body=body))


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Chat.


def test_an_answer_is_the_interfaces_own_and_regenerates_to_the_same(server, open_page):
    page = open_page()
    page.locator("[name=seed]").fill("7")
    page.locator("[name=temperature]").fill("1")
    shown = answer(page, STORY)
    page.locator(".regenerate").click()
    page.locator(".regenerate").wait_for()
    again = page.locator(".content").text_content()

    body = {"messages": [{"role": "user", "content": STORY}], "seed": 7, "temperature": 1}
    assert shown == post(server, "/v1/chat/completions", body)["choices"][0]["message"]["content"]
    assert again == shown
    figures = page.locator(".figures").text_content()
    assert "complete" in figures and "first token" in figures and "tokens/s" in figures


def test_an_answer_streams(open_page):
    page = open_page(before=without_end)
    page.evaluate("""() => {
      window.lengths = new Set();
      new MutationObserver(() => window.lengths.add(document.querySelector(".content").textContent.length))
        .observe(document.querySelector("#log"), { childList: true, subtree: true });
    }""")
    page.locator("[name=max_tokens]").fill("1000")  # seconds: many showings, even where all is slow
    answer(page, STORY)

    assert page.evaluate("() => window.lengths.size") >= 5
    assert "cut off" in page.locator(".figures").text_content()


@pytest.mark.parametrize("how", ["keyboard", "button"])
def test_stop_cancels_the_generation(server, open_page, how):
    cancelled = server.metric("expertd_requests_finished_total", reason="cancelled")
    page = open_page(before=without_end)
    turn = ask(page, STORY)
    turn.locator(".content p:not(.pending)").wait_for()
    page.keyboard.press("Escape") if how == "keyboard" else page.locator("#chat-stop").click()
    turn.locator(".buttons").wait_for()

    assert turn.locator(".content").text_content()
    assert "stopped by you" in turn.locator(".figures").text_content()
    wait_until(lambda: server.metric("expertd_requests_finished_total", reason="cancelled") == cancelled + 1)
    assert page.locator("#send").is_enabled()


def test_every_setting_arrives(open_page):
    numbers = {"temperature": 0.5, "top_p": 0.9, "top_k": 20, "min_p": 0.05, "max_tokens": 12, "seed": 3,
               "repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": -0.3}
    page = open_page()
    for name, value in numbers.items():
        page.locator(f"[name={name}]").fill(str(value))
    page.locator("[name=stop]").fill("###\nThe end")
    page.locator("[name=system]").fill("Be brief.")
    page.reload()  # settings outlast it
    with page.expect_request("**/v1/chat/completions") as sent:
        answer(page, "Hello!")

    body = sent.value.post_data_json
    assert {name: body[name] for name in numbers} == numbers
    assert body["stop"] == ["###", "The end"]
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]


def test_the_model_reads_the_turns_before(open_page):
    page = open_page()
    first = answer(page, "Hello!")
    with page.expect_request("**/v1/chat/completions") as sent:
        answer(page, STORY)

    assert sent.value.post_data_json["messages"] == [
        {"role": "user", "content": "Hello!"}, {"role": "assistant", "content": first},
        {"role": "user", "content": STORY}]


@pytest.mark.parametrize("deltas", [
    [{"reasoning_content": "Hm. "}, {"reasoning_content": "Well."}, {"content": "Paris."}],
    [{"content": "<think>\nHm. Well.\n</th"}, {"content": "ink>\n\nParis."}],
    [{"content": "Hm. Well.</think>Paris."}],
    [{"content": "[unused16]Hm. Well.[unused17]Paris."}]])
def test_reasoning_is_folded_and_not_sent_again(open_page, deltas):
    page = open_page(before=answering(*deltas))
    shown = answer(page, "Where?")

    assert shown == "Paris."
    assert not page.locator(".reasoning div").is_visible()
    page.locator(".reasoning summary").click()
    assert page.locator(".reasoning div").inner_text() == "Hm. Well."
    with page.expect_request("**/v1/chat/completions") as sent:
        answer(page, "And?")
    assert sent.value.post_data_json["messages"][1] == {"role": "assistant", "content": "Paris."}


def test_an_answer_may_speak_of_the_mark(open_page):
    page = open_page(before=answering({"content": "It ends with `</think>` and then answers."}))

    assert answer(page, "How?") == "It ends with </think> and then answers."
    assert not page.locator(".reasoning").is_visible()


def test_markdown(open_page):
    text = "# Head\nSome **bold** and `a*b*c`.\n\n1. one\n2. two\n\n```py\nx = `1`"  # the fence is not closed yet
    page = open_page(before=answering({"content": text}))
    answer(page, "Go on")

    content = page.locator(".content")
    assert content.locator(".heading").text_content() == "Head"
    assert content.locator("strong").text_content() == "bold"
    assert content.locator("p code").text_content() == "a*b*c"
    assert content.locator("ol li").all_text_contents() == ["one", "two"]
    assert content.locator("pre code").text_content() == "x = `1`"


def test_what_anyone_writes_stays_text(open_page):
    text = f"{HOSTILE} **{HOSTILE}**\n\n```\n{HOSTILE}\n```\n\n- {HOSTILE}"
    page = open_page(before=answering({"reasoning_content": HOSTILE}, {"content": text}))
    shown = answer(page, HOSTILE)

    assert shown.count(HOSTILE) == 4
    assert page.locator(".question").text_content() == HOSTILE
    assert page.locator(".reasoning div").text_content() == HOSTILE
    assert page.locator("#log :is(img, script)").count() == 0
    assert page.evaluate("() => window.probe") is None


def test_long_answers_full_of_marks_do_not_hold_up_the_page(open_page):
    page = open_page(before=answering({"content": "**a " * 200_000}))  # a minute, were spans without bounds

    assert answer(page, "Go on").startswith("**a **a ")


def test_copy_has_what_the_model_wrote(open_page):
    page = open_page(before=answering({"content": "Some **bold** text"}), permissions=["clipboard-read", "clipboard-write"])
    answer(page, "Go on")
    page.locator(".copy").click()
    page.locator(".copy", has_text="Copied").wait_for()

    assert page.evaluate("() => navigator.clipboard.readText()") == "Some **bold** text"


# Keyboard.


def test_enter_sends_unless_it_picks_a_word(open_page):
    page = open_page(before=answering({"content": "Yes."}))
    page.keyboard.type("Is it")  # the message has the focus from the start
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("so?")
    page.evaluate("""() => document.activeElement.dispatchEvent(
      new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true }))""")
    assert page.locator(".turn").count() == 0

    page.keyboard.press("Enter")
    page.locator(".buttons").wait_for()
    assert page.locator(".question").text_content() == "Is it\nso?"


def test_arrows_move_between_the_tabs(open_page):
    page = open_page()
    page.locator("#tab-chat").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#completion").is_visible() and not page.locator("#chat").is_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#status").is_visible()
    assert page.locator("#tab-status").get_attribute("aria-selected") == "true"


# Looks.


def test_language_follows_the_reader_and_the_switch(open_page):
    page = open_page(locale="zh-CN")
    assert page.locator("#send").text_content() == "发送"
    assert page.locator("html").get_attribute("lang") == "zh-CN"

    page.locator("#language").click()
    page.reload()
    assert page.locator("#send").text_content() == "Send"


def test_every_word_is_there_in_both_languages():
    sources = {path.name: path.read_text() for path in (ROOT / "clients/web_page").iterdir()}
    _, english, chinese = re.split(r"const (?:ENGLISH|CHINESE) =", sources["texts.js"].split("let words")[0])
    english, chinese = ([name for name, _ in re.findall(r'(\w+): "([^"]+)"', words)] for words in (english, chinese))
    use = re.compile(r'(?:text\(|data-(?:text|label|placeholder)=|title: )"(\w+)"')
    used = {name for source in sources.values() for name in use.findall(source)}

    assert len(set(english)) == len(english) and english == chinese
    assert len(used) > 40 and used <= set(english)


def test_theme_follows_the_system_and_the_switch(open_page):
    page = open_page(color_scheme="dark")
    def ground():
        return page.evaluate("() => getComputedStyle(document.body).backgroundColor")

    dark = ground()
    page.locator("#theme").click()  # from auto to light
    light = ground()
    page.reload()
    assert light != dark and ground() == light
    page.locator("#theme").click()
    assert ground() == dark


@pytest.mark.parametrize("tab", ["chat", "completion", "status"])
def test_a_phone_need_not_scroll_sideways(open_page, tab):
    page = open_page(viewport={"width": 360, "height": 640})
    page.locator(f"#tab-{tab}").click()

    assert page.evaluate("() => document.documentElement.scrollWidth") == 360
    assert page.locator(f"#{tab}").bounding_box()["width"] <= 360


# Completion.


def test_completion_continues_the_text(server, open_page):
    page = open_page()
    page.locator("#tab-completion").click()
    page.locator("[name=temperature]").fill("0")
    page.locator("[name=max_tokens]").fill("20")
    page.locator("#text").fill("Once upon a time")
    page.keyboard.press("Control+Enter")
    page.locator("#undo:enabled").wait_for()

    body = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 20}
    expected = "Once upon a time" + post(server, "/v1/completions", body)["choices"][0]["text"]
    assert page.locator("#text").input_value() == expected
    assert "cut off" in page.locator("#completion-note").text_content()
    page.locator("#undo").click()
    assert page.locator("#text").input_value() == "Once upon a time"


def test_escape_stops_what_is_seen(open_page):
    page = open_page(before=unanswered)
    ask(page, STORY)
    page.locator("#tab-completion").click()
    page.locator("#text").fill("Once upon a time")
    page.keyboard.press("Control+Enter")
    page.locator("#completion-stop").wait_for()

    page.keyboard.press("Escape")
    page.locator("#completion-note", has_text="stopped by you").wait_for()
    page.locator("#tab-chat").click()
    assert page.locator("#chat-stop").is_visible()
    page.keyboard.press("Escape")
    page.locator(".figures", has_text="stopped by you").wait_for()


def test_stopping_a_completion_by_keyboard_keeps_the_focus(open_page):
    page = open_page(before=unanswered)
    page.locator("#tab-completion").click()
    page.locator("#text").fill("Once upon a time")
    focus = lambda: page.evaluate("() => document.activeElement.id")

    page.locator("#complete").press("Enter")
    page.locator("#completion-stop").wait_for()
    assert focus() == "completion-stop"
    page.keyboard.press("Enter")
    page.locator("#undo:enabled").wait_for()
    assert focus() == "text"


# Status.


def test_a_front_that_withholds_metrics_is_no_failure(open_page):
    page = open_page(refusals=True, before=lambda page: page.route(
        "**/metrics", lambda route: route.fulfill(status=502, body="")))
    page.locator("#tab-status").click()

    page.locator("#status-note", has_text="This server shows no figures here.").wait_for()


def test_charts_follow_the_load_and_rest_unseen(server, open_page):
    page = open_page(before=lambda page: page.clock.install(time=0))
    page.clock.pause_at(60_000)
    scrapes = []
    page.on("request", lambda request: scrapes.append(request) if request.url.endswith("/metrics") else None)
    def shown(title):
        return page.locator(".chart", has=page.get_by_role("heading", name=title, exact=True)).locator("dd").first

    page.locator("#tab-status").click()
    page.locator("#facts", has_text="scalar").wait_for()
    page.clock.run_for(2000)
    expect(shown("Tokens per second")).to_have_text("0")
    idle = page.locator(".chart path.series0").nth(1).get_attribute("d")
    post(server, "/v1/completions", {"prompt": STORY, "max_tokens": 150, "ignore_eos": True})
    page.clock.run_for(2000)

    expect(shown("Tokens per second")).to_have_text("75")
    expect(shown("Sequences per step")).to_have_text("1")
    expect(shown("Time of a request")).to_contain_text("s")
    assert page.locator(".chart path.series0").nth(1).get_attribute("d") != idle

    hide = """(is_hidden) => {
      Object.defineProperty(document, "hidden", { value: is_hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.clock.run_for(20_000)
    assert len(scrapes) == 3
    with page.expect_response("**/metrics"):
        page.evaluate(hide, False)
    page.locator("#tab-chat").click()
    page.clock.run_for(20_000)
    assert len(scrapes) == 4


def test_quantiles_are_prometheus_own(open_page):
    buckets = lambda *counts: "".join(
        f'wait_bucket{{model="a \\"b\\"",le="{bound}"}} {count}\n' for bound, count in zip(("0.1", "0.5", "+Inf"), counts))
    found = open_page().evaluate("""async ([first, second]) => {
      const { Scrape, quantile } = await import("/page/prometheus.js");
      const [earlier, later] = [new Scrape(first, 0), new Scrape(second, 1000)];
      return [0.25, 0.5, 0.99].map((share) => quantile(earlier, later, "wait", share)).concat(
        quantile(later, later, "wait", 0.5), later.samples("wait_bucket")[0].labels.le);
    }""", [buckets(1, 2, 3), buckets(5, 8, 11)])

    # 4 new ones up to 0.1, 2 more up to 0.5, 2 beyond.
    assert found == [pytest.approx(0.05), pytest.approx(0.1), 0.5, None, "0.1"]


# Errors.


def test_a_refused_setting_is_named(open_page):
    page = open_page(refusals=True)
    page.locator("[name=temperature]").fill("7")
    turn = ask(page, "Hello!")

    turn.locator(".error", has_text="“temperature”").wait_for()
    assert "must be 0..2" in turn.locator(".said").text_content()


def test_an_error_amid_a_stream_keeps_what_came(open_page):
    chunk = {"choices": [{"index": 0, "delta": {"content": "Half an ans"}, "finish_reason": None}]}
    failure = {"error": {"message": HOSTILE, "type": "server_error", "param": None, "code": "engine_failure"}}
    page = open_page(before=lambda page: page.route("**/v1/chat/completions", lambda route: route.fulfill(
        content_type="text/event-stream", body=f"data: {json.dumps(chunk)}\n\ndata: {json.dumps(failure)}\n\n")))

    assert answer(page, "Hello!") == "Half an ans"
    assert "The server failed" in page.locator(".turn .error").text_content()
    assert HOSTILE in page.locator(".turn .said").text_content()
    assert page.evaluate("() => window.probe") is None


def test_the_key_is_asked_for_and_kept_in_the_tab(start_server, open_page, tmp_path):
    key = "0123456789abcdef0123"
    keys = tmp_path / "keys"
    keys.write_text(key + "\n")
    page = open_page(served_by=start_server("--api-key-file", str(keys)), refusals=True)
    page.locator("#server", has_text="API key").wait_for()

    page.locator("[name=key]").fill(key)
    page.locator("[name=key]").blur()
    page.locator("#server", has_text=MODEL.name).wait_for()
    assert answer(page, "Hello!")
    assert key not in page.evaluate("() => JSON.stringify(localStorage) + document.cookie")
