#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "engine/base/strings.h"
#include "engine/checkpoint/megatron_checkpoint.h"
#include "tests/unit/checkpoint/support/safetensors_file.h"
#include "tests/unit/checkpoint/support/floats_of.h"
#include "tests/unit/checkpoint/support/torch_file.h"

namespace expertd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(ToStdView(status.message())); }

// One block and the query layer of width 4 (heads are not told), 6 words, 3 positions. Tensor i of a rank has the
// values 100 * rank + i, i + 0.5, ... in turn; those that ranks share are alike.
struct Checkpoint {
  int num_ranks = 1;
  std::string query_group = "topQueryEmbedding";
  bool shares_query_table = false;
  std::string arguments;                 // a piece; empty: none
  std::vector<int64_t> last_query_bias;  // of the last rank: another shape than the others'

  using Entries = std::vector<std::pair<std::string, std::string>>;

  static std::string Tensor(TorchFile& file, const std::vector<int64_t>& shape, float first) {
    int64_t size = 1;
    for (const int64_t extent : shape) size *= extent;
    std::vector<float> values;
    for (int64_t i = 0; i < size; ++i) values.push_back(first + static_cast<float>(i));
    return file.Add(shape, values);
  }

  void AddLayer(TorchFile& file, const std::string& prefix, int rank, Entries& entries) const {
    const float own = 100.0f * static_cast<float>(rank);
    const int64_t part = 4 / num_ranks, wide = 8 / num_ranks;
    const bool is_last = rank == num_ranks - 1 && !last_query_bias.empty();
    const auto add = [&](const char* name, const std::vector<int64_t>& shape, float first) {
      entries.emplace_back(prefix + name, Tensor(file, shape, first));
    };
    add("input_layernorm.weight", {4}, 1);
    add("input_layernorm.bias", {4}, 2);
    for (const char* name : {"query", "key", "value"}) {
      add((std::string("attention.") + name + ".weight").c_str(), {part, 4}, own);
      add((std::string("attention.") + name + ".bias").c_str(),
          is_last ? last_query_bias : std::vector<int64_t>{part}, own);
    }
    add("attention.dense.weight", {4, part}, own);
    add("attention.dense.bias", {4}, 3);
    add("post_attention_layernorm.weight", {4}, 4);
    add("post_attention_layernorm.bias", {4}, 5);
    add("mlp.dense_h_to_4h.weight", {wide, 4}, own);
    add("mlp.dense_h_to_4h.bias", {wide}, own);
    add("mlp.dense_4h_to_h.weight", {4, wide}, own);
    add("mlp.dense_4h_to_h.bias", {4}, 6);
  }

  std::string RankBytes(int rank) const {
    using pickled::Dict, pickled::OrderedDict;
    TorchFile file;
    const float own = 100.0f * static_cast<float>(rank);
    const int64_t query_rows = shares_query_table ? 4 / num_ranks : 4;
    Entries transformer;
    AddLayer(file, "layers.0.", rank, transformer);
    transformer.emplace_back("final_layernorm.weight", Tensor(file, {4}, 7));
    transformer.emplace_back("final_layernorm.bias", Tensor(file, {4}, 8));
    AddLayer(file, "topQueryLayer.", rank, transformer);
    const std::string language_model =
        Dict({{"embedding", Dict({{"word_embeddings", OrderedDict({{"weight", Tensor(file, {6, 4}, own)}})},
                                  {"position_embeddings", OrderedDict({{"weight", Tensor(file, {4, 4}, 9)}})}})},
              {query_group, Dict({{"top_query_embeddings",
                                   OrderedDict({{"weight", Tensor(file, {query_rows, 4}, own)}})}})},
              {"transformer", OrderedDict(transformer)}});
    Entries root = {{"iteration", pickled::Int(7)}, {"model", Dict({{"language_model", language_model}})}};
    if (!arguments.empty()) root.emplace_back("args", arguments);
    return file.Bytes(Dict(root));
  }

  void WriteTo(const TempFolder& folder) const {
    WriteFile(folder / "latest_checkpointed_iteration.txt", "7\n");
    for (int rank = 0; rank < num_ranks; ++rank) {
      const std::string dir = folder / "iter_0000007/mp_rank_0" + std::to_string(rank);
      std::filesystem::create_directories(dir);
      WriteFile(dir + "/model_optim_rng.pt", RankBytes(rank));
    }
  }
};

std::string Namespace(const std::vector<std::pair<std::string, std::string>>& entries) {
  return pickled::WithState(pickled::Class("argparse", "Namespace") + ")\x81", pickled::Dict(entries));
}

std::string OpenError(const TempFolder& folder) {
  const auto source = OpenMegatron(folder.path());
  EXPECT_FALSE(source.ok());
  return Message(source.status());
}

TEST(MegatronTest, GivesTensorsTheNamesOfThePort) {
  const TempFolder folder;
  Checkpoint{}.WriteTo(folder);

  const auto source = OpenMegatron(folder.path());

  ASSERT_TRUE(IsMegatronFolder(folder.path()));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->Names().size(), 5u + 2 * 16);
  EXPECT_THAT((*source)->Get("transformer.wte.weight")->shape, ElementsAre(6, 4));
  EXPECT_THAT(*ReadVector(**source, "transformer.h.0.ln_2.bias", 4), ElementsAre(5, 6, 7, 8));
  EXPECT_THAT(*ReadVector(**source, "transformer.h.1.mlp.c_proj.bias", 4), ElementsAre(6, 7, 8, 9));
  EXPECT_THAT(*ReadVector(**source, "transformer.ln_f.weight", 4), ElementsAre(7, 8, 9, 10));
  EXPECT_FALSE((*source)->Has("transformer.h.2.ln_1.weight"));
}

TEST(MegatronTest, EvolutionKeepsItsQueriesElsewhere) {
  const TempFolder folder;
  Checkpoint{.query_group = "task_embedding"}.WriteTo(folder);

  const auto source = OpenMegatron(folder.path());

  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT((*source)->Get("transformer.wqe.weight")->shape, ElementsAre(4, 4));
}

TEST(MegatronTest, PutsThePiecesOfTheRanksTogether) {
  const TempFolder folder;
  Checkpoint{.num_ranks = 2}.WriteTo(folder);

  const auto source = OpenMegatron(folder.path());

  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT((*source)->Get("transformer.wte.weight")->shape, ElementsAre(12, 4));
  EXPECT_THAT((*source)->Get("transformer.h.0.attn.k_proj.weight")->shape, ElementsAre(4, 4));
  EXPECT_THAT(FloatsOf(**source, "transformer.h.0.attn.k_proj.bias"), ElementsAre(0, 1, 100, 101));
  EXPECT_THAT((*source)->Get("transformer.h.1.attn.c_proj.weight")->shape, ElementsAre(4, 4));
  EXPECT_THAT(FloatsOf(**source, "transformer.h.1.attn.c_proj.weight"),
              ElementsAre(0, 1, 100, 101, 2, 3, 102, 103, 4, 5, 104, 105, 6, 7, 106, 107));
  EXPECT_THAT(FloatsOf(**source, "transformer.h.1.attn.c_proj.bias"), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT((*source)->Get("transformer.wqe.weight")->shape, ElementsAre(4, 4));  // each rank has all of it
}

TEST(MegatronTest, TheQueryTableMayBeSharedLikeAVocabulary) {
  const TempFolder folder;
  Checkpoint{.num_ranks = 2, .shares_query_table = true}.WriteTo(folder);

  const auto source = OpenMegatron(folder.path());

  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT(FloatsOf(**source, "transformer.wqe.weight"),
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 100, 101, 102, 103, 104, 105, 106, 107));
}

TEST(MegatronTest, RanksMustFitTogether) {
  const TempFolder folder;
  Checkpoint{.num_ranks = 2, .last_query_bias = {3}}.WriteTo(folder);

  const auto source = OpenMegatron(folder.path());

  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT(Message((*source)->Get("transformer.h.0.attn.q_proj.bias").status()),
              HasSubstr("mp_rank_01/model_optim_rng.pt: tensor transformer.layers.0.attention.query.bias is f32 [3]; "
                        "that of rank 0 f32 [2]"));
}

TEST(MegatronTest, TakesTheHeadsFromTheArguments) {
  const TempFolder folder;
  Checkpoint{.num_ranks = 2,
             .arguments = Namespace({{"num_attention_heads", pickled::Int(2)},
                                     {"layernorm_epsilon", pickled::Float(2e-5)},
                                     {"vocab_size", pickled::Int(11)}})}
      .WriteTo(folder);

  const auto config = ReadMegatronConfig(folder.path());

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->heads_of, "the arguments of the training");
  EXPECT_EQ(config->json,
            Json({{"architectures", {"GPTPanguForCausalLM"}},
                  {"model_type", "gpt_pangu"},
                  {"num_layers", 2},
                  {"hidden_size", 4},
                  {"intermediate_size", 8},
                  {"activation_function", "gelu_new"},
                  {"layer_norm_epsilon", 2e-5},
                  {"max_position_embeddings", 4},
                  {"vocab_size", 11},
                  {"eos_token_id", 9},
                  {"torch_dtype", "float32"},
                  {"num_heads", 2}}));
}

TEST(MegatronTest, AConfigFileWinsKeyByKey) {
  const TempFolder folder;
  Checkpoint{.arguments = Namespace({{"num_attention_heads", pickled::Int(2)}})}.WriteTo(folder);
  WriteFile(folder / "config.json", R"({"num_heads": 4, "activation_function": "gelu"})");

  const auto config = ReadMegatronConfig(folder.path());

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->heads_of, "config.json");
  EXPECT_EQ(config->json["num_heads"], 4);
  EXPECT_EQ(config->json["activation_function"], "gelu");
  EXPECT_EQ(config->json["hidden_size"], 4);
}

TEST(MegatronTest, SaysWhenNothingTellsTheHeads) {
  const TempFolder folder;
  Checkpoint{}.WriteTo(folder);

  EXPECT_THAT(Message(ReadMegatronConfig(folder.path()).status()), HasSubstr("does not tell the number of heads"));
}

TEST(MegatronTest, FoldersThatDoNotFitAreRefused) {
  const TempFolder folder;
  Checkpoint{}.WriteTo(folder);
  for (const char* text : {"", "-1", "seven", "../x"}) {
    WriteFile(folder / "latest_checkpointed_iteration.txt", text);
    EXPECT_THAT(OpenError(folder), HasSubstr("must be the number of an iteration, or release")) << text;
  }
  WriteFile(folder / "latest_checkpointed_iteration.txt", "8");
  EXPECT_THAT(OpenError(folder), HasSubstr("iter_0000008/mp_rank_00/model_optim_rng.pt is missing"));

  std::filesystem::create_directories(folder / "release/mp_rank_00_000");
  WriteFile(folder / "latest_checkpointed_iteration.txt", "release");
  EXPECT_THAT(OpenError(folder), HasSubstr("mp_rank_00_000 is of a pipeline-parallel training"));
}

TEST(MegatronTest, OtherFilesOfPyTorchAreRefused) {
  const TempFolder folder;
  Checkpoint{}.WriteTo(folder);
  TorchFile file;
  WriteFile(folder / "iter_0000007/mp_rank_00/model_optim_rng.pt",
            file.Bytes(pickled::Dict({{"model", pickled::Dict({{"a", file.Add({1}, {1})}})}})));

  EXPECT_THAT(OpenError(folder), HasSubstr("model_optim_rng.pt has no model.language_model"));
}

TEST(OpenCheckpointTest, TakesTheKindOfFilesThatAFolderHas) {
  const TempFolder folder;
  const absl::Status nothing = OpenCheckpoint(folder.path()).status();
  Checkpoint{}.WriteTo(folder);
  const auto megatron = OpenCheckpoint(folder.path());
  TorchFile file;
  WriteFile(folder / "pytorch_model.bin", file.Bytes(pickled::Dict({{"torch", file.Add({1}, {1})}})));
  const auto torch = OpenCheckpoint(folder.path());
  WriteFile(folder / "model.safetensors", SafetensorsBytes({{"safe", {1}, {1}}}));
  const auto safetensors = OpenCheckpoint(folder.path());

  EXPECT_EQ(nothing.code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(megatron.ok() && torch.ok() && safetensors.ok());
  EXPECT_TRUE((*megatron)->Has("transformer.wte.weight"));
  EXPECT_TRUE((*torch)->Has("torch"));
  EXPECT_TRUE((*safetensors)->Has("safe"));
}

// What a training keeps beside its weights: states of random generators and of the loss, all data.
TEST(MegatronTest, LooksOverWhatIsNoWeight) {
  const std::string state = pickled::WithState(
      pickled::Call(pickled::Class("numpy.core.multiarray", "_reconstruct"),
                    pickled::Tuple({pickled::Class("numpy", "ndarray"), pickled::Tuple({pickled::Int(0)}),
                                    pickled::Call(pickled::Class("_codecs", "encode"),
                                                  pickled::Tuple({pickled::Text("b"), pickled::Text("latin1")}))})),
      pickled::Tuple({pickled::Int(1), "N"}));
  const std::string scaler = pickled::WithState(pickled::Class("fp16.loss_scaler", "DynamicLossScaler") + ")\x81",
                                                pickled::Dict({{"cur_scale", pickled::Float(65536.0)}}));
  const TempFolder folder;
  Checkpoint{.arguments = Namespace({{"rng", state}, {"scaler", scaler}, {"num_attention_heads", pickled::Int(1)},
                                     {"dtype", pickled::Class("torch", "float16")}})}
      .WriteTo(folder);

  EXPECT_EQ(ReadMegatronConfig(folder.path())->json["num_heads"], 1);
}

}  // namespace
}  // namespace expertd
