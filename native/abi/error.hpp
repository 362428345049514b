// error.hpp — the exception firewall: inside, failures are exceptions; across the ABI they are a status and a sentence for the calling thread.
#pragma once
#include <new>
#include <stdexcept>
#include <string>

#include "attention/attention.h"

namespace attn::abi {

class Error : public std::runtime_error {
public:
    Error(attn_status status, const std::string& text) : std::runtime_error(text), status(status) {}
    const attn_status status;
};

[[noreturn, gnu::format(printf, 2, 3)]] void fail(attn_status status, const char* format, ...);

void remember(const char* text) noexcept; // as the calling thread's last error

// The status and the sentence of the exception being handled.
attn_status translate(std::string& text) noexcept;
attn_status translate_and_remember() noexcept;

template <class F>
attn_status guarded(F&& f) noexcept {
    try {
        f();
        return ATTN_OK;
    } catch (...) { return translate_and_remember(); }
}

// A structure of the caller's, whose `size` has been checked: at least what this version knows, and zero beyond it.
void check_size(const void* structure, uint32_t known, const char* name);
template <class T>
const T& checked(const T* structure, const char* name) {
    if (!structure) fail(ATTN_INVALID_ARGUMENT, "%s is null; a structure with its size set is needed", name);
    check_size(structure, sizeof(T), name);
    return *structure;
}
template <class T>
T& checked(T* structure, const char* name) {
    return const_cast<T&>(checked<T>(const_cast<const T*>(structure), name));
}

// A seat without a use.
void check_reserved(uint32_t reserved, const char* name);

template <class T>
T& required(T* pointer, const char* name) {
    if (!pointer) fail(ATTN_INVALID_ARGUMENT, "%s is null; it must point to where the result goes", name);
    return *pointer;
}

} // namespace attn::abi
