#include "engine/models/model_config.h"
#include "engine/models/model_sizes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "engine/base/strings.h"

namespace expertd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

// The shapes of Qwen2.5-7B-Instruct.
Json Qwen2Json() {
  return *ParseJson(R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584,
      "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944,
      "vocab_size": 152064, "tie_word_embeddings": false, "rms_norm_eps": 1e-06, "max_position_embeddings": 32768,
      "rope_theta": 1000000.0, "hidden_act": "silu", "torch_dtype": "bfloat16", "eos_token_id": 151645,
      "use_sliding_window": false, "sliding_window": 131072, "max_window_layers": 28})");
}

// The shapes of Qwen3-30B-A3B.
Json Qwen3MoeJson() {
  return *ParseJson(R"({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048,
      "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
      "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
      "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": true, "vocab_size": 151936,
      "tie_word_embeddings": false, "rms_norm_eps": 1e-06, "max_position_embeddings": 40960, "rope_theta": 1000000.0,
      "rope_scaling": null, "hidden_act": "silu", "attention_bias": false, "eos_token_id": [151645, 151643, 151645]})");
}

Json With(Json json, const std::string& key, Json value) {
  json[key] = std::move(value);
  return json;
}

Json Without(Json json, const std::string& key) {
  json.erase(key);
  return json;
}

std::string ErrorOf(const Json& json, absl::StatusCode code) {
  const auto config = ParseModelConfig(json);
  EXPECT_EQ(config.status().code(), code) << config.status();
  return std::string(ToStdView(config.status().message()));
}
std::string Invalid(const Json& json) { return ErrorOf(json, absl::StatusCode::kInvalidArgument); }
std::string Unsupported(const Json& json) { return ErrorOf(json, absl::StatusCode::kUnimplemented); }

// PanGu-alpha 2.6B as the Hugging Face port has it.
Json PanguAlphaJson() {
  return *ParseJson(R"({"activation_function": "gelu", "architectures": ["GPTPanguForCausalLM"], "attn_pdrop": 0.1,
      "hidden_size": 2560, "intermediate_size": null, "layer_norm_epsilon": 1e-05, "max_position_embeddings": 1024,
      "model_type": "gpt_pangu", "num_heads": 32, "num_layers": 32, "scale_attn_weights": true,
      "torch_dtype": "float32", "vocab_size": 40000})");
}

const GqaSpec& Gqa(const ModelConfig& config) { return std::get<GqaSpec>(config.attention); }

TEST(ModelConfigTest, ReadsPanguAlpha) {
  const auto config = ParseModelConfig(PanguAlphaJson());

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_layers(), 32);  // 31 blocks and the query layer
  EXPECT_EQ(Gqa(*config).head_dim, 80);
  EXPECT_EQ(Gqa(*config).num_kv_heads, 32);
  EXPECT_FALSE(Gqa(*config).has_rope);
  EXPECT_EQ(config->norm.kind, NormKind::kLayer);
  EXPECT_EQ(std::get<PlainSpec>(config->layers[31].ffn).intermediate_size, 10240);
  EXPECT_EQ(std::get<PlainSpec>(config->layers[31].ffn).gelu, Gelu::kErf);
  EXPECT_TRUE(config->ends_with_query_layer);
  EXPECT_TRUE(config->ties_embeddings);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(9));
  EXPECT_EQ(config->max_positions(), 1024);
  const int64_t h = 2560;
  EXPECT_EQ(CountParameters(*config).total, 32 * (12 * h * h + 13 * h) + (40000 + 1024 + 1024) * h + 2 * h);
}

TEST(ModelConfigTest, ReadsTheVariantsOfPanguAlpha) {
  for (const char* name : {"gelu_new", "gelu_tanh", "gelu_pytorch_tanh", "gelu_fast"}) {
    const auto config = ParseModelConfig(With(PanguAlphaJson(), "activation_function", name));
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(std::get<PlainSpec>(config->layers[0].ffn).gelu, Gelu::kTanh);
  }
  Json padded = With(With(PanguAlphaJson(), "vocab_size", 40064), "model_type", "pangu");
  EXPECT_EQ(ParseModelConfig(padded)->vocab_size, 40000);
  EXPECT_THAT(ParseModelConfig(With(padded, "eos_token_id", 7))->eos_token_ids, ElementsAre(7));
  EXPECT_EQ(std::get<PlainSpec>(ParseModelConfig(With(padded, "intermediate_size", 96))->layers[0].ffn)
                .intermediate_size,
            96);
}

TEST(ModelConfigTest, RefusesWhatPanguAlphaDoesNotHave) {
  EXPECT_THAT(Unsupported(With(PanguAlphaJson(), "activation_function", "relu")),
              HasSubstr("activation_function is relu; supported are gelu, gelu_new"));
  EXPECT_THAT(Unsupported(With(PanguAlphaJson(), "scale_attn_weights", false)),
              HasSubstr("scale_attn_weights is false"));
  EXPECT_THAT(Invalid(With(PanguAlphaJson(), "num_heads", 33)),
              HasSubstr("hidden_size is 2560; must be a multiple of num_heads 33"));
  EXPECT_THAT(Invalid(Without(PanguAlphaJson(), "num_layers")), HasSubstr("num_layers"));
}

TEST(ModelConfigTest, ReadsADenseModel) {
  const auto config = ParseModelConfig(Qwen2Json());

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "Qwen2ForCausalLM");
  EXPECT_EQ(config->num_layers(), 28);
  EXPECT_EQ(Gqa(*config).head_dim, 128);
  EXPECT_EQ(Gqa(*config).num_kv_heads, 4);
  EXPECT_TRUE(Gqa(*config).has_qkv_bias);
  EXPECT_FALSE(Gqa(*config).has_output_bias);
  EXPECT_FALSE(Gqa(*config).has_qk_norm);
  EXPECT_EQ(config->rope.theta, 1e6);
  EXPECT_EQ(config->rope.rotary_dim, 128);
  EXPECT_EQ(config->max_positions(), 32768);
  EXPECT_EQ(config->checkpoint_dtype, DType::kBF16);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(151645));
  EXPECT_EQ(std::get<DenseSpec>(config->layers[27].ffn).intermediate_size, 18944);
}

TEST(ModelConfigTest, CountsParametersOfADenseModel) {
  const auto config = ParseModelConfig(Qwen2Json());

  const ParameterCount count = CountParameters(*config);

  EXPECT_EQ(count.total, 7'615'616'512);
  EXPECT_EQ(count.active, 7'615'616'512 - 152'064LL * 3584);
}

TEST(ModelConfigTest, ReadsASparseModel) {
  const auto config = ParseModelConfig(Qwen3MoeJson());

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(Gqa(*config).head_dim, 128);
  EXPECT_TRUE(Gqa(*config).has_qk_norm);
  EXPECT_FALSE(Gqa(*config).has_qkv_bias);
  const MoeSpec& moe = std::get<MoeSpec>(config->layers[47].ffn);
  EXPECT_EQ(moe.num_experts, 128);
  EXPECT_EQ(moe.experts_per_token, 8);
  EXPECT_EQ(moe.expert_intermediate_size, 768);
  EXPECT_TRUE(std::get<SoftmaxTopKRouter>(moe.router).normalizes_top_k);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(151645, 151643));
}

TEST(ModelConfigTest, CountsParametersOfASparseModel) {
  const auto config = ParseModelConfig(Qwen3MoeJson());

  EXPECT_EQ(CountParameters(*config).total, 30'532'122'624);
  EXPECT_EQ(CountParameters(*config).active, 3'041'867'776);
  EXPECT_EQ(KvBytesPerToken(*config, KvFormat::kBF16), 98'304);
  EXPECT_EQ(KvBytesPerToken(*config, KvFormat::kInt8), 50'688);  // 48 layers, 4 heads of 128 codes and a scale, twice
  EXPECT_EQ(WeightBytes(*config, WeightFormat::kF32), 4 * 30'532'122'624);
  // Norms (196,608 + 12,288 + 2,048 values) and routers (48 * 128 * 2048) stay in fp32.
  EXPECT_EQ(WeightBytes(*config, WeightFormat::kBF16), 2 * 30'532'122'624 + 2 * (210'944 + 12'582'912));
}

TEST(ModelConfigTest, PlacesDenseLayersAmongSparseOnes) {
  Json json = With(With(Qwen3MoeJson(), "decoder_sparse_step", 2), "mlp_only_layers", {1, 5});

  const auto config = ParseModelConfig(json);

  std::string kinds;
  for (int i = 0; i < 8; ++i) kinds += std::holds_alternative<MoeSpec>(config->layers[i].ffn) ? 'm' : 'd';
  EXPECT_EQ(kinds, "dddmdddm");
  EXPECT_EQ(std::get<DenseSpec>(config->layers[0].ffn).intermediate_size, 6144);
}

TEST(ModelConfigTest, ReadsTheSpellingOfNewerFiles) {
  Json json = Without(Without(Without(Qwen3MoeJson(), "num_experts"), "rope_theta"), "rope_scaling");
  json["num_local_experts"] = 64;
  json["dtype"] = "float16";
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e6}};

  const auto config = ParseModelConfig(json);

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(std::get<MoeSpec>(config->layers[0].ffn).num_experts, 64);
  EXPECT_EQ(config->checkpoint_dtype, DType::kF16);
  EXPECT_EQ(config->rope.theta, 5e6);
}

TEST(ModelConfigTest, ReadsYarn) {
  Json json = Qwen2Json();
  json["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};

  const auto config = ParseModelConfig(json);

  ASSERT_TRUE(config.ok()) << config.status();
  const YarnRope& yarn = std::get<YarnRope>(config->rope.scaling);
  EXPECT_EQ(yarn.factor, 4.0);
  EXPECT_NEAR(yarn.attention_factor, 1.138629, 1e-6);
  EXPECT_EQ(config->max_positions(), 131072);
}

TEST(ModelConfigTest, TakesTheHeadDimOfTheFamilyWhenTheFileHasNone) {
  Json dense = With(Without(Qwen3MoeJson(), "head_dim"), "architectures", {"Qwen3ForCausalLM"});

  EXPECT_EQ(Gqa(*ParseModelConfig(dense)).head_dim, 128);
  EXPECT_EQ(Gqa(*ParseModelConfig(Without(Qwen3MoeJson(), "head_dim"))).head_dim, 64);
}

TEST(ModelConfigTest, GoesByTheModelTypeWhereNoArchitectureIsNamed) {
  EXPECT_EQ(ParseModelConfig(Without(Qwen3MoeJson(), "architectures"))->architecture, "Qwen3MoeForCausalLM");
}

TEST(ModelConfigTest, NamesAnUnknownArchitectureAndTheKnownOnes) {
  EXPECT_THAT(Unsupported(With(Qwen2Json(), "architectures", {"MambaForCausalLM"})),
              StartsWith("architecture \"MambaForCausalLM\" is not supported; supported are Qwen2ForCausalLM, "
                         "Qwen3ForCausalLM, Qwen3MoeForCausalLM, PanguProMoEForCausalLM, "));
  EXPECT_THAT(Invalid(Without(Without(Qwen2Json(), "architectures"), "model_type")),
              StartsWith("architectures is missing, and so is model_type; supported are Qwen2ForCausalLM, "));
  EXPECT_THAT(Unsupported(With(Without(Qwen2Json(), "architectures"), "model_type", "mamba")),
              StartsWith("model_type \"mamba\" is not supported; supported are Qwen2ForCausalLM, "));
  EXPECT_EQ(Invalid(With(Qwen2Json(), "architectures", Json::array())), "architectures must be a list of names");
}

TEST(ModelConfigTest, NamesTheKeyAndTheAbsurdValue) {
  EXPECT_EQ(Invalid(Without(Qwen2Json(), "hidden_size")), "hidden_size is missing");
  EXPECT_EQ(Invalid(With(Qwen2Json(), "hidden_size", 0)), "hidden_size is 0; must be an integer in 1..131072");
  EXPECT_EQ(Invalid(With(Qwen2Json(), "hidden_size", "big")),
            "hidden_size is \"big\"; must be an integer in 1..131072");
  EXPECT_EQ(Invalid(With(Qwen2Json(), "num_hidden_layers", 1'000'000)),
            "num_hidden_layers is 1000000; must be an integer in 1..1024");
  EXPECT_EQ(Invalid(With(Qwen2Json(), "vocab_size", -5)), "vocab_size is -5; must be an integer in 1..4194304");
  EXPECT_THAT(Invalid(With(Qwen2Json(), "rms_norm_eps", 0)), HasSubstr("rms_norm_eps is 0; must be a number in"));
  EXPECT_THAT(Invalid(With(Qwen2Json(), "rope_theta", 0.5)), HasSubstr("rope_theta is 0.5; must be a number in"));
  EXPECT_THAT(Invalid(With(Qwen2Json(), "eos_token_id", {1, "x"})), HasSubstr("eos_token_id is \"x\""));
  EXPECT_THAT(Invalid(With(Qwen2Json(), "tie_word_embeddings", 1)), HasSubstr("tie_word_embeddings is 1"));
  EXPECT_THAT(Invalid(With(Qwen3MoeJson(), "mlp_only_layers", {48})), HasSubstr("mlp_only_layers is 48"));
  EXPECT_THAT(Invalid(With(Qwen3MoeJson(), "decoder_sparse_step", 0)), HasSubstr("decoder_sparse_step is 0"));
}

TEST(ModelConfigTest, NamesContradictions) {
  EXPECT_EQ(Invalid(With(Qwen2Json(), "num_key_value_heads", 5)),
            "num_attention_heads is 28; must be a multiple of num_key_value_heads 5");
  EXPECT_EQ(Invalid(With(Qwen2Json(), "hidden_size", 3600)),
            "hidden_size is 3600; must be a multiple of num_attention_heads 28 when there is no head_dim");
  EXPECT_EQ(Invalid(With(Qwen3MoeJson(), "head_dim", 7)), "head_dim is 7; must be even, 2..1024");
  EXPECT_EQ(Invalid(With(Qwen3MoeJson(), "num_experts_per_tok", 129)),
            "num_experts_per_tok is 129; must be at most num_experts 128");
}

TEST(ModelConfigTest, NamesWhatIsNotSupported) {
  EXPECT_THAT(Unsupported(With(Qwen2Json(), "use_sliding_window", true)), HasSubstr("use_sliding_window is true"));
  EXPECT_THAT(Unsupported(With(Qwen2Json(), "layer_types", {"full_attention", "sliding_attention"})),
              HasSubstr("layer_types"));
  EXPECT_EQ(Unsupported(With(Qwen2Json(), "hidden_act", "gelu")), "hidden_act is \"gelu\"; only \"silu\" is supported");
  EXPECT_EQ(Unsupported(With(Qwen2Json(), "rope_scaling", {{"rope_type", "longrope"}})),
            "rope type \"longrope\" is not supported; supported are default, linear and yarn");
  EXPECT_THAT(Unsupported(With(Qwen2Json(), "rope_scaling", {{"partial_rotary_factor", 0.5}})),
              HasSubstr("partial_rotary_factor"));
}

TEST(ModelConfigTest, AcceptsASlidingWindowThatIsNotInUse) {
  Json json = With(Qwen2Json(), "use_sliding_window", true);
  json["sliding_window"] = nullptr;

  EXPECT_TRUE(ParseModelConfig(json).ok());
}

TEST(ModelConfigTest, RefusesRopeScalingsThatMakeNoSense) {
  const auto with_rope = [](Json rope) { return With(Qwen2Json(), "rope_scaling", std::move(rope)); };

  EXPECT_EQ(Invalid(with_rope({{"type", "yarn"}})), "factor of the rope scaling is missing");
  EXPECT_THAT(Invalid(with_rope({{"type", "linear"}, {"factor", 0}})), HasSubstr("factor is 0"));
  EXPECT_THAT(Invalid(with_rope({{"type", "yarn"}, {"factor", 4}, {"beta_fast", 1}, {"beta_slow", 2}})),
              HasSubstr("beta_fast is 1; must be at least beta_slow 2"));
  EXPECT_THAT(Invalid(with_rope("yarn")), HasSubstr("rope_scaling must be an object"));
}

// ---- families, by the values of their published config.json ----

Json PanguProMoeJson() {
  return Json::parse(R"({"architectures": ["PanguProMoEForCausalLM"], "vocab_size": 153376, "hidden_size": 5120,
    "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "hidden_act": "silu",
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 16000000.0, "tie_word_embeddings": false,
    "num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 1344,
    "shared_expert_intermediate_size": 5376, "eos_token_id": 45892})");
}

TEST(PanguProMoeConfigTest, ReadsThePublishedModel) {
  const auto config = ParseModelConfig(PanguProMoeJson());

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(Gqa(*config).head_dim, 128);
  EXPECT_TRUE(Gqa(*config).has_output_bias);
  const MoeSpec& moe = std::get<MoeSpec>(config->layers[0].ffn);
  EXPECT_TRUE(std::holds_alternative<GroupedRouter>(moe.router));
  EXPECT_EQ(moe.shared_intermediate_size, 5376);
  // Of each layer: attention with its biases, experts, shared expert, router with its scales, two norms.
  const int64_t attention = 2 * 5120 * (5120 + 1024) + 5120 + 2 * 1024 + 5120;
  const int64_t ffn = 65 * 5120 * 1344 * 3 + (4 - 1) * 5120 * 1344 * 3 + 5120 * 64 + 64;
  EXPECT_EQ(CountParameters(*config).total, 48 * (attention + ffn + 2 * 5120) + 2 * 153'376LL * 5120 + 5120);
  EXPECT_NEAR(static_cast<double>(CountParameters(*config).total), 72.0e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(CountParameters(*config).active), 16e9, 1e9);
}

TEST(PanguProMoeConfigTest, WantsGroupsOfOneSize) {
  EXPECT_EQ(Invalid(With(PanguProMoeJson(), "num_experts_per_tok", 7)),
            "num_experts is 64; must be a multiple of num_experts_per_tok 7, the number of groups");
}

Json DeepseekV3Json() {
  return Json::parse(R"({"architectures": ["DeepseekV3ForCausalLM"], "vocab_size": 129280, "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61, "first_k_dense_replace": 3,
    "moe_layer_freq": 1, "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "topk_method": "noaux_tc",
    "scoring_func": "sigmoid", "norm_topk_prob": true, "routed_scaling_factor": 2.5, "rms_norm_eps": 1e-6,
    "rope_theta": 10000, "max_position_embeddings": 163840, "hidden_act": "silu", "attention_bias": false,
    "tie_word_embeddings": false, "num_nextn_predict_layers": 1, "eos_token_id": 1,
    "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32,
                     "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}})");
}

TEST(DeepseekConfigTest, ReadsVersion3) {
  const auto config = ParseModelConfig(DeepseekV3Json());

  ASSERT_TRUE(config.ok()) << config.status();
  const MlaSpec& mla = std::get<MlaSpec>(config->attention);
  EXPECT_NEAR(mla.score_scale, 0.1352338, 1e-7);
  EXPECT_EQ(std::get<YarnRope>(config->rope.scaling).attention_factor, 1.0);
  EXPECT_EQ(std::get<DenseSpec>(config->layers[2].ffn).intermediate_size, 18432);
  const MoeSpec& moe = std::get<MoeSpec>(config->layers[3].ffn);
  EXPECT_EQ(moe.shared_intermediate_size, 2048);
  const SigmoidTopKRouter& router = std::get<SigmoidTopKRouter>(moe.router);
  EXPECT_EQ(router.num_groups, 8);
  EXPECT_EQ(router.num_chosen_groups, 4);
  EXPECT_EQ(router.scaling_factor, 2.5);
  EXPECT_NEAR(static_cast<double>(CountParameters(*config).total), 671.0e9, 0.1e9);
  EXPECT_NEAR(static_cast<double>(CountParameters(*config).active), 37e9, 1e9);
  EXPECT_EQ(KvBytesPerToken(*config, KvFormat::kBF16), 61 * 576 * 2);
}

Json DeepseekV2LiteJson() {
  return Json::parse(R"({"architectures": ["DeepseekV2ForCausalLM"], "vocab_size": 102400, "hidden_size": 2048,
    "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 27, "first_k_dense_replace": 1,
    "moe_layer_freq": 1, "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": null,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 64,
    "n_shared_experts": 2, "num_experts_per_tok": 6, "n_group": 1, "topk_group": 1, "topk_method": "greedy",
    "scoring_func": "softmax", "norm_topk_prob": false, "routed_scaling_factor": 1.0, "rms_norm_eps": 1e-6,
    "rope_theta": 10000, "max_position_embeddings": 163840, "hidden_act": "silu", "tie_word_embeddings": false,
    "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32,
                     "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707}})");
}

TEST(DeepseekConfigTest, ReadsVersion2Lite) {
  const auto config = ParseModelConfig(DeepseekV2LiteJson());

  ASSERT_TRUE(config.ok()) << config.status();
  const MlaSpec& mla = std::get<MlaSpec>(config->attention);
  EXPECT_EQ(mla.q_lora_rank, 0);
  EXPECT_NEAR(mla.score_scale, 0.1147214, 1e-7);
  EXPECT_TRUE(std::holds_alternative<DenseSpec>(config->layers[0].ffn));
  const MoeSpec& moe = std::get<MoeSpec>(config->layers[1].ffn);
  EXPECT_EQ(moe.shared_intermediate_size, 2816);
  EXPECT_FALSE(std::get<SoftmaxTopKRouter>(moe.router).normalizes_top_k);
  EXPECT_EQ(CountParameters(*config).total, 15'706'484'224);
}

TEST(DeepseekConfigTest, DividesInsteadOfScalingInVersion2) {
  const Json json = With(With(DeepseekV2LiteJson(), "norm_topk_prob", true), "routed_scaling_factor", 16.0);

  const auto config = ParseModelConfig(json);

  const SoftmaxTopKRouter& router = std::get<SoftmaxTopKRouter>(std::get<MoeSpec>(config->layers[1].ffn).router);
  EXPECT_TRUE(router.normalizes_top_k);
  EXPECT_EQ(router.scaling_factor, 1.0);
}

TEST(DeepseekConfigTest, NamesWhatIsWrongWithTheRouter) {
  EXPECT_EQ(Unsupported(With(DeepseekV3Json(), "topk_method", "hash")),
            "topk_method \"hash\" with scoring_func \"sigmoid\" is not supported; supported are noaux_tc with sigmoid, "
            "greedy and group_limited_greedy with softmax");
  EXPECT_EQ(Invalid(With(DeepseekV3Json(), "n_group", 7)),
            "n_routed_experts is 256; must be a multiple of n_group 7");
  EXPECT_THAT(Invalid(With(DeepseekV3Json(), "num_experts_per_tok", 200)), HasSubstr("have only 128 experts"));
}

}  // namespace
}  // namespace expertd
