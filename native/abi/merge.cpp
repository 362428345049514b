#include "../cuda/run.hpp"
#include "array.hpp"
#include "stream.hpp"

using namespace attn::abi;

namespace {
struct Side {
    Array O, LSE;
};
Side side(const Context& c, const attn_array* o, const attn_array* lse, const char* o_name, const char* lse_name, const Side* like) {
    Side s;
    s.O = resolve(c, o, o_name);
    if (s.O.rank != 4) fail(ATTN_INVALID_ARGUMENT, "%s has %d dimensions; 4 are needed (batch, head, row, column)", o_name, s.O.rank);
    if (s.O.dtype > attn::DType::bf16) fail(ATTN_INVALID_ARGUMENT, "%s is %s; float32, float16 or bfloat16 is allowed", o_name, attn::name_of(s.O.dtype));
    if (like) {
        if (s.O.dtype != like->O.dtype)
            fail(ATTN_INVALID_ARGUMENT, "%s is %s; o1 is %s, and all must be alike", o_name, attn::name_of(s.O.dtype), attn::name_of(like->O.dtype));
        for (int d = 0; d < 4; ++d)
            if (s.O.shape[d] != like->O.shape[d])
                fail(ATTN_INVALID_ARGUMENT, "%s.shape[%d] is %lld; o1 has %lld", o_name, d, static_cast<long long>(s.O.shape[d]),
                     static_cast<long long>(like->O.shape[d]));
    }
    if (lse) s.LSE = resolve_vector(c, lse, lse_name, Where::device, attn::DType::f32, {s.O.shape[0], s.O.shape[1], s.O.shape[2]});
    return s;
}
attn::Strides strides_of(const Array& a) { return {a.stride[0], a.stride[1], a.stride[2], a.shape[3] > 1 ? a.stride[3] : 1}; }
bool overlap(const Array& a, const Array& b) {
    if (!a.count() || !b.count()) return false;
    const auto x = a.bytes(), y = b.bytes();
    return x.begin < y.end && y.begin < x.end;
}
bool same(const Array& a, const Array& b) { return a.data == b.data && std::equal(a.stride, a.stride + 4, b.stride); }
// What a merge works on, and what it keeps alive until it is done.
struct Merge {
    std::shared_ptr<Context> context;
    Side a, b, out;

    attn::Merging merging() const {
        const auto part = [](const Side& s) { return attn::Merging::Part{s.O.data, strides_of(s.O), reinterpret_cast<const float*>(s.LSE.data)}; };
        const auto& shape = out.O.shape;
        return {out.O.dtype, shape[0], shape[1], shape[2], shape[3], {part(a), part(b)}, out.O.data, strides_of(out.O), reinterpret_cast<float*>(out.LSE.data)};
    }
};
void on_cpu(const std::shared_ptr<Merge>& m, Stream* stream) {
    const auto work = [m] { attn::cpu::merge(m->merging(), m->context->pool); };
    stream ? stream->enqueue(work) : work();
}
void on_gpu(const std::shared_ptr<Merge>& m, Stream* stream) {
    const attn::cuda::Device& gpu = *m->context->gpu;
    const attn::cuda::Device::Current current(gpu);
    attn::cuda::merge(gpu, m->merging(), stream ? stream->native : ::cuda::kThreadStream);
    if (stream && stream->captured()) return; // the caller keeps everything for as long as the graph lives
    if (stream) return stream->afterwards([m] {});
    const attn::cuda::Device::Uncaptured waiting(gpu);
    gpu.check(gpu.driver().stream_synchronize(::cuda::kThreadStream), "merging two results");
}
} // namespace

attn_status attn_merge(attn_context context, const attn_array* o1, const attn_array* lse1, const attn_array* o2, const attn_array* lse2, const attn_array* o,
                       const attn_array* lse) {
    return attn_merge_on_stream(context, o1, lse1, o2, lse2, o, lse, nullptr);
}

attn_status attn_merge_on_stream(attn_context context, const attn_array* o1, const attn_array* lse1, const attn_array* o2, const attn_array* lse2,
                                 const attn_array* o, const attn_array* lse, attn_stream stream) {
    return guarded([&] {
        const auto on = stream ? get<Stream>(stream, "stream") : nullptr;
        const auto c = get<Context>(context, "context");
        if (on && on->context->gpu != c->gpu) fail(ATTN_INVALID_ARGUMENT, "stream belongs to another context");
        if (!lse1 || !lse2) fail(ATTN_INVALID_ARGUMENT, "%s is null; both partial results need their log-sum-exp", lse1 ? "lse2" : "lse1");
        const Side a = side(*c, o1, lse1, "o1", "lse1", nullptr), b = side(*c, o2, lse2, "o2", "lse2", &a), out = side(*c, o, lse, "o", "lse", &a);
        for (int d = 0; d < 4; ++d)
            if (out.O.shape[d] > 1 && out.O.stride[d] == 0) fail(ATTN_INVALID_ARGUMENT, "o.strides[%d] is 0; an output's elements may not overlap", d);
        for (const auto& [name, in] : {std::pair{"o1", &a.O}, {"o2", &b.O}})
            if (overlap(*in, out.O) && !same(*in, out.O))
                fail(ATTN_INVALID_ARGUMENT, "o overlaps %s without being it; an output may be one of its inputs or apart", name);
        if (out.LSE.data) {
            for (const auto& [name, in] : {std::pair{"lse1", &a.LSE}, {"lse2", &b.LSE}})
                if (overlap(*in, out.LSE) && in->data != out.LSE.data)
                    fail(ATTN_INVALID_ARGUMENT, "lse overlaps %s without being it; an output may be one of its inputs or apart", name);
            for (const auto& [name, other] : {std::pair{"o1", &a.O}, {"o2", &b.O}, {"o", &out.O}})
                if (overlap(*other, out.LSE)) fail(ATTN_INVALID_ARGUMENT, "lse overlaps %s in memory; an output must share no memory with another array", name);
        }
        for (const auto& [name, in] : {std::pair{"lse1", &a.LSE}, {"lse2", &b.LSE}})
            if (overlap(*in, out.O)) fail(ATTN_INVALID_ARGUMENT, "o overlaps %s in memory; an output must share no memory with another array", name);
        const auto merge = std::make_shared<Merge>(Merge{c, a, b, out});
        c->gpu ? on_gpu(merge, on.get()) : on_cpu(merge, on.get());
    });
}
