// fake_streams.cpp — streams, events and captures of the driver without a GPU.
#include <map>
#include <set>
#include <thread>

#include "fake_cuda.hpp"
#include "fake_driver.hpp"

namespace fake {

bool held = false;
std::condition_variable_any held_changed;
void StreamState::serve() {
    for (;;) {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return closed || !waiting.empty(); });
        if (waiting.empty()) return;
        const auto work = std::move(waiting.front());
        waiting.pop_front();
        lock.unlock();
        {
            std::unique_lock gate(state);
            held_changed.wait(gate, [&] { return !held && !waits; });
        }
        if (made.works()) work();
        lock.lock();
        ++done;
        changed.notify_all();
    }
}
std::map<void*, StreamHandle> streams;
std::map<ContextState*, StreamHandle> legacy;
thread_local std::map<ContextState*, StreamHandle> of_thread;

std::map<ContextState*, std::vector<std::weak_ptr<StreamState>>> started;
StreamHandle start(ContextState* context, bool blocking) {
    auto s = std::make_shared<StreamState>(context, blocking);
    started[context].push_back(s);
    std::thread([s] { s->serve(); }).detach();
    return s;
}
std::vector<StreamHandle> streams_of(ContextState* context) { // with `state` held
    std::vector<StreamHandle> all;
    for (const auto& weak : started[context])
        if (StreamHandle s = weak.lock(); s && s->made.stands()) all.push_back(std::move(s));
    return all;
}
// What is put on `s` next comes after what is on the other now.
void follow(StreamState& s, const StreamHandle& other) {
    uint64_t ticket;
    {
        const std::lock_guard lock(other->mutex);
        if (other->done == other->put) return;
        ticket = other->put;
    }
    s.enqueue([other, ticket] { other->wait_for(ticket); });
}
StreamHandle in_order(StreamHandle s) { // with `state` held
    const StreamHandle& first = legacy[here()];
    if (s->capturing || !s->blocking || !first || !first->made.stands()) return s;
    if (s != first) return follow(*s, first), s;
    for (const StreamHandle& other : streams_of(here()))
        if (other->blocking && other != s && !other->capturing) follow(*s, other);
    return s;
}
void finish_legacy() {
    const StreamHandle s = find(nullptr);
    s->wait_for(s->put);
}
StreamHandle find(void* handle) {
    const std::lock_guard lock(state);
    if (!handle || reinterpret_cast<uintptr_t>(handle) == 2) {
        StreamHandle& s = handle ? of_thread[here()] : legacy[here()];
        if (!s || !s->made.stands()) s = start(here(), true);
        return in_order(s);
    }
    const auto found = streams.find(handle);
    if (found == streams.end()) return fault("a stream that is none"), nullptr;
    if (found->second->made.context != here() || !found->second->made.stands()) return fault("a stream of another context, or of one that was reset"), nullptr;
    return in_order(found->second);
}

// ---- captures: all of the mode that PyTorch begins them with, which is global
thread_local int capture_mode = 0; // CU_STREAM_CAPTURE_MODE_GLOBAL
std::set<StreamState*> capturing;
int unsafe() {
    const std::lock_guard lock(state);
    if (capturing.empty() || capture_mode) return kOk; // another mode than global, of a thread that captures nothing itself or does not mind
    for (StreamState* s : capturing) s->invalid = true;
    return kCaptureUnsupported;
}

struct EventState {
    explicit EventState(ContextState* context) : made(context) {}
    Made made;
    StreamHandle stream;
    uint64_t ticket = 0;
    bool captured = false;
};
std::set<EventState*> events;
EventState* event_of(void* handle) { // null: none that can be used here
    const std::lock_guard lock(state);
    auto* e = static_cast<EventState*>(handle);
    if (!events.count(e)) return fault("an event that is none"), nullptr;
    if (!e->made.stands()) return fault("an event of a context that was reset"), nullptr;
    return e;
}
int captured_event(const EventState& e) {
    const std::lock_guard lock(state);
    if (!e.captured) return kOk;
    for (StreamState* s : capturing) s->invalid = true;
    return kCapturedEvent;
}

} // namespace fake

using namespace fake;

extern "C" {

void fake_cuda_capture(void* stream, int on) {
    const std::lock_guard lock(state);
    StreamState& s = *streams.at(stream);
    s.capturing = on;
    if (!on) return void(capturing.erase(&s));
    s.invalid = false, s.captured.clear(), capturing.insert(&s);
}
void fake_cuda_replay(void* stream) {
    StreamHandle s;
    {
        const std::lock_guard lock(state);
        s = streams.at(stream);
    }
    if (s->invalid) return fault("a graph launched whose capture was made worthless");
    for (const auto& work : s->captured) s->enqueue(work);
}
void fake_cuda_hold(int on) {
    const std::lock_guard lock(state);
    held = on;
    held_changed.notify_all();
}
void fake_cuda_hold_stream(void* stream, int on) {
    const std::lock_guard lock(state);
    streams.at(stream)->waits = on;
    held_changed.notify_all();
}

int cuStreamCreate(void** stream, unsigned flags) {
    IN_CONTEXT(cuStreamCreate);
    if (flags > 1) return kInvalidValue;
    const std::lock_guard lock(state);
    const StreamHandle s = start(here(), !flags);
    streams[s.get()] = s;
    *stream = s.get();
    return kOk;
}
int cuStreamDestroy_v2(void* stream) {
    StreamHandle s;
    {
        const std::lock_guard lock(state);
        const auto found = streams.find(stream);
        if (found == streams.end()) return fault("a stream destroyed that is none"), kInvalidHandle;
        s = found->second;
        if (!s->made.stands()) return fault("a stream destroyed of a context that was reset"), kInvalidHandle;
        streams.erase(found), capturing.erase(s.get());
        for (const unsigned long long address : s->graphs_memory) release_memory(address); // the graph goes with it
    }
    const std::lock_guard lock(s->mutex);
    s->closed = true;
    s->changed.notify_all();
    return kOk;
}
int cuStreamSynchronize(void* stream) {
    NOT_WHILE_CAPTURED(cuStreamSynchronize);
    STREAM(stream);
    if (s->capturing) return s->invalid = true, kCaptureUnsupported;
    s->wait_for(s->put);
    return usable();
}
int cuStreamIsCapturing(void* stream, int* status) {
    IN_CONTEXT(cuStreamIsCapturing);
    const StreamHandle s = find(stream);
    if (!s) return kInvalidHandle;
    return *status = !s->capturing ? 0 : s->invalid ? 2 : 1, kOk;
}
int cuThreadExchangeStreamCaptureMode(int* mode) {
    if (*mode < 0 || *mode > 2) return kInvalidValue;
    return std::swap(*mode, capture_mode), kOk;
}
int cuStreamWaitEvent(void* stream, void* event, unsigned flags) {
    IN_CONTEXT(cuStreamWaitEvent);
    STREAM(stream);
    const EventState* known = event_of(event);
    if (!known) return kInvalidHandle;
    if (flags > 1) return kInvalidValue;
    if (s->capturing && !known->captured) return s->invalid = true, kCaptureIsolation; // what was done before is no part of a graph
    if (!s->capturing && known->captured) return fault("a stream that joins another's capture"), kCaptureIsolation;
    s->enqueue([e = *known] {
        if (e.stream) e.stream->wait_for(e.ticket);
    });
    return kOk;
}
int cuEventCreate(void** event, unsigned flags) {
    IN_CONTEXT(cuEventCreate);
    if (flags > 3) return kInvalidValue; // 4, for other processes, is none of the library's
    const std::lock_guard lock(state);
    *event = *events.insert(new EventState(here())).first;
    return kOk;
}
int cuEventDestroy_v2(void* event) {
    const std::lock_guard lock(state);
    if (!events.erase(static_cast<EventState*>(event))) return fault("an event destroyed that is none"), kInvalidHandle;
    return delete static_cast<EventState*>(event), kOk;
}
int cuEventRecord(void* event, void* stream) {
    IN_CONTEXT(cuEventRecord);
    STREAM(stream);
    EventState* e = event_of(event);
    if (!e || e->made.context != here()) return kInvalidHandle;
    const std::lock_guard lock(s->mutex);
    e->stream = s, e->ticket = s->put, e->captured = s->capturing;
    return kOk;
}
int cuEventSynchronize(void* event) {
    NOT_WHILE_CAPTURED(cuEventSynchronize);
    const EventState* known = event_of(event);
    if (!known) return kInvalidHandle;
    if (const int status = captured_event(*known)) return status;
    const EventState e = *known;
    if (e.stream) e.stream->wait_for(e.ticket);
    return usable();
}
int cuEventQuery(void* event) {
    NOT_WHILE_CAPTURED(cuEventQuery);
    const EventState* known = event_of(event);
    if (!known) return kInvalidHandle;
    if (const int status = captured_event(*known)) return status;
    const EventState e = *known;
    if (!e.stream) return kOk;
    const std::lock_guard lock(e.stream->mutex);
    return e.stream->done >= e.ticket ? kOk : kNotReady;
}
}
