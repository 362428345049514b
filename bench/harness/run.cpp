#include "run.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "reference/judge.hpp"

namespace harness {
namespace {

using cases::Case;
using reference::Type;

void require(attn_status status) {
    if (status != ATTN_OK) throw std::runtime_error(attn_last_error());
}
int32_t dtype_of(Type t) { return t == Type::f16 ? ATTN_FLOAT16 : t == Type::bf16 ? ATTN_BFLOAT16 : ATTN_FLOAT32; }

attn_array array(int32_t dtype, void* data, std::initializer_list<int64_t> shape) {
    attn_array a{};
    a.size = sizeof a, a.dtype = dtype, a.rank = int32_t(shape.size()), a.data = data;
    std::copy(shape.begin(), shape.end(), a.shape);
    return a;
}

// Nearly normal numbers, drawn from a table of 65,536 of them.
void fill(Memory& memory, int64_t count, Type type, uint64_t seed) {
    cases::Random random(seed);
    const size_t size = size_t(reference::bytes_of(type));
    std::vector<unsigned char> table(65536 * size);
    for (size_t k = 0; k < 65536; ++k) reference::store(table.data() + k * size, type, random.normal());
    for (int64_t at = 0; at < count; at += 4) {
        const uint64_t bits = random.next();
        for (int64_t k = 0; k < std::min<int64_t>(4, count - at); ++k)
            std::memcpy(memory.data() + size_t(at + k) * size, table.data() + (bits >> (16 * k) & 0xffff) * size, size);
    }
}

} // namespace

Operands::Operands(const Case& c, int copies) : sizes(c) {
    const int64_t q = c.B * c.Hq * c.Sq * c.D, k = c.B * c.Hkv * c.Sk * c.D, v = c.B * c.Hkv * c.Sk * c.Dv;
    const size_t size = size_t(reference::bytes_of(c.type));
    Q = Memory(size_t(q) * size), O = Memory(size_t(c.B * c.Hq * c.Sq * c.Dv) * size);
    fill(Q, q, c.type, 1);
    for (int copy = 0; copy < copies; ++copy) {
        K.emplace_back(size_t(k) * size), V.emplace_back(size_t(v) * size);
        fill(K.back(), k, c.type, 2), fill(V.back(), v, c.type, 3);
    }
}

Run::Run(attn_context context, const Case& problem, std::shared_ptr<Operands> operands, Given given)
    : context_(context), c_(problem), data_(std::move(operands)), given_(given) {
    mask_.type = c_.type, mask_.B = c_.B, mask_.Hq = c_.Hq, mask_.Hkv = c_.Hkv, mask_.Sq = c_.Sq, mask_.Sk = c_.Sk, mask_.D = c_.D, mask_.Dv = c_.Dv;
    mask_.scale = float(1 / std::sqrt(double(c_.D))), mask_.key_lengths = c_.key_lengths, mask_.prefix = c_.prefix;
    mask_.causal = c_.causal, mask_.left = c_.left, mask_.right = c_.right, mask_.offset_kind = c_.offset_kind, mask_.offset = c_.offset;
    fill_documents();
    fill_bias();
    fill_keep();
    count_share();
    const bool dense = keep_[0].data();
    attn_problem p{};
    p.size = sizeof p, p.dtype = dtype_of(c_.type), p.offset_kind = int32_t(c_.offset_kind), p.terms = bias_.data() ? ATTN_TERM_BIAS : 0;
    p.batch = c_.B, p.query_heads = c_.Hq, p.key_heads = c_.Hkv, p.queries = c_.Sq, p.keys = c_.Sk, p.head_dim = c_.D, p.value_dim = c_.Dv;
    if (given_ == Given::as_it_is) {
        p.mask_kinds = (c_.causal ? ATTN_MASK_CAUSAL : 0) | (c_.key_lengths.empty() ? 0 : ATTN_MASK_KEY_LENGTHS) | (c_.prefix.empty() ? 0 : ATTN_MASK_PREFIX) |
                       (c_.left >= 0 || c_.right >= 0 ? ATTN_MASK_WINDOW : 0) | (c_.documents ? ATTN_MASK_DOCUMENTS : 0);
    }
    if (dense) p.mask_kinds |= ATTN_MASK_KEEP, p.keep_shape[0] = c_.B, p.keep_shape[1] = 1, p.keep_shape[2] = c_.Sq, p.keep_shape[3] = c_.Sk;
    if (bias_.data()) p.bias_shape[0] = c_.B, p.bias_shape[1] = 1, p.bias_shape[2] = c_.Sq, p.bias_shape[3] = c_.Sk;
    require(attn_plan_create(context_, &p, ATTN_BACKEND_FLASH, &plan_)); // what auto takes for every problem of this harness
    attn_plan_info info{};
    info.size = sizeof info;
    require(attn_plan_describe(plan_, &info));
    kernel_ = info.kernel;
    if (given_ == Given::prepared) {
        const attn_array keep = array(ATTN_UINT8, keep_[0].data(), {c_.B, 1, c_.Sq, c_.Sk});
        attn_mask_values values{};
        values.size = sizeof values, values.kinds = ATTN_MASK_KEEP, values.keep = &keep;
        require(attn_mask_prepare(context_, &values, &prepared_));
    }
}

Run::~Run() {
    attn_plan_destroy(plan_);
    if (prepared_) attn_mask_destroy(prepared_);
}

// Document ids that step up at random places.
void Run::fill_documents() {
    if (!c_.documents) return;
    cases::Random random(7);
    for (int64_t b = 0; b < c_.B; ++b) {
        std::vector<int64_t> starts;
        for (int k = 1; k < c_.documents; ++k) starts.push_back(random.below(c_.Sk));
        for (int64_t j = 0; j < c_.Sk; ++j)
            mask_.k_documents.push_back(int32_t(std::count_if(starts.begin(), starts.end(), [=](int64_t at) { return at <= j; })));
    }
    mask_.q_documents = mask_.k_documents;
}

void Run::fill_bias() {
    if (c_.bias == cases::Bias::none) return;
    bias_ = Memory(size_t(c_.B * c_.Sq * c_.Sk) * sizeof(float));
    fill(bias_, c_.B * c_.Sq * c_.Sk, Type::f32, 4);
}

void Run::fill_keep() {
    if (given_ == Given::as_it_is && c_.keep == cases::Keep::none) return;
    for (Memory& keep : keep_) {
        keep = Memory(size_t(c_.B * c_.Sq * c_.Sk));
        cases::Random random(5);
        unsigned char* at = keep.data();
        for (int64_t b = 0; b < c_.B; ++b)
            for (int64_t i = 0; i < c_.Sq; ++i)
                for (int64_t j = 0; j < c_.Sk; ++j) *at++ = (c_.keep == cases::Keep::half ? random.chance(0.5) : mask_.sees(b, 0, i, j)) ? 1 : 0;
    }
    if (given_ != Given::as_it_is) { // the keep tensor is all there is to the mask
        mask_.key_lengths.clear(), mask_.prefix.clear(), mask_.q_documents.clear(), mask_.k_documents.clear();
        mask_.causal = false, mask_.left = mask_.right = -1;
    }
}

// The scores of 64 x 64 cells in which anything is visible.
void Run::count_share() {
    if (c_.keep == cases::Keep::half) return; // every cell is partial
    int64_t seen = 0;
    const auto visible = [&](int64_t b, int64_t i0, int64_t j0) {
        for (int64_t i = i0; i < std::min(i0 + 64, c_.Sq); ++i)
            for (int64_t j = j0; j < std::min(j0 + 64, c_.Sk); ++j)
                if (mask_.sees(b, 0, i, j) && (!keep_[0].data() || keep_[0].data()[(b * c_.Sq + i) * c_.Sk + j])) return true;
        return false;
    };
    for (int64_t b = 0; b < c_.B; ++b)
        for (int64_t i = 0; i < c_.Sq; i += 64)
            for (int64_t j = 0; j < c_.Sk; j += 64)
                if (visible(b, i, j)) seen += (std::min(i + 64, c_.Sq) - i) * (std::min(j + 64, c_.Sk) - j);
    share_ = double(seen) / double(c_.B * c_.Sq * c_.Sk);
}

double Run::seconds() {
    const size_t copy = size_t(runs_) % data_->K.size();
    Memory& keep = keep_[runs_ % 2];
    ++runs_;
    if (keep.data() && !prepared_) { // a visible byte, if this row has one: from one non-zero value to another
        unsigned char* row = keep.data() + c_.Sk * (runs_ * 7919 % (c_.B * c_.Sq));
        if (unsigned char* byte = std::find_if(row, row + c_.Sk, [](unsigned char x) { return x; }); byte < row + c_.Sk) *byte = uint8_t(1 + *byte % 255);
    }
    attn_array q = array(dtype_of(c_.type), data_->Q.data(), {c_.B, c_.Hq, c_.Sq, c_.D}),
               k = array(dtype_of(c_.type), data_->K[copy].data(), {c_.B, c_.Hkv, c_.Sk, c_.D}),
               v = array(dtype_of(c_.type), data_->V[copy].data(), {c_.B, c_.Hkv, c_.Sk, c_.Dv}),
               o = array(dtype_of(c_.type), data_->O.data(), {c_.B, c_.Hq, c_.Sq, c_.Dv});
    attn_array lengths = array(ATTN_INT32, c_.key_lengths.data(), {c_.B}), prefix = array(ATTN_INT32, c_.prefix.data(), {c_.B}),
               q_documents = array(ATTN_INT32, mask_.q_documents.data(), {c_.B, c_.Sq}),
               k_documents = array(ATTN_INT32, mask_.k_documents.data(), {c_.B, c_.Sk}), dense = array(ATTN_UINT8, keep.data(), {c_.B, 1, c_.Sq, c_.Sk}),
               bias = array(ATTN_FLOAT32, bias_.data(), {c_.B, 1, c_.Sq, c_.Sk});
    attn_mask_values mask{};
    mask.size = sizeof mask;
    if (given_ == Given::as_it_is) {
        mask.kinds = (c_.causal ? ATTN_MASK_CAUSAL : 0);
        if (!c_.key_lengths.empty()) mask.kinds |= ATTN_MASK_KEY_LENGTHS, mask.key_lengths = &lengths;
        if (!c_.prefix.empty()) mask.kinds |= ATTN_MASK_PREFIX, mask.prefix = &prefix;
        if (c_.left >= 0 || c_.right >= 0) mask.kinds |= ATTN_MASK_WINDOW, mask.window_left = c_.left, mask.window_right = c_.right;
        if (c_.documents) mask.kinds |= ATTN_MASK_DOCUMENTS, mask.q_documents = &q_documents, mask.k_documents = &k_documents;
    }
    if (keep.data()) mask.kinds |= ATTN_MASK_KEEP, mask.keep = &dense;
    attn_run_report report{};
    report.size = sizeof report;
    attn_run_args args{};
    args.size = sizeof args, args.q = &q, args.k = &k, args.v = &v, args.o = &o, args.report = &report;
    if (prepared_) args.prepared = prepared_;
    else if (mask.kinds) args.mask = &mask;
    if (bias_.data()) args.bias = &bias;
    if (c_.offset_kind == cases::Offset::value) args.offset = c_.offset;
    const auto began = std::chrono::steady_clock::now();
    const attn_status status = attn_run(plan_, &args);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    require(status);
    if (report.mask_passes != (keep.data() && !prepared_))
        throw std::runtime_error("a run made " + std::to_string(report.mask_passes) + " passes over its keep mask");
    return seconds;
}

void Run::poison() { std::memset(data_->O.data(), 0xff, data_->O.bytes()); }

// `n` queries from `i` on of one batch and head, as a problem of their own.
reference::Problem Run::rows(int64_t b, int64_t h, int64_t i, int64_t n) const {
    reference::Problem p = mask_;
    p.B = p.Hq = p.Hkv = 1, p.Sq = n;
    p.offset_kind = reference::Offset::value, p.offset = mask_.position(b, i);
    const int64_t hkv = h / (c_.Hq / c_.Hkv);
    const auto read = [&](std::vector<double>& out, const Memory& from, int64_t first, int64_t count) {
        out.resize(size_t(count));
        for (int64_t k = 0; k < count; ++k) out[size_t(k)] = reference::load(from.data() + (first + k) * reference::bytes_of(c_.type), c_.type);
    };
    read(p.Q, data_->Q, ((b * c_.Hq + h) * c_.Sq + i) * c_.D, n * c_.D);
    read(p.K, data_->K[0], (b * c_.Hkv + hkv) * c_.Sk * c_.D, c_.Sk * c_.D);
    read(p.V, data_->V[0], (b * c_.Hkv + hkv) * c_.Sk * c_.Dv, c_.Sk * c_.Dv);
    const auto of_batch = [&](std::vector<int32_t>& all, int64_t first, int64_t count) {
        if (!all.empty()) all = {all.begin() + first, all.begin() + first + count};
    };
    of_batch(p.key_lengths, b, 1), of_batch(p.prefix, b, 1);
    of_batch(p.q_documents, b * c_.Sq + i, n), of_batch(p.k_documents, b * c_.Sk, c_.Sk);
    const int64_t first = (b * c_.Sq + i) * c_.Sk, count = n * c_.Sk;
    if (keep_[0].data()) p.keep.shape = {1, 1, n, c_.Sk}, p.keep.data.assign(keep_[0].data() + first, keep_[0].data() + first + count);
    if (bias_.data()) p.bias.shape = {1, 1, n, c_.Sk}, p.bias.data.assign(bias_.as<float>() + first, bias_.as<float>() + first + count);
    return p;
}

std::string Run::wrong() {
    const int64_t n = std::min<int64_t>(4, c_.Sq);
    for (int sample = 0; sample < 6; ++sample) { // heads and rows spread over the problem, its first and last among them
        const int64_t b = sample * (c_.B - 1) / 5, h = sample * 7 % c_.Hq, i = sample * (c_.Sq - n) / 5;
        const reference::Problem p = rows(b, h, i, n);
        const reference::Output out{[&](int64_t, int64_t, int64_t row, int64_t d) {
                                        const int64_t at = ((b * c_.Hq + h) * c_.Sq + i + row) * c_.Dv + d;
                                        return reference::load(data_->O.data() + at * reference::bytes_of(c_.type), c_.type);
                                    },
                                    nullptr};
        if (const reference::Verdict verdict = reference::Judge(p)(out); !verdict)
            return "batch " + std::to_string(b) + ", head " + std::to_string(h) + ", from row " + std::to_string(i) + ": " + verdict.wrong;
    }
    return {};
}

double Run::flops() const { return 2.0 * double(c_.B) * double(c_.Hq) * double(c_.Sq) * double(c_.Sk) * double(c_.D + c_.Dv); }
double Run::bytes() const { return double(c_.B) * double(c_.Hkv) * double(c_.Sk) * double(c_.D + c_.Dv) * reference::bytes_of(c_.type); }

} // namespace harness
