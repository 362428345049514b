// fake_driver.hpp — what the parts of the fake driver share: its bookkeeping of devices, contexts and streams, and how a call begins.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace fake {

enum : int {
    kOk = 0,
    kInvalidValue = 1,
    kOutOfMemory = 2,
    kNotInitialized = 3,
    kInvalidDevice = 101,
    kInvalidImage = 200,
    kInvalidContext = 201,
    kNoBinary = 209,
    kInvalidHandle = 400,
    kNotFound = 500,
    kNotReady = 600,
    kIllegalAddress = 700,
    kContextDestroyed = 709,
    kCaptureUnsupported = 900,
    kCaptureInvalidated = 901,
    kCaptureIsolation = 905,
    kCapturedEvent = 907,
};

extern std::recursive_mutex state;     // of everything but the emulator
extern std::mutex emulator;            // it runs one kernel at a time, and knows what is allocated
extern bool ending;                    // the process exits: what streams still had to do is left undone. With both locks held
void fault(const std::string& what);   // a violation: it is told and counted
int planned_failure(const char* name); // what a test wants this call to answer; the call is counted

struct DeviceState {
    int arch;
    size_t used = 0;
};
std::vector<DeviceState>& devices();
size_t memory_of_a_device();

struct ContextState {
    int device;
    int retained = 0; // the primary one's count
    bool alive = true;
    int dead = 0;   // the sticky error
    int resets = 0; // its handle stays the same, and nothing else that was made in it
};
// A context as it was when something was made in it.
struct Made {
    ContextState* context;
    int resets;
    explicit Made(ContextState* c) : context(c), resets(c->resets) {}
    bool stands() const { return context->alive && context->resets == resets; }
    bool works() const { return stands() && !context->dead; }
};
ContextState* here(); // the calling thread's current one, or null
int usable();         // whether it is one that works: what most calls begin with

struct StreamState {
    StreamState(ContextState* context, bool blocking) : made(context), blocking(blocking) {}
    const Made made;
    const bool blocking; // ordered before and after what is put on the legacy stream
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> waiting;
    uint64_t put = 0, done = 0;
    bool closed = false, capturing = false, invalid = false; // invalid: what was captured is worth nothing
    bool waits = false;                                      // a test holds it
    std::vector<std::function<void()>> captured;
    std::vector<unsigned long long> graphs_memory; // allocated while capturing

    void serve(); // until it is closed and nothing waits
    void enqueue(std::function<void()> work) {
        if (capturing) return captured.push_back(std::move(work));
        const std::lock_guard lock(mutex);
        waiting.push_back(std::move(work));
        ++put;
        changed.notify_all();
    }
    void wait_for(uint64_t ticket) {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return done >= ticket; });
    }
};
using StreamHandle = std::shared_ptr<StreamState>;
StreamHandle find(void* stream);                             // null: there is none in the current context
void finish_legacy();                                        // what a copy that waits does first
std::vector<StreamHandle> streams_of(ContextState* context); // with `state` held
int unsafe();                                                // what a call answers that a capture in progress forbids; that capture is then worth nothing

// Of fake_memory.cpp, with `state` held.
void check_guards(); // around every allocation
void release_all(ContextState* context);
void release_memory(unsigned long long address);

// A device's memory can be touched while one of these lives. Otherwise it is out of the host's reach, as a GPU's is: what reads it there falls.
class Touching {
public:
    Touching();
    ~Touching();
    Touching(const Touching&) = delete;
    Touching& operator=(const Touching&) = delete;
};

} // namespace fake

#define ENTRY(name)                                                   \
    do {                                                              \
        if (const int status = planned_failure(#name)) return status; \
    } while (0)
#define IN_CONTEXT(name)                                \
    ENTRY(name);                                        \
    do {                                                \
        if (const int status = usable()) return status; \
    } while (0)
#define NOT_WHILE_CAPTURED(name)                        \
    IN_CONTEXT(name);                                   \
    do {                                                \
        if (const int status = unsafe()) return status; \
    } while (0)
#define STREAM(handle)                   \
    const StreamHandle s = find(handle); \
    if (!s) return kInvalidHandle;       \
    if (s->capturing && s->invalid) return kCaptureInvalidated
