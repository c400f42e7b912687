// `expertd inspect`: what a model folder is and what serving it would take. Reads config.json only; loads no weights.
#include <iostream>
#include <memory>
#include <string>
#include <variant>

#include "absl/strings/str_format.h"
#include "engine/base/byte_size.h"
#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/engine_flags.h"
#include "engine/kernels/kernels.h"
#include "engine/loader.h"
#include "engine/models/model_config.h"
#include "engine/models/model_sizes.h"
#include "engine/platform/cpu.h"
#include "engine/tools/tools.h"

namespace expertd {
namespace {

struct InspectOptions {
  EngineConfig engine;
  bool json = false;
};

Json AttentionJson(const AttentionSpec& attention) {
  if (const auto* gqa = std::get_if<GqaSpec>(&attention)) {
    return {{"heads", gqa->num_heads}, {"kv_heads", gqa->num_kv_heads}, {"head_dim", gqa->head_dim}};
  }
  const MlaSpec& mla = std::get<MlaSpec>(attention);
  return {{"heads", mla.num_heads},
          {"latent_dim", mla.kv_lora_rank},
          {"rope_head_dim", mla.qk_rope_head_dim},
          {"nope_head_dim", mla.qk_nope_head_dim},
          {"value_head_dim", mla.v_head_dim}};
}

Json FeedForwardJson(const ModelConfig& model) {
  int num_moe = 0;
  const MoeSpec* moe = nullptr;
  int dense_width = 0;
  for (const LayerSpec& layer : model.layers) {
    if (const auto* spec = std::get_if<MoeSpec>(&layer.ffn)) {
      ++num_moe;
      moe = spec;
    } else if (const auto* plain = std::get_if<PlainSpec>(&layer.ffn)) {
      dense_width = plain->intermediate_size;
    } else {
      dense_width = std::get<DenseSpec>(layer.ffn).intermediate_size;
    }
  }
  Json json = {{"dense_layers", model.num_layers() - num_moe}, {"moe_layers", num_moe}};
  if (dense_width > 0) json["intermediate_size"] = dense_width;
  if (moe != nullptr) {
    json["experts"] = moe->num_experts;
    json["experts_per_token"] = moe->experts_per_token;
    json["expert_intermediate_size"] = moe->expert_intermediate_size;
    if (moe->shared_intermediate_size > 0) json["shared_intermediate_size"] = moe->shared_intermediate_size;
  }
  return json;
}

absl::StatusOr<Json> Describe(const EngineConfig& asked) {
  RETURN_IF_ERROR(asked.Validate());
  ASSIGN_OR_RETURN(const EngineConfig config, WithFormatOfFolder(asked));
  ASSIGN_OR_RETURN(const ModelConfig model, ReadModelConfig(config.model_path));
  const CpuFeatures cpu = DetectCpu();
  const ParameterCount parameters = CountParameters(model);
  Json json;
  json["model"] = {{"path", config.model_path},
                   {"architecture", model.architecture},
                   {"layers", model.num_layers()},
                   {"hidden_size", model.hidden_size},
                   {"vocab_size", model.vocab_size},
                   {"attention", AttentionJson(model.attention)},
                   {"feed_forward", FeedForwardJson(model)},
                   {"max_positions", model.max_positions()},
                   {"ties_embeddings", model.ties_embeddings}};
  json["parameters"] = {{"total", parameters.total}, {"active_per_token", parameters.active}};
  for (const WeightFormat format : kWeightFormats) {
    json["weight_bytes"][std::string(WeightFormatName(format))] = WeightBytes(model, format);
  }
  for (const KvFormat format : kKvFormats) {
    json["kv_bytes_per_token"][std::string(KvFormatName(format))] = KvBytesPerToken(model, format);
  }
  const MemoryLimits limits = ReadMemoryLimits();
  ASSIGN_OR_RETURN(const int64_t weight_bytes, EstimateWeightBytes(config, model));
  absl::StatusOr<MemoryPlan> plan = PlanMemory(config, model, limits.Available(), weight_bytes);
  if (plan.ok()) {
    json["memory_plan"] = {{"dtype", std::string(WeightFormatName(config.weight_format()))},
                           {"available_bytes", plan->available_bytes},
                           {"weight_bytes", plan->weight_bytes},
                           {"activation_bytes", plan->scratch_bytes},
                           {"kv_cache_dtype", std::string(KvFormatName(config.kv_cache_dtype))},
                           {"kv_cache_bytes", plan->kv_cache_bytes()},
                           {"kv_blocks", plan->num_kv_blocks},
                           {"block_size", config.block_size},
                           {"max_model_len", plan->max_model_len}};
  } else {
    json["memory_plan"] = {{"error", std::string(plan.status().message())}};
  }
  json["machine"] = {{"cpu", cpu.model_name},
                     {"cpus", cpu.num_cpus},
                     {"memory_nodes", MemoryNodes()},
                     {"huge_pages", ReadHugePages().mode},
                     {"isa", std::string(SelectKernels(cpu, config.isa_limit).isa)},
                     {"avx2", cpu.avx2},
                     {"avx512", cpu.avx512},
                     {"avx512_vnni", cpu.avx512_vnni},
                     {"avx512_bf16", cpu.avx512_bf16},
                     {"amx_bf16", cpu.amx_bf16},
                     {"amx_int8", cpu.amx_int8}};
  return json;
}

// Bytes and large counts get a second, rounded form for the reader.
std::string ShowValue(const std::string& name, const Json& value) {
  if (!value.is_number_integer()) return value.is_string() ? value.get<std::string>() : value.dump();
  const double number = value.get<double>();
  if (name.ends_with("bytes") || name == "f32" || name == "bf16" || name == "int8" || name == "int4") {
    return number >= 1e6 ? StrCat(value.get<int64_t>(), " (", ByteSize(value.get<int64_t>()), ")") : value.dump();
  }
  if (number >= 1e6) return absl::StrFormat("%d (%.3g)", value.get<int64_t>(), number);
  return value.dump();
}

void PrintTable(const Json& json, int indent) {
  for (const auto& [name, value] : json.items()) {
    if (value.is_object()) {
      std::cout << std::string(indent, ' ') << name << "\n";
      PrintTable(value, indent + 2);
    } else {
      std::cout << absl::StrFormat("%*s%-*s %s\n", indent, "", 28 - indent, name, ShowValue(name, value));
    }
  }
}

}  // namespace

void AddInspectCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand("inspect", "Show a model folder's architecture, sizes and memory plan");
  auto options = std::make_shared<InspectOptions>();
  AddEngineFlags(*command, options->engine);
  command->add_flag("--json", options->json, "One JSON object");
  command->callback([=] {
    absl::StatusOr<Json> json = Describe(options->engine);
    *exit_code = ReportToUser(*command, json.status());
    if (!json.ok()) return;
    if (options->json) {
      std::cout << DumpJson(*json, /*indent=*/2) << "\n";
    } else {
      PrintTable(*json, 0);
    }
  });
}

}  // namespace expertd
