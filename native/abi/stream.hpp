// stream.hpp — an ordered queue of work. On the CPU a thread of its own does the work, from the first piece on; on a GPU the work goes to a CUDA stream, and
// the thread does what is left when it is done: letting go of what a run held, reports, completions.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

#include "context.hpp"

namespace attn::abi {

class Stream final : public Object {
public:
    static constexpr Kind kKind = Kind::stream;
    explicit Stream(std::shared_ptr<Context> context);
    Stream(std::shared_ptr<Context> context, ::cuda::Stream of_others);
    ~Stream() override; // never waits: the thread finishes what is queued and leaves

    void enqueue(std::function<void()> work); // what it throws is the stream's failure
    // On a GPU: once everything that is on the CUDA stream now is done. `always`: even if that failed.
    // `wait` awaits the event that tells; where it is none, the thread just does.
    void afterwards(std::function<void()> work, bool always = false, std::function<void(::cuda::Event)> wait = {});
    void on_complete(attn_complete_fn fn, void* user);
    void synchronize();    // throws the failure
    bool captured() const; // on a GPU: into a graph

    const std::shared_ptr<Context> context;
    const ::cuda::Stream native = nullptr; // on a GPU
    const bool owned = false;

private:
    void refuse_captured() const;
    struct Queue;
    const std::shared_ptr<Queue> queue_; // shared with the thread
};

} // namespace attn::abi
