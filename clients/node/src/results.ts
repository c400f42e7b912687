/** What the server answers. */
import type { Candidate__Output } from "./generated/expertd/v1/Candidate.js";
import type { Delta__Output } from "./generated/expertd/v1/Delta.js";
import type { GenerateResponse__Output } from "./generated/expertd/v1/GenerateResponse.js";
import type { StreamGenerateResponse__Output } from "./generated/expertd/v1/StreamGenerateResponse.js";
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

export interface Candidate extends Delta {
  finishReason: FinishReason;
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
  usage: Usage;
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

const warningsOf = (warnings: Warning__Output[]): string[] =>
  warnings.map(({ field, message }) => `${field}: ${message}`);

function generationOf(parts: Pick<Generation, "id" | "model" | "systemFingerprint" | "usage" | "warnings">,
                      candidates: Candidate[]): Generation {
  const [first] = candidates;
  if (first === undefined) throw new Error("an answer without candidates");
  const { text, reasoning, toolCalls, finishReason } = first;
  return { ...parts, text, reasoning, toolCalls, finishReason, candidates };
}

export function generationFrom(response: GenerateResponse__Output): Generation {
  const { id, model, systemFingerprint } = response;
  const parts = { id, model, systemFingerprint, usage: usageOf(response.usage), warnings: warningsOf(response.warnings) };
  return generationOf(parts, response.candidates.map((candidate) => ({
    ...deltaOf(candidate),
    finishReason: finishReasonOf(candidate.finishReason),
    seed: candidate.seed === undefined ? undefined : BigInt(candidate.seed),
  })));
}

/** Makes a stream's events into the answer that Generate would have given. */
export class Collector {
  private parts = { id: "", model: "", systemFingerprint: "", usage: usageOf(null), warnings: [] as string[] };
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
        finishReason: "unspecified", seed: undefined,
      }));
    } else if (event.delta) {
      const delta = deltaOf(event.delta);
      this.append(delta);
      return delta;
    } else if (event.finished) {
      const candidate = this.at(event.finished.index);
      candidate.finishReason = finishReasonOf(event.finished.finishReason);
      if (event.finished.seed !== undefined) candidate.seed = BigInt(event.finished.seed);
    } else if (event.summary) {
      this.parts.usage = usageOf(event.summary.usage);
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
