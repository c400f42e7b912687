#include "tests/unit/checkpoint/support/safetensors_file.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "engine/base/json.h"

namespace expertd {

TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "expertd-test-XXXXXX").string();
  path_ = mkdtemp(pattern.data());
}

TempFolder::~TempFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

void WriteFile(const std::string& path, std::string_view content) {
  std::filesystem::remove(path);  // ext4 flushes a file that is emptied and written again, which takes milliseconds
  std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
}

std::string SafetensorsBytes(std::string_view header, std::string_view data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(header.size() >> (8 * i)));
  return bytes.append(header).append(data);
}

std::string SafetensorsBytes(const std::vector<FloatTensor>& tensors) {
  Json header = Json::object();
  std::string data;
  for (const FloatTensor& tensor : tensors) {
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float));
    header[tensor.name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  return SafetensorsBytes(header.dump(), data);
}

}  // namespace expertd
