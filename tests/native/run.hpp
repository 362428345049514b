// run.hpp — one run of a sample, and what it wrote as bits.
#pragma once
#include <cstring>

#include "../reference/judge.hpp"
#include "handles.hpp"
#include "sample.hpp"

namespace handles {

// What a run wrote, to compare bit by bit.
struct Bits {
    std::vector<unsigned char> O;
    std::vector<float> lse;
    bool operator==(const Bits& other) const {
        return O == other.O && lse.size() == other.lse.size() && (lse.empty() || !std::memcmp(lse.data(), other.lse.data(), lse.size() * sizeof(float)));
    }
};

// Runs the sample; its O and lse hold the result.
inline Bits run(attn_context context, cases::Sample& sample, int32_t backend, uint32_t flags = ATTN_WANT_LSE | ATTN_DETERMINISTIC) {
    const Plan p = plan(context, sample.described(flags), backend);
    sample.clear_output();
    if (p) {
        attn_run_args& args = sample.args();
        if (!(flags & ATTN_WANT_LSE)) args.lse = nullptr;
        EXPECT_TRUE(succeeded(attn_run(p, &args)));
    }
    return {sample.O.bytes, sample.lse};
}

inline reference::Output output_of(const cases::Sample& sample) {
    return {[&](int64_t b, int64_t h, int64_t i, int64_t d) { return sample.O.get(b, h, i, d); },
            [&](int64_t b, int64_t h, int64_t i) { return double(sample.lse[size_t((b * sample.problem.Hq + h) * sample.problem.Sq + i)]); }};
}
inline ::testing::AssertionResult agrees(const reference::Judge& judge, const cases::Sample& sample) {
    const reference::Verdict verdict = judge(output_of(sample));
    if (verdict) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << verdict.wrong << "; the largest error is " << verdict.share << " of what is allowed";
}
inline ::testing::AssertionResult agrees(const cases::Sample& sample) { return agrees(reference::Judge(sample.problem), sample); }

// f(context, backend) for every instruction set and every backend that takes the sample.
template <class F>
void each_kernel(const cases::Sample& sample, F&& f, int workers = 2) {
    static const std::vector<std::string> sets = instruction_sets();
    for (const std::string& isa : sets) {
        const Context c = context(workers, isa.c_str());
        for (const int32_t backend : kBackends) {
            if ((backend == ATTN_BACKEND_NAIVE && isa != sets.front()) || !refusals(c, sample.described(), backend).empty()) continue;
            SCOPED_TRACE(std::string(name_of(backend)) + ", " + isa + ", " + sample.what.name);
            f(c, backend);
        }
    }
}

} // namespace handles
