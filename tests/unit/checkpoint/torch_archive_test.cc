#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>

#include "engine/base/strings.h"
#include "engine/checkpoint/torch_archive.h"
#include "tests/unit/checkpoint/support/safetensors_file.h"
#include "tests/unit/checkpoint/support/floats_of.h"
#include "tests/unit/checkpoint/support/torch_file.h"

namespace expertd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string Message(const absl::Status& status) { return std::string(ToStdView(status.message())); }

std::string FloatBytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

// A folder with a pytorch_model.bin.
class TorchFolder {
 public:
  explicit TorchFolder(const std::string& bytes) { WriteFile(folder_ / "pytorch_model.bin", bytes); }
  absl::StatusOr<std::unique_ptr<WeightSource>> Open() const { return OpenTorchFiles(folder_.path()); }

 private:
  TempFolder folder_;
};

// What opening says; empty when it opens.
std::string ErrorOf(const std::string& bytes) {
  const auto source = TorchFolder(bytes).Open();
  if (source.ok()) return "";
  EXPECT_THAT(Message(source.status()), HasSubstr("pytorch_model.bin: "));
  EXPECT_THAT(Message(source.status()), Not(HasSubstr("\n")));
  return Message(source.status());
}

std::string ErrorOfTensor(const pickled::Tensor& tensor) {
  return ErrorOf(TorchBytes(pickled::Dict({{"a", pickled::Piece(tensor)}}), {FloatBytes({1, 2, 3, 4, 5, 6})}));
}

TEST(TorchArchiveTest, GivesTensorsByName) {
  for (const ZipSizes sizes : {ZipSizes::k32, ZipSizes::k64}) {
    TorchFile file;
    const std::string piece = pickled::OrderedDict({{"b", file.Add({2, 2}, {1, 2, 3, 4})}, {"a", file.Add({1}, {5})}});
    const TorchFolder folder(TorchBytes(piece, {FloatBytes({1, 2, 3, 4}), FloatBytes({5})}, sizes));

    const auto source = folder.Open();

    ASSERT_TRUE(source.ok()) << source.status();
    EXPECT_THAT((*source)->Names(), ElementsAre("a", "b"));
    EXPECT_EQ((*source)->TotalBytes(), 20);
    EXPECT_TRUE((*source)->Has("b"));
    EXPECT_THAT((*source)->Get("b")->shape, ElementsAre(2, 2));
    EXPECT_THAT(*ReadVector(**source, "a", 1), ElementsAre(5.0f));
    EXPECT_EQ((*source)->Get("c").status().code(), absl::StatusCode::kNotFound);
  }
}

TEST(TorchArchiveTest, TensorsMayBeParametersAndPartsOfAStorage) {
  const std::string part = pickled::Piece(
      {.key = "0", .shape = {2, 1}, .strides = {1, 7}, .storage_elements = 6, .offset = 3});
  const std::string parameter = pickled::Call(pickled::Class("torch._utils", "_rebuild_parameter"),
                                              pickled::Tuple({part, "\x88", pickled::OrderedDict({})}));
  const TorchFolder folder(TorchBytes(pickled::Dict({{"a", parameter}}), {FloatBytes({1, 2, 3, 4, 5, 6})}));

  const auto source = folder.Open();

  ASSERT_TRUE(source.ok()) << source.status();
  const auto tensor = (*source)->Get("a");
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_THAT(tensor->shape, ElementsAre(2, 1));
  float last;
  std::memcpy(&last, tensor->data + 4, sizeof(last));
  EXPECT_EQ(last, 5.0f);
}

TEST(TorchArchiveTest, HalfAndBfloat16AreReadAndOtherTypesRefusedByName) {
  const std::string half = pickled::Piece(
      {.key = "0", .shape = {2}, .strides = {1}, .storage = "HalfStorage", .storage_elements = 2});
  const std::string brain = pickled::Piece(
      {.key = "1", .shape = {2}, .strides = {1}, .storage = "BFloat16Storage", .storage_elements = 2});
  const std::string integers = pickled::Piece(
      {.key = "0", .shape = {1}, .strides = {1}, .storage = "IntStorage", .storage_elements = 1});
  const std::string bytes = TorchBytes(pickled::Dict({{"h", half}, {"b", brain}, {"i", integers}}),
                                       {std::string("\x00\x3c\x00\xc0", 4), std::string("\x80\x3f\x40\xc0", 4)});
  const TorchFolder folder(bytes);

  const auto source = folder.Open();

  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT(*ReadVector(**source, "h", 2), ElementsAre(1.0f, -2.0f));
  EXPECT_THAT(*ReadVector(**source, "b", 2), ElementsAre(1.0f, -3.0f));
  EXPECT_THAT(Message((*source)->Get("i").status()), HasSubstr("tensor i has the storage torch.IntStorage"));
}

// A training's ranks may have been cut from whole tensors, of which they are then columns.
TEST(TorchArchiveTest, TensorsNeedNotBeContiguous) {
  const std::string turned = pickled::Piece({.key = "0", .shape = {2, 3}, .strides = {1, 2}, .storage_elements = 6});
  const std::string columns = pickled::Piece(
      {.key = "0", .shape = {2, 2}, .strides = {3, 1}, .storage_elements = 6, .offset = 1});
  const TorchFolder folder(TorchBytes(pickled::Dict({{"turned", turned}, {"columns", columns}}),
                                      {FloatBytes({1, 2, 3, 4, 5, 6})}));

  const auto source = folder.Open();

  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT(FloatsOf(**source, "turned"), ElementsAre(1, 3, 5, 2, 4, 6));
  EXPECT_THAT(FloatsOf(**source, "columns"), ElementsAre(2, 3, 5, 6));
}

TEST(TorchArchiveTest, TensorsMustLieInTheirStorageAndStoragesInTheFile) {
  EXPECT_THAT(ErrorOfTensor({.key = "0", .shape = {7}, .strides = {1}, .storage_elements = 6}),
              HasSubstr("tensor a of shape [7] and strides [1] does not lie at element 0 of a storage of 6"));
  EXPECT_THAT(ErrorOfTensor({.key = "0", .shape = {2}, .strides = {1}, .storage_elements = 6, .offset = 5}),
              HasSubstr("does not lie at element 5 of a storage of 6"));
  EXPECT_THAT(ErrorOfTensor({.key = "0", .shape = {2, 2}, .strides = {5, 1}, .storage_elements = 6}),
              HasSubstr("does not lie at element 0"));
  EXPECT_THAT(ErrorOfTensor({.key = "0", .shape = {1000}, .strides = {0}, .storage_elements = 6}),
              HasSubstr("does not lie at element 0"));  // it would take more memory than the file has
  EXPECT_THAT(ErrorOfTensor({.key = "0", .shape = {2}, .strides = {1}, .storage_elements = 7}),
              HasSubstr("tensor a has a storage of 7 elements in 24 bytes"));
  EXPECT_THAT(ErrorOfTensor({.key = "../0", .shape = {2}, .strides = {1}, .storage_elements = 6}),
              HasSubstr("tensor a has its bytes in ../0, not here"));
  EXPECT_THAT(ErrorOfTensor({.key = "0", .shape = {2}, .strides = {1}, .storage_elements = 6, .offset = -1}),
              HasSubstr("tensor a has a malformed offset"));
  EXPECT_THAT(ErrorOfTensor({.key = "0", .shape = {-2}, .strides = {1}, .storage_elements = 6}),
              HasSubstr("tensor a has a malformed offset"));
  const int64_t huge = int64_t{1} << 62;
  EXPECT_THAT(ErrorOfTensor({.key = "0", .shape = {huge, 4}, .strides = {4, 1}, .storage_elements = 6}),
              HasSubstr("tensor a is too large"));
  EXPECT_THAT(ErrorOfTensor({.key = "0", .shape = {3, 1}, .strides = {huge, 1}, .storage_elements = 6}),
              HasSubstr("tensor a is too large"));
}

TEST(TorchArchiveTest, UnknownClassesAndInstructionsAreRefusedByName) {
  const std::string call = pickled::Call(pickled::Class("os", "system"), pickled::Tuple({pickled::Text("true")}));

  EXPECT_THAT(ErrorOf(TorchBytes(call, {})), HasSubstr("class os.system is not read as data, at byte 2"));
  EXPECT_THAT(ErrorOf(TorchBytes(pickled::Call(pickled::Class("builtins", "eval"), ")"), {})),
              HasSubstr("class builtins.eval is not read"));
  EXPECT_THAT(ErrorOf(TorchBytes("\x93", {})), HasSubstr("instruction 0x93 is not supported"));
  EXPECT_THAT(ErrorOf(ZipBytes({{"a/data.pkl", "\x80\x04N."}})), HasSubstr("pickle protocol 4 is not supported"));
}

TEST(TorchArchiveTest, MalformedPicklesAreRefused) {
  EXPECT_THAT(ErrorOf(TorchBytes("0", {})), HasSubstr("the stack is empty, at byte 2 of the pickle"));
  EXPECT_THAT(ErrorOf(TorchBytes("N(0", {})), HasSubstr("the stack is empty"));  // not below the mark
  EXPECT_THAT(ErrorOf(TorchBytes("t", {})), HasSubstr("there is no mark"));
  EXPECT_THAT(ErrorOf(TorchBytes("h\x07", {})), HasSubstr("there is no memo 7"));
  EXPECT_THAT(ErrorOf(TorchBytes("}(Nu", {})), HasSubstr("a key has no value"));
  EXPECT_THAT(ErrorOf(TorchBytes("]NNs", {})), HasSubstr("items are added to what takes none"));
  EXPECT_THAT(ErrorOf(TorchBytes("N)R", {})), HasSubstr("what is called is no class"));
  EXPECT_THAT(ErrorOf(TorchBytes("NNb", {})), HasSubstr("a state is given to what is no object"));
  EXPECT_THAT(ErrorOf(TorchBytes("NQ", {})), HasSubstr("is not named by a tuple"));
  EXPECT_THAT(ErrorOf(TorchBytes(std::string("X\xff\xff\xff\xff", 5), {})), HasSubstr("the pickle is cut short"));
  EXPECT_THAT(ErrorOf(ZipBytes({{"a/data.pkl", "\x80\x02N"}})), HasSubstr("the pickle is cut short"));
  EXPECT_THAT(ErrorOf(TorchBytes("N", {})), HasSubstr("is no dict of tensors"));
}

TEST(TorchArchiveTest, DictsThatHoldThemselvesAreRefused) {
  // {"a": itself}, through the memo.
  const std::string cycle = std::string("}q\x01") + pickled::Text("a") + "h\x01s";

  EXPECT_THAT(ErrorOf(TorchBytes(cycle, {})), HasSubstr("dicts are more than 16 deep"));
}

TEST(TorchArchiveTest, DictsThatMultiplyAreRefused) {
  // Each holds the one before a hundred times.
  std::string piece = pickled::Dict({});
  for (int level = 0; level < 10; ++level) {
    piece += "q\x01" "0}(";
    for (int i = 0; i < 100; ++i) piece += pickled::Text(std::to_string(i)) + "h\x01";
    piece += "u";
  }

  EXPECT_THAT(ErrorOf(TorchBytes(piece, {})), HasSubstr("its dicts have too many entries"));
}

TEST(TorchArchiveTest, APickleOfTooManyValuesIsRefused) {
  EXPECT_THAT(ErrorOf(TorchBytes(std::string((4 << 20) + 1, 'N'), {})), HasSubstr("has more than 4194304 values"));
}

TEST(TorchArchiveTest, ArchivesOfAnotherKindAreRefused) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("not a readable ZIP archive"));
  EXPECT_THAT(ErrorOf(std::string(100, '\x80')), HasSubstr("not a readable ZIP archive: there is no end record"));
  EXPECT_THAT(ErrorOf(ZipBytes({{"a/other", ""}})), HasSubstr("has no data.pkl"));
  EXPECT_THAT(ErrorOf(ZipBytes({{"a/data.pkl", "\x80\x02}."}, {"a/byteorder", "big"}})),
              HasSubstr("byteorder is big; must be little"));
  EXPECT_THAT(ErrorOf(ZipBytes({{"a/data.pkl", "}."}, {"a/data.pkl", "}."}})), HasSubstr("two members a/data.pkl"));
  std::string compressed = TorchBytes(pickled::Dict({}), {});
  compressed[compressed.find("PK\x01\x02") + 10] = 8;
  EXPECT_THAT(ErrorOf(compressed), HasSubstr("member archive/data.pkl is compressed"));
}

TEST(TorchArchiveTest, TheFormatBeforePyTorch16IsNamed) {
  // As torch.save(..., _use_new_zipfile_serialization=False) begins: the magic number, then the version, 1001.
  const std::string old("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.", 21);

  EXPECT_THAT(ErrorOf(old), HasSubstr("is in PyTorch's old format, of before 1.6"));
  EXPECT_THAT(ErrorOf(old), HasSubstr("torch.save of PyTorch 1.6 or later"));
  EXPECT_THAT(ErrorOf(old.substr(0, 13)), HasSubstr("not a readable ZIP archive"));
}

// A file with all that the reader knows.
std::string FullFile(ZipSizes sizes) {
  TorchFile file;
  const std::string arguments =
      pickled::WithState(pickled::Class("argparse", "Namespace") + ")\x81",
                         pickled::Dict({{"num_layers", pickled::Int(3)}, {"eps", pickled::Float(1e-5)}, {"x", "N"}}));
  const std::string weights = pickled::OrderedDict({{"a", file.Add({2, 2}, {1, 2, 3, 4})}, {"b", file.Add({1}, {5})}});
  const std::string piece = pickled::Dict({{"args", arguments}, {"model", weights}, {"flag", "\x88"}});
  return TorchBytes(piece, {FloatBytes({1, 2, 3, 4}), FloatBytes({5})}, sizes);
}

TEST(TorchArchiveTest, AFileThatIsCutShortIsRefused) {
  for (const ZipSizes sizes : {ZipSizes::k32, ZipSizes::k64}) {
    const std::string whole = FullFile(sizes);
    ASSERT_EQ(ErrorOf(whole), "");
    for (size_t size = 0; size < whole.size(); ++size) EXPECT_NE(ErrorOf(whole.substr(0, size)), "") << size;
  }
}

// Whatever bytes are changed, what can be read lies in the file. With --gtest_shuffle, other bytes each time.
TEST(TorchArchiveTest, DamagedFilesAreReadOrRefused) {
  std::mt19937 bits(static_cast<uint32_t>(testing::UnitTest::GetInstance()->random_seed()));
  for (int i = 0; i < 500; ++i) {
    std::string bytes = FullFile(i % 2 == 0 ? ZipSizes::k32 : ZipSizes::k64);
    for (unsigned change = 0; change <= bits() % 4; ++change) {
      constexpr std::string_view kValues("\x00\x01\x7f\x80\xff(}]thqRbQsu\x81\x8a", 18);
      bytes[bits() % bytes.size()] = bits() % 2 == 0 ? kValues[bits() % kValues.size()] : static_cast<char>(bits());
    }
    const TorchFolder folder(bytes);
    const auto source = folder.Open();
    if (!source.ok()) continue;
    for (const std::string& name : (*source)->Names()) {
      const auto tensor = (*source)->Get(name);
      if (!tensor.ok()) continue;
      int sum = 0;
      for (int64_t k = 0; k < tensor->size_bytes; ++k) sum += std::to_integer<int>(tensor->data[k]);
      EXPECT_GE(sum, 0);
    }
  }
}

TEST(TorchFilesTest, AnIndexNamesTheFileOfEachTensor) {
  const TempFolder folder;
  TorchFile first, second;
  WriteFile(folder / "pytorch_model-00001-of-00002.bin", first.Bytes(pickled::Dict({{"a", first.Add({1}, {1})}})));
  WriteFile(folder / "pytorch_model-00002-of-00002.bin", second.Bytes(pickled::Dict({{"b", second.Add({1}, {2})}})));
  WriteFile(folder / "pytorch_model.bin.index.json",
            R"({"weight_map":{"a":"pytorch_model-00001-of-00002.bin","b":"pytorch_model-00002-of-00002.bin"}})");

  const auto source = OpenTorchFiles(folder.path());

  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT(*ReadVector(**source, "a", 1), ElementsAre(1.0f));
  EXPECT_THAT(*ReadVector(**source, "b", 1), ElementsAre(2.0f));
}

TEST(TorchFilesTest, AnIndexMayOnlyNameWhatThereIs) {
  const TempFolder folder;
  TorchFile file;
  WriteFile(folder / "a.bin", file.Bytes(pickled::Dict({{"a", file.Add({1}, {1})}})));
  const auto error_of = [&](const char* index) {
    WriteFile(folder / "pytorch_model.bin.index.json", index);
    return Message(OpenTorchFiles(folder.path()).status());
  };

  EXPECT_THAT(error_of(R"({"weight_map":{"b":"a.bin"}})"), HasSubstr("says that a.bin has tensor b; it has not"));
  EXPECT_THAT(error_of(R"({"weight_map":{"a":"b.bin"}})"), HasSubstr("shard b.bin is missing"));
  EXPECT_THAT(error_of(R"({"weight_map":{"a":"../a.bin"}})"), HasSubstr("must be a file of the folder"));
}

}  // namespace
}  // namespace expertd
