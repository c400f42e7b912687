/** The client. */
import * as grpc from "@grpc/grpc-js";

import { Attempts, channelOptions, contract, makeCredentials, sleep } from "./connection.js";
import type { RetryOptions } from "./connection.js";
import { errorFrom, ExpertdError } from "./errors.js";
import type { GenerateRequest } from "./generated/expertd/v1/GenerateRequest.js";
import type { GenerateResponse__Output } from "./generated/expertd/v1/GenerateResponse.js";
import type { GetLoadResponse__Output } from "./generated/expertd/v1/GetLoadResponse.js";
import type { GetModelResponse__Output } from "./generated/expertd/v1/GetModelResponse.js";
import type { GetServerInfoResponse__Output } from "./generated/expertd/v1/GetServerInfoResponse.js";
import type { ListModelsResponse__Output } from "./generated/expertd/v1/ListModelsResponse.js";
import type { Load__Output } from "./generated/expertd/v1/Load.js";
import type { Model__Output } from "./generated/expertd/v1/Model.js";
import type { StreamGenerateResponse__Output } from "./generated/expertd/v1/StreamGenerateResponse.js";
import type { DetokenizeResponse__Output } from "./generated/expertd/v1/DetokenizeResponse.js";
import type { RenderChatResponse__Output } from "./generated/expertd/v1/RenderChatResponse.js";
import type { TokenizeResponse__Output } from "./generated/expertd/v1/TokenizeResponse.js";
import { makeRequest, turnsOf } from "./requests.js";
import type { Message, Prompt, Settings } from "./requests.js";
import { Collector, generationFrom } from "./results.js";
import type { Delta, Generation } from "./results.js";

export interface ClientOptions {
  /** HOST:PORT or unix:PATH. Default 127.0.0.1:50051. */
  target?: string;
  /** Sent with each call. */
  apiKey?: string;
  /** With the system's authorities. */
  tls?: boolean;
  /** TLS with the authorities of a PEM file. */
  caFile?: string;
  /** What a call may take, attempts and pauses included. Default: no limit. */
  timeoutMs?: number;
  retry?: RetryOptions;
  /** Of gRPC, beside our own. */
  channelOptions?: grpc.ChannelOptions;
}

export interface CallOptions {
  /** Cancels the call, on the server too. */
  signal?: AbortSignal;
  timeoutMs?: number;
}

type Callback<T> = (error: grpc.ServiceError | null, response?: T) => void;
type Starter = (options: grpc.CallOptions) => grpc.ClientReadableStream<StreamGenerateResponse__Output>;

const cancelled = (requestId: string) => new ExpertdError("CANCELLED", "cancelled", { requestId });

/** The deltas of one answer, as they come. Leaving the loop early cancels what is left. */
export class Stream implements AsyncIterable<Delta> {
  private readonly collector = new Collector();
  private call: ReturnType<Starter> | undefined;
  private readonly abort = new AbortController();  // by cancel

  constructor(
    private readonly start: Starter,
    private readonly attempts: Attempts,
    private readonly requestId: string,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** Once. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Delta, void, undefined> {
    const onAbort = () => this.cancel();
    this.signal?.addEventListener("abort", onAbort, { once: true });
    if (this.signal?.aborted) this.abort.abort();
    try {
      for (let hasBegun = false; ; ) {
        if (this.abort.signal.aborted) throw cancelled(this.requestId);
        this.call = this.start(this.attempts.callOptions);
        try {
          for await (const event of this.call) {
            hasBegun = true;
            const delta = this.collector.add(event as StreamGenerateResponse__Output);
            if (delta) yield delta;
          }
          if (this.collector.isWhole) return;
          throw new ExpertdError("INTERNAL", "the stream ended without its summary", { requestId: this.requestId });
        } catch (failure) {
          const error = errorFrom(failure, this.requestId, this.abort.signal.aborted);
          const pause = hasBegun ? undefined : this.attempts.pauseAfter(error);
          if (pause === undefined) throw error;
          await sleep(pause, this.abort.signal);
        }
      }
    } finally {
      this.signal?.removeEventListener("abort", onAbort);
      this.call?.cancel();
    }
  }

  /** The whole answer. Throws before the last delta was taken. */
  get generation(): Generation {
    return this.collector.generation();
  }

  cancel(): void {
    this.abort.abort();
    this.call?.cancel();
  }
}

/** A connection to a server. Its methods may be called at once, any number of them; each throws an ExpertdError. */
export class Client {
  private readonly metadata = new grpc.Metadata();
  private readonly inference: InstanceType<typeof contract.InferenceService>;
  private readonly tokenizer: InstanceType<typeof contract.TokenizerService>;
  private readonly modelService: InstanceType<typeof contract.ModelService>;
  private readonly control: InstanceType<typeof contract.ControlService>;

  constructor(private readonly options: ClientOptions = {}) {
    const target = options.target ?? "127.0.0.1:50051";
    const credentials = makeCredentials(options.tls ?? false, options.caFile);
    if (options.apiKey) this.metadata.set("authorization", `Bearer ${options.apiKey}`);
    const channel = { ...channelOptions, ...options.channelOptions };
    this.inference = new contract.InferenceService(target, credentials, channel);
    const shared = { ...channel, channelOverride: this.inference.getChannel() };
    this.tokenizer = new contract.TokenizerService(target, credentials, shared);
    this.modelService = new contract.ModelService(target, credentials, shared);
    this.control = new contract.ControlService(target, credentials, shared);
  }

  close(): void {
    this.inference.close();
  }

  /** The whole answer to a text, token ids, or a conversation. */
  async generate(prompt: Prompt, settings: Settings = {}, options: CallOptions = {}): Promise<Generation> {
    return generationFrom(await this.call(makeRequest(prompt, settings), options));
  }

  /** The answer as it is written. */
  stream(prompt: Prompt, settings: Settings = {}, options: CallOptions = {}): Stream {
    return this.streamCall(makeRequest(prompt, settings), options);
  }

  /** As generate, for a conversation; a text is the user's one turn. */
  chat(messages: string | readonly Message[], settings: Settings = {}, options: CallOptions = {}): Promise<Generation> {
    return this.generate(turnsOf(messages), settings, options);
  }

  streamChat(messages: string | readonly Message[], settings: Settings = {}, options: CallOptions = {}): Stream {
    return this.stream(turnsOf(messages), settings, options);
  }

  /** Generate, in the contract's own messages. */
  call(request: GenerateRequest, options: CallOptions = {}): Promise<GenerateResponse__Output> {
    return this.unary<GenerateResponse__Output>(
      (metadata, call, done) => this.inference.generate(request, metadata, call, done), options, request.requestId);
  }

  /** StreamGenerate, for a request of the contract. */
  streamCall(request: GenerateRequest, options: CallOptions = {}): Stream {
    return new Stream(
      (call) => this.inference.streamGenerate(request, this.metadata, call),
      this.attemptsOf(options), request.requestId ?? "", options.signal);
  }

  async tokenize(text: string, addSpecialTokens?: boolean, options: CallOptions = {}): Promise<number[]> {
    const request = addSpecialTokens === undefined ? { texts: [text] } : { texts: [text], addSpecialTokens };
    const response = await this.unary<TokenizeResponse__Output>(
      (metadata, call, done) => this.tokenizer.tokenize(request, metadata, call, done), options);
    return response.results[0]?.ids ?? [];
  }

  async detokenize(ids: readonly number[], skipSpecialTokens?: boolean, options: CallOptions = {}): Promise<string> {
    const sequences = [{ ids: [...ids] }];
    const request = skipSpecialTokens === undefined ? { sequences } : { sequences, skipSpecialTokens };
    const response = await this.unary<DetokenizeResponse__Output>(
      (metadata, call, done) => this.tokenizer.detokenize(request, metadata, call, done), options);
    return response.texts[0] ?? "";
  }

  /** The prompt that a conversation becomes. */
  async renderChat(messages: string | readonly Message[], settings: Settings = {},
                   options: CallOptions = {}): Promise<string> {
    const { model, chat } = makeRequest(turnsOf(messages), settings);
    const response = await this.unary<RenderChatResponse__Output>(
      (metadata, call, done) => this.tokenizer.renderChat({ model: model ?? "", chat: chat ?? {} }, metadata, call, done), options);
    return response.text;
  }

  /** The model of that name; by default the one that is served. */
  async model(name = "", options: CallOptions = {}): Promise<Model__Output> {
    const response = await this.unary<GetModelResponse__Output>(
      (metadata, call, done) => this.modelService.getModel({ name }, metadata, call, done), options);
    if (!response.model) throw new ExpertdError("INTERNAL", "the server names no model");
    return response.model;
  }

  /** All models. `timeoutMs` is that of each page. */
  async models(options: CallOptions = {}): Promise<Model__Output[]> {
    const models: Model__Output[] = [];
    for (let pageToken = ""; ; ) {
      const response = await this.unary<ListModelsResponse__Output>(
        (metadata, call, done) => this.modelService.listModels({ pageToken }, metadata, call, done), options);
      models.push(...response.models);
      pageToken = response.nextPageToken;
      if (!pageToken) return models;
    }
  }

  serverInfo(options: CallOptions = {}): Promise<GetServerInfoResponse__Output> {
    return this.unary<GetServerInfoResponse__Output>(
      (metadata, call, done) => this.control.getServerInfo({}, metadata, call, done), options);
  }

  /** What the server does now: requests that run and wait, blocks of the cache, tokens a second. */
  async load(options: CallOptions = {}): Promise<Load__Output> {
    const response = await this.unary<GetLoadResponse__Output>(
      (metadata, call, done) => this.control.getLoad({}, metadata, call, done), options);
    if (!response.load) throw new ExpertdError("INTERNAL", "the server tells no load");
    return response.load;
  }

  /** Whether a server answers, and takes requests. */
  async isReady(timeoutMs = 5000): Promise<boolean> {
    try {
      const load = await this.load({ timeoutMs });
      return load.healthy && !load.draining;
    } catch {
      return false;
    }
  }

  private attemptsOf(options: CallOptions): Attempts {
    return new Attempts(this.options.retry ?? {}, options.timeoutMs ?? this.options.timeoutMs);
  }

  private async unary<T>(
    start: (metadata: grpc.Metadata, options: grpc.CallOptions, done: Callback<T>) => grpc.ClientUnaryCall,
    options: CallOptions, requestId = ""): Promise<T> {
    const { signal } = options;
    const attempts = this.attemptsOf(options);
    for (;;) {
      if (signal?.aborted) throw cancelled(requestId);
      try {
        return await new Promise<T>((resolve, reject) => {
          const onAbort = () => call.cancel();
          const call = start(this.metadata, attempts.callOptions, (error, response) => {
            signal?.removeEventListener("abort", onAbort);
            if (error) reject(error);
            else resolve(response as T);
          });
          signal?.addEventListener("abort", onAbort, { once: true });
        });
      } catch (failure) {
        const error = errorFrom(failure, requestId, signal?.aborted ?? false);
        const pause = attempts.pauseAfter(error);
        if (pause === undefined) throw error;
        await sleep(pause, signal);
      }
    }
  }
}
