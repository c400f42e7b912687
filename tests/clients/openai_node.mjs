// OpenAI's package for Node against REST at EXPERTD_REST: the model "m" speaks as Qwen3 does.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: `${process.env.EXPERTD_REST}/v1`, apiKey: "none", maxRetries: 0 });
const model = "m";
const question = [{ role: "user", content: "What is the weather in Paris?" }];
const Weather = z.object({ city: z.string().max(12), days: z.number().int().min(1).max(9) });
const noReasoning = { logit_bias: { [process.env.EXPERTD_THINK]: -100 } };

test("models", async () => {
  const list = await client.models.list();
  assert.deepEqual(list.data.map(({ id }) => id), [model]);
  assert.equal((await client.models.retrieve(model)).object, "model");
});

test("chat, n and seeds", async () => {
  const options = { model, messages: question, n: 2, seed: 7, max_tokens: 12 };
  const [first, second] = [await client.chat.completions.create(options), await client.chat.completions.create(options)];
  assert.equal(first.choices.length, 2);
  assert.deepEqual(first.choices, second.choices);
  assert.ok(first.usage.completion_tokens > 2 && first.usage.completion_tokens <= 24);
});

test("a stream and its usage", async () => {
  const options = { model, messages: question, seed: 7, max_tokens: 12, ...noReasoning };
  const whole = await client.chat.completions.create(options);
  const stream = await client.chat.completions.create(
    { ...options, stream: true, stream_options: { include_usage: true } });
  let text = "", usage, reason;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(reason, whole.choices[0].finish_reason);
  assert.deepEqual(usage, whole.usage);
});

test("completions", async () => {
  const answer = await client.completions.create({ model, prompt: ["Once", "Twice"], max_tokens: 5, logprobs: 2 });
  assert.equal(answer.choices.length, 2);
  assert.equal(answer.choices[0].logprobs.tokens.length, 5);
});

test("tools while they stream", async () => {
  const stream = client.chat.completions.stream({
    model, messages: question, max_tokens: 400, seed: 3, temperature: 1.5, ...noReasoning, tool_choice: "required",
    parallel_tool_calls: false, tools: [zodFunction({ name: "weather", parameters: Weather })] });
  let pieces = 0;
  stream.on("tool_calls.function.arguments.delta", () => ++pieces);
  const [choice] = (await stream.finalChatCompletion()).choices;
  assert.equal(choice.finish_reason, "tool_calls");
  Weather.parse(choice.message.tool_calls[0].function.parsed_arguments);
  assert.ok(pieces > 1);
});

test("parse with a schema", async () => {
  const answer = await client.chat.completions.parse({
    model, messages: question, max_tokens: 400, seed: 3, temperature: 1.5, ...noReasoning,
    response_format: zodResponseFormat(Weather, "weather") });
  Weather.parse(answer.choices[0].message.parsed);
});

test("errors", async () => {
  const fails = (options, kind, code) => assert.rejects(
    client.chat.completions.create({ model, messages: question, ...options }),
    (error) => error instanceof kind && error.code === code && error.message.length > 0);
  await fails({ temperature: 9 }, OpenAI.BadRequestError, "invalid_parameter");
  await fails({ model: "gpt-9" }, OpenAI.NotFoundError, "model_not_found");
  await fails({ max_tokens: 10_000_000 }, OpenAI.BadRequestError, "context_length_exceeded");
});

test("an abort cancels", async () => {
  const stream = await client.chat.completions.create(
    { model, messages: question, max_tokens: 1500, stream: true, ignore_eos: true });
  for await (const chunk of stream) {
    assert.ok(chunk.choices);
    stream.controller.abort();
  }
  for (let i = 0; i < 500; ++i) {
    const metrics = await (await fetch(`${process.env.EXPERTD_REST}/metrics`)).text();
    if (/^expertd_requests_total\{[^}]*code="CANCELLED"[^}]*\} [1-9]/m.test(metrics)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail("the server counts no cancelled request");
});
