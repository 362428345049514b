#include "plan.hpp"

#include <algorithm>
#include <cstring>

#include "../cuda/run.hpp"
#include "problem.hpp"

namespace attn::abi {
namespace {
Backend checked_backend(int32_t backend) {
    if (backend < ATTN_BACKEND_FLASH || backend > ATTN_BACKEND_NAIVE)
        fail(ATTN_INVALID_ARGUMENT, "backend is %d; 1 (flash), 2 (memory-efficient) or 3 (naive) is allowed", backend);
    return Backend(backend);
}

// The one predicate of either device; a GPU's says at the same time what would run.
cuda::Selection selected(const Context& context, const Problem& problem, Backend backend) {
    if (!context.gpu) return {cpu::refusals(problem, backend), {}};
    return cuda::select(problem, backend, {context.gpu->arch, cuda::embeds(90) || cuda::library().nvrtc_version >= 12000});
}
} // namespace
} // namespace attn::abi

using namespace attn::abi;

attn_status attn_query(attn_context context, const attn_problem* problem, int32_t backend, attn_refusal* refusals, uint32_t capacity, uint32_t* count) {
    return guarded([&] {
        required(count, "count");
        const auto c = get<Context>(context, "context");
        if (capacity && !refusals) fail(ATTN_INVALID_ARGUMENT, "refusals is null and capacity %u; a null list has capacity 0", capacity);
        const auto found = selected(*c, checked_problem(problem), checked_backend(backend)).refusals;
        for (uint32_t i = 0; i < std::min<size_t>(capacity, found.size()); ++i) {
            checked(refusals + i, "refusals");
            refusals[i] = {sizeof(attn_refusal), int32_t(found[i].reason), found[i].met, found[i].limit, {}};
            std::strncpy(refusals[i].text, found[i].text.c_str(), sizeof refusals[i].text - 1);
        }
        *count = uint32_t(found.size());
    });
}

attn_status attn_plan_create(attn_context context, const attn_problem* problem, int32_t backend, attn_plan* plan) {
    return guarded([&] {
        required(plan, "plan");
        const auto c = get<Context>(context, "context");
        const attn::Problem p = checked_problem(problem);
        const attn::Backend b = checked_backend(backend);
        const attn::cuda::Selection s = selected(*c, p, b);
        if (!s.refusals.empty()) {
            std::string text;
            for (const auto& r : s.refusals) text += (text.empty() ? "" : "; ") + r.text;
            throw Error(ATTN_REFUSED, text);
        }
        *plan = static_cast<attn_plan>(add(c->gpu ? std::make_shared<Plan>(c, p, b, s.choice) : std::make_shared<Plan>(c, p, b)));
    });
}

attn_status attn_plan_destroy(attn_plan plan) {
    return guarded([&] { remove(plan, Kind::plan, "plan"); });
}

attn_status attn_plan_describe(attn_plan plan, attn_plan_info* info) {
    return guarded([&] {
        const auto p = get<Plan>(plan, "plan");
        checked(info, "info");
        *info = {sizeof *info, int32_t(p->backend), {}, p->choice.tile_queries, p->choice.tile_keys, p->choice.key_chunk, p->choice.workspace_bytes, {}};
        std::strncpy(info->kernel, p->choice.kernel.c_str(), sizeof info->kernel - 1);
        std::strncpy(info->reason, p->choice.reason.c_str(), sizeof info->reason - 1);
    });
}

attn_status attn_plan_warmup(attn_plan plan) {
    return guarded([&] {
        const auto p = get<Plan>(plan, "plan");
        if (const auto& gpu = p->context->gpu) {
            const attn::cuda::Device::Current current(*gpu);
            if (!p->problem.empty()) attn::cuda::load(*gpu, p->problem, p->on_gpu);
            attn::cuda::Memory(gpu, p->choice.workspace_bytes, "a run's workspace");
            return;
        }
        p->context->pool.warm_up();
        Context::Lease(*p->context, p->choice.workspace_bytes);
    });
}

attn_status attn_plan_workspace(attn_plan plan, uint64_t* bytes) {
    return guarded([&] { required(bytes, "bytes") = get<Plan>(plan, "plan")->choice.workspace_bytes; });
}
