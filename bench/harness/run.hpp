// run.hpp — a problem with its data that can be run again and again, each time as if for the first time, and judged.
#pragma once
#include <attention/attention.h>

#include <memory>
#include <string>
#include <vector>

#include "memory.hpp"
#include "native/cases.hpp"
#include "reference/attention.hpp"

namespace harness {

// Q, K, V, O contiguous [B, H, S, D]; K and V as often as asked, so that a run never finds in a cache what the one before read.
struct Operands {
    Operands(const cases::Case& sizes, int copies = 1);
    cases::Case sizes;
    Memory Q, O;
    std::vector<Memory> K, V;
};

// How the mask of a case is given.
enum class Given {
    as_it_is,
    dense,    // as a keep tensor [B, 1, Sq, Sk]
    prepared, // as a keep tensor, prepared beforehand
};

class Run {
public:
    Run(attn_context context, const cases::Case& problem, std::shared_ptr<Operands> operands, Given given = Given::as_it_is);
    Run(const Run&) = delete;
    ~Run();

    // One whole call, from the ABI to finished output. An unprepared keep mask has another address than the time before and one visible byte of another value.
    double seconds();
    // O of the last run against the reference, on rows of several heads; empty: all is well. `poison` first, so that what the run did not write shows.
    void poison();
    std::string wrong();

    double flops() const; // of all scores, whether visible or not
    double bytes() const; // of K and V
    double share() const { return share_; }
    const std::string& kernel() const { return kernel_; }

private:
    void fill_keep();
    void fill_bias();
    void fill_documents();
    void count_share();
    reference::Problem rows(int64_t b, int64_t h, int64_t i, int64_t n) const;

    attn_context context_;
    cases::Case c_;
    std::shared_ptr<Operands> data_;
    Given given_;
    reference::Problem mask_; // who sees whom
    Memory keep_[2], bias_;
    attn_plan plan_ = nullptr;
    attn_mask prepared_ = nullptr;
    std::string kernel_;
    double share_ = 1;
    int64_t runs_ = 0;
};

} // namespace harness
