// launchers.hpp — the rows of kernels.def as a driver starts them: by name, with a list of addresses of arguments, copied when they are launched.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <type_traits>
#include <utility>

#include "../emulator/emulator.hpp"
#include "arguments.cuh"
#include "flash_sm90.cuh"

struct Launch {
    Dim3 grid, block;
    size_t smem;
};
using Launcher = std::function<std::function<void()>(const Launch&, void** arguments)>;
using Launchers = std::map<std::string, Launcher>; // by the row's name

// An argument as the host passed it. A tensor map takes 128 bytes there, whatever the emulator has in it.
template <class T>
T argument(const void* at) {
    if constexpr (std::is_same_v<T, TensorMaps>) {
        const auto map = [&](int i) { return *reinterpret_cast<const ptx::TensorMap*>(static_cast<const char*>(at) + i * 128); };
        return {map(0), map(1), map(2)};
    } else {
        return *static_cast<const T*>(at);
    }
}

template <class... P>
Launcher launcher(void (*kernel)(P...)) {
    return [kernel](const Launch& how, void** arguments) -> std::function<void()> {
        const auto copied = [&]<size_t... I>(std::index_sequence<I...>) {
            return std::tuple<std::remove_cvref_t<P>...>{argument<std::remove_cvref_t<P>>(arguments[I])...};
        }
        (std::index_sequence_for<P...>{});
        return [kernel, how, copied] { std::apply([&](const auto&... a) { emu::launch(kernel, how.grid, how.block, how.smem, a...); }, copied); };
    };
}

void add_flash_fp16(Launchers& all);
void add_flash_bf16(Launchers& all);
void add_hopper_fp16(Launchers& all);
void add_hopper_bf16(Launchers& all);
void add_plain(Launchers& all);
void add_verbs(Launchers& all); // of first_light, by their expressions
