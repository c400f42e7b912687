// Folders that are not what they should be: every one gets a line that names the fault.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/strings.h"
#include "engine/models/model_sizes.h"
#include "tests/unit/models/support/model_harness.h"

namespace expertd {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

std::string MakeTempFolder() {
  std::string pattern = (fs::temp_directory_path() / "expertd-model-XXXXXX").string();
  return mkdtemp(pattern.data());
}

// A copy of a recorded checkpoint that a test may spoil.
class LoadModelTest : public testing::Test {
 protected:
  LoadModelTest() : dir_(MakeTempFolder()) {
    fs::copy(GoldenFolder("qwen3_moe"), dir_, fs::copy_options::recursive);
  }
  ~LoadModelTest() override { fs::remove_all(dir_); }

  std::string Read(const std::string& name) const {
    std::ifstream file(dir_ + "/" + name, std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    return content.str();
  }
  void Write(const std::string& name, const std::string& content) const {
    std::ofstream(dir_ + "/" + name, std::ios::binary) << content;
  }
  void SetConfig(const std::string& key, const Json& value) const {
    Json config = *ReadJsonFile(dir_ + "/config.json");
    config[key] = value;
    Write("config.json", config.dump());
  }
  // Replaces text of the same length in the checkpoint's header.
  void ReplaceInCheckpoint(const std::string& from, const std::string& to) const {
    std::string bytes = Read("model.safetensors");
    const size_t place = bytes.find(from);
    ASSERT_NE(place, std::string::npos);
    ASSERT_EQ(from.size(), to.size());
    Write("model.safetensors", bytes.replace(place, from.size(), to));
  }

  absl::Status Load() const {
    ThreadPool pool(2);
    return LoadModel(dir_, {}, pool).status();
  }
  std::string Error(absl::StatusCode code) const {
    const absl::Status status = Load();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(ToStdView(status.message())), AllOf(HasSubstr(dir_), Not(HasSubstr("\n"))));
    return std::string(ToStdView(status.message()));
  }

  const std::string dir_;
};

TEST_F(LoadModelTest, LoadsTheFolderAsItIs) { EXPECT_TRUE(Load().ok()) << Load(); }

TEST_F(LoadModelTest, SaysWhenThereIsNoFolder) {
  fs::remove_all(dir_);

  EXPECT_THAT(Error(absl::StatusCode::kNotFound), EndsWith("is not a folder"));
}

TEST_F(LoadModelTest, SaysWhenThereIsNoConfig) {
  fs::remove(dir_ + "/config.json");

  EXPECT_THAT(Error(absl::StatusCode::kNotFound), HasSubstr("config.json"));
}

TEST_F(LoadModelTest, SaysWhenThereAreNoWeights) {
  fs::remove(dir_ + "/model.safetensors");

  EXPECT_THAT(Error(absl::StatusCode::kNotFound), HasSubstr("has no weights: neither model.safetensors, nor"));
}

TEST_F(LoadModelTest, NamesAMissingTensor) {
  ReplaceInCheckpoint("model.layers.1.self_attn.k_norm.weight", "model.layers.1.self_attn.K_norm.weight");

  EXPECT_THAT(Error(absl::StatusCode::kNotFound),
              EndsWith("tensor model.layers.1.self_attn.k_norm.weight is missing from the checkpoint"));
}

TEST_F(LoadModelTest, NamesATensorOfAnotherShape) {
  SetConfig("moe_intermediate_size", 24);

  EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument),
              EndsWith("tensor model.layers.0.mlp.experts.0.gate_proj.weight has shape [20, 48]; config.json calls "
                       "for [24, 48]"));
}

TEST_F(LoadModelTest, NamesAnEmbeddingOfAnotherShape) {
  SetConfig("vocab_size", 97);

  EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument),
              EndsWith("tensor model.embed_tokens.weight has shape [96, 48]; config.json calls for [97, 48]"));
}

TEST_F(LoadModelTest, NamesAnUnsupportedElementType) {
  ReplaceInCheckpoint(R"("model.norm.weight":{"dtype":"F32")", R"("model.norm.weight":{"dtype":"I32")");

  EXPECT_THAT(Error(absl::StatusCode::kUnimplemented),
              EndsWith("tensor model.norm.weight has dtype I32; supported are F32, F16 and BF16"));
}

TEST_F(LoadModelTest, SaysWhenTheConfigIsNotJson) {
  Write("config.json", "{");

  EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument), AllOf(HasSubstr("config.json"), HasSubstr("not valid JSON")));
}

TEST_F(LoadModelTest, SaysWhenTheCheckpointIsCutShort) {
  fs::resize_file(dir_ + "/model.safetensors", fs::file_size(dir_ + "/model.safetensors") - 100);

  EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument), HasSubstr("of data that has"));
}

TEST_F(LoadModelTest, ReportsProgressUpToTheWhole) {
  ThreadPool pool(2);
  int64_t last = 0, total = 0;
  int num_calls = 0;
  LoadOptions options;
  options.progress = [&](const LoadProgress& progress) {
    EXPECT_GE(progress.done_bytes, last);
    EXPECT_LE(progress.done_bytes, progress.total_bytes);
    last = progress.done_bytes;
    total = progress.total_bytes;
    ++num_calls;
  };

  const auto model = LoadModel(dir_, options, pool);

  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(num_calls, 3);  // two layers, and the embedding with the head
  EXPECT_EQ(last, total);
}

TEST_F(LoadModelTest, HoldsTheBytesThatTheConfigForetells) {
  ThreadPool pool(1);
  for (const WeightFormat format :
       {WeightFormat::kF32, WeightFormat::kBF16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    const auto model = LoadModel(dir_, {.weight_format = format}, pool);

    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->memory().weight_bytes, WeightBytes((*model)->config(), format)) << WeightFormatName(format);
  }
}

TEST_F(LoadModelTest, OfAPackedFolderGivesTheSameBits) {
  ThreadPool pool(2);
  const std::vector<int32_t> tokens = {5, 17, 80, 3, 3, 41};
  for (const WeightFormat format : {WeightFormat::kBF16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    const std::string packed = StrCat(dir_, "-", WeightFormatName(format));
    ASSERT_TRUE(PackModel(dir_, packed, {.weight_format = format}, pool).ok());
    const auto converted = LoadModel(dir_, {.weight_format = format}, pool);

    const auto mapped = LoadModel(packed, {}, pool);

    fs::remove_all(packed);
    ASSERT_TRUE(mapped.ok()) << mapped.status();
    EXPECT_EQ((*mapped)->memory().weight_bytes, (*converted)->memory().weight_bytes);
    EXPECT_EQ(ModelHarness(**mapped, {}).Run(tokens, 100), ModelHarness(**converted, {}).Run(tokens, 100))
        << WeightFormatName(format);
  }
}

// What families have beyond matrices and norms, in every kind of folder.
class LoadFamilyTest : public testing::TestWithParam<std::string> {
 protected:
  std::string dir() const { return GoldenFolder(GetParam()); }
  std::string packed() const { return folder_ + "/packed"; }
  void TearDown() override { fs::remove_all(folder_); }

  const std::string folder_ = MakeTempFolder();
  ThreadPool pool_{2};
};

TEST_P(LoadFamilyTest, HoldsTheBytesThatTheConfigForetells) {
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kInt4}) {
    const auto model = LoadModel(dir(), {.weight_format = format}, pool_);

    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->memory().weight_bytes, WeightBytes((*model)->config(), format)) << WeightFormatName(format);
  }
}

TEST_P(LoadFamilyTest, OfAPackedFolderGivesTheSameBits) {
  ASSERT_TRUE(PackModel(dir(), packed(), {.weight_format = WeightFormat::kInt8}, pool_).ok());

  const auto mapped = LoadModel(packed(), {}, pool_);

  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_FALSE(fs::exists(packed() + "/latest_checkpointed_iteration.txt"));
  const std::vector<int32_t> tokens = {5, 17, 80, 3, 3, 41};
  const auto converted = LoadForTest(dir(), WeightFormat::kInt8);
  EXPECT_EQ(ModelHarness(**mapped, {}).Run(tokens, 100), ModelHarness(*converted, {}).Run(tokens, 100));
}

INSTANTIATE_TEST_SUITE_P(All, LoadFamilyTest,
                         testing::Values("deepseek_v3", "deepseek_v2_lite", "pangu_pro_moe", "openpangu_embedded",
                                         "pangu_alpha_erf", "pangu_alpha_megatron", "pangu_alpha_megatron_tp2"));

// The same weights under the names of the port, of which an older converter calls one differently.
TEST(LoadPanguAlphaNamesTest, TakesTheOlderNameOfTheOutputProjection) {
  const std::string from = GoldenFolder("pangu_alpha_tanh");
  const std::string dir = MakeTempFolder(), packed = dir + "/packed";
  fs::copy_file(from + "/config.json", dir + "/config.json");
  std::string bytes = *ReadFile(from + "/model.safetensors", 1 << 20);
  const size_t header_end = 8 + static_cast<size_t>(static_cast<uint8_t>(bytes[0])) +
                            256 * static_cast<size_t>(static_cast<uint8_t>(bytes[1]));
  std::string header = bytes.substr(8, header_end - 8);
  for (size_t at = 0; (at = header.find("attn.c_proj", at)) != std::string::npos;) {
    header.replace(at, 11, "attn.out_proj");
  }
  const size_t size = header.size();
  bytes = std::string{static_cast<char>(size), static_cast<char>(size >> 8), 0, 0, 0, 0, 0, 0} + header +
          bytes.substr(header_end);
  std::ofstream(dir + "/model.safetensors", std::ios::binary) << bytes;
  ThreadPool pool(1);
  ASSERT_TRUE(PackModel(dir, packed, {.weight_format = WeightFormat::kBF16}, pool).ok());

  const auto mapped = LoadModel(packed, {}, pool);
  const auto model = LoadModel(dir, {.weight_format = WeightFormat::kBF16}, pool);

  fs::remove_all(dir);
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  const std::vector<int32_t> tokens = {5, 17, 80};
  const auto newer = LoadForTest(from, WeightFormat::kBF16);
  EXPECT_EQ(ModelHarness(**model, {}).Run(tokens, 100), ModelHarness(*newer, {}).Run(tokens, 100));
  EXPECT_EQ(ModelHarness(**mapped, {}).Run(tokens, 100), ModelHarness(*newer, {}).Run(tokens, 100));
}

TEST(ModelScratchTest, SteadyStepsAllocateNothing) {
  const std::unique_ptr<Model> model = LoadForTest(GoldenFolder("qwen3_moe"), WeightFormat::kInt4);
  ModelHarness harness(*model, {.kv_format = KvFormat::kBF16, .num_threads = 2});
  const int sequence = harness.NewSequence();
  harness.Step({{sequence, std::vector<int32_t>(64, 5)}});
  const int64_t after_first = harness.scratch_bytes();

  for (int i = 0; i < 20; ++i) harness.Step({{sequence, {7}}});
  harness.Step({{harness.NewSequence(), std::vector<int32_t>(64, 9)}});

  EXPECT_EQ(harness.scratch_bytes(), after_first);
}

}  // namespace
}  // namespace expertd
