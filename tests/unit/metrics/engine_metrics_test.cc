#include "metrics/engine_metrics.h"

#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metrics/exposer.h"

namespace expertd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kMethod[] = "expertd.v1.InferenceService/Generate";

MetricsOptions Options() {
  MetricsOptions options;
  options.model = "m";
  options.version = "1.2.3";
  options.commit = "c0ffee";
  options.methods = {kMethod};
  return options;
}

std::string Scrape(const EngineMetrics& metrics) {
  return prometheus::TextSerializer().Serialize(metrics.registry()->Collect());
}

TEST(EngineMetricsTest, EverySeriesExistsWithZeroFromTheStart) {
  const EngineMetrics metrics(Options());

  const std::string text = Scrape(metrics);

  EXPECT_THAT(text, HasSubstr("expertd_requests_total{code=\"OK\",method=\"expertd.v1.InferenceService/Generate\","
                              "model=\"m\",transport=\"grpc\"} 0"));
  EXPECT_THAT(text, HasSubstr("expertd_requests_finished_total{model=\"m\",reason=\"deadline\"} 0"));
  EXPECT_THAT(text, HasSubstr("expertd_requests_rejected_total{model=\"m\",reason=\"queue_tokens_full\"} 0"));
  EXPECT_THAT(text, HasSubstr("expertd_time_to_first_token_seconds_count{model=\"m\"} 0"));
  EXPECT_THAT(text, HasSubstr("expertd_build_info{commit=\"c0ffee\",model=\"m\",version=\"1.2.3\"} 1"));
  EXPECT_THAT(text, Not(HasSubstr("vllm:")));
}

TEST(EngineMetricsTest, CountsCallsByCodeAndRejectionsByReason) {
  EngineMetrics metrics(Options());

  metrics.OnRpcFinished(kMethod, absl::StatusCode::kInvalidArgument, "INVALID_PARAMETER", absl::Seconds(1));
  metrics.OnRpcFinished(kMethod, absl::StatusCode::kUnauthenticated, "API_KEY_INVALID", absl::Seconds(1));
  metrics.OnRpcFinished(kMethod, absl::StatusCode::kResourceExhausted, "TOO_MANY_BYTES", absl::Seconds(1));
  metrics.OnRpcFinished(kMethod, absl::StatusCode::kResourceExhausted, "MESSAGE_TOO_LARGE", absl::Seconds(1));
  metrics.OnRpcFinished("no.such/Method", absl::StatusCode::kOk, "", absl::Seconds(1));
  metrics.OnRejected("queue_full");

  const std::string text = Scrape(metrics);
  EXPECT_THAT(text, HasSubstr("code=\"INVALID_ARGUMENT\",method=\"expertd.v1.InferenceService/Generate\",model=\"m\","
                              "transport=\"grpc\"} 1"));
  EXPECT_THAT(text, HasSubstr("expertd_requests_rejected_total{model=\"m\",reason=\"invalid\"} 1"));
  EXPECT_THAT(text, HasSubstr("expertd_requests_rejected_total{model=\"m\",reason=\"unauthenticated\"} 1"));
  EXPECT_THAT(text, HasSubstr("expertd_requests_rejected_total{model=\"m\",reason=\"queue_full\"} 1"));
  EXPECT_THAT(text, HasSubstr("expertd_requests_rejected_total{model=\"m\",reason=\"too_many_bytes\"} 1"));
  EXPECT_THAT(text, HasSubstr("expertd_requests_rejected_total{model=\"m\",reason=\"message_too_large\"} 1"));
  EXPECT_THAT(text, Not(HasSubstr("no.such")));
}

TEST(EngineMetricsTest, TellsHowSequencesEnded) {
  EngineMetrics metrics(Options());
  SequenceStats cancelled;
  cancelled.reason = FinishReason::kCancelled;
  cancelled.num_prompt_tokens = 10;
  cancelled.num_output_tokens = 4;
  SequenceStats late;
  late.reason = FinishReason::kError;
  late.code = absl::StatusCode::kDeadlineExceeded;
  late.num_output_tokens = 2;

  metrics.OnSequenceFinished(cancelled);
  metrics.OnSequenceFinished(late);

  const std::string text = Scrape(metrics);
  EXPECT_THAT(text, HasSubstr("expertd_requests_finished_total{model=\"m\",reason=\"cancelled\"} 1"));
  EXPECT_THAT(text, HasSubstr("expertd_requests_finished_total{model=\"m\",reason=\"deadline\"} 1"));
  EXPECT_THAT(text, HasSubstr("expertd_wasted_tokens_total{model=\"m\",reason=\"cancelled\"} 6"));
  EXPECT_THAT(text, HasSubstr("expertd_prompt_tokens_total{model=\"m\"} 10"));
}

TEST(EngineMetricsTest, ShowsTheStateAfterAStep) {
  EngineMetrics metrics(Options());
  StepStats stats;
  stats.num_tokens = 8;
  stats.num_sequences = 8;
  stats.num_sampled_tokens = 8;
  stats.duration = absl::Milliseconds(2);
  stats.num_running = 8;
  stats.num_waiting = 3;
  stats.blocks_free = 50;
  stats.blocks_cached = 25;
  stats.blocks_used = 25;
  stats.preemptions_total = 2;

  metrics.OnStep(stats);
  metrics.OnStep(stats);

  const std::string text = Scrape(metrics);
  EXPECT_THAT(text, HasSubstr("expertd_requests_running{model=\"m\"} 8"));
  EXPECT_THAT(text, HasSubstr("expertd_kv_cache_usage_ratio{model=\"m\"} 0.25"));
  EXPECT_THAT(text, HasSubstr("expertd_preemptions_total{model=\"m\"} 2"));
  EXPECT_THAT(text, HasSubstr("expertd_generated_tokens_total{model=\"m\"} 16"));
  EXPECT_THAT(text, HasSubstr("expertd_step_seconds_count{model=\"m\",phase=\"decode\"} 2"));
}

TEST(EngineMetricsTest, LoadingIsToldByPart) {
  EngineMetrics metrics(Options());

  metrics.SetEngineFacts({.text_load_time = absl::Seconds(1),
                          .weights_load_time = absl::Seconds(20),
                          .kv_cache_load_time = absl::Seconds(3)});

  const std::string text = Scrape(metrics);
  EXPECT_THAT(text, HasSubstr("expertd_model_load_seconds{model=\"m\",phase=\"text\"} 1"));
  EXPECT_THAT(text, HasSubstr("expertd_model_load_seconds{model=\"m\",phase=\"weights\"} 20"));
  EXPECT_THAT(text, HasSubstr("expertd_model_load_seconds{model=\"m\",phase=\"kv_cache\"} 3"));
}

TEST(EngineMetricsTest, MemoryNodesAreTold) {
  EngineMetrics metrics(Options());

  metrics.SetEngineFacts({.num_memory_nodes = 4});

  EXPECT_THAT(Scrape(metrics), HasSubstr("expertd_memory_nodes{model=\"m\"} 4"));
}

TEST(EngineMetricsTest, VllmNamesTellTheSame) {
  MetricsOptions options = Options();
  options.vllm_names = true;
  EngineMetrics metrics(options);
  StepStats stats;
  stats.num_tokens = stats.num_sequences = stats.num_sampled_tokens = 5;
  stats.num_running = 5;

  metrics.OnStep(stats);

  const std::string text = Scrape(metrics);
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_running{model_name=\"m\"} 5"));
  EXPECT_THAT(text, HasSubstr("vllm:generation_tokens_total{model_name=\"m\"} 5"));
}

TEST(ExposerTest, NamesTheAddressItCannotHave) {
  const EngineMetrics metrics(Options());
  const absl::StatusOr<std::unique_ptr<Exposer>> first = Exposer::Start("127.0.0.1:0", metrics.registry());
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string taken = "127.0.0.1:" + std::to_string((*first)->port());

  const absl::StatusOr<std::unique_ptr<Exposer>> second = Exposer::Start(taken, metrics.registry());

  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(taken));
}

}  // namespace
}  // namespace expertd
