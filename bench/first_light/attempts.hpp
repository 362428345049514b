// attempts.hpp — attempts in a process of their own, which may hang or die without taking the rest along: whoever watches ends it, says what it was
// at, and begins another process with the next attempt. After an error that kills a context, nothing that follows in it would tell anything.
#pragma once
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace attempts {

// What leaves nothing to go on with: a kernel that does not end, or an error of the kind that kills a context.
struct Lost : std::runtime_error {
    using runtime_error::runtime_error;
};
struct Attempt {
    std::string what;
    std::string mend; // where to look if it is wrong
    std::function<void()> run;
};

// A process that ends with whoever forked it.
template <class Work>
pid_t begin(const Work& work) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error("no process");
    if (child) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    work();
    _exit(0);
}
inline std::string ending(int status) {
    return WIFSIGNALED(status) ? std::string("its process died of ") + strsignal(WTERMSIG(status))
                               : "its process ended with " + std::to_string(WEXITSTATUS(status));
}

// What a process of its own works out and leaves in memory that both have, while whoever wants it does something else: it may die or take too long.
class Aside {
public:
    Aside(const std::function<std::string()>& work, double seconds)
        : file_(memfd_create("answer", 0)), end_(std::chrono::steady_clock::now() + limit(seconds)) {
        if (file_ < 0) throw std::runtime_error("no memory for an answer");
        child_ = begin([&] {
            try {
                put(work());
            } catch (const std::exception& e) { put(e.what()), _exit(kThrew); }
        });
    }
    Aside(const Aside&) = delete;
    ~Aside() { close(file_); }
    // Whether it has ended; past its time it is ended. Then there is an answer, or what is wrong.
    bool over() {
        int status = 0;
        rusage used{};
        if (wait4(child_, &status, WNOHANG, &used) == child_) {
            const auto seconds_of = [](const timeval& t) { return double(t.tv_sec) + double(t.tv_usec) * 1e-6; };
            processor_seconds = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
            const bool threw = WIFEXITED(status) && WEXITSTATUS(status) == kThrew;
            (status ? wrong : answer) = !status || threw ? got() : ending(status);
            return true;
        }
        if (std::chrono::steady_clock::now() < end_) return false;
        kill(child_, SIGKILL); // and it is not waited for: a driver may take its time
        wrong = "its process had not ended in time, and was ended";
        return true;
    }
    std::string answer, wrong;
    double processor_seconds = 0;

private:
    static constexpr int kThrew = 99;
    static std::chrono::steady_clock::duration limit(double seconds) {
        return std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(seconds));
    }
    void put(const std::string& text) const {
        for (size_t done = 0; done < text.size();) {
            const ssize_t n = write(file_, text.data() + done, text.size() - done);
            if (n <= 0) _exit(1);
            done += size_t(n);
        }
    }
    std::string got() const {
        std::string text;
        char some[65536];
        for (ssize_t n; (n = pread(file_, some, sizeof some, off_t(text.size()))) > 0;) text.append(some, size_t(n));
        return text;
    }
    int file_;
    std::chrono::steady_clock::time_point end_;
    pid_t child_ = 0;
};

// The worker's end of a pipe: a line each of a letter and a text.
class Speaker {
public:
    explicit Speaker(int to) : to_(to) {}
    void say(char kind, std::string text) const {
        for (char& c : text)
            if (c == '\n') c = '\1';
        text = kind + text + '\n';
        for (size_t done = 0; done < text.size();) {
            const ssize_t n = write(to_, text.data() + done, text.size() - done);
            if (n <= 0) _exit(1); // nobody listens any more
            done += size_t(n);
        }
    }

private:
    int to_;
};

// Runs the list from attempt `first` on and says how each ended. An attempt after which nothing can go on is the last of this process.
inline void work(const Speaker& to, const std::vector<Attempt>& list, size_t first) {
    for (size_t i = first; i < list.size(); ++i) {
        to.say('b', list[i].what);
        const std::string mend = list[i].mend.empty() ? "" : "\n       look at: " + list[i].mend;
        to.say('m', mend);
        try {
            list[i].run();
            to.say('o', "");
        } catch (const Lost& e) {
            to.say('w', e.what() + mend);
            _exit(0);
        } catch (const std::exception& e) { to.say('w', e.what() + mend); }
    }
    to.say('e', "");
}

struct Tally {
    size_t tried = 0, wrong = 0;
    bool begun = false; // a worker could work at all
};

// `worker(speaker, first)` runs in a child; it says 'd' and works, or 'x' with why it cannot.
// A worker that says nothing for `silence` milliseconds is ended.
template <class Worker>
Tally watch(const Worker& worker, int silence) {
    Tally tally;
    for (bool ended = false; !ended;) {
        int ends[2];
        if (pipe(ends)) throw std::runtime_error("no pipe");
        const size_t first = tally.tried;
        const pid_t child = begin([&] {
            close(ends[0]);
            worker(Speaker(ends[1]), first);
        });
        close(ends[1]);
        std::string heard, current, mend;
        bool trying = false, silent = false;
        const auto told = [&](char kind, const std::string& text) {
            switch (kind) {
                case 'd': tally.begun = true; break;
                case 'b': ++tally.tried, trying = true, current = text; break;
                case 'm': mend = text; break;
                case 'o': std::printf("ok     %s\n", current.c_str()), trying = false; break;
                case 'w': std::printf("WRONG  %s: %s\n", current.c_str(), text.c_str()), ++tally.wrong, trying = false; break;
                case 'e': ended = true; break;
                default: std::printf("first_light: %s\n", text.c_str()), ended = true, tally.begun = false;
            }
            std::fflush(stdout);
        };
        for (;;) {
            pollfd p{ends[0], POLLIN, 0};
            if (poll(&p, 1, silence) <= 0) {
                silent = true;
                break;
            }
            char some[4096];
            const ssize_t n = read(ends[0], some, sizeof some);
            if (n <= 0) break;
            heard.append(some, size_t(n));
            for (size_t end; (end = heard.find('\n')) != std::string::npos; heard.erase(0, end + 1)) {
                std::string text = heard.substr(1, end - 1);
                for (char& c : text)
                    if (c == '\1') c = '\n';
                told(heard[0], text);
            }
        }
        close(ends[0]);
        if (silent) kill(child, SIGKILL);
        int status = 0;
        pid_t over = 0; // the driver may take its time to end a kernel that does not; it is not waited for without end either
        for (int i = 0; i < 100 && !over; ++i) {
            over = waitpid(child, &status, WNOHANG);
            if (!over) std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
        if (ended) break;
        const std::string how =
            silent ? "nothing was heard of it for " + std::to_string(silence / 1000.0).substr(0, 4) + " s, and it was ended" : ending(status);
        if (trying) told('w', how + mend);
        if (tally.tried == first) { // it did not come as far as an attempt, and the next one would not either
            std::printf("first_light: %s before it tried anything\n", how.c_str());
            tally.begun = false;
            break;
        }
    }
    return tally;
}

} // namespace attempts
