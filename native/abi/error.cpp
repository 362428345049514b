#include "error.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "../cuda/device.hpp"

namespace attn::abi {
namespace {
thread_local std::string last_error;
}

void fail(attn_status status, const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    throw Error(status, text);
}

void remember(const char* text) noexcept {
    try {
        last_error = text;
    } catch (...) { last_error.clear(); }
}

attn_status translate(std::string& text) noexcept {
    try {
        try {
            throw;
        } catch (const Error& e) {
            text = e.what();
            return e.status;
        } catch (const cuda::Failure& e) {
            text = e.what();
            return ATTN_DEVICE_ERROR;
        } catch (const cuda::OutOfMemory& e) {
            text = e.what();
            return ATTN_OUT_OF_MEMORY;
        } catch (const cuda::Unavailable& e) {
            text = e.what();
            return ATTN_NO_DEVICE;
        } catch (const std::invalid_argument& e) {
            text = e.what();
            return ATTN_INVALID_ARGUMENT;
        } catch (const std::bad_alloc&) {
            text = "out of memory";
            return ATTN_OUT_OF_MEMORY;
        } catch (const std::exception& e) {
            text = std::string("internal error: ") + e.what();
            return ATTN_INTERNAL_ERROR;
        } catch (...) {
            text = "internal error of an unknown kind";
            return ATTN_INTERNAL_ERROR;
        }
    } catch (...) { // no memory for the sentence
        return ATTN_OUT_OF_MEMORY;
    }
}

attn_status translate_and_remember() noexcept { return translate(last_error); }

void check_size(const void* structure, uint32_t known, const char* name) {
    uint32_t size;
    memcpy(&size, structure, sizeof size);
    if (size < known) fail(ATTN_INVALID_ARGUMENT, "%s.size is %u; this library's is %u", name, size, known);
    if (size > known + 4096) fail(ATTN_INVALID_ARGUMENT, "%s.size is %u; at most %u is believable", name, size, known + 4096);
    for (uint32_t at = known; at < size; ++at)
        if (static_cast<const unsigned char*>(structure)[at])
            fail(ATTN_NOT_SUPPORTED, "%s: byte %u is set, in a field this library does not know; it knows %u bytes", name, at, known);
}

void check_reserved(uint32_t reserved, const char* name) {
    if (reserved) fail(ATTN_NOT_SUPPORTED, "%s.reserved is %u; this library knows no use of it: 0 is allowed", name, reserved);
}

} // namespace attn::abi

extern "C" {
uint32_t attn_abi_version(void) { return ATTN_ABI_VERSION; }
const char* attn_build_info(void) {
    return "attention " ATTENTION_VERSION
           ", abi 1, "
#if defined(__clang__)
           "clang " __clang_version__
#else
           "gcc " __VERSION__
#endif
           ", cpu: avx512 avx2 generic, cuda: opened at run time";
}
const char* attn_last_error(void) { return attn::abi::last_error.c_str(); }
}
