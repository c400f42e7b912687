// Against a server that fails and writes as it is told.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import protobuf from "protobufjs";

import { Client, ExpertdError } from "@expertd/client";

const PROTOS = fileURLToPath(new URL("../dist/protos", import.meta.url));
const { expertd } = grpc.loadPackageDefinition(loadSync(
  "expertd/v1/inference.proto", { includeDirs: [PROTOS] }));
const { expertd: models } = grpc.loadPackageDefinition(loadSync(
  "expertd/v1/model.proto", { includeDirs: [PROTOS] }));
const root = new protobuf.Root();
root.resolvePath = (_origin, target) => (target.startsWith("google/protobuf/") ? target : `${PROTOS}/${target}`);
root.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"]);
const encode = (type, message) => root.lookupType(type).encode(message).finish();

/** UNAVAILABLE, with a pause of so many seconds. */
function unavailable(seconds = 0) {
  const retry = encode("google.rpc.RetryInfo", { retryDelay: { seconds } });
  const details = [{ type_url: "type.googleapis.com/google.rpc.RetryInfo", value: retry }];
  const metadata = new grpc.Metadata();
  const code = grpc.status.UNAVAILABLE;
  metadata.set("grpc-status-details-bin", Buffer.from(encode("google.rpc.Status", { code, details })));
  return { code, details: "draining", metadata };
}

/** A client of a server with these methods. */
async function serve(generate, streamGenerate, listModels) {
  const server = new grpc.Server();
  server.addService(expertd.v1.InferenceService.service, { generate, streamGenerate });
  server.addService(models.v1.ModelService.service, { listModels });
  const port = await new Promise((resolve, reject) => server.bindAsync(
    "127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))));
  const client = new Client({ target: `127.0.0.1:${port}`, retry: { attempts: 3, initialMs: 1 } });
  after(() => {
    client.close();
    server.forceShutdown();
  });
  return client;
}

const failsWith = (code) => (error) => {
  assert.ok(error instanceof ExpertdError, error.stack);
  assert.equal(error.code, code);
  return true;
};
const drain = async (stream) => {
  for await (const delta of stream) assert.ok(delta);
};
const accepted = { accepted: { numCandidates: 1 } };
const delta = { delta: { text: "all" } };
const whole = { candidates: [{ text: "all" }] };

test("unavailable is tried again", async () => {
  let calls = 0;
  const client = await serve(
    (_, done) => (++calls < 3 ? done(unavailable()) : done(null, whole)),
    (call) => {
      if (++calls < 3) return call.emit("error", unavailable());
      for (const event of [accepted, delta, { summary: {} }]) call.write(event);
      call.end();
    });
  assert.equal((await client.generate("A")).text, "all");
  assert.equal(calls, 3);
  calls = 0;
  const stream = client.stream("A");
  await drain(stream);
  assert.equal(stream.generation.text, "all");
  assert.equal(calls, 3);
});

test("what a server cancels that stops is unavailable", async () => {
  let calls = 0;
  const cancelled = { code: grpc.status.CANCELLED, details: "" };
  const client = await serve(
    (_, done) => (++calls < 3 ? done(cancelled) : done(null, whole)),
    (call) => call.write(accepted, () => call.emit("error", cancelled)));
  assert.equal((await client.generate("A")).text, "all");
  assert.equal(calls, 3);
  await assert.rejects(drain(client.stream("A")), failsWith("UNAVAILABLE"));
});

test("all pages of models are taken", async () => {
  const client = await serve(undefined, undefined, ({ request }, done) => {
    const page = Number(request.pageToken);
    done(null, { models: [{ name: `m${page}` }], nextPageToken: page < 2 ? String(page + 1) : "" });
  });
  assert.deepEqual((await client.models()).map((model) => model.name), ["m0", "m1", "m2"]);
});

test("a stream that has begun is not tried again", async () => {
  let calls = 0;
  const client = await serve(undefined, (call) => {
    ++calls;
    call.write(accepted, () => call.emit("error", unavailable()));
  });
  await assert.rejects(drain(client.stream("A")), failsWith("UNAVAILABLE"));
  assert.equal(calls, 1);
});

test("cancelling ends the pause before the next attempt", async () => {
  const client = await serve(undefined, (call) => call.emit("error", unavailable(60)));
  const stream = client.stream("A");
  setTimeout(() => stream.cancel(), 100);
  await assert.rejects(drain(stream), failsWith("CANCELLED"));
});

test("other codes are not tried again", async () => {
  let calls = 0;
  const client = await serve((_, done) => {
    ++calls;
    done({ code: grpc.status.RESOURCE_EXHAUSTED, details: "full" });
  });
  await assert.rejects(client.generate("A"), failsWith("RESOURCE_EXHAUSTED"));
  assert.equal(calls, 1);
});

test("a pause beyond the deadline is not waited for", async () => {
  const client = await serve((_, done) => done(unavailable(3600)));
  await assert.rejects(client.generate("A", {}, { timeoutMs: 60_000 }), failsWith("UNAVAILABLE"));
});

test("a signal ends a pause, and is an error as others", { timeout: 20_000 }, async () => {
  const client = await serve((_, done) => done(unavailable(3600)), (call) => call.emit("error", unavailable(3600)));
  const inPause = () => AbortSignal.timeout(100);
  await assert.rejects(client.generate("A", {}, { signal: inPause() }), failsWith("CANCELLED"));
  await assert.rejects(drain(client.stream("A", {}, { signal: inPause() })), failsWith("CANCELLED"));
  await assert.rejects(client.generate("A", {}, { signal: AbortSignal.abort() }), failsWith("CANCELLED"));
});

test("leaving a stream ends its call", { timeout: 20_000 }, async () => {
  let left;
  const client = await serve(undefined, (call) => {
    left = once(call, "cancelled");
    call.write(accepted);
    call.write(delta);
  });
  for await (const piece of client.stream("A")) {
    assert.equal(piece.text, "all");
    break;
  }
  await left;
});

test("a stream without an end is an error", async () => {
  const client = await serve(undefined, (call) => {
    call.write(accepted);
    call.end();
  });
  await assert.rejects(drain(client.stream("A")), failsWith("INTERNAL"));
});

test("answers beyond 4 MiB arrive", async () => {
  const text = "a".repeat(5 << 20);
  const client = await serve((_, done) => done(null, { candidates: [{ text }] }));
  assert.equal((await client.generate("A")).text, text);
});
