// What the page says, in English and Chinese. Elements name their words by data-text, data-label or data-placeholder.

const ENGLISH = {
  otherLanguage: "中文",
  tabs: "Views", chat: "Chat", completion: "Completion", status: "Status", settings: "Settings",
  theme: "Theme: {0}", themeLight: "Light", themeDark: "Dark", themeAuto: "Auto",
  conversation: "Conversation", message: "Message", messageHint: "Write a message",
  keys: "Enter sends, Shift+Enter begins a line, Esc stops",
  welcome: "Ask something to begin. What you write goes to this server and nowhere else.",
  send: "Send", stop: "Stop", clear: "Clear", copy: "Copy", copied: "Copied", regenerate: "Regenerate",
  you: "You", model: "Model", reasoning: "Reasoning", thinking: "Reasoning …",
  text: "Text", textHint: "Write the beginning of a text; the model continues it.",
  complete: "Continue", undo: "Undo", completionKeys: "Ctrl+Enter continues, Esc stops",
  system: "System prompt", temperature: "Temperature", top_p: "Top p", top_k: "Top k", min_p: "Min p",
  max_tokens: "Most tokens", seed: "Seed", stopTexts: "Stop at (one text a line)",
  repetition_penalty: "Repetition penalty", presence_penalty: "Presence penalty",
  frequency_penalty: "Frequency penalty", byServer: "default",
  apiKey: "API key", apiKeyHint: "kept until this tab closes", reset: "Reset settings",
  firstToken: "first token {0} s", speed: "{0} tokens/s", tokens: "{0} tokens in, {1} out", waiting: "Waiting …",
  ended_stop: "complete", ended_length: "cut off: token limit", ended_tool_calls: "calls a tool",
  ended_stopped: "stopped by you", ended_error: "ended by an error", ended_matched: "stopped at “{0}”",
  errorNetwork: "The server can't be reached. Is it running? Try again in a moment.",
  errorCut: "The connection broke before the answer was complete. Try again.",
  errorKey: "This server wants an API key: enter a valid one under Settings.",
  errorLong: "The text is longer than the model can read. Shorten or clear it, or lower “Most tokens”.",
  errorBusy: "The server is full. Try again in {0} s.",
  errorNotReady: "The server is starting or stopping. Try again in a moment.",
  errorSetting: "The server refuses the setting “{0}”. Change it under Settings.",
  errorRequest: "The server refuses this request.",
  errorServer: "The server failed on this request. If it happens again, its log says more.",
  serverSays: "The server says: {0}",
  running: "Running", waitingRequests: "Waiting", kvUse: "KV cache in use", throughput: "Tokens per second",
  output: "output", prompt: "prompt", firstTokenTime: "Time to first token", latency: "Time of a request",
  betweenTokens: "Time between tokens", batch: "Sequences per step", requests: "Requests", half: "median",
  p90: "p90", average: "average", version: "version", isa: "instructions", contextLength: "context",
  threads: "threads", weights: "weights",
  live: "Figures of the last three minutes, every 2 s while this page is visible.",
  noFigures: "This server shows no figures here.",
  inUse: "in use", prefixHits: "Prefix cache hits", share: "of prompt tokens",
  ends: "Requests per second", finished: "ended", rejected: "refused",
};

const CHINESE = {
  otherLanguage: "English",
  tabs: "视图", chat: "对话", completion: "续写", status: "状态", settings: "设置",
  theme: "主题：{0}", themeLight: "浅色", themeDark: "深色", themeAuto: "自动",
  conversation: "对话内容", message: "消息", messageHint: "输入消息",
  keys: "Enter 发送，Shift+Enter 换行，Esc 停止",
  welcome: "输入问题即可开始。您输入的内容只会发送到本服务器。",
  send: "发送", stop: "停止", clear: "清空", copy: "复制", copied: "已复制", regenerate: "重新生成",
  you: "我", model: "模型", reasoning: "思考过程", thinking: "思考中…",
  text: "文本", textHint: "输入文本的开头，由模型继续写下去。",
  complete: "续写", undo: "撤销", completionKeys: "Ctrl+Enter 续写，Esc 停止",
  system: "系统提示词", temperature: "温度", top_p: "Top p", top_k: "Top k", min_p: "Min p",
  max_tokens: "最大词元数", seed: "随机种子", stopTexts: "停止文本（每行一个）",
  repetition_penalty: "重复惩罚", presence_penalty: "存在惩罚", frequency_penalty: "频率惩罚", byServer: "默认",
  apiKey: "API 密钥", apiKeyHint: "仅保留到此标签页关闭", reset: "恢复默认设置",
  firstToken: "首词元 {0} 秒", speed: "{0} 词元/秒", tokens: "输入 {0}、输出 {1} 词元", waiting: "等待中…",
  ended_stop: "已完成", ended_length: "已截断：达到词元上限", ended_tool_calls: "调用工具",
  ended_stopped: "已由您停止", ended_error: "因错误结束", ended_matched: "遇到“{0}”停止",
  errorNetwork: "无法连接服务器。请确认它正在运行，稍后重试。",
  errorCut: "回答尚未完成，连接就中断了。请重试。",
  errorKey: "此服务器需要 API 密钥：请在“设置”中填写有效的密钥。",
  errorLong: "文本长度超出模型上限。请缩短或清空，或减小“最大词元数”。",
  errorBusy: "服务器已满，请在 {0} 秒后重试。",
  errorNotReady: "服务器正在启动或停止，请稍后重试。",
  errorSetting: "服务器不接受设置“{0}”。请在“设置”中修改。",
  errorRequest: "服务器不接受此请求。",
  errorServer: "服务器处理此请求时出错。如果再次发生，请查看服务器日志。",
  serverSays: "服务器信息：{0}",
  running: "运行中", waitingRequests: "排队中", kvUse: "KV 缓存占用", throughput: "每秒词元数",
  output: "输出", prompt: "输入", firstTokenTime: "首词元延迟", latency: "请求总时长",
  betweenTokens: "词元间隔", batch: "每步序列数", requests: "请求", half: "中位数",
  p90: "p90", average: "平均", version: "版本", isa: "指令集", contextLength: "上下文",
  threads: "线程", weights: "权重",
  live: "最近三分钟的数据，页面可见时每 2 秒更新。",
  noFigures: "本服务器不在此处提供数据。",
  inUse: "占用", prefixHits: "前缀缓存命中", share: "占输入词元",
  ends: "每秒请求数", finished: "已结束", rejected: "已拒绝",
};

let words = ENGLISH;

// The words for `name`, with {0}, {1} ... replaced by `values`.
export function text(name, ...values) {
  return (words[name] ?? name).replace(/\{(\d)\}/g, (_, i) => values[i]);
}

export function language() {
  return words === CHINESE ? "zh" : "en";
}

// Says everything that is on the page in "en" or "zh", and tells listeners of "languagechange" on the document.
export function setLanguage(name) {
  words = name === "zh" ? CHINESE : ENGLISH;
  document.documentElement.lang = name === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text], [data-label], [data-placeholder]")) say(element);
  document.querySelector("#language").lang = name === "zh" ? "en" : "zh-CN";
  document.dispatchEvent(new Event("languagechange"));
}

// Gives an element the words that its data attributes name.
export function say(element) {
  const { text: name, label, placeholder } = element.dataset;
  if (name) element.textContent = text(name);
  if (label) element.setAttribute("aria-label", text(label));
  if (placeholder) element.placeholder = text(placeholder);
  return element;
}
