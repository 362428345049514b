// plan.hpp — a problem with the kernel that will run it.
#pragma once
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
    const std::shared_ptr<Context> context;
    const Problem problem;
    const Backend backend;
    const cpu::KernelChoice choice;
};

} // namespace attn::abi
