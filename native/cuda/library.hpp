// library.hpp — libcuda and NVRTC as this process has them: opened once, when first asked for.
#pragma once
#include <string>

#include "driver.hpp"
#include "nvrtc.hpp"

namespace attn::cuda {

using ::cuda::Address;
using ::cuda::Driver;
using ::cuda::Failure;
using ::cuda::Nvrtc;

// No such device, or none that can be used.
class Unavailable : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

struct Library {
    Driver driver;
    Nvrtc nvrtc;
    int devices = 0;        // 0: `why` says why
    int driver_version = 0; // 12040
    int nvrtc_version = 0;  // 12040; 0: none
    std::string why;
};
const Library& library();

} // namespace attn::cuda
