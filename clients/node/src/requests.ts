/** Plain objects to a request of the contract. */
import type { GenerateRequest } from "./generated/expertd/v1/GenerateRequest.js";
import type { Struct } from "./generated/google/protobuf/Struct.js";
import type { Value } from "./generated/google/protobuf/Value.js";

/** A turn of a conversation. */
export interface Message {
  role: "system" | "developer" | "user" | "assistant" | "tool";
  content?: string | null;
  name?: string;
  /** Of an assistant turn. */
  reasoning?: string;
  /** Of an assistant turn; `arguments` is an object, or JSON. */
  toolCalls?: { id?: string; name: string; arguments: unknown }[];
  /** Of a tool's answer. */
  toolCallId?: string;
}

/** A function that the model may call; `parameters` is a JSON Schema. */
export interface Tool {
  name: string;
  description?: string;
  parameters?: unknown;
  strict?: boolean;
}

/** Text, token ids, or the turns of a conversation. */
export type Prompt = string | readonly number[] | readonly Message[];

/** What a request may set; ranges and defaults are in the contract (api/expertd/v1/inference.proto). */
export interface Settings {
  model?: string;
  // Sampling.
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  repetitionPenalty?: number;
  frequencyPenalty?: number;
  presencePenalty?: number;
  seed?: number | bigint;
  n?: number;
  logitBias?: Record<number, number>;
  allowedTokenIds?: number[];
  badWords?: string[];
  // The end.
  maxTokens?: number;
  minTokens?: number;
  stop?: string | string[];
  stopTokenIds?: number[];
  includeStopInOutput?: boolean;
  ignoreEos?: boolean;
  /** What is written by then is the answer. */
  timeLimitMs?: number;
  // What comes back.
  /** Log-probabilities of the tokens, and of so many others at each place. */
  logprobs?: number;
  promptLogprobs?: number;
  tokenIds?: boolean;
  echo?: boolean;
  skipSpecialTokens?: boolean;
  /** Default true. */
  separateReasoning?: boolean;
  timing?: boolean;
  // The form of the output; one of them.
  jsonSchema?: unknown;
  jsonObject?: boolean;
  regex?: string;
  grammar?: string;
  choices?: string[];
  // Conversations.
  tools?: Tool[];
  /** "auto", "none", "required", or the name of a tool. */
  toolChoice?: string;
  parallelToolCalls?: boolean;
  /** Such as {enable_thinking: false}. */
  templateKwargs?: Record<string, unknown>;
  reasoningEffort?: "none" | "minimal" | "low" | "medium" | "high";
  // Texts.
  addSpecialTokens?: boolean;
  truncateTo?: number;
  // Scheduling and caching.
  priority?: number;
  queueTimeoutMs?: number;
  bypassPrefixCache?: boolean;
  cacheSalt?: string;
  requestId?: string;
  user?: string;
}

const ROLES: readonly string[] = ["system", "developer", "user", "assistant", "tool"];
// The compiler sees to it that none is left out.
const NAMES: Record<keyof Settings, true> = {
  model: true, temperature: true, topP: true, topK: true, minP: true, repetitionPenalty: true, frequencyPenalty: true,
  presencePenalty: true, seed: true, n: true, logitBias: true, allowedTokenIds: true, badWords: true, maxTokens: true,
  minTokens: true, stop: true, stopTokenIds: true, includeStopInOutput: true, ignoreEos: true, timeLimitMs: true,
  logprobs: true, promptLogprobs: true, tokenIds: true, echo: true, skipSpecialTokens: true, separateReasoning: true,
  timing: true, jsonSchema: true, jsonObject: true, regex: true, grammar: true, choices: true, tools: true,
  toolChoice: true, parallelToolCalls: true, templateKwargs: true, reasoningEffort: true, addSpecialTokens: true,
  truncateTo: true, priority: true, queueTimeoutMs: true, bypassPrefixCache: true, cacheSalt: true, requestId: true,
  user: true,
};
const FORMS = ["jsonSchema", "jsonObject", "regex", "grammar", "choices"] as const;
const OF_CHATS = ["tools", "toolChoice", "parallelToolCalls", "templateKwargs", "reasoningEffort"] as const;
const OF_TEXTS = ["addSpecialTokens", "truncateTo"] as const;

const json = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));
const list = <T>(value: T | T[]): T[] => (Array.isArray(value) ? value : [value]);

function duration(ms: number | undefined) {
  if (ms === undefined) return undefined;
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

function valueOf(value: unknown): Value {
  if (value === null || value === undefined) return { nullValue: "NULL_VALUE" };
  if (typeof value === "boolean") return { boolValue: value };
  if (typeof value === "number") return { numberValue: value };
  if (typeof value === "string") return { stringValue: value };
  if (Array.isArray(value)) return { listValue: { values: value.map(valueOf) } };
  return { structValue: structOf(value as Record<string, unknown>) };
}

function structOf(object: Record<string, unknown>): Struct {
  return { fields: Object.fromEntries(Object.entries(object).map(([name, value]) => [name, valueOf(value)])) };
}

function toolChoiceOf(choice: string | undefined) {
  if (choice === undefined) return undefined;
  if (["auto", "none", "required"].includes(choice)) return { mode: `MODE_${choice.toUpperCase()}` as "MODE_AUTO" };
  return { functionName: choice };
}

/** The turns of a conversation; a text is the user's one turn. Throws a TypeError when there are none. */
export function turnsOf(messages: string | readonly Message[]): readonly Message[] {
  if (typeof messages === "string") return [{ role: "user", content: messages }];
  if (messages.length === 0) throw new TypeError("the conversation has no turns");
  return messages;
}

function roleOf(message: Message): "ROLE_USER" {
  if (ROLES.includes(message.role)) return `ROLE_${message.role.toUpperCase()}` as "ROLE_USER";
  throw new TypeError(`the role of a turn is ${message.role}; must be one of ${ROLES.join(", ")}`);
}

function chatOf(messages: readonly Message[], settings: Settings): GenerateRequest["chat"] {
  return {
    messages: messages.map((message) => ({
      role: roleOf(message),
      parts: message.content === undefined || message.content === null ? [] : [{ text: message.content }],
      name: message.name ?? "",
      reasoning: message.reasoning ?? "",
      toolCallId: message.toolCallId ?? "",
      toolCalls: (message.toolCalls ?? []).map((call) => ({
        id: call.id ?? "",
        name: call.name,
        argumentsJson: json(call.arguments),
      })),
    })),
    tools: (settings.tools ?? []).map((tool) => ({
      function: {
        name: tool.name,
        description: tool.description ?? "",
        parametersJsonSchema: tool.parameters === undefined ? "" : json(tool.parameters),
        strict: tool.strict,
      },
    })),
    toolChoice: toolChoiceOf(settings.toolChoice),
    parallelToolCalls: settings.parallelToolCalls,
    templateKwargs: settings.templateKwargs && structOf(settings.templateKwargs),
    reasoningEffort: settings.reasoningEffort &&
      (`REASONING_EFFORT_${settings.reasoningEffort.toUpperCase()}` as "REASONING_EFFORT_LOW"),
  };
}

function structuredOf(settings: Settings): GenerateRequest["structured"] {
  if (settings.jsonSchema !== undefined) return { jsonSchema: json(settings.jsonSchema) };
  if (settings.jsonObject) return { jsonObject: {} };
  if (settings.regex !== undefined) return { regex: settings.regex };
  if (settings.grammar !== undefined) return { grammar: settings.grammar };
  if (settings.choices !== undefined) return { choices: { values: settings.choices } };
  return undefined;
}

function check(settings: Settings, isChat: boolean, isText: boolean): void {
  const unknown = Object.keys(settings).find((name) => !Object.hasOwn(NAMES, name));
  if (unknown !== undefined) throw new TypeError(`there is no setting ${unknown}`);
  for (const name of [...(isChat ? [] : OF_CHATS), ...(isText ? [] : OF_TEXTS)]) {
    if (settings[name] !== undefined) throw new TypeError(`${name} has no meaning for this kind of prompt`);
  }
  const forms = FORMS.filter((name) => settings[name] !== undefined && settings[name] !== false);
  if (forms.length > 1) throw new TypeError(`${forms[0]} and ${forms[1]} exclude each other`);
}

/** Without members that are undefined: the loader takes them for values. */
function compact<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}

/** Throws a TypeError for what no request can have; what the server's limits allow is its to say. */
export function makeRequest(prompt: Prompt, settings: Settings = {}): GenerateRequest {
  const isText = typeof prompt === "string";
  const isChat = !isText && typeof prompt[0] === "object";
  check(settings, isChat, isText);
  const input: GenerateRequest = isText
    ? { text: compact({ text: prompt, addSpecialTokens: settings.addSpecialTokens, truncateTo: settings.truncateTo }) }
    : isChat
      ? { chat: compact(chatOf(prompt as readonly Message[], settings) ?? {}) }
      : { tokens: { ids: [...(prompt as readonly number[])] } };
  const top = (count: number | undefined) => (count === undefined ? undefined : { topN: count });
  return compact({
    ...input,
    model: settings.model,
    requestId: settings.requestId,
    user: settings.user,
    sampling: compact({
      temperature: settings.temperature,
      topP: settings.topP,
      topK: settings.topK,
      minP: settings.minP,
      repetitionPenalty: settings.repetitionPenalty,
      frequencyPenalty: settings.frequencyPenalty,
      presencePenalty: settings.presencePenalty,
      seed: settings.seed?.toString(),
      n: settings.n,
      logitBias: Object.entries(settings.logitBias ?? {}).map(([token, bias]) => ({ tokenId: Number(token), bias })),
      allowedTokenIds: settings.allowedTokenIds,
      badWords: settings.badWords,
    }),
    stop: compact({
      maxTokens: settings.maxTokens,
      minTokens: settings.minTokens,
      strings: settings.stop === undefined ? undefined : list(settings.stop),
      tokenIds: settings.stopTokenIds,
      includeStopInOutput: settings.includeStopInOutput,
      ignoreEos: settings.ignoreEos,
      timeLimit: duration(settings.timeLimitMs),
    }),
    output: compact({
      logprobs: top(settings.logprobs),
      promptLogprobs: top(settings.promptLogprobs),
      tokenIds: settings.tokenIds,
      echo: settings.echo,
      skipSpecialTokens: settings.skipSpecialTokens,
      timing: settings.timing,
      separateReasoning: settings.separateReasoning ?? true,
      parseToolCalls: (settings.tools ?? []).length > 0,
    }),
    structured: structuredOf(settings),
    scheduling: compact({ priority: settings.priority, queueTimeout: duration(settings.queueTimeoutMs) }),
    cache: compact({ bypassPrefixCache: settings.bypassPrefixCache, salt: settings.cacheSalt }),
  });
}
