#include "rows.hpp"

#include <unistd.h>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "ceilings.hpp"
#include "real_sample.hpp"
#include "run.hpp"

namespace harness {
namespace {

using cases::Case;
using reference::Type;

// One context for each instruction set; it lives as long as the process.
attn_context context(int threads, const std::string& instruction_set = {}) {
    static std::map<std::pair<int, std::string>, attn_context> all;
    attn_context& c = all[{threads, instruction_set}];
    if (c) return c;
    if (!instruction_set.empty()) setenv("ATTENTION_CPU", instruction_set.c_str(), 1);
    attn_context_options options{};
    options.size = sizeof options, options.workers = threads;
    const attn_status status = attn_context_create(&options, &c);
    if (!instruction_set.empty()) unsetenv("ATTENTION_CPU");
    if (status != ATTN_OK) throw std::runtime_error(attn_last_error());
    return c;
}
attn_context_info info(attn_context c) {
    attn_context_info i{};
    i.size = sizeof i;
    if (attn_context_describe(c, &i) != ATTN_OK) throw std::runtime_error(attn_last_error());
    return i;
}

const std::string& best(const Setting& s) {
    static const std::string name = info(context(s.threads)).instruction_set;
    return name;
}

Subject subject(const std::string& name, std::shared_ptr<Run> run) {
    Subject s{name, [run] { return run->seconds(); },
              [run] {
                  run->poison();
                  run->seconds();
                  return run->wrong();
              }};
    s.kernel = run->kernel();
    return s;
}

// A group under construction: subjects over one problem's sizes, lines against its unmasked run.
class Builder {
public:
    Builder(const Setting& setting, const std::string& name, const std::string& description, const Case& sizes, int copies = 1)
        : setting_(setting), sizes_(sizes), operands_(std::make_shared<Operands>(sizes, copies)) {
        group_.name = name, group_.description = description;
        plain_ = add("no mask", sizes);
    }
    std::shared_ptr<Run> add(const std::string& name, const Case& c, Given given = Given::as_it_is, attn_context other = nullptr,
                             std::shared_ptr<Operands> data = nullptr) {
        auto run = std::make_shared<Run>(other ? other : context(setting_.threads), c, data ? data : operands_, given);
        group_.subjects.push_back(subject(name, run));
        return run;
    }
    // A masked run whose time is held against the unmasked one's.
    std::shared_ptr<Run> masked(const std::string& name, const Case& c, double limit, double aim, Given given = Given::as_it_is) {
        auto run = add(name, c, given);
        group_.lines.push_back({name, "x no mask", name, "no mask", 1, Better::lower, limit, aim});
        return run;
    }
    // The same, where the limits are multiples of the share of visible 64 x 64 cells.
    std::shared_ptr<Run> shared(const std::string& name, const Case& c, double limit, double aim, Given given = Given::as_it_is) {
        auto run = masked(name, c, limit, aim, given);
        Line& line = group_.lines.back();
        line.row += " (" + percent(run->share()) + " of the cells)";
        line.limit *= run->share(), line.aim *= run->share();
        return run;
    }
    void peak(const std::string& row, const std::string& of, const Run& run, const std::string& instruction_set, double limit, double aim) {
        const std::string ceiling = "FMA peak, " + instruction_set;
        double flops = 0;
        fma_seconds(instruction_set, setting_.threads, flops);
        const bool known = std::any_of(group_.subjects.begin(), group_.subjects.end(), [&](const Subject& s) { return s.name == ceiling; });
        if (!known)
            group_.subjects.push_back({ceiling, [instruction_set, threads = setting_.threads] {
                                           double ignored;
                                           return fma_seconds(instruction_set, threads, ignored);
                                       }});
        group_.lines.push_back({row, "of the FMA peak", ceiling, of, run.flops() / flops, Better::higher, limit, aim});
        group_.facts.push_back({ceiling, "flop a probe", flops, 0});
    }
    // The AVX2 kernels where the machine has something better.
    void avx2() {
        if (best(setting_) != "avx512") return;
        const auto run = add("AVX2", sizes_, Given::as_it_is, context(setting_.threads, "avx2"));
        peak("AVX2, no mask", "AVX2", *run, "avx2", 0.80, 0.90);
    }
    Group take() { return std::move(group_); }

    static std::string percent(double share) {
        char text[16];
        std::snprintf(text, sizeof text, "%.1f %%", share * 100);
        return text;
    }

    const Setting& setting_;
    const Case sizes_;
    std::shared_ptr<Operands> operands_;
    std::shared_ptr<Run> plain_;
    Group group_;
};

Case sizes(int64_t B, int64_t Hq, int64_t Hkv, int64_t Sq, int64_t Sk, int64_t D, Type type = Type::f32) {
    Case c;
    c.B = B, c.Hq = Hq, c.Hkv = Hkv, c.Sq = Sq, c.Sk = Sk, c.D = c.Dv = D, c.type = type;
    return c;
}

Group whisper(const Setting& s) {
    const Case plain = sizes(8, 20, 20, 1500, 1500, 64);
    const Case lengths = plain.but("", [](Case& c) { c.key_lengths = {1500, 1210, 1010, 820, 620, 430, 260, 126}; }); // 49.8 % of the keys
    Builder g(s, "whisper", "B8 H20 S1500 D64: the encoder of the report this library exists for", plain);
    g.peak("no mask", "no mask", *g.plain_, best(s), 0.85, 0.91);
    g.masked("key lengths, 49.8 %", lengths, 0.52, 0);
    g.group_.lines.back().aim = 1.005 * g.add("key lengths as a prepared keep", lengths, Given::prepared)->share();
    g.masked("key lengths as a dense keep", lengths, 0.53, 0.52, Given::dense);
    g.masked("dense keep, hides nothing", plain.but("", [](Case& c) { c.keep = cases::Keep::all; }), 1.01, 1.00);
    g.masked("dense keep, random half", plain.but("", [](Case& c) { c.keep = cases::Keep::half; }), 1.04, 1.015);
    g.masked("bias, float32", plain.but("", [](Case& c) { c.bias = cases::Bias::normal; }), 1.05, 1.02);
    g.masked("causal", plain.but("", [](Case& c) { c.causal = true; }), 0, 0);
    return g.take();
}

Group types(const Setting& s) {
    const Case plain = sizes(8, 20, 20, 1500, 1500, 64);
    Builder g(s, "types", "B8 H20 S1500 D64 in other types, and by the AVX2 kernels", plain);
    for (const auto& [type, name] : {std::pair{Type::f16, "float16"}, {Type::bf16, "bfloat16"}}) {
        const Case other = sizes(8, 20, 20, 1500, 1500, 64, type);
        g.add(name, other, Given::as_it_is, nullptr, std::make_shared<Operands>(other));
        g.group_.lines.push_back({name, "x float32", name, "no mask", 1, Better::lower, 1.10, 1.05});
    }
    g.avx2();
    return g.take();
}

Group bert(const Setting& s) {
    const Case plain = sizes(8, 12, 12, 512, 512, 64);
    Builder g(s, "bert", "B8 H12 S512 D64", plain);
    g.peak("no mask", "no mask", *g.plain_, best(s), 0, 0);
    g.shared("key lengths, half", plain.but("", [](Case& c) { c.key_lengths = {512, 448, 352, 272, 192, 128, 96, 48}; }), 0, 1.02);
    return g.take();
}

Group prefill(const Setting& s) {
    const Case plain = sizes(1, 32, 32, 2048, 2048, 128);
    Builder g(s, "prefill", "B1 H32 S2048 D128", plain);
    g.peak("no mask", "no mask", *g.plain_, best(s), 0, 0.94);
    const auto causal = g.masked("causal", plain.but("", [](Case& c) { c.causal = true; }), 0.53, 0);
    g.group_.lines.back().aim = 1.002 * causal->share();
    g.avx2();
    return g.take();
}

Group long_sequence(const Setting& s) {
    const Case plain = sizes(1, 8, 8, 8192, 8192, 64);
    Builder g(s, "long", "B1 H8 S8192 D64", plain);
    g.peak("no mask", "no mask", *g.plain_, best(s), 0, 0.92);
    g.shared("16 documents", plain.but("", [](Case& c) { c.documents = 16; }), 1.08, 1.03);
    g.shared("causal, window 1024", plain.but("", [](Case& c) { c.causal = true, c.left = 1024; }), 1.08, 1.03);
    g.shared("prefix 2048", plain.but("", [](Case& c) { c.prefix = {2048}; }), 1.08, 1.03);
    return g.take();
}

// The runs take turns with several caches of keys and values, together more than eight times the last-level cache, and so does the probe of the bandwidth.
Group decode(const Setting& s, int64_t key_heads) {
    const Case one = sizes(8, 32, key_heads, 1, 4096, 128);
    const double bytes = 8.0 * double(key_heads) * 4096 * 128 * 2 * 4, caches = 8.0 * double(std::max(64l << 20, sysconf(_SC_LEVEL3_CACHE_SIZE)));
    const int copies = int(std::min(caches / bytes + 1, 8e9 / bytes));
    Builder g(s, "decode" + std::to_string(key_heads),
              "B8 H32, " + std::to_string(key_heads) + " key heads, one query of 4096 keys, D128; " + std::to_string(copies) + " caches by turns", one, copies);
    const auto operands = g.operands_;
    auto read_once = [operands, copies, threads = s.threads, turn = 0]() mutable { // far from the cache that the next run takes
        const size_t at = size_t(++turn + copies / 2) % size_t(copies);
        return read_seconds(operands->K[at].data(), operands->K[at].bytes(), threads) + read_seconds(operands->V[at].data(), operands->V[at].bytes(), threads);
    };
    const double probe = double(operands->K[0].bytes() + operands->V[0].bytes());
    const bool fast_memory = probe / std::min(read_once(), read_once()) > 45e9; // two cores do not use up all that such a host gives
    g.group_.subjects.push_back({"read bandwidth", read_once});
    g.group_.lines.push_back(
        {"one query", "of the read bandwidth", "read bandwidth", "no mask", bytes / probe, Better::higher, fast_memory ? 0.72 : 0.8, 0.95});
    g.group_.facts.push_back({"read bandwidth", "bytes a probe", probe, 0});
    return g.take();
}

// Threads that call as a service's would: they live on, wait, and start together.
class Callers {
public:
    explicit Callers(std::vector<std::shared_ptr<Run>> runs) : runs_(std::move(runs)) {
        for (size_t k = 0; k < runs_.size(); ++k) threads_.emplace_back([this, k] { live(k); });
    }
    ~Callers() {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        start_.notify_all();
        for (std::thread& t : threads_) t.join();
    }
    // Seconds of one call by each; `together` or one after the other.
    double seconds(bool together) {
        std::unique_lock lock(mutex_);
        const auto began = std::chrono::steady_clock::now();
        running_ = runs_.size(), next_ = together ? runs_.size() : 1, ++turn_;
        start_.notify_all();
        done_.wait(lock, [&] { return running_ == 0; });
        if (!failure_.empty()) throw std::runtime_error(failure_);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    }
    std::string wrong(bool together) {
        for (const auto& run : runs_) run->poison();
        seconds(together);
        for (size_t k = 0; k < runs_.size(); ++k)
            if (const std::string why = runs_[k]->wrong(); !why.empty()) return "caller " + std::to_string(k) + ": " + why;
        return {};
    }

private:
    void live(size_t me) {
        std::unique_lock lock(mutex_);
        for (int64_t turn = 1;; ++turn) {
            start_.wait(lock, [&] { return stopping_ || (turn_ >= turn && me < next_); });
            if (stopping_) return;
            lock.unlock();
            std::string failure;
            try {
                runs_[me]->seconds();
            } catch (const std::exception& e) { failure = e.what(); }
            lock.lock();
            if (!failure.empty()) failure_ = failure;
            if (next_ == me + 1) ++next_, start_.notify_all();
            if (--running_ == 0) done_.notify_one();
        }
    }

    const std::vector<std::shared_ptr<Run>> runs_;
    std::mutex mutex_;
    std::condition_variable start_, done_;
    int64_t turn_ = 0;
    size_t next_ = 0, running_ = 0; // callers below next_ may go
    bool stopping_ = false;
    std::string failure_;
    std::vector<std::thread> threads_;
};

Group callers(const Setting& s) {
    const Case plain = sizes(2, 8, 8, 700, 700, 64);
    Group g{"callers", "two callers at once, 64 callers at once: B2 H8 S700 D64 each"};
    for (const size_t n : {size_t(2), size_t(64)}) {
        std::vector<std::shared_ptr<Run>> runs;
        for (size_t k = 0; k < n; ++k) runs.push_back(std::make_shared<Run>(context(s.threads), plain, std::make_shared<Operands>(plain)));
        const auto all = std::make_shared<Callers>(std::move(runs));
        const std::string count = std::to_string(n);
        for (const bool together : {false, true})
            g.subjects.push_back({count + (together ? " at once" : " in turn"), [=] { return all->seconds(together); }, [=] { return all->wrong(together); }});
        g.lines.push_back({count + " callers at once", "x one after the other", count + " at once", count + " in turn", 1, Better::lower, 1.1, 1});
    }
    return g;
}

Group call(const Setting& s) {
    const Case tiny = sizes(1, 1, 1, 16, 16, 64);
    constexpr int kCalls = 2000;
    Group g{"call", "one call of [1, 1, 16, 16, 64], plan reused; 2000 in a row a round"};
    for (const int threads : {1, s.threads}) {
        const auto run = std::make_shared<Run>(context(threads), tiny, std::make_shared<Operands>(tiny));
        const std::string name = std::to_string(threads) + (threads == 1 ? " worker" : " workers");
        g.subjects.push_back({name, [run] {
                                  double total = 0;
                                  for (int k = 0; k < kCalls; ++k) total += run->seconds();
                                  return total / kCalls;
                              }});
        if (threads == s.threads) break;
    }
    return g;
}

// Scratch is a worker's own and does not grow with the sequence.
Group memory(const Setting& s) {
    Group g{"memory", "what a context holds beyond its operands after a run"};
    for (const int64_t S : {1500, 8192}) {
        attn_context_options options{};
        options.size = sizeof options, options.workers = s.threads;
        attn_context c = nullptr;
        if (attn_context_create(&options, &c) != ATTN_OK) throw std::runtime_error(attn_last_error());
        const Case plain = sizes(1, 4, 4, S, S, 64);
        const auto resident = [] {
            long pages = 0, ignored = 0;
            std::ifstream("/proc/self/statm") >> ignored >> pages;
            return double(pages) * double(sysconf(_SC_PAGESIZE));
        };
        {
            Run run(c, plain, std::make_shared<Operands>(plain));
            const double before = resident();
            run.seconds();
            const std::string of = " a worker, S " + std::to_string(S), unit = "bytes";
            g.facts.push_back({"scratch" + of, unit, double(info(c).scratch_bytes) / s.threads, 2 << 20});
            g.facts.push_back({"resident memory gained by a first run" + of, unit, (resident() - before) / s.threads, 2 << 20});
        }
        attn_context_destroy(c);
    }
    return g;
}

Group real_sample(const Setting& s) {
    const RealSample sample(s.sample);
    Case plain = sizes(sample.shape[0], sample.shape[1], sample.shape[1], sample.shape[2], sample.shape[2], sample.shape[3], Type::f16);
    Builder g(s, "sample", "Q, K, V of a speech encoder for four real clips (bench/data), float16 as it is stored", plain);
    std::copy(sample.Q.begin(), sample.Q.end(), g.operands_->Q.data());
    std::copy(sample.K.begin(), sample.K.end(), g.operands_->K[0].data());
    std::copy(sample.V.begin(), sample.V.end(), g.operands_->V[0].data());
    const Case lengths = plain.but("", [&](Case& c) { c.key_lengths = sample.key_lengths; });
    g.shared("key lengths", lengths, 1.04, 1.02);
    g.shared("key lengths as a dense keep", lengths, 0, 0, Given::dense);
    return g.take();
}

} // namespace

const std::vector<Entry>& entries() {
    static const std::vector<Entry> all{
        {"whisper", "the speech encoder's shape: no mask, lengths, dense masks, bias", whisper},
        {"types", "the same in float16 and bfloat16, and by the AVX2 kernels", types},
        {"sample", "real inputs with their lengths", real_sample},
        {"bert", "short sequences, half of them padding", bert},
        {"prefill", "a prompt, full and causal", prefill},
        {"long", "8192 positions: documents, window, prefix", long_sequence},
        {"decode8", "one query, a cache of 8 key heads", [](const Setting& s) { return decode(s, 8); }},
        {"decode32", "one query, a cache of 32 key heads", [](const Setting& s) { return decode(s, 32); }},
        {"callers", "many callers of one context", callers},
        {"call", "the cost of a call", call},
        {"memory", "scratch and its growth", memory},
    };
    return all;
}

} // namespace harness
