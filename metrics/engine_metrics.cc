#include "metrics/engine_metrics.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <utility>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "absl/time/clock.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using Labels = prometheus::Labels;
using Buckets = Histogram::BucketBoundaries;

const Buckets kQueueSeconds = {.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600};
// A prompt of 30,000 tokens can take minutes on a CPU.
const Buckets kFirstTokenSeconds = {.01, .025, .05, .1, .25, .5, .75, 1,   2.5, 5,
                                    7.5, 10,   20,  40, 80,  160, 320, 640, 1280};
const Buckets kInterTokenSeconds = {.005, .01, .015, .02, .025, .03, .04, .05, .075, .1,
                                    .15,  .2,  .3,   .5,  .75,  1,   2.5, 5,   10};
const Buckets kRequestSeconds = {.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600};
const Buckets kStepSizes = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};

// 0.0001 * 3^n, fourteen edges: 100 microseconds to 159 seconds.
Buckets StageSeconds() {
  Buckets edges;
  double edge = 0.0001;
  for (int i = 0; i < 14; ++i, edge *= 3) edges.push_back(edge);
  return edges;
}

constexpr const char* kStages[] = {"validate", "template", "tokenize",   "queue",
                                   "prefill",  "decode",   "detokenize", "write"};
constexpr const char* kFinishReasons[] = {"stop",      "length",   "time_limit", "no_valid_token",
                                          "cancelled", "deadline", "error"};
constexpr const char* kRejectReasons[] = {"queue_full", "queue_tokens_full", "deadline_unmeetable", "queue_timeout",
                                          "draining",   "invalid",           "unauthenticated",     "too_many_calls",
                                          "too_many_bytes", "message_too_large"};
constexpr std::array<std::pair<absl::StatusCode, const char*>, 17> kCodes = {{
    {absl::StatusCode::kOk, "OK"},
    {absl::StatusCode::kCancelled, "CANCELLED"},
    {absl::StatusCode::kUnknown, "UNKNOWN"},
    {absl::StatusCode::kInvalidArgument, "INVALID_ARGUMENT"},
    {absl::StatusCode::kDeadlineExceeded, "DEADLINE_EXCEEDED"},
    {absl::StatusCode::kNotFound, "NOT_FOUND"},
    {absl::StatusCode::kAlreadyExists, "ALREADY_EXISTS"},
    {absl::StatusCode::kPermissionDenied, "PERMISSION_DENIED"},
    {absl::StatusCode::kResourceExhausted, "RESOURCE_EXHAUSTED"},
    {absl::StatusCode::kFailedPrecondition, "FAILED_PRECONDITION"},
    {absl::StatusCode::kAborted, "ABORTED"},
    {absl::StatusCode::kOutOfRange, "OUT_OF_RANGE"},
    {absl::StatusCode::kUnimplemented, "UNIMPLEMENTED"},
    {absl::StatusCode::kInternal, "INTERNAL"},
    {absl::StatusCode::kUnavailable, "UNAVAILABLE"},
    {absl::StatusCode::kDataLoss, "DATA_LOSS"},
    {absl::StatusCode::kUnauthenticated, "UNAUTHENTICATED"},
}};

std::string_view FinishLabel(const SequenceStats& stats) {
  switch (stats.reason) {
    case FinishReason::kStop:
    case FinishReason::kStopSequence:
    case FinishReason::kToolCalls: return "stop";
    case FinishReason::kMaxTokens:
    case FinishReason::kContextLength: return "length";
    case FinishReason::kTimeLimit: return "time_limit";
    case FinishReason::kNoValidToken:
    case FinishReason::kGrammarDeadEnd: return "no_valid_token";
    case FinishReason::kCancelled: return "cancelled";
    case FinishReason::kNone:
    case FinishReason::kError: break;
  }
  return stats.code == absl::StatusCode::kDeadlineExceeded ? "deadline" : "error";
}

// Reasons that the engine does not count itself, told by the error that a call ended with.
std::string_view RejectLabel(std::string_view reason) {
  if (reason == "INVALID_PARAMETER" || reason == "CONTEXT_LENGTH_EXCEEDED" || reason == "UNSUPPORTED_FEATURE" ||
      reason == "MODEL_NOT_FOUND" || reason == "DUPLICATE_REQUEST_ID" || reason == "INVALID_CONSTRAINT") {
    return "invalid";
  }
  if (reason == "API_KEY_INVALID") return "unauthenticated";
  if (reason == "TOO_MANY_CALLS") return "too_many_calls";
  if (reason == "TOO_MANY_BYTES") return "too_many_bytes";
  if (reason == "MESSAGE_TOO_LARGE") return "message_too_large";
  return "";
}

// Families of one registry, each series labelled with the model.
class Builder {
 public:
  Builder(prometheus::Registry& registry, std::string model) : registry_(registry), model_(std::move(model)) {}

  Counter& AddCounter(const std::string& name, const std::string& help, Labels labels = {}) const {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add(WithModel(std::move(labels)));
  }
  Gauge& AddGauge(const std::string& name, const std::string& help, Labels labels = {}) const {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add(WithModel(std::move(labels)));
  }
  Histogram& AddHistogram(const std::string& name, const std::string& help, const Buckets& edges,
                          Labels labels = {}) const {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_).Add(WithModel(std::move(labels)),
                                                                                      edges);
  }

 private:
  Labels WithModel(Labels labels) const {
    labels.emplace(model_label_, model_);
    return labels;
  }

 public:
  Builder WithModelLabel(std::string label) const {
    Builder builder = *this;
    builder.model_label_ = std::move(label);
    return builder;
  }

 private:
  prometheus::Registry& registry_;
  std::string model_;
  std::string model_label_ = "model";
};

// A counter fed with totals since start.
void RaiseTo(Counter& counter, double total) {
  if (const double more = total - counter.Value(); more > 0) counter.Increment(more);
}

double Seconds(absl::Duration duration) { return absl::ToDoubleSeconds(duration); }

// vLLM's names for the same observations, so that its dashboards, routers and autoscaling recipes work unchanged.
struct VllmSeries {
  explicit VllmSeries(const Builder& make)
      : running(make.AddGauge("vllm:num_requests_running", "Sequences being computed.")),
        waiting(make.AddGauge("vllm:num_requests_waiting", "Sequences waiting to be computed.")),
        kv_usage(make.AddGauge("vllm:kv_cache_usage_perc", "KV-cache usage, 1 means full.")),
        prefix_queries(
            make.AddCounter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.")),
        prefix_hits(make.AddCounter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.")),
        preemptions(make.AddCounter("vllm:num_preemptions_total", "Sequences preempted.")),
        prompt_tokens(make.AddCounter("vllm:prompt_tokens_total", "Prompt tokens of finished requests.")),
        generation_tokens(make.AddCounter("vllm:generation_tokens_total", "Tokens generated.")),
        first_token(
            make.AddHistogram("vllm:time_to_first_token_seconds", "Time to the first token.", kFirstTokenSeconds)),
        inter_token(
            make.AddHistogram("vllm:inter_token_latency_seconds", "Time between two tokens.", kInterTokenSeconds)),
        per_output_token(make.AddHistogram("vllm:request_time_per_output_token_seconds",
                                           "Mean time per output token of a request.", kInterTokenSeconds)),
        queue(make.AddHistogram("vllm:request_queue_time_seconds", "Time in the queue.", kQueueSeconds)),
        request(make.AddHistogram("vllm:e2e_request_latency_seconds", "Time from arrival to the last token.",
                                  kRequestSeconds)),
        success_stop(
            make.AddCounter("vllm:request_success_total", "Requests that ended well.", {{"finished_reason", "stop"}})),
        success_length(make.AddCounter("vllm:request_success_total", "Requests that ended well.",
                                       {{"finished_reason", "length"}})) {}

  Gauge &running, &waiting, &kv_usage;
  Counter &prefix_queries, &prefix_hits, &preemptions, &prompt_tokens, &generation_tokens;
  Histogram &first_token, &inter_token, &per_output_token, &queue, &request;
  Counter &success_stop, &success_length;
};

}  // namespace

struct EngineMetrics::Series {
  Series(const Builder& builder, const MetricsOptions& options);
  void AddFacts(const EngineFacts& facts);
  void UpdateState(const StepStats& stats);

  const Builder make;
  // Traffic.
  std::map<std::string, std::array<Counter*, kCodes.size()>, std::less<>> requests;  // by method, then code
  std::map<std::string, Counter*, std::less<>> finished, rejected;
  Gauge& streams_open;
  Counter &stream_chunks, &backpressure_seconds, &coalesced_deltas;
  // Tokens.
  Counter &prompt_tokens, &cached_tokens, &generated_tokens, &wasted_cancelled, &wasted_preempted;
  // Latency.
  Histogram &queue, &first_token, &inter_token, &per_output_token, &request;
  std::map<std::string, Histogram*, std::less<>> stages;
  Histogram &prefill_step, &decode_step, &mixed_step, &step_tokens, &step_sequences;
  // Engine state.
  Gauge &ready, &running, &waiting, &tokens_waiting, &oldest_waiting, &max_sequences, &kv_usage;
  Gauge &blocks_free, &blocks_used, &blocks_cached;
  Counter &prefix_queries, &prefix_hits, &preemptions;
  Gauge &estimated_wait, &last_step;
  std::unique_ptr<VllmSeries> vllm;
  // Rows a second of recent steps, for estimated_wait; written by the engine thread only.
  double rows_per_second = 0;
};

EngineMetrics::Series::Series(const Builder& builder, const MetricsOptions& options)
    : make(builder),
      streams_open(make.AddGauge("expertd_streams_open", "Streaming calls that are open.", {{"transport", "grpc"}})),
      stream_chunks(make.AddCounter("expertd_stream_chunks_total", "Messages with output handed to the transport.")),
      backpressure_seconds(
          make.AddCounter("expertd_stream_backpressure_seconds_total", "Time that streams waited for slow readers.")),
      coalesced_deltas(make.AddCounter("expertd_stream_coalesced_deltas_total",
                                       "Deltas merged into a later message because the reader was slow.")),
      prompt_tokens(make.AddCounter("expertd_prompt_tokens_total", "Prompt tokens of requests that have ended.")),
      cached_tokens(make.AddCounter("expertd_prompt_tokens_cached_total",
                                    "Prompt tokens that were found in the cache instead of computed.",
                                    {{"source", "prefix"}})),
      generated_tokens(make.AddCounter("expertd_generated_tokens_total", "Tokens generated.")),
      wasted_cancelled(make.AddCounter("expertd_wasted_tokens_total",
                                       "Tokens computed for nothing: generated for requests that were cancelled or "
                                       "failed, or computed again after a preemption.",
                                       {{"reason", "cancelled"}})),
      wasted_preempted(make.AddCounter("expertd_wasted_tokens_total",
                                       "Tokens computed for nothing: generated for requests that were cancelled or "
                                       "failed, or computed again after a preemption.",
                                       {{"reason", "preempted"}})),
      queue(make.AddHistogram("expertd_queue_seconds", "Time from arrival to the first step.", kQueueSeconds)),
      first_token(make.AddHistogram("expertd_time_to_first_token_seconds", "Time from arrival to the first token.",
                                    kFirstTokenSeconds)),
      inter_token(make.AddHistogram("expertd_inter_token_seconds", "Time between two tokens of a sequence.",
                                    kInterTokenSeconds)),
      per_output_token(make.AddHistogram("expertd_time_per_output_token_seconds",
                                         "Mean time between tokens of a sequence, one observation each.",
                                         kInterTokenSeconds)),
      request(
          make.AddHistogram("expertd_request_seconds", "Time from arrival to the end of a sequence.", kRequestSeconds)),
      prefill_step(
          make.AddHistogram("expertd_step_seconds", "Time of an engine step.", StageSeconds(), {{"phase", "prefill"}})),
      decode_step(
          make.AddHistogram("expertd_step_seconds", "Time of an engine step.", StageSeconds(), {{"phase", "decode"}})),
      mixed_step(
          make.AddHistogram("expertd_step_seconds", "Time of an engine step.", StageSeconds(), {{"phase", "mixed"}})),
      step_tokens(make.AddHistogram("expertd_step_tokens", "Tokens computed in an engine step.", kStepSizes)),
      step_sequences(make.AddHistogram("expertd_step_sequences", "Sequences in an engine step.", kStepSizes)),
      ready(make.AddGauge("expertd_ready", "1 while requests are accepted, else 0.")),
      running(make.AddGauge("expertd_requests_running", "Sequences being computed.")),
      waiting(make.AddGauge("expertd_requests_waiting", "Sequences waiting to be computed.")),
      tokens_waiting(make.AddGauge("expertd_tokens_waiting", "Uncomputed tokens of the waiting sequences.")),
      oldest_waiting(make.AddGauge("expertd_oldest_waiting_seconds", "Time the oldest waiting sequence has waited.")),
      max_sequences(make.AddGauge("expertd_max_sequences", "Most sequences computed at once (--max-num-seqs).")),
      kv_usage(
          make.AddGauge("expertd_kv_cache_usage_ratio", "Share of KV blocks that running sequences hold, 0 to 1.")),
      blocks_free(make.AddGauge("expertd_kv_cache_blocks", "KV blocks by state.", {{"state", "free"}})),
      blocks_used(make.AddGauge("expertd_kv_cache_blocks", "KV blocks by state.", {{"state", "used"}})),
      blocks_cached(make.AddGauge("expertd_kv_cache_blocks", "KV blocks by state.", {{"state", "cached"}})),
      prefix_queries(
          make.AddCounter("expertd_prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.")),
      prefix_hits(make.AddCounter("expertd_prefix_cache_hits_total", "Prompt tokens found in the prefix cache.")),
      preemptions(make.AddCounter("expertd_preemptions_total", "Sequences sent back to the queue for lack of blocks.")),
      estimated_wait(
          make.AddGauge("expertd_estimated_wait_seconds", "Waiting tokens divided by the recent speed of the engine.")),
      last_step(make.AddGauge("expertd_engine_last_step_timestamp_seconds",
                              "Unix time at which the last engine step ended.")) {
  for (const std::string& method : options.methods) {
    for (size_t i = 0; i < kCodes.size(); ++i) {
      requests[method][i] = &make.AddCounter("expertd_requests_total", "Calls that have ended, by canonical code.",
                                             {{"transport", "grpc"}, {"method", method}, {"code", kCodes[i].second}});
    }
  }
  for (const char* reason : kFinishReasons) {
    finished[reason] =
        &make.AddCounter("expertd_requests_finished_total", "Accepted sequences (one per candidate) that have ended.",
                         {{"reason", reason}});
  }
  for (const char* reason : kRejectReasons) {
    rejected[reason] = &make.AddCounter("expertd_requests_rejected_total",
                                        "Requests refused before a token was generated.", {{"reason", reason}});
  }
  for (const char* stage : kStages) {
    stages[stage] = &make.AddHistogram("expertd_stage_seconds", "Time of a request in one stage; queue, prefill and "
                                       "decode are observed for each candidate.", StageSeconds(),
                                       {{"stage", stage}});
  }
  make.AddGauge("expertd_build_info", "The running build.", {{"version", options.version}, {"commit", options.commit}})
      .Set(1);
  if (options.vllm_names) vllm = std::make_unique<VllmSeries>(make.WithModelLabel("model_name"));
}

void EngineMetrics::Series::AddFacts(const EngineFacts& facts) {
  const auto yes = [](bool value) { return value ? "1" : "0"; };
  make.AddGauge("expertd_cpu_isa_info", "Instruction set in use, and what the processor offers.",
                {{"isa", facts.isa},
                 {"amx", yes(facts.has_amx)},
                 {"avx512", yes(facts.has_avx512)},
                 {"bf16", yes(facts.has_bf16)},
                 {"int8", yes(facts.has_int8)}})
      .Set(1);
  make.AddGauge("expertd_threads", "Threads by pool.", {{"pool", "compute"}}).Set(facts.num_compute_threads);
  make.AddGauge("expertd_memory_nodes", "Memory nodes (NUMA) of the CPUs that may be used.")
      .Set(facts.num_memory_nodes);
  make.AddGauge("expertd_weight_bytes", "Memory of the weights.", {{"dtype", facts.weights_dtype}})
      .Set(static_cast<double>(facts.weight_bytes));
  make.AddGauge("expertd_kv_cache_bytes", "Memory reserved for the KV cache.")
      .Set(static_cast<double>(facts.kv_cache_bytes));
  for (const auto& [phase, time] : {std::pair("text", facts.text_load_time),
                                    std::pair("weights", facts.weights_load_time),
                                    std::pair("kv_cache", facts.kv_cache_load_time)}) {
    make.AddGauge("expertd_model_load_seconds", "Time to load the model, by part.", {{"phase", phase}})
        .Set(Seconds(time));
  }
  max_sequences.Set(facts.max_num_seqs);
  blocks_free.Set(facts.num_kv_blocks);
  if (vllm == nullptr) return;
  make.WithModelLabel("model_name")
      .AddGauge("vllm:cache_config_info", "Settings of the KV cache.",
                {{"block_size", StrCat(facts.block_size)}, {"num_gpu_blocks", StrCat(facts.num_kv_blocks)}})
      .Set(1);
}

void EngineMetrics::Series::UpdateState(const StepStats& stats) {
  running.Set(stats.num_running);
  waiting.Set(stats.num_waiting);
  tokens_waiting.Set(static_cast<double>(stats.num_waiting_tokens));
  oldest_waiting.Set(Seconds(stats.oldest_waiting));
  blocks_free.Set(stats.blocks_free);
  blocks_used.Set(stats.blocks_used);
  blocks_cached.Set(stats.blocks_cached);
  const double total_blocks = static_cast<double>(stats.blocks_free) + stats.blocks_used + stats.blocks_cached;
  const double usage = total_blocks > 0 ? stats.blocks_used / total_blocks : 0.0;
  kv_usage.Set(usage);
  RaiseTo(prefix_queries, static_cast<double>(stats.prefix_queried_tokens_total));
  RaiseTo(prefix_hits, static_cast<double>(stats.prefix_hit_tokens_total));
  RaiseTo(preemptions, static_cast<double>(stats.preemptions_total));
  RaiseTo(wasted_preempted, static_cast<double>(stats.recomputed_tokens_total));
  estimated_wait.Set(rows_per_second > 0 ? static_cast<double>(stats.num_waiting_tokens) / rows_per_second : 0.0);
  if (vllm == nullptr) return;
  vllm->running.Set(stats.num_running);
  vllm->waiting.Set(stats.num_waiting);
  vllm->kv_usage.Set(usage);
  RaiseTo(vllm->prefix_queries, static_cast<double>(stats.prefix_queried_tokens_total));
  RaiseTo(vllm->prefix_hits, static_cast<double>(stats.prefix_hit_tokens_total));
  RaiseTo(vllm->preemptions, static_cast<double>(stats.preemptions_total));
}

EngineMetrics::EngineMetrics(const MetricsOptions& options)
    : registry_(std::make_shared<prometheus::Registry>()),
      series_(std::make_unique<Series>(Builder(*registry_, options.model), options)) {}
EngineMetrics::~EngineMetrics() = default;

void EngineMetrics::SetEngineFacts(const EngineFacts& facts) { series_->AddFacts(facts); }

void EngineMetrics::SetReady(bool is_ready) {
  series_->ready.Set(is_ready ? 1 : 0);
}

void EngineMetrics::OnStep(const StepStats& stats) {
  if (stats.num_tokens > 0) {
    Histogram& step = stats.phase == StepPhase::kPrefill  ? series_->prefill_step
                      : stats.phase == StepPhase::kDecode ? series_->decode_step
                                                          : series_->mixed_step;
    step.Observe(Seconds(stats.duration));
    series_->step_tokens.Observe(stats.num_tokens);
    series_->step_sequences.Observe(stats.num_sequences);
    series_->last_step.Set(absl::ToDoubleSeconds(stats.end_time - absl::UnixEpoch()));
    series_->generated_tokens.Increment(stats.num_sampled_tokens);
    if (series_->vllm != nullptr) series_->vllm->generation_tokens.Increment(stats.num_sampled_tokens);
    const double rate = stats.num_tokens / std::max(1e-6, Seconds(stats.duration));
    constexpr double kNewShare = 0.1;  // about the last ten steps
    series_->rows_per_second += (series_->rows_per_second == 0 ? 1.0 : kNewShare) * (rate - series_->rows_per_second);
  }
  series_->UpdateState(stats);
}

void EngineMetrics::OnSequenceFinished(const SequenceStats& stats) {
  const std::string_view label = FinishLabel(stats);
  series_->finished.find(label)->second->Increment();
  series_->prompt_tokens.Increment(stats.num_prompt_tokens);
  series_->cached_tokens.Increment(stats.num_cached_tokens);
  if (stats.reason == FinishReason::kCancelled || stats.reason == FinishReason::kError) {
    series_->wasted_cancelled.Increment(stats.num_output_tokens);
  }
  series_->queue.Observe(Seconds(stats.queue_time));
  series_->stages.find("queue")->second->Observe(Seconds(stats.queue_time));
  series_->request.Observe(Seconds(stats.total_time));
  const double per_token =
      stats.num_output_tokens > 1 ? Seconds(stats.decode_time) / (stats.num_output_tokens - 1) : 0.0;
  if (stats.num_output_tokens > 0) {
    series_->first_token.Observe(Seconds(stats.time_to_first_token));
    series_->stages.find("prefill")->second->Observe(Seconds(stats.prefill_time));
    series_->stages.find("decode")->second->Observe(Seconds(stats.decode_time));
  }
  if (stats.num_output_tokens > 1) series_->per_output_token.Observe(per_token);
  if (VllmSeries* vllm = series_->vllm.get(); vllm != nullptr) {
    vllm->prompt_tokens.Increment(stats.num_prompt_tokens);
    vllm->queue.Observe(Seconds(stats.queue_time));
    vllm->request.Observe(Seconds(stats.total_time));
    if (stats.num_output_tokens > 0) vllm->first_token.Observe(Seconds(stats.time_to_first_token));
    if (stats.num_output_tokens > 1) vllm->per_output_token.Observe(per_token);
    if (label == "stop") vllm->success_stop.Increment();
    if (label == "length") vllm->success_length.Increment();
  }
}

void EngineMetrics::OnInterTokenGap(absl::Duration gap) {
  series_->inter_token.Observe(Seconds(gap));
  if (series_->vllm != nullptr) series_->vllm->inter_token.Observe(Seconds(gap));
}

void EngineMetrics::OnRejected(const std::string& reason) {
  if (const auto it = series_->rejected.find(reason); it != series_->rejected.end()) it->second->Increment();
}

void EngineMetrics::OnStage(const char* stage, absl::Duration time) {
  const auto it = series_->stages.find(std::string_view(stage));
  if (it != series_->stages.end()) it->second->Observe(Seconds(time));
}

void EngineMetrics::OnRpcStarted(std::string_view) {}

void EngineMetrics::OnRpcFinished(std::string_view method, absl::StatusCode code, std::string_view reason,
                                  absl::Duration) {
  const auto it = series_->requests.find(method);
  if (it == series_->requests.end()) return;
  for (size_t i = 0; i < kCodes.size(); ++i) {
    if (kCodes[i].first == code) it->second[i]->Increment();
  }
  const auto rejected = series_->rejected.find(RejectLabel(reason));
  if (rejected != series_->rejected.end()) rejected->second->Increment();
}

void EngineMetrics::OnStreamOpened() {
  series_->streams_open.Increment();
}

void EngineMetrics::OnStreamClosed() {
  series_->streams_open.Decrement();
}

void EngineMetrics::OnStreamMessage(int num_merged) {
  series_->stream_chunks.Increment();
  if (num_merged > 0) series_->coalesced_deltas.Increment(num_merged);
}

void EngineMetrics::OnValidated(absl::Duration time) { OnStage("validate", time); }

void EngineMetrics::OnBackpressure(absl::Duration waited) {
  series_->backpressure_seconds.Increment(Seconds(waited));
  series_->stages.find("write")->second->Observe(Seconds(waited));
}

}  // namespace expertd
