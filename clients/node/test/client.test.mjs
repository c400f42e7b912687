// Against the server at EXPERTD_TARGET; EXPERTD_NOBODY is an address where none listens.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Client, ExpertdError } from "@expertd/client";

const client = new Client({ target: process.env.EXPERTD_TARGET, timeoutMs: 60_000 });
after(() => client.close());
const long = { maxTokens: 1500, ignoreEos: true };

async function idle() {
  for (let i = 0; i < 500; ++i) {
    const load = await client.load();
    if (load.ranks.every((rank) => rank.numRunning === 0)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail("the server is still busy");
}

const failsWith = (code, check = () => true) => (error) => {
  assert.ok(error instanceof ExpertdError, error.stack);
  assert.equal(error.code, code);
  return check(error);
};

test("every kind of prompt", async () => {
  const ids = await client.tokenize("Once upon a time");
  assert.equal(await client.detokenize(ids), "Once upon a time");
  const byText = await client.generate("Once upon a time", { seed: 3, maxTokens: 20 });
  const byIds = await client.generate(ids, { seed: 3n, maxTokens: 20 });
  assert.equal(byText.text, byIds.text);
  assert.equal(byText.usage.completionTokens, 20);
  assert.equal(byText.finishReason, "max_tokens");
  const chat = await client.chat("What is the capital of France?", { temperature: 0 });
  assert.match(chat.text, /Paris/);
  assert.equal(chat.finishReason, "stop");
  assert.match(await client.renderChat([{ role: "user", content: "Hi there" }]), /Hi there/);
  await assert.rejects(client.renderChat("Hi", { model: "other" }), failsWith("NOT_FOUND"));
});

test("a stream makes the same answer", async () => {
  const settings = { seed: 5, n: 2, maxTokens: 24, logprobs: 2, tokenIds: true };
  const whole = await client.generate("Once", settings);
  const stream = client.stream("Once", settings);
  assert.throws(() => stream.generation);
  let second = "";
  for await (const delta of stream) if (delta.index === 1) second += delta.text;
  assert.deepEqual(stream.generation.candidates, whole.candidates);
  assert.deepEqual(stream.generation.usage, whole.usage);
  assert.equal(second, whole.candidates[1].text);
  assert.equal(whole.candidates[0].logprobs.length, 24);
  const again = await client.generate("Once", { seed: whole.candidates[1].seed, maxTokens: 24 });
  assert.equal(again.text, whole.candidates[1].text);
});

test("leaving a stream cancels it", async () => {
  for await (const delta of client.stream("Once", long)) {
    assert.ok(delta.numTokens > 0);
    break;
  }
  await idle();
});

test("a signal cancels", async () => {
  const abort = new AbortController();
  const stream = client.stream("Once", long, { signal: abort.signal });
  await assert.rejects(async () => {
    for await (const delta of stream) abort.abort();
  }, failsWith("CANCELLED"));
  const second = new AbortController();
  const answer = client.generate("Once", long, { signal: second.signal });
  setTimeout(() => second.abort(), 50);
  await assert.rejects(answer, failsWith("CANCELLED"));
  await idle();
});

test("settings arrive", async () => {
  const schema = { type: "object", properties: { n: { type: "integer", maximum: 9 } }, required: ["n"],
    additionalProperties: false };
  assert.deepEqual(Object.keys(JSON.parse((await client.generate("A:", { jsonSchema: schema, seed: 1 })).text)), ["n"]);
  assert.match((await client.generate("A", { regex: "[0-9]{3}" })).text, /^[0-9]{3}$/);
  assert.ok(["yes", "no"].includes((await client.generate("A", { choices: ["yes", "no"] })).text));
  const [token] = await client.tokenize(" the");
  const biased = await client.generate("A", { logitBias: { [token]: 100 }, maxTokens: 2, tokenIds: true });
  assert.deepEqual(biased.candidates[0].tokenIds, [token, token]);
  const stopped = await client.generate("Once upon", { stop: "a", seed: 1, maxTokens: 200 });
  assert.equal(stopped.finishReason, "stop_sequence");
  assert.ok((await client.chat("Hi", { templateKwargs: { deep: [1, { a: null }] }, maxTokens: 2 })).text !== undefined);
  await assert.rejects(client.generate("A", { regex: "a", choices: ["a"] }), TypeError);
  await assert.rejects(client.generate("A", { tools: [{ name: "f" }] }), TypeError);
  await assert.rejects(client.generate("A", { max_tokens: 1 }), /there is no setting max_tokens/);
  await assert.rejects(client.generate("A", { toString: 1 }), TypeError);
  await assert.rejects(async () => client.chat([]), /no turns/);
  await assert.rejects(client.chat([{ role: "wizard", content: "Hi" }]), /must be one of system/);
});

test("what was asked for beside the text comes", async () => {
  const settings = { echo: true, promptLogprobs: 1, timing: true, tokenIds: true, stop: "a", seed: 1, maxTokens: 200 };
  const stream = client.stream("Once upon a time", settings);
  for await (const delta of stream) assert.ok(delta);
  const whole = await client.generate("Once upon a time", settings);
  for (const { prompt, timing, candidates } of [whole, stream.generation]) {
    assert.equal(prompt.text, "Once upon a time");
    assert.equal(prompt.tokenIds.length, prompt.numTokens);
    assert.equal(prompt.logprobs.length, prompt.numTokens - 1);
    assert.ok(timing.totalMs >= timing.timeToFirstTokenMs && timing.timeToFirstTokenMs > 0);
    assert.deepEqual(candidates[0].stopMatch, { text: "a" });
  }
  const plain = await client.generate("Once", { maxTokens: 1 });
  assert.equal(plain.timing, undefined);
  assert.equal(plain.candidates[0].stopMatch, undefined);
});

test("errors have codes, reasons and fields", async () => {
  await assert.rejects(client.generate("A", { temperature: 9, requestId: "mine" }), failsWith("INVALID_ARGUMENT",
    (error) => error.reason === "INVALID_PARAMETER" && error.requestId === "mine" &&
      error.violations[0].field === "sampling.temperature"));
  await assert.rejects(client.generate("A", { model: "other" }), failsWith("NOT_FOUND"));
  await assert.rejects(client.generate(Array(5000).fill(5)), failsWith("INVALID_ARGUMENT",
    (error) => error.reason === "CONTEXT_LENGTH_EXCEEDED" && error.metadata.promptTokens === "5000"));
  await assert.rejects(async () => {
    for await (const delta of client.stream("A", { temperature: 9 })) assert.fail(delta.text);
  }, failsWith("INVALID_ARGUMENT"));
});

test("a timeout ends the call and the work", async () => {
  await assert.rejects(client.generate("Once", long, { timeoutMs: 100 }), failsWith("DEADLINE_EXCEEDED"));
  await assert.rejects(async () => {
    for await (const delta of client.stream("Once", long, { timeoutMs: 100 })) assert.ok(delta);
  }, failsWith("DEADLINE_EXCEEDED"));
  await idle();
});

test("retries end", async () => {
  const alone = new Client({ target: process.env.EXPERTD_NOBODY, retry: { attempts: 2, initialMs: 10 } });
  assert.equal(await alone.isReady(500), false);
  await assert.rejects(alone.generate("A"), failsWith("UNAVAILABLE"));
  await assert.rejects(async () => {
    for await (const delta of alone.stream("A")) assert.fail(delta.text);
  }, failsWith("UNAVAILABLE"));
  alone.close();
});

test("models and the server", async () => {
  assert.ok(await client.isReady());
  assert.equal((await client.models()).length, 1);
  assert.ok((await client.model()).maxModelLen > 0);
  assert.ok((await client.serverInfo()).version);
});

test("calls at once", async () => {
  const expected = (await client.generate("Two", { seed: 2, maxTokens: 12 })).text;
  const answers = await Promise.all(Array.from({ length: 16 }, () => client.generate("Two", { seed: 2, maxTokens: 12 })));
  for (const answer of answers) assert.equal(answer.text, expected);
});
