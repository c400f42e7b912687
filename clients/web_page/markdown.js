// The Markdown that models write most, as DOM nodes: paragraphs, headings, lists, code fences, quotes; bold, italics
// and code within a line. Whatever else stands there stays as it was written.
import { make } from "./dom.js";

const FENCE = /^\s*(```+|~~~+)\s*([\w+#.-]*)\s*$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const ITEM = /^\s*(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const INLINE = /(`+)(.+?)\1|\*\*(\S(?:.*?\S)?)\*\*|\*(\S(?:[^*]*?\S)?)\*/s;

// The blocks of `source`; an unfinished one, as in the middle of a stream, counts as finished.
export function renderMarkdown(source) {
  const lines = source.split("\n");
  const blocks = document.createDocumentFragment();
  while (lines.length > 0) {
    if (lines[0].trim() === "") lines.shift();
    else blocks.append(takeBlock(lines));
  }
  return blocks;
}

// Removes the lines of one block and returns its element.
function takeBlock(lines) {
  const heading = HEADING.exec(lines[0]);
  if (FENCE.test(lines[0])) return takeFence(lines);
  if (ITEM.test(lines[0])) return takeList(lines);
  if (heading) {
    lines.shift();
    return make("p", { className: "heading" }, ...renderInline(heading[2]));
  }
  if (lines[0].startsWith(">")) {
    const quoted = takeWhile(lines, (line) => line.startsWith(">")).map((line) => line.replace(/^>\s?/, ""));
    return make("blockquote", {}, ...renderInline(quoted.join("\n")));
  }
  const first = lines.shift();
  const rest = takeWhile(lines, (line) => line.trim() !== "" && !FENCE.test(line) && !ITEM.test(line) &&
    !HEADING.test(line) && !line.startsWith(">"));
  return make("p", {}, ...renderInline([first, ...rest].join("\n")));
}

function takeFence(lines) {
  const [, mark] = FENCE.exec(lines.shift());
  const code = takeWhile(lines, (line) => !line.trim().startsWith(mark));
  lines.shift();
  return make("pre", {}, make("code", {}, code.join("\n")));
}

function takeList(lines) {
  const number = ITEM.exec(lines[0])[1];
  const list = number === undefined ? make("ul") : make("ol", { start: Number(number) });
  while (lines.length > 0 && ITEM.test(lines[0]) && (ITEM.exec(lines[0])[1] === undefined) === (number === undefined)) {
    const [, , item] = ITEM.exec(lines.shift());
    const more = takeWhile(lines, (line) => /^\s+\S/.test(line) && !ITEM.test(line) && !FENCE.test(line));
    list.append(make("li", {}, ...renderInline([item, ...more.map((line) => line.trim())].join("\n"))));
  }
  return list;
}

function takeWhile(lines, holds) {
  let count = 0;
  while (count < lines.length && holds(lines[count])) ++count;
  return lines.splice(0, count);
}

// Strings and elements; lines stay lines, by the style sheet.
function renderInline(source) {
  const nodes = [];
  for (let rest = source; rest !== "";) {
    const match = INLINE.exec(rest);
    if (!match) return [...nodes, rest];
    if (match.index > 0) nodes.push(rest.slice(0, match.index));
    const [all, , code, bold, italic] = match;
    if (code !== undefined) nodes.push(make("code", {}, code));
    else nodes.push(make(bold !== undefined ? "strong" : "em", {}, ...renderInline(bold ?? italic)));
    rest = rest.slice(match.index + all.length);
  }
  return nodes;
}
