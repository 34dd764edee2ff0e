// Golden numbers for tests: a safetensors file read with nothing but the standard library and nlohmann-json, so that
// libraries below io can be tested against it, and io is not its own judge.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace hadal::test {

class Golden {
 public:
  explicit Golden(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::uint64_t length = 0;
    file.read(reinterpret_cast<char*>(&length), 8);
    std::string header(length, '\0');
    file.read(header.data(), static_cast<std::streamsize>(length));
    header_ = nlohmann::json::parse(header);
    data_.assign(std::istreambuf_iterator<char>(file), {});
    if (data_.empty()) throw std::runtime_error(path + " cannot be read");
  }

  bool contains(const std::string& name) const { return header_.contains(name); }
  std::vector<std::int64_t> shape(const std::string& name) const {
    return header_.at(name).at("shape").get<std::vector<std::int64_t>>();
  }
  std::vector<float> floats(const std::string& name) const { return values<float>(name, "F32"); }
  std::vector<double> doubles(const std::string& name) const { return values<double>(name, "F64"); }
  std::vector<std::int32_t> ints(const std::string& name) const { return values<std::int32_t>(name, "I32"); }
  std::vector<std::int64_t> longs(const std::string& name) const { return values<std::int64_t>(name, "I64"); }
  std::vector<std::uint8_t> bytes(const std::string& name) const { return values<std::uint8_t>(name, "U8"); }
  std::vector<std::int8_t> signed_bytes(const std::string& name) const { return values<std::int8_t>(name, "I8"); }
  std::vector<std::uint16_t> halves(const std::string& name, const char* dtype = "BF16") const {
    return values<std::uint16_t>(name, dtype);
  }

 private:
  template <class T>
  std::vector<T> values(const std::string& name, const std::string& dtype) const {
    const auto& info = header_.at(name);
    if (info.at("dtype") != dtype) throw std::runtime_error(name + " is not " + dtype);
    const std::size_t begin = info.at("data_offsets")[0], end = info.at("data_offsets")[1];
    std::vector<T> out((end - begin) / sizeof(T));
    std::memcpy(out.data(), data_.data() + begin, end - begin);
    return out;
  }

  nlohmann::json header_;
  std::string data_;
};

}  // namespace hadal::test
