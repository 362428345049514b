// run.hpp — a plan with addresses and values bound.
#pragma once
#include <vector>

#include "mask.hpp"
#include "plan.hpp"
#include "stream.hpp"

namespace attn::abi {

// What a run works on, and what it keeps alive until it is done.
struct Run {
    std::shared_ptr<Plan> plan;
    std::shared_ptr<PreparedMask> prepared;
    std::shared_ptr<Tensor> held[16];
    int holding = 0;
    Call call;
    Array keep; // with data: to be packed, where the prepared mask has not done it
    Array bias; // with data: of a GPU's run, where it came from the host
    attn_run_report* report = nullptr;

    // A small array of the call: where its address is kept, for a GPU fetches those that are on the host.
    struct Value {
        const void** pointer;
        Array array;
    };
    std::vector<Value> values; // of a GPU's run

    // On a GPU: page-locked memory that the stream reads and writes.
    cuda::Device::Pinned staging;
    bool passed = false;             // it packed a keep mask
    cuda::Device::CancelFlag cancel; // what its kernels ask

    Run() = default;
    Run(const Run&) = delete;
    ~Run();

    void hold(const Array& a) {
        if (a.tensor) held[holding++] = a.tensor;
    }
    void value(const void** pointer, const Array& a) {
        if (plan->context->gpu && a.data) values.push_back({pointer, a});
    }
    void execute(); // on the CPU
};

// Puts the run on the stream, or without one waits until it is done.
void run_on_gpu(const std::shared_ptr<Run>& run, Stream* stream);

} // namespace attn::abi
