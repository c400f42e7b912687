/** What the server answers. */
import type { Candidate__Output } from "./generated/expertd/v1/Candidate.js";
import type { Delta__Output } from "./generated/expertd/v1/Delta.js";
import type { Duration__Output } from "./generated/google/protobuf/Duration.js";
import type { GenerateResponse__Output } from "./generated/expertd/v1/GenerateResponse.js";
import type { PromptInfo__Output } from "./generated/expertd/v1/PromptInfo.js";
import type { StopMatch__Output } from "./generated/expertd/v1/StopMatch.js";
import type { StreamGenerateResponse__Output } from "./generated/expertd/v1/StreamGenerateResponse.js";
import type { Timing__Output } from "./generated/expertd/v1/Timing.js";
import type { TokenLogprob__Output } from "./generated/expertd/v1/TokenLogprob.js";
import type { ToolCall__Output } from "./generated/expertd/v1/ToolCall.js";
import type { Usage__Output } from "./generated/expertd/v1/Usage.js";
import type { Warning__Output } from "./generated/expertd/v1/Warning.js";

/** Why a candidate ended, as FinishReason of the contract names it; "unspecified" for one that has not. */
export type FinishReason =
  | "stop" | "stop_sequence" | "max_tokens" | "context_length" | "tool_calls" | "time_limit" | "cancelled"
  | "grammar_dead_end" | "no_valid_token" | "unspecified";

/** In a Delta a piece of a call: `id` and `name` in the first piece alone, arguments to be joined. */
export interface ToolCall {
  index: number;
  id: string;
  name: string;
  argumentsJson: string;
}

export interface TopToken {
  tokenId: number;
  logprob: number;
  text: string;
}

/** A token with its log-probability; rank 1 is the most likely. */
export interface Token extends TopToken {
  rank: number;
  top: TopToken[];
}

/** New output of one candidate. */
export interface Delta {
  index: number;
  text: string;
  reasoning: string;
  toolCalls: ToolCall[];
  tokenIds: number[];
  logprobs: Token[];
  numTokens: number;
}

/** What ended a candidate: one of these. */
export interface StopMatch {
  text?: string;
  tokenId?: number;
  eosTokenId?: number;
}

export interface Candidate extends Delta {
  finishReason: FinishReason;
  stopMatch: StopMatch | undefined;
  /** With this one alone, the same request gives this candidate again. */
  seed: bigint | undefined;
}

export interface Usage {
  promptTokens: number;
  completionTokens: number;
  totalTokens: number;
  cachedPromptTokens: number;
  reasoningTokens: number;
}

/** The prompt, as far as `tokenIds`, `echo` and `promptLogprobs` asked for it. */
export interface PromptInfo {
  numTokens: number;
  numCachedTokens: number;
  tokenIds: number[];
  text: string;
  /** One per token but the first, which has none. */
  logprobs: Token[];
}

/** In milliseconds; the contract's Timing tells what from and what to. */
export interface Timing {
  queueMs: number;
  tokenizeMs: number;
  prefillMs: number;
  timeToFirstTokenMs: number;
  decodeMs: number;
  totalMs: number;
  preemptions: number;
}

/** A whole answer; text, reasoning, toolCalls and finishReason are the first candidate's. */
export interface Generation {
  id: string;
  model: string;
  systemFingerprint: string;
  text: string;
  reasoning: string;
  toolCalls: ToolCall[];
  finishReason: FinishReason;
  candidates: Candidate[];
  prompt: PromptInfo | undefined;
  usage: Usage;
  /** When asked for. */
  timing: Timing | undefined;
  warnings: string[];
}

const finishReasonOf = (reason: string): FinishReason =>
  reason.replace("FINISH_REASON_", "").toLowerCase() as FinishReason;

const toolCallOf = ({ index, id, name, argumentsJson }: ToolCall__Output): ToolCall =>
  ({ index, id, name, argumentsJson });

const tokenOf = (token: TokenLogprob__Output): Token => ({
  tokenId: token.tokenId,
  logprob: token.logprob,
  rank: token.rank,
  text: token.text,
  top: token.top.map(({ tokenId, logprob, text }) => ({ tokenId, logprob, text })),
});

export const deltaOf = (delta: Delta__Output | Candidate__Output): Delta => ({
  index: delta.index,
  text: delta.text,
  reasoning: delta.reasoning,
  toolCalls: delta.toolCalls.map(toolCallOf),
  tokenIds: delta.tokenIds,
  logprobs: delta.logprobs.map(tokenOf),
  numTokens: delta.numTokens,
});

const usageOf = (usage: Usage__Output | null): Usage => ({
  promptTokens: usage?.promptTokens ?? 0,
  completionTokens: usage?.completionTokens ?? 0,
  totalTokens: usage?.totalTokens ?? 0,
  cachedPromptTokens: usage?.cachedPromptTokens ?? 0,
  reasoningTokens: usage?.reasoningTokens ?? 0,
});

const millisecondsOf = (duration: Duration__Output | null): number =>
  duration === null ? 0 : Number(duration.seconds) * 1000 + duration.nanos / 1e6;

const timingOf = (timing: Timing__Output | null): Timing | undefined => timing === null ? undefined : {
  queueMs: millisecondsOf(timing.queue),
  tokenizeMs: millisecondsOf(timing.tokenize),
  prefillMs: millisecondsOf(timing.prefill),
  timeToFirstTokenMs: millisecondsOf(timing.timeToFirstToken),
  decodeMs: millisecondsOf(timing.decode),
  totalMs: millisecondsOf(timing.total),
  preemptions: timing.preemptions,
};

const promptOf = (prompt: PromptInfo__Output | null): PromptInfo | undefined => prompt === null ? undefined : {
  numTokens: prompt.numTokens,
  numCachedTokens: prompt.numCachedTokens,
  tokenIds: prompt.tokenIds,
  text: prompt.text,
  logprobs: prompt.logprobs.map(tokenOf),
};

function stopMatchOf(match: StopMatch__Output | null): StopMatch | undefined {
  if (match?.text !== undefined) return { text: match.text };
  if (match?.tokenId !== undefined) return { tokenId: match.tokenId };
  return match?.eosTokenId === undefined ? undefined : { eosTokenId: match.eosTokenId };
}

const warningsOf = (warnings: Warning__Output[]): string[] =>
  warnings.map(({ field, message }) => `${field}: ${message}`);

type Parts = Omit<Generation, "text" | "reasoning" | "toolCalls" | "finishReason" | "candidates">;

function generationOf(parts: Parts, candidates: Candidate[]): Generation {
  const [first] = candidates;
  if (first === undefined) throw new Error("an answer without candidates");
  const { text, reasoning, toolCalls, finishReason } = first;
  return { ...parts, text, reasoning, toolCalls, finishReason, candidates };
}

export function generationFrom(response: GenerateResponse__Output): Generation {
  const { id, model, systemFingerprint } = response;
  const parts = {
    id, model, systemFingerprint, prompt: promptOf(response.prompt), usage: usageOf(response.usage),
    timing: timingOf(response.timing), warnings: warningsOf(response.warnings),
  };
  return generationOf(parts, response.candidates.map((candidate) => ({
    ...deltaOf(candidate),
    finishReason: finishReasonOf(candidate.finishReason),
    stopMatch: stopMatchOf(candidate.stopMatch),
    seed: candidate.seed === undefined ? undefined : BigInt(candidate.seed),
  })));
}

/** Makes a stream's events into the answer that Generate would have given. */
export class Collector {
  private parts: Parts = {
    id: "", model: "", systemFingerprint: "", prompt: undefined, usage: usageOf(null), timing: undefined, warnings: [],
  };
  private candidates: Candidate[] = [];
  /** All events have come. */
  isWhole = false;

  /** Takes the next event; its delta, if it has one. */
  add(event: StreamGenerateResponse__Output): Delta | undefined {
    if (event.accepted) {
      const { id, model, systemFingerprint, numCandidates, warnings } = event.accepted;
      this.parts = { ...this.parts, id, model, systemFingerprint, warnings: warningsOf(warnings) };
      this.candidates = Array.from({ length: numCandidates }, (_, index) => ({
        index, text: "", reasoning: "", toolCalls: [], tokenIds: [], logprobs: [], numTokens: 0,
        finishReason: "unspecified", stopMatch: undefined, seed: undefined,
      }));
    } else if (event.prompt) {
      this.parts.prompt = promptOf(event.prompt);
    } else if (event.delta) {
      const delta = deltaOf(event.delta);
      this.append(delta);
      return delta;
    } else if (event.finished) {
      const candidate = this.at(event.finished.index);
      candidate.finishReason = finishReasonOf(event.finished.finishReason);
      candidate.stopMatch = stopMatchOf(event.finished.stopMatch);
      if (event.finished.seed !== undefined) candidate.seed = BigInt(event.finished.seed);
    } else if (event.summary) {
      this.parts.usage = usageOf(event.summary.usage);
      this.parts.timing = timingOf(event.summary.timing);
      this.isWhole = true;
    }
    return undefined;
  }

  generation(): Generation {
    if (!this.isWhole) throw new Error("the stream has not ended");
    return generationOf(this.parts, this.candidates);
  }

  private at(index: number): Candidate {
    const candidate = this.candidates[index];
    if (candidate === undefined) throw new Error(`the server writes candidate ${index}, which nobody asked for`);
    return candidate;
  }

  private append(delta: Delta): void {
    const candidate = this.at(delta.index);
    candidate.text += delta.text;
    candidate.reasoning += delta.reasoning;
    candidate.tokenIds.push(...delta.tokenIds);
    candidate.logprobs.push(...delta.logprobs);
    candidate.numTokens += delta.numTokens;
    for (const piece of delta.toolCalls) {
      const begun = candidate.toolCalls[piece.index];
      if (begun === undefined) candidate.toolCalls.push({ ...piece });
      else begun.argumentsJson += piece.argumentsJson;
    }
  }
}
