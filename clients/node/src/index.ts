/**
 * Client of expertd, an inference server for language models: generation, streams, tokens, models, health.
 *
 * What the server refuses or fails at is thrown as an ExpertdError, which carries the reason and the details.
 */
export { Client, Stream } from "./client.js";
export type { CallOptions, ClientOptions } from "./client.js";
export type { RetryOptions } from "./connection.js";
export { ExpertdError } from "./errors.js";
export type { ErrorCode, Violation } from "./errors.js";
export { makeRequest } from "./requests.js";
export type { Message, Prompt, Settings, Tool } from "./requests.js";
export type {
  Candidate, Delta, FinishReason, Generation, PromptInfo, StopMatch, Timing, Token, ToolCall, TopToken, Usage,
} from "./results.js";
export type { GenerateRequest } from "./generated/expertd/v1/GenerateRequest.js";
export type { GenerateResponse__Output as GenerateResponse } from "./generated/expertd/v1/GenerateResponse.js";
export type { GetServerInfoResponse__Output as ServerInfo } from "./generated/expertd/v1/GetServerInfoResponse.js";
export type { Load__Output as Load } from "./generated/expertd/v1/Load.js";
export type { Model__Output as Model } from "./generated/expertd/v1/Model.js";
