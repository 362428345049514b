// stream.hpp — an ordered queue of work on the CPU, with a thread of its own from the first piece of work on.
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
    ~Stream() override; // never waits: the thread finishes what is queued and leaves

    void enqueue(std::function<void()> work); // what it throws is the stream's failure
    void on_complete(attn_complete_fn fn, void* user);
    void synchronize(); // throws the failure

    const std::shared_ptr<Context> context;

private:
    struct Queue;
    const std::shared_ptr<Queue> queue_; // shared with the thread
};

} // namespace attn::abi
