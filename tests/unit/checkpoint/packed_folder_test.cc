#include "engine/checkpoint/packed_folder.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/file.h"
#include "engine/base/strings.h"
#include "engine/tensor/quantize.h"
#include "tests/unit/checkpoint/support/safetensors_file.h"

namespace expertd {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class PackedFolderTest : public testing::Test {
 protected:
  PackedFolderTest() : packed_((fs::path(folder_.path()) / "packed").string()) {
    fs::create_directory(folder_ / "model");
    WriteFile(folder_ / "model/config.json", "{}");
    WriteFile(folder_ / "model/model.safetensors", "not copied");
  }

  // What a model asks its reader for.
  static MatrixSpec Matrix() { return {.name = "m", .cols = 200, .parts = {TensorRows::All("m", 70, 200)}}; }
  static MatrixSpec Router() {
    return {.name = "r", .cols = 40, .parts = {TensorRows::All("r", 4, 40)}, .format = WeightFormat::kF32};
  }

  absl::Status Pack(WeightFormat format) {
    const auto reader = MakeDummyReader(format);
    auto writer = PackedFolderWriter::Create(packed_, format);
    if (!writer.ok()) return writer.status();
    const auto tee = (*writer)->Tee(*reader);
    EXPECT_TRUE(tee->Matrix(Matrix()).ok());
    EXPECT_TRUE(tee->Matrix(Router()).ok());
    EXPECT_TRUE(tee->Vector("norm", 3).ok());
    EXPECT_TRUE(tee->Table("table", 5, 7, DType::kBF16).ok());
    return (*writer)->Finish(folder_ / "model");
  }

  // Overwrites one byte of a file.
  static void Damage(const fs::path& path, int64_t offset) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(offset);
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(offset);
    file.put(byte);
  }

  void ReplaceInIndex(const std::string& from, const std::string& to) {
    const fs::path path = fs::path(packed_) / "expertd_weights.json";
    std::ifstream file(path);
    std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << text;
    WriteFile(path.string(), text.replace(at, from.size(), to));
  }

  const TempFolder folder_;
  const std::string packed_;
};

// Layers ask for tensors that not every checkpoint has; a packed folder must answer as the folder that it was made of.
TEST_F(PackedFolderTest, HasTheVectorsAndTablesThatWereWritten) {
  ASSERT_TRUE(Pack(WeightFormat::kInt8).ok());

  const auto reader = OpenPackedFolder(packed_);

  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE((*reader)->Has("norm"));
  EXPECT_TRUE((*reader)->Has("table"));
  EXPECT_FALSE((*reader)->Has("other"));
}

TEST_F(PackedFolderTest, KeepsAFileThatWasAddedInsteadOfTheModels) {
  const auto reader = MakeDummyReader(WeightFormat::kInt8);
  const auto writer = PackedFolderWriter::Create(packed_, WeightFormat::kInt8);
  ASSERT_TRUE(writer.ok()) << writer.status();

  ASSERT_TRUE((*writer)->AddFile("config.json", "{\"made\": 1}").ok());
  ASSERT_TRUE((*writer)->Finish(folder_ / "model").ok());

  EXPECT_EQ(*ReadFile(packed_ + "/config.json", 100), "{\"made\": 1}");
}

TEST_F(PackedFolderTest, GivesBackTheBytesThatWereWritten) {
  for (const WeightFormat format : {WeightFormat::kBF16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    fs::remove_all(packed_);
    ASSERT_TRUE(Pack(format).ok());

    const auto reader = OpenPackedFolder(packed_);

    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ((*reader)->format(), format);
    for (const MatrixSpec& spec : {Matrix(), Router()}) {
      const auto expected = MakeDummyReader(format)->Matrix(spec);
      const auto actual = (*reader)->Matrix(spec);
      ASSERT_TRUE(actual.ok()) << actual.status();
      ASSERT_EQ(actual->size_bytes(), expected->size_bytes());
      EXPECT_EQ(std::memcmp(actual->bytes().data(), expected->bytes().data(), actual->bytes().size()), 0);
      EXPECT_EQ(actual->packed().padded_cols, expected->packed().padded_cols);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(actual->bytes().data()) % 64, 0u);
    }
    EXPECT_EQ(*(*reader)->Vector("norm", 3), std::vector<float>(3, 1.0f));
    EXPECT_EQ((*reader)->Table("table", 5, 7, DType::kBF16)->size_bytes, 70);
  }
}

TEST_F(PackedFolderTest, KeepsBytesThatOutliveTheReader) {
  ASSERT_TRUE(Pack(WeightFormat::kInt8).ok());
  WeightMatrix matrix;
  {
    const auto reader = OpenPackedFolder(packed_);
    matrix = *(*reader)->Matrix(Matrix());
  }
  std::vector<float> expected(200), actual(200);
  MakeDummyReader(WeightFormat::kInt8)->Matrix(Matrix())->CopyRow(69, expected.data());

  matrix.CopyRow(69, actual.data());

  EXPECT_EQ(actual, expected);
}

TEST_F(PackedFolderTest, CopiesTheSmallFilesAndNoWeights) {
  ASSERT_TRUE(Pack(WeightFormat::kInt8).ok());

  EXPECT_TRUE(fs::exists(packed_ + "/config.json"));
  EXPECT_FALSE(fs::exists(packed_ + "/model.safetensors"));
}

TEST_F(PackedFolderTest, IsFoundByItsFormat) {
  ASSERT_TRUE(Pack(WeightFormat::kInt4).ok());

  EXPECT_EQ(*FindPackedFormat(packed_), WeightFormat::kInt4);
  EXPECT_EQ(*FindPackedFormat(folder_ / "model"), std::nullopt);
}

TEST_F(PackedFolderTest, RefusesToReplaceAnything) {
  ASSERT_TRUE(Pack(WeightFormat::kInt8).ok());

  EXPECT_EQ(Pack(WeightFormat::kInt8).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(PackedFolderTest, LeavesNothingBehindWhenItIsNotFinished) {
  { const auto writer = PackedFolderWriter::Create(packed_, WeightFormat::kInt8); }

  int count = 0;
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    if (entry.path().filename() != "model") ++count;
  }
  EXPECT_EQ(count, 0);
}

TEST_F(PackedFolderTest, NoticesDamagedBytes) {
  ASSERT_TRUE(Pack(WeightFormat::kInt8).ok());
  Damage(fs::path(packed_) / "expertd_weights.bin", 200);

  const absl::Status status = (*OpenPackedFolder(packed_))->Matrix(Matrix()).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the bytes of m do not have their checksum"));
}

TEST_F(PackedFolderTest, NoticesDataThatIsCutShort) {
  ASSERT_TRUE(Pack(WeightFormat::kInt8).ok());
  fs::resize_file(packed_ + "/expertd_weights.bin", 1000);

  EXPECT_EQ(OpenPackedFolder(packed_).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(PackedFolderTest, NamesAnotherVersionAndTheRemedy) {
  ASSERT_TRUE(Pack(WeightFormat::kInt8).ok());
  ReplaceInIndex("\"version\": 2", "\"version\": 7");

  for (const absl::Status& status : {OpenPackedFolder(packed_).status(), FindPackedFormat(packed_).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("has version 7, this expertd reads 2"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("expertd quantize"));
  }
}

TEST_F(PackedFolderTest, RefusesEntriesOutsideTheData) {
  for (const char* lie : {"\"offset\": 64000000", "\"offset\": 3", "\"offset\": -64"}) {
    fs::remove_all(packed_);
    ASSERT_TRUE(Pack(WeightFormat::kInt8).ok());
    ReplaceInIndex("\"offset\": 0", lie);

    EXPECT_EQ(OpenPackedFolder(packed_).status().code(), absl::StatusCode::kInvalidArgument) << lie;
  }
}

TEST_F(PackedFolderTest, NamesWhatConfigJsonCallsForAndIsNotThere) {
  ASSERT_TRUE(Pack(WeightFormat::kInt8).ok());
  const auto reader = OpenPackedFolder(packed_);
  MatrixSpec larger = Matrix(), missing = Matrix();
  larger.cols = 300;
  missing.name = "other";

  EXPECT_THAT(std::string((*reader)->Matrix(larger).status().message()),
              HasSubstr("m is 70 x 200 int8; config.json calls for 70 x 300 int8"));
  EXPECT_EQ((*reader)->Matrix(missing).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ((*reader)->Vector("m", 3).status().code(), absl::StatusCode::kNotFound);
}

// Hands out one int4 matrix with zero points, as quantized checkpoints do whatever the format of their floats.
class Int4Reader : public WeightReader {
 public:
  Int4Reader() : WeightReader(WeightFormat::kBF16) {}
  bool Has(std::string_view) const override { return false; }
  int64_t total_bytes() const override { return 0; }
  absl::StatusOr<WeightMatrix> Matrix(const MatrixSpec& spec) override {
    WeightMatrixBuilder builder = *WeightMatrixBuilder::Create(1, spec.cols, WeightFormat::kInt4, true);
    const QuantizedRow row = {.scale = 1.0f,
                              .codes = std::vector<uint8_t>(static_cast<size_t>(spec.cols), 9),
                              .group_scales = {FloatToHalf(2.0f)},
                              .zero_points = {12}};
    EXPECT_TRUE(builder.AddQuantizedRow(0, row).ok());
    return builder.Finish();
  }
  absl::StatusOr<std::vector<float>> Vector(std::string_view, int) override { return std::vector<float>(); }
  absl::StatusOr<SharedBytes> Table(std::string_view, int, int, DType) override { return SharedBytes(); }
  absl::Status Finish() override { return absl::UnimplementedError("something is left"); }
};

TEST_F(PackedFolderTest, KeepsMatricesThatAreHeldOtherwiseThanMost) {
  const MatrixSpec spec = {.name = "m", .cols = 5, .parts = {TensorRows::All("m", 1, 5)}};
  Int4Reader int4;
  auto writer = *PackedFolderWriter::Create(packed_, WeightFormat::kBF16);
  const auto tee = writer->Tee(int4);
  ASSERT_TRUE(tee->Matrix(spec).ok());
  EXPECT_EQ(tee->Finish().code(), absl::StatusCode::kUnimplemented);
  ASSERT_TRUE(writer->Finish(folder_ / "model").ok());

  const auto reader = OpenPackedFolder(packed_);

  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto matrix = (*reader)->Matrix(spec);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_TRUE(matrix->packed().has_zero_points);
  std::vector<float> row(5);
  matrix->CopyRow(0, row.data());
  EXPECT_EQ(row, std::vector<float>(5, -6.0f));
  MatrixSpec as_floats = spec;
  as_floats.format = WeightFormat::kBF16;
  EXPECT_EQ((*reader)->Matrix(as_floats).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace expertd
