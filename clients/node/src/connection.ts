/** How to connect, and when to try again. */
import { readFileSync } from "node:fs";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import { ExpertdError, PROTOS } from "./errors.js";
import type { ProtoGrpcType as ControlProto } from "./generated/control.js";
import type { ProtoGrpcType as InferenceProto } from "./generated/inference.js";
import type { ProtoGrpcType as ModelProto } from "./generated/model.js";
import type { ProtoGrpcType as TokenizerProto } from "./generated/tokenizer.js";

/**
 * When a call is tried again: on UNAVAILABLE alone, and a stream only before its first message. The pauses grow from
 * `initialMs` by `factor` up to `maximumMs`, less a random part of up to a half; a pause that the server asks for
 * counts. All attempts together take no longer than the call's timeout.
 */
export interface RetryOptions {
  attempts?: number;
  initialMs?: number;
  factor?: number;
  maximumMs?: number;
}

const definition = loadSync(
  ["inference", "model", "tokenizer", "control"].map((name) => `expertd/v1/${name}.proto`),
  { longs: String, enums: String, bytes: Buffer, defaults: true, oneofs: true, includeDirs: [PROTOS] },
);

export const contract = (
  grpc.loadPackageDefinition(definition) as unknown as InferenceProto & ModelProto & TokenizerProto & ControlProto
).expertd.v1;

export const channelOptions: grpc.ChannelOptions = {
  "grpc.max_receive_message_length": 256 << 20, // log-probabilities of a long prompt pass gRPC's 4 MiB
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 5000,
  // A server whose machine has vanished ends a call without a deadline, too: in 40 s.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
};

export function makeCredentials(tls: boolean, caFile: string | undefined): grpc.ChannelCredentials {
  if (caFile !== undefined) return grpc.credentials.createSsl(readFileSync(caFile));
  return tls ? grpc.credentials.createSsl() : grpc.credentials.createInsecure();
}

/** Resolves after `ms`, or with the signal when that comes first. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end, { once: true });
  });
}

/** The attempts of one call. */
export class Attempts {
  private readonly deadlineMs: number;
  private left: number;
  private pauseMs: number;

  constructor(private readonly retry: RetryOptions, timeoutMs: number | undefined) {
    this.deadlineMs = timeoutMs === undefined ? Infinity : Date.now() + timeoutMs;
    this.left = (retry.attempts ?? 5) - 1;
    this.pauseMs = retry.initialMs ?? 200;
  }

  get callOptions(): grpc.CallOptions {
    return this.deadlineMs === Infinity ? {} : { deadline: this.deadlineMs };
  }

  /** Milliseconds to wait before the next attempt; undefined: there is none. */
  pauseAfter(error: Error): number | undefined {
    if (!(error instanceof ExpertdError) || error.code !== "UNAVAILABLE" || this.left-- <= 0) return undefined;
    const pause = Math.max(this.pauseMs * (0.5 + Math.random() / 2), error.retryDelayMs ?? 0);
    this.pauseMs = Math.min(this.pauseMs * (this.retry.factor ?? 2), this.retry.maximumMs ?? 5000);
    return Date.now() + pause < this.deadlineMs ? pause : undefined;
  }
}
