// EngineMetrics: the engine's numbers as Prometheus series. Implements the engine's StatsSink and the server's
// RpcObserver; metrics/ is the only folder that knows Prometheus.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/request/rpc_stats.h"
#include "engine/request/stats.h"

namespace prometheus {
class Registry;
}

namespace expertd {

struct MetricsOptions {
  std::string model;                    // the label of every series
  std::string version;
  std::string commit;                   // that the program was built from
  std::vector<std::string> methods;     // the contract's, as RpcObserver names them
  bool vllm_names = false;              // --metrics-compat=vllm: vLLM's names beside ours, from the same observations
};

// What is known once the model has loaded.
struct EngineFacts {
  std::string isa;                      // kernel table in use
  bool has_avx512 = false, has_bf16 = false, has_int8 = false, has_amx = false;
  std::string weights_dtype;
  int64_t weight_bytes = 0;
  int64_t kv_cache_bytes = 0;
  int32_t num_kv_blocks = 0;
  int32_t block_size = 0;
  int32_t num_compute_threads = 0;
  int32_t num_memory_nodes = 0;
  int32_t max_num_seqs = 0;
  absl::Duration text_load_time, weights_load_time, kv_cache_load_time;  // the parts of loading
};

// Thread-safe. Every series exists with value zero from the start, so that rates and alerts work from the first scrape.
class EngineMetrics final : public StatsSink, public RpcObserver {
 public:
  explicit EngineMetrics(const MetricsOptions& options);
  ~EngineMetrics() override;

  // Adds the series that describe the engine. Once.
  void SetEngineFacts(const EngineFacts& facts);

  // Whether the process accepts requests: the series expertd_ready.
  void SetReady(bool is_ready);

  std::shared_ptr<prometheus::Registry> registry() const { return registry_; }

  void OnStep(const StepStats& stats) override;
  void OnSequenceFinished(const SequenceStats& stats) override;
  void OnInterTokenGap(absl::Duration gap) override;
  void OnRejected(const std::string& reason) override;
  void OnStage(const char* stage, absl::Duration time) override;

  void OnRpcStarted(std::string_view method) override;
  void OnRpcFinished(std::string_view method, absl::StatusCode code, std::string_view reason,
                     absl::Duration time) override;
  void OnStreamOpened() override;
  void OnStreamClosed() override;
  void OnStreamMessage(int num_merged) override;
  void OnValidated(absl::Duration time) override;
  void OnBackpressure(absl::Duration waited) override;

 private:
  struct Series;

  std::shared_ptr<prometheus::Registry> registry_;
  std::unique_ptr<Series> series_;
};

}  // namespace expertd
