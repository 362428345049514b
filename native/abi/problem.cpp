#include "problem.hpp"

#include <cmath>
#include <cstdlib>

#include "array.hpp"

namespace attn::abi {
namespace {

constexpr int64_t kMaxSize = INT32_MAX;
constexpr uint32_t kAllMasks = 127, kAllFlags = 31, kAllTerms = 3;

void check_seats(const attn_problem& p) {
    const struct {
        bool set;
        const char *field, *feature;
    } seats[] = {
        {p.packed_sequences != 0, "packed_sequences", "packed sequences"},
        {p.page_size != 0, "page_size", "paged keys and values"},
        {p.sinks != 0, "sinks", "attention sinks"},
        {p.dropout != 0, "dropout", "dropout"},
        {p.input_scales != 0, "input_scales", "scaled 8-bit inputs"},
        {p.output_dtype != 0, "output_dtype", "an output dtype of its own"},
        {p.score_function != 0, "score_function", "user score functions"},
        {p.direction != 0, "direction", "the backward pass"},
    };
    for (const auto& seat : seats)
        if (seat.set) fail(ATTN_NOT_SUPPORTED, "problem.%s is set; %s is not built yet: 0 is allowed", seat.field, seat.feature);
}

int64_t checked_count(int64_t n, int64_t least, const char* field) {
    if (n < least || n > kMaxSize)
        fail(ATTN_INVALID_ARGUMENT, "problem.%s is %lld; %lld..%lld is allowed", field, static_cast<long long>(n), static_cast<long long>(least),
             static_cast<long long>(kMaxSize));
    return n;
}

Strides strides_of(const int64_t (&given)[4], bool use, const int64_t (&shape)[4], DType dtype, const char* name) {
    int64_t s[4], inner = 1;
    for (int d = 3; d >= 0; --d) {
        s[d] = shape[d] <= 1 ? 0 : use ? given[d] : inner;
        if (__builtin_mul_overflow(inner, std::max<int64_t>(1, shape[d]), &inner)) inner = 0; // reach() reports it
    }
    reach(shape, s, 4, size_of(dtype), name);
    return {s[0], s[1], s[2], shape[3] <= 1 ? 1 : s[3]};
}

// Outputs: no two elements may share an address. Sorted by stride, each step must clear everything reached by the smaller ones.
void check_apart(const Strides& o, const int64_t (&shape)[4]) {
    struct Step {
        int64_t stride, count;
        int dimension;
    } steps[4] = {{o.batch, shape[0], 0}, {o.head, shape[1], 1}, {o.row, shape[2], 2}, {o.column, shape[3], 3}};
    for (const int64_t n : shape)
        if (!n) return;
    for (auto& s : steps) s.stride = std::llabs(s.stride);
    std::sort(steps, steps + 4, [](const Step& a, const Step& b) { return a.stride < b.stride; });
    int64_t reached = 0;
    for (const Step& s : steps) {
        if (s.count <= 1) continue;
        if (s.stride <= reached)
            fail(ATTN_INVALID_ARGUMENT, "problem.o_strides[%d] is %lld; elements of the output would overlap, more than %lld is needed", s.dimension,
                 static_cast<long long>(s.stride), static_cast<long long>(reached));
        reached += s.stride * (s.count - 1);
    }
}

} // namespace

void check_broadcast(const char* name, const int64_t (&shape)[4], const Problem& p) {
    const int64_t full[4] = {p.B, p.Hq, p.Sq, p.Sk};
    constexpr const char* names[4] = {"batch", "query heads", "queries", "keys"};
    for (int d = 0; d < 4; ++d)
        if (shape[d] != 1 && shape[d] != full[d])
            fail(ATTN_INVALID_ARGUMENT, "%s[%d] (%s) is %lld; 1 or %lld is allowed", name, d, names[d], static_cast<long long>(shape[d]),
                 static_cast<long long>(full[d]));
}

Problem checked_problem(const attn_problem* given) {
    const attn_problem& a = checked(given, "problem");
    check_seats(a);
    Problem p;
    if (a.dtype < ATTN_FLOAT32 || a.dtype > ATTN_FLOAT64)
        fail(ATTN_INVALID_ARGUMENT, "problem.dtype is %d; 1 (float32), 2 (float16), 3 (bfloat16) or 4 (float64) is allowed", a.dtype);
    if (a.flags & ~kAllFlags) fail(ATTN_NOT_SUPPORTED, "problem.flags is 0x%x; of these bits 0x%x are known", a.flags, kAllFlags);
    if (a.mask_kinds & ~kAllMasks) fail(ATTN_NOT_SUPPORTED, "problem.mask_kinds is 0x%x; of these bits 0x%x are known", a.mask_kinds, kAllMasks);
    if (a.terms & ~kAllTerms) fail(ATTN_NOT_SUPPORTED, "problem.terms is 0x%x; of these bits 0x%x are known", a.terms, kAllTerms);
    if (a.offset_kind < ATTN_OFFSET_TOP_LEFT || a.offset_kind > ATTN_OFFSET_PER_BATCH)
        fail(ATTN_INVALID_ARGUMENT, "problem.offset_kind is %d; 0..3 (attn_offset_kind) is allowed", a.offset_kind);
    p.dtype = DType(a.dtype);
    p.B = checked_count(a.batch, 0, "batch");
    p.Hq = checked_count(a.query_heads, 0, "query_heads");
    p.Hkv = checked_count(a.key_heads, 0, "key_heads");
    p.Sq = checked_count(a.queries, 0, "queries");
    p.Sk = checked_count(a.keys, 0, "keys");
    p.D = checked_count(a.head_dim, 1, "head_dim");
    p.Dv = checked_count(a.value_dim, 1, "value_dim");
    if ((p.Hq == 0) != (p.Hkv == 0) || (p.Hkv && p.Hq % p.Hkv))
        fail(ATTN_INVALID_ARGUMENT, "problem.query_heads is %lld and problem.key_heads %lld; a multiple of key_heads is needed (0 only where both are)",
             static_cast<long long>(p.Hq), static_cast<long long>(p.Hkv));

    const bool strides = a.flags & ATTN_HAS_STRIDES;
    const int64_t q[4] = {p.B, p.Hq, p.Sq, p.D}, k[4] = {p.B, p.Hkv, p.Sk, p.D}, v[4] = {p.B, p.Hkv, p.Sk, p.Dv}, o[4] = {p.B, p.Hq, p.Sq, p.Dv};
    p.q = strides_of(a.q_strides, strides, q, p.dtype, "q");
    p.k = strides_of(a.k_strides, strides, k, p.dtype, "k");
    p.v = strides_of(a.v_strides, strides, v, p.dtype, "v");
    p.o = strides_of(a.o_strides, strides, o, p.dtype, "o");
    check_apart(p.o, o);

    p.lse = a.flags & ATTN_WANT_LSE;
    p.probabilities = a.flags & ATTN_WANT_PROBABILITIES;
    if (p.probabilities) {
        const int64_t shape[4] = {p.B, p.Hq, p.Sq, p.Sk}, none[4] = {};
        strides_of(none, false, shape, DType::f32, "probabilities");
    }
    p.deterministic = a.flags & ATTN_DETERMINISTIC;
    p.scale = a.flags & ATTN_HAS_SCALE ? a.scale : float(1 / std::sqrt(double(p.D)));
    if (!std::isfinite(p.scale)) fail(ATTN_INVALID_ARGUMENT, "problem.scale is %g; a finite number is needed", double(p.scale));
    p.softcap = a.softcap;
    if (!(std::isfinite(p.softcap) && p.softcap >= 0))
        fail(ATTN_INVALID_ARGUMENT, "problem.softcap is %g; 0 (off) or a finite positive number is allowed", double(p.softcap));

    p.masks = a.mask_kinds;
    p.offset_kind = a.offset_kind;
    if ((p.masks & ATTN_MASK_PREFIX) && (p.masks & ATTN_MASK_CAUSAL))
        fail(ATTN_INVALID_ARGUMENT, "problem.mask_kinds has both prefix (16) and causal (4); prefix takes causal's place, give one");
    p.bias = a.terms & ATTN_TERM_BIAS;
    p.alibi = a.terms & ATTN_TERM_ALIBI;
    p.bias_dtype = a.bias_dtype ? DType(a.bias_dtype) : DType::f32;
    if (p.bias_dtype != DType::f32 && p.bias_dtype != p.dtype)
        fail(ATTN_INVALID_ARGUMENT, "problem.bias_dtype is %s (%d); float32 or the problem's %s is allowed", name_of(p.bias_dtype), a.bias_dtype,
             name_of(p.dtype));
    std::copy_n(a.keep_shape, 4, p.keep_shape);
    std::copy_n(a.bias_shape, 4, p.bias_shape);
    if (p.masks & ATTN_MASK_KEEP) check_broadcast("problem.keep_shape", p.keep_shape, p);
    if (p.bias) check_broadcast("problem.bias_shape", p.bias_shape, p);
    return p;
}

} // namespace attn::abi
