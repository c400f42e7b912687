#include "engine/foreign_flags.h"

#include <string>
#include <string_view>

#include "engine/base/log.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

enum class Action { kWarns, kRefuses };

struct ForeignFlag {
  const char* name;
  Action action;
  bool takes_value;
  const char* remark;
};

constexpr Action kWarns = Action::kWarns, kRefuses = Action::kRefuses;

// Remarks that several flags share.
constexpr char kNoGraphs[] = "there are no graphs to capture or compile";
constexpr char kNoDownload[] = "nothing is downloaded; the model is a folder on this machine";
constexpr char kNoLora[] = "adapters are not supported";
constexpr char kNoImages[] = "images are not supported";
constexpr char kNoSpeculation[] = "speculative decoding is not supported";
constexpr char kOneRank[] = "only one rank is supported; use --threads";
constexpr char kOneProcess[] = "one process serves one replica";
constexpr char kOwnReplica[] = "run one process per replica";
constexpr char kModelsOwn[] = "it is read from the model folder; change the folder's file";
constexpr char kNoHttp[] = "REST has no such setting here";
constexpr char kNoPlugins[] = "parsers cannot be added; --tool-call-parser names those that there are";
constexpr char kOneBackend[] = "structured output has one backend";

constexpr ForeignFlag kForeignFlags[] = {
    // Where it listens, and HTTP.
    {"--uds", kRefuses, true, "give the socket as --grpc-listen unix:PATH"},
    {"--api-key", kRefuses, true, "a key on the command line is seen by every user; use --api-key-file"},
    {"--root-path", kRefuses, true, kNoHttp},
    {"--middleware", kRefuses, true, kNoHttp},
    {"--ssl-cert-reqs", kRefuses, true, "clients must show a certificate when --ssl-ca-certs is given"},
    {"--enable-ssl-refresh", kWarns, false, "TLS files are always read again, every --ssl-refresh-interval"},
    {"--allow-credentials", kWarns, false, kNoHttp},
    {"--allowed-origins", kWarns, true, kNoHttp},
    {"--allowed-methods", kWarns, true, kNoHttp},
    {"--allowed-headers", kWarns, true, kNoHttp},
    {"--disable-fastapi-docs", kWarns, false, kNoHttp},
    {"--disable-frontend-multiprocessing", kWarns, false, kOneProcess},
    {"--api-server-count", kWarns, true, kOneProcess},
    {"--uvicorn-log-level", kWarns, true, kNoHttp},
    {"--disable-uvicorn-access-log", kWarns, false, kNoHttp},
    {"--enable-request-id-headers", kWarns, false, "every answer carries its request id"},
    {"--return-tokens-as-token-ids", kWarns, false, "a request asks for ids by output.token_ids"},
    {"--enable-prompt-tokens-details", kWarns, false, "cached prompt tokens are always in the usage"},
    {"--enable-force-include-usage", kWarns, false, "usage is always sent"},
    {"--enable-server-load-tracking", kWarns, false, "load is always told, by ControlService.GetLoad"},
    // Logs.
    {"--disable-log-requests", kWarns, false, "requests are logged only with --enable-log-requests"},
    {"--no-enable-log-requests", kWarns, false, "requests are logged only with --enable-log-requests"},
    {"--disable-log-stats", kWarns, false, "statistics are metrics, not log lines"},
    {"--max-log-len", kWarns, true, "the text of requests is never logged"},
    {"--log-config-file", kWarns, true, "log lines go to standard error"},
    {"--otlp-traces-endpoint", kRefuses, true, "traces are not sent; latencies are in the metrics"},
    {"--collect-detailed-traces", kRefuses, true, "traces are not sent; latencies are in the metrics"},
    {"--show-hidden-metrics-for-version", kWarns, true, "no metric is hidden"},
    // The model and how it is read.
    {"--trust-remote-code", kWarns, false, "nothing from a model folder is ever executed"},
    {"--seed", kWarns, true, "a request without a seed draws one, which its answer tells"},
    {"--download-dir", kWarns, true, kNoDownload},
    {"--revision", kRefuses, true, kNoDownload},
    {"--code-revision", kWarns, true, "nothing from a model folder is ever executed"},
    {"--tokenizer-revision", kRefuses, true, kNoDownload},
    {"--hf-token", kWarns, true, kNoDownload},
    {"--ignore-patterns", kWarns, true, kNoDownload},
    {"--hf-config-path", kRefuses, true, kModelsOwn},
    {"--hf-overrides", kRefuses, true, "change the folder's config.json"},
    {"--rope-scaling", kRefuses, true, "change the folder's config.json"},
    {"--rope-theta", kRefuses, true, "change the folder's config.json"},
    {"--generation-config", kRefuses, true, kModelsOwn},
    {"--override-generation-config", kRefuses, true, "change the folder's generation_config.json"},
    {"--tokenizer", kRefuses, true, kModelsOwn},
    {"--tokenizer-mode", kWarns, true, "there is one way to read a tokenizer"},
    {"--skip-tokenizer-init", kRefuses, false, "a folder without a tokenizer is served with token ids only"},
    {"--chat-template", kRefuses, true, kModelsOwn},
    {"--chat-template-content-format", kWarns, true, "the shape of content is read from the template"},
    {"--response-role", kRefuses, true, "the role is the assistant's"},
    {"--model-impl", kWarns, true, "each architecture has one implementation"},
    {"--config-format", kWarns, true, "config.json is read"},
    {"--runner", kWarns, true, "models generate; there is nothing else to run"},
    {"--task", kWarns, true, "models generate; there is nothing else to run"},
    {"--disable-sliding-window", kWarns, false, "sliding windows are not supported; such models are refused"},
    {"--model-loader-extra-config", kWarns, true, "safetensors files are mapped"},
    {"--safetensors-load-strategy", kWarns, true, "safetensors files are mapped"},
    {"--use-tqdm-on-load", kWarns, false, "there is no such bar"},
    {"--device", kWarns, true, "expertd runs on CPUs"},
    {"--logits-processors", kRefuses, true, "nothing from outside is ever executed"},
    {"--logits-processor-pattern", kRefuses, true, "nothing from outside is ever executed"},
    {"--enable-sleep-mode", kRefuses, false, "weights stay loaded until the process ends"},
    {"--enable-prompt-embeds", kRefuses, false, "prompts are text, chats or token ids"},
    // Graphs and compilation.
    {"--enforce-eager", kWarns, false, kNoGraphs},
    {"--max-seq-len-to-capture", kWarns, true, kNoGraphs},
    {"--cuda-graph-sizes", kWarns, true, kNoGraphs},
    {"--compilation-config", kWarns, true, kNoGraphs},
    {"-O", kWarns, true, kNoGraphs},
    {"--additional-config", kWarns, true, "its settings are those of other backends"},
    // Scheduling and the KV cache.
    {"--enable-chunked-prefill", kWarns, false, "prefill is always chunked"},
    {"--no-enable-chunked-prefill", kRefuses, false, "prefill is always chunked"},
    {"--scheduling-policy", kWarns, true, "priorities of requests are always kept, with ageing; equal ones in order"},
    {"--async-scheduling", kWarns, false, "planning a step takes microseconds"},
    {"--num-scheduler-steps", kWarns, true, "every step is planned anew"},
    {"--max-num-partial-prefills", kWarns, true, "as many prefills as fit a step go on at once"},
    {"--max-long-partial-prefills", kWarns, true, "as many prefills as fit a step go on at once"},
    {"--preemption-mode", kWarns, true, "preempted sequences are recomputed, not swapped"},
    {"--swap-space", kWarns, true, "preempted sequences are recomputed, not swapped"},
    {"--cpu-offload-gb", kWarns, true, "expertd runs on CPUs"},
    {"--prefix-caching-hash-algo", kWarns, true, "one keyed hash of 128 bits is used, and tokens are compared"},
    {"--calculate-kv-scales", kWarns, false, "no scales of the KV cache are calibrated"},
    {"--kv-transfer-config", kRefuses, true, "KV caches are not moved between processes"},
    {"--kv-events-config", kRefuses, true, "events of the KV cache are not published"},
    // Ranks.
    {"--tensor-parallel-size", kRefuses, true, kOneRank},
    {"--pipeline-parallel-size", kRefuses, true, kOneRank},
    {"--data-parallel-size", kRefuses, true, kOwnReplica},
    {"--data-parallel-size-local", kRefuses, true, kOwnReplica},
    {"--data-parallel-rank", kRefuses, true, kOwnReplica},
    {"--data-parallel-start-rank", kRefuses, true, kOwnReplica},
    {"--data-parallel-address", kRefuses, true, kOwnReplica},
    {"--data-parallel-rpc-port", kRefuses, true, kOwnReplica},
    {"--data-parallel-backend", kRefuses, true, kOwnReplica},
    {"--nnodes", kRefuses, true, kOneRank},
    {"--node-rank", kRefuses, true, kOneRank},
    {"--headless", kRefuses, false, kOneRank},
    {"--enable-expert-parallel", kWarns, false, "one rank has all experts"},
    {"--enable-eplb", kWarns, false, "one rank has all experts"},
    {"--eplb-config", kWarns, true, "one rank has all experts"},
    {"--disable-custom-all-reduce", kWarns, false, "one rank reduces nothing"},
    {"--distributed-executor-backend", kWarns, true, kOneProcess},
    {"--max-parallel-loading-workers", kWarns, true, kOneProcess},
    // Features that are not here.
    {"--enable-lora", kRefuses, false, kNoLora},
    {"--lora-modules", kRefuses, true, kNoLora},
    {"--max-loras", kRefuses, true, kNoLora},
    {"--max-lora-rank", kRefuses, true, kNoLora},
    {"--max-cpu-loras", kRefuses, true, kNoLora},
    {"--lora-dtype", kRefuses, true, kNoLora},
    {"--speculative-config", kRefuses, true, kNoSpeculation},
    {"--speculative-model", kRefuses, true, kNoSpeculation},
    {"--num-speculative-tokens", kRefuses, true, kNoSpeculation},
    {"--enable-auto-tool-choice", kWarns, false, "tool calls are parsed whenever a request has tools"},
    {"--tool-parser-plugin", kRefuses, true, kNoPlugins},
    {"--enable-reasoning", kWarns, false, "reasoning is split off whenever a request asks for it"},
    {"--guided-decoding-backend", kWarns, true, kOneBackend},
    {"--structured-outputs-config", kWarns, true, kOneBackend},
    {"--limit-mm-per-prompt", kWarns, true, kNoImages},
    {"--mm-processor-kwargs", kWarns, true, kNoImages},
    {"--mm-processor-cache-gb", kWarns, true, kNoImages},
    {"--media-io-kwargs", kWarns, true, kNoImages},
    {"--allowed-local-media-path", kRefuses, true, kNoImages},
};

void Apply(const ForeignFlag& flag, const std::string& value) {
  const bool is_one_rank = value == "1" && std::string_view(flag.name).find("-parallel-size") != std::string_view::npos;
  if (is_one_rank) return;
  if (flag.action == kRefuses) throw CLI::ValidationError(StrCat(flag.name, " is not supported: ", flag.remark));
  LogWarning("flag_without_effect", {{"flag", flag.name}, {"reason", flag.remark}});
}

}  // namespace

void AddForeignServeFlags(CLI::App& command) {
  for (const ForeignFlag& flag : kForeignFlags) {
    if (flag.takes_value) {
      command.add_option_function<std::string>(flag.name, [&flag](const std::string& value) { Apply(flag, value); })
          ->group("");
    } else {
      command.add_flag_callback(flag.name, [&flag] { Apply(flag, ""); })->group("");
    }
  }
}

}  // namespace expertd
