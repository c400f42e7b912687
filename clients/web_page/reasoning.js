// Reasoning that a server leaves in the text of an answer: up to </think> (DeepSeek, Qwen) or [unused17] (Pangu). The
// mark that begins it may have stood in the prompt.

const MARKS = [["<think>", "</think>"], ["[unused16]", "[unused17]"]];

// Whether `at` is amid `code`: an answer may speak of the mark.
const isInCode = (answer, at) => (answer.slice(0, at).match(/`/g) ?? []).length % 2 === 1;

// {reasoning, content} of an answer, which may be unfinished.
export function splitReasoning(answer) {
  for (const [begin, end] of MARKS) {
    const start = answer.trimStart();
    const at = start.indexOf(end);
    const inside = start.startsWith(begin) ? start.slice(begin.length) : start;
    if (at >= 0 && (inside !== start || !isInCode(start, at))) {
      const content = start.slice(at + end.length).trimStart();
      return { reasoning: inside.slice(0, inside.indexOf(end)).trim(), content };
    }
    if (inside !== start) return { reasoning: inside.trim(), content: "" };
  }
  return { reasoning: "", content: answer };
}
