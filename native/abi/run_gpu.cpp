// run_gpu.cpp — a bound run on a CUDA stream: values fetched from the host, workspace in stream order, and what is left when it is done.
#include <cstring>

#include "run.hpp"

namespace attn::abi {
namespace {

constexpr uint64_t kStep = 256; // between values; the first of the staging memory has the counter that comes back
uint64_t step(uint64_t bytes) { return (bytes + kStep - 1) / kStep * kStep; }

// Memory of the stream's for one run; given back in its order.
class Scratch {
public:
    Scratch(const cuda::Device& gpu, ::cuda::Stream stream) : gpu_(gpu), stream_(stream) {}
    Scratch(const Scratch&) = delete;
    ~Scratch() {
        for (int i = 0; i < count_; ++i) gpu_.free(all_[i], stream_);
    }
    unsigned char* get(uint64_t bytes, const char* what) {
        all_[count_] = gpu_.allocate(bytes, stream_, what);
        return reinterpret_cast<unsigned char*>(all_[count_++]);
    }

private:
    const cuda::Device& gpu_;
    const ::cuda::Stream stream_;
    ::cuda::Address all_[3];
    int count_ = 0;
};

// What came from the host goes through page-locked memory, so that nothing waits: one copy for all of it.
void fetch_values(Run& run, const cuda::Device& gpu, unsigned char* to, ::cuda::Stream stream) {
    uint64_t bytes = 0;
    for (const Run::Value& v : run.values) {
        if (!v.array.on_host) continue;
        const uint64_t size = uint64_t(v.array.count()) * size_of(v.array.dtype);
        std::memcpy(run.staging.data + kStep + bytes, v.array.data, size);
        *v.pointer = to + bytes;
        bytes += step(size);
    }
    if (bytes) gpu.check(gpu.driver().to_device_async(::cuda::Address(to), run.staging.data + kStep, bytes, stream), "copying a run's values to the device");
}
uint64_t span_of(const Array& array) { return array.data && array.on_host ? uint64_t(array.bytes().end - array.bytes().begin) : 0; }
uint64_t staged_bytes(const Run& run) {
    uint64_t bytes = kStep + step(span_of(run.keep)) + step(span_of(run.bias));
    for (const Run::Value& v : run.values) bytes += v.array.on_host ? step(uint64_t(v.array.count()) * size_of(v.array.dtype)) : 0;
    return bytes;
}
// A dense array that came from the host, strides and all; `staged`: its place in the page-locked memory.
void fetch_dense(Array& array, const cuda::Device& gpu, Scratch& scratch, unsigned char* staged, ::cuda::Stream stream) {
    const Array::Bytes from = array.bytes();
    const uint64_t size = uint64_t(from.end - from.begin);
    unsigned char* to = scratch.get(size, "a dense mask or bias that came from the host");
    std::memcpy(staged, from.begin, size);
    gpu.check(gpu.driver().to_device_async(::cuda::Address(to), staged, size, stream), "copying a dense mask or bias to the device");
    array.data = to + (array.data - from.begin);
    array.on_host = false;
}

void launch(Run& run, const cuda::Device& gpu, ::cuda::Stream stream, bool captured) {
    const Plan& plan = *run.plan;
    const Problem& p = plan.problem;
    Scratch scratch(gpu, stream);
    if (!run.call.workspace) run.call.workspace = scratch.get(plan.choice.workspace_bytes, "a run's workspace");
    const cuda::Workspace at(p, plan.on_gpu);
    fetch_values(run, gpu, run.call.workspace + at.values, stream);
    const bool naive = plan.backend == Backend::naive;
    unsigned char* end = run.staging.data + run.staging.bytes;
    for (Array* dense : {&run.keep, &run.bias})
        if (const uint64_t size = span_of(*dense)) fetch_dense(*dense, gpu, scratch, end -= step(size), stream);
    if (run.bias.data) run.call.bias.data = run.bias.data;
    PackedCells cells;
    const PackedCells* ready = nullptr;
    if (run.prepared && plan.on_gpu.row->packed && p.offset_kind != ATTN_OFFSET_PER_BATCH) {
        cells = run.prepared->packed_for(p, plan.on_gpu, run.call.mask, stream, captured, &run.passed);
        ready = &cells;
        if (!(p.masks & ATTN_MASK_KEEP)) run.passed = false;
    } else if (run.keep.data && !naive && p.Sk) {
        run.passed = true;
        ++counters().mask_passes;
    }
    cuda::run(gpu, plan.on_gpu, run.call, dense_keep(run.keep), ready, run.report, run.cancel.word, stream);
    if (run.report)
        gpu.check(gpu.driver().to_host_async(run.staging.data, ::cuda::Address(run.call.workspace + at.visited), 8, stream), "copying a run's counter");
}

void finish(Run& run) {
    if (run.report) {
        uint64_t visited = 0;
        if (run.staging.data) std::memcpy(&visited, run.staging.data, sizeof visited);
        const int64_t heads = run.plan->on_gpu.heads_as_rows ? run.plan->problem.group() : 1; // that a visit serves
        run.report->tiles_visited = int64_t(visited) * heads, run.report->mask_passes = run.passed;
    }
    ++counters().runs;
    if (run.cancel.raised || run.call.cancelled()) fail(ATTN_CANCELLED, "cancelled: the cancel flag was raised; what the outputs hold is unspecified");
}

} // namespace

Run::~Run() {
    if (!plan || !plan->context->gpu) return;
    plan->context->gpu->give_back(staging);
    plan->context->gpu->give_back(cancel);
}

void run_on_gpu(const std::shared_ptr<Run>& run, Stream* on) {
    const cuda::Device& gpu = *run->plan->context->gpu;
    const cuda::Device::Current current(gpu);
    const ::cuda::Stream stream = on ? on->native : ::cuda::kThreadStream;
    run->call.problem = &run->plan->problem;
    run->call.mask.keep = {};
    const bool captured = on && on->captured();
    if (captured && (run->report || staged_bytes(*run) > kStep))
        fail(ATTN_INVALID_ARGUMENT, "args.stream is being captured into a graph: nothing may come from host memory, and there is no report");
    if (captured && run->call.cancel)
        fail(ATTN_INVALID_ARGUMENT, "args.stream is being captured into a graph: nobody watches args.cancel when the graph is launched; give none");
    if (!run->plan->problem.empty() && !run->call.cancelled()) {
        if (run->report || staged_bytes(*run) > kStep) run->staging = gpu.pinned(staged_bytes(*run));
        if (run->call.cancel) run->cancel = gpu.cancel_flag();
        try {
            launch(*run, gpu, stream, captured);
        } catch (...) {
            if (!captured) gpu.settle(stream); // what was put on it may still read what the run holds
            throw;
        }
    }
    if (captured) return; // the caller keeps everything for as long as the graph lives
    const auto wait = [run](::cuda::Event event) { run->plan->context->gpu->await(event, run->call.cancel, &run->cancel); };
    if (on) return on->afterwards([run] { finish(*run); }, false, wait);
    if (run->cancel.word) {
        const ::cuda::Event event = gpu.event();
        gpu.record(event, stream);
        wait(event);
        gpu.give_back(event);
    } else {
        const cuda::Device::Uncaptured waiting(gpu);
        gpu.check(gpu.driver().stream_synchronize(stream), "running " + run->plan->choice.kernel);
    }
    finish(*run);
}

} // namespace attn::abi
