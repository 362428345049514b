// fuzz_abi.cpp — the C ABI from bytes: a problem of small sizes, its arrays and its mask, now and then described wrongly. Whatever comes, a call returns one of
// the statuses with a sentence, touches no memory but the arrays', and leaves nothing alive; and where two backends take a float32 problem, they agree.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "attention/attention.h"

namespace {

[[noreturn]] void broken(const char* what, double got = 0, double wanted = 0) {
    std::fprintf(stderr, "broken: %s (%g, %g); last error: %s\n", what, got, wanted, attn_last_error());
    std::abort();
}

class Bytes {
public:
    Bytes(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
    uint8_t byte() { return at_ < end_ ? *at_++ : 0; }
    int64_t up_to(int64_t most) { return int64_t(byte() | byte() << 8) % (most + 1); }
    bool rarely() { return byte() >= 250; } // never once the bytes have run out
    template <class T>
    T any() {
        T value{};
        for (size_t i = 0; i < sizeof value; ++i) reinterpret_cast<uint8_t*>(&value)[i] = byte();
        return value;
    }

private:
    const uint8_t *at_, *end_;
};

// What follows a structure whose size says that its caller's header is newer: nothing is set there.
struct NewerFields {
    uint8_t bytes[4096];
};

// An array of its own exact size on the heap, so that the address sanitizer sees a step too far.
class Owned {
public:
    Owned() { array.size = sizeof array; }
    Owned(const Owned&) = delete;
    ~Owned() { std::free(array.data); }
    void make(int32_t dtype, std::initializer_list<int64_t> shape) {
        array.dtype = dtype, array.rank = int32_t(shape.size());
        std::copy(shape.begin(), shape.end(), array.shape);
        allocate();
    }
    template <class T, class F>
    void fill(F&& value) {
        for (size_t i = 0; i < bytes / sizeof(T); ++i) static_cast<T*>(array.data)[i] = T(value());
    }
    // One of the ways to describe an array wrongly.
    void spoil(Bytes& in) {
        switch (in.up_to(6)) {
            case 0: array.size = in.any<uint32_t>(); break;
            case 1: array.dtype = in.any<int32_t>(); break;
            case 2: array.rank = in.any<int32_t>(); break;
            case 3: array.shape[in.up_to(3)] += 1 + in.up_to(8), allocate(); break; // more than the problem has, but there
            case 4: array.has_strides = 1, array.strides[in.up_to(3)] = in.any<int64_t>(); break;
            case 5: array.tensor = reinterpret_cast<attn_tensor>(in.any<uintptr_t>() | 1); break;
            default: array.device_type = in.any<int32_t>(); break;
        }
    }
    attn_array array{};
    NewerFields newer{};
    size_t bytes = 0;

private:
    void allocate() {
        static constexpr int kBytes[] = {0, 4, 2, 2, 8, 4, 1};
        bytes = size_t(kBytes[array.dtype]);
        for (int d = 0; d < array.rank; ++d) bytes *= size_t(array.shape[d]);
        std::free(array.data);
        array.data = std::calloc(bytes ? bytes : 1, 1);
    }
};

bool ok(attn_status status) {
    if (status < ATTN_OK || status >= ATTN_INTERNAL_ERROR) broken("a status that no caller can expect", status);
    if (status != ATTN_OK && !*attn_last_error()) broken("a failure without a sentence", status);
    return status == ATTN_OK;
}

struct Values {
    attn_mask_values mask{};
    Owned key_lengths, query_lengths, prefix, q_documents, k_documents, keep;

    void make(const attn_problem& p, Bytes& in) {
        mask.size = sizeof mask, mask.kinds = p.mask_kinds;
        const auto vector = [&](Owned& a, uint32_t kind, const attn_array*& field, std::initializer_list<int64_t> shape, int64_t least, int64_t most) {
            if (!(p.mask_kinds & kind)) return;
            a.make(ATTN_INT32, shape);
            a.fill<int32_t>([&] { return in.rarely() ? in.any<int32_t>() : int32_t(least + in.up_to(most - least)); });
            if (in.rarely()) a.spoil(in);
            field = &a.array;
        };
        vector(key_lengths, ATTN_MASK_KEY_LENGTHS, mask.key_lengths, {p.batch}, 0, p.keys);
        vector(query_lengths, ATTN_MASK_QUERY_LENGTHS, mask.query_lengths, {p.batch}, 0, p.queries);
        vector(prefix, ATTN_MASK_PREFIX, mask.prefix, {p.batch}, 0, p.keys);
        vector(q_documents, ATTN_MASK_DOCUMENTS, mask.q_documents, {p.batch, p.queries}, -1, 2);
        vector(k_documents, ATTN_MASK_DOCUMENTS, mask.k_documents, {p.batch, p.keys}, -1, 2);
        if (p.mask_kinds & ATTN_MASK_WINDOW) mask.window_left = in.up_to(p.keys + 1) - 1, mask.window_right = in.up_to(p.keys + 1) - 1;
        if (p.mask_kinds & ATTN_MASK_KEEP) {
            keep.make(ATTN_UINT8, {p.keep_shape[0], p.keep_shape[1], p.keep_shape[2], p.keep_shape[3]});
            uint32_t state = in.any<uint32_t>() | 1, dense = in.byte();
            keep.fill<uint8_t>([&] { return (state = state * 1664525u + 1013904223u) >> 24 < dense; });
            if (in.rarely()) keep.spoil(in);
            keep.array.has_strides = 0; // any are legal, and would reach where nothing is
            mask.keep = &keep.array;
        }
        if (in.rarely()) mask.kinds ^= 1u << in.up_to(7);
    }
};

attn_problem problem_of(Bytes& in) {
    attn_problem p{};
    p.size = sizeof p;
    p.dtype = 1 + int32_t(in.up_to(3));
    p.flags = in.byte() & (ATTN_WANT_LSE | ATTN_DETERMINISTIC);
    if (in.up_to(7) == 0) p.flags |= ATTN_WANT_PROBABILITIES;
    p.mask_kinds = in.byte() & 127;
    if (p.mask_kinds & ATTN_MASK_PREFIX && !in.rarely()) p.mask_kinds &= ~uint32_t(ATTN_MASK_CAUSAL);
    p.offset_kind = int32_t(in.up_to(3));
    p.terms = in.byte() & 3;
    const int64_t group = 1 + in.up_to(3);
    p.batch = in.up_to(3), p.key_heads = in.up_to(2), p.query_heads = group * p.key_heads;
    p.queries = in.up_to(140), p.keys = in.up_to(200), p.head_dim = 1 + in.up_to(79), p.value_dim = 1 + in.up_to(79);
    if (in.byte() & 1) p.flags |= ATTN_HAS_SCALE, p.scale = float(in.up_to(400) - 200) / 400;
    if (in.byte() & 1) p.softcap = float(1 + in.up_to(60));
    const int64_t full[4] = {p.batch, p.query_heads, p.queries, p.keys};
    const uint8_t broadcast = in.byte();
    for (int d = 0; d < 4; ++d) {
        if (p.mask_kinds & ATTN_MASK_KEEP) p.keep_shape[d] = broadcast >> d & 1 ? 1 : full[d];
        if (p.terms & ATTN_TERM_BIAS) p.bias_shape[d] = broadcast >> (d + 4) & 1 ? 1 : full[d];
    }
    if (in.rarely()) reinterpret_cast<uint8_t*>(&p)[in.up_to(sizeof p - 1)] = in.byte(); // any field at all
    return p;
}

// Sizes that the arrays below are made for; a spoiled problem may ask for more than a test should allocate.
bool small(const attn_problem& p) {
    const int64_t all[] = {p.batch, p.query_heads, p.key_heads, p.queries, p.keys, p.head_dim, p.value_dim};
    for (const int64_t n : all)
        if (n < 0 || n > 300) return false;
    for (int d = 0; d < 4; ++d)
        if (p.keep_shape[d] < 0 || p.keep_shape[d] > 300 || p.bias_shape[d] < 0 || p.bias_shape[d] > 300) return false;
    return p.dtype >= ATTN_FLOAT32 && p.dtype <= ATTN_FLOAT64 && p.bias_dtype >= 0 && p.bias_dtype <= ATTN_FLOAT64 && !(p.flags & ATTN_HAS_STRIDES) &&
           p.batch * p.query_heads * p.queries * p.keys <= 4 << 20;
}

void fill(Owned& a, Bytes& in) {
    uint32_t state = in.any<uint32_t>() | 1;
    const auto next = [&] { return float((state = state * 1664525u + 1013904223u) >> 8) / float(1 << 23) - 1; }; // [-1, 1)
    switch (a.array.dtype) {
        case ATTN_FLOAT32: a.fill<float>(next); break;
        case ATTN_FLOAT64: a.fill<double>(next); break;
        default: a.fill<uint16_t>([&] { return state = state * 1664525u + 1013904223u, state >> 16; }); break; // any bits, NaN and infinity too
    }
}

attn_context context() {
    static attn_context shared = [] {
        attn_context_options options{};
        options.size = sizeof options, options.workers = 2;
        attn_context c = nullptr;
        if (attn_context_create(&options, &c) != ATTN_OK) broken("no context");
        return c;
    }();
    return shared;
}

void one(Bytes& in) {
    const struct {
        attn_problem problem;
        NewerFields newer{};
    } given{problem_of(in)};
    const attn_problem& p = given.problem;
    attn_plan plans[4] = {};
    for (int32_t backend = 1; backend <= 3; ++backend) {
        attn_refusal refusals[4];
        for (auto& r : refusals) r.size = sizeof r;
        uint32_t count = 0;
        const bool asked = ok(attn_query(context(), &p, backend, refusals, 4, &count));
        const attn_status planned = attn_plan_create(context(), &p, backend, &plans[backend]);
        if (ok(planned) != (asked && count == 0)) broken("query and plan disagree", planned, count);
    }
    if (small(p)) {
        Owned q, k, v, bias, slopes, offsets, lse, probabilities, o[4];
        Values values;
        q.make(p.dtype, {p.batch, p.query_heads, p.queries, p.head_dim});
        k.make(p.dtype, {p.batch, p.key_heads, p.keys, p.head_dim});
        v.make(p.dtype, {p.batch, p.key_heads, p.keys, p.value_dim});
        fill(q, in), fill(k, in), fill(v, in);
        values.make(p, in);
        attn_run_args args{};
        args.size = sizeof args;
        args.q = &q.array, args.k = &k.array, args.v = &v.array;
        if (p.terms & ATTN_TERM_BIAS) {
            bias.make(p.bias_dtype ? p.bias_dtype : ATTN_FLOAT32, {p.bias_shape[0], p.bias_shape[1], p.bias_shape[2], p.bias_shape[3]});
            fill(bias, in);
            args.bias = &bias.array;
        }
        if (p.terms & ATTN_TERM_ALIBI) {
            slopes.make(ATTN_FLOAT32, {p.query_heads});
            slopes.fill<float>([&] { return float(in.byte()) / 512; });
            args.alibi_slopes = &slopes.array;
        }
        if (p.offset_kind == ATTN_OFFSET_VALUE) args.offset = in.rarely() ? in.any<int64_t>() : in.up_to(400) - 200;
        if (p.offset_kind == ATTN_OFFSET_PER_BATCH) {
            offsets.make(ATTN_INT32, {p.batch});
            offsets.fill<int32_t>([&] { return in.rarely() ? in.any<int32_t>() : int32_t(in.up_to(400)) - 200; });
            args.offsets = &offsets.array;
        }
        if (p.flags & ATTN_WANT_LSE) lse.make(ATTN_FLOAT32, {p.batch, p.query_heads, p.queries}), args.lse = &lse.array;
        if (p.flags & ATTN_WANT_PROBABILITIES) {
            probabilities.make(ATTN_FLOAT32, {p.batch, p.query_heads, p.queries, p.keys});
            args.probabilities = &probabilities.array;
        }
        if (in.rarely()) (in.byte() & 1 ? q : k).spoil(in);
        attn_mask prepared = nullptr;
        if (p.mask_kinds && in.byte() & 1 && ok(attn_mask_prepare(context(), &values.mask, &prepared))) args.prepared = prepared;
        else if (p.mask_kinds) args.mask = &values.mask;
        bool ran[4] = {};
        for (int32_t backend = 1; backend <= 3; ++backend) {
            o[backend].make(p.dtype, {p.batch, p.query_heads, p.queries, p.value_dim});
            args.o = &o[backend].array;
            attn_tiles tiles{};
            tiles.size = sizeof tiles;
            if (!plans[backend]) continue;
            ok(attn_plan_tiles(plans[backend], &args, &tiles));
            ran[backend] = ok(attn_run(plans[backend], &args));
        }
        if (p.dtype == ATTN_FLOAT32 && ran[3] && bias.array.dtype != ATTN_FLOAT16 && bias.array.dtype != ATTN_BFLOAT16)
            for (int backend = 1; backend <= 2; ++backend)
                for (size_t i = 0; ran[backend] && i < o[3].bytes / sizeof(float); ++i) {
                    const float got = static_cast<float*>(o[backend].array.data)[i], wanted = static_cast<float*>(o[3].array.data)[i];
                    if (!(std::fabs(got - wanted) <= 1e-4f))
                        broken(backend == 1 ? "flash differs from naive" : "memory-efficient differs from naive", got, wanted);
                }
        if (prepared) ok(attn_mask_destroy(prepared));
    }
    for (const attn_plan plan : plans)
        if (plan && !ok(attn_plan_destroy(plan))) broken("a plan that cannot be destroyed");
    attn_counters counters{};
    counters.size = sizeof counters;
    if (!ok(attn_counters_read(&counters))) broken("no counters");
    if (counters.live_plans || counters.live_masks || counters.live_bytes)
        broken("something is left alive", double(counters.live_plans), double(counters.live_masks));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Bytes in(data, size);
    one(in);
    return 0;
}
