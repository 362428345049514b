#include "stream.hpp"

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace attn::abi {

struct Stream::Queue {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> waiting;
    int64_t queued = 0, done = 0;
    bool closed = false, has_thread = false;
    attn_status status = ATTN_OK; // the first failure since it was last told
    std::string message;

    void note_failure() noexcept {
        std::string text;
        const attn_status now = translate(text);
        const std::lock_guard lock(mutex);
        if (status == ATTN_OK) status = now, message = std::move(text);
    }
    std::pair<attn_status, std::string> take_failure() {
        const std::lock_guard lock(mutex);
        return {std::exchange(status, ATTN_OK), std::exchange(message, {})};
    }
    void serve() {
        for (std::unique_lock lock(mutex);;) {
            changed.wait(lock, [&] { return closed || !waiting.empty(); });
            if (waiting.empty()) return;
            auto work = std::move(waiting.front());
            waiting.pop_front();
            lock.unlock();
            try {
                work();
            } catch (...) { note_failure(); }
            work = nullptr; // what it held is let go before anyone learns that it is done
            lock.lock();
            ++done;
            changed.notify_all();
        }
    }
};

namespace {
// Signals are the host program's business: none is ever handled on a thread of ours.
template <class F>
void start_detached(F f) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        std::thread(std::move(f)).detach();
    } catch (...) {
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}
} // namespace

namespace {
::cuda::Stream own_stream(const Context& context) {
    if (!context.gpu) return nullptr;
    const cuda::Device::Current current(*context.gpu);
    ::cuda::Stream stream = nullptr;
    context.gpu->check(context.gpu->driver().stream_create(&stream, ::cuda::kNonBlocking), "making a stream");
    return stream;
}
} // namespace

Stream::Stream(std::shared_ptr<Context> c)
    : Object(kKind), context(std::move(c)), native(own_stream(*context)), owned(native), queue_(std::make_shared<Queue>()) {}
Stream::Stream(std::shared_ptr<Context> c, ::cuda::Stream of_others)
    : Object(kKind), context(std::move(c)), native(of_others), queue_(std::make_shared<Queue>()) {}

Stream::~Stream() {
    if (owned) {
        try {
            const cuda::Device::Current current(*context->gpu);
            context->gpu->driver().stream_destroy(native); // what is on it is still done
        } catch (const std::exception&) {                  // the context is dead, and the stream with it
        }
    }
    const std::lock_guard lock(queue_->mutex);
    queue_->closed = true;
    queue_->changed.notify_all();
}

void Stream::enqueue(std::function<void()> work) {
    const std::lock_guard lock(queue_->mutex);
    if (!queue_->has_thread) {
        start_detached([queue = queue_] { queue->serve(); });
        queue_->has_thread = true;
    }
    queue_->waiting.push_back(std::move(work));
    ++queue_->queued;
    queue_->changed.notify_all();
}

void Stream::afterwards(std::function<void()> work, bool always, std::function<void(::cuda::Event)> wait) {
    std::shared_ptr<const cuda::Device> gpu = context->gpu;
    const cuda::Device::Current current(*gpu);
    const ::cuda::Event event = gpu->event();
    gpu->record(event, native);
    enqueue([queue = queue_.get(), gpu, event, always, work = std::move(work), wait = std::move(wait)]() mutable {
        try {
            const cuda::Device::Current inside(*gpu);
            wait ? wait(event) : gpu->await(event);
            gpu->give_back(event);
        } catch (...) {
            queue->note_failure();
            if (!always) return;
        }
        gpu = nullptr; // whoever is told may let go of the rest, and then end the context
        work();
    });
}

bool Stream::captured() const {
    if (!context->gpu || context->gpu->dead()) return false;
    const cuda::Device::Current current(*context->gpu);
    int status = 0;
    context->gpu->check(context->gpu->driver().stream_is_capturing(native, &status), "asking whether a stream is captured");
    return status != 0;
}

// To wait for what is captured would fail, and make the capture worthless.
void Stream::refuse_captured() const {
    if (captured()) fail(ATTN_INVALID_ARGUMENT, "stream is being captured into a graph: there is nothing to wait for before the graph is launched");
}

void Stream::on_complete(attn_complete_fn fn, void* user) {
    refuse_captured();
    auto tell = [queue = queue_.get(), fn, user] { // the thread that runs this holds the queue
        const auto [status, message] = queue->take_failure();
        fn(user, status, message.c_str());
    };
    if (!context->gpu) return enqueue(std::move(tell));
    if (context->gpu->dead()) return enqueue(std::move(tell)); // nothing more will come; what killed it is noted
    afterwards(std::move(tell), true);
}

void Stream::synchronize() {
    refuse_captured();
    if (context->gpu) afterwards([] {});
    {
        std::unique_lock lock(queue_->mutex);
        const int64_t mine = queue_->queued;
        queue_->changed.wait(lock, [&] { return queue_->done >= mine; });
    }
    if (const auto [status, message] = queue_->take_failure(); status != ATTN_OK) throw Error(status, message);
}

} // namespace attn::abi

using namespace attn::abi;

attn_status attn_stream_create(attn_context context, attn_stream* stream) {
    return guarded([&] {
        required(stream, "stream");
        *stream = static_cast<attn_stream>(add(std::make_shared<Stream>(get<Context>(context, "context"))));
    });
}

attn_status attn_stream_wrap(attn_context context, void* native_stream, attn_stream* stream) {
    return guarded([&] {
        required(stream, "stream");
        const auto c = get<Context>(context, "context");
        if (c->gpu) {
            *stream = static_cast<attn_stream>(add(std::make_shared<Stream>(c, native_stream))); // null is CUDA's legacy stream
            return;
        }
        fail(ATTN_NOT_SUPPORTED, "native_stream: the cpu has no streams of others; attn_stream_create makes one");
    });
}

attn_status attn_stream_destroy(attn_stream stream) {
    return guarded([&] { remove(stream, Kind::stream, "stream"); });
}

attn_status attn_stream_synchronize(attn_stream stream) {
    return guarded([&] { get<Stream>(stream, "stream")->synchronize(); });
}

attn_status attn_stream_on_complete(attn_stream stream, attn_complete_fn fn, void* user) {
    return guarded([&] {
        if (!fn) fail(ATTN_INVALID_ARGUMENT, "fn is null; a function to call is needed");
        get<Stream>(stream, "stream")->on_complete(fn, user);
    });
}
