#include "real_sample.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace harness {
namespace {

// The numbers of a JSON list that follows `key` within the entry `name`.
std::vector<int64_t> numbers(const std::string& header, const std::string& name, const std::string& key) {
    const size_t entry = header.find("\"" + name + "\""), at = entry == std::string::npos ? entry : header.find("\"" + key + "\"", entry);
    const size_t open = at == std::string::npos ? at : header.find('[', at), close = open == std::string::npos ? open : header.find(']', open);
    if (close == std::string::npos) throw std::runtime_error("the sample has no " + key + " of \"" + name + "\"");
    std::string list = header.substr(open + 1, close - open - 1);
    std::replace(list.begin(), list.end(), ',', ' ');
    std::istringstream in(list);
    return {std::istream_iterator<int64_t>(in), {}};
}

} // namespace

RealSample::RealSample(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot open the sample " + path);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    uint64_t length = 0;
    if (bytes.size() < 8 || (std::memcpy(&length, bytes.data(), 8), length > bytes.size() - 8)) throw std::runtime_error(path + " is not a safetensors file");
    const std::string header(bytes.data() + 8, length);
    const auto array = [&](const std::string& name) {
        const std::vector<int64_t> ends = numbers(header, name, "data_offsets");
        const int64_t begin = 8 + int64_t(length);
        if (ends.size() != 2 || ends[0] < 0 || ends[1] < ends[0] || begin + ends[1] > int64_t(bytes.size()))
            throw std::runtime_error(path + " is cut off in \"" + name + "\"");
        return std::vector<unsigned char>(bytes.begin() + begin + ends[0], bytes.begin() + begin + ends[1]);
    };
    const std::vector<int64_t> sizes = numbers(header, "Q", "shape");
    if (sizes.size() != 4) throw std::runtime_error("Q of the sample has " + std::to_string(sizes.size()) + " dimensions, not 4");
    std::copy(sizes.begin(), sizes.end(), shape.begin());
    Q = array("Q"), K = array("K"), V = array("V");
    const std::vector<unsigned char> lengths = array("key_lengths");
    key_lengths.resize(lengths.size() / sizeof(int32_t));
    std::memcpy(key_lengths.data(), lengths.data(), key_lengths.size() * sizeof(int32_t));
    if (int64_t(key_lengths.size()) != shape[0])
        throw std::runtime_error("the sample has " + std::to_string(key_lengths.size()) + " key lengths for " + std::to_string(shape[0]) + " clips");
}

} // namespace harness
