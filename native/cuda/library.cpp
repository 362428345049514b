#include "library.hpp"

#include "embedded.hpp"

namespace attn::cuda {
namespace {

Library opened() {
    Library l{};
    int major = 0, minor = 0;
    const bool has_driver = l.driver.open();
    if (has_driver) l.driver.driver_version(&l.driver_version); // which no initialisation needs
    if (l.nvrtc.open(l.driver_version) && !l.nvrtc.version(&major, &minor)) l.nvrtc_version = major * 1000 + minor * 10;
    if (!has_driver) {
        l.why = "no CUDA driver: " + l.driver.wrong;
        return l;
    }
    if (const int status = l.driver.init(0)) {
        l.why = "no CUDA device: " + l.driver.name_of(status) + " while initialising " + Driver::path();
        return l;
    }
    int count = 0;
    if (const int status = l.driver.device_count(&count)) l.why = "no CUDA device: " + l.driver.name_of(status) + " while counting the devices";
    else if (!count) l.why = "no CUDA device: the driver knows none";
    else if (!l.nvrtc_version && !kCubinCount) l.why = Nvrtc::missing() + (std::getenv("ATTENTION_NVRTC") ? " (" + l.nvrtc.wrong + ")" : "");
    else l.devices = count;
    return l;
}

} // namespace

const Library& library() { // never destroyed: threads that outlive main still use it
    static const Library& l = *new Library(opened());
    return l;
}

} // namespace attn::cuda
