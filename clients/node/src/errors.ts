/** What a call failed with. */
import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";

/** A canonical code of gRPC, by its name: "INVALID_ARGUMENT". */
export type ErrorCode = keyof typeof grpc.status;

/** A field of the request that has a wrong value, by its path in the contract: "sampling.top_p". */
export interface Violation {
  field: string;
  description: string;
}

interface Details {
  reason?: string;
  metadata?: Record<string, string>;
  violations?: Violation[];
  retryDelayMs?: number;
  requestId?: string;
}

export class ExpertdError extends Error {
  /** As errors.proto lists them ("QUEUE_FULL"); empty when the failure is not the server's own. */
  readonly reason: string;
  /** Further facts: {maxModelLen: "4096"}. */
  readonly metadata: Record<string, string>;
  readonly violations: Violation[];
  /** After so long the server expects to have room; undefined: it does not say. */
  readonly retryDelayMs: number | undefined;
  /** Of the request, when its caller gave it one. */
  readonly requestId: string;

  constructor(
    readonly code: ErrorCode,
    message: string,
    details: Details = {},
  ) {
    super(message);
    this.name = "ExpertdError";
    this.reason = details.reason ?? "";
    this.metadata = details.metadata ?? {};
    this.violations = details.violations ?? [];
    this.retryDelayMs = details.retryDelayMs;
    this.requestId = details.requestId ?? "";
  }
}

export const PROTOS = fileURLToPath(new URL("./protos", import.meta.url));

const root = new protobuf.Root();
root.resolvePath = (_origin, target) => (target.startsWith("google/protobuf/") ? target : `${PROTOS}/${target}`);
root.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"]);

function decode(type: string, bytes: Uint8Array): Record<string, any> {
  const found = root.lookupType(type);
  return found.toObject(found.decode(bytes), { longs: Number, defaults: true, objects: true, arrays: true });
}

function detailsOf(metadata: grpc.Metadata | undefined): Details {
  const details: Details = {};
  for (const value of metadata?.get("grpc-status-details-bin") ?? []) {
    for (const any of decode("google.rpc.Status", value as Buffer)["details"]) {
      const type: string = any.type_url.split("/").pop();
      if (type === "google.rpc.ErrorInfo") {
        const info = decode(type, any.value);
        details.reason = info["reason"];
        details.metadata = info["metadata"];
      } else if (type === "google.rpc.BadRequest") {
        details.violations = decode(type, any.value)["fieldViolations"];
      } else if (type === "google.rpc.RetryInfo") {
        const delay = decode(type, any.value)["retryDelay"];
        if (delay) details.retryDelayMs = delay.seconds * 1000 + delay.nanos / 1e6;
      }
    }
  }
  return details;
}

/** `isCancelled`: by the caller. */
export function errorFrom(failure: unknown, requestId: string, isCancelled: boolean): Error {
  const service = failure as Partial<grpc.ServiceError>;
  if (typeof service.code !== "number") return failure as Error;
  const code = (grpc.status[service.code] ?? "UNKNOWN") as ErrorCode;
  const details = { ...detailsOf(service.metadata), requestId };
  if (code === "CANCELLED" && !details.reason && !isCancelled) {
    // gRPC itself ends calls so that reach a server while it begins to stop.
    const message = "the server cancelled the call without a reason: it may be stopping";
    return new ExpertdError("UNAVAILABLE", message, details);
  }
  return new ExpertdError(code, service.details || code, details);
}
