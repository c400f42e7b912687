#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <random>
#include <string>

#include "engine/base/strings.h"
#include "engine/checkpoint/weight_source.h"
#include "tests/unit/checkpoint/support/safetensors_file.h"

namespace expertd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr char kOneTensor[] = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

std::string Message(const absl::Status& status) { return std::string(ToStdView(status.message())); }

// What opening a folder with this model.safetensors says; empty when it opens.
std::string ErrorOf(std::string_view bytes) {
  const TempFolder folder;
  WriteFile(folder / "model.safetensors", bytes);
  const auto source = OpenSafetensors(folder.path());
  if (source.ok()) return "";
  EXPECT_EQ(source.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(source.status()), AllOf(HasSubstr("model.safetensors: "), Not(HasSubstr("\n"))));
  return Message(source.status());
}

std::string ErrorOf(std::string_view header, std::string_view data) { return ErrorOf(SafetensorsBytes(header, data)); }

TEST(SafetensorsTest, GivesTensorsByName) {
  const TempFolder folder;
  WriteFile(folder / "model.safetensors", SafetensorsBytes({{"b", {2, 2}, {1, 2, 3, 4}}, {"a", {1}, {5}}}));

  const auto source = OpenSafetensors(folder.path());

  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT((*source)->Names(), ElementsAre("a", "b"));
  EXPECT_EQ((*source)->TotalBytes(), 20);
  EXPECT_TRUE((*source)->Has("b"));
  EXPECT_FALSE((*source)->Has("c"));
  const auto tensor = (*source)->Get("b");
  ASSERT_TRUE(tensor.ok());
  EXPECT_THAT(tensor->shape, ElementsAre(2, 2));
  EXPECT_EQ(tensor->dtype, DType::kF32);
  float last;
  std::memcpy(&last, tensor->data + 12, sizeof(last));
  EXPECT_EQ(last, 4.0f);
}

TEST(SafetensorsTest, ReleasingATensorKeepsItReadable) {
  const TempFolder folder;
  WriteFile(folder / "model.safetensors", SafetensorsBytes({{"a", {1}, {5}}}));
  const auto source = OpenSafetensors(folder.path());
  const auto tensor = (*source)->Get("a");

  (*source)->Release(*tensor);

  EXPECT_THAT(*ReadVector(**source, "a", 1), ElementsAre(5.0f));
}

TEST(SafetensorsTest, ReadsHalfAndBfloat16Vectors) {
  const TempFolder folder;
  const std::string header = R"({"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
                             R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]}})";
  const uint16_t bits[] = {0x3c00, 0xc000, 0x3f80, 0xc040};
  WriteFile(folder / "model.safetensors",
            SafetensorsBytes(header, {reinterpret_cast<const char*>(bits), sizeof(bits)}));

  const auto source = OpenSafetensors(folder.path());

  EXPECT_THAT(*ReadVector(**source, "h", 2), ElementsAre(1.0f, -2.0f));
  EXPECT_THAT(*ReadVector(**source, "b", 2), ElementsAre(1.0f, -3.0f));
}

TEST(SafetensorsTest, NamesAMissingTensor) {
  const TempFolder folder;
  WriteFile(folder / "model.safetensors", SafetensorsBytes({{"a", {1}, {5}}}));
  const auto source = OpenSafetensors(folder.path());

  const auto tensor = (*source)->Get("model.norm.weight");

  EXPECT_EQ(tensor.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(tensor.status()), "tensor model.norm.weight is missing from the checkpoint");
}

TEST(SafetensorsTest, NamesBothShapesWhenTheyDiffer) {
  const TempFolder folder;
  WriteFile(folder / "model.safetensors", SafetensorsBytes({{"a", {2, 3}, {1, 2, 3, 4, 5, 6}}}));
  const auto source = OpenSafetensors(folder.path());
  const int64_t shape[] = {3, 2};

  const auto tensor = GetShaped(**source, "a", shape);

  EXPECT_EQ(tensor.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(tensor.status()), "tensor a has shape [2, 3]; config.json calls for [3, 2]");
}

TEST(SafetensorsTest, RefusesAnUnsupportedDTypeOnlyWhenAskedForIt) {
  const TempFolder folder;
  WriteFile(folder / "model.safetensors",
            SafetensorsBytes(R"({"w":{"dtype":"F8_E5M2","shape":[2],"data_offsets":[0,2]}})", "xy"));
  const auto source = OpenSafetensors(folder.path());
  ASSERT_TRUE(source.ok()) << source.status();

  const auto tensor = (*source)->Get("w");

  EXPECT_EQ(tensor.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Message(tensor.status()), "tensor w has dtype F8_E5M2; no format that is read has it");
}

TEST(SafetensorsTest, GivesTensorsOfOtherThanFloatsToThoseWhoDoNotWantFloats) {
  const TempFolder folder;
  WriteFile(folder / "model.safetensors",
            SafetensorsBytes(R"({"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}})", "\x38\xb8"));
  const auto source = OpenSafetensors(folder.path());
  ASSERT_TRUE(source.ok()) << source.status();

  const auto tensor = (*source)->Get("w");
  const auto vector = ReadVector(**source, "w", 2);

  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->dtype, DType::kF8E4M3);
  EXPECT_EQ(vector.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Message(vector.status()), "tensor w has dtype F8_E4M3; supported are F32, F16 and BF16");
}

TEST(SafetensorsTest, FindsTheFileOfAscendsToolsByTheBeginningOfItsName) {
  const TempFolder folder;
  const std::string bytes = SafetensorsBytes({{"a", {1}, {2}}});
  WriteFile(folder / "quant_model_weight_w8a8.safetensors", bytes);

  EXPECT_TRUE(OpenSafetensors(folder.path()).ok()) << OpenSafetensors(folder.path()).status();
  WriteFile(folder / "quant_model_weight_w8a8_dynamic.safetensors", bytes);
  EXPECT_THAT(Message(OpenSafetensors(folder.path()).status()), testing::HasSubstr("has several files"));
}

TEST(SafetensorsTest, FindsTheIndexOfMindSpore) {
  const TempFolder folder;
  WriteFile(folder / "part_0.safetensors", SafetensorsBytes({{"a", {1}, {2}}}));
  WriteFile(folder / "param_name_map.json", R"({"weight_map": {"a": "part_0.safetensors"}})");

  const auto source = OpenSafetensors(folder.path());

  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT(*ReadVector(**source, "a", 1), ElementsAre(2.0f));
}

TEST(SafetensorsTest, AcceptsMetadataPaddingAndEmptyTensors) {
  EXPECT_EQ(
      ErrorOf(R"({"__metadata__":{"format":"pt"},"a":{"data_offsets":[0,4],"shape":[],"dtype":"F32"}}    )", "1234"),
      "");
  EXPECT_EQ(ErrorOf(R"({"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]}})", ""), "");
  EXPECT_EQ(ErrorOf("{}", ""), "");
}

TEST(SafetensorsTest, RefusesFilesThatLieAboutTheirHeader) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("has 0 bytes"));
  EXPECT_THAT(ErrorOf("1234567"), HasSubstr("has 7 bytes"));
  EXPECT_THAT(ErrorOf(std::string("\x09\0\0\0\0\0\0\0{}", 10)), HasSubstr("header length is 9; at most 2"));
  EXPECT_THAT(ErrorOf(std::string(8, '\xff')), HasSubstr("header length is 18446744073709551615; at most 0"));
}

TEST(SafetensorsTest, RefusesAHeaderBeyondItsCap) {
  const TempFolder folder;
  WriteFile(folder / "model.safetensors", std::string("\xff\xff\xff\x3f\0\0\0\0", 8));
  std::filesystem::resize_file(folder / "model.safetensors", int64_t{2} << 30);  // sparse

  const auto source = OpenSafetensors(folder.path());

  EXPECT_THAT(Message(source.status()), HasSubstr("header length is 1073741823; at most 100000000"));
}

TEST(SafetensorsTest, RefusesHeadersThatAreNotWhatTheFormatSays) {
  EXPECT_THAT(ErrorOf("", ""), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{", ""), HasSubstr("not valid JSON at byte"));
  EXPECT_THAT(ErrorOf("[]", ""), HasSubstr("unexpected an array"));
  EXPECT_THAT(ErrorOf("7", ""), HasSubstr("unexpected the number 7"));
  EXPECT_THAT(ErrorOf(R"({"a":1})", ""), HasSubstr("unexpected the number 1 at a"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32"}})", ""), HasSubstr("tensor a lacks its dtype, shape or data_offsets"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"Q4","shape":[],"data_offsets":[0,0]}})", ""), HasSubstr("unknown dtype Q4"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}})", ""), HasSubstr("the number -1"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,0]}})", ""), HasSubstr("the number 1.5"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", "1234"),
              HasSubstr("one number too many"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", "1234"), HasSubstr("an array"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", "1234"), HasSubstr("lacks"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", "1234"), HasSubstr("too many"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", "1234"),
              HasSubstr("an array in shape of tensor a"));
}

TEST(SafetensorsTest, RefusesDuplicateNames) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                             R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})";

  EXPECT_THAT(ErrorOf(header, "12345678"), HasSubstr("has two tensors a"));
}

TEST(SafetensorsTest, RefusesTensorsOutsideTheData) {
  EXPECT_THAT(ErrorOf(kOneTensor, "1234567"), HasSubstr("tensor a lies at bytes 0..8 of data that has 7 bytes"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", "12345678"), HasSubstr("8..4"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[9223372036854775803,9223372036854775807]}})",
                      "12345678"),
              HasSubstr("tensor a lies at bytes"));
}

TEST(SafetensorsTest, RefusesShapesThatAreNotTheirBytes) {
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "12345678"),
              HasSubstr("tensor a has shape [3] and dtype F32, which are not the 8 bytes it has"));
  // The product wraps round to 8 bytes in 64 bits.
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[4611686018427387906,4],"data_offsets":[0,8]}})", "12345678"),
              HasSubstr("which are not the 8 bytes"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", "1"), HasSubstr("not the 1 bytes"));
}

TEST(SafetensorsTest, RefusesOverlapsAndHoles) {
  const std::string overlap = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                              R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})";
  const std::string hole = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                           R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})";

  EXPECT_THAT(ErrorOf(overlap, "123456789012"),
              HasSubstr("tensor b begins at byte 4 of the data; the one before ends at 8"));
  EXPECT_THAT(ErrorOf(hole, "123456789012"),
              HasSubstr("tensor b begins at byte 8 of the data; the one before ends at 4"));
  EXPECT_THAT(ErrorOf(kOneTensor, "123456789"), HasSubstr("the tensors end at byte 8 of data that has 9 bytes"));
}

TEST(SafetensorsTest, SurvivesDeepNesting) {
  const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');

  EXPECT_THAT(ErrorOf(deep, ""), HasSubstr("unexpected an array"));
  EXPECT_THAT(ErrorOf(StrCat(R"({"a":)", deep, "}"), ""), HasSubstr("unexpected an array"));
}

TEST(SafetensorsTest, KeepsHostileNamesOnOneLine) {
  EXPECT_THAT(ErrorOf(R"({"a\nINFO fake":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "12345678"),
              HasSubstr(R"(a\nINFO fake)"));
}

TEST(SafetensorsTest, SaysWhenAFolderHasNoCheckpoint) {
  const TempFolder folder;

  const auto source = OpenSafetensors(folder.path());

  EXPECT_EQ(source.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(source.status()), HasSubstr("has no weights: neither model.safetensors, nor pytorch_model.bin"));
}

// ---- shards ----

class IndexTest : public testing::Test {
 protected:
  IndexTest() {
    WriteFile(folder_ / "one.safetensors", SafetensorsBytes({{"a", {1}, {1}}, {"unlisted", {1}, {9}}}));
    WriteFile(folder_ / "two.safetensors", SafetensorsBytes({{"b", {1}, {2}}}));
  }

  absl::StatusOr<std::unique_ptr<WeightSource>> OpenWith(std::string_view index) {
    WriteFile(folder_ / "model.safetensors.index.json", index);
    return OpenSafetensors(folder_.path());
  }
  std::string ErrorWith(std::string_view index) {
    const auto source = OpenWith(index);
    if (source.ok()) return "";
    EXPECT_THAT(Message(source.status()), Not(HasSubstr("\n")));
    return Message(source.status());
  }

  const TempFolder folder_;
};

TEST_F(IndexTest, GivesTheTensorsOfAllShards) {
  const auto source = OpenWith(
      R"({"metadata":{"total_size":8,"x":[{"y":null}]},"weight_map":{"b":"two.safetensors","a":"one.safetensors"}})");

  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT((*source)->Names(), ElementsAre("a", "b"));
  EXPECT_THAT(*ReadVector(**source, "b", 1), ElementsAre(2.0f));
}

TEST_F(IndexTest, NamesAMissingShard) {
  EXPECT_THAT(ErrorWith(R"({"weight_map":{"a":"three.safetensors"}})"),
              HasSubstr("shard three.safetensors is missing from the folder"));
}

TEST_F(IndexTest, NamesATensorThatItsShardLacks) {
  EXPECT_THAT(ErrorWith(R"({"weight_map":{"b":"one.safetensors"}})"),
              HasSubstr("says that one.safetensors has tensor b; it has not"));
}

TEST_F(IndexTest, RefusesFilesOutsideTheFolder) {
  for (const std::string_view name :
       {"/etc/passwd", "../one.safetensors", "sub/one.safetensors", "..", ".", "", "a\\\\b", "x\\u0000y"}) {
    EXPECT_THAT(ErrorWith(StrCat(R"({"weight_map":{"a":")", name, R"("}})")), HasSubstr("must be a file of the folder"))
        << name;
  }
}

TEST_F(IndexTest, RefusesLinksThatLeaveTheFolder) {
  const TempFolder elsewhere;
  WriteFile(elsewhere / "secret", SafetensorsBytes({{"a", {1}, {1}}}));
  std::filesystem::create_symlink(elsewhere / "secret", folder_ / "link.safetensors");

  EXPECT_THAT(ErrorWith(R"({"weight_map":{"a":"link.safetensors"}})"),
              HasSubstr("shard link.safetensors is a link that leaves the folder"));
}

TEST_F(IndexTest, FollowsLinksWithinTheFolder) {
  std::filesystem::create_symlink("one.safetensors", folder_ / "link.safetensors");

  EXPECT_EQ(ErrorWith(R"({"weight_map":{"a":"link.safetensors"}})"), "");
}

TEST(IndexLinksTest, ReadsSnapshotsOfAHuggingFaceCache) {
  const TempFolder repository;
  std::filesystem::create_directories(repository / "blobs");
  std::filesystem::create_directories(repository / "snapshots/main");
  WriteFile(repository / "blobs/0123", SafetensorsBytes({{"a", {1}, {1}}}));
  std::filesystem::create_symlink("../../blobs/0123", repository / "snapshots/main/one.safetensors");
  WriteFile(repository / "snapshots/main/model.safetensors.index.json", R"({"weight_map":{"a":"one.safetensors"}})");

  const auto source = OpenSafetensors(repository / "snapshots/main");

  EXPECT_TRUE(source.ok()) << source.status();
}

TEST_F(IndexTest, RefusesMalformedIndexes) {
  EXPECT_THAT(ErrorWith(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorWith("{}"), HasSubstr("weight_map is missing"));
  EXPECT_THAT(ErrorWith("[]"), HasSubstr("unexpected an array"));
  EXPECT_THAT(ErrorWith(R"({"weight_map":7})"), HasSubstr("unexpected a number"));
  EXPECT_THAT(ErrorWith(R"({"weight_map":["a"]})"), HasSubstr("unexpected an array"));
  EXPECT_THAT(ErrorWith(R"({"weight_map":{"a":1}})"), HasSubstr("unexpected a number at a of weight_map"));
  EXPECT_THAT(ErrorWith(R"({"weight_map":{"a":{}}})"), HasSubstr("unexpected an object"));
  EXPECT_THAT(ErrorWith(R"({"weight_map":{},"weight_map":{}})"), HasSubstr("has two weight_map"));
  EXPECT_THAT(ErrorWith(R"({"weight_map":{"a":"one.safetensors","a":"one.safetensors"}})"),
              HasSubstr("names tensor a twice"));
  EXPECT_THAT(ErrorWith(std::string(500'000, '[')), HasSubstr("unexpected an array"));
  EXPECT_THAT(ErrorWith(StrCat(R"({"metadata":)", std::string(500'000, '['), "}")), HasSubstr("not valid JSON"));
}

// ---- damaged files ----

// Changes some bytes, cuts, or doubles a part.
std::string Mutate(std::string bytes, std::mt19937& random) {
  const auto below = [&](size_t limit) { return limit == 0 ? 0 : random() % limit; };
  const std::string_view alphabet = "{}[]\",:0123456789-.eE\\u nulltrefas\x01\xff\x80";
  for (size_t changes = 1 + below(4); changes > 0; --changes) {
    switch (below(5)) {
      case 0:
        if (!bytes.empty()) bytes[below(bytes.size())] = static_cast<char>(random());
        break;
      case 1:
        if (bytes.size() > 8) bytes[8 + below(bytes.size() - 8)] = alphabet[below(alphabet.size())];
        break;
      case 2:
        bytes.resize(below(bytes.size() + 1));
        break;
      case 3: {
        const size_t begin = below(bytes.size() + 1);
        bytes.insert(below(bytes.size() + 1), bytes.substr(begin, below(40)));
        break;
      }
      default:
        bytes.erase(below(bytes.size() + 1), below(20));
    }
  }
  return bytes;
}

TEST(SafetensorsFuzzTest, DamagedFilesOpenOrExplainThemselves) {
  const std::string whole =
      SafetensorsBytes({{"a", {2, 3}, {1, 2, 3, 4, 5, 6}}, {"b.c", {4}, {1, 2, 3, 4}}, {"d", {}, {1}}});
  std::mt19937 random(20240611);
  const TempFolder folder;
  const std::string path = folder / "model.safetensors";
  int num_opened = 0;

  for (int i = 0; i < 5000; ++i) {
    WriteFile(path, Mutate(whole, random));
    const auto source = OpenSafetensors(folder.path());
    if (!source.ok()) {
      ASSERT_FALSE(source.status().message().empty());
      ASSERT_THAT(Message(source.status()), Not(HasSubstr("\n")));
      continue;
    }
    ++num_opened;
    for (const std::string& name : (*source)->Names()) {
      const auto tensor = (*source)->Get(name);
      if (!tensor.ok()) continue;
      int64_t sum = 0;
      for (int64_t byte = 0; byte < tensor->size_bytes; ++byte) sum += std::to_integer<int64_t>(tensor->data[byte]);
      ASSERT_GE(sum, 0);
    }
  }

  // Changes in the numbers themselves leave a file whole: both outcomes must occur.
  EXPECT_GT(num_opened, 50);
  EXPECT_LT(num_opened, 4000);
}

TEST(SafetensorsFuzzTest, DamagedIndexesOpenOrExplainThemselves) {
  const TempFolder folder;
  WriteFile(folder / "one.safetensors", SafetensorsBytes({{"a", {1}, {1}}, {"b", {1}, {2}}}));
  const std::string whole =
      R"({"metadata":{"total_size":8},"weight_map":{"a":"one.safetensors","b":"one.safetensors"}})";
  std::mt19937 random(7);
  int num_opened = 0;

  for (int i = 0; i < 3000; ++i) {
    WriteFile(folder / "model.safetensors.index.json", Mutate(whole, random));
    const auto source = OpenSafetensors(folder.path());
    if (source.ok()) {
      ++num_opened;
      continue;
    }
    ASSERT_THAT(Message(source.status()), AllOf(Not(HasSubstr("\n")), Not(testing::IsEmpty())));
  }

  EXPECT_GT(num_opened, 20);
  EXPECT_LT(num_opened, 2500);
}

}  // namespace
}  // namespace expertd
