// plan.hpp — a problem with the kernel that will run it.
#pragma once
#include "../cuda/plan.hpp"
#include "context.hpp"

namespace attn::abi {

class Plan final : public Object {
public:
    static constexpr Kind kKind = Kind::plan;
    Plan(std::shared_ptr<Context> context, const Problem& problem, Backend backend)
        : Object(kKind),
          context(std::move(context)),
          problem(problem),
          backend(backend),
          choice(cpu::choose(problem, backend, this->context->isa, this->context->pool.workers())) {}
    Plan(std::shared_ptr<Context> context, const Problem& problem, Backend backend, const cuda::Choice& on_gpu)
        : Object(kKind), context(std::move(context)), problem(problem), backend(backend), choice(on_gpu), on_gpu(on_gpu) {}
    const std::shared_ptr<Context> context;
    const Problem problem;
    const Backend backend;
    const KernelChoice choice;
    const cuda::Choice on_gpu; // of a GPU's plan: the same, and how it is launched
};

} // namespace attn::abi
