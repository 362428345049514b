// attempts.hpp — attempts in a process of their own, which may hang or die without taking the rest along: whoever watches ends it, says what it was
// at, and begins another process with the next attempt. After an error that kills a context, nothing that follows in it would tell anything.
#pragma once
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

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
    int otherwise = 1;  // the exit status if none could
};

// `worker(speaker, first)` runs in a child; it says 'd' of the device, 'n' or 'x' with why there is nothing to do (exit status 3 or 1), or works.
// A worker that says nothing for `silence` milliseconds is ended.
template <class Worker>
Tally watch(const Worker& worker, int silence) {
    Tally tally;
    for (bool ended = false; !ended;) {
        int ends[2];
        if (pipe(ends)) throw std::runtime_error("no pipe");
        std::fflush(stdout);
        const size_t first = tally.tried;
        const pid_t child = fork();
        if (child < 0) throw std::runtime_error("no process");
        if (!child) {
            close(ends[0]);
            prctl(PR_SET_PDEATHSIG, SIGKILL); // nor does it outlive a watcher who is ended
            worker(Speaker(ends[1]), first);
            _exit(0);
        }
        close(ends[1]);
        std::string heard, current, mend;
        bool trying = false, silent = false;
        const auto told = [&](char kind, const std::string& text) {
            switch (kind) {
                case 'd':
                    if (!tally.begun) std::printf("first_light: %s\n", text.c_str());
                    tally.begun = true;
                    break;
                case 'b': ++tally.tried, trying = true, current = text; break;
                case 'm': mend = text; break;
                case 'o': std::printf("ok     %s\n", current.c_str()), trying = false; break;
                case 'w': std::printf("WRONG  %s: %s\n", current.c_str(), text.c_str()), ++tally.wrong, trying = false; break;
                case 'e': ended = true; break;
                default: std::printf("first_light: %s\n", text.c_str()), ended = true, tally.otherwise = kind == 'n' ? 3 : 1, tally.begun = false;
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
        const std::string how = silent                ? "nothing was heard of it for " + std::to_string(silence / 1000.0).substr(0, 4) + " s, and it was ended"
                                : WIFSIGNALED(status) ? std::string("its process died of ") + strsignal(WTERMSIG(status))
                                                      : "its process ended with " + std::to_string(WEXITSTATUS(status));
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
